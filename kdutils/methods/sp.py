"""Similarity-preserving distillation (SP): images that excite the teacher alike should excite the
student alike.

With Q the features of a batch, one flattened row an image, G = Q Qᵀ and every row of G divided by
its length, for student and teacher:

    sp = mean over images i of ‖ G_teacher[i, :] - G_student[i, :] ‖^2

No adapter is needed: both matrices are (N, N), whatever the layers' shapes.

Source: F. Tung and G. Mori, "Similarity-Preserving Knowledge Distillation", ICCV 2019,
arXiv:1907.09682, eqs. 1-4. The paper divides by N^2 and then multiplies by 3000; we divide by N,
so that a weight of 1 is sensible at any batch size.
"""

from __future__ import annotations

from torch import Tensor

from ..losses import at_least_float32
from .parts import FeatureMethod


def similarity_rows(features: Tensor) -> Tensor:
    """float (N, N): the similarities of a batch of features (N, ...), each row of length 1."""
    flat = at_least_float32(features).flatten(1)
    rows = flat @ flat.T
    return rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-12)


def sp_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Scalar in [0, 4]: features of the same N images, (N, ...) each, of any two shapes.

    Zero also where one side is the other times a positive factor.
    """
    difference = similarity_rows(student) - similarity_rows(teacher.detach())
    return difference.square().sum(1).mean()


class SP(FeatureMethod):
    """Cross entropy plus weight · `sp_loss`, summed over the pairs of layers."""

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        return sp_loss(student, teacher)
