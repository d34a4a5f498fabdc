"""Losses and metrics over shapes, types and extreme logits, against float64 NumPy (hypothesis).

What was found this way stands as a plain test beside the others.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kdutils import metrics
from kdutils.losses import LabelLoss, distillation_loss, logit_matching_loss, soft_target_loss

EASY = settings(max_examples=60, deadline=None, derandomize=True)
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
NUMBERS = st.floats(-1e4, 1e4, width=16) | st.sampled_from([-math.inf, 0.0, 60000.0, -60000.0])
TEMPERATURES = st.floats(0.05, 1000)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Student and teacher logits (N, C) in some float type, no row ruled out wholly; labels."""
    shape = draw(st.tuples(st.integers(1, 5), st.integers(2, 12)))
    logits = []
    for _ in range(2):
        values = draw(hnp.arrays(np.float64, shape, elements=NUMBERS))
        values[~np.isfinite(values).any(1), 0] = 0.0
        logits.append(torch.from_numpy(values).to(draw(st.sampled_from(DTYPES))))
    labels = draw(hnp.arrays(np.int64, shape[:1], elements=st.integers(0, shape[1] - 1)))
    kind = draw(st.sampled_from([torch.int64, torch.int32, torch.int16, torch.uint8]))
    return logits[0], logits[1], torch.from_numpy(labels).to(kind)


def log_softmax(logits: torch.Tensor, temperature: float = 1.0) -> np.ndarray:
    z = logits.double().numpy() / temperature
    z = z - z.max(1, keepdims=True)
    with np.errstate(divide="ignore"):
        return z - np.log(np.exp(z).sum(1, keepdims=True))


def divergence(teacher: np.ndarray, student: np.ndarray) -> float:
    """KL from log-probabilities; what has no probability counts nothing."""
    p = np.exp(teacher)
    with np.errstate(invalid="ignore"):
        terms = np.where(p == 0, 0.0, p * (teacher - student))
    return float(terms.sum(1).mean())


@EASY
@given(pairs(), TEMPERATURES)
def test_soft_target_loss(
    drawn: tuple[torch.Tensor, torch.Tensor, torch.Tensor], temperature: float
) -> None:
    student, teacher, _ = drawn
    value = soft_target_loss(student, teacher, temperature)
    expected = temperature**2 * divergence(
        log_softmax(teacher, temperature), log_softmax(student, temperature)
    )
    assert value >= 0 and value.dtype in (torch.float32, torch.float64)
    np.testing.assert_allclose(value.double().item(), expected, rtol=1e-5, atol=1e-6)


@EASY
@given(pairs(), TEMPERATURES, st.floats(0, 1, width=32))  # less would be 0 in float32
def test_distillation_loss_and_its_gradient(
    drawn: tuple[torch.Tensor, torch.Tensor, torch.Tensor], temperature: float, weight: float
) -> None:
    student, teacher, labels = drawn
    student = student.clone().requires_grad_()
    value = distillation_loss(student, teacher, labels, temperature, weight)
    log_p = log_softmax(student.detach())
    hard = -log_p[np.arange(len(labels)), labels.long().numpy()].mean()
    soft = temperature**2 * divergence(
        log_softmax(teacher, temperature), log_softmax(student.detach(), temperature)
    )
    terms = [w * term for w, term in ((weight, soft), (1 - weight, hard)) if w]
    np.testing.assert_allclose(value.double().item(), sum(terms), rtol=1e-4, atol=1e-4)
    if math.isfinite(sum(terms)):
        value.backward()
        assert torch.isfinite(student.grad).all()


@EASY
@given(pairs())
def test_label_loss_and_logit_matching(
    drawn: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> None:
    student, teacher, labels = drawn
    expected = -log_softmax(student)[np.arange(len(labels)), labels.long().numpy()].mean()
    found = LabelLoss()(student, None, labels).double().item()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)
    if torch.isfinite(student).all() and torch.isfinite(teacher).all():
        gap = student.double().numpy() - teacher.double().numpy()
        by_hand = ((gap - gap.mean(1, keepdims=True)) ** 2).mean() / 2
        found = logit_matching_loss(student, teacher).double().item()
        np.testing.assert_allclose(found, by_hand, rtol=1e-4, atol=1e-2)


@EASY
@given(pairs())
def test_metrics(drawn: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    logits, _, labels = drawn
    found = metrics.summarise(logits, labels)
    chosen, truth = logits.float().argmax(1).numpy(), labels.long().numpy()
    assert found.accuracy == np.float32((chosen == truth).mean())
    nll = -log_softmax(logits)[np.arange(len(truth)), truth].mean()
    np.testing.assert_allclose(found.nll, nll, rtol=1e-4, atol=1e-4)
    assert 0 <= found.ece <= 1
    bins = metrics.reliability(logits, labels)
    gap = sum(b.count * abs(b.accuracy - b.confidence) for b in bins) / len(truth)
    np.testing.assert_allclose(found.ece, gap, atol=1e-5)
    matrix = metrics.confusion_matrix(logits, labels)
    assert matrix.sum() == len(truth) and matrix.diag().sum() == (chosen == truth).sum()
    rows = metrics.class_similarity(logits, labels).sum(1)
    torch.testing.assert_close(rows[labels.long()], torch.ones(len(truth), dtype=torch.float64))
