"""The experiments that several notebooks share, so that each notebook runs alone and none is
done twice: the first to need a network trains it, the others load it.

    data = experiments.load_data()
    teacher = experiments.teacher(data)
    baseline = experiments.baseline(data, seed=0)
    distilled = experiments.distilled(data, experiments.soft_targets(teacher, data), seed=0)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .. import data as data_module
from .. import models, pretrained, timing
from ..losses import Distillation, LabelLoss, Loss
from ..pretrained import Trained
from ..runtime.settings import settings
from ..soft_targets import ShuffledTargets, SoftTargets
from ..train import VIEW_SEED, History, Recipe, TeacherLogits
from ..views import epoch_views
from .ablations import AblationConfig, AblationRunner, Arm, default_jobs, history
from .budgets import budget

if TYPE_CHECKING:
    from ..data import ImageData

# Chosen on validation accuracy; notebook 05 shows the sweep.
DISTILLATION = Distillation(temperature=4.0, soft_weight=0.9)

# The results table that the series set out to beat: distillation had made the student worse.
# Accuracy in per cent; its "MB" are 2^20 bytes; how the latency was taken was not said.
PUBLISHED: tuple[dict[str, Any], ...] = tuple(
    dict(zip(("name", "accuracy", "size_mb", "parameters", "latency_ms"), row, strict=True))
    for row in (
        ("teacher", 83.13, 17.81, 4_664_970, 111.29),
        ("student, labels only", 72.70, 0.41, 106_826, 27.76),
        ("student, distilled", 70.86, 0.41, 106_826, 25.82),
    )
)

# (network, is the data synthetic?) -> recipe, chosen on validation. `shapes` has a fifth of the
# images: smaller batches give its teacher enough steps. A peak too high hurts the distilled
# student most, because T^2 makes the early soft gradients large.
RECIPES: dict[tuple[str, bool], Recipe] = {
    ("teacher", False): Recipe(batch_size=256, learning_rate=0.1, warmup=0.1, muon=0.06),
    ("teacher", True): Recipe(batch_size=128, learning_rate=0.2),
    ("student", False): Recipe(batch_size=64, learning_rate=0.1),
    ("student", True): Recipe(batch_size=64, learning_rate=0.1),
    ("pocket", False): Recipe(batch_size=128, learning_rate=0.08, warmup=0.1, muon=0.02),
    ("pocket", True): Recipe(batch_size=64, learning_rate=0.08, warmup=0.1, muon=0.02),
}
# The same for the `full` profile on photographs: long trainings, behind the README's numbers.
LONG_RECIPES: dict[str, Recipe] = {
    "teacher": Recipe(
        epochs=28, batch_size=512, learning_rate=0.1, warmup=0.1, muon=0.08, cutout=12
    ),
    "student": Recipe(epochs=80, batch_size=128, learning_rate=0.08, warmup=0.1, muon=0.015),
    "pocket": replace(RECIPES["pocket", False], epochs=90),
}
DEMO = Recipe(epochs=2, batch_size=128, learning_rate=0.2)  # to see the loop at work
DEMO_IMAGES = 6_000


def load_data() -> ImageData:
    """The data that `KDUTILS_DATA` names, cut to the sizes of `KDUTILS_PROFILE` where it has more.

    How many images are validated on follows the data first: a small set has no 500 to give.
    """
    plan = budget(None)
    data = data_module.load(train_size=plan.train_size, test_size=plan.test_size)
    if plan.val_size is None or plan.val_size >= len(data.val):
        return data
    return replace(data, val=data.val.subset(plan.val_size))


def recipe(network: str, data: ImageData, epochs: int) -> Recipe:
    """The house recipe of a network on `data` for a number of epochs."""
    long = settings().profile.name == "full" and not data.is_synthetic
    chosen = LONG_RECIPES[network] if long else RECIPES[network, data.is_synthetic]
    return replace(chosen, epochs=epochs)


def uses_pretrained(data: ImageData) -> bool:
    """Whether the current profile takes its teacher from the package: `class`, on CIFAR-10."""
    return settings().profile.name == "class" and pretrained.available("teacher", data)


def teacher_recipe(data: ImageData) -> Recipe:
    """How the teacher of the current profile is trained, or was, where it comes with the package."""
    if uses_pretrained(data):
        return Recipe(**pretrained.trained("teacher").model.metadata["recipe"])
    return recipe("teacher", data, budget(data).teacher_epochs)


def _network(name: str, data: ImageData, seed: int | None = None) -> nn.Module:
    return models.build(name, seed, len(data.classes))


def teacher(data: ImageData, progress: bool = True) -> Trained:
    """The teacher of the current profile: from the package, loaded, or trained now."""
    if uses_pretrained(data):
        return pretrained.trained("teacher")
    return pretrained.train_or_load(
        "teacher", _network("teacher", data), data, teacher_recipe(data), progress=progress
    )


def demo_teacher(data: ImageData, progress: bool = True) -> Trained:
    """A teacher that is trained for a moment on a part of the images, to see the loop at work."""
    part = replace(data, train=data.train.subset(min(DEMO_IMAGES, len(data.train))))
    return pretrained.train_or_load(
        "rehearsal", _network("teacher", data), part, DEMO, progress=progress
    )


def baseline(data: ImageData, seed: int = 0, progress: bool = True) -> Trained:
    """The student trained on labels alone: what distillation has to beat."""
    plan = recipe("student", data, budget(data).student_epochs)
    return pretrained.train_or_load(
        "baseline", _network("student", data, seed), data, plan, loss=LabelLoss(), seed=seed,
        progress=progress,
    )  # fmt: skip


def soft_targets(teacher: Trained, data: ImageData) -> SoftTargets:
    """The teacher's memoised logits for the training images."""
    return pretrained.soft_targets(teacher.model, data)


