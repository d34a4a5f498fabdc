"""The suspects of notebook 07: why a distilled student can end below its baseline, one by one.

Each suspect is an `Arm`: the correct recipe with one thing wrong. Every arm goes through the one
training loop, `train.fit`, on the same images, for the same number of epochs; arms of one seed
share their first weights, batches and views, so that their differences are paired.

    lab = Lab(data, Plan(), folder)
    lab.run([arm("labels"), arm("distilled"), arm("no_t2")], seeds=(0, 1, 2, 3, 4))
    print(effects(lab.record()))

`python -m kdutils suspects` runs them all; each finished run is one small file, so that it can be
stopped at any moment and goes on where it was.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import __version__, models, pretrained, timing
from ..losses import LabelLoss, Loss
from ..metrics import PairedDifference, mean_std, paired_interval
from ..pretrained import ArtifactError
from ..runtime.files import atomic_path, recorded
from ..runtime.settings import settings
from ..soft_targets import SoftTargets
from ..train import Recipe, Row, TeacherLogits, TrainingDiverged, autocast, evaluate, fit, predict
from ..views import epoch_images, normalise
from . import experiments

if TYPE_CHECKING:
    from ..data import ImageData

Record = dict[str, Any]
COMMAND = "python -m kdutils suspects"


# A long training of the teacher, of which the story needs the beginning.
PATIENT_TEACHER = Recipe(epochs=32, batch_size=256, learning_rate=0.3, cutout=8)


@dataclass(frozen=True)
class Plan:
    """The fixed budget of every arm, and how the teachers are made."""

    train_images: int = 5_120  # of the student: five blocks of 1,024
    epochs: int = 6
    val_images: int = 1_000  # looked at after each epoch
    batch_size: int = 64
    learning_rate: float = 0.1
    teacher_epochs: int = 4  # of the course's long training: then the teacher is stopped
    cool_images: int = 10_240  # and sees these once, while its learning rate falls to zero
    by_heart_epochs: int = 4  # of the over-fitted teacher, on the student's images
    weak_epochs: int = 2  # of the weak teacher

    @property
    def recipe(self) -> Recipe:
        """How every student is trained."""
        return Recipe(
            epochs=self.epochs, batch_size=self.batch_size, learning_rate=self.learning_rate
        )


TINY = Plan(
    512, 1, 200, teacher_epochs=1, cool_images=512, by_heart_epochs=1, weak_epochs=1
)  # to see that it runs


# --- losses with a switch -------------------------------------------------------------------------


@dataclass(frozen=True)
class SwitchedLoss:
    """The distillation loss with its usual mistakes as switches; all at rest, it is
    `losses.distillation_loss`.

    Attributes:
        reduction: "batchmean" sums over classes; "mean" is what `kl_div` does unless told, and
            divides by the number of classes too.
        squared: multiply the soft term by T^2.
        swapped: the student where the teacher belongs, so KL(student ‖ teacher).
        double_softmax: probabilities are handed to a softmax that expects logits.
    """

    temperature: float = 4.0
    soft_weight: float = 0.9
    reduction: str = "batchmean"
    squared: bool = True
    swapped: bool = False
    double_softmax: bool = False

    def __call__(
        self, student_logits: Tensor, teacher_logits: Tensor | None, labels: Tensor
    ) -> Tensor:
        assert teacher_logits is not None
        student, teacher = student_logits, teacher_logits
        if self.double_softmax:
            student, teacher = student.softmax(-1), teacher.softmax(-1)
        log_student = F.log_softmax(student / self.temperature, dim=-1)
        log_teacher = F.log_softmax(teacher / self.temperature, dim=-1)
        if self.swapped:
            log_student, log_teacher = log_teacher, log_student
        soft = F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)
        if self.reduction == "mean":  # written out: PyTorch announces to change its default
            soft = soft / student_logits.shape[1]
        if self.squared:
            soft = self.temperature**2 * soft
        hard = F.cross_entropy(student_logits, labels)
        return self.soft_weight * soft + (1 - self.soft_weight) * hard


@dataclass(frozen=True)
class WeakLabels:
    """Cross entropy times a weight: what is left of distillation when its soft term is lost."""

    weight: float = 0.1

    def __call__(
        self, student_logits: Tensor, teacher_logits: Tensor | None, labels: Tensor
    ) -> Tensor:
        return self.weight * F.cross_entropy(student_logits, labels)


# --- soft targets that go wrong on their way ------------------------------------------------------


def _draw(views: list[int] | None, salt: int = 0) -> torch.Generator:
    """Random numbers that belong to one epoch, known by its views: the same in every run."""
    return torch.Generator().manual_seed(zlib.crc32(bytes(views or ())) + salt)


class ByBatchNumber:
    """Teacher logits kept in one shuffled pass, then read back by batch number.

    The student's pass is shuffled anew, so its k-th batch meets the answers to other images:
    each epoch pairs images and answers by chance.
    """

    def __init__(self, targets: SoftTargets) -> None:
        self.targets = targets
        self.fingerprint = f"{targets.fingerprint}-by-batch-number"

    def epoch(self, views: list[int] | None) -> Tensor:
        logits = self.targets.epoch(views)
        return logits[torch.randperm(len(logits), generator=_draw(views))]


class CleanTargets:
    """Teacher logits of the unchanged images, whatever view the student is shown."""

    def __init__(self, targets: SoftTargets) -> None:
        self.targets = targets
        self.fingerprint = f"{targets.fingerprint}-clean"

    def epoch(self, views: list[int] | None) -> Tensor:
        return self.targets.clean()


class QuietTargets:
    """The same teacher with smaller logits: what it thinks, said less loudly."""

    def __init__(self, targets: SoftTargets, factor: float) -> None:
        self.targets, self.factor = targets, factor
        self.fingerprint = f"{targets.fingerprint}-times-{factor}"

    def epoch(self, views: list[int] | None) -> Tensor:
        return self.factor * self.targets.epoch(views)


class TrainModeTargets:
    """A live teacher that was never put into eval mode.

    Its batch norms then use the statistics of the batch, so an answer depends on which images
    happen to share the batch. Which do is drawn once for each epoch, the same for all seeds.
    """

    def __init__(self, targets: SoftTargets, batch_size: int) -> None:
        self.teacher, self.images = targets.teacher, targets.images
        self.normalisation = targets.mean, targets.std
        self.batch_size = batch_size
        self.fingerprint = f"{targets.fingerprint}-train-mode"
        self._known: dict[tuple[int, ...], Tensor] = {}

    def epoch(self, views: list[int] | None) -> Tensor:
        key = tuple(views or ())
        if key not in self._known:
            self._known[key] = self._ask(views)
        return self._known[key]

    def _ask(self, views: list[int] | None) -> Tensor:
        device = next(self.teacher.parameters()).device
        images = epoch_images(self.images, views)
        order = torch.randperm(len(images), generator=_draw(views, salt=1))
        kept = {name: value.clone() for name, value in self.teacher.state_dict().items()}
        parts = []
        self.teacher.train()
        with torch.inference_mode(), autocast(device):
            for batch in order.split(self.batch_size):
                pixels = normalise(images[batch].to(device), *self.normalisation)
                parts.append(self.teacher(pixels).float().cpu())
        self.teacher.eval().load_state_dict(kept)  # the running statistics moved
        logits = torch.empty_like(torch.cat(parts))
        logits[order] = torch.cat(parts)
        return logits.half().clone()


def stay_in_eval(model: nn.Module, row: Row) -> None:
    """From the first validation on, `model` never returns to train mode."""
    model.train = lambda mode=True: nn.Module.train(model, False)  # type: ignore[method-assign]


# --- the arms -------------------------------------------------------------------------------------

Wrap = Callable[[SoftTargets, Plan], TeacherLogits]


@dataclass(frozen=True)
class Arm:
    """One experiment: the correct recipe, with one thing changed.

    Attributes:
        name: in files and calls.
        title: for a figure.
        story: one sentence on what is wrong.
        loss: handed to `fit`.
        teacher: which of `Lab.teacher`; None for labels only.
        wrap: what happens to the soft targets on their way to the student.
        after_epoch: called with the student after each epoch.
        share: of the plan's epochs.
        against: the arm that does it right.
        baseline: the arm that learns from labels alone, for as long.
    """

    name: str
    title: str
    story: str
    loss: Loss = SwitchedLoss()
    teacher: str | None = "good"
    wrap: Wrap = lambda targets, plan: targets
    after_epoch: Callable[[nn.Module, Row], None] | None = None
    share: float = 1.0
    against: str = "distilled"
    baseline: str = "labels"

    def epochs(self, plan: Plan) -> int:
        return max(1, round(self.share * plan.epochs))


HOT = SwitchedLoss(temperature=20.0)

ARMS: tuple[Arm, ...] = (
    Arm("labels", "labels only", "No teacher at all.", LabelLoss(), None),
    Arm("distilled", "distilled correctly", "Nothing is wrong."),
    Arm(
        "both",
        "mean reduction and no T²",
        "kl_div with its default reduction, and no T²: the soft term is 160 times too weak.",
        SwitchedLoss(reduction="mean", squared=False),
    ),
    Arm(
        "weak_labels",
        "labels only, times 0.1",
        "No teacher, and a cross entropy that was multiplied by 1 - soft weight.",
        WeakLabels(0.1),
        None,
        against="labels",
    ),
    Arm(
        "mean",
        "mean reduction",
        "kl_div with its default reduction: with 10 classes, 10 times too weak.",
        SwitchedLoss(reduction="mean"),
    ),
    Arm("no_t2", "missing T²", "The soft term is 16 times too weak.", SwitchedLoss(squared=False)),
    Arm(
        "by_batch_number",
        "cached, read by batch number",
        "Teacher logits of one shuffled pass, read back by batch number in another.",
        wrap=lambda targets, plan: ByBatchNumber(targets),
    ),
    Arm(
        "clean",
        "cached on unaugmented images",
        "The teacher saw the image unchanged, the student sees it moved and flipped.",
        wrap=lambda targets, plan: CleanTargets(targets),
    ),
    Arm(
        "swapped",
        "arguments of kl_div swapped",
        "KL(student ‖ teacher) in place of KL(teacher ‖ student).",
        SwitchedLoss(swapped=True),
    ),
    Arm(
        "double_softmax",
        "softmax twice",
        "Probabilities are handed to a softmax that expects logits.",
        SwitchedLoss(double_softmax=True),
    ),
    Arm(
        "student_eval",
        "student stays in eval mode",
        "After the first validation nobody calls student.train() again.",
        after_epoch=stay_in_eval,
    ),
    Arm("weak", "weak teacher", "A teacher that knows less than the student.", teacher="weak"),
    Arm(
        "labels_short",
        "labels only, a third of the epochs",
        "The baseline of the next one.",
        LabelLoss(),
        None,
        share=1 / 3,
        against="labels",
    ),
    Arm(
        "distilled_short",
        "too few epochs",
        "Correct, but for a third of the epochs; against labels only for as long.",
        share=1 / 3,
        baseline="labels_short",
    ),
    Arm(
        "train_mode",
        "teacher in train mode",
        "Nobody called teacher.eval(): its answers depend on their batch.",
        wrap=lambda targets, plan: TrainModeTargets(targets, plan.batch_size),
    ),
    Arm(
        "overfitted",
        "over-fitted teacher",
        "A teacher that knows the student's images by heart.",
        teacher="overfitted",
    ),
    Arm(
        "hot",
        "the usual teacher at T = 20",
        "Correct, but hot: the control of the next one.",
        HOT,
    ),
    Arm(
        "smoothed_hot",
        "label-smoothed teacher at T = 20",
        "A teacher that ended its training with label smoothing 0.2; against the same without.",
        HOT,
        "smoothed",
        against="hot",
    ),
    Arm(
        "strong",
        "very strong teacher",
        "The best teacher of the course: does the gap make it worse?",
        teacher="strong",
    ),
    Arm(
        "quiet_hot",
        "the usual teacher at T = 20, logits times 0.4",
        "As small as those of the label-smoothed teacher, without any smoothing.",
        HOT,
        wrap=lambda targets, plan: QuietTargets(targets, 0.4),
        against="hot",
    ),
    Arm(
        "quiet_strong",
        "very strong teacher, logits times 0.4",
        "Is it the gap, or the size of its logits?",
        teacher="strong",
        wrap=lambda targets, plan: QuietTargets(targets, 0.4),
        against="strong",
    ),
)


def arm(name: str) -> Arm:
    """The arm called `name`.

    Raises:
        ArtifactError: there is no such arm.
    """
    found = {each.name: each for each in ARMS}
    if name not in found:
        raise ArtifactError(f"There is no suspect {name!r}; choose from {', '.join(found)}.")
    return found[name]


# --- the laboratory -------------------------------------------------------------------------------


class Lab:
    """Runs arms and keeps what they gave, under `folder`: `runs/`, `teachers/`, `soft_targets/`.

    Args:
        data: all images; the students learn from `plan.train_images` of them.
        plan: the budget.
        folder: of this data and this plan; what is there already is not done again.
    """

    def __init__(self, data: ImageData, plan: Plan, folder: Path | str) -> None:
        self.data, self.plan, self.folder = data, plan, Path(folder)
        self.part = replace(
            data,
            train=data.train.subset(min(plan.train_images, len(data.train))),
            val=data.val.subset(min(plan.val_images, len(data.val))),
        )
        self.targets = cache(self._targets)
        self._wrapped = cache(self._wrap)

    # -- teachers

    def teacher(self, name: str) -> nn.Module:
        """A teacher, from disk or trained now, in eval mode.

        "raw": the teacher of the course, stopped early. "good": that one, after a short while
        with a falling learning rate; "smoothed": the same with label smoothing. "overfitted":
        the good one, trained on with the student's images alone, unaugmented, until it knows them
        by heart. "weak": the student's own network after few epochs. "strong": what notebook 02
        gives.
        """
        if name == "strong":
            return experiments.teacher(self.data, progress=False).model
        path = self.folder / "teachers" / f"{name}.safetensors"
        if not path.exists():
            model, rows = getattr(self, f"_train_{name}")()
            self.keep_teacher(name, model, rows)
        return pretrained.load_model(path, data=self.data)

    def keep_teacher(self, name: str, model: nn.Module, rows: list[Row]) -> None:
        facts = {"data": self.data.fingerprint, "data_name": self.data.name, "rows": rows}
        pretrained.save_model(model, self.folder / "teachers" / f"{name}.safetensors", facts)

    def _train_raw(self) -> tuple[nn.Module, list[Row]]:
        known = experiments.RECIPES["teacher", True] if self.data.is_synthetic else PATIENT_TEACHER
        last = min(self.plan.teacher_epochs, known.epochs)
        return self._train("teacher", self.data, known, stop=lambda row: row["epoch"] >= last)

    def _train_good(self, smoothing: float = 0.0) -> tuple[nn.Module, list[Row]]:
        images = self.data.train.subset(min(self.plan.cool_images, len(self.data.train)), seed=1)
        return self._train(
            "teacher", replace(self.data, train=images),
            Recipe(epochs=1, batch_size=256, learning_rate=0.1),
            start=self.teacher("raw"), loss=LabelLoss(smoothing),
        )  # fmt: skip

    def _train_smoothed(self) -> tuple[nn.Module, list[Row]]:
        return self._train_good(0.2)

    def _train_weak(self) -> tuple[nn.Module, list[Row]]:
        recipe = replace(self.plan.recipe, epochs=self.plan.weak_epochs)
        return self._train("student", self.part, recipe, seed=99)

    def _train_overfitted(self) -> tuple[nn.Module, list[Row]]:
        recipe = Recipe(
            epochs=self.plan.by_heart_epochs, batch_size=128, learning_rate=0.05,
            weight_decay=0.0, augment=False,
        )  # fmt: skip
        return self._train("teacher", self.part, recipe, start=self.teacher("good"))

    def _train(
        self,
        network: str,
        data: ImageData,
        recipe: Recipe,
        start: nn.Module | None = None,
        loss: Loss | None = None,
        seed: int = 0,
        stop: Callable[[Row], bool] | None = None,
    ) -> tuple[nn.Module, list[Row]]:
        model = models.build(network, seed, len(data.classes))
        if start is not None:
            model.load_state_dict(start.state_dict())
        history = fit(model, data, recipe, loss=loss, seed=seed, progress=False, on_epoch=stop)
        return model, history.rows

    def _targets(self, name: str) -> SoftTargets:
        """The soft targets of a teacher for the student's images."""
        return SoftTargets(self.teacher(name), self.part.train, self.folder / "soft_targets")

    def _wrap(self, arm: Arm) -> TeacherLogits | None:
        """What `fit` is handed; kept, because a wrapper may remember what it computed."""
        return None if arm.teacher is None else arm.wrap(self.targets(arm.teacher), self.plan)

    # -- runs

    def path(self, arm: Arm, seed: int) -> Path:
        return self.folder / "runs" / f"{arm.name}-seed{seed}.json"

    def run(
        self,
        arms: Iterable[Arm] = ARMS,
        seeds: Sequence[int] = (0, 1, 2, 3, 4),
        say: Callable[[str], None] = print,
    ) -> None:
        """Do what is not done yet: all seeds of an arm, then the next arm."""
        for each in arms:
            for seed in seeds:
                if self.path(each, seed).exists():
                    continue
                record = self.run_one(each, seed)
                with atomic_path(self.path(each, seed)) as part:
                    part.write_text(json.dumps(record) + "\n")
                say(f"{each.title}, seed {seed}: test {record['test_accuracy']:.2f} %")

    def run_one(self, arm: Arm, seed: int) -> Record:
        """Train one student; measure it on test, after the last epoch.

        The two reference arms also note their test accuracy after every epoch, to show what
        picking the best of them would do. Nothing else looks at it.
        """
        recipe = replace(self.plan.recipe, epochs=arm.epochs(self.plan))
        student = models.build("student", seed, len(self.data.classes))
        peek = arm.name in ("labels", "distilled")
        test_curve: list[float] = []

        def after(row: Row) -> None:
            rows.append(row)
            if peek:
                test_curve.append(_percent(evaluate(student, self.data.test).accuracy))
            if arm.after_epoch is not None:
                arm.after_epoch(student, row)

        problem = ""
        rows: list[Row] = []
        try:
            fit(
                student, self.part, recipe, loss=arm.loss, soft_targets=self._wrapped(arm),
                seed=seed, progress=False, on_epoch=after,
            )  # fmt: skip
        except TrainingDiverged as error:
            problem = str(error)
        test = test_curve[-1:] if peek else [_percent(evaluate(student, self.data.test).accuracy)]
        return {
            "arm": arm.name,
            "seed": seed,
            "test_accuracy": test[0],
            "val_accuracy": [_percent(row["val_accuracy"]) for row in rows],
            "train_loss": [round(row["train_loss"], 4) for row in rows],
            "seconds": round(rows[-1]["seconds"], 1) if rows else 0.0,
            "machine": timing.machine(),
            "version": __version__,
            "date": date.today().isoformat(),
            **({"test_curve": test_curve} if peek else {}),
            **({"diverged": problem} if problem else {}),
        }

    def record(self) -> Record:
        """Everything finished so far, with the plan and the teachers, fit for JSON."""
        runs = [json.loads(path.read_text()) for path in sorted(self.folder.glob("runs/*.json"))]
        order = {each.name: number for number, each in enumerate(ARMS)}
        runs.sort(key=lambda run: (order.get(run["arm"], len(order)), run["seed"]))
        return {
            "command": COMMAND,
            "data": self.data.name,
            "plan": asdict(self.plan),
            "loss": asdict(SwitchedLoss()),
            "test_images": len(self.data.test),
            "teachers": self._teachers({run["arm"] for run in runs}),
            "runs": runs,
        }

    def _teachers(self, arms: set[str]) -> dict[str, Record]:
        """What to know of the teachers of these arms: accuracies in per cent, on validation and on
        the student's images, and the standard deviation of their logits. Measured once."""
        found = {}
        for name in dict.fromkeys(each.teacher for each in ARMS if each.name in arms):
            if name is None:
                continue
            path = self.folder / "teachers" / f"{name}.json"
            if not path.exists():
                with atomic_path(path) as part:
                    part.write_text(json.dumps(self._describe(name)) + "\n")
            found[name] = json.loads(path.read_text())
        return found

    def _describe(self, name: str) -> Record:
        model = self.teacher(name)
        first = self.part.train.subset(min(2000, len(self.part.train)))
        logits = predict(model, self.data.val)
        return {
            "network": getattr(model, "name", ""),
            "parameters": models.count_parameters(model),
            "val_accuracy": _percent(evaluate(model, self.data.val).accuracy),
            "train_accuracy": _percent(evaluate(model, first).accuracy),
            "logit_spread": round(float((logits - logits.mean(1, keepdim=True)).std()), 2),
        }


