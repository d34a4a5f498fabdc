"""How weights are changed: SGD with Nesterov momentum, and Muon for hidden layers if asked.

Both are PyTorch's own. `optimizer(model, recipe)` gives them as one object with one learning rate.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Plan(Protocol):
    """What is needed of a `train.Recipe`."""

    learning_rate: float
    momentum: float
    weight_decay: float
    muon: float


class Sgd:
    """Nesterov momentum; weight decay on matrices and filters, not on biases and norms."""

    def __init__(self, parameters: Iterable[nn.Parameter], plan: Plan) -> None:
        learned = list(parameters)
        groups = [
            {"params": [p for p in learned if p.ndim > 1], "weight_decay": plan.weight_decay},
            {"params": [p for p in learned if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self.peak = plan.learning_rate
        self.inner = torch.optim.SGD(
            [group for group in groups if group["params"]],
            lr=plan.learning_rate,
            momentum=plan.momentum,
            nesterov=plan.momentum > 0,
            foreach=True,
        )

    def step(self) -> None:
        self.inner.step()


class Muon:
    """Steps that turn all directions of a weight matrix by the same amount.

    The momentum of a gradient is mostly a few strong directions. Muon makes all of them equally
    long (it replaces the matrix by the nearest orthogonal one, by Newton-Schulz iteration), so the
    weak ones learn too. Source: K. Jordan and others, "Muon: An optimizer for hidden layers in
    neural networks", 2024; the length of the filters as in K. Jordan, arXiv:2404.00498.

    A filter bank (out, in, h, w) counts as the matrix (out, in·h·w). Batch norm follows it, so its
    length does not matter; after each step it is set to one per filter on average. That takes the
    place of weight decay, and makes `rate` relative: 0.1 turns filters by up to 0.1 radians a step.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], rate: float, momentum: float) -> None:
        self.filters = list(parameters)
        self.matrices = [nn.Parameter(as_matrix(p.detach())) for p in self.filters]
        self.peak = rate
        self.inner = torch.optim.Muon(
            self.matrices, lr=rate, momentum=momentum, nesterov=True, weight_decay=0.0
        )

    def step(self) -> None:
        for matrix, filters in zip(self.matrices, self.filters, strict=True):
            matrix.grad = None if filters.grad is None else as_matrix(filters.grad)
        self.inner.step()
        with torch.no_grad():
            for matrix in self.matrices:
                matrix.mul_(len(matrix) ** 0.5 / matrix.norm().clamp_min(1e-12))


class Optimizers:
    """Several optimizers that act as one."""

    def __init__(self, parts: list[Sgd | Muon], parameters: list[nn.Parameter]) -> None:
        self.parts, self.parameters = parts, parameters

    def set_rate(self, share: float) -> None:
        """Set all learning rates to this share of their peak."""
        for part in self.parts:
            for group in part.inner.param_groups:
                group["lr"] = part.peak * share

    def zero_grad(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    def step(self) -> None:
        for part in self.parts:
            part.step()

    def state_dict(self) -> list[dict[str, Any]]:
        return [part.inner.state_dict() for part in self.parts]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        for part, state in zip(self.parts, states, strict=True):
            part.inner.load_state_dict(state)


def optimizer(model: nn.Module, plan: Plan) -> Optimizers:
    """What `plan` asks for: SGD for all, or Muon for filters and SGD for the rest."""
    learned = [p for p in model.parameters() if p.requires_grad]
    turned = [p for p in learned if plan.muon and p.ndim == 4]
    rest = [p for p in learned if not (plan.muon and p.ndim == 4)]
    parts: list[Sgd | Muon] = []
    if turned:
        parts.append(Muon(turned, plan.muon, plan.momentum))
    if rest:
        parts.append(Sgd(rest, plan))
    return Optimizers(parts, learned)


def as_matrix(filters: Tensor) -> Tensor:
    """(out, in, h, w) as (out, h·w·in), sharing memory where the layout allows it."""
    rows = filters if filters.is_contiguous() else filters.permute(0, 2, 3, 1)
    return rows.reshape(len(filters), -1)
