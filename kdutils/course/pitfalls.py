"""The pitfalls of notebook 07: why a distilled student can end below its baseline, one by one.

Each pitfall is an arm: the correct recipe with one thing wrong. All see the same images, for the
same number of epochs; arms of one seed share first weights, batches and views, so that their
differences are paired.

    about, records = pitfalls.recorded()            # what comes with the package
    about, records = pitfalls.measure(data, jobs=2) # or anew, in an hour or two
    print(pitfalls.verdict_table(pitfalls.effects(records)))

`python -m kdutils pitfalls` measures them all; it can be stopped at any moment and goes on where
it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from .. import pretrained
from ..losses import LabelLoss, Loss
from ..metrics import PairedDifference, mean_std
from ..pretrained import ArtifactError
from ..runtime.settings import settings
from .ablations import AblationConfig, AblationRunner, Arm, Record
from .comparisons import accuracies, compare, interval, markdown, minus, seed_noise
from .faults import (
    ByBatchNumber,
    CleanTargets,
    ScaledLogits,
    SwitchedLoss,
    TrainModeTargets,
    WeakLabels,
    stay_in_eval,
)
from .pitfall_teachers import TINY, Budget, Teachers

if TYPE_CHECKING:
    from ..data import ImageData

COMMAND = "python -m kdutils pitfalls"
SEEDS = (0, 1, 2, 3, 4)


# --- the arms -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pitfall(Arm):
    """The correct recipe, with one thing changed.

    Attributes:
        story: one sentence on what is wrong.
        share: of the budget's epochs.
        against: the arm that does it right.
        baseline: the arm that learns from labels alone, for as long.
    """

    loss: Loss = SwitchedLoss()
    teacher: str = "good"
    role: str = "pitfall"
    against: str = "distilled"
    story: str = ""
    share: float = 1.0
    baseline: str = "labels"


def _arm(name: str, title: str, story: str, loss: Loss = SwitchedLoss(), **more: Any) -> Pitfall:
    return Pitfall(name, loss=loss, title=title, story=story, **more)


_SCALED = {"wrap": lambda targets, labels: ScaledLogits(targets, 0.4)}
T20 = SwitchedLoss(temperature=20.0)

ARMS: tuple[Pitfall, ...] = (
    _arm("labels", "labels only", "No teacher at all.", LabelLoss(), teacher="", role="baseline",
         test_curve=True),
    _arm("distilled", "distilled correctly", "Nothing is wrong.", role="distilled",
         test_curve=True),
    _arm("both", "mean reduction and no T²",
         "kl_div with its default reduction, and no T²: the soft term is 160 times too weak.",
         SwitchedLoss(reduction="mean", squared=False)),
    _arm("weak_labels", "labels only, times 0.1",
         "No teacher, and a cross entropy that was multiplied by 1 - soft weight.",
         WeakLabels(0.1), teacher="", role="control", against="labels"),
    _arm("mean", "mean reduction",
         "kl_div with its default reduction: with 10 classes, 10 times too weak.",
         SwitchedLoss(reduction="mean")),
    _arm("no_t2", "missing T²", "The soft term is 16 times too weak.",
         SwitchedLoss(squared=False)),
    _arm("by_batch_number", "cached, read by batch number",
         "Teacher logits of one shuffled pass, read back by batch number in another.",
         wrap=lambda targets, labels: ByBatchNumber(targets)),
    _arm("clean", "cached on unaugmented images",
         "The teacher saw the image unchanged, the student sees it moved and flipped.",
         wrap=lambda targets, labels: CleanTargets(targets)),
    _arm("swapped", "arguments of kl_div swapped",
         "KL(student ‖ teacher) in place of KL(teacher ‖ student).", SwitchedLoss(swapped=True)),
    _arm("double_softmax", "softmax twice",
         "Probabilities are handed to a softmax that expects logits.",
         SwitchedLoss(double_softmax=True)),
    _arm("student_eval", "student stays in eval mode",
         "After the first validation nobody calls student.train() again.",
         after_epoch=stay_in_eval),
    _arm("weak", "weak teacher", "A teacher that knows less than the student.", teacher="weak"),
    _arm("labels_short", "labels only, a third of the epochs", "The baseline of the next one.",
         LabelLoss(), teacher="", role="control", share=1 / 3, against="labels"),
    _arm("distilled_short", "too few epochs",
         "Correct, but for a third of the epochs; against labels only for as long.",
         share=1 / 3, baseline="labels_short"),
    _arm("train_mode", "teacher in train mode",
         "Nobody called teacher.eval(): its answers depend on their batch.",
         wrap=lambda targets, labels: TrainModeTargets(targets, Budget.batch_size)),
    _arm("overfitted", "over-fitted teacher", "A teacher that knows the student's images by heart.",
         teacher="overfitted"),
    _arm("T20", "the usual teacher at T = 20", "Correct, but hot: the control of the next one.",
         T20, role="control"),
    _arm("smoothed_T20", "label-smoothed teacher at T = 20",
         "A teacher that ended its training with label smoothing 0.2; against the same without.",
         T20, teacher="smoothed", against="T20"),
    _arm("strong", "very strong teacher",
         "The best teacher of the course: does the gap make it worse?", teacher="strong"),
    _arm("scaled_logits_T20", "the usual teacher at T = 20, logits times 0.4",
         "As small as those of the label-smoothed teacher, without any smoothing.", T20,
         role="control", against="T20", **_SCALED),
    _arm("scaled_logits_strong", "very strong teacher, logits times 0.4",
         "Is it the gap, or the size of its logits?", teacher="strong", role="control",
         against="strong", **_SCALED),
)  # fmt: skip
BEST_ON_TEST = _arm(  # no run of its own: it reads the curve of the correct one
    "best_on_test",
    "best epoch picked on test",
    "Correct, but reported at the epoch that was best on test.",
)


def arm(name: str) -> Pitfall:
    """The arm called `name`.

    Raises:
        ArtifactError: there is no such arm.
    """
    found = {each.name: each for each in ARMS}
    if name not in found:
        raise ArtifactError(f"There is no pitfall {name!r}; choose from {', '.join(found)}.")
    return found[name]


# --- the runs --------------------------------------------------------------------------------------


def measure(
    data: ImageData,
    arms: Sequence[Pitfall] = ARMS,
    seeds: Sequence[int] = SEEDS,
    *,
    budget: Budget | None = None,
    folder: Path | None = None,
    **how: Any,
) -> tuple[Record, list[Record]]:
    """Measure pitfalls on `data`; what was measured before is not done again.

    Args:
        data: all images; the students learn from `budget.train_images` of them.
        arms, seeds: which.
        budget: of every arm; default `Budget()`.
        folder: where runs are kept; default one of this data and budget, among the results.
        how: as for `AblationRunner.run`.

    Returns:
        As `recorded` gives them.
    """
    budget = budget or Budget()
    name = f"{pretrained.slug(data.name)}-{budget.train_images}x{budget.epochs}"
    folder = folder or settings().results / "pitfalls" / name
    part = replace(
        data,
        train=data.train.subset(min(budget.train_images, len(data.train))),
        val=data.val.subset(min(budget.val_images, len(data.val))),
    )
    teachers = Teachers(data, part, budget, folder / "teachers")
    ready = {name: _once(teachers, name) for name in Teachers.NAMES}
    runner = AblationRunner(AblationConfig(part, folder, ready, COMMAND))
    sized = [
        replace(
            each, recipe=replace(budget.recipe, epochs=max(1, round(each.share * budget.epochs)))
        )
        for each in arms
    ]
    records = runner.run(sized, seeds, **how)
    used = dict.fromkeys(each.teacher for each in arms if each.teacher)
    return {
        "command": COMMAND,
        "data": data.name,
        "budget": asdict(budget),
        "loss": asdict(SwitchedLoss()),
        "test_images": len(data.test),
        "teachers": {name: teachers.about(name) for name in used},
    }, records


def _once(teachers: Teachers, name: str) -> Callable[[], nn.Module]:
    return lambda: teachers(name)


def recorded() -> tuple[Record, list[Record]]:
    """What was measured for all (command, data, budget, teachers), and one record for each run.

    Raises:
        ArtifactError: nothing was recorded, or the file is damaged.
    """
    return pretrained.load_records("pitfalls")


def ship(about: Record, records: Sequence[Record]) -> None:
    """Add runs to those that come with the package.

    Raises:
        ArtifactError: they were made with another budget or other images than those there.
    """
    known = recorded()[0] if pretrained.has_records("pitfalls") else {}
    for key in ("data", "budget"):
        if known and known[key] != about[key]:
            raise ArtifactError(
                f"The recorded pitfalls are of another {key}; move pitfalls.json away first."
            )
    pretrained.add_records("pitfalls", list(records), about | known)


# --- what was recorded ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Effect:
    """What one pitfall does, in points of test accuracy.

    Attributes:
        accuracy: mean, per cent.
        gain: over labels only, for as long: what the person who has the bug would see.
        cost: that gain minus the gain of the arm that does it right. Both have the same baseline,
            unless the number of epochs is the pitfall; then it is a difference of differences.
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
    gains: tuple[float, ...]
    costs: tuple[float, ...]
    diverged: int = 0

    @property
    def verdict(self) -> str:
        """In a word or two: does it hurt?"""
        if self.gain.verdict == "lower":
            return "hurts: worse than labels only"
        if self.cost.verdict == "lower":
            return "hurts: costs points"
        return "no difference" if self.cost.verdict == "no difference" else "looks better"


