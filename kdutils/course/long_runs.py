"""The long runs: trainings on CIFAR-10 with several seeds, behind the README's numbers.

`python -m kdutils long-runs` trains what is missing and skips what is there, so it can be stopped at
any time. With `--ship` finished runs are added to `kdutils/pretrained/results.json`, and seed 0 of
teacher, baseline, distilled and pocket to the weights of the package.

Everything was chosen on validation; test is looked at once, when a run has ended, at its last
epoch.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from .. import metrics, models, pretrained
from ..losses import Distillation, LabelLoss
from ..pretrained import ArtifactError, Trained
from ..runtime.settings import settings
from ..soft_targets import ShuffledTargets, SoftTargets
from ..train import VIEW_SEED
from ..views import epoch_views
from . import experiments
from .ablations import AblationConfig, AblationRunner, Arm, Record, history
from .comparisons import markdown

if TYPE_CHECKING:
    from ..data import ImageData

COMMAND = "python -m kdutils long-runs"
SEEDS = (0, 1, 2, 3, 4)
# Recipes and loss, chosen on validation.
TEACHER, STUDENT, POCKET = (
    experiments.LONG_RECIPES[name] for name in ("teacher", "student", "pocket")
)
DISTILLATION = Distillation(temperature=4.0, soft_weight=0.9)
SHIPPED = ("teacher", "baseline", "distilled", "pocket")  # seed 0, as weights


def _matched_smoothing(targets: SoftTargets, labels: Tensor) -> LabelLoss:
    seen = targets.epoch(epoch_views(len(labels), VIEW_SEED, 0))
    strength = experiments.matched_smoothing(seen, labels, DISTILLATION.soft_weight)
    return LabelLoss(round(strength, 3))


_LABELS = Arm("baseline", STUDENT, role="baseline", title="student, labels only")
_DISTILLED = Arm(
    "distilled", STUDENT, DISTILLATION, "teacher", role="distilled", title="student, distilled",
    against="baseline",
)  # fmt: skip
_CONTROL = replace(_DISTILLED, role="control")

ARMS: dict[str, Arm] = {
    arm.name: arm
    for arm in (
        Arm("teacher", TEACHER, network="teacher", role="teacher", title="teacher"),
        _LABELS,
        _DISTILLED,
        replace(
            _CONTROL, name="smoothed", title="student, label smoothing",
            make_loss=_matched_smoothing, wrap=lambda targets, labels: None,
        ),
        replace(
            _CONTROL, name="shuffled_within_class",
            title="student, answers shuffled within a class",
            wrap=lambda targets, labels: ShuffledTargets(targets, labels, True),
        ),
        replace(
            _CONTROL, name="shuffled", title="student, answers shuffled across images",
            wrap=lambda targets, labels: ShuffledTargets(targets, labels, False),
        ),
        replace(
            _LABELS, name="pocket_labels", network="pocket", recipe=POCKET,
            title="pocket student, labels only",
        ),
        replace(
            _DISTILLED, name="pocket", network="pocket", recipe=POCKET, against="pocket_labels",
            title="pocket student, distilled",
        ),
    )
}  # fmt: skip


def runner(data: ImageData, folder: Path | None = None) -> AblationRunner:
    """The runner of the long runs on `data`, in the results folder unless `folder` says else.

    Students learn from the teacher of the package where it was made for such images, else from the
    one that the arm "teacher" trains on them.
    """
    place = folder or settings().results / "long_runs" / pretrained.slug(data.name)
    teachers = {"teacher": lambda: _teacher(runs)}
    runs = AblationRunner(AblationConfig(data, place, teachers, COMMAND, weights=True))
    return runs


def _teacher(runs: AblationRunner) -> nn.Module:
    if pretrained.available("teacher", runs.config.data):
        return pretrained.load("teacher", quiet=True)
    weights = runs.path(ARMS["teacher"], 0).with_suffix(".safetensors")
    if not weights.exists():
        raise ArtifactError(
            f"No teacher has been trained on {runs.config.data.name} yet; run "
            f"`{COMMAND} --arms teacher` first."
        )
    return pretrained.load_model(weights, data=runs.config.data)


def run(
    runs: AblationRunner, arms: Sequence[Arm], seeds: Sequence[int], ship: bool = False, **how: Any
) -> list[Record]:
    """Train what neither this folder nor the package has: the teacher first, with seed 0 alone.

    Args:
        runs: see `runner`.
        ship: add what is finished to the package.
        how: as for `AblationRunner.run`.

    Returns:
        The records that the package did not have.

    Raises:
        ArtifactError: `ship`, and the images are not CIFAR-10.
    """
    if ship and not pretrained.fits(runs.config.data):
        raise ArtifactError(
            f"Only runs on {pretrained.FAMILY} go into the package, not those on "
            f"{runs.config.data.name}; leave out --ship, and they are kept in the results folder."
        )
    found = []
    for group in (
        [a for a in arms if a.role == "teacher"],
        [a for a in arms if a.role != "teacher"],
    ):
        chosen = [0] if group and group[0].role == "teacher" else seeds
        skip = recorded(group, runs.config.data.name)
        records = runs.run(group, chosen, skip=skip, **how)
        found += [one for one in records if (one["name"], one["seed"]) not in skip]
        if ship:
            new = [one for one in runs.records(group) if (one["name"], one["seed"]) not in skip]
            pretrained.add_records("results", [_ship(runs, one) for one in new])
    return found


def recorded(arms: Sequence[Arm], data_name: str) -> set[tuple[str, int]]:
    """(arm, seed) of the runs that the package has already, at the budget of these arms."""
    epochs = {arm.name: arm.recipe.epochs for arm in arms}
    return {
        (one["name"], one["seed"])
        for one in recorded_runs()
        if (one["data"], one["recipe"]["epochs"]) == (data_name, epochs.get(one["name"]))
    }


def recorded_runs() -> list[Record]:
    """The runs that come with the package; none where the file is missing."""
    return pretrained.load_records("results")[1] if pretrained.has_records("results") else []


def _ship(runs: AblationRunner, record: Record) -> Record:
    """Put the weights of a run into the package, where they are wanted there; its record.

    What is shipped is what is measured: weights lose a little when they are stored.
    """
    name, arm = record["name"], ARMS[record["name"]]
    if name not in SHIPPED or record["seed"] != 0:
        return record
    data = runs.config.data
    model = pretrained.load_model(runs.path(arm, 0).with_suffix(".safetensors"), data=data)
    taught = {"taught_by": arm.teacher, "loss": record["loss"]} if arm.teacher else {}
    trained = Trained(model, history(record), loaded=True)
    noted = pretrained.ship(name, trained, data, arm.recipe, seed=0, **taught)
    return {**record, "test": noted["test_accuracy"]}


def summaries(records: Sequence[Record] | None = None) -> list[Record]:
    """Runs gathered by data, arm and recipe, with the paired difference to the arm compared with.

    Args:
        records: single runs; default those of the package.

    Returns:
        One summary an arm, recipe and data set: `name` (for people), `arm`, `role`, `data`,
        `parameters`, `macs`, `size_mb`, `epochs`, `seeds`, `test_accuracy` (percent, one per seed),
        `train_seconds`, `machine`, `runs`; where it is compared, `compared_with`, `pairs`,
        `difference` and `interval` (points, 95 %).
    """
    records = pretrained.load_records("results")[1] if records is None else records
    order = list(ARMS)

    def place(one: Record) -> tuple[str, int, int, int]:
        return one["data"], order.index(one["name"]), one["recipe"]["epochs"], one["seed"]

    groups: dict[tuple[str, str, str], list[Record]] = {}
    for one in sorted((one for one in records if one["name"] in ARMS), key=place):
        recipe = json.dumps(one["recipe"], sort_keys=True)
        groups.setdefault((one["data"], one["name"], recipe), []).append(one)
    return [
        _summary(ARMS[name], many, groups.get((data, ARMS[name].against, recipe), []))
        for (data, name, recipe), many in groups.items()
    ]


def _summary(arm: Arm, runs: list[Record], others: Sequence[Record]) -> Record:
    model = models.build(arm.network)
    summary = {
        "name": arm.title,
        "arm": arm.name,
        "role": arm.role,
        "data": runs[0]["data"],
        "parameters": models.count_parameters(model),
        "macs": models.count_macs(model),
        "size_mb": models.size_mb(model),
        "epochs": runs[0]["recipe"]["epochs"],
        "seeds": [one["seed"] for one in runs],
        "test_accuracy": [one["test"] for one in runs],
        "train_seconds": [one["seconds"] for one in runs],
        "machine": runs[0]["machine"],
        "runs": runs,
    }
    known = {one["seed"]: one["test"] for one in others}
    pairs = [(one["test"], known[one["seed"]]) for one in runs if one["seed"] in known]
    if len(pairs) < 2:  # one pair has no interval
        return summary
    found = metrics.paired_interval([a for a, _ in pairs], [b for _, b in pairs])
    return summary | {
        "compared_with": ARMS[arm.against].title,
        "pairs": len(pairs),
        "difference": round(found.mean, 3),
        "interval": [round(found.low, 3), round(found.high, 3)],
    }


def summary(arm: str, records: Sequence[Record] | None = None) -> Record:
    """The summary with the most epochs of an arm, for example "distilled".

    Raises:
        ArtifactError: nothing was measured under this name.
    """
    everything = summaries(records)
    found = [one for one in everything if one["arm"] == arm]
    if not found:
        known = ", ".join(dict.fromkeys(one["arm"] for one in everything))
        raise ArtifactError(f"There are no long runs of {arm!r}; there are {known or 'none'}.")
    return max(found, key=lambda one: one["epochs"])


def table(records: Sequence[Record] | None = None) -> str:
    """Long runs as a Markdown table: accuracy, what it is compared with, and what it cost."""
    head = {"network": "---", "test accuracy": "---:", "against": "---", "parameters": "---:",
            "multiply-adds": "---:", "epochs": "---:"}  # fmt: skip
    rows = []
    for one in summaries(records):
        against = ""
        if "interval" in one:
            low, high = one["interval"]
            against = (
                f"{one['difference']:+.2f} points on {one['compared_with']} "
                f"({low:+.2f} to {high:+.2f}, {one['pairs']} pairs)"
            )
        rows.append([one["name"], metrics.mean_std(one["test_accuracy"]), against,
                     f"{one['parameters']:,}", f"{one['macs'] / 1e6:.1f} M", f"{one['epochs']}"])  # fmt: skip
    return markdown(head, rows)
