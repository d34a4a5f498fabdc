"""Attention transfer: where a layer is active, not what it says.

The attention map of a layer is the sum of its squared channels at each position, as a vector of
length 1. The student's should look like the teacher's:

    Q  = sum over channels of |x_c|^2, flattened, divided by its length
    at = mean over images of ‖ Q_student - Q_teacher ‖^2 / (H·W)

No adapter is needed: channels are summed away, whatever their number.

Source: S. Zagoruyko and N. Komodakis, "Paying More Attention to Attention", ICLR 2017,
arXiv:1612.03928, eq. 2 with p = 2. The mean of the squares is that of the authors' code; the paper
writes the length itself, without the square.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from .parts import FeatureMethod, at_least_float32, same_size


def attention_map(features: Tensor) -> Tensor:
    """float (N, H·W): where the maps (N, C, H, W) are active; rows have length 1.

    Raises:
        ValueError: `features` are no maps.
    """
    if features.ndim != 4:
        raise ValueError(
            f"Attention needs maps (N, C, H, W), not {tuple(features.shape)}; name a layer before "
            "pooling."
        )
    return F.normalize(at_least_float32(features).square().sum(1).flatten(1), dim=1)


def attention_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Scalar >= 0 for maps (N, C_s, H, W) and (N, C_t, H', W'): the larger is averaged first.

    No gradient flows into the teacher's.
    """
    if student.ndim == teacher.ndim == 4:
        student, teacher = same_size(student, teacher)
    return (attention_map(student) - attention_map(teacher.detach())).square().mean()


class AttentionTransfer(FeatureMethod):
    """Cross entropy plus weight · `attention_loss`, summed over the pairs of layers.

    The paper's beta is 1,000, divided by the batch and the positions: about the default here.
    """

    def __init__(
        self, student_layers: Sequence[str], teacher_layers: Sequence[str], weight: float = 1000.0
    ) -> None:
        super().__init__(student_layers, teacher_layers, weight)

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        return attention_loss(student, teacher)
