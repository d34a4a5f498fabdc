"""The budget of the pitfalls of notebook 07, and their teachers: good, weak, by heart, smoothed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from .. import models, pretrained
from ..losses import LabelLoss
from ..train import Recipe, Row, evaluate, fit, predict
from . import experiments

if TYPE_CHECKING:
    from ..data import ImageData

# A long training of the teacher, of which the story needs the beginning.
LONG_TEACHER = Recipe(epochs=32, batch_size=256, learning_rate=0.3, cutout=8)


@dataclass(frozen=True)
class Budget:
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


TINY = Budget(
    512, 1, 200, teacher_epochs=1, cool_images=512, by_heart_epochs=1, weak_epochs=1
)  # to see that it runs


class Teachers:
    """The teachers of the story, from `folder` or trained when first needed; all in eval mode.

    raw: the teacher of the course, stopped early. good: that one, after a short while with a
    falling learning rate. smoothed: the same with label smoothing. overfitted: the good one,
    trained on with the student's images alone, unaugmented, until it knows them by heart. weak:
    the student's own network after few epochs. strong: what notebook 02 gives.
    """

    NAMES = ("raw", "good", "smoothed", "overfitted", "weak", "strong")

    def __init__(self, data: ImageData, part: ImageData, budget: Budget, folder: Path) -> None:
        self.data, self.part, self.budget, self.folder = data, part, budget, folder

    def __call__(self, name: str) -> nn.Module:
        if name == "strong":
            return experiments.teacher(self.data, progress=False).model
        path = self.folder / f"{name}.safetensors"
        if not path.exists():
            model, rows = getattr(self, f"_{name}")()
            facts = {"data": self.data.fingerprint, "data_name": self.data.name, "rows": rows}
            pretrained.save_model(model, path, facts)
        return pretrained.load_model(path, models.build(*self._what(name)), self.data)

    def _what(self, name: str, seed: int = 0) -> tuple[str, int, int]:
        return "student" if name == "weak" else "teacher", seed, len(self.data.classes)

    def _raw(self) -> tuple[nn.Module, list[Row]]:
        drawn = self.data.is_synthetic
        known = experiments.RECIPES["teacher", True] if drawn else LONG_TEACHER
        last = min(self.budget.teacher_epochs, known.epochs)
        return self._fit("raw", self.data, known, on_epoch=lambda row: row["epoch"] >= last)

    def _good(self, smoothing: float = 0.0) -> tuple[nn.Module, list[Row]]:
        images = self.data.train.subset(min(self.budget.cool_images, len(self.data.train)), seed=1)
        return self._fit(
            "good", replace(self.data, train=images),
            Recipe(epochs=1, batch_size=256, learning_rate=0.1),
            start=self("raw"), loss=LabelLoss(smoothing),
        )  # fmt: skip

    def _smoothed(self) -> tuple[nn.Module, list[Row]]:
        return self._good(0.2)

    def _weak(self) -> tuple[nn.Module, list[Row]]:
        recipe = replace(self.budget.recipe, epochs=self.budget.weak_epochs)
        return self._fit("weak", self.part, recipe, seed=99)

    def _overfitted(self) -> tuple[nn.Module, list[Row]]:
        recipe = Recipe(
            epochs=self.budget.by_heart_epochs, batch_size=128, learning_rate=0.05,
            weight_decay=0.0, augment=False,
        )  # fmt: skip
        return self._fit("overfitted", self.part, recipe, start=self("good"))

    def _fit(
        self,
        name: str,
        data: ImageData,
        recipe: Recipe,
        start: nn.Module | None = None,
        seed: int = 0,
        **more: Any,
    ) -> tuple[nn.Module, list[Row]]:
        model = models.build(*self._what(name, seed))
        if start is not None:
            model.load_state_dict(start.state_dict())
        return model, fit(model, data, recipe, seed=seed, progress=False, **more).rows

    def about(self, name: str) -> dict[str, Any]:
        """Accuracies in per cent, on validation and on the student's images, and the standard
        deviation of the logits; measured once."""
        path = self.folder / f"{name}.json"
        if not path.exists():
            model, first = self(name), self.part.train.subset(min(2000, len(self.part.train)))
            logits = predict(model, self.data.val)
            pretrained.write_json(path, {
                "network": getattr(model, "name", ""),
                "parameters": models.count_parameters(model),
                "val_accuracy": round(100 * evaluate(model, self.data.val).accuracy, 2),
                "train_accuracy": round(100 * evaluate(model, first).accuracy, 2),
                "logit_spread": round(float((logits - logits.mean(1, keepdim=True)).std()), 2),
            })  # fmt: skip
        return pretrained.read_json(path, f"{path.name} is gone", "run it again")
