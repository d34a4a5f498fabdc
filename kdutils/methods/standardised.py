"""Logit standardisation: the student need not speak as loudly as its teacher.

Both sides' logits are brought to mean 0 and standard deviation 1, image by image, before the
softmax. The temperature then acts on the pattern alone: a very sure teacher and a small student
meet at the same loudness.

    z'   = (z - mean z) / std z
    soft = T^2 · KL( softmax(v' / T) ‖ softmax(z' / T) )

Source: S. Sun and others, "Logit Standardization in Knowledge Distillation", CVPR 2024,
arXiv:2403.01427, algorithm 1. The paper divides by the standard deviation over all C classes; the
authors' code by that of a sample (C - 1). We follow the paper.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..losses import LabelLoss, at_least_float32, check_same_shape, soft_target_loss
from .parts import required


def standardised(logits: Tensor) -> Tensor:
    """float (N, C): each row with mean 0 and standard deviation 1; a constant row becomes 0."""
    logits = at_least_float32(logits)
    centred = logits - logits.mean(1, keepdim=True)
    return centred / centred.square().mean(1, keepdim=True).clamp_min(1e-14).sqrt()


def standardised_loss(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float = 2.0
) -> Tensor:
    """`soft_target_loss` of standardised logits, (N, C) each. Scalar >= 0; it does not change when
    either side's rows are shifted, or scaled by a positive factor.

    Raises:
        ValueError: a bad temperature or different shapes.
    """
    check_same_shape(student_logits, teacher_logits)
    return soft_target_loss(standardised(student_logits), standardised(teacher_logits), temperature)


@dataclass(frozen=True)
class StandardisedDistillation:
    """Distillation on standardised logits; the paper's defaults: T = 2, weight 9 beside 0.1 for
    labels, here divided by 9.1."""

    temperature: float = 2.0
    soft_weight: float = 0.99

    def __call__(self, logits: Tensor, teacher_logits: Tensor | None, labels: Tensor) -> Tensor:
        soft = standardised_loss(logits, required(teacher_logits, self), self.temperature)
        hard = LabelLoss()(logits, None, labels)
        return self.soft_weight * soft + (1 - self.soft_weight) * hard
