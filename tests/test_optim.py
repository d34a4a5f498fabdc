"""Muon against singular values in float64; who is trained by which optimizer; resuming."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small import tiny_data
from torch import Tensor, nn

from kdutils import models, optim
from kdutils.train import Recipe, fit

PLAN = Recipe(epochs=3, batch_size=50, learning_rate=0.05, momentum=0.9, warmup=0.1, muon=0.05)
LAYOUTS = (torch.contiguous_format, torch.channels_last)


def bank(out: int = 8, channels: int = 4, layout: torch.memory_format = LAYOUTS[1]) -> nn.Parameter:
    """Filters of unit length on average, as Muon keeps them."""
    values = torch.randn(out, channels, 3, 3, generator=torch.Generator().manual_seed(0))
    return nn.Parameter((values * (out**0.5 / values.norm())).to(memory_format=layout))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_step_is_the_nearest_orthogonal_matrix(layout: torch.memory_format) -> None:
    """U V^T of the gradient, by singular value decomposition; Newton-Schulz comes near it."""
    filters = bank(layout=layout)
    before = filters.detach().clone()
    gradient = torch.randn(filters.shape, generator=torch.Generator().manual_seed(1))
    filters.grad = gradient.to(memory_format=layout)
    optim.Muon([filters], rate=1e-3, momentum=0.0).step()
    u, _, v = torch.linalg.svd(gradient.flatten(1).double(), full_matrices=False)
    wanted, step = -(u @ v), (filters.detach() - before).flatten(1).double() / 1e-3
    # Setting the length again takes away the part of the step along the filters themselves.
    along = before.flatten(1).double()
    wanted -= along * (wanted * along).sum() / along.square().sum()
    alike = torch.nn.functional.cosine_similarity(step.flatten(), wanted.flatten(), dim=0)
    assert alike > 0.97
    assert torch.linalg.svdvals(step).median() == pytest.approx(1, abs=0.3)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_filters_without_a_gradient_stay_and_the_others_keep_their_place(
    layout: torch.memory_format,
) -> None:
    """A gradient for one filter moves that one only (up to the common length)."""
    filters = bank(layout=layout)
    before = filters.detach().clone()
    filters.grad = torch.zeros_like(filters)
    filters.grad[3, 2] = 1.0
    optim.Muon([filters], rate=0.05, momentum=0.0).step()
    change = filters.detach() / filters.detach()[0].norm() - before / before[0].norm()
    moved = change.abs().amax((2, 3)) > 1e-3
    assert moved.nonzero().tolist() == [[3, 2]]


def test_the_length_stays_one_per_filter() -> None:
    filters = nn.Parameter(7.0 * bank().detach())
    muon = optim.Muon([filters], rate=0.1, momentum=0.9)
    for seed in range(5):
        filters.grad = torch.randn(filters.shape, generator=torch.Generator().manual_seed(seed))
        muon.step()
        assert filters.norm().item() == pytest.approx(8**0.5, rel=1e-4)


def test_muon_has_the_learned_filters_and_sgd_the_rest() -> None:
    model = models.build("teacher", 0)
    parts = optim.optimizer(model, PLAN).parts
    assert [type(part) for part in parts] == [optim.Muon, optim.Sgd]
    filters = {id(p) for p in parts[0].filters}
    rest = {id(p) for group in parts[1].inner.param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        kind = id(parameter) in filters, id(parameter) in rest
        assert kind == (parameter.requires_grad and parameter.ndim == 4,
                        parameter.requires_grad and parameter.ndim != 4), name  # fmt: skip


def test_without_muon_all_is_sgd() -> None:
    model = models.build("student", 0)
    (sgd,) = optim.optimizer(model, replace(PLAN, muon=0.0)).parts
    assert sum(len(g["params"]) for g in sgd.inner.param_groups) == len(list(model.parameters()))
    assert [g["weight_decay"] for g in sgd.inner.param_groups] == [PLAN.weight_decay, 0.0]


def test_rates_are_shares_of_each_peak() -> None:
    both = optim.optimizer(models.build("student", 0), replace(PLAN, muon=0.2))
    both.set_rate(0.5)
    rates = [group["lr"] for part in both.parts for group in part.inner.param_groups]
    assert rates == [0.1, 0.025, 0.025]


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_muon_learns_and_resumes_bit_identically(tmp_path: Path) -> None:
    data = tiny_data(300)
    whole, halted, fresh = (models.build("pocket", seed) for seed in (0, 0, 7))
    history = fit(whole, data, PLAN, progress=False)
    fit(halted, data, PLAN, progress=False, checkpoint=tmp_path / "c",
        on_epoch=lambda row: row["epoch"] == 2)  # fmt: skip
    fit(fresh, data, PLAN, progress=False, checkpoint=tmp_path / "c")
    straight, resumed = weights(whole), weights(fresh)
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)
    assert history.last["val_accuracy"] > 0.5
    plain = models.build("pocket", 0)
    fit(plain, data, replace(PLAN, muon=0.0), progress=False)
    assert not torch.equal(straight["1.0.weight"], weights(plain)["1.0.weight"])
