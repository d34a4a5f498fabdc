"""Relational knowledge distillation (RKD): keep the shape that a batch has in feature space.

The student need not place images where its teacher does. It should keep their distances (in units
of the batch's mean distance) and the angles of all triples. h is the Huber loss:

    distance = mean over pairs   of h( d_student(i, j), d_teacher(i, j) ),  d = ‖x_i - x_j‖ / mean
    angle    = mean over triples of h( cos ∠(i, j, k) of student, the same of teacher )

The mean distance makes the loss of a pair depend on the rest of the batch.

Source: W. Park and others, "Relational Knowledge Distillation", CVPR 2019, arXiv:1904.05068,
eqs. 3-8. Means over all pairs and triples, as in the authors' code; the paper writes sums.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..losses import at_least_float32
from .parts import FeatureMethod


def distances(features: Tensor) -> Tensor:
    """float (N, N): Euclidean distances of the rows of (N, D), in units of their mean over pairs of
    different images. No NaN in the gradient where two rows are equal."""
    squares = (features.unsqueeze(0) - features.unsqueeze(1)).square().sum(-1)
    positive = squares > 0
    found = torch.where(positive, squares, torch.ones_like(squares)).sqrt() * positive
    pairs = max(1, len(features) * (len(features) - 1))
    return found / (found.sum() / pairs).clamp_min(1e-12)


def angles(features: Tensor) -> Tensor:
    """float (N, N, N): [j, i, k] is the cosine of the angle at image j between images i and k."""
    directions = F.normalize(features.unsqueeze(0) - features.unsqueeze(1), dim=2)
    return directions @ directions.transpose(1, 2)


def rkd_loss(
    student: Tensor, teacher: Tensor, distance_weight: float = 1.0, angle_weight: float = 2.0
) -> Tensor:
    """Scalar >= 0, zero where the two batches have the same shape (also moved, turned or scaled).

    Args:
        student, teacher: float (N, D_s) and (N, D_t), or (N, C, H, W), which are averaged over
            positions; no gradient flows into the teacher's.
        distance_weight, angle_weight: 1 : 2 in the paper.
    """
    s, t = (_pooled(at_least_float32(f)) for f in (student, teacher.detach()))
    distance = F.smooth_l1_loss(distances(s), distances(t))
    return distance_weight * distance + angle_weight * F.smooth_l1_loss(angles(s), angles(t))


def _pooled(features: Tensor) -> Tensor:
    return features.flatten(2).mean(2) if features.ndim > 2 else features


class RKD(FeatureMethod):
    """Cross entropy plus weight · `rkd_loss`, summed over the pairs of layers."""

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        return rkd_loss(student, teacher)
