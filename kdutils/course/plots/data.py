"""The figures of notebook 01: the images, how many there are, their views and their brightness."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from ...views import SHIFT, SIDE, apply_view, decode_view, describe_view
from . import style

GAP = 3  # pixels between two pictures of a mosaic
MIRRORED = np.array([222, 143, 5])  # the palette's amber


def _mosaic(tiles: Sequence[NDArray[Any]], columns: int) -> NDArray[Any]:
    """Pictures (H, W, 3) of one size in one white-gapped picture, row by row."""
    h, w, _ = tiles[0].shape
    rows = math.ceil(len(tiles) / columns)
    canvas = np.full((rows * (h + GAP) - GAP, columns * (w + GAP) - GAP, 3), 255, np.uint8)
    for i, tile in enumerate(tiles):
        y, x = i // columns * (h + GAP), i % columns * (w + GAP)
        canvas[y : y + h, x : x + w] = tile
    return canvas


def _centres(n: int, size: int) -> list[float]:
    return [i * (size + GAP) + (size - 1) / 2 for i in range(n)]


def _check_labels(labels: NDArray[Any], classes: Sequence[str]) -> None:
    most = max(len(classes), labels.max(initial=0) + 1)
    style.check_names(classes, most, "The labels are those")


@style.styled
def sample_sheet(
    images: Any, labels: Any, classes: Sequence[str], *, per_class: int = 10, data_name: str = ""
) -> Figure:
    """The first `per_class` images of each class, one class a row; of many classes the first 20."""
    images, labels = style.array(images), style.array(labels)
    _check_labels(labels, classes)
    title, shown = "What each class looks like", classes[: style.CLASSES]
    note = f"the first {style.CLASSES} of {len(classes):,} classes"
    note = note if len(shown) < len(classes) else ""
    height, width = images.shape[2:]
    blank = np.full((height, width, 3), 255, np.uint8)
    tiles = []
    for number in range(len(shown)):
        found = [style.picture(images[i]) for i in np.flatnonzero(labels == number)[:per_class]]
        tiles += found + [blank] * (per_class - len(found))
    across = min(9.0, 1.3 + 0.62 * per_class)
    tall = 0.75 + (across - 1.3) / per_class * len(shown) * height / width
    figure = style.new_figure(max(across, 5), tall, title, data_name, note=note)
    axes = figure.subplots()
    style.draw_pixels(axes, _mosaic(tiles, per_class))
    axes.set_yticks(_centres(len(shown), height), map(style.short, shown))
    axes.tick_params(axis="y", length=0)
    return figure


@style.styled
def class_balance(
    splits: Mapping[str, Any], classes: Sequence[str], *, data_name: str = ""
) -> Figure:
    """How many images of each class every split holds; a value is labels (N,) or a Split.

    One bar a class, one piece a split. Of many classes 20 are shown, from the largest on.
    """
    found = {name: style.array(getattr(split, "labels", split)) for name, split in splits.items()}
    for labels in found.values():
        _check_labels(labels, classes)
    counts = {name: np.bincount(each, minlength=len(classes)) for name, each in found.items()}
    total = np.sum(list(counts.values()), axis=0)
    title, chosen, note = "How many images of each class", np.arange(len(classes)), ""
    if not total.any():
        return style.nothing(title, data_name)
    if len(classes) > style.CLASSES:
        places = np.linspace(0, len(classes) - 1, style.CLASSES).astype(int)
        chosen = np.argsort(-total, kind="stable")[places]
        note = f"{style.CLASSES} of {len(classes):,} classes, from the largest to the smallest"
    figure = style.new_figure(7.5, 1.5 + 0.26 * len(chosen), title, data_name, note=note)
    axes = figure.subplots()
    left = np.zeros(len(chosen))
    for position, (name, each) in enumerate(counts.items()):
        colour = ("#5b6470", "#b4bac3", style.BAND)[position % 3]  # no network's colour
        wide = each[chosen]
        label = style.legend_name(f"{name}: {each.sum():,} images")
        axes.barh(range(len(chosen)), wide, left=left, height=0.72, color=colour, label=label)
        for y, (start, count) in enumerate(zip(left, wide, strict=True)):
            if count > 0.05 * total.max():
                ink = "white" if position % 3 == 0 else style.INK
                place = {"ha": "center", "va": "center", "color": ink, "size": 7.5}
                axes.text(start + count / 2, y, f"{count:,}", **place)
        left = left + wide
    style.name_rows(axes, [classes[c] for c in chosen])
    axes.set(xlabel="images", xlim=(0, 1.02 * total.max()))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    style.legend_above(axes)
    return figure


@style.styled
def view_grid(image: Any, views: Sequence[int] | None = None, *, data_name: str = "") -> Figure:
    """One image (C, H, W) under all 50 views, or under a chosen few, each named in words.

    The pixels that reflection filled in at the border are tinted: so one sees the shift.
    """
    image = torch.as_tensor(style.array(image))
    if views is not None:
        return _few_views(image, views, data_name)
    note = "amber: pixels that the reflection filled in"
    figure = style.new_figure(9, 5.4, "One image, fifty views", data_name, note=note)
    shifts = [f"{shift:+d}" if shift else "0" for shift in range(-SHIFT, SHIFT + 1)]
    words = ("as it is", "flipped left to right")
    for flip, axes in enumerate(figure.subplots(1, 2, sharey=True)):
        tiles = [_seen(image, 2 * k + flip) for k in range(SIDE**2)]
        style.draw_pixels(axes, _mosaic(tiles, SIDE))
        h, w = image.shape[-2:]
        across, down = _centres(SIDE, w), _centres(SIDE, h)
        axes.set_xticks(across, shifts)
        axes.set_yticks(down, shifts)
        axes.tick_params(length=0)
        axes.set(title=words[flip], xlabel="shift to the right, pixels")
        if not flip:
            axes.set_ylabel("shift down, pixels")
            corner = across[SHIFT] - w / 2 - 1, down[SHIFT] - h / 2 - 1
            axes.add_patch(Rectangle(corner, w + 2, h + 2, fill=False, ec=style.DISTILLED, lw=2))
    return figure


def _few_views(image: torch.Tensor, chosen: Sequence[int], data_name: str) -> Figure:
    title = "One image, several views"
    if not len(chosen):
        return style.nothing(title, data_name)
    columns = min(5, len(chosen))
    rows = math.ceil(len(chosen) / columns)
    note = "amber: pixels that the reflection filled in"
    figure = style.new_figure(
        max(5, 1.75 * columns), 0.65 + 2.2 * rows, title, data_name, note=note
    )
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels:
        style.bare(axes)
    for axes, view in zip(panels, chosen, strict=False):
        style.draw_pixels(axes, _seen(image, view))
        axes.set_xlabel(f"view {view}\n{describe_view(view)}", fontsize=8)
    return figure


def _seen(image: torch.Tensor, view: int) -> NDArray[Any]:
    """(H, W, 3) of a view, the reflected pixels at its border tinted."""
    pixels = style.picture(apply_view(image, view)).copy()
    down, right, flipped = decode_view(view)
    filled = np.zeros(pixels.shape[:2], dtype=bool)
    if down:
        filled[slice(0, down) if down > 0 else slice(down, None)] = True
    if right:
        filled[:, slice(0, right) if right > 0 else slice(right, None)] = True
    filled = filled[:, ::-1] if flipped else filled
    pixels[filled] = (0.45 * pixels[filled] + 0.55 * MIRRORED).astype(pixels.dtype)
    return pixels


@style.styled
def pixel_histogram(images: Any, *, data_name: str = "") -> Figure:
    """How often each brightness occurs in each channel of uint8 images (N, C, H, W)."""
    images = style.array(images)
    figure = style.new_figure(7, 3.2, "How bright the pixels are", data_name)
    axes = figure.subplots()
    channels = (
        ("red", style.PALETTE[3], "-"),
        ("green", style.PALETTE[2], "--"),
        ("blue", style.PALETTE[0], "-."),
    )
    if images.shape[1] != 3:
        channels = tuple(("grey", style.GREY, "-") for _ in range(images.shape[1]))
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
    style.percent_axis(axes.yaxis)
    style.legend_above(axes)
    axes.set_title("mean ± standard deviation", fontsize=8.5, color=style.GREY, loc="right")
    return figure
