"""Attention transfer: the formula in float64 NumPy, its gradient, what it does not see."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kdutils.methods import AttentionTransfer
from kdutils.methods.attention import attention_loss, attention_map


def maps(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.tensor(np.random.default_rng(seed).normal(size=shape))


def by_hand(x: torch.Tensor) -> np.ndarray:
    energy = (x.numpy() ** 2).sum(1).reshape(len(x), -1)
    return energy / np.sqrt((energy**2).sum(1, keepdims=True))


def test_it_is_the_mean_squared_difference_of_maps_of_length_one() -> None:
    student, teacher = maps(4, 2, 5, 5), maps(4, 7, 5, 5, seed=1)  # any number of channels
    expected = ((by_hand(student) - by_hand(teacher)) ** 2).mean()
    assert attention_loss(student, teacher).item() == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(np.linalg.norm(attention_map(student), axis=1), 1)


def test_a_larger_map_is_averaged_first() -> None:
    student, teacher = maps(4, 2, 6, 6), maps(4, 3, 3, 3, seed=1)
    pooled = torch.tensor(student.numpy().reshape(4, 2, 3, 2, 3, 2).mean((3, 5)))
    expected = attention_loss(pooled, teacher).item()
    assert attention_loss(student, teacher).item() == pytest.approx(expected, rel=1e-12)


def test_it_is_zero_for_the_same_place_whatever_the_strength() -> None:
    student = maps(3, 4, 5, 5)
    assert attention_loss(student, -3 * student).item() == pytest.approx(0, abs=1e-15)


def test_its_gradient_is_that_of_finite_differences_and_none_reaches_the_teacher() -> None:
    student, teacher = maps(2, 2, 3, 3).requires_grad_(), maps(2, 4, 3, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: attention_loss(s, teacher.detach()), student)
    attention_loss(student, teacher).backward()
    assert teacher.grad is None and student.grad is not None


def test_what_is_no_map_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Attention needs maps \(N, C, H, W\), not \(4, 8\)"):
        attention_loss(maps(4, 8), maps(4, 8))


def test_pairs_are_summed_and_weighed() -> None:
    method = AttentionTransfer(["a", "b"], ["c", "d"], weight=3.0)
    student, teacher = maps(4, 2, 3, 3), maps(4, 5, 3, 3, seed=1)
    logits, labels = maps(4, 10).float(), torch.arange(4)
    value = method(logits, None, labels, {"a": student, "b": student}, {"c": teacher, "d": teacher})
    alone = torch.nn.functional.cross_entropy(logits, labels)
    expected = alone + 3 * 2 * attention_loss(student, teacher)
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)