def distilled(
    data: ImageData,
    targets: SoftTargets,
    seed: int = 0,
    loss: Distillation = DISTILLATION,
    progress: bool = True,
) -> Trained:
    """The student trained with soft targets: same start, batches, views and epochs as `baseline`
    of the same seed."""
    plan = recipe("student", data, budget(data).student_epochs)
    return pretrained.train_or_load(
        "distilled", _network("student", data, seed), data, plan, loss=loss, soft_targets=targets,
        seed=seed, progress=progress,
    )  # fmt: skip


# --- the sweep and the controls: many short runs on a part of the images ------------------------


def sweep_data(data: ImageData) -> ImageData:
    """`data` with the training images of the sweep (`Budget.sweep_train_size`); the same val."""
    size = budget(data).sweep_train_size
    if size is None or size >= len(data.train):
        return data
    return replace(data, train=data.train.subset(size))


def short_run(
    part: ImageData,
    loss: Loss | None = None,
    targets: TeacherLogits | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Trained:
    """A student of `Budget.sweep_epochs` epochs on `part` (from `sweep_data`), loaded or trained.

    All short runs of one seed share their start, their batches and their views.
    """
    plan = recipe("student", part, budget(part).sweep_epochs)
    return pretrained.train_or_load(
        "short", _network("student", part, seed), part, plan, loss=loss, soft_targets=targets,
        seed=seed, progress=progress,
    )  # fmt: skip


@dataclass(frozen=True)
class Sweep:
    """Validation accuracies of a temperature x soft-weight grid: one seed, one short budget.

    `accuracy` is float64 (temperatures, weights), fractions; `baseline` the same for labels only.
    """

    temperatures: tuple[float, ...]
    weights: tuple[float, ...]
    accuracy: Tensor
    baseline: float
    images: int  # training images of each run
    epochs: int  # of each run

    @property
    def best(self) -> Distillation:
        """The cell with the highest accuracy."""
        row, column = divmod(int(self.accuracy.argmax()), len(self.weights))
        return Distillation(self.temperatures[row], self.weights[column])

    def __str__(self) -> str:
        return (
            f"{self.accuracy.numel()} settings, each {self.epochs} epochs on {self.images:,} "
            f"images: labels only {100 * self.baseline:.2f} %, best "
            f"{100 * self.accuracy.max():.2f} % at T = {self.best.temperature:g}, soft weight "
            f"{self.best.soft_weight:g}"
        )


_LABELS = Arm("labels", title="labels only")


def _short_runs(
    data: ImageData, teacher: Trained, arms: Sequence[Arm], seed: int, jobs: int | None, bar: bool
) -> list[History]:
    """The histories of short runs on a part of the images, judged on validation alone."""
    part = sweep_data(data)
    folder = settings().results / "short_runs" / pretrained.slug(data.name)
    config = AblationConfig(part, folder, {"teacher": teacher.model}, test=False)
    plan = recipe("student", part, budget(part).sweep_epochs)
    records = AblationRunner(config).run(
        [replace(arm, recipe=plan) for arm in arms], [seed], jobs=jobs or default_jobs(),
        progress=bar, say=lambda words: None,
    )  # fmt: skip
    return [history(record) for record in records]


def sweep(
    data: ImageData,
    teacher: Trained,
    seed: int = 0,
    progress: bool = True,
    jobs: int | None = None,
) -> Sweep:
    """Distil one short student for each temperature and weight of the profile's grid.

    Args:
        jobs: runs side by side; default as many as there are cores, one on a GPU.
    """
    plan = budget(data)
    arms = [_LABELS] + [
        Arm(f"T{t:g}-weight{w:g}", loss=Distillation(t, w), teacher="teacher")
        for t in plan.sweep_temperatures
        for w in plan.sweep_weights
    ]
    found = _short_runs(data, teacher, arms, seed, jobs, progress)
    baseline, *cells = [one.last["val_accuracy"] for one in found]
    shape = len(plan.sweep_temperatures), len(plan.sweep_weights)
    return Sweep(
        temperatures=plan.sweep_temperatures,
        weights=plan.sweep_weights,
        accuracy=torch.tensor(cells, dtype=torch.float64).reshape(shape),
        baseline=baseline,
        images=len(sweep_data(data).train),
        epochs=plan.sweep_epochs,
    )


def matched_smoothing(logits: Tensor, labels: Tensor, soft_weight: float) -> float:
    """The label smoothing that is as soft as a distilled student would like to become.

    A student that copies its teacher gives the labels' rivals `soft_weight` times what the teacher
    gives them at T = 1. Smoothing by s gives them s (C - 1) / C. The two are set equal; 0.9 is the
    most.

    Args:
        logits: float (N, C), the teacher's on training images.
        labels: int64 (N,).
        soft_weight: of the distillation that is to be matched.
    """
    classes = logits.shape[1]
    own = logits.double().softmax(-1).gather(1, labels.unsqueeze(1)).mean().item()
    return min(0.9, soft_weight * (1 - own) * classes / (classes - 1))


def controls(
    data: ImageData,
    teacher: Trained,
    loss: Distillation = DISTILLATION,
    seed: int = 0,
    progress: bool = True,
    jobs: int | None = None,
) -> dict[str, History]:
    """Short runs that take apart why distillation works: what is left when a part is removed.

    Labels only, label smoothing of matched strength, the honest teacher, and the teacher's answers
    exchanged between images of one class or of all classes.
    """
    part = sweep_data(data)
    seen = soft_targets(teacher, part).epoch(epoch_views(len(part.train), VIEW_SEED, 0))
    smoothing = round(matched_smoothing(seen, part.train.labels, loss.soft_weight), 3)
    # Named as in `sweep`, so that what both need is trained once.
    name = f"T{loss.temperature:g}-weight{loss.soft_weight:g}"
    honest = Arm(name, loss=loss, teacher="teacher", title="distilled")
    arms = [
        _LABELS,
        Arm("smoothed", loss=LabelLoss(smoothing), title=f"label smoothing {smoothing:.2f}"),
        honest,
        replace(
            honest, name="shuffled_within_class", title="answer for another image, same class",
            wrap=lambda targets, labels: ShuffledTargets(targets, labels, True),
        ),
        replace(
            honest, name="shuffled", title="answer for another image, any class",
            wrap=lambda targets, labels: ShuffledTargets(targets, labels, False),
        ),
    ]  # fmt: skip
    found = _short_runs(data, teacher, arms, seed, jobs, progress)
    return {arm.title: one for arm, one in zip(arms, found, strict=True)}


# --- the benchmark --------------------------------------------------------------------------------


def record(
    name: str,
    role: str,
    data: ImageData,
    runs: Sequence[Trained],
    seeds: Sequence[int],
    test_accuracy: Sequence[float],
    latencies: Mapping[int, timing.Latency],
) -> dict[str, Any]:
    """What `pretrained.results_table` and the README need to know of one model, fit for JSON.

    Args:
        name: for people, for example "student, labels only".
        role: "teacher", "baseline" or "distilled".
        data: what it was trained and tested on.
        runs: the trained networks, one for each of `seeds`.
        test_accuracy: fractions, one for each of `seeds`.
        latencies: batch size -> time, for batches of 1 and 128.
    """
    model, one, many = runs[0].model, latencies[1], latencies[128]
    return {
        "name": name,
        "role": role,
        "data": data.name,
        "profile": settings().profile.name,
        "parameters": models.count_parameters(model),
        "macs": models.count_macs(model),
        "size_mb": models.size_mb(model),
        "epochs": len(runs[0].history.rows),
        "seeds": list(seeds),
        "test_accuracy": [100 * value for value in test_accuracy],
        "test_images": len(data.test),
        "train_seconds": [run.seconds for run in runs],
        "latency_ms": one.median_ms,
        "latency_p10_ms": one.p10_ms,
        "latency_p90_ms": one.p90_ms,
        "latency_128_ms": many.median_ms,
        "threads": one.threads,
        "machine": timing.machine(),
    }
