"""The figures of notebook 04: soft targets, dark knowledge."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ... import metrics
from . import style


@style.styled
def softmax_temperature_bars(
    logits: Any,
    temperatures: Sequence[float],
    classes: Sequence[str],
    *,
    label: int | None = None,
    image: Any = None,
    student_logits: Any = None,
    data_name: str = "",
) -> Figure:
    """softmax(logits / T) of one image, logits (C,), at several temperatures, side by side.

    The true class `label` has a yellow band; the student's bars stand under the teacher's. Of more
    than 20 classes the likeliest are shown, and the label.
    """
    style.check_names(classes, len(logits), "The logits are those")
    likely = style.array(logits).astype(float)
    if label is not None:
        likely[label] = np.inf
    chosen, note = style.telling_classes(likely, "the likeliest")
    first = 0 if image is None else 1
    columns = len(temperatures) + first
    both = {"teacher": logits} | ({} if student_logits is None else {"student": student_logits})
    size = min(9, 1.2 + 1.9 * columns), 1.4 + 0.2 * max(len(chosen), 8)
    figure = style.new_figure(*size, "The same logits, softened", data_name, note=note)
    panels = figure.subplots(1, columns, squeeze=False)[0]
    if first:
        style.draw_pixels(panels[0], style.picture(image))
        panels[0].set_title("" if label is None else style.short(f"label: {classes[label]}"))
    for axes, temperature in zip(panels[first:], temperatures, strict=True):
        soft = {name: style.probabilities(values, temperature) for name, values in both.items()}
        _soft_bars(axes, {name: p[chosen] for name, p in soft.items()})
        if label is not None:
            y = int(np.flatnonzero(chosen == label)[0])
            axes.axhspan(y - 0.5, y + 0.5, color=style.BAND, zorder=0)
        nats = metrics.entropy(torch.from_numpy(soft["teacher"])).item()
        whose = "teacher's " if len(both) > 1 else ""
        axes.set_title(f"T = {temperature:g}\n{whose}entropy {nats:.2f} nats", fontsize=9)
        style.name_rows(axes, [classes[c] for c in chosen])
        axes.tick_params(labelleft=axes is panels[first])
    if len(both) > 1:
        style.legend_beside(panels[-1])
    return figure


def _soft_bars(axes: Axes, soft: dict[str, NDArray[Any]]) -> None:
    high = 0.76 / len(soft)
    for position, (name, p) in enumerate(soft.items()):
        y = np.arange(len(p)) + (position - (len(soft) - 1) / 2) * high
        axes.barh(y, p, height=high, color=style.role_colour(name), label=name)
    axes.set(xlim=(0, 1), xlabel="probability", xticks=(0, 0.5, 1))
    style.percent_axis(axes.xaxis)


def dark_knowledge_examples(
    logits: Any, labels: Any, count: int = 8, temperature: float = 4.0
) -> list[int]:
    """Rows whose first choice is right and sure while one runner-up stands out: dark knowledge.

    Ranked by how far the second choice leads the third at T; different classes come first.
    """
    logits, labels = style.array(logits), style.array(labels)
    if not len(logits):
        return []
    ranked = np.sort(style.probabilities(logits, temperature), axis=1)
    third = ranked[:, -3] if ranked.shape[1] > 2 else 0  # of two classes none is third
    score = ranked[:, -2] - third
    plain = style.probabilities(logits, 1.0)
    score[(plain.argmax(1) != labels) | (plain.max(1) < 0.6)] = -1
    order = [int(i) for i in np.argsort(-score, kind="stable") if score[i] >= 0]
    turn: dict[int, int] = {}  # how many of the class came before
    keyed = []
    for place, i in enumerate(order):
        turn[int(labels[i])] = turn.get(int(labels[i]), -1) + 1
        keyed.append((turn[int(labels[i])], place, i))
    return [i for _, _, i in sorted(keyed)[:count]]


@style.styled
def dark_knowledge_gallery(
    images: Any,
    labels: Any,
    logits: Any,
    classes: Sequence[str],
    *,
    temperature: float = 4.0,
    indices: Sequence[int] | None = None,
    count: int = 8,
    top: int = 4,
    data_name: str = "",
) -> Figure:
    """Images beside the classes that the teacher likes best at T; the label has a dark bar.

    The label stands on a yellow band too, and takes the last place where it is not among the best.
    `indices` chooses the images; left out, `dark_knowledge_examples` finds `count` of them.
    """
    logits, title = style.array(logits), f"What else the teacher sees, at T = {temperature:g}"
    chosen = dark_knowledge_examples(logits, labels, count) if indices is None else list(indices)
    if not chosen:
        return style.nothing(title, data_name)
    style.check_names(classes, logits.shape[1], "The logits are those")
    p, columns = style.probabilities(logits[chosen], temperature), min(4, len(chosen))
    rows, note = math.ceil(len(chosen) / 4), "dark bar on yellow: the label"
    figure = style.new_figure(
        max(5, 2.25 * columns), 0.75 + 2.3 * rows, title, data_name, note=note
    )
    grid = figure.add_gridspec(2 * rows, columns, height_ratios=(1.5, 1) * rows)
    for i, index in enumerate(chosen):
        above = figure.add_subplot(grid[2 * (i // 4), i % 4])
        style.draw_pixels(above, style.picture(images[index]))
        axes = figure.add_subplot(grid[2 * (i // 4) + 1, i % 4])
        _favourites(axes, p[i], int(style.array(labels)[index]), classes, top)
    return figure


def _favourites(axes: Axes, p: NDArray[Any], label: int, classes: Sequence[str], top: int) -> None:
    best = list(np.argsort(-p, kind="stable")[:top])
    best = best if label in best else [*best[:-1], label]
    colours = [style.TEACHER if c == label else style.PALETTE[9] for c in best]
    words = [f"{100 * v:.0f} %" if v >= 0.01 else f"{100 * v:.1g} %" for v in p[best]]
    axes.axhspan(best.index(label) - 0.5, best.index(label) + 0.5, color=style.BAND, zorder=0)
    style.value_bars(axes, [classes[c] for c in best], p[best], colours, words)
    axes.set(xlim=(0, max(0.6, 1.3 * p.max())), xticks=[])
    axes.spines["bottom"].set_visible(False)


@style.styled
def entropy_curve(
    logits: Any, *, temperatures: Sequence[float] | None = None, data_name: str = ""
) -> Figure:
    """Entropy of the softened outputs against T: median image, middle 80 %, and the ceiling."""
    logits = style.array(logits)
    grid = np.geomspace(0.5, 20, 60) if temperatures is None else np.asarray(temperatures, float)
    rows = [metrics.entropy(torch.from_numpy(style.probabilities(logits, t))).numpy() for t in grid]
    low, middle, high = np.quantile(np.array(rows), (0.1, 0.5, 0.9), axis=1)
    ceiling = math.log(logits.shape[1])
    figure = style.new_figure(6.4, 3.6, "Warmer is more even", data_name)
    axes = figure.subplots()
    words = f"log {logits.shape[1]:,} = {ceiling:.2f} nats: all alike"
    axes.axhline(ceiling, color=style.GREY, ls=":", lw=1.2, label=words)
    axes.plot(grid, middle, color=style.TEACHER, label="median image")
    look = {"color": style.TEACHER, "alpha": 0.18, "lw": 0}
    axes.fill_between(grid, low, high, label="middle 80 % of images", **look)
    style.temperature_axis(axes, grid[0], grid[-1])
    axes.set(ylabel="entropy of the teacher's output, nats", ylim=(0, 1.06 * ceiling))
    axes.grid(axis="y")
    style.legend_above(axes)
    return figure


@style.styled
def gradient_scale_plot(
    temperatures: Sequence[float], measured: Any, law: Any = None, *, data_name: str = ""
) -> Figure:
    """Size of the gradient on the logits against T, both axes logarithmic, beside a law.

    `measured` is one value for each T, or a dict from a name to that. `law` is the same for the
    dotted line; left out, it is c / T^2 through the last point of the first line.
    """
    grid, lines = np.asarray(temperatures, dtype=float), style.named(measured, "measured")
    title = "How the gradient shrinks with temperature"
    if law is None:
        law = float(style.array(next(iter(lines.values())))[-1]) * (grid[-1] / grid) ** 2
    figure, colours = style.new_figure(8, 3.8, title, data_name), style.role_colours(lines)
    axes = figure.subplots()
    axes.plot(
        grid, style.array(law), color=style.GREY, ls=":", label="law: proportional\nto 1 / T²"
    )
    for position, (name, values) in enumerate(lines.items()):
        look = {"color": colours[name], "marker": "osD^"[position % 4], "ms": 5}
        axes.plot(grid, style.array(values), label=style.legend_name(name), **look)
    axes.set(yscale="log", ylabel="size of the gradient on the logits")
    style.log_axis(axes.yaxis)
    style.temperature_axis(axes, grid[0] * 0.93, grid[-1] * 1.08)
    axes.grid(which="major")
    style.legend_beside(axes)
    return figure
