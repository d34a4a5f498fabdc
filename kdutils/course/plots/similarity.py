"""Which classes the teacher finds alike (notebooks 02, 04)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ... import metrics
from . import style

SIMILARITY = "similarity, 0 to 1 (square-root colours)"  # what a bar beside such a map says


def relative_similarity(logits: Any, labels: Any, temperature: float) -> NDArray[np.float64]:
    """(C, C) in [0, 1], ones on the diagonal: how alike the teacher finds two classes at T.

    s is `metrics.class_similarity` made symmetric; the result is s_ij / sqrt(s_ii s_jj). It goes to
    the identity as T falls and to ones as T grows, and compares with `ImageData.similarity`.
    """
    values, names = torch.as_tensor(style.array(logits)), torch.as_tensor(style.array(labels))
    s = metrics.class_similarity(values, names, temperature).double().numpy()
    s = (s + s.T) / 2
    own = np.sqrt(np.maximum(s.diagonal(), 1e-12))
    relative = np.clip(s / np.outer(own, own), 0, 1)
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
    figure = style.new_figure(width, each + 1.6, "Which classes look alike", data_name, note=note)
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
