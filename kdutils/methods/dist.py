"""Distillation from a stronger teacher (DIST): match relations instead of probabilities.

A student far smaller than its teacher cannot reach the same probabilities. It may still keep the
same *order and proportion*: within an image (which classes resemble it) and within a class (which
images of the batch show it most). Both are compared by Pearson's correlation r, which forgives any
shift and any positive scale. With p, q the softened outputs of teacher and student, (N, C):

    inter = mean over images  of 1 - r( q[i, :], p[i, :] )
    intra = mean over classes of 1 - r( q[:, j], p[:, j] )
    loss  = cross entropy + inter_weight · inter + intra_weight · intra

Source: T. Huang and others, "Knowledge Distillation from A Stronger Teacher", NeurIPS 2022,
arXiv:2205.10536, eqs. 7-10. The authors' code multiplies both by T^2; the paper's equations do not,
and neither do we.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..losses import LabelLoss, check_same_shape, softened
from .parts import required


def correlation_distance(a: Tensor, b: Tensor) -> Tensor:
    """1 - Pearson's r of each row: (N, D), (N, D) -> (N,), in [0, 2].

    A constant row has no correlation: its distance is 1, and no gradient flows.
    """
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    length = (a.square().sum(1) * b.square().sum(1)).clamp_min(1e-24).sqrt()
    return 1 - (a * b).sum(1) / length


def dist_loss(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float = 4.0
) -> tuple[Tensor, Tensor]:
    """The two relations, (inter, intra): scalars in [0, 2], zero where student = teacher.

    Args:
        student_logits, teacher_logits: float (N, C). With N = 1 there is no relation between
            images: intra is then 1 and without gradient.
        temperature: T > 0.

    Raises:
        ValueError: a bad temperature or different shapes.
    """
    check_same_shape(student_logits, teacher_logits)
    student = softened(student_logits, temperature)
    teacher = softened(teacher_logits.detach(), temperature)
    inter = correlation_distance(student, teacher).mean()
    return inter, correlation_distance(student.T, teacher.T).mean()


@dataclass(frozen=True)
class DIST:
    """Cross entropy plus the relations of `dist_loss`; the defaults are the paper's for CIFAR."""

    temperature: float = 4.0
    inter_weight: float = 2.0
    intra_weight: float = 2.0

    def __call__(self, logits: Tensor, teacher_logits: Tensor | None, labels: Tensor) -> Tensor:
        inter, intra = dist_loss(logits, required(teacher_logits, self), self.temperature)
        hard = LabelLoss()(logits, None, labels)
        return hard + self.inter_weight * inter + self.intra_weight * intra