def laboratory(data: ImageData, plan: Plan | None = None, folder: Path | None = None) -> Lab:
    """The `Lab` of these images and this plan, in the results folder unless `folder` says else."""
    plan = plan or Plan()
    name = f"{plan.train_images}x{plan.epochs}"
    place = settings().results / "suspects" / f"{pretrained.slug(data.name)}-{name}"
    return Lab(data, plan, folder or place)


def _percent(fraction: float) -> float:
    return round(100 * fraction, 2)


# --- what was recorded ----------------------------------------------------------------------------


def recorded_path() -> Path:
    """Where the package keeps the recorded results."""
    return recorded("suspects.json")


def load_recorded(path: Path | None = None) -> Record:
    """The recorded results.

    Raises:
        ArtifactError: there are none, or the file is damaged.
    """
    path = path or recorded_path()
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise ArtifactError(f"Nothing has been recorded yet; run `{COMMAND}` first.") from error
    except json.JSONDecodeError as error:
        raise ArtifactError(f"{path.name} is cut short or damaged; run `{COMMAND}`.") from error


def save_recorded(record: Record, path: Path | None = None) -> None:
    """Write results as JSON, one run a line, atomically."""
    runs = ",\n  ".join(json.dumps(run) for run in record["runs"])
    head = json.dumps({**record, "runs": []}, indent=1, ensure_ascii=False)
    text = head.replace('"runs": []', f'"runs": [\n  {runs}\n ]') + "\n"
    with atomic_path(path or recorded_path()) as part:
        part.write_text(text)


