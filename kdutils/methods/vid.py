"""Variational information distillation (VID): predict the teacher's features, and how surely.

A small network m maps the student's feature to the teacher's; each teacher channel c has a variance
of its own. The loss is the negative log-likelihood of a normal distribution, without its constant:

    vid = mean over images, channels, positions of  log σ_c + (t - m(s))^2 / (2 σ_c^2)

A channel that the student cannot predict gets a large σ and stops mattering. The value may fall
below zero.

Source: S. Ahn and others, "Variational Information Distillation for Knowledge Transfer", CVPR 2019,
arXiv:1904.05835, eqs. 5-6; m as in section 3.1: three 1x1 convolutions; σ^2 = softplus(α) + 1e-6.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..losses import at_least_float32
from .parts import FeatureMethod, same_size


def vid_loss(mean: Tensor, teacher: Tensor, variance: Tensor) -> Tensor:
    """Scalar: negative log-likelihood of `teacher` (N, C, H, W), constant left out.

    Args:
        mean: float (N, C, H, W), what the student predicts.
        variance: float (C,), > 0.
    """
    variance = variance.view(1, -1, 1, 1)
    error = (teacher.detach() - mean).square() / (2 * variance)
    return (0.5 * variance.log() + error).mean()


class VID(FeatureMethod):
    """Cross entropy plus weight · `vid_loss`; the predictors are adapters, trained alongside.

    Args:
        channels: (student's, teacher's) channels of each pair of layers.
    """

    def __init__(
        self,
        student_layers: tuple[str, ...],
        teacher_layers: tuple[str, ...],
        channels: tuple[tuple[int, int], ...],
        weight: float = 1.0,
        first_variance: float = 5.0,
    ) -> None:
        super().__init__(student_layers, teacher_layers, weight)
        self.predictors = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(s, t, 1), nn.ReLU(), nn.Conv2d(t, t, 1), nn.ReLU(), nn.Conv2d(t, t, 1)
            )
            for s, t in channels
        )
        start = math.log(math.expm1(first_variance))
        self.alphas = nn.ParameterList(nn.Parameter(torch.full((t,), start)) for _, t in channels)

    def term(self, student: list[Tensor], teacher: list[Tensor]) -> Tensor:
        total = student[0].new_zeros((), dtype=torch.float32)
        for predict, alpha, s, t in zip(
            self.predictors, self.alphas, student, teacher, strict=True
        ):
            s, t = same_size(at_least_float32(s), at_least_float32(t))
            total = total + vid_loss(predict(s), t, F.softplus(alpha) + 1e-6)
        return total
