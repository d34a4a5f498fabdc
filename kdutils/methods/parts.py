"""What several methods share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..losses import LabelLoss, at_least_float32


def required(teacher_logits: Tensor | None, method: object) -> Tensor:
    """The teacher's logits.

    Raises:
        ValueError: there are none.
    """
    if teacher_logits is None:
        raise ValueError(
            f"{type(method).__name__} needs teacher logits; pass soft_targets=SoftTargets(teacher, "
            "data.train) or teacher=... to fit."
        )
    return teacher_logits


def normalised_rows(values: Tensor) -> Tensor:
    """float (N, D): every row of (N, ...) flattened and divided by its length; zero stays zero."""
    return torch.nn.functional.normalize(at_least_float32(values).flatten(1), dim=1)


def same_size(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Two maps (N, C, H, W) with the smaller one's height and width: the larger is averaged."""
    height = min(student.shape[2], teacher.shape[2])
    width = min(student.shape[3], teacher.shape[3])

    def pooled(maps: Tensor) -> Tensor:
        if maps.shape[2:] == (height, width):
            return maps
        return torch.nn.functional.adaptive_avg_pool2d(maps, (height, width))

    return pooled(student), pooled(teacher)


class FeatureMethod(nn.Module):
    """Cross entropy plus weight · a term that compares layers, pair by pair.

    A method is a subclass with `compare(student, teacher)` for one pair of features; see
    `train.fit` for how it is called.

    Args:
        student_layers, teacher_layers: names as `model.named_modules()` gives them, in pairs.
        weight: of the term, >= 0.
    """

    def __init__(
        self, student_layers: Sequence[str], teacher_layers: Sequence[str], weight: float = 1.0
    ) -> None:
        super().__init__()
        if len(student_layers) != len(teacher_layers) or not student_layers:
            raise ValueError(
                f"Layers are compared in pairs; got {len(student_layers)} of the student and "
                f"{len(teacher_layers)} of the teacher."
            )
        self.student_layers, self.teacher_layers = tuple(student_layers), tuple(teacher_layers)
        self.weight = weight

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Scalar, for one pair of layers."""
        raise NotImplementedError

    def term(self, student: list[Tensor], teacher: list[Tensor]) -> Tensor:
        """Scalar: the sum over the pairs."""
        return torch.stack([self.compare(s, t) for s, t in zip(student, teacher, strict=True)]).sum()

    def forward(
        self,
        logits: Tensor,
        teacher_logits: Tensor | None,
        labels: Tensor,
        student_features: Mapping[str, Tensor],
        teacher_features: Mapping[str, Tensor],
    ) -> Tensor:
        student = [student_features[name] for name in self.student_layers]
        teacher = [teacher_features[name] for name in self.teacher_layers]
        return LabelLoss()(logits, None, labels) + self.weight * self.term(student, teacher)
