"""The losses against closed forms, float64 NumPy and finite differences; planted bugs go red."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kdutils.losses import (
    Distillation,
    LabelLoss,
    distillation_loss,
    logit_matching_loss,
    soft_target_loss,
    softened,
)

SoftLoss = Callable[[Tensor, Tensor, float], Tensor]


def logits(seed: int, n: int = 6, classes: int = 10, scale: float = 3.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(n, classes, generator=generator, dtype=torch.float64)


def reference(student: np.ndarray, teacher: np.ndarray, temperature: float) -> float:
    """T^2 · KL(teacher ‖ student) written out with NumPy, independent of the package."""

    def probabilities(z: np.ndarray) -> np.ndarray:
        powers = np.exp((z - z.max(1, keepdims=True)) / temperature)
        return powers / powers.sum(1, keepdims=True)

    p, q = probabilities(teacher), probabilities(student)
    return float(temperature**2 * (p * np.log(p / q)).sum(1).mean())


def assert_is_soft_target_loss(loss: SoftLoss) -> None:
    """Everything that a right soft-target loss satisfies; each planted bug fails at least once."""
    for seed, (n, classes) in enumerate([(1, 2), (6, 10), (5, 37)]):
        student, teacher = logits(seed, n, classes), logits(seed + 50, n, classes)
        for temperature in (0.5, 1.0, 4.0, 20.0):
            expected = reference(student.numpy(), teacher.numpy(), temperature)
            assert loss(student, teacher, temperature).item() == pytest.approx(expected, rel=1e-9)
    teacher = logits(9)
    assert abs(loss(teacher.clone(), teacher, 4.0).item()) < 1e-12


def test_soft_target_loss_is_right() -> None:
    assert_is_soft_target_loss(soft_target_loss)


def _no_t2(s: Tensor, t: Tensor, temperature: float) -> Tensor:
    return soft_target_loss(s, t, temperature) / temperature**2


def _swapped(s: Tensor, t: Tensor, temperature: float) -> Tensor:
    return soft_target_loss(t, s, temperature)


def _mean_reduction(s: Tensor, t: Tensor, temperature: float) -> Tensor:
    log_student = F.log_softmax(s / temperature, -1)
    return temperature**2 * F.kl_div(log_student, F.softmax(t / temperature, -1))


def _softmax_twice(s: Tensor, t: Tensor, temperature: float) -> Tensor:
    return soft_target_loss(s.softmax(-1), t.softmax(-1), temperature)


def _over_the_batch(s: Tensor, t: Tensor, temperature: float) -> Tensor:
    return soft_target_loss(s.T, t.T, temperature)


@pytest.mark.filterwarnings("ignore:reduction")
@pytest.mark.parametrize(
    "bug", [_no_t2, _swapped, _mean_reduction, _softmax_twice, _over_the_batch]
)
def test_planted_bugs_turn_red(bug: SoftLoss) -> None:
    with pytest.raises(AssertionError):
        assert_is_soft_target_loss(bug)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
def test_gradient_is_t_times_the_difference_of_probabilities(temperature: float) -> None:
    student, teacher = logits(1).requires_grad_(), logits(2)
    (gradient,) = torch.autograd.grad(soft_target_loss(student, teacher, temperature), student)
    by_hand = temperature * (
        softened(student.detach(), temperature) - softened(teacher, temperature)
    )
    torch.testing.assert_close(gradient, by_hand / len(student))


@pytest.mark.parametrize("soft_weight", [0.0, 0.3, 1.0])
def test_gradient_against_finite_differences(soft_weight: float) -> None:
    student, teacher, labels = logits(3).requires_grad_(), logits(4), torch.arange(6)
    assert torch.autograd.gradcheck(
        lambda z: distillation_loss(z, teacher, labels, 3.0, soft_weight), (student,)
    )


def test_distillation_loss_mixes_its_two_terms() -> None:
    student, teacher, labels = logits(5), logits(6), torch.tensor([0, 1, 2, 3, 4, 9])
    soft = reference(student.numpy(), teacher.numpy(), 4.0)
    log_p = student - student.logsumexp(1, keepdim=True)
    hard = -log_p[torch.arange(6), labels].mean().item()
    for weight in (0.0, 0.25, 0.9, 1.0):
        got = distillation_loss(student, teacher, labels, 4.0, weight).item()
        assert got == pytest.approx(weight * soft + (1 - weight) * hard, rel=1e-9)
    default = distillation_loss(student, teacher, labels).item()
    assert default == pytest.approx(0.9 * soft + 0.1 * hard, rel=1e-9)


def test_large_temperature_is_logit_matching() -> None:
    student, teacher = logits(7), logits(8)
    limit = logit_matching_loss(student, teacher).item()
    errors = [abs(soft_target_loss(student, teacher, t).item() - limit) for t in (10, 100, 1000)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-2 * limit


def test_very_large_temperatures_reach_the_limit_and_never_fall_below_zero() -> None:
    student, teacher = logits(7).float(), logits(8).float()
    limit = logit_matching_loss(student, teacher).item()
    for temperature in (300, 1e4, 1e5):
        value = soft_target_loss(student, teacher, temperature).item()
        assert value == pytest.approx(limit, rel=20 / temperature)
    nearly = teacher + 1e-3 * logits(9).float()
    for temperature in (300, 1000, 3000):
        value = soft_target_loss(nearly, teacher, temperature).item()
        assert value == pytest.approx(logit_matching_loss(nearly, teacher).item(), rel=2e-2)
    assert all(soft_target_loss(teacher, teacher, t) >= 0 for t in (1e3, 1e6, 1e9, 1e15))


@pytest.mark.parametrize("hidden", [-torch.inf, -1e9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_class_that_the_teacher_rules_out_counts_nothing(
    hidden: float, dtype: torch.dtype
) -> None:
    student, teacher = logits(1).to(dtype), logits(2).to(dtype)
    masked, both = teacher.clone(), student.clone()
    masked[:, 7:], both[:, 7:] = hidden, hidden
    few = reference(student[:, :7].numpy(), teacher[:, :7].numpy(), 4.0)
    assert soft_target_loss(both, masked, 4.0).item() == pytest.approx(few, rel=1e-5)
    assert soft_target_loss(masked, masked, 4.0) == 0
    student.requires_grad_()
    soft_target_loss(student, masked, 4.0).backward()
    expected = 4 * (softened(student.detach(), 4.0) - softened(masked, 4.0)) / 6
    torch.testing.assert_close(student.grad, expected)


def test_a_student_that_rules_out_what_the_teacher_expects_is_infinitely_wrong() -> None:
    student, teacher = logits(1), logits(2)
    student[0, 3] = -torch.inf
    assert soft_target_loss(student, teacher, 4.0) == torch.inf


def test_a_weight_of_zero_leaves_its_term_out() -> None:
    student, labels = logits(1), torch.arange(6)
    student[:, 9] = -torch.inf  # an infinite soft term, but not at the labels
    only_labels = distillation_loss(student, logits(2), labels, soft_weight=0.0)
    assert only_labels == F.cross_entropy(student, labels)
    masked = student.clone()
    masked[:, 0] = -torch.inf  # an infinite hard term
    only_soft = distillation_loss(masked, masked, labels, soft_weight=1.0)
    assert only_soft == 0


@pytest.mark.parametrize("shape", [(10,), (2, 3, 4), (2, 3, 4, 4), (0, 10), (3, 0), ()])
def test_logits_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    z, labels = torch.zeros(shape), torch.zeros(shape[:1], dtype=torch.int64)
    for call in (
        lambda: soft_target_loss(z, z, 4.0),
        lambda: logit_matching_loss(z, z),
        lambda: distillation_loss(z, z, labels),
        lambda: LabelLoss()(z, None, labels),
    ):
        with pytest.raises(ValueError, match=r"must be \(N, C\)"):
            call()


def test_logits_that_are_no_floats_are_refused() -> None:
    for bad in (torch.zeros(6, 10, dtype=torch.int64), (logits(1), logits(2)), {"logits": 1}):
        with pytest.raises(ValueError, match="tensor of floats"):
            soft_target_loss(bad, logits(2), 4.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.int8, torch.uint8])
def test_labels_of_every_whole_type_are_taken(dtype: torch.dtype) -> None:
    student, teacher, labels = logits(1), logits(2), torch.arange(6)
    expected = distillation_loss(student, teacher, labels)
    assert distillation_loss(student, teacher, labels.to(dtype)) == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bool])
def test_labels_that_are_no_whole_numbers_are_refused(dtype: torch.dtype) -> None:
    labels = torch.arange(6).to(dtype)
    for loss in (LabelLoss(), Distillation()):
        with pytest.raises(ValueError, match=f"{dtype}; they must be whole numbers"):
            loss(logits(1), logits(2), labels)


def test_no_gradient_reaches_the_teacher() -> None:
    student, teacher = logits(1).requires_grad_(), logits(2).requires_grad_()
    distillation_loss(student, teacher, torch.arange(6)).backward()
    assert teacher.grad is None
    assert student.grad is not None


def test_half_precision_at_a_small_temperature_stays_finite() -> None:
    student, teacher = logits(1, scale=40).half(), logits(2, scale=40).half()
    value = soft_target_loss(student, teacher, 1e-3)
    assert value.dtype == torch.float32 and torch.isfinite(value)


def test_softened_sums_to_one_and_keeps_the_order() -> None:
    z = logits(3)
    for temperature in (0.1, 1.0, 50.0):
        p = softened(z, temperature)
        torch.testing.assert_close(p.sum(-1), torch.ones(6, dtype=torch.float64))
        assert (p.argmax(-1) == z.argmax(-1)).all()


def test_label_smoothing_against_the_written_out_form() -> None:
    z, labels = logits(4), torch.arange(6)
    target = torch.full((6, 10), 0.1 / 10, dtype=torch.float64)
    target[torch.arange(6), labels] += 0.9
    expected = -(target * z.log_softmax(-1)).sum(-1).mean()
    torch.testing.assert_close(LabelLoss(0.1)(z, None, labels), expected)


def test_loss_objects_call_the_pure_functions() -> None:
    z, v, labels = logits(4), logits(5), torch.arange(6)
    assert Distillation(2.0, 0.5)(z, v, labels) == distillation_loss(z, v, labels, 2.0, 0.5)
    assert LabelLoss()(z, None, labels) == F.cross_entropy(z, labels)
    assert repr(Distillation()) == "Distillation(temperature=4.0, soft_weight=0.9)"


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_temperatures_are_refused(temperature: float) -> None:
    for call in (
        lambda: softened(logits(1), temperature),
        lambda: soft_target_loss(logits(1), logits(2), temperature),
        lambda: Distillation(temperature=temperature),
    ):
        with pytest.raises(ValueError, match="finite number above zero"):
            call()


@pytest.mark.parametrize("weight", [-0.1, 1.1, float("nan")])
def test_bad_weights_are_refused(weight: float) -> None:
    with pytest.raises(ValueError, match="between 0"):
        distillation_loss(logits(1), logits(2), torch.arange(6), 4.0, weight)
    with pytest.raises(ValueError, match="between 0"):
        Distillation(soft_weight=weight)


def test_other_errors_say_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="same images and classes"):
        soft_target_loss(logits(1, 6), logits(2, 5), 4.0)
    with pytest.raises(ValueError, match="same images and classes"):
        logit_matching_loss(logits(1, 6), logits(2, 5))
    with pytest.raises(ValueError, match="labels must be 0 to 9"):
        distillation_loss(logits(1), logits(2), torch.full((6,), 10))
    with pytest.raises(ValueError, match=r"\(N, C\) and \(N,\)"):
        LabelLoss()(logits(1), None, torch.arange(5))
    with pytest.raises(ValueError, match="needs teacher logits"):
        Distillation()(logits(1), None, torch.arange(6))
    with pytest.raises(ValueError, match="smoothing"):
        LabelLoss(1.0)