def effects(records: Sequence[Record]) -> list[Effect]:
    """One effect for each pitfall with two paired seeds or more, in the order of `ARMS`."""
    known = {each.name: accuracies(records, each.name) for each in ARMS}
    known[BEST_ON_TEST.name] = {
        one["seed"]: round(100 * max(one["curve"]["test_accuracy"]), 2)
        for one in records
        if one["name"] == "distilled"
    }

    def gain(each: Pitfall) -> dict[int, float]:
        return minus(known[each.name], known[each.baseline])

    found = []
    for each in (*ARMS, BEST_ON_TEST):
        cost = minus(gain(each), gain(arm(each.against)))
        if each.role != "pitfall" or len(cost) < 2:
            continue
        gained = {seed: gain(each)[seed] for seed in cost}
        mean = sum(known[each.name].values()) / len(known[each.name])
        broken = sum(one["name"] == each.name and "diverged" in one for one in records)
        found.append(Effect(
            each.name, each.title, each.story, mean, interval(gained), interval(cost),
            tuple(gained.values()), tuple(cost.values()), broken,
        ))  # fmt: skip
    return found


def table(records: Sequence[Record]) -> str:
    """Arms, accuracies and effects as a Markdown table."""
    found = {effect.name: effect for effect in effects(records)}
    head = dict.fromkeys(("arm", "test accuracy", "against doing it right", "against labels only"),
                         "---:") | {"arm": "---", "verdict": "---"}  # fmt: skip
    rows = []
    for each in (*ARMS, BEST_ON_TEST):
        values, effect = list(accuracies(records, each.name).values()), found.get(each.name)
        if values or effect:
            judged = (
                [_cell(effect.cost), _cell(effect.gain), effect.verdict] if effect else [""] * 3
            )
            rows.append([each.title, mean_std(values) if values else "", *judged])
    return markdown(head, rows)


def verdict_table(found: Sequence[Effect]) -> str:
    """Pitfalls and verdicts as a Markdown table, the worst first."""
    head = {"pitfall": "---", "what is wrong": "---", "it costs, points": "---:",
            "its owner sees, points": "---:", "verdict": "---"}  # fmt: skip
    rows = []
    for effect in sorted(found, key=lambda effect: effect.cost.mean):
        nan = f" The loss became NaN in {effect.diverged} of {effect.cost.n} runs."
        story = effect.story + (nan if effect.diverged else "")
        rows.append([effect.title, story, _cell(effect.cost), _cell(effect.gain), effect.verdict])
    return markdown(head, rows)


def _cell(difference: PairedDifference) -> str:
    return f"{difference.mean:+.2f} [{difference.low:+.2f}, {difference.high:+.2f}]"


__all__ = [
    "ARMS", "BEST_ON_TEST", "COMMAND", "SEEDS", "TINY", "Budget", "Effect", "Pitfall", "Teachers",
    "accuracies", "arm", "compare", "effects", "measure", "recorded", "seed_noise", "ship", "table",
    "verdict_table",
]  # fmt: skip
