"""One runner for every experiment: arms times seeds, side by side, resumable, in one schema.

    arms = [Arm("labels", recipe), Arm("distilled", recipe, Distillation(4, 0.9), teacher="good")]
    runner = AblationRunner(AblationConfig(data, folder, teachers={"good": model}))
    records = runner.run(arms, seeds=range(5), jobs=2)

Arms of one seed share first weights, batches and views, so that their differences are paired. Each
finished run is one small file, written whole or not at all; what is finished is not done again.
Ctrl-C stops everything and records nothing unfinished; the next call goes on, long runs from their
last epoch.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import signal
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from filelock import FileLock
from torch import Tensor, nn

from .. import __version__, models, pretrained, timing
from ..losses import LabelLoss, Loss
from ..pretrained import ArtifactError
from ..runtime.identity import identity_of
from ..runtime.settings import settings
from ..soft_targets import SoftTargets, TeacherLogits
from ..train import VIEW_SEED, History, Recipe, Row, Trainer, TrainingDiverged, evaluate, identity
from ..views import epoch_views

if TYPE_CHECKING:
    from ..data import ImageData

Record = dict[str, Any]  # see `pretrained.SCHEMA`
AT_ONCE = 4  # runs that a worker is handed together: it loads PyTorch and the images once


@dataclass(frozen=True)
class Arm:
    """One experiment: a network, a recipe, a loss, and what teaches it.

    Attributes:
        name: in files and records.
        teacher: which of `AblationConfig.teachers`; "" learns from labels only.
        network: a name for `models.build`, or a function from a seed to a network.
        title: for people; default the name.
        against: the arm it is compared with.
        wrap: (soft targets, labels) -> what the student gets in place of the soft targets.
        make_loss: (soft targets, labels) -> loss, where the loss follows from the teacher's answers.
        after_epoch: called with the student and each new row.
        test_curve: also note test accuracy after every epoch; nothing chooses by it.
    """

    name: str
    recipe: Recipe = Recipe()
    loss: Loss = LabelLoss()
    teacher: str = ""
    network: str | Callable[[int], nn.Module] = "student"
    role: str = "control"
    title: str = ""
    against: str = ""
    wrap: Callable[[SoftTargets, Tensor], TeacherLogits | None] | None = None
    make_loss: Callable[[SoftTargets, Tensor], Loss] | None = None
    after_epoch: Callable[[nn.Module, Row], None] | None = None
    test_curve: bool = False

    def build(self, seed: int, classes: int) -> nn.Module:
        if isinstance(self.network, str):
            return models.build(self.network, seed, classes)
        return self.network(seed)

    @property
    def resumes(self) -> bool:
        """Whether a run may go on from a checkpoint: what a hook did is in none."""
        return self.after_epoch is None and not self.test_curve


@dataclass(frozen=True)
class AblationConfig:
    """What the arms of one experiment share.

    Attributes:
        data: students learn from `.train`, are judged on `.val`, and at the end on `.test`.
        folder: where finished runs and checkpoints are kept.
        teachers: name -> network, or a function that gives it when it is first needed.
        command: what makes these records, for whoever reads them.
        test: False: nobody looks at test; `record["test"]` is None.
        weights: keep the network of each run beside its record.
        soft_targets: folder of what teachers answered.
    """

    data: ImageData
    folder: Path
    teachers: Mapping[str, nn.Module | Callable[[], nn.Module]] = field(default_factory=dict)
    command: str = ""
    test: bool = True
    weights: bool = False
    # Shared by all experiments: what a teacher was asked once is never asked again.
    soft_targets: Path = field(default_factory=lambda: settings().results / "soft_targets")


class AblationRunner:
    """Runs arms and keeps what they gave, under `config.folder`."""

    def __init__(self, config: AblationConfig) -> None:
        self.config, self.folder = config, Path(config.folder)
        self.teacher = cache(self._teacher)
        self.soft_targets = cache(self._soft_targets)
        self.lesson = cache(self._lesson)
        self.key = cache(self._key)

    def run(
        self,
        arms: Sequence[Arm],
        seeds: Sequence[int] = (0,),
        *,
        jobs: int = 1,
        cluster: str | None = None,
        skip: Collection[tuple[str, int]] = (),
        say: Callable[[str], None] = print,
        progress: bool = False,
    ) -> list[Record]:
        """Do what is not done yet: all seeds of an arm, then the next arm.

        Args:
            arms, seeds: every arm with every seed.
            jobs: 1 runs here; more run side by side, in processes of one thread each.
            cluster: address of a dask scheduler, whose workers do the runs in place of `jobs`.
            skip: (name of arm, seed) that are not wanted.
            say: called with one line for each finished run.
            progress: show a bar for each run (with one job).

        Returns:
            The records of these arms and seeds, in this order.

        Raises:
            KeyboardInterrupt: Ctrl-C; finished runs are kept, nothing else is recorded.
            ArtifactError: an arm needs a teacher that is not there; no such cluster.
        """
        pending = [
            (arm, seed) for arm in arms for seed in seeds
            if (arm.name, seed) not in skip and not self.path(arm, seed).exists()
        ]  # fmt: skip
        if cluster is None and (jobs == 1 or len(pending) < 2):
            for arm, seed in pending:
                say(_line(arm, self.run_one(arm, seed, progress)))
        elif pending:
            self._side_by_side(pending, jobs, cluster, say)
        return self.records(arms, seeds)

    def records(self, arms: Sequence[Arm], seeds: Sequence[int] | None = None) -> list[Record]:
        """The finished runs of these arms, arm by arm; of all seeds unless `seeds` says which."""
        found = []
        for arm in arms:
            pattern = f"{arm.name}-seed*-{self.key(arm)}.json"
            records = [_read(path) for path in (self.folder / "runs").glob(pattern)]
            records.sort(key=lambda record: record["seed"])
            found += [one for one in records if seeds is None or one["seed"] in seeds]
        return found

    def path(self, arm: Arm, seed: int) -> Path:
        """Where the record of a run lies; the name says what the run is."""
        return self.folder / "runs" / f"{arm.name}-seed{seed}-{self.key(arm)}.json"

    def run_one(self, arm: Arm, seed: int, progress: bool = False) -> Record:
        """Train one student, measure it after its last epoch, and write its record.

        A run that diverges is a result too: measured is then the last good epoch.
        """
        path = self.path(arm, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):  # two processes may do the same list of arms
            if path.exists():
                return _read(path)
            loss, targets = self.lesson(arm)
            data, test = self.config.data, []
            model = arm.build(seed, len(data.classes))

            def after(row: Row) -> None:
                if arm.test_curve:
                    test.append(evaluate(model, data.test).accuracy)
                if arm.after_epoch is not None:
                    arm.after_epoch(model, row)

            trainer = Trainer(model, data, arm.recipe, loss, targets, seed=seed)
            checkpoint, problem = path.with_suffix(".ckpt") if arm.resumes else None, ""
            try:
                trainer.run(checkpoint, progress, after, f"{arm.title or arm.name}, seed {seed}")
            except TrainingDiverged as error:
                problem = str(error)
            record = self._record(arm, seed, model, trainer.history, loss)
            if test:
                record["curve"]["test_accuracy"] = [_short(value) for value in test]
            if problem:
                record["diverged"] = problem
            if self.config.weights:
                facts = {"data": data.fingerprint, "data_name": data.name, "seed": seed}
                pretrained.save_model(model, path.with_suffix(".safetensors"), facts)
            pretrained.write_json(path, record)
            path.with_suffix(".ckpt").unlink(missing_ok=True)
        return record

    def _record(
        self, arm: Arm, seed: int, model: nn.Module, history: History, loss: Loss
    ) -> Record:
        data, rows = self.config.data, history.rows
        return {
            "name": arm.name,
            "role": arm.role,
            "network": getattr(model, "name", "") or type(model).__name__,
            "method": "soft targets" if arm.teacher else "labels",
            "data": data.name,
            "recipe": asdict(arm.recipe),
            "loss": repr(loss),
            "seed": seed,
            "curve": {name: [_short(row[name]) for row in rows] for name in (rows or [{}])[0]},
            "val": _percent(rows[-1]["val_accuracy"]) if rows else None,
            "test": _percent(evaluate(model, data.test).accuracy) if self.config.test else None,
            "seconds": _short(rows[-1]["seconds"]) if rows else 0.0,
            "machine": timing.machine(),
            "version": __version__,
            "command": self.config.command,
            "date": date.today().isoformat(),
            "teacher": arm.teacher,
            "train_images": len(data.train),
        }

    # -- what teaches

    def _teacher(self, name: str) -> nn.Module:
        found = self.config.teachers.get(name)
        if found is None:
            raise ArtifactError(
                f"There is no teacher {name!r} here; it is one of "
                f"{', '.join(self.config.teachers) or 'none'}."
            )
        return found if isinstance(found, nn.Module) else found()

    def _soft_targets(self, name: str) -> SoftTargets:
        return SoftTargets(self.teacher(name), self.config.data.train, self.config.soft_targets)

    def _lesson(self, arm: Arm) -> tuple[Loss, TeacherLogits | None]:
        """Loss and soft targets of an arm; kept, because a wrapper may remember what it computed."""
        if not arm.teacher:
            return arm.loss, None
        targets, labels = self.soft_targets(arm.teacher), self.config.data.train.labels
        loss = arm.loss if arm.make_loss is None else arm.make_loss(targets, labels)
        return loss, targets if arm.wrap is None else arm.wrap(targets, labels)

    def _key(self, arm: Arm) -> str:
        """Follows from all that makes the runs of an arm these runs, but for the seed."""
        data = self.config.data
        model = arm.build(0, len(data.classes))
        facts = identity(model, data, arm.recipe, *self.lesson(arm), 0)
        facts["after_epoch"] = arm.after_epoch and identity_of(arm.after_epoch)
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]

    # -- side by side

    def _side_by_side(
        self,
        pending: list[tuple[Arm, int]],
        jobs: int,
        cluster: str | None,
        say: Callable[[str], None],
    ) -> None:
        import joblib

        used = {arm.teacher for arm, _ in pending} - {""}
        for name in used:  # once, here: else every process would ask for the same answers
            longest = max(arm.recipe.epochs for arm, _ in pending if arm.teacher == name)
            for epoch in range(longest):
                views = epoch_views(len(self.config.data.train), VIEW_SEED, epoch)
                self.soft_targets(name).epoch(views)
        config = replace(self.config, teachers={name: self.teacher(name) for name in used})
        arms = {arm.name: arm for arm, _ in pending}
        with _workers(jobs, cluster) as (parallel, workers):
            size = max(1, min(AT_ONCE, math.ceil(len(pending) / workers)))
            parts = [pending[start : start + size] for start in range(0, len(pending), size)]
            for done in parallel(joblib.delayed(_work)(config, part) for part in parts):
                for record in done:
                    arm = arms[record["name"]]
                    path = self.path(arm, record["seed"])
                    if not path.exists():  # a cluster need not share our disk
                        pretrained.write_json(path, record)
                    say(_line(arm, record))


def _work(config: AblationConfig, part: list[tuple[Arm, int]]) -> list[Record]:
    """What a worker does: a few runs, on one thread."""
    torch.set_num_threads(1)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's: it ends us at once
    runner = AblationRunner(config)
    return [runner.run_one(arm, seed) for arm, seed in part]


@contextmanager
def _workers(jobs: int, cluster: str | None) -> Iterator[tuple[Any, int]]:
    """joblib's `Parallel` over processes here or the workers of a dask cluster; how many they are.

    Raises:
        ArtifactError: no cluster at this address, no dask, or workers of more than one thread.
    """
    import joblib

    if cluster is None:
        with joblib.parallel_config("loky", n_jobs=jobs, inner_max_num_threads=1):
            yield joblib.Parallel(return_as="generator_unordered"), jobs
        return
    try:
        from dask.distributed import Client
    except ImportError as error:
        raise ArtifactError(
            "A cluster needs dask; install it with: pip install 'kdutils[cluster]'."
        ) from error
    try:
        client = Client(cluster, timeout=30)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"No dask scheduler answers at {cluster}; start one first.") from error
    with client:
        threads = client.nthreads()
        if not threads or max(threads.values()) > 1:
            raise ArtifactError(
                "The cluster needs workers of one thread each, because random numbers belong to a "
                f"whole process; start them with: dask worker {cluster} --nthreads 1."
            )
        with joblib.parallel_config("dask", n_jobs=len(threads)):
            yield joblib.Parallel(return_as="generator_unordered"), len(threads)


def default_jobs() -> int:
    """How many runs side by side are quickest here: one a core, on a GPU one."""
    if settings().device != "cpu" or settings().profile.name == "smoke":
        return 1  # starting processes takes longer than the runs of `smoke`
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def history(record: Record) -> History:
    """The curve of a record as the history that training gave."""
    columns = record["curve"]
    rows = zip(*columns.values(), strict=True)
    return History([dict(zip(columns, row, strict=True)) for row in rows])


def _read(path: Path) -> Record:
    return pretrained.read_json(path, f"{path.name} is gone", "move it away and run again")


def _line(arm: Arm, record: Record) -> str:
    kind = "validation" if record["test"] is None else "test"
    value = record["val"] if record["test"] is None else record["test"]
    return f"{arm.title or arm.name}, seed {record['seed']}: {kind} {value:.2f} %"


def _percent(fraction: float) -> float:
    return round(100 * fraction, 2)


def _short(value: float) -> float:
    return value if isinstance(value, int) else float(f"{value:.6g}")
