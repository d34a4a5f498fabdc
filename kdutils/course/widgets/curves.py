"""The learning curves of "distil it yourself": artists that follow a training as it goes on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from ...train import Row
from ..plots.style import DISTILLED, GREY, STUDENT, new_figure, percent_axis
from .runs import RUNNING, Run
from .stage import Array, Word

SMOOTH = 16  # batches in the moving average of the thin line
LABELLED = 6  # the latest runs have their numbers in the figure; the table has all


class Curves:
    """One figure: labels only, the runs so far, and the run that goes on, batch by batch."""

    def __init__(self, data_name: str) -> None:
        title = "Distil it yourself: teacher's answers against labels only"
        self.figure = new_figure(9, 3.7, title, data_name)
        axes = self.axes = self.figure.subplots()
        axes.set(xlabel="epoch", ylabel="accuracy")
        axes.xaxis.get_major_locator().set_params(integer=True)
        percent_axis(axes.yaxis)
        axes.grid(axis="y")

        def line(colour: str, label: str, **style: Any) -> Any:
            return axes.plot([], [], color=colour, label=label, **style)[0]

        self._old = line(GREY, "earlier runs", lw=1, marker="o", ms=3)
        thin = {"lw": 0.8, "alpha": 0.6}
        self._thin = line(DISTILLED, "this run, in training batches", **thin)
        self._thin_base = line(STUDENT, "labels only, in training batches", **thin)
        self._base = line(STUDENT, "labels only, validation", ls="--", marker="s", ms=5)
        self._now = line(DISTILLED, "this run, validation", marker="o", ms=6)
        axes.legend(loc="upper left", bbox_to_anchor=(1.06, 1), borderaxespad=0)
        self._box = 1.0, 0.0, 1.0

    @property
    def artists(self) -> list[Artist]:
        return [self._old, self._thin, self._thin_base, self._now, self._base]

    def update(self, baseline: Sequence[Row], runs: Sequence[Run], steps: int) -> list[Word]:
        """Move the lines; the numbers of the runs come back. `steps`: batches in an epoch."""
        run = runs[-1] if runs else None
        _set_curve(self._base, baseline or (run.compared if run else []))
        _set_curve(self._now, run.rows if run else [])
        _set_curve(self._old, *(one.rows for one in runs[:-1]))
        going = run is not None and run.state == RUNNING  # what was live need not stay in the way
        epochs, shares = moving_average(run.batches if going else [], steps)
        now, other = self._thin, self._thin_base
        if run and run.comparing:
            now, other = other, now
        now.set_data(epochs + (run.begun if run else 0), shares)
        other.set_data([], [])
        return self._numbers(runs)

    def fit_axes(self, baseline: Sequence[Row], runs: Sequence[Run], length: int) -> bool:
        """Axes that hold every curve, in whole tens of per cent; whether they have changed.

        `length`: epochs there must be room for. What is drawn from batches counts too.
        """
        seen = [row["val_accuracy"] for row in baseline]
        seen += [row["val_accuracy"] for run in runs for row in (*run.rows, *run.compared)]
        if runs and runs[-1].state == RUNNING:
            seen += moving_average(runs[-1].batches, 1)[1].tolist()
        longest = max([length, *(len(run.rows) for run in runs)])
        low = max(0, math.floor(10 * (min(seen, default=0.1) - 0.02)) / 10)
        top = min(1, math.ceil(10 * (max(seen, default=0.9) + 0.02)) / 10)
        box, self._box = self._box, (longest + 0.4, low, top)
        self.axes.set(xlim=(0, longest + 0.4), ylim=(low, top))
        self.axes.yaxis.set_major_locator(MultipleLocator(0.1 if top - low > 0.35 else 0.05))
        return box != self._box

    def _numbers(self, runs: Sequence[Run]) -> list[Word]:
        """The latest runs' numbers right of their last points, pushed apart where they collide."""
        ended = sorted(
            ((run.accuracy, run) for run in runs[-LABELLED:] if run.accuracy),
            key=lambda pair: pair[0],
        )
        low, high = self.axes.get_ylim()
        least = 0.05 * (high - low)
        words, height = [], -1.0
        for accuracy, run in ended:
            height = max(accuracy, height + least)
            words.append(Word(self.axes, len(run.rows) + 0.08, height, f"#{run.number}"))
        return words


def still(baselines: dict[int, list[Row]], runs: Sequence[Run], data_name: str) -> Figure:
    """Every run so far and labels only, in one picture."""
    figure = new_figure(7, 3.6, "Distilled here, against labels only", data_name)
    axes = figure.subplots()
    for n, rows in sorted(baselines.items()):
        label = f"labels only, {counted(n)}"
        axes.plot(*points(rows), color=STUDENT, ls="--", marker="s", ms=5, label=label)
    for run in runs:
        if run.rows:
            label = f"#{run.number}: T = {run.temperature:.3g}, weight {run.soft_weight:.2f}"
            axes.plot(*points(run.rows), color=DISTILLED, marker="o", label=label,
                      alpha=1 if run is runs[-1] else 0.5)  # fmt: skip
    axes.set(xlabel="epoch", ylabel="validation accuracy")
    axes.xaxis.get_major_locator().set_params(integer=True)
    percent_axis(axes.yaxis)
    axes.grid(axis="y")
    axes.legend(loc="lower right")
    return figure


def moving_average(batches: Sequence[float], steps: int) -> tuple[Array, Array]:
    """(epochs, share right in the last `SMOOTH` batches); `steps` batches are an epoch."""
    shares = np.array(batches)
    sums = np.concatenate([[0.0], np.cumsum(shares)])
    ends = np.arange(1, len(sums))
    starts = np.maximum(ends - SMOOTH, 0)
    return ends / steps, (sums[ends] - sums[starts]) / (ends - starts)


def counted(epochs: int) -> str:
    return f"{epochs} epoch{'' if epochs == 1 else 's'}"


def points(rows: Sequence[Row]) -> tuple[list[float], list[float]]:
    return [row["epoch"] for row in rows], [row["val_accuracy"] for row in rows]


def _set_curve(line: Any, *curves: Sequence[Row]) -> None:
    """One or several learning curves in one artist, with a gap between them."""
    x: list[float] = []
    y: list[float] = []
    for rows in curves:
        epochs, values = points(rows)
        x += [*epochs, math.nan]
        y += [*values, math.nan]
    line.set_data(x, y)