def accuracies(record: Record, name: str) -> dict[int, float]:
    """Seed -> test accuracy in per cent, of the finished runs of an arm."""
    return {run["seed"]: run["test_accuracy"] for run in record["runs"] if run["arm"] == name}


BEST_ON_TEST = "best_on_test"


def _best_on_test(record: Record) -> dict[int, float]:
    """The correct student, reported at its best epoch on test: no run of its own."""
    runs = [run for run in record["runs"] if run["arm"] == "distilled"]
    return {run["seed"]: max(run["test_curve"]) for run in runs}


@dataclass(frozen=True)
class Effect:
    """What one suspect does, in points of test accuracy.

    Attributes:
        accuracy: mean, per cent.
        gain: over labels only, for as long: what the person who has the bug would see.
        cost: that gain minus the gain of the arm that does it right. Both have the same baseline,
            unless the number of epochs is the suspect; then it is a difference of differences.
        gains, costs: the same for single seeds.
        diverged: how many of the runs broke off because the loss became NaN; what was measured
            then is the last good epoch.
    """

    name: str
    title: str
    story: str
    accuracy: float
    gain: PairedDifference
    cost: PairedDifference
    gains: tuple[float, ...]  # of single seeds
    costs: tuple[float, ...]
    diverged: int = 0

    @property
    def verdict(self) -> str:
        """In a word or two: does it hurt?"""
        if self.gain.verdict == "lower":
            return "guilty: worse than labels only"
        if self.cost.verdict == "lower":
            return "guilty: costs points"
        return "no difference" if self.cost.verdict == "no difference" else "looks better"


