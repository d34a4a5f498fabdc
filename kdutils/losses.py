"""The losses of the series. Each is a pure function of tensors; each names its source.

Notation: z are the student's logits, v the teacher's, y the labels, T the temperature, C classes.

    p_T(z) = softmax(z / T)                                        temperature softmax
    soft   = T^2 · KL( p_T(v) ‖ p_T(z) )                           what the teacher knows
    hard   = -log p_1(z)[y]                                        what the label says
    loss   = soft_weight · soft + (1 - soft_weight) · hard

Source: G. Hinton, O. Vinyals, J. Dean, "Distilling the Knowledge in a Neural Network", 2015,
arXiv:1503.02531, section 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


class Loss(Protocol):
    """What `train.fit` calls: one scalar from a batch. `teacher_logits` may be None."""

    def __call__(
        self, student_logits: Tensor, teacher_logits: Tensor | None, labels: Tensor
    ) -> Tensor: ...


def softened(logits: Tensor, temperature: float) -> Tensor:
    """p_T(z) = softmax(z / T): probabilities at a temperature (Hinton et al. 2015, eq. 1).

    Args:
        logits: float (..., C). Half precision is computed in float32.
        temperature: T > 0. Large T flattens, small T sharpens.

    Returns:
        float (..., C), each row sums to one.

    Raises:
        ValueError: `temperature` is not a finite number above zero.
    """
    check_temperature(temperature)
    return F.softmax(at_least_float32(logits) / temperature, dim=-1)


def soft_target_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """T^2 · KL(teacher_T ‖ student_T), summed over classes, averaged over the batch.

    Softening by T shrinks the gradient on the logits by 1/T^2; the factor T^2 gives it back, so
    that a soft weight means the same at every temperature (Hinton et al. 2015, section 2.1).

    Args:
        student_logits: float (N, C); the gradient flows into these.
        teacher_logits: float (N, C); treated as constants, no gradient flows back.
        temperature: T > 0.

    Returns:
        Scalar, >= 0, in nats times T^2; zero exactly when the two distributions agree. A class that
        the teacher rules out (a logit of -inf) counts 0.

    Raises:
        ValueError: a bad temperature, or logits that are not (N, C) or differ in shape.
    """
    check_temperature(temperature)
    check_same_shape(student_logits, teacher_logits)
    # At T = 1000 the divergence is a millionth of its terms: float32 would round it away.
    log_student = F.log_softmax(_precise(student_logits) / temperature, dim=-1)
    log_teacher = F.log_softmax(_precise(teacher_logits).detach() / temperature, dim=-1)
    ruled_out = log_teacher.exp() == 0  # 0 times infinity is not a number; here it is 0
    gap = log_teacher.masked_fill(ruled_out, 0) - log_student.masked_fill(ruled_out, 0)
    divergence = (log_teacher.exp() * gap).sum(dim=-1).mean()
    return (temperature**2 * divergence.clamp(min=0)).to(at_least_float32(student_logits).dtype)


def distillation_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    temperature: float = 4.0,
    soft_weight: float = 0.9,
) -> Tensor:
    """soft_weight · soft_target_loss + (1 - soft_weight) · cross entropy (Hinton et al. 2015).

    Args:
        student_logits, teacher_logits: float (N, C).
        labels: whole numbers (N,), values in 0..C-1.
        temperature: T > 0, for the soft term only; labels are compared at T = 1.
        soft_weight: in [0, 1]. We do not call it alpha: half the field means the soft term by
            that, the other half the hard one. A weight of 0 leaves its term out.

    Returns:
        Scalar.

    Raises:
        ValueError: a bad temperature, weight, shape or label.
    """
    check_weight(soft_weight)
    hard = (1 - soft_weight) * LabelLoss()(student_logits, None, labels)
    soft = soft_weight * soft_target_loss(student_logits, teacher_logits, temperature)
    if soft_weight in (0, 1):  # 0 times infinity is not a number
        return soft if soft_weight else hard
    return soft + hard


def logit_matching_loss(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Half the squared distance of mean-free logits, over C: the limit of `soft_target_loss`.

    As T grows, T^2 · KL tends to (1 / 2C) · sum_i ((z_i - mean z) - (v_i - mean v))^2
    (Hinton et al. 2015, section 2.1; Ba and Caruana 2014, arXiv:1312.6184, for matching logits).

    Args:
        student_logits, teacher_logits: float (N, C).

    Returns:
        Scalar, averaged over the batch.

    Raises:
        ValueError: logits that are not (N, C) or differ in shape.
    """
    check_same_shape(student_logits, teacher_logits)
    gap = at_least_float32(student_logits) - at_least_float32(teacher_logits).detach()
    return (gap - gap.mean(dim=-1, keepdim=True)).square().mean() / 2


