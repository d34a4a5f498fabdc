"""FitNets: regress a hidden layer of the teacher, the "hint".

    hint = 1/2 · mean over images, channels and positions of ( t - r(s) )^2

s and t are maps of the student (the guided layer) and the teacher; the regressor r, one convolution
1x1, brings s to the teacher's channels. It is trained along and thrown away.

Source: A. Romero and others, "FitNets: Hints for Thin Deep Nets", ICLR 2015, arXiv:1412.6550,
eq. 3. The paper trains on the hint alone first, then on labels and soft targets; here the hint is
added to the cross entropy from the start, as later papers compare it. Where sizes differ, the larger
map is averaged instead of the paper's larger regressor; and a mean over the entries takes the place
of their sum, so that a weight means the same for all layers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .parts import FeatureMethod, at_least_float32, same_size


def hint_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Scalar >= 0: half the mean squared difference of two tensors of one shape (N, ...).

    No gradient flows into the teacher's.

    Raises:
        ValueError: different shapes.
    """
    if student.shape != teacher.shape:
        raise ValueError(
            f"The hint is {tuple(teacher.shape)}, but the student gives {tuple(student.shape)}; "
            "check `channels`, (student's, teacher's) of each pair of layers."
        )
    return (at_least_float32(student) - at_least_float32(teacher).detach()).square().mean() / 2


class FitNet(FeatureMethod):
    """Cross entropy plus weight · `hint_loss` of each pair of layers; the regressors are adapters.

    Args:
        channels: (student's, teacher's) channels of each pair of layers.
        seed: of the regressors' first weights; the global random state is left alone.
    """

    def __init__(
        self,
        student_layers: Sequence[str],
        teacher_layers: Sequence[str],
        channels: Sequence[tuple[int, int]],
        weight: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__(student_layers, teacher_layers, weight)
        if len(channels) != len(self.student_layers):
            raise ValueError(
                f"There are {len(self.student_layers)} pairs of layers, but channels of "
                f"{len(channels)}; give (student's, teacher's) for each."
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.regressors = nn.ModuleList(nn.Conv2d(s, t, 1) for s, t in channels)

    def term(self, student: list[Tensor], teacher: list[Tensor]) -> Tensor:
        pairs = (same_size(s, t) for s, t in zip(student, teacher, strict=True))
        terms = [hint_loss(r(s), t) for r, (s, t) in zip(self.regressors, pairs, strict=True)]
        return torch.stack(terms).sum()
