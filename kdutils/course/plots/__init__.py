"""The figures of the notebooks. Each function takes arrays and names, and returns a Figure.

Images are uint8 (N, 3, 32, 32), labels int64 (N,), logits float (N, C); tensors or arrays.
Accuracies and probabilities come in as fractions and are drawn in per cent. `data_name` is the
name of the data set (`ImageData.name`); it stands under the title. One model keeps one colour
through all figures (`role_colour`), from seaborn's colour-blind-safe palette.

A cell ends in `show(figure, "what one sees")`; a Figure alone is not displayed twice and not kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle
from matplotlib.ticker import LogLocator, NullLocator
from numpy.typing import ArrayLike, NDArray

from ... import metrics
from ...views import SHIFT, SIDE, apply_view, describe_view
from .style import (
    BAND,
    DISTILLED,
    DIVERGING,
    GREY,
    INK,
    PALE,
    PALETTE,
    SEQUENTIAL,
    TEACHER,
    array,
    bare,
    human,
    named,
    new_figure,
    percent_axis,
    picture,
    png,
    probabilities,
    role_colour,
    show,
    styled,
    temperature_axis,
)

__all__ = [
    "accuracy_latency_scatter",
    "class_balance",
    "confusion",
    "dark_knowledge_gallery",
    "entropy_curve",
    "gradient_scale_plot",
    "learning_curves",
    "network_diagram",
    "paired_difference_plot",
    "per_class_change",
    "pixel_histogram",
    "png",
    "relative_similarity",
    "reliability_diagram",
    "sample_sheet",
    "show",
    "similarity_heatmaps",
    "size_bars",
    "softmax_temperature_bars",
    "sweep_heatmap",
    "telling_images",
    "view_grid",
]


def _legend_above(axes: Axes, columns: int = 4) -> None:
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, borderaxespad=0.2)


def _mosaic(images: NDArray[np.uint8], columns: int, gap: int = 3) -> NDArray[np.uint8]:
    """Tile (N, 3, H, W) into one white-gapped picture, row by row."""
    n, _, h, w = images.shape
    rows = math.ceil(n / columns)
    canvas = np.full((rows * (h + gap) - gap, columns * (w + gap) - gap, 3), 255, np.uint8)
    for i, image in enumerate(images):
        y, x = i // columns * (h + gap), i % columns * (w + gap)
        canvas[y : y + h, x : x + w] = image.transpose(1, 2, 0)
    return canvas


def _centres(n: int, size: int, gap: int = 3) -> list[float]:
    return [i * (size + gap) + (size - 1) / 2 for i in range(n)]


def _value_bars(
    axes: Axes, names: Sequence[str], values: ArrayLike, colours: Any, labels: Sequence[str]
) -> None:
    """Horizontal bars, first name on top, each with its label at the end."""
    values = np.asarray(values, dtype=float)
    axes.barh(range(len(names)), values, color=colours, height=0.72)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    for y, (value, label) in enumerate(zip(values, labels, strict=True)):
        axes.annotate(label, (value, y), (3, 0), textcoords="offset points", va="center", size=8)


# --- notebook 01: data ----------------------------------------------------------------------------


@styled
def sample_sheet(
    images: Any, labels: Any, classes: Sequence[str], *, per_class: int = 10, data_name: str = ""
) -> Figure:
    """The first `per_class` images of each class, one class a row."""
    images, labels = array(images), array(labels)
    blank = np.full_like(images[:1], 255)
    rows = []
    for number in range(len(classes)):
        found = images[np.flatnonzero(labels == number)[:per_class]]
        rows += [found, np.repeat(blank, per_class - len(found), axis=0)]
    width = min(9.0, 1.1 + 0.62 * per_class)
    figure = new_figure(
        width,
        0.7 + (width - 1.1) / per_class * len(classes),
        "What each class looks like",
        data_name,
    )
    axes = figure.subplots()
    axes.imshow(_mosaic(np.concatenate(rows), per_class), interpolation="nearest")
    bare(axes)
    axes.set_yticks(_centres(len(classes), images.shape[2]), classes)
    axes.tick_params(axis="y", length=0)
    return figure


@styled
def class_balance(
    splits: Mapping[str, Any], classes: Sequence[str], *, data_name: str = ""
) -> Figure:
    """How many images of each class every split holds; a value is labels (N,) or a Split."""
    figure = new_figure(9, 3.4, "How many images of each class", data_name)
    panels = figure.subplots(1, len(splits), sharey=True, squeeze=False)[0]
    for axes, (name, split) in zip(panels, splits.items(), strict=True):
        counts = np.bincount(array(getattr(split, "labels", split)), minlength=len(classes))
        _value_bars(axes, classes, counts, PALETTE[0], [f"{count:,}" for count in counts])
        axes.set(title=f"{name}: {counts.sum():,} images", xlabel="images")
        axes.set_xlim(0, max(1, counts.max()) * 1.22)
        axes.locator_params(axis="x", nbins=4)
        axes.xaxis.set_major_formatter("{x:,.0f}")
    return figure


@styled
def view_grid(image: Any, views: Sequence[int] | None = None, *, data_name: str = "") -> Figure:
    """One image (3, H, W) under all 50 views, or under a chosen few, each named in words."""
    image = torch.as_tensor(array(image))
    if views is not None:
        return _few_views(image, views, data_name)
    figure = new_figure(9, 5.55, "One image, fifty views", data_name)
    shifts = range(-SHIFT, SHIFT + 1)
    words = ("as it is", "flipped left to right")
    for flip, axes in enumerate(figure.subplots(1, 2, sharey=True)):
        tiles = [apply_view(image, 2 * k + flip) for k in range(SIDE**2)]
        axes.imshow(_mosaic(torch.stack(tiles).numpy(), SIDE), interpolation="nearest")
        bare(axes)
        middles = _centres(SIDE, image.shape[-1])
        axes.set_xticks(middles, [f"{s:+d}" if s else "0" for s in shifts])
        axes.set_yticks(middles, [f"{s:+d}" if s else "0" for s in shifts])
        axes.tick_params(length=0)
        axes.set(title=words[flip], xlabel="shift to the right, pixels")
        if not flip:
            axes.set_ylabel("shift down, pixels")
            corner, side = middles[SHIFT] - image.shape[-1] / 2 - 1, image.shape[-1] + 2
            axes.add_patch(Rectangle((corner, corner), side, side, fill=False, ec=DISTILLED, lw=2))
    return figure


def _few_views(image: torch.Tensor, chosen: Sequence[int], data_name: str) -> Figure:
    columns = min(5, len(chosen))
    rows = math.ceil(len(chosen) / columns)
    figure = new_figure(1.75 * columns, 0.6 + 2.2 * rows, "One image, several views", data_name)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels:
        bare(axes)
    for axes, view in zip(panels, chosen, strict=False):
        axes.imshow(picture(apply_view(image, view)), interpolation="nearest")
        axes.set_xlabel(f"view {view}\n{describe_view(view)}", fontsize=8)
    return figure


@styled
def pixel_histogram(images: Any, *, data_name: str = "") -> Figure:
    """How often each brightness occurs in the three channels."""
    images = array(images)
    figure = new_figure(7, 3.2, "How bright the pixels are", data_name)
    axes = figure.subplots()
    channels = (("red", PALETTE[3], "-"), ("green", PALETTE[2], "--"), ("blue", PALETTE[0], "-."))
    edges = np.arange(0, 257, 4)
    for channel, (name, colour, dash) in enumerate(channels):
        pixels = images[:, channel]
        counts = np.bincount(pixels.ravel(), minlength=256).reshape(-1, 4).sum(1)
        label = f"{name}: {pixels.mean():.0f} ± {pixels.std():.0f}"
        axes.stairs(counts / counts.sum(), edges, color=colour, ls=dash, lw=1.6, label=label)
    axes.set(
        xlabel="pixel value, 0 (dark) to 255 (bright)", ylabel="share of pixels", xlim=(0, 256)
    )
    axes.set_xticks(range(0, 257, 32))
    axes.margins(y=0.12)
    percent_axis(axes.yaxis, 1)
    _legend_above(axes)
    axes.set_title("mean ± standard deviation", fontsize=8.5, color=GREY, loc="right")
    return figure


# --- notebooks 02 and 03: networks and what they learn --------------------------------------------

_AXIS_NAMES = {
    "val_accuracy": "validation accuracy",
    "train_accuracy": "training accuracy",
    "train_loss": "training loss, nats",
    "val_nll": "validation loss (NLL), nats",
    "seconds": "time since the start, s",
    "learning_rate": "learning rate",
}


@styled
def learning_curves(
    histories: Mapping[str, Any],
    y: str | Sequence[str] = "val_accuracy",
    *,
    data_name: str = "",
    title: str | None = None,
) -> Figure:
    """One panel for each key `y` of the histories' rows, one line for each name.

    A value of `histories` is a History, its rows (a list of dicts with `epoch`), or a list of
    those, one for each seed: then the seeds are thin lines and their mean a thick one.
    """
    keys = (y,) if isinstance(y, str) else tuple(y)
    figure = new_figure(min(9, 1.4 + 4.2 * len(keys)), 3.5, title or "Learning curves", data_name)
    for axes, key in zip(figure.subplots(1, len(keys), squeeze=False)[0], keys, strict=True):
        as_percent = "accuracy" in key
        for position, (name, value) in enumerate(histories.items()):
            _draw_runs(axes, name, _runs(value), key, role_colour(name, position), as_percent)
        axes.set(xlabel="epoch", ylabel=_AXIS_NAMES.get(key, key.replace("_", " ")))
        axes.xaxis.get_major_locator().set_params(integer=True)
        if as_percent:
            percent_axis(axes.yaxis, None)
        axes.grid(axis="y")
        axes.legend(loc="best")  # wherever the fewest points are covered
    return figure


def _runs(value: Any) -> list[list[dict[str, float]]]:
    """Rows of one history, or of several."""
    if hasattr(value, "rows"):
        return [list(value.rows)]
    return [list(value)] if isinstance(value[0], Mapping) else [_runs(one)[0] for one in value]


def _draw_runs(
    axes: Axes, name: str, runs: list[Any], key: str, colour: str, as_percent: bool
) -> None:
    shortest = min(len(rows) for rows in runs)
    epochs = [row["epoch"] for row in runs[0][:shortest]]
    values = np.array([[row[key] for row in rows[:shortest]] for rows in runs], dtype=float)
    if len(runs) > 1:
        axes.plot(epochs, values.T, color=colour, lw=0.8, alpha=0.4)
    mean = values.mean(0)
    last = f"{100 * mean[-1]:.1f} %" if as_percent else f"{mean[-1]:.3g}"
    label = f"{name} ({last}" + (f", mean of {len(runs)} seeds)" if len(runs) > 1 else ")")
    axes.plot(epochs, mean, color=colour, marker="o" if shortest <= 30 else "", ms=3.5, label=label)


@styled
def accuracy_over_time(records: Sequence[Mapping[str, Any]], *, data_name: str = "") -> Figure:
    """Validation accuracy against training time, one line for each record of `pretrained.results()`.

    Faint lines are the seeds, the strong one is their mean, dashed where a longer training of the
    same role is shown. Epochs are placed at the times of the quickest seed: the others may have
    shared their machine.
    """
    longest = {row["role"]: row["epochs"] for row in sorted(records, key=lambda row: row["epochs"])}
    figure = new_figure(7.5, 4.2, "What patience buys", data_name)
    axes = figure.subplots()
    for position, record in enumerate(records):
        curves = np.array([run["curve"] for run in record["runs"]], dtype=float)
        minutes = min(curves[..., 0], key=lambda times: times[-1]) / 60
        accuracy = curves[..., 1] / 100
        colour, seeds = role_colour(record["role"], position), len(curves)
        if seeds > 1:
            axes.plot(minutes, accuracy.T, color=colour, lw=0.7, alpha=0.35)
        label = f"{record['name']}, {record['epochs']} epochs" + f", {seeds} seeds" * (seeds > 1)
        style = "-" if record["epochs"] == longest[record["role"]] else "--"
        axes.plot(minutes, accuracy.mean(0), color=colour, lw=2, ls=style, label=label)
    axes.set(xlabel="training time, minutes", ylabel="validation accuracy")
    percent_axis(axes.yaxis, None)
    axes.grid(axis="y")
    axes.legend(loc="lower right")
    return figure


@styled
def network_diagram(
    rows: Iterable[Any], *, name: str = "", input_shape: Sequence[int] = (3, 32, 32)
) -> Figure:
    """A network as one block for each layer with weights, over bars of what each layer costs.

    Args:
        rows: `models.layer_table(model)`. Rows without multiply-adds (batch norm, ReLU, pooling)
            are counted with the layer before them.
        name: of the network, for the title.
        input_shape: (channels, height, width).
    """
    boxes = _boxes(rows, input_shape)
    total = f"{sum(b[2] for b in boxes):,} parameters, {human(sum(b[3] for b in boxes))} "
    figure = new_figure(9, 4.9, f"The {name or 'network'}, layer by layer", f"{total}multiply-adds")
    top, weights, work = figure.subplots(3, 1, sharex=True, height_ratios=(3, 1, 1))
    colour = role_colour(name)
    for x, (label, shape, _, _) in enumerate(boxes):
        _draw_cuboid(top, x, shape, colour if x else GREY)
        top.text(x, -0.12, " × ".join(map(str, shape)), ha="center", va="top", fontsize=7.5)
        top.text(x, -0.34, label, ha="center", va="top", fontsize=7.5, color=GREY)
    bare(top)
    top.set(xlim=(-0.6, len(boxes) - 0.4), ylim=(-0.5, 1.4))
    for axes, key, title in ((weights, 2, "parameters"), (work, 3, "multiply-adds")):
        values = [box[key] for box in boxes]
        axes.bar(range(len(boxes)), values, color=colour, width=0.5)
        for x, value in enumerate(values[1:], 1):
            axes.text(x, value, human(value), ha="center", va="bottom", fontsize=8)
        bare(axes)
        axes.spines["bottom"].set_visible(True)
        axes.set_ylim(0, 1.3 * max(values))
        axes.set_title(title, fontsize=9)
    return figure


_KINDS = {"Conv2d": "convolution", "WhitenedConv": "whitened", "Linear": "linear"}


def _boxes(rows: Iterable[Any], input_shape: Sequence[int]) -> list[list[Any]]:
    """[label, shape, parameters, multiply-adds] for the input and each layer that multiplies."""
    boxes: list[list[Any]] = [["input", tuple(input_shape), 0, 0]]
    for row in rows:
        parameters, macs = row.parameters, row.macs
        if macs and len(shape := tuple(row.output_shape)) in (1, 3):
            boxes.append([_KINDS.get(row.kind, row.kind), shape, parameters, macs])
        else:
            boxes[-1][2] += parameters
            boxes[-1][3] += macs
    return boxes


def _draw_cuboid(axes: Axes, x: float, shape: Sequence[int], colour: str) -> None:
    """Height and depth follow the side of the activation, thickness its channels (square roots)."""
    side = math.sqrt(shape[-1] / 32) if len(shape) == 3 else 0.12
    thick = 0.012 * math.sqrt(shape[0]) * 1.6
    dx, dy = 0.34 * side, 0.30 * side
    left, right = x - thick / 2 - dx / 2, x + thick / 2 - dx / 2
    faces = (
        ([(left, 0), (right, 0), (right, side), (left, side)], 0.95),
        ([(left, side), (right, side), (right + dx, side + dy), (left + dx, side + dy)], 0.45),
        ([(right, 0), (right + dx, dy), (right + dx, side + dy), (right, side)], 0.65),
    )
    for corners, alpha in faces:
        axes.add_patch(Polygon(corners, fc="white", ec="none"))
        axes.add_patch(Polygon(corners, fc=colour, alpha=alpha, ec="white", lw=0.8))


@styled
def confusion(
    matrix: Any, classes: Sequence[str], *, data_name: str = "", model: str = ""
) -> Figure:
    """Per cent of each true class (row) that was given each name (column); (C, C) counts come in.

    Colour shows mistakes only: the diagonal, which would outshine them, is left pale.
    """
    counts = array(matrix).astype(float)
    share = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    right = counts.trace() / max(counts.sum(), 1)
    title = f"What the {model or 'network'} takes for what"
    figure = new_figure(7.4, 6.4, title, data_name)
    axes = figure.subplots()
    words = np.array([[f"{v:.0f}" if v >= 0.5 else "·" for v in row] for row in share])
    sns.heatmap(
        share,
        mask=np.eye(len(classes), dtype=bool),
        ax=axes,
        cmap=SEQUENTIAL,
        vmin=0,
        square=True,
        annot=words,
        fmt="",
        linewidths=1.2,
        annot_kws={"size": 8.5},
        xticklabels=classes,
        yticklabels=classes,
        cbar_kws={"label": "mistaken, % of the true class", "shrink": 0.8},
    )
    for i in range(len(classes)):
        axes.add_patch(Rectangle((i + 0.02, i + 0.02), 0.96, 0.96, fc=PALE, ec="none"))
        axes.text(i + 0.5, i + 0.5, f"{share[i, i]:.0f}", ha="center", va="center", weight="bold")
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.set_title(f"{100 * right:.1f} % right; bold: right, % of the true class")
    _tilt(axes)
    return figure


def _tilt(axes: Axes) -> None:
    axes.tick_params(axis="both", length=0)
    axes.tick_params(axis="x", rotation=40)
    axes.tick_params(axis="y", rotation=0)
    for label in axes.get_xticklabels():
        label.set(ha="right", rotation_mode="anchor")


@styled
def reliability_diagram(bins: Any, *, data_name: str = "") -> Figure:
    """Accuracy against confidence (Guo et al. 2017, arXiv:1706.04599), over how often each occurs.

    `bins` is what `metrics.reliability` returns, or a dict from model name to that.
    """
    models = named(bins, "network")
    figure = new_figure(5.8, 5.2, "Is it as right as it is sure?", data_name)
    top, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    top.plot((0, 1), (0, 1), color=GREY, lw=1, ls=":", label="perfectly calibrated")
    for position, (name, found) in enumerate(models.items()):
        colour = role_colour(name, position)
        count = np.array([one.count for one in found], dtype=float)
        sure = np.array([one.confidence for one in found])
        right = np.array([one.accuracy for one in found])
        ece = float((count * np.abs(sure - right)).sum() / count.sum())
        marker = "osD^v"[position % 5]
        top.plot(
            sure, right, marker=marker, ms=5, color=colour, label=f"{name}, ECE {100 * ece:.1f} %"
        )
        middles = [(one.low + one.high) / 2 for one in found]
        below.plot(middles, count / count.sum(), marker=marker, ms=3.5, color=colour, lw=1.2)
    top.set(ylabel="accuracy in the bin", ylim=(0, 1.02), xlim=(0, 1.01))
    below.set(xlabel="confidence: probability of the predicted class", ylabel="share of images")
    below.set_ylim(0)
    for axis in (top.xaxis, top.yaxis, below.yaxis):
        percent_axis(axis)
    for axes in (top, below):
        axes.grid()
    top.text(0.03, 0.62, "too modest", color=GREY, transform=top.transAxes, rotation=0)
    top.text(0.97, 0.3, "too sure", color=GREY, transform=top.transAxes, ha="right")
    top.legend(loc="upper left")
    return figure


@styled
def size_bars(rows: Sequence[Mapping[str, Any]], *, data_name: str = "") -> Figure:
    """Parameters, multiply-adds and size of models; rows have `name`, `parameters`, `macs`,
    `size_mb`. Each label says how many times smaller than the first row a model is."""
    figure = new_figure(9, 1.3 + 0.36 * len(rows), "What shrank, and by how much", data_name)
    names = [row["name"] for row in rows]
    kinds = (
        ("parameters", "parameters"),
        ("macs", "multiply-adds an image"),
        ("size_mb", "size, MB"),
    )
    for axes, (key, title) in zip(figure.subplots(1, 3, sharey=True), kinds, strict=True):
        values = [float(row[key]) for row in rows]
        labels = [human(v) + _ratio(values[0], v) for v in values]
        colours = [role_colour(name, i) for i, name in enumerate(names)]
        _value_bars(axes, names, values, colours, labels)
        axes.set(title=title, xticks=[], xlim=(0, 1.45 * max(values)))
        axes.spines["bottom"].set_visible(False)
    return figure


def _ratio(first: float, value: float) -> str:
    return "" if value == first else f"  (÷ {first / value:.2g})" if value < first else ""


# --- notebook 04: soft targets --------------------------------------------------------------------


@styled
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

    The true class `label` has a yellow band; the student's bars stand under the teacher's.
    """
    first = 0 if image is None else 1
    columns = len(temperatures) + first
    figure = new_figure(min(9, 1 + 1.9 * columns), 3.4, "The same logits, softened", data_name)
    panels = figure.subplots(1, columns, squeeze=False)[0]
    if first:
        panels[0].imshow(picture(image), interpolation="nearest")
        bare(panels[0])
        panels[0].set_title("" if label is None else f"label: {classes[label]}")
    both = {"teacher": logits} | ({} if student_logits is None else {"student": student_logits})
    whose = "teacher's " if len(both) > 1 else ""
    for axes, temperature in zip(panels[first:], temperatures, strict=True):
        for position, (name, values) in enumerate(both.items()):
            p = probabilities(values, temperature)
            high = 0.76 / len(both)
            y = np.arange(len(classes)) + (position - (len(both) - 1) / 2) * high
            axes.barh(y, p, height=high, color=role_colour(name), label=name)
        if label is not None:
            axes.axhspan(label - 0.5, label + 0.5, color=BAND, zorder=0)
        nats = metrics.entropy(torch.from_numpy(probabilities(logits, temperature))).item()
        axes.set_title(f"T = {temperature:g}\n{whose}entropy {nats:.2f} nats", fontsize=9)
        axes.set(xlim=(0, 1), ylim=(len(classes) - 0.5, -0.5), xlabel="probability")
        axes.set_xticks((0, 0.5, 1))
        percent_axis(axes.xaxis)
        axes.set_yticks(range(len(classes)), classes if axes is panels[first] else [])
        axes.tick_params(axis="y", length=0)
    if len(both) > 1:
        panels[-1].legend(loc="lower right")
    return figure