# No suspects, but what they are compared with, or what explains them.
CONTROLS = (
    "labels", "distilled", "weak_labels", "labels_short", "hot", "quiet_hot", "quiet_strong",
)  # fmt: skip
BEST_ON_TEST = Arm(  # no run of its own: it reads the curve of the correct one
    "best_on_test",
    "best epoch picked on test",
    "Correct, but reported at the epoch that was best on test.",
)


def effects(record: Record) -> list[Effect]:
    """One effect for each suspect with two paired seeds or more, in the order of `ARMS`."""
    known = {each.name: accuracies(record, each.name) for each in ARMS}
    correct = [run for run in record["runs"] if run["arm"] == "distilled"]
    known[BEST_ON_TEST.name] = {run["seed"]: max(run["test_curve"]) for run in correct}

    def gain(each: Arm) -> dict[int, float]:
        return _minus(known[each.name], known[each.baseline])

    found = []
    for each in (*ARMS, BEST_ON_TEST):
        cost = _minus(gain(each), gain(arm(each.against)))
        if each.name in CONTROLS or len(cost) < 2:
            continue
        mean = sum(known[each.name].values()) / len(known[each.name])
        gained = {seed: gain(each)[seed] for seed in cost}
        broken = sum(run["arm"] == each.name and "diverged" in run for run in record["runs"])
        found.append(
            Effect(
                each.name,
                each.title,
                each.story,
                mean,
                _interval(gained),
                _interval(cost),
                tuple(gained.values()),
                tuple(cost.values()),
                broken,
            )  # fmt: skip
        )
    return found


