"""Neuron selectivity transfer (NST): which places excite a channel, as a distribution of maps.

Each channel's map is one sample: a vector over positions, divided by its length. The student's set
of samples should look as if drawn from the teacher's: maximum mean discrepancy with the kernel
k(x, y) = (xᵀy)^2.

    nst = mean k(t, t') + mean k(s, s') - 2 · mean k(t, s)      over all pairs of channels

Student and teacher may have different numbers of channels; the larger map is pooled to the smaller.

Source: Z. Huang and N. Wang, "Like What You Like: Knowledge Distill via Neuron Selectivity
Transfer", 2017, arXiv:1707.01219, eqs. 5-7 (the polynomial kernel of degree 2).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ..losses import at_least_float32
from .parts import FeatureMethod, same_size


def nst_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Scalar >= 0, averaged over images.

    Args:
        student: float (N, C_s, H, W).
        teacher: float (N, C_t, H', W'); no gradient flows into it.
    """
    student, teacher = same_size(student, teacher.detach())
    s = F.normalize(at_least_float32(student).flatten(2), dim=2)
    t = F.normalize(at_least_float32(teacher).flatten(2), dim=2)

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.transpose(1, 2)).square().mean((1, 2))

    return (kernel(t, t) + kernel(s, s) - 2 * kernel(s, t)).mean()


class NST(FeatureMethod):
    """Cross entropy plus weight · `nst_loss`, summed over the pairs of layers."""

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        return nst_loss(student, teacher)
