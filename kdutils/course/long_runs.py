"""The real numbers: long trainings on CIFAR-10, several seeds, written down run by run.

`python -m kdutils numbers` trains what is missing and skips what is there, so it can be stopped at
any time. Each finished run adds a line to `kdutils/pretrained/results.json`; seed 0 of teacher,
baseline, distilled and pocket is also shipped as weights.

An *arm* is one way to train one network. Arms of one network share, seed by seed, first weights,
batches, views and epochs, so that their differences can be paired. Everything was chosen on
validation; test is looked at once, when a run has ended, at its last epoch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from .. import __version__, metrics, models, pretrained, timing
from ..losses import Distillation, LabelLoss, Loss
from ..pretrained import Trained
from ..pretrained import records as records_module
from ..runtime.files import atomic_path
from ..soft_targets import ShuffledTargets
from ..train import Recipe, TeacherLogits, evaluate
from ..views import epoch_views
from . import experiments

if TYPE_CHECKING:
    from ..data import ImageData

SEEDS = (0, 1, 2, 3, 4)

# Recipes and losses, chosen on validation.
TEACHER, STUDENT, POCKET = (experiments.LONG_RECIPES[name] for name in ("teacher", "student", "pocket"))
DISTILLATION = Distillation(temperature=4.0, soft_weight=0.9)

Record = dict[str, Any]


@dataclass(frozen=True)
class Arm:
    """One way to train one network; `compare` names the arm that it is paired with."""

    name: str
    network: str
    role: str  # teacher, baseline, distilled or control
    recipe: Recipe
    title: str
    taught: bool = False  # needs the teacher's answers
    compare: str = ""


ARMS: dict[str, Arm] = {
    arm.name: arm
    for arm in (
        Arm("teacher", "teacher", "teacher", TEACHER, "teacher"),
        Arm("baseline", "student", "baseline", STUDENT, "student, labels only"),
        Arm("distilled", "student", "distilled", STUDENT, "student, distilled", True, "baseline"),
        Arm("smoothed", "student", "control", STUDENT, "student, label smoothing", True,
            "baseline"),
        Arm("exchanged", "student", "control", STUDENT,
            "student, answers exchanged within a class", True, "baseline"),
        Arm("shuffled", "student", "control", STUDENT,
            "student, answers shuffled across images", True, "baseline"),
        Arm("pocket_labels", "pocket", "baseline", POCKET, "pocket student, labels only"),
        Arm("pocket", "pocket", "distilled", POCKET, "pocket student, distilled", True,
            "pocket_labels"),
    )
}  # fmt: skip
SHIPPED = ("teacher", "baseline", "distilled", "pocket")


def run(arm: Arm, seed: int, data: ImageData, progress: bool = True) -> Record:
    """Train one arm with one seed (or load it), measure it on test, and note it.

    Returns:
        One run: arm, seed, validation and test accuracy in percent, seconds, curve, machine.

    Raises:
        ArtifactError: the arm needs the teacher, and none comes with the package.
    """
    loss, targets = _lesson(arm, data)
    trained = pretrained.train_or_load(
        arm.name, models.build(arm.network, seed, len(data.classes)), data, arm.recipe, loss=loss,
        soft_targets=targets, seed=seed, progress=progress,
    )  # fmt: skip
    if seed == 0 and arm.name in SHIPPED:
        facts = {"taught_by": "teacher", "loss": repr(loss)} if arm.taught else {}
        pretrained.ship(arm.name, trained, data, arm.recipe, seed=seed, **facts)
        trained = pretrained.trained(arm.name)  # what is shipped is what is measured
    result = _measure(arm, seed, data, trained, loss)
    note(result)
    return result


def _lesson(arm: Arm, data: ImageData) -> tuple[Loss, TeacherLogits | None]:
    """The loss of an arm, and the teacher's answers that go with it."""
    if not arm.taught:
        return LabelLoss(), None
    targets = pretrained.soft_targets(pretrained.load("teacher", quiet=True), data)
    labels = data.train.labels
    if arm.name == "smoothed":
        seen = targets.epoch(epoch_views(len(labels), 0, 0))
        strength = experiments.matched_smoothing(seen, labels, DISTILLATION.soft_weight)
        return LabelLoss(round(strength, 3)), None
    if arm.name in ("exchanged", "shuffled"):
        return DISTILLATION, ShuffledTargets(targets, labels, arm.name == "exchanged")
    return DISTILLATION, targets


def _measure(arm: Arm, seed: int, data: ImageData, trained: Trained, loss: Loss) -> Record:
    rows = trained.history.rows
    return {
        "arm": arm.name,
        "seed": seed,
        "data": data.name,
        "loss": repr(loss),
        "epochs": len(rows),
        "val_accuracy": round(100 * rows[-1]["val_accuracy"], 2),
        "test_accuracy": round(100 * evaluate(trained.model, data.test).accuracy, 2),
        "train_seconds": round(rows[-1]["seconds"], 1),
        "curve": [[round(row["seconds"], 1), round(100 * row["val_accuracy"], 2)] for row in rows],
        "machine": timing.machine(),
        "date": date.today().isoformat(),
        "version": __version__,
    }


