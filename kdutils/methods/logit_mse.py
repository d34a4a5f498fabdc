"""Regress the teacher's logits: no softmax, no temperature.

    soft = 1/2 · mean over images and classes of (z - v)^2

Plain distillation tends to this as T grows, once both are centred (`losses.logit_matching_loss`).
Without centring, the student must also copy the mean of the logits, which no softmax can see.

Source: J. Ba and R. Caruana, "Do Deep Nets Really Need to be Deep?", NIPS 2014, arXiv:1312.6184,
eq. 2 (not centred); T. Kim and others, "Comparing Kullback-Leibler Divergence and Mean Squared
Error Loss in Knowledge Distillation", IJCAI 2021, arXiv:2105.08919. Both sum over the classes; we
take the mean, so that a weight of 1 means the same for 10 classes and for 1,000.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..losses import LabelLoss, at_least_float32, check_same_shape
from .parts import required


def logit_mse_loss(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Half the mean squared difference of logits (N, C). Scalar >= 0.

    Raises:
        ValueError: different shapes.
    """
    check_same_shape(student_logits, teacher_logits)
    difference = at_least_float32(student_logits) - at_least_float32(teacher_logits).detach()
    return difference.square().mean() / 2


@dataclass(frozen=True)
class LogitMSE:
    """soft_weight · logit_mse_loss + (1 - soft_weight) · cross entropy, for `train.fit`."""

    soft_weight: float = 0.9

    def __call__(self, logits: Tensor, teacher_logits: Tensor | None, labels: Tensor) -> Tensor:
        soft = logit_mse_loss(logits, required(teacher_logits, self))
        return self.soft_weight * soft + (1 - self.soft_weight) * LabelLoss()(logits, None, labels)