@dataclass(frozen=True)
class LabelLoss:
    """Cross entropy with the labels, for `train.fit`. It ignores the teacher.

    `smoothing` mixes the one-hot target with the uniform one (Szegedy et al. 2016,
    arXiv:1512.00567, section 7): the control that softens targets without any knowledge.
    """

    smoothing: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.smoothing < 1:
            raise ValueError(
                f"Label smoothing is {self.smoothing}; choose a number from 0 up to, not 1."
            )

    def __call__(
        self, student_logits: Tensor, teacher_logits: Tensor | None, labels: Tensor
    ) -> Tensor:
        labels = check_labels(student_logits, labels)
        logits = at_least_float32(student_logits)
        return F.cross_entropy(logits, labels, label_smoothing=self.smoothing)


@dataclass(frozen=True)
class Distillation:
    """`distillation_loss` with its two settings filled in, for `train.fit`."""

    temperature: float = 4.0
    soft_weight: float = 0.9

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        check_weight(self.soft_weight)

    def __call__(
        self, student_logits: Tensor, teacher_logits: Tensor | None, labels: Tensor
    ) -> Tensor:
        if teacher_logits is None:
            raise ValueError(
                "Distillation needs teacher logits; pass soft_targets=SoftTargets(teacher, "
                "data.train) to fit."
            )
        return distillation_loss(
            student_logits, teacher_logits, labels, self.temperature, self.soft_weight
        )


def check_temperature(temperature: float) -> None:
    """Raise ValueError unless T is a finite number above zero."""
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(
            f"Temperature is {temperature}; it must be a finite number above zero, for example 4."
        )


def check_weight(soft_weight: float) -> None:
    """Raise ValueError unless the weight lies in [0, 1]."""
    if not 0 <= soft_weight <= 1:
        raise ValueError(
            f"Soft weight is {soft_weight}; it must lie between 0 (labels only) and 1 (teacher "
            "only)."
        )


def check_logits(logits: Tensor) -> None:
    """Raise ValueError unless these are float logits (N, C) of at least one image."""
    if not isinstance(logits, Tensor) or not logits.is_floating_point():
        what = logits.dtype if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(f"Logits must be a tensor of floats (N, C), not {what}.")
    if logits.ndim != 2 or 0 in logits.shape:
        raise ValueError(
            f"Logits have shape {tuple(logits.shape)}; they must be (N, C), one row an image. Put "
            "classes last and flatten the rest: logits.movedim(1, -1).flatten(0, -2)."
        )


def check_same_shape(student_logits: Tensor, teacher_logits: Tensor) -> None:
    """Raise ValueError unless both are (N, C) logits of one shape."""
    check_logits(student_logits)
    check_logits(teacher_logits)
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(
            f"Student logits have shape {tuple(student_logits.shape)}, teacher logits "
            f"{tuple(teacher_logits.shape)}; give both for the same images and classes."
        )


def check_labels(logits: Tensor, labels: Tensor) -> Tensor:
    """The labels as int64; ValueError unless they are (N,) whole numbers in 0..C-1 for (N, C)."""
    check_logits(logits)
    if labels.shape != logits.shape[:1]:
        raise ValueError(
            f"Logits have shape {tuple(logits.shape)} and labels {tuple(labels.shape)}; they must "
            "be (N, C) and (N,)."
        )
    if labels.dtype == torch.bool or labels.is_floating_point() or labels.is_complex():
        raise ValueError(
            f"Labels are {labels.dtype}; they must be whole numbers that name classes, for example "
            "labels.long()."
        )
    # On a GPU the check would wait for the device at every step; CUDA asserts there by itself.
    if labels.device.type == "cpu":
        low, high = labels.aminmax()
        if low < 0 or high >= logits.shape[1]:
            raise ValueError(
                f"Labels run from {int(low)} to {int(high)}, but the logits have "
                f"{logits.shape[1]} classes; labels must be 0 to {logits.shape[1] - 1}."
            )
    return labels.long()


def at_least_float32(logits: Tensor) -> Tensor:
    """Half precision overflows at small T; float32 and float64 stay as they are."""
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def _precise(logits: Tensor) -> Tensor:
    """float64, where the device has it."""
    return logits.float() if logits.device.type == "mps" else logits.double()
