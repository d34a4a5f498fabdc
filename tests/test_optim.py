"""Muon against singular values in float64; who is trained by which optimizer; resuming."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small import tiny_data
from torch import Tensor, nn

from kdutils import models, optim
from kdutils.train import Recipe, fit, triangular

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
    optim.Muon([filters], lr=1e-3, momentum=0.0).step()
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
    optim.Muon([filters], lr=0.05, momentum=0.0).step()
    change = filters.detach() / filters.detach()[0].norm() - before / before[0].norm()
    moved = change.abs().amax((2, 3)) > 1e-3
    assert moved.nonzero().tolist() == [[3, 2]]


def test_the_length_stays_one_per_filter() -> None:
    filters = nn.Parameter(7.0 * bank().detach())
    muon = optim.Muon([filters], lr=0.1, momentum=0.9)
    for seed in range(5):
        filters.grad = torch.randn(filters.shape, generator=torch.Generator().manual_seed(seed))
        muon.step()
        assert filters.norm().item() == pytest.approx(8**0.5, rel=1e-4)


def test_muon_has_the_learned_filters_and_sgd_the_rest() -> None:
    model = models.build("teacher", 0)
    parts = optim.optimizers(model, PLAN)
    assert [type(part) for part in parts] == [optim.Muon, torch.optim.SGD]
    filters, rest = (
        {id(p) for group in part.param_groups for p in group["params"]} for part in parts
    )
    for name, parameter in model.named_parameters():
        kind = id(parameter) in filters, id(parameter) in rest
        assert kind == (parameter.requires_grad and parameter.ndim == 4,
                        parameter.requires_grad and parameter.ndim != 4), name  # fmt: skip


def test_without_muon_all_is_sgd() -> None:
    model = models.build("student", 0)
    (sgd,) = optim.optimizers(model, replace(PLAN, muon=0.0))
    assert sum(len(g["params"]) for g in sgd.param_groups) == len(list(model.parameters()))
    assert [g["weight_decay"] for g in sgd.param_groups] == [PLAN.weight_decay, 0.0]
    assert all(g["nesterov"] and g["momentum"] == PLAN.momentum for g in sgd.param_groups)


def test_adapters_have_sgd_whatever_their_shape() -> None:
    adapter = nn.Conv2d(3, 4, kernel_size=1)
    muon, sgd = optim.optimizers(models.build("student", 0), PLAN, adapter.parameters())
    filters, rest = (
        {id(p) for group in part.param_groups for p in group["params"]} for part in (muon, sgd)
    )
    assert {id(p) for p in adapter.parameters()} <= rest and not filters & rest


def test_a_run_of_steps_is_that_of_pytorchs_muon() -> None:
    """Momentum, Nesterov, coefficients and rate: torch's on the matrix, to bfloat16's accuracy."""
    ours, theirs = bank(), nn.Parameter(bank().detach().flatten(1))
    muon = optim.Muon([ours], lr=0.02, momentum=0.9)
    reference = torch.optim.Muon([theirs], lr=0.02, momentum=0.9, weight_decay=0.0)
    for seed in range(6):
        gradient = torch.randn(ours.shape, generator=torch.Generator().manual_seed(seed))
        ours.grad, theirs.grad = gradient, gradient.flatten(1)
        muon.step(), reference.step()
        with torch.no_grad():
            theirs.mul_(8**0.5 / theirs.norm())
    torch.testing.assert_close(ours.detach().flatten(1), theirs.detach(), atol=3e-3, rtol=0.02)
    moved = (ours.detach() - bank().detach()).norm()
    assert moved > 0.1  # far more than the tolerance: a step without Nesterov would be seen


@pytest.mark.parametrize("shape", [(6, 20), (20, 6)])
def test_orthogonal_keeps_the_singular_vectors(shape: tuple[int, int]) -> None:
    """In float64 U^T X V is diagonal, and the diagonal is what the quintic makes of S."""
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0)).double()
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    inside = u.T @ optim.orthogonal(matrix) @ v.T
    values, (a, b, c) = s / s.square().sum().sqrt(), optim.NEWTON_SCHULZ
    for _ in range(5):
        values = a * values + b * values**3 + c * values**5
    torch.testing.assert_close(inside, torch.diag(values))
    assert values.min() > 0.5 and values.max() < 1.3


def test_bfloat16_is_used_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, honest = [], optim.orthogonal
    monkeypatch.setattr(optim, "orthogonal", lambda x: seen.append(x.dtype) or honest(x))
    for dtype in (torch.float32, torch.bfloat16):
        filters = bank()
        filters.grad = torch.randn_like(filters)
        optim.Muon([filters], lr=0.1, momentum=0.9, dtype=dtype).step()
        assert filters.dtype == torch.float32
    assert seen == [torch.float32, torch.bfloat16]


def test_one_factor_sets_the_rate_of_both(monkeypatch: pytest.MonkeyPatch) -> None:
    """In every step each optimizer has its own peak times the same share, to the last one."""
    seen: dict[type, list[float]] = {optim.Muon: [], torch.optim.SGD: []}
    for kind, rates in seen.items():

        def noting(self, closure=None, honest=kind.step, rates=rates):
            rates.append(self.param_groups[-1]["lr"])
            honest(self)

        monkeypatch.setattr(kind, "step", noting)
    recipe = replace(PLAN, epochs=2, learning_rate=0.2, muon=0.1)
    history = fit(models.build("student", 0), tiny_data(300), recipe, progress=False)
    shares = [triangular(step, 12, recipe.warmup) for step in range(12)]
    assert seen[torch.optim.SGD] == pytest.approx([0.2 * share for share in shares])
    assert seen[optim.Muon] == pytest.approx([0.1 * share for share in shares])
    assert history.column("learning_rate") == pytest.approx([0.2 * shares[5], 0.2 * shares[11]])


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


def test_muon_looks_ahead_as_nesterov_does() -> None:
    """Two steps by hand: the second turns along g + m (s - g), where s is the slow average."""
    filters = bank()
    muon = optim.Muon([filters], lr=0.01, momentum=0.9)
    first, second = (
        torch.randn(filters.shape, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2)
    )
    filters.grad = first.clone()
    muon.step()
    before = filters.detach().clone()
    filters.grad = second.clone()
    muon.step()
    slow = 0.9 * (0.1 * first) + 0.1 * second
    turn = optim.orthogonal((0.1 * second + 0.9 * slow).flatten(1)).reshape(filters.shape)
    wanted = before - 0.01 * turn
    torch.testing.assert_close(filters.detach(), wanted * (8**0.5 / wanted.norm()))


def test_orthogonal_does_not_depend_on_the_size_of_the_gradient() -> None:
    matrix = torch.randn(4, 9, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(optim.orthogonal(2**-13 * matrix), optim.orthogonal(2**7 * matrix))
