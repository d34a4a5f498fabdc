"""Learning curves: accuracy and loss by epoch (notebooks 02, 03, 05), accuracy by time (06)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import style

_AXIS_NAMES = {
    "val_accuracy": "validation accuracy",
    "train_accuracy": "training accuracy",
    "train_loss": "training loss, nats",
    "val_nll": "validation loss (NLL), nats",
    "seconds": "time since the start, s",
    "learning_rate": "learning rate",
}


@style.styled
def learning_curves(
    histories: Mapping[str, Any],
    y: str | Sequence[str] = "val_accuracy",
    *,
    levels: Mapping[str, float] | None = None,
    data_name: str = "",
    title: str | None = None,
) -> Figure:
    """One panel for each key `y` of the histories' rows, one line for each name.

    Args:
        histories: name -> a History, its rows (a list of dicts with `epoch`), or a list of those,
            one for each seed: then the seeds are thin lines and their mean a thick one. Names
            without an epoch are left out.
        y: key of the rows, or several.
        levels: name -> where another model ended, in the unit of `y`; a dashed line.
        data_name, title: of the figure.
    """
    keys, levels = (y,) if isinstance(y, str) else tuple(y), levels or {}
    runs = {name: _runs(value) for name, value in histories.items()}
    runs = {name: found for name, found in runs.items() if found}
    title = title or "Learning curves"
    if not runs:
        return style.nothing(title, data_name)
    colours, alone = style.role_colours([*runs, *levels]), len(keys) == 1
    lines = len(runs) + len(levels)
    size = (7.5, 3.5) if alone else (min(9, 1.4 + 4.2 * len(keys)), 3.3 + 0.17 * lines)
    figure = style.new_figure(*size, title, data_name)
    for axes, key in zip(figure.subplots(1, len(keys), squeeze=False)[0], keys, strict=True):
        for name, found in runs.items():
            _draw_runs(axes, name, found, key, colours[name], alone)
        for name, level in levels.items():
            label = _label(name, _worded(key, level), alone)
            axes.axhline(level, color=colours[name], ls="--", lw=1.4, label=label)
        axes.set(xlabel="epoch", ylabel=_AXIS_NAMES.get(key, key.replace("_", " ")))
        axes.xaxis.get_major_locator().set_params(integer=True)
        if "accuracy" in key:
            style.percent_axis(axes.yaxis)
        axes.grid(axis="y")
        if lines > 1 or _worded(key, 0):
            style.legend_beside(axes) if alone else style.legend_above(axes, 1)
    return figure


def _runs(value: Any) -> list[list[dict[str, float]]]:
    """Rows of one history, or of several; those without an epoch are left out."""
    if hasattr(value, "rows"):
        value = list(value.rows)
    if not len(value):
        return []
    return (
        [list(value)] if isinstance(value[0], Mapping) else [r for one in value for r in _runs(one)]
    )


def _worded(key: str, value: float) -> str:
    """Where a line ends; a learning rate's last value tells nobody anything."""
    if "accuracy" in key:
        return f"{100 * value:.1f} %"
    return f"{value:.3g}" if "loss" in key or "nll" in key else ""


def _draw_runs(axes: Axes, name: str, runs: list[Any], key: str, colour: str, beside: bool) -> None:
    shortest = min(len(rows) for rows in runs)
    epochs = [row["epoch"] for row in runs[0][:shortest]]
    values = np.array([[row[key] for row in rows[:shortest]] for rows in runs], dtype=float)
    if len(runs) > 1:
        axes.plot(epochs, values.T, color=colour, lw=0.9, alpha=0.5)
        ends = np.full(len(runs), epochs[-1])
        axes.plot(ends, values[:, -1], ".", color=colour, ms=5, alpha=0.7)
    mean = values.mean(0)
    parts = [_worded(key, mean[-1]), f"mean of {len(runs)} seeds" if len(runs) > 1 else ""]
    label = _label(name, ", ".join(part for part in parts if part), beside)
    axes.plot(epochs, mean, "o-" if shortest <= 30 else "-", ms=3.5, color=colour, label=label)


def _label(name: str, words: str, beside: bool) -> str:
    words = f" ({words})" if words else ""
    return style.legend_name(name + (words.replace(" ", "\n", 1) if beside else words))


@style.styled
def accuracy_over_time(records: Sequence[Mapping[str, Any]], *, data_name: str = "") -> Figure:
    """Validation accuracy against training time, one line for each recorded arm.

    Faint lines are the seeds, the strong one is their mean, dashed where a longer training of the
    same role is shown. Epochs are placed at the times of the quickest seed: the others may have
    shared their machine.

    Args:
        records: as `long_runs.summaries` gives them: each with `name`, `role`, `epochs` and `runs`,
            whose `curve` has the columns `seconds` (since the start) and `val_accuracy` (0..1).
        data_name: stands under the title.
    """
    longest = {row["role"]: row["epochs"] for row in sorted(records, key=lambda row: row["epochs"])}
    figure = style.new_figure(9, 3.9, "What longer training buys", data_name)
    axes = figure.subplots()
    for record in records:
        curves = [run["curve"] for run in record["runs"]]
        minutes = np.array(min((c["seconds"] for c in curves), key=lambda times: times[-1])) / 60
        accuracy = np.array([c["val_accuracy"] for c in curves], dtype=float)
        colour, seeds = style.role_colour(record["role"]), len(curves)
        if seeds > 1:
            axes.plot(minutes, accuracy.T, color=colour, lw=0.7, alpha=0.35)
        label = f"{record['name']},\n{record['epochs']} epochs" + f", {seeds} seeds" * (seeds > 1)
        look = "-" if record["epochs"] == longest[record["role"]] else "--"
        mean = accuracy.mean(0)
        axes.plot(minutes, mean, color=colour, lw=2, ls=look, label=style.legend_name(label))
    axes.set(xlabel="training time, minutes", ylabel="validation accuracy")
    style.percent_axis(axes.yaxis)
    axes.grid(axis="y")
    style.legend_beside(axes)
    return figure
