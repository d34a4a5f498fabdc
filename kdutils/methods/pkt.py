"""Probabilistic knowledge transfer (PKT): keep who is whose neighbour.

From each image, pick a neighbour with a probability that grows with the cosine of their features:

    K(i, j) = (1 + cos(x_i, x_j)) / 2,    p(j | i) = K(i, j) / sum over k ≠ i of K(i, k)
    pkt     = mean over images i of KL( p_teacher(· | i) ‖ p_student(· | i) )

Source: N. Passalis and A. Tefas, "Learning Deep Representations with Probabilistic Knowledge
Transfer", ECCV 2018, arXiv:1803.10837, eqs. 4-6 and 9. The authors' code counts an image as its own
neighbour and averages over all N^2 pairs; the paper leaves it out and sums.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .parts import FeatureMethod, normalised_rows


def neighbour_probabilities(features: Tensor) -> Tensor:
    """float (N, N): p(j | i) of a batch of features (N, ...), N >= 2; zero on the diagonal."""
    rows = normalised_rows(features)
    kernel = (1 + rows @ rows.T) / 2
    kernel = kernel.clamp_min(0) * (1 - torch.eye(len(rows), device=rows.device, dtype=rows.dtype))
    return kernel / kernel.sum(1, keepdim=True).clamp_min(1e-12)


def pkt_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Scalar >= 0, nats: features of the same N images, (N, ...) each, of any two shapes.

    Zero also where either side's rows are multiplied by positive factors. N = 1 gives 0.
    """
    p = neighbour_probabilities(teacher.detach())
    q = neighbour_probabilities(student)
    return (torch.xlogy(p, p) - p * q.clamp_min(1e-12).log()).sum(1).mean()


class PKT(FeatureMethod):
    """Cross entropy plus weight · `pkt_loss`, summed over the pairs of layers."""

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        return pkt_loss(student, teacher)
