"""How weights are changed: SGD with Nesterov momentum, and Muon for filters if asked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

NEWTON_SCHULZ = (3.4445, -4.775, 2.0315)  # K. Jordan 2024: a quintic, steepest at zero


class Rates(Protocol):
    """What is needed of a `train.Recipe`."""

    learning_rate: float
    momentum: float
    weight_decay: float
    muon: float


class Muon(Optimizer):
    """Steps that turn all directions of a filter bank by the same amount.

    The momentum of a gradient is mostly a few strong directions. Muon makes all of them equally
    long (it replaces the matrix by the nearest orthogonal one, see `orthogonal`), so the weak ones
    learn too. Source: K. Jordan and others, "Muon: An optimizer for hidden layers in neural
    networks", 2024; the length of the filters as in K. Jordan, arXiv:2404.00498.

    A filter bank (out, in, h, w) counts as the matrix (out, in·h·w). Batch norm follows it, so its
    length does not matter; after each step it is set to one per filter on average. That takes the
    place of weight decay, and makes `lr` relative: 0.1 turns filters by up to 0.1 radians a step.
    (PyTorch's own Muon takes matrices only, and always bfloat16: on a processor without it a
    second a step.) `dtype` is what `orthogonal` computes in.
    """

    def __init__(
        self,
        filters: Iterable[nn.Parameter],
        lr: float,
        momentum: float,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(filters, {"lr": lr, "momentum": momentum})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            for filters in (p for p in group["params"] if p.grad is not None):
                state, gradient = self.state[filters], filters.grad
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(gradient)
                slow = state["momentum_buffer"].lerp_(gradient, 1 - group["momentum"])
                ahead = gradient.lerp(slow, group["momentum"])  # Nesterov
                turn = orthogonal(ahead.flatten(1).to(self.dtype)).reshape(ahead.shape)
                taller = max(1.0, len(turn) / turn[0].numel()) ** 0.5
                filters.add_(turn, alpha=-group["lr"] * taller)
                filters.mul_(len(filters) ** 0.5 / filters.norm().clamp_min(1e-12))


def orthogonal(matrix: Tensor, steps: int = 5) -> Tensor:
    """About U V^T of `matrix` = U S V^T: singular values between 0.5 and 1.5, without an SVD.

    Args:
        matrix: float (rows, columns).
        steps: of the Newton-Schulz iteration X <- aX + b(XX^T)X + c(XX^T)^2 X.
    """
    a, b, c = NEWTON_SCHULZ
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / x.norm().clamp_min(1e-7)  # no singular value above 1, where it would diverge
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if matrix.shape[0] > matrix.shape[1] else x


def optimizers(
    model: nn.Module,
    rates: Rates,
    adapters: Iterable[nn.Parameter] = (),
    dtype: torch.dtype = torch.float32,
) -> list[Optimizer]:
    """What `rates` ask for: SGD for all, or Muon (in `dtype`) for filters and SGD for the rest.

    Weight decay acts on matrices and filters, not on biases and norms. `adapters`, the weights of
    a method, always have SGD: their length matters.
    """
    learned = [p for p in model.parameters() if p.requires_grad]
    turned = [p for p in learned if rates.muon and p.ndim == 4]
    rest = [p for p in learned if not (rates.muon and p.ndim == 4)]
    rest += [p for p in adapters if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in rest if p.ndim > 1], "weight_decay": rates.weight_decay},
        {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    made: list[Optimizer] = []
    if turned:
        made.append(Muon(turned, rates.muon, rates.momentum, dtype))
    if groups:
        made.append(SGD(groups, rates.learning_rate, rates.momentum, nesterov=rates.momentum > 0,
                        foreach=True))  # fmt: skip
    return made


def blend(average: dict[str, Tensor], state: dict[str, Tensor], ema: float, update: int) -> None:
    """average = kept * average + (1 - kept) * state, in place; counters are copied.

    Args:
        ema: how much is kept in the long run.
        update: which one this is, from 1: less is kept at the start, of an average still poor.
    """
    kept = min(ema, update / (update + 9))
    for name, value in state.items():
        if value.is_floating_point():
            average[name].lerp_(value, 1 - kept)
        else:
            average[name].copy_(value)
