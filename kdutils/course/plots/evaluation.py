"""What a network takes for what, how sure it is (notebooks 02, 05), class by class (03, 05)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from . import style


@style.styled
def confusion(
    matrix: Any, classes: Sequence[str], *, data_name: str = "", model: str = ""
) -> Figure:
    """Per cent of each true class (row) that was given each name (column); (C, C) counts come in.

    Colour shows mistakes only: the diagonal, which would outshine them, is left pale. Of more than
    20 classes those are shown that are most often mistaken.

    Raises:
        ValueError: the matrix is not square, or names and classes differ in number.
    """
    counts = style.array(matrix).astype(float)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1]:
        raise ValueError(f"A confusion matrix has shape (C, C), not {counts.shape}.")
    style.check_names(classes, len(counts), "The matrix is one")
    title = f"What the {model or 'network'} takes for what"
    if not counts.sum():
        return style.nothing(title, data_name)
    share = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    right, wrong = counts.trace() / counts.sum(), share - np.diag(share.diagonal())
    chosen, note = style.telling_classes(
        np.maximum(wrong.max(0), wrong.max(1)), "most often mistaken"
    )
    share, names = share[np.ix_(chosen, chosen)], [style.short(classes[c]) for c in chosen]
    side = 0.46 * max(len(names), 5) + (0 if len(names) <= 12 else -1.8)
    figure = style.new_figure(min(9, 2.8 + side), min(8.5, 1.8 + side), title, data_name, note=note)
    axes = figure.subplots()
    _share_map(axes, share, names, 8.5 if len(names) <= 12 else 6.5)
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.set_title(f"{100 * right:.1f} % right; bold: right, % of the true class")
    style.tilt(axes)
    return figure


def _share_map(axes: Axes, share: Any, names: Sequence[str], size: float) -> None:
    words = [f"{v:.0f}" if v >= 0.5 else "·" for v in share.flat]
    mistakes = share[~np.eye(len(names), dtype=bool)]
    look = {"mask": np.eye(len(names), dtype=bool), "cmap": style.SEQUENTIAL, "square": True}
    ends = {"vmin": 0, "vmax": max(1, mistakes.max())}  # without mistakes all is pale
    bar = {"label": "mistaken, % of the true class", "shrink": 0.8}
    ticks = {"xticklabels": names, "yticklabels": names}
    style.heatmap(axes, share, words, size, cbar_kws=bar, **look, **ends, **ticks)
    look = {"ha": "center", "va": "center", "weight": "bold", "size": size}
    for i in range(len(names)):
        axes.add_patch(Rectangle((i + 0.02, i + 0.02), 0.96, 0.96, fc=style.PALE, ec="none"))
        axes.text(i + 0.5, i + 0.5, f"{share[i, i]:.0f}", **look)


@style.styled
def reliability_diagram(bins: Mapping[str, Any], *, data_name: str = "") -> Figure:
    """Accuracy against confidence (Guo et al. 2017, arXiv:1706.04599), over how often each occurs.

    `bins` gives a model's name what `metrics.reliability` returns; models without an image are
    left out.
    """
    models = {name: found for name, found in bins.items() if len(found)}
    title = "Is it as right as it is sure?"
    if not models:
        return style.nothing(title, data_name)
    figure, colours = style.new_figure(7.6, 5.2, title, data_name), style.role_colours(models)
    top, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    top.plot((0, 1), (0, 1), color=style.GREY, lw=1, ls=":", label="perfectly calibrated")
    for position, (name, found) in enumerate(models.items()):
        count = np.array([one.count for one in found], dtype=float)
        sure = np.array([one.confidence for one in found])
        right = np.array([one.accuracy for one in found])
        ece = float((count * np.abs(sure - right)).sum() / count.sum())
        look = {"marker": "osD^v"[position % 5], "color": colours[name]}
        label = style.legend_name(f"{name},\nECE {100 * ece:.1f} %")
        top.plot(sure, right, ms=5, label=label, **look)
        middles = [(one.low + one.high) / 2 for one in found]
        below.plot(middles, count / count.sum(), ms=3.5, lw=1.2, **look)
    top.set(ylabel="accuracy in the bin", ylim=(0, 1.02), xlim=(0, 1.01))
    below.set(xlabel="confidence: probability of the predicted class", ylabel="share of images")
    below.set_ylim(0)
    for axis in (top.xaxis, top.yaxis, below.yaxis):
        style.percent_axis(axis)
    for axes in (top, below):
        axes.grid()
    top.text(0.02, 0.97, "too modest", color=style.GREY, transform=top.transAxes, va="top")
    top.text(0.98, 0.03, "too sure", color=style.GREY, transform=top.transAxes, ha="right")
    style.legend_beside(top)
    return figure


@style.styled
def per_class_change(
    before: Any,
    after: Any,
    classes: Sequence[str],
    *,
    names: Sequence[str] = ("labels only", "distilled"),
    data_name: str = "",
    title: str = "Which classes gained",
) -> Figure:
    """Accuracy of each class before and after, (C,) fractions, greatest gain on top.

    A class without images (NaN) is left out; of more than 20 those are shown that changed most.

    Raises:
        ValueError: names and classes differ in number.
    """
    before, after = style.array(before).astype(float), style.array(after).astype(float)
    style.check_names(classes, len(before), "The accuracies are those")
    change = after - before
    chosen, note = style.telling_classes(np.abs(change), "those that changed most")
    order = np.array([c for c in chosen[np.argsort(-change[chosen])] if np.isfinite(change[c])])
    if not len(order):
        return style.nothing(title, data_name)
    figure = style.new_figure(7, 1.5 + 0.25 * len(order), title, data_name, note=note)
    axes, colours = figure.subplots(), style.role_colours(names)
    place = {"xycoords": axes.get_yaxis_transform(), "textcoords": "offset points", "va": "center"}
    for y, c in enumerate(order):
        axes.plot((before[c], after[c]), (y, y), color="#b9bec6", lw=2.5, zorder=1)
        axes.annotate(
            f"{round(100 * change[c], 1) + 0:+.1f}", (1, y), (8, 0), annotation_clip=False, **place
        )
    for name, values, marker in zip(names, (before, after), "os", strict=True):
        look = {"color": colours[name], "label": style.legend_name(name)}
        axes.plot(values[order], range(len(order)), marker, **look)
    style.name_rows(axes, [classes[c] for c in order])
    axes.set(xlabel="accuracy on the class; right: change in points")
    style.percent_axis(axes.xaxis)
    axes.grid(axis="x")
    style.legend_above(axes)
    return figure
