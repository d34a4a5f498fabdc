"""The figures of notebook 04: soft targets, dark knowledge, which classes look alike (02 too)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ... import metrics
from . import style

FAVOURITES = 4  # classes under an image of the gallery
SIMILARITY = "similarity, 0 to 1 (square-root colours)"  # what a bar beside such a map says


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
    both = {"teacher": logits} | ({} if student_logits is None else {"student": student_logits})
    if student_logits is not None:
        note = " · ".join(part for part in (note, "entropy: the teacher's") if part)
    columns, high = len(temperatures) + (image is not None), 0.76 / len(both)
    size = min(9, 1.2 + 1.9 * columns), 1.4 + 0.2 * max(len(chosen), 8)
    figure = style.new_figure(*size, "The same logits, softened", data_name, note=note)
    panels = list(figure.subplots(1, columns, squeeze=False)[0])
    if image is not None:
        style.draw_pixels(above := panels.pop(0), style.picture(image))
        above.set_title("" if label is None else style.short(f"label: {classes[label]}"))
    for axes, temperature in zip(panels, temperatures, strict=True):
        for position, (name, values) in enumerate(both.items()):
            p = style.probabilities(values, temperature)[chosen]
            y = np.arange(len(p)) + (position - (len(both) - 1) / 2) * high
            axes.barh(y, p, height=high, color=style.role_colour(name), label=name)
        if label is not None:
            y = int(np.flatnonzero(chosen == label)[0])
            axes.axhspan(y - 0.5, y + 0.5, color=style.BAND, zorder=0)
        nats = metrics.entropy(torch.from_numpy(style.probabilities(logits, temperature))).item()
        axes.set_title(f"T = {temperature:g}\nentropy {nats:.2f} nats", fontsize=9)
        style.name_rows(axes, [classes[c] for c in chosen])
        axes.tick_params(labelleft=axes is panels[0])
        axes.set_xlabel("probability")
        axes.locator_params(axis="x", nbins=3)
        style.percent_axis(axes.xaxis)
    widest = max(axes.get_xlim()[1] for axes in panels)
    for axes in panels:
        axes.set_xlim(0, min(1, 1.05 * widest))
    if len(both) > 1:
        style.legend_beside(panels[-1])
    return figure


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
        _favourites(axes, p[i], int(style.array(labels)[index]), classes)
    return figure


def _favourites(axes: Axes, p: NDArray[Any], label: int, classes: Sequence[str]) -> None:
    best = list(np.argsort(-p, kind="stable")[:FAVOURITES])
    best = best if label in best else [*best[:-1], label]
    colours = [style.TEACHER if c == label else style.PALETTE[9] for c in best]
    words = [f"{100 * v:.{int(v < 0.01)}f} %" if v >= 0.0005 else "< 0.1 %" for v in p[best]]
    axes.axhspan(best.index(label) - 0.5, best.index(label) + 0.5, color=style.BAND, zorder=0)
    axes.barh(range(len(best)), p[best], color=colours, height=0.72)
    style.name_rows(axes, [classes[c] for c in best])
    for place, word in zip(zip(p[best], range(len(best))), words, strict=True):
        axes.annotate(word, place, (3, 0), textcoords="offset points", va="center", size=8)
    axes.set(xlim=(0, max(0.6, 1.3 * p.max())), xticks=[])
    axes.spines["bottom"].set_visible(False)


@style.styled
def entropy_curve(logits: Any, *, data_name: str = "") -> Figure:
    """Entropy of the softened outputs against T: median image, middle 80 %, and the ceiling."""
    logits = style.array(logits)
    grid = np.geomspace(0.5, 20, 60)
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


def relative_similarity(logits: Any, labels: Any, temperature: float) -> NDArray[np.float64]:
    """(C, C) in [0, 1], ones on the diagonal: how alike the teacher finds two classes at T.

    s is `metrics.class_similarity` made symmetric; the result is s_ij / sqrt(s_ii s_jj). It goes to
    the identity as T falls and to ones as T grows, and compares with `ImageData.similarity`. A
    class without images is like no other.
    """
    values, names = torch.as_tensor(style.array(logits)), torch.as_tensor(style.array(labels))
    s = metrics.class_similarity(values, names, temperature).double().numpy()
    s = (s + s.T) / 2
    own = np.sqrt(np.maximum(s.diagonal(), 1e-12))
    relative = np.clip(s / np.outer(own, own), 0, 1)
    missing = np.bincount(names, minlength=len(s)) == 0
    relative[missing], relative[:, missing] = 0, 0
    np.fill_diagonal(relative, 1)
    return relative


@style.styled
def similarity_heatmaps(
    logits: Any,
    labels: Any,
    classes: Sequence[str],
    temperatures: Sequence[float] = (1, 4, 20),
    *,
    truth: Any = None,
    data_name: str = "",
) -> Figure:
    """`relative_similarity` at several temperatures, and the known truth last where there is one.

    Of more than 20 classes those are shown that are most like another.
    """
    style.check_names(classes, style.array(logits).shape[1], "The logits are those")
    maps = {f"T = {t:g}": relative_similarity(logits, labels, t) for t in temperatures}
    if truth is not None:
        maps["the truth"] = style.array(truth)
    alike = np.max([values - np.eye(len(values)) for values in maps.values()], axis=(0, 1))
    chosen, note = style.telling_classes(alike, "most like another")
    names = [classes[c] for c in chosen]
    each = 3.4 if len(maps) == 1 else min(2.4, 6.6 / len(maps))
    width = max(5, 1.7 + (each + 0.17) * len(maps))
    height = each + (1.6 if len(names) <= 12 else 2.2)
    figure = style.new_figure(width, height, "Which classes look alike", data_name, note=note)
    panels = figure.subplots(1, len(maps), sharey=True, squeeze=False)[0]
    for axes, (name, values) in zip(panels, maps.items(), strict=True):
        values = values[np.ix_(chosen, chosen)]
        mesh = similarity_mesh(axes, values, names, labelled=axes is panels[0])
        axes.set_title(name)
        if each > 3 and len(names) <= 12:
            _write_in(axes, values)
    bar = figure.colorbar(mesh, ax=panels, shrink=0.75, aspect=25, pad=0.01)
    bar.set_label(SIMILARITY)
    bar.outline.set_visible(False)
    return figure


def _write_in(axes: Axes, values: NDArray[Any]) -> None:
    """Numbers in a map: a sure teacher's is pale nearly everywhere."""
    for (row, column), value in np.ndenumerate(values):
        if row != column:
            words = f"{value:.2f}"[1:] if 0.005 <= value < 0.995 else f"{value:.0f}"
            ink = "white" if value > 0.4 else style.GREY
            axes.text(column, row, words, ha="center", va="center", size=6.5, color=ink)