def _minus(a: dict[int, float], b: dict[int, float]) -> dict[int, float]:
    return {seed: a[seed] - b[seed] for seed in sorted(a.keys() & b.keys())}


def _interval(differences: dict[int, float]) -> PairedDifference:
    return paired_interval(list(differences.values()), [0.0] * len(differences))


def compare(record: Record, name: str, other: str) -> PairedDifference:
    """`name` minus `other`, over the seeds that both have.

    Raises:
        ArtifactError: fewer than two seeds in common.
    """
    differences = _minus(accuracies(record, name), accuracies(record, other))
    if len(differences) < 2:
        raise ArtifactError(f"{name} and {other} have fewer than two seeds in common.")
    return _interval(differences)


def table(record: Record) -> str:
    """Arms, accuracies and effects as a Markdown table."""
    found = {effect.name: effect for effect in effects(record)}
    lines = ["| arm | test accuracy | against doing it right | against labels only | verdict |",
             "|---|---:|---:|---:|---|"]  # fmt: skip
    for each in ARMS:
        values = list(accuracies(record, each.name).values())
        if not values:
            continue
        effect = found.get(each.name)
        cells = [each.title, mean_std(values)]
        cells += (
            [_cell(effect.cost), _cell(effect.gain), effect.verdict] if effect else ["", "", ""]
        )
        lines.append("| " + " | ".join(cells) + " |")
    if BEST_ON_TEST.name in found:
        effect = found[BEST_ON_TEST.name]
        cells = [effect.title, "", _cell(effect.cost), _cell(effect.gain), effect.verdict]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def verdict_table(found: Sequence[Effect]) -> str:
    """Suspects and verdicts as a Markdown table, the worst first."""
    lines = ["| suspect | what is wrong | it costs, points | its owner sees, points | verdict |",
             "|---|---|---:|---:|---|"]  # fmt: skip
    for effect in sorted(found, key=lambda effect: effect.cost.mean):
        n = f" The loss became NaN in {effect.diverged} of {effect.cost.n} runs."
        story = effect.story + (n if effect.diverged else "")
        cells = effect.title, story, _cell(effect.cost), _cell(effect.gain), effect.verdict
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(difference: PairedDifference) -> str:
    return f"{difference.mean:+.2f} [{difference.low:+.2f}, {difference.high:+.2f}]"


# --- seed noise -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class SeedNoise:
    """How far two runs of one recipe lie apart."""

    deviation: float  # standard deviation of one run, points
    runs: int

    def chance(self, points: float) -> float:
        """How often two runs of one recipe, differing in the seed alone, lie `points` or more
        apart in either direction.

        The difference of two independent runs has sqrt(2) times the deviation of one. The
        deviation is an estimate from few runs, so the tail is Student's t with `runs` - 1 degrees
        of freedom, a little heavier than the normal one.
        """
        from scipy.stats import t

        return float(2 * t.sf(points / (math.sqrt(2) * self.deviation), self.runs - 1))


def seed_noise(percent: Sequence[float]) -> SeedNoise:
    """The noise of one recipe, from two or more runs with different seeds.

    Raises:
        ArtifactError: fewer than two runs.
    """
    if len(percent) < 2:
        raise ArtifactError("Seed noise needs two runs or more of one recipe.")
    values = torch.tensor(percent, dtype=torch.float64)
    return SeedNoise(values.std(correction=1).item(), len(values))
