"""Recipes that make no sense are refused; what a run is said to be; histories without a row."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small import TinyNet, tiny_data

from kdutils import train
from kdutils.losses import LabelLoss
from kdutils.recipe import History, Recipe

QUICK = Recipe(epochs=3, batch_size=64, learning_rate=0.1)


def test_older_runs_keep_their_identity() -> None:
    """Fields that came later count only where they are used."""

    def said(recipe: Recipe) -> dict[str, object]:
        return train.identity(TinyNet(), tiny_data(), recipe, LabelLoss(), None, 0)["recipe"]

    assert set(said(QUICK)) == {
        "epochs", "batch_size", "learning_rate", "momentum", "weight_decay", "warmup", "augment",
    }  # fmt: skip
    assert said(replace(QUICK, ema=0.9))["ema"] == 0.9
    assert said(replace(QUICK, cutout=8))["cutout"] == 8
    assert said(replace(QUICK, muon=0.1))["muon"] == 0.1
    assert said(replace(QUICK, weight_decay=0.0))["weight_decay"] == 0.0


def test_triangular_rate_climbs_then_falls() -> None:
    rates = [train.triangular(step, 100, 0.2) for step in range(100)]
    peak = max(range(100), key=rates.__getitem__)
    assert 18 <= peak <= 21 and 0.95 < rates[peak] <= 1
    assert rates[:peak] == sorted(rates[:peak]) and rates[peak:] == sorted(rates[peak:])[::-1]
    assert min(rates) > 0


@pytest.mark.parametrize(
    "bad",
    [{"epochs": 0}, {"batch_size": 0}, {"warmup": 1.0}, {"ema": 1.0}, {"cutout": -1},
     {"muon": 1.5}, {"learning_rate": 0.0}, {"learning_rate": -1}, {"learning_rate": float("nan")},
     {"momentum": 1.0}, {"weight_decay": -1e-3}],
)  # fmt: skip
def test_senseless_recipes_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(
        ValueError, match=r"at least one epoch|share of all steps|side in pixels|turn|rate above"
    ):
        Recipe(**bad)


def test_a_numpy_seed_is_the_same_run() -> None:
    plain, numpy = (
        train.identity(TinyNet(), tiny_data(), QUICK, LabelLoss(), None, seed)
        for seed in (3, np.int64(3))
    )
    assert plain == numpy and type(numpy["seed"]) is int


def test_a_history_without_a_row_says_so() -> None:
    empty = History()
    assert str(empty) == "no epoch finished" and len(empty.frame()) == 0
    assert "val_accuracy" in empty.frame().columns
    with pytest.raises(ValueError, match="no epoch of the training was finished"):
        _ = empty.last
