"""The experiments that several notebooks share, so that each notebook runs alone and none is
done twice: whoever comes first trains, everybody after loads.

    data = series.load_data()
    teacher = series.teacher(data)
    baseline = series.baseline(data, seed=0)
    distilled = series.distilled(data, series.soft_targets(teacher, data), seed=0)
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from . import artifacts
from . import data as data_module
from .artifacts import Trained
from .losses import Distillation, LabelLoss
from .settings import Budget, settings
from .soft_targets import SoftTargets
from .train import Recipe

if TYPE_CHECKING:
    from .data import ImageData

# Chosen on validation accuracy; notebook 05 shows the sweep.
DISTILLATION = Distillation(temperature=4.0, soft_weight=0.9)

RECIPES: dict[str, Recipe] = {
    "teacher": Recipe(batch_size=256, learning_rate=0.5),
    "student": Recipe(batch_size=128, learning_rate=0.25),
}


def load_data() -> ImageData:
    """The data that `KDUTILS_DATA` names, cut to the sizes of `KDUTILS_PROFILE`."""
    budget = settings().profile.budget(None)
    return data_module.load(train_size=budget.train_size, test_size=budget.test_size)


def budget(data: ImageData) -> Budget:
    """How much work the current profile does on `data`."""
    return settings().profile.budget(data)


def recipe(network: str, epochs: int) -> Recipe:
    """The house recipe of a network for a number of epochs."""
    return replace(RECIPES[network], epochs=epochs)


def teacher(data: ImageData, progress: bool = True) -> Trained:
    """The teacher of the current profile."""
    plan = recipe("teacher", budget(data).teacher_epochs)
    return artifacts.train_or_load("teacher", "teacher", data, plan, progress=progress)


def baseline(data: ImageData, seed: int = 0, progress: bool = True) -> Trained:
    """The student trained on labels alone: what distillation has to beat."""
    plan = recipe("student", budget(data).student_epochs)
    return artifacts.train_or_load(
        "baseline", "student", data, plan, loss=LabelLoss(), seed=seed, progress=progress
    )


def soft_targets(teacher: Trained, data: ImageData) -> SoftTargets:
    """The teacher's memoised logits for the training images."""
    return artifacts.soft_targets(teacher.model, data)


def distilled(
    data: ImageData,
    targets: SoftTargets,
    seed: int = 0,
    loss: Distillation = DISTILLATION,
    progress: bool = True,
) -> Trained:
    """The student trained with soft targets: same start, batches, views and epochs as `baseline`
    of the same seed."""
    plan = recipe("student", budget(data).student_epochs)
    return artifacts.train_or_load(
        "distilled", "student", data, plan, loss=loss, soft_targets=targets, seed=seed,
        progress=progress,
    )  # fmt: skip
