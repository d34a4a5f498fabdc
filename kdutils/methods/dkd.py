"""Decoupled knowledge distillation (DKD).

Plain distillation ties two things together: how sure the teacher is of the label (target), and how
it ranks the other classes (non-target). The surer the teacher, the less the ranking counts. DKD
gives each a weight of its own. With p the softened teacher, q the softened student, y the label:

    target     = KL( [p_y, 1 - p_y] ‖ [q_y, 1 - q_y] )
    non-target = KL( p without y, renormalised ‖ q without y, renormalised )
    loss       = T^2 · (target_weight · target + other_weight · non-target) + cross entropy

Source: B. Zhao and others, "Decoupled Knowledge Distillation", CVPR 2022, arXiv:2203.08679, eq. 7.
The authors' code also raises the soft term from zero over the first 20 epochs; the paper's equation
does not, and neither do we.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..losses import LabelLoss, at_least_float32, check_labels, check_same_shape, check_temperature
from .parts import required


def dkd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    temperature: float = 4.0,
    target_weight: float = 1.0,
    other_weight: float = 8.0,
) -> Tensor:
    """The soft term of DKD, averaged over the batch.

    Args:
        student_logits, teacher_logits: float (N, C), C >= 2; no gradient flows into the teacher's.
        labels: int64 (N,).
        temperature: T > 0.
        target_weight, other_weight: alpha and beta of the paper.

    Returns:
        Scalar >= 0, zero where both softened distributions agree.

    Raises:
        ValueError: a bad temperature, shape or label.
    """
    check_temperature(temperature)
    check_same_shape(student_logits, teacher_logits)
    check_labels(student_logits, labels)
    own = F.one_hot(labels.long(), student_logits.shape[1]).bool()
    student = at_least_float32(student_logits)
    teacher = at_least_float32(teacher_logits.detach())

    def split(logits: Tensor) -> tuple[Tensor, Tensor]:
        """log [p_y, 1 - p_y] as (N, 2), and log probabilities of the others as (N, C - 1)."""
        scaled = logits / temperature
        others = scaled[~own].view(len(logits), -1)
        pair = torch.stack([scaled[own], others.logsumexp(1)], 1)
        return pair.log_softmax(1), others.log_softmax(1)

    (student_pair, student_others), (teacher_pair, teacher_others) = split(student), split(teacher)
    target = F.kl_div(student_pair, teacher_pair, reduction="batchmean", log_target=True)
    other = F.kl_div(student_others, teacher_others, reduction="batchmean", log_target=True)
    return temperature**2 * (target_weight * target + other_weight * other)


@dataclass(frozen=True)
class DKD:
    """Cross entropy plus `dkd_loss`, for `train.fit`; the defaults are the paper's for CIFAR."""

    temperature: float = 4.0
    target_weight: float = 1.0
    other_weight: float = 8.0

    def __call__(self, logits: Tensor, teacher_logits: Tensor | None, labels: Tensor) -> Tensor:
        soft = dkd_loss(
            logits, required(teacher_logits, self), labels, self.temperature, self.target_weight,
            self.other_weight,
        )  # fmt: skip
        return LabelLoss()(logits, None, labels) + soft