def note(result: Record) -> None:
    """Add one run to results.json, in place of an earlier one of the same arm, seed and epochs.

    Several processes may do so at once: they wait for each other.
    """
    path = records_module.FOLDER / records_module.RESULTS
    path.parent.mkdir(exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        old = pretrained.results() if path.is_file() else []
        runs = [one for record in old for one in record["runs"] if not same(one, result)]
        with atomic_path(path) as part:
            part.write_text(json.dumps(records([*runs, result]), indent=1) + "\n", "utf-8")


def same(one: Record, other: Record) -> bool:
    """Whether two runs are of one arm, seed, budget and data set."""
    return all(one[key] == other[key] for key in ("arm", "seed", "epochs", "data"))


def records(runs: Iterable[Record]) -> list[Record]:
    """Runs gathered by arm and epochs, with counts, and with the paired difference to the arm
    compared with.

    Returns:
        One record an arm, number of epochs and data set: `name`, `role`, `data`, `parameters`,
        `macs`, `size_mb`, `epochs`, `seeds`, `test_accuracy` (percent, one per seed),
        `train_seconds`, `machine`, `runs`; where it is compared, `compared_with`, `difference` and
        `interval` (points, 95 %).
    """

    def place(one: Record) -> tuple[str, int, int, int]:
        return one["data"], list(ARMS).index(one["arm"]), one["epochs"], one["seed"]

    groups: dict[tuple[str, str, int], list[Record]] = {}
    for one in sorted(runs, key=place):
        groups.setdefault((one["data"], one["arm"], one["epochs"]), []).append(one)
    return [
        _record(ARMS[name], many, groups.get((data, ARMS[name].compare, epochs), []))
        for (data, name, epochs), many in groups.items()
    ]


def _record(arm: Arm, runs: list[Record], others: Sequence[Record]) -> Record:
    model = models.build(arm.network)
    record = {
        "name": arm.title,
        "arm": arm.name,
        "role": arm.role,
        "data": runs[0]["data"],
        "parameters": models.count_parameters(model),
        "macs": models.count_macs(model),
        "size_mb": models.size_mb(model),
        "epochs": runs[0]["epochs"],
        "seeds": [one["seed"] for one in runs],
        "test_accuracy": [one["test_accuracy"] for one in runs],
        "train_seconds": [one["train_seconds"] for one in runs],
        "machine": runs[0]["machine"],
        "runs": runs,
    }
    return record | paired(runs, others, arm.compare)


def paired(runs: Sequence[Record], others: Sequence[Record], name: str) -> Record:
    """The difference in test accuracy over the seeds that both arms have, at one budget.

    Empty below two common seeds: then there is no interval.
    """
    known = {one["seed"]: one["test_accuracy"] for one in others}
    pairs = [
        (one["test_accuracy"], known[one["seed"]]) for one in runs if one["seed"] in known
    ]
    if len(pairs) < 2:
        return {}
    found = metrics.paired_interval([a for a, _ in pairs], [b for _, b in pairs])
    return {
        "compared_with": ARMS[name].title,
        "pairs": len(pairs),
        "difference": round(found.mean, 3),
        "interval": [round(found.low, 3), round(found.high, 3)],
    }


def missing(arms: Sequence[str], seeds: Sequence[int], data_name: str) -> list[tuple[Arm, int]]:
    """The runs that results.json does not have yet, arm by arm; a teacher has only seed 0."""
    try:
        done = {
            (record["arm"], one["seed"], one["epochs"])
            for record in pretrained.results()
            for one in record["runs"]
            if one["data"] == data_name
        }
    except pretrained.ArtifactError:
        done = set()
    return [
        (ARMS[name], seed)
        for name in arms
        for seed in ((0,) if name == "teacher" else seeds)
        if (name, seed, ARMS[name].recipe.epochs) not in done
    ]


def table() -> str:
    """results.json as a Markdown table: accuracy, what it is compared with, and what it cost."""
    lines = [
        "| network | test accuracy | against | parameters | multiply-adds | epochs |",
        "|---|---:|---|---:|---:|---:|",
    ]
    for one in pretrained.results():
        against = ""
        if "interval" in one:
            low, high = one["interval"]
            against = (
                f"{one['difference']:+.2f} points on {one['compared_with']} "
                f"({low:+.2f} to {high:+.2f}, {one['pairs']} pairs)"
            )
        lines.append(
            f"| {one['name']} | {metrics.mean_std(one['test_accuracy'])} | {against} | "
            f"{one['parameters']:,} | {one['macs'] / 1e6:.1f} M | {one['epochs']} |"
        )
    return "\n".join(lines)
