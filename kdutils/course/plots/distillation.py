"""The figures of notebook 05: temperature and weight, and differences seed by seed (06, 07 too)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from . import style


@style.styled
def sweep_heatmap(
    values: Any,
    temperatures: Sequence[float],
    weights: Sequence[float],
    *,
    baseline: float,
    data_name: str = "",
) -> Figure:
    """Validation accuracy for each temperature (row) and soft weight (column), (R, K) fractions.

    The colour is the gain over the `baseline` in points: one hue for better, one for worse.
    """
    values, title = 100 * style.array(values).astype(float), "Temperature and soft weight"
    if not np.isfinite(values).any():
        return style.nothing(title, data_name)
    gain = values - 100 * baseline
    words = [f"{v:.1f} %\n{g:+.1f}" for v, g in zip(values.flat, gain.flat, strict=True)]
    reach = float(np.nanmax(np.abs(gain))) or 1.0
    size = min(9, max(5, 2.6 + 0.95 * len(weights))), 1.5 + 0.55 * len(temperatures)
    note = f"validation accuracy; labels only: {100 * baseline:.1f} %"
    figure = style.new_figure(*size, title, data_name, note=note)
    axes = figure.subplots()
    rows, columns = ([f"{value:g}" for value in axis] for axis in (temperatures, weights))
    scale = {"cmap": style.DIVERGING, "vmin": -reach, "vmax": reach}
    look = {"cbar_kws": {"label": "gain over labels only, points"}, **scale}
    style.heatmap(axes, gain, words, 8.5, yticklabels=rows, xticklabels=columns, **look)
    row, column = np.unravel_index(np.nanargmax(values), values.shape)
    axes.add_patch(Rectangle((column, row), 1, 1, fill=False, ec=style.INK, lw=2.2, clip_on=False))
    axes.set(xlabel="soft weight (0: labels only, 1: teacher only)", ylabel="temperature T")
    return figure


@style.styled
def paired_difference_plot(
    differences: Any,
    interval: Any,
    *,
    title: str | None = None,
    data_name: str = "",
) -> Figure:
    """Differences seed by seed (dots), their mean and its interval (bar), and zero.

    Args:
        differences: one number a seed, percentage points, or a dict from a name to those.
        interval: `metrics.PairedDifference`, or a dict with the same names; percentage points too.
    """
    alone = not isinstance(differences, Mapping)
    dots, bars = ({"distilled": x} if alone else x for x in (differences, interval))
    title = title or "Difference to labels only, seed by seed"
    figure = style.new_figure(7.5, 1.35 + 0.55 * len(dots), title, data_name)
    axes, colours = figure.subplots(), style.role_colours(dots)
    axes.axvline(0, color=style.GREY, lw=1, ls=":")
    for y, (name, values) in enumerate(dots.items()):
        colour, found = colours[name], bars[name]
        axes.plot((found.low, found.high), (y, y), color=colour, lw=6, alpha=0.3)
        axes.plot(
            style.array(values), np.full(len(values), y), "o", color=colour, ms=4.5, alpha=0.8
        )
        axes.plot(found.mean, y, marker="|", ms=17, mew=2.4, color=colour)
        words = f"  {found.mean:+.2f} [{found.low:+.2f}, {found.high:+.2f}]: {found.verdict}"
        axes.text(1, y, words, transform=axes.get_yaxis_transform(), va="center", fontsize=8.5)
    style.name_rows(axes, list(dots))
    axes.set(xlabel="percentage points; dots: seeds, bar: 95 % interval of the mean")
    return figure
