"""Networks as such: layers (notebooks 02, 03), sizes (03, 06), accuracy against latency (06)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from matplotlib.ticker import LogLocator, NullLocator

from . import style

_KINDS = {"Conv2d": "convolution", "WhitenedConv": "whitened", "Linear": "linear"}


@style.styled
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
    title = f"The {name or 'network'}, layer by layer"
    total = f"{sum(b[2] for b in boxes):,} parameters, {style.human(sum(b[3] for b in boxes))} "
    figure = style.new_figure(9, 4.9, title, note=f"{total}multiply-adds for one image")
    top, weights, work = figure.subplots(3, 1, sharex=True, height_ratios=(3, 1, 1))
    colour, crowded = style.role_colour(name), len(boxes) > 11
    small = {"ha": "center", "va": "top", "fontsize": 6 if crowded else 7.5}
    thickest = max(box[1][0] for box in boxes)
    for x, (label, shape, _, _) in enumerate(boxes):
        _draw_cuboid(top, x, shape, colour if x else style.GREY, input_shape[-1], thickest)
        words = (" ×\n" if crowded else " × ").join(map(str, shape))
        top.text(x, -0.12, words, **small)
        top.text(
            x, -0.6 if crowded else -0.34, label, color=style.GREY, rotation=40 * crowded, **small
        )
    style.bare(top)
    top.set(xlim=(-0.6, len(boxes) - 0.4), ylim=(-1.1 if crowded else -0.5, 1.4))
    for axes, key, words in ((weights, 2, "parameters"), (work, 3, "multiply-adds")):
        values = [box[key] for box in boxes]
        axes.bar(range(len(boxes)), values, color=colour, width=0.5)
        for x, value in enumerate(values[1:], 1):
            place = {"ha": "center", "va": "bottom", "fontsize": 6 if crowded else 8}
            axes.text(x, value, style.human(value), **place)
        style.bare(axes)
        axes.spines["bottom"].set_visible(True)
        axes.set_ylim(0, 1.3 * max(values) or 1)
        axes.set_title(words, fontsize=9)
    return figure


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


def _draw_cuboid(
    axes: Axes, x: float, shape: Sequence[int], colour: str, input_side: int, thickest: int
) -> None:
    """Height and depth follow the side of the activation, thickness its channels (square roots)."""
    side = math.sqrt(shape[-1] / input_side) if len(shape) == 3 else 0.12
    thick = math.sqrt(shape[0]) * min(0.0192, 0.35 / math.sqrt(thickest))
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


@style.styled
def size_bars(rows: Sequence[Mapping[str, Any]], *, data_name: str = "") -> Figure:
    """Parameters, multiply-adds and size of models, on log axes; networks of one size share a row.

    Rows have `name`, `parameters`, `macs`, `size_mb`. A line joins each model to the first one;
    its label says how many times smaller it is.
    """
    title = "What shrank, and by how much"
    kinds = {"parameters": "parameters", "macs": "multiply-adds an image", "size_mb": "size, MB"}
    sizes: dict[tuple[float, ...], list[str]] = {}
    for row in rows:
        sizes.setdefault(tuple(float(row[key]) for key in kinds), []).append(row["name"])
    names = ["\n".join(same) for same in sizes.values()]
    paint = style.role_colours([same[0] for same in sizes.values()])
    lines = sum(len(same) for same in sizes.values())
    figure = style.new_figure(9, 1.45 + 0.3 * lines + 0.15 * len(names), title, data_name)
    for k, axes in enumerate(figure.subplots(1, len(kinds), sharey=True)):
        values = [size[k] for size in sizes]
        for y, (value, same) in enumerate(zip(values, sizes.values(), strict=True)):
            axes.plot((values[0], value), (y, y), color=paint[same[0]], lw=2, alpha=0.35)
            axes.plot(value, y, "o", color=paint[same[0]], ms=8)
            words = style.human(value) + _ratio(values[0], value)
            place = {"textcoords": "offset points", "ha": "center", "size": 8.5}
            axes.annotate(words, (value, y), (0, 8), **place)
        axes.set(xscale="log", xlim=(min(values) / 4, 4 * max(values)))
        axes.set_xlabel(f"{list(kinds.values())[k]} (log scale)")
        axes.xaxis.set_major_locator(LogLocator(numticks=5))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(lambda value, _: style.human(value))
        axes.grid(axis="x")
        axes.tick_params(axis="y", length=0)
    style.name_rows(figure.axes[0], names)
    figure.axes[0].set_ylim(len(names) - 0.5, -0.7)
    return figure


def _ratio(first: float, value: float) -> str:
    return f"  (÷ {first / value:.2g})" if 0 < value < first else ""


@style.styled
def accuracy_latency_scatter(
    rows: Sequence[Mapping[str, Any]], *, data_name: str = "", machine: str = ""
) -> Figure:
    """Accuracy against latency (log axis); the area of a dot is the model's size.

    Rows have `name`, `accuracy` (fraction) and `latency_ms`; `low` and `high` (its interval),
    `p10_ms`, `p90_ms` and `size_mb` are drawn where given.
    """
    figure = style.new_figure(7, 4, "What accuracy costs in time", data_name, note=machine)
    axes, colours = figure.subplots(), style.role_colours([row["name"] for row in rows])
    middle = math.sqrt(min(r["latency_ms"] for r in rows) * max(r["latency_ms"] for r in rows))
    largest = max(row.get("size_mb") or 1e-9 for row in rows)
    for row in rows:
        x, y, colour = row["latency_ms"], row["accuracy"], colours[row["name"]]
        across = [[x - row.get("p10_ms", x)], [row.get("p90_ms", x) - x]]
        up = [[y - row.get("low", y)], [row.get("high", y) - y]]
        axes.errorbar(x, y, xerr=across, yerr=up, color=colour, lw=1.2, capsize=2.5)
        size = row.get("size_mb")
        axes.scatter(x, y, s=40 + 450 * (size or 0) / largest, color=colour, alpha=0.55)
        words = f"{row['name']}\n{100 * y:.1f} %, {x:.3g} ms" + (f", {size:.3g} MB" if size else "")
        # Words stand towards the middle, and above the dot if a weaker model is about as fast.
        side = "right" if x > middle else "left"
        above = any(r["accuracy"] < y and 0.6 < r["latency_ms"] / x < 1.7 for r in rows)
        offset = (-12 if side == "right" else 12, 4 if above else -4)
        look = {"ha": side, "va": "bottom" if above else "top", "fontsize": 8.5}
        axes.annotate(words, (x, y), offset, textcoords="offset points", **look)
    axes.set(xscale="log", xlabel="latency of one image, ms (log scale; whiskers: p10 to p90)")
    axes.set_ylabel("test accuracy (whiskers: 95 % interval)")
    style.log_axis(axes.xaxis)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.margins(x=0.2, y=0.25)
    style.percent_axis(axes.yaxis)
    axes.grid()
    return figure
