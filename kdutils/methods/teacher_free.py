"""Teacher-free distillation: a made-up teacher that knows only the label. A control.

The virtual teacher gives the label `sureness` and shares the rest equally. It is softened by T and
used like a real one:

    p(y) = sureness, p(other) = (1 - sureness) / (C - 1), softened: p^(1/T) / sum p^(1/T)
    loss = (1 - soft_weight) · cross entropy + soft_weight · T^2 · KL(softened p ‖ student at T)

Whatever it gains was not knowledge about classes or images.

Source: L. Yuan and others, "Revisiting Knowledge Distillation via Label Smoothing Regularization",
CVPR 2020, arXiv:1909.11723, eqs. 8-9. The authors' code softens the probabilities as if they were
logits, does not soften the student and multiplies by 40-100; we follow the paper, with Hinton's
T^2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..losses import LabelLoss, check_labels, check_weight, soft_target_loss


def virtual_teacher_logits(labels: Tensor, classes: int, sureness: float = 0.9) -> Tensor:
    """float32 (N, C): log probabilities of the made-up teacher for labels (N,).

    Raises:
        ValueError: the sureness is not between 1 / C and 1, or there is no second class.
    """
    if classes < 2 or not 1 / classes < sureness < 1:
        raise ValueError(
            f"A made-up teacher's sureness lies between chance and 1, got {sureness} for {classes} "
            "classes."
        )
    rest = math.log((1 - sureness) / (classes - 1))
    logits = torch.full((len(labels), classes), rest, device=labels.device)
    return logits.scatter_(1, labels.long().unsqueeze(1), math.log(sureness))


@dataclass(frozen=True)
class TeacherFree:
    """The loss above, for `train.fit`; it ignores any teacher. T and sureness are the paper's."""

    temperature: float = 20.0
    soft_weight: float = 0.5
    sureness: float = 0.9

    def __post_init__(self) -> None:
        check_weight(self.soft_weight)

    def __call__(self, logits: Tensor, teacher_logits: Tensor | None, labels: Tensor) -> Tensor:
        check_labels(logits, labels)
        made_up = virtual_teacher_logits(labels, logits.shape[1], self.sureness).to(logits.dtype)
        soft = soft_target_loss(logits, made_up, self.temperature)
        return self.soft_weight * soft + (1 - self.soft_weight) * LabelLoss()(logits, None, labels)