def similarity_mesh(axes: Axes, values: Any, classes: Sequence[str], labelled: bool = True) -> Any:
    """One class-by-class map with its diagonal (always one) blank; returns the image artist.

    The colours follow the square root, so that small similarities are seen too.
    """
    shown = np.ma.masked_where(np.eye(len(classes), dtype=bool), values)
    mesh = axes.imshow(shown, cmap=style.SEQUENTIAL, norm=PowerNorm(0.5, vmin=0, vmax=1))
    style.bare(axes)
    axes.set_facecolor(style.PALE)
    names = [style.short(name) for name in classes]
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(names)), names)
    style.tilt(axes)
    axes.tick_params(labelsize=7.5 if len(names) <= 12 else 5.5, labelleft=labelled)
    return mesh


@style.styled
def gradient_scale_plot(
    temperatures: Sequence[float], measured: Mapping[str, Any], *, data_name: str = ""
) -> Figure:
    """Size of the gradient on the logits against T, both axes logarithmic.

    `measured` gives a name one value for each T. The dotted line is the law
    c / T^2 through the last point of the first of them.
    """
    grid, lines = np.asarray(temperatures, dtype=float), dict(measured)
    title = "How the gradient shrinks with temperature"
    law = float(style.array(next(iter(lines.values())))[-1]) * (grid[-1] / grid) ** 2
    figure, colours = style.new_figure(8, 3.8, title, data_name), style.role_colours(lines)
    axes = figure.subplots()
    axes.plot(grid, law, color=style.GREY, ls=":", label="law: proportional\nto 1 / T²")
    for position, (name, values) in enumerate(lines.items()):
        look = {"color": colours[name], "marker": "osD^"[position % 4], "ms": 5}
        axes.plot(grid, style.array(values), label=style.legend_name(name), **look)
    axes.set(yscale="log", ylabel="size of the gradient on the logits")
    style.log_axis(axes.yaxis)
    style.temperature_axis(axes, grid[0] * 0.93, grid[-1] * 1.08)
    axes.grid(which="major")
    style.legend_beside(axes)
    return figure
