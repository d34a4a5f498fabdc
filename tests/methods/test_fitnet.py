"""FitNets' hint: the formula in float64 NumPy, its gradient, its adapters."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small import tiny_data
from torch import nn

from kdutils import models
from kdutils.methods import FitNet
from kdutils.methods.fitnet import hint_loss
from kdutils.train import Recipe, fit


def maps(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.tensor(np.random.default_rng(seed).normal(size=shape))


def test_the_hint_is_half_the_mean_squared_difference() -> None:
    student, teacher = maps(4, 3, 5, 5), maps(4, 3, 5, 5, seed=1)
    expected = 0.5 * ((teacher.numpy() - student.numpy()) ** 2).mean()
    assert hint_loss(student, teacher).item() == pytest.approx(expected, rel=1e-12)
    assert hint_loss(student, student).item() == 0


def test_its_gradient_is_that_of_finite_differences_and_none_reaches_the_teacher() -> None:
    student, teacher = maps(2, 2, 3, 3).requires_grad_(), maps(2, 2, 3, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: hint_loss(s, teacher.detach()), student)
    hint_loss(student, teacher).backward()
    assert teacher.grad is None and student.grad is not None


def test_the_term_is_the_hint_after_the_regressor_of_each_pair() -> None:
    method = FitNet(["a", "b"], ["c", "d"], [(2, 3), (4, 5)], weight=2.0).double()
    student = [maps(4, 2, 6, 6), maps(4, 4, 3, 3)]
    teacher = [maps(4, 3, 3, 3, seed=1), maps(4, 5, 3, 3, seed=2)]
    expected = 0.0
    for layer, s, t in zip(method.regressors, student, teacher, strict=True):
        size = t.shape[-1]
        s = s.numpy().reshape(*s.shape[:2], size, s.shape[2] // size, size, -1).mean((3, 5))
        w, b = (p.detach().numpy() for p in (layer.weight[:, :, 0, 0], layer.bias))
        guess = np.einsum("oc,nchw->nohw", w, s) + b[:, None, None]
        expected += 0.5 * ((t.numpy() - guess) ** 2).mean()
    assert method.term(student, teacher).item() == pytest.approx(expected, rel=1e-12)


def test_channels_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match=r"The hint is \(4, 3, 2, 2\), but the student gives"):
        hint_loss(maps(4, 2, 2, 2), maps(4, 3, 2, 2))
    with pytest.raises(ValueError, match="1 pairs of layers, but channels of 2"):
        FitNet(["a"], ["b"], [(1, 2), (3, 4)])


def test_first_weights_follow_from_the_seed_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, other, third = (FitNet(["a"], ["b"], [(2, 3)], seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    weights = [each.regressors[0].weight for each in (one, other, third)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_it_trains_a_student_on_the_teachers_maps() -> None:
    """Only the hint: half the mean squared difference must fall."""
    told: list[float] = []

    class Told(FitNet):
        def term(self, student, teacher):
            value = super().term(student, teacher)
            told.append(value.item())
            return value

    method = Told(["1"], ["2"], [(32, 128)], weight=10.0)
    student, teacher = models.build("student", 0), models.build("teacher", 1)
    assert isinstance(student[1], nn.Sequential)
    recipe = Recipe(epochs=2, batch_size=50, learning_rate=0.02)
    fit(student, tiny_data(100), recipe, loss=method, teacher=teacher, progress=False)
    assert told[-1] < told[0]
