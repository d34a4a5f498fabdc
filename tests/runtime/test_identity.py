"""What a thing is: settings, state, names and source decide; addresses and weights do not."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import threading
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdutils import models
from kdutils.losses import Distillation, LabelLoss, distillation_loss
from kdutils.runtime.identity import NoIdentity, identity_of

SCALE = 1.0


class Own(nn.Module):
    """A loss whose T no repr shows."""

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        return distillation_loss(student, teacher, labels, self.temperature, 0.9)


class Dropping(nn.Module):
    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.p, self.training)


class Ensemble(nn.Module):
    def __init__(self, weights: list[float]) -> None:
        super().__init__()
        self.register_buffer("mixing", torch.tensor(weights))


@dataclass
class Settings:
    temperature: float
    note: str = ""


class Plain:
    def __init__(self, weight: Tensor) -> None:
        self.weight = weight

    def __call__(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(student, labels, self.weight)


def closure(temperature: float):
    return lambda s, t, y: distillation_loss(s, t, y, temperature, 0.9)


def defaulted(temperature: float):
    def loss(s, t, y, T=temperature):
        return distillation_loss(s, t, y, T, 0.9)

    return loss


def mixed(weights: list[float]) -> str:
    return identity_of(Ensemble(weights), frozen=True)


def partial(temperature: float):
    return functools.partial(distillation_loss, temperature=temperature)


@pytest.mark.parametrize(
    "make, one, other",
    [(Own, 1.0, 8.0), (Dropping, 0.1, 0.5), (Settings, 2.0, 4.0), (closure, 1.0, 8.0),
     (defaulted, 1.0, 8.0), (partial, 1.0, 8.0), (LabelLoss, 0.0, 0.1), (Distillation, 1.0, 4.0),
     (nn.Dropout, 0.1, 0.2), (mixed, [0.5, 0.5], [0.4, 0.6]),
     (Plain, torch.ones(3), torch.tensor([1.0, 1.0, 2.0])),
     (Settings, torch.tensor([1.0]), torch.tensor([1.0]).double())],
)  # fmt: skip
def test_settings_decide(make, one: object, other: object) -> None:
    assert identity_of(make(one)) == identity_of(make(one))
    assert identity_of(make(one)) != identity_of(make(other))


def test_two_lambdas_of_one_line_are_told_apart() -> None:
    first, second = (lambda s, t, y: s.sum()), (lambda s, t, y: s.mean())
    assert identity_of(first) != identity_of(second)


def test_a_global_of_the_users_counts_where_it_is_read() -> None:
    global SCALE

    def reads(s, t, y):
        return SCALE * s.sum()

    def does_not(s, t, y):
        return s.SCALE

    before = identity_of(reads), identity_of(does_not)
    SCALE = 2.0
    after = identity_of(reads), identity_of(does_not)
    SCALE = 1.0
    assert before[0] != after[0] and before[1] == after[1]
    assert before[0] == identity_of(reads)


def test_numbers_are_what_they_count() -> None:
    assert identity_of(Distillation(4, 0.9)) == identity_of(Distillation(np.float64(4.0), 0.9))
    assert identity_of(Settings(True)) != identity_of(Settings(1))


def test_a_method_of_a_class_counts() -> None:
    def made(factor: str) -> type:
        space: dict[str, object] = {"__name__": "__main__"}
        exec(f"class Loss:\n def __call__(self, s, t, y): return {factor} * s.sum()", space)
        return space["Loss"]

    assert identity_of(made("2")()) != identity_of(made("3")())
    assert identity_of(made("2")()) == identity_of(made("2")())


def test_weights_count_only_when_asked_for_and_modes_and_hooks_never() -> None:
    one, other = models.build("student", 0), models.build("student", 1)
    assert identity_of(one) == identity_of(other)
    assert identity_of(one, weights=True) != identity_of(other, weights=True)
    before = identity_of(one, weights=True)
    one.eval().register_forward_hook(lambda *_: None)
    one.metadata = {"epochs": 3}
    assert identity_of(one, weights=True) == before
    one[0][1].running_mean += 1
    assert identity_of(one, weights=True) != before
    assert identity_of(one, frozen=True) == identity_of(other, frozen=True)  # batch norm moves
    assert identity_of(models.build("pocket", 0)) != identity_of(models.build("teacher", 0))


def test_circles_and_shared_parts_come_to_an_end() -> None:
    one = Settings(2.0)
    one.note = one
    assert identity_of(one) != identity_of(Settings(2.0))


def test_another_process_finds_the_same() -> None:
    code = (
        "import sys; sys.path[:0] = ['tests', 'tests/runtime']\n"
        "from test_identity import *\n"
        "for thing in (Own(2.0), closure(3.0), partial(2.0), Settings({1.5, 2.5, 'a'})): "
        "print(identity_of(thing))"
    )
    seen = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                       env={**os.environ, "PYTHONHASHSEED": seed}).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(seen) == 1 and seen.pop().count("\n") == 4


def test_what_has_none_is_refused_and_a_fingerprint_helps() -> None:
    watched = Settings(2.0, threading.Event())
    with pytest.raises(NoIdentity, match="a lock, which has no identity.*fingerprint"):
        identity_of(watched)
    watched.fingerprint = "mine"
    assert identity_of(watched).startswith("Settings ")