def telling_images(logits: Any, labels: Any, count: int = 8, temperature: float = 4.0) -> list[int]:
    """Rows whose first choice is right and sure while one runner-up stands out: dark knowledge.

    Ranked by how far the second choice leads the third at T; different classes come first.
    """
    logits, labels = array(logits), array(labels)
    ranked = np.sort(probabilities(logits, temperature), axis=1)
    score = ranked[:, -2] - ranked[:, -3]
    plain = probabilities(logits, 1.0)
    score[(plain.argmax(1) != labels) | (plain.max(1) < 0.6)] = -1
    order = [int(i) for i in np.argsort(-score, kind="stable") if score[i] >= 0]
    turn: dict[int, int] = {}  # how many of the class came before
    keyed = []
    for place, i in enumerate(order):
        turn[int(labels[i])] = turn.get(int(labels[i]), -1) + 1
        keyed.append((turn[int(labels[i])], place, i))
    return [i for _, _, i in sorted(keyed)[:count]]


@styled
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
    """Images beside the classes that the teacher likes best at T; the label's bar is dark.

    `indices` chooses the images; left out, `telling_images` finds `count` of them.
    """
    chosen = telling_images(logits, labels, count) if indices is None else list(indices)
    p = probabilities(array(logits)[chosen], temperature)
    title = f"What else the teacher sees, at T = {temperature:g}"
    rows = math.ceil(len(chosen) / 4)
    note = " · ".join(part for part in (data_name, "dark bar: the true class") if part)
    figure = new_figure(9, 0.75 + 2.25 * rows, title, note)
    grid = figure.add_gridspec(2 * rows, 4, height_ratios=(1.5, 1) * rows)
    for i, index in enumerate(chosen):
        above = figure.add_subplot(grid[2 * (i // 4), i % 4])
        above.imshow(picture(images[index]), interpolation="nearest")
        bare(above)
        best = np.argsort(-p[i], kind="stable")[:top]
        axes = figure.add_subplot(grid[2 * (i // 4) + 1, i % 4])
        truth = int(array(labels)[index])
        colours = [TEACHER if c == truth else PALETTE[9] for c in best]
        words = [f"{100 * value:.0f} %" for value in p[i, best]]
        _value_bars(axes, [classes[c] for c in best], p[i, best], colours, words)
        axes.set(xlim=(0, max(0.6, 1.3 * p[i].max())), xticks=[])
        axes.spines["bottom"].set_visible(False)
    return figure


@styled
def entropy_curve(
    logits: Any, *, temperatures: Sequence[float] | None = None, data_name: str = ""
) -> Figure:
    """Entropy of the softened outputs against T: median image, middle 80 %, and the ceiling."""
    grid = np.geomspace(0.5, 20, 60) if temperatures is None else np.asarray(temperatures, float)
    rows = [metrics.entropy(torch.from_numpy(probabilities(logits, t))).numpy() for t in grid]
    low, middle, high = np.quantile(np.array(rows), (0.1, 0.5, 0.9), axis=1)
    ceiling = math.log(array(logits).shape[1])
    figure = new_figure(6.4, 3.6, "Warmer is more even", data_name)
    axes = figure.subplots()
    axes.axhline(ceiling, color=GREY, ls=":", lw=1.2)
    words = f"log {array(logits).shape[1]} = {ceiling:.2f} nats: all classes alike"
    axes.text(grid[0] * 1.04, ceiling - 0.03, words, va="top", color=GREY)
    axes.fill_between(
        grid, low, high, color=TEACHER, alpha=0.18, lw=0, label="middle 80 % of images"
    )
    axes.plot(grid, middle, color=TEACHER, label="median image")
    temperature_axis(axes, grid[0], grid[-1])
    axes.set(ylabel="entropy of the teacher's output, nats", ylim=(0, 1.06 * ceiling))
    axes.grid(axis="y")
    axes.legend(loc="lower right")
    return figure


def relative_similarity(logits: Any, labels: Any, temperature: float) -> NDArray[np.float64]:
    """(C, C) in [0, 1], ones on the diagonal: how alike the teacher finds two classes at T.

    s is `metrics.class_similarity` made symmetric; the result is s_ij / sqrt(s_ii s_jj). It goes to
    the identity as T falls and to ones as T grows, and compares with `ImageData.similarity`.
    """
    values, names = torch.as_tensor(array(logits)), torch.as_tensor(array(labels))
    s = metrics.class_similarity(values, names, temperature).double().numpy()
    s = (s + s.T) / 2
    own = np.sqrt(np.maximum(s.diagonal(), 1e-12))
    relative = np.clip(s / np.outer(own, own), 0, 1)
    np.fill_diagonal(relative, 1)
    return relative


@styled
def similarity_heatmaps(
    logits: Any,
    labels: Any,
    classes: Sequence[str],
    temperatures: Sequence[float] = (1, 4, 20),
    *,
    truth: Any = None,
    data_name: str = "",
) -> Figure:
    """`relative_similarity` at several temperatures, and the known truth last where there is one."""
    maps = {f"T = {t:g}": relative_similarity(logits, labels, t) for t in temperatures}
    if truth is not None:
        maps["the truth"] = array(truth)
    each = min(2.4, 6.7 / len(maps))
    width = 1.6 + (each + 0.17) * len(maps)
    figure = new_figure(width, each + 1.55, "Which classes look alike", data_name)
    panels = figure.subplots(1, len(maps), sharey=True, squeeze=False)[0]
    for axes, (name, values) in zip(panels, maps.items(), strict=True):
        mesh = similarity_mesh(axes, values, classes, labelled=axes is panels[0])
        axes.set_title(name)
    bar = figure.colorbar(mesh, ax=panels, shrink=0.75, aspect=25, pad=0.01)
    bar.set_label("similarity, 0 to 1")
    bar.outline.set_visible(False)
    return figure


def similarity_mesh(axes: Axes, values: Any, classes: Sequence[str], labelled: bool = True) -> Any:
    """One class-by-class map with its diagonal (always one) blank; returns the image artist."""
    shown = np.ma.masked_where(np.eye(len(classes), dtype=bool), values)
    mesh = axes.imshow(shown, cmap=SEQUENTIAL, vmin=0, vmax=1)
    bare(axes)
    axes.set_facecolor(PALE)
    axes.set_xticks(range(len(classes)), classes)
    axes.set_yticks(range(len(classes)), classes)
    _tilt(axes)
    axes.tick_params(labelsize=7.5, labelleft=labelled)
    return mesh


@styled
def gradient_scale_plot(
    temperatures: Sequence[float], measured: Any, law: Any = None, *, data_name: str = ""
) -> Figure:
    """Size of the gradient on the logits against T, both axes logarithmic, beside a law.

    `measured` is one value for each T, or a dict from a name to that. `law` is the same for the
    dotted line; left out, it is c / T^2 through the last point of the first line.
    """
    grid, lines = np.asarray(temperatures, dtype=float), named(measured, "measured")
    if law is None:
        law = float(array(next(iter(lines.values())))[-1]) * (grid[-1] / grid) ** 2
    figure = new_figure(6.4, 3.8, "How the gradient shrinks with temperature", data_name)
    axes = figure.subplots()
    axes.plot(grid, array(law), color=GREY, ls=":", label="law: proportional to 1 / T²")
    for position, (name, values) in enumerate(lines.items()):
        colour, marker = PALETTE[(0, 3, 2, 4)[position % 4]], "osD^"[position % 4]
        axes.plot(grid, array(values), color=colour, marker=marker, ms=5, label=name)
    axes.set(yscale="log", ylabel="size of the gradient on the logits")
    temperature_axis(axes, grid[0] * 0.93, grid[-1] * 1.08)
    axes.grid(which="major")
    axes.legend(loc="best")
    return figure


# --- notebooks 05 and 06: distillation and what it buys -------------------------------------------


@styled
def sweep_heatmap(
    values: Any,
    temperatures: Sequence[float],
    weights: Sequence[float],
    *,
    baseline: float | None = None,
    metric: str = "validation accuracy",
    data_name: str = "",
) -> Figure:
    """Accuracy for each temperature (row) and soft weight (column), (R, K) fractions.

    With a baseline the colour is the gain over it in points: one hue for better, one for worse.
    """
    values = 100 * array(values).astype(float)
    gain = values - (100 * baseline if baseline is not None else 0)
    words = [
        f"{v:.1f} %" + (f"\n{g:+.1f}" if baseline is not None else "")
        for v, g in zip(values.flat, gain.flat, strict=True)
    ]
    reach = float(np.nanmax(np.abs(gain))) or 1.0
    scale = (
        {"cmap": SEQUENTIAL}
        if baseline is None
        else ({"cmap": DIVERGING, "vmin": -reach, "vmax": reach})
    )
    bar = f"{metric}, %" if baseline is None else "gain over labels only, points"
    note = (
        data_name
        if baseline is None
        else " · ".join(
            part for part in (data_name, f"labels only: {100 * baseline:.1f} %") if part
        )
    )
    figure = new_figure(
        min(9, 2.6 + 0.95 * len(weights)),
        1.5 + 0.55 * len(temperatures),
        f"Temperature and weight: {metric}",
        note,
    )
    axes = figure.subplots()
    sns.heatmap(
        gain,
        ax=axes,
        annot=np.array(words).reshape(values.shape),
        fmt="",
        linewidths=1.5,
        xticklabels=[f"{w:g}" for w in weights],
        yticklabels=[f"{t:g}" for t in temperatures],
        annot_kws={"size": 8.5},
        cbar_kws={"label": bar},
        **scale,
    )
    row, column = np.unravel_index(np.nanargmax(values), values.shape)
    axes.add_patch(Rectangle((column, row), 1, 1, fill=False, ec=INK, lw=2.2, clip_on=False))
    axes.set(xlabel="soft weight (0: labels only, 1: teacher only)", ylabel="temperature T")
    axes.tick_params(length=0, rotation=0)
    return figure


@styled
def paired_difference_plot(
    differences: Any,
    interval: Any,
    *,
    unit: str = "percentage points",
    title: str | None = None,
    data_name: str = "",
) -> Figure:
    """Differences seed by seed (dots), their mean and its interval (bar), and zero.

    Args:
        differences: one number a seed, or a dict from a name to those.
        interval: `metrics.PairedDifference`, or a dict with the same names; same unit.
        unit: of both; nothing is rescaled.
    """
    dots, bars = named(differences, "distilled"), named(interval, "distilled")
    title = title or "Difference to labels only, seed by seed"
    figure = new_figure(7, 1.35 + 0.55 * len(dots), title, data_name)
    axes = figure.subplots()
    axes.axvline(0, color=GREY, lw=1, ls=":")
    for y, (name, values) in enumerate(dots.items()):
        colour, found = role_colour(name, y), bars[name]
        axes.plot((found.low, found.high), (y, y), color=colour, lw=6, alpha=0.3)
        axes.plot(array(values), np.full(len(values), y), "o", color=colour, ms=4.5, alpha=0.8)
        axes.plot(found.mean, y, marker="|", ms=17, mew=2.4, color=colour)
        words = f"  {found.mean:+.2f} [{found.low:+.2f}, {found.high:+.2f}]: {found.verdict}"
        axes.text(1, y, words, transform=axes.get_yaxis_transform(), va="center", fontsize=8.5)
    axes.set_yticks(range(len(dots)), dots)
    axes.set(
        ylim=(len(dots) - 0.5, -0.5), xlabel=f"{unit}; dots: seeds, bar: 95 % interval of the mean"
    )
    axes.tick_params(axis="y", length=0)
    return figure


@styled
def per_class_change(
    before: Any,
    after: Any,
    classes: Sequence[str],
    *,
    names: Sequence[str] = ("labels only", "distilled"),
    data_name: str = "",
    title: str = "Which classes gained",
) -> Figure:
    """Accuracy of each class before and after, (C,) fractions, greatest gain on top."""
    before, after = array(before), array(after)
    order = np.argsort(-(after - before), kind="stable")
    figure = new_figure(7, 3.9, title, data_name)
    axes = figure.subplots()
    for y, c in enumerate(order):
        axes.plot((before[c], after[c]), (y, y), color="#b9bec6", lw=2.5, zorder=1)
        words = f"{100 * (after[c] - before[c]):+.1f}"
        axes.annotate(
            words,
            (1, y),
            (8, 0),
            xycoords=axes.get_yaxis_transform(),
            textcoords="offset points",
            va="center",
            annotation_clip=False,
        )
    for name, values, marker in zip(names, (before, after), "os", strict=True):
        axes.plot(values[order], range(len(order)), marker, color=role_colour(name), label=name)
    axes.set_yticks(range(len(order)), [classes[c] for c in order])
    axes.set(ylim=(len(order) - 0.5, -0.5), xlabel="accuracy on the class; right: change in points")
    percent_axis(axes.xaxis, None)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    _legend_above(axes)
    return figure


@styled
def accuracy_latency_scatter(
    rows: Sequence[Mapping[str, Any]], *, data_name: str = "", machine: str = ""
) -> Figure:
    """Accuracy against latency (log axis); the area of a dot is the model's size.

    Rows have `name`, `accuracy` (fraction) and `latency_ms`; `low` and `high` (its interval),
    `p10_ms`, `p90_ms` and `size_mb` are drawn where given.
    """
    note = " · ".join(part for part in (data_name, machine) if part)
    figure = new_figure(7, 4, "What accuracy costs in time", note)
    axes = figure.subplots()
    middle = math.sqrt(min(r["latency_ms"] for r in rows) * max(r["latency_ms"] for r in rows))
    for position, row in enumerate(rows):
        x, y, colour = row["latency_ms"], row["accuracy"], role_colour(row["name"], position)
        across = [[x - row.get("p10_ms", x)], [row.get("p90_ms", x) - x]]
        up = [[y - row.get("low", y)], [row.get("high", y) - y]]
        axes.errorbar(x, y, xerr=across, yerr=up, color=colour, lw=1.2, capsize=2.5)
        size = row.get("size_mb")
        axes.scatter(x, y, s=60 if size is None else 40 + 45 * size, color=colour, alpha=0.55)
        words = f"{row['name']}\n{100 * y:.1f} %, {x:.3g} ms" + (f", {size:.3g} MB" if size else "")
        # Words stand towards the middle, and above the dot if a weaker model is about as fast.
        side = "right" if x > middle else "left"
        above = any(r["accuracy"] < y and 0.6 < r["latency_ms"] / x < 1.7 for r in rows)
        offset = (-12 if side == "right" else 12, 4 if above else -4)
        style = {"ha": side, "va": "bottom" if above else "top", "fontsize": 8.5}
        axes.annotate(words, (x, y), offset, textcoords="offset points", **style)
    axes.set(xscale="log", xlabel="latency of one image, ms (log scale; whiskers: p10 to p90)")
    axes.set_ylabel("test accuracy (whiskers: 95 % interval)")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.margins(x=0.2, y=0.25)
    percent_axis(axes.yaxis, None)
    axes.grid()
    return figure
