"""Notebook 04's class map."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from scipy.cluster.hierarchy import dendrogram, linkage
from scipy.spatial.distance import squareform
from scipy.stats import spearmanr

from ..plots import relative_similarity, similarity_heatmaps, similarity_mesh
from ..plots.soft_targets import SIMILARITY
from ..plots.style import TEACHER, array, new_figure, short, styled
from .live import LiveFigure, check_classes, check_rows
from .stage import Array, Word

MOST_NAMES = 30  # leaves of a tree with a name


def class_tree(similarity: Array) -> dict[str, Any]:
    """scipy's dendrogram (average linkage) on the distances 1 - similarity, not drawn."""
    distances = squareform(np.clip(1 - similarity, 0, None), checks=False)
    return dendrogram(linkage(distances, "average"), orientation="right", no_plot=True)


def rank_agreement(first: Array, second: Array) -> float:
    """Spearman's correlation of the pairs above the diagonal: do both rank the pairs alike?

    NaN for fewer than three classes: one pair has no ranking.
    """
    if len(first) < 3:
        return math.nan
    above = np.triu_indices(len(first), 1)
    return float(spearmanr(first[above], second[above]).statistic)


class Tree:
    """A dendrogram whose lines and names can move: one artist and C words."""

    def __init__(self, axes: Axes, classes: Sequence[str], title: str) -> None:
        self.axes, self.words = axes, list[Word]()
        self.classes = [short(name, 24) for name in classes]
        self.artist = axes.add_collection(LineCollection([], colors=TEACHER, linewidths=1.6))
        axes.set(xlim=(1, 0), ylim=(10 * len(classes), 0), yticks=[], title=title)
        axes.set(xlabel="distance, 1 - similarity", xticks=(0, 0.5, 1))
        axes.spines["left"].set_visible(False)
        # Every so many leaves have a name, so that names do not cover one another.
        self.every = -(-len(classes) // MOST_NAMES)
        # Keeps the room that the names will need.
        axes.text(-0.03, 5, max(self.classes, key=len) + " ", size=8, alpha=0)

    def update(self, similarity: Array) -> None:
        tree = class_tree(similarity)
        lines = zip(tree["dcoord"], tree["icoord"], strict=True)
        self.artist.set_segments([np.column_stack(line) for line in lines])
        self.words = [
            Word(self.axes, -0.03, 10 * place + 5, self.classes[leaf])
            for place, leaf in enumerate(tree["leaves"])
            if place % self.every == 0
        ]


def _named_mesh(axes: Axes, values: Array, classes: Sequence[str]) -> Any:
    """`similarity_mesh`; of many classes every so many have a name, and only at the side."""
    mesh = similarity_mesh(axes, values, classes)
    every = -(-len(classes) // MOST_NAMES)
    if every > 1:
        axes.set_xticks([])
        axes.set_yticks(range(0, len(classes), every), [short(c, 24) for c in classes[::every]])
    return mesh


class ClassMap(LiveFigure):
    """What `class_map` returns; `similarity` is the drawn matrix."""

    @styled
    def __init__(
        self,
        logits: Any,
        labels: Any,
        classes: Sequence[str],
        truth: Any = None,
        data_name: str = "",
    ) -> None:
        super().__init__(
            "A map of which classes the teacher finds alike at the chosen temperature, and the "
            "family tree that follows from it. The text below says the same in numbers."
        )
        self.logits, self.labels = array(logits).astype(np.float64), array(labels)
        self.classes, self.data_name = tuple(classes), data_name
        check_rows(logits=self.logits, labels=self.labels)
        check_classes(self.logits, classes)
        self.truth = None if truth is None else array(truth).astype(np.float64)
        if self.truth is not None and self.truth.shape != (len(classes),) * 2:
            raise ValueError(
                f"The true similarity has shape {self.truth.shape}; it must be "
                f"({len(classes)}, {len(classes)}), one row and column for each class."
            )
        self.temperature.value = 4.0
        self._assemble([], self._build(), self._temperature_row())

    @property
    def similarity(self) -> Array:
        """(C, C) `plots.relative_similarity` at the slider's temperature."""
        return relative_similarity(self.logits, self.labels, self.temperature.value)

    def _build(self) -> list[Artist]:
        rows = 1 if self.truth is None else 2
        high = max(1.95, 0.17 * min(len(self.classes), MOST_NAMES))
        title = "Which classes look alike"
        self.figure = new_figure(7.6, 1.3 + high * rows, title, self.data_name)
        panels = self.figure.subplots(rows, 2, squeeze=False, width_ratios=(1.25, 1))
        self._mesh = _named_mesh(panels[0, 0], self.similarity, self.classes)
        panels[0, 0].set_title("the teacher")
        panels[0, 0].tick_params(labelbottom=rows == 1)  # the truth below has the same columns
        self._tree = Tree(panels[0, 1], self.classes, "its family tree")
        bar = self.figure.colorbar(self._mesh, ax=panels[:, 0], shrink=0.8, aspect=30, pad=0.02)
        bar.set_label(SIMILARITY)
        bar.outline.set_visible(False)
        if self.truth is not None:
            _named_mesh(panels[1, 0], self.truth, self.classes)
            panels[1, 0].set_title("the truth")
            self._true_tree = Tree(panels[1, 1], self.classes, "its family tree")
            self._true_tree.update(self.truth)
        return [self._mesh, self._tree.artist]

    def _update(self) -> tuple[list[Word], str, str]:
        temperature, found = self.temperature.value, self.similarity
        self._mesh.set_data(np.ma.masked_where(np.eye(len(found), dtype=bool), found))
        self._tree.update(found)
        top = -0.5 - 0.05 * len(found)
        words = [Word(self._mesh.axes, len(found) - 0.5, top, f"T = {temperature:.2f}", "rm")]
        words += self._tree.words + ([] if self.truth is None else self._true_tree.words)
        rows, columns = np.triu_indices(len(found), 1)
        best = int(found[rows, columns].argmax())
        pair = f"{self.classes[rows[best]]} and {self.classes[columns[best]]}"
        return words, f"T = {temperature:.2f}: most alike are {pair}", self._describe(found)

    def _describe(self, found: Array) -> str:
        rows, columns = np.triu_indices(len(found), 1)
        values = found[rows, columns]
        pairs = ", ".join(
            f"{html.escape(self.classes[rows[k]])} and {html.escape(self.classes[columns[k]])} "
            f"({values[k]:.2f})"
            for k in np.argsort(-values, kind="stable")[:5]
        )
        words = (
            f"<b>T = {self.temperature.value:.2f}</b>. Most alike: {pairs}.<br>Similarity of two "
            f"classes runs from {values.min():.2f} to {values.max():.2f}, {values.mean():.2f} on "
            "average."
        )
        if self.truth is None or len(self.classes) < 3:
            return words
        return f"{words} Rank agreement with the truth: {rank_agreement(found, self.truth):.2f}."

    def still(self, temperatures: Sequence[float] = (1, 4, 20)) -> Figure:
        """The map at several temperatures, beside the truth where it is known."""
        return similarity_heatmaps(
            self.logits,
            self.labels,
            self.classes,
            temperatures,
            truth=self.truth,
            data_name=self.data_name,
        )


def class_map(
    logits: Any, labels: Any, classes: Sequence[str], truth: Any = None, data_name: str = ""
) -> ClassMap:
    """Similarity map and family tree of the classes as the temperature moves.

    Args:
        logits: float (N, C), of images that the teacher has not trained on.
        labels: int64 (N,).
        classes: C names, C >= 2.
        truth: (C, C) known similarity in [0, 1] (`ImageData.similarity`), or None.
        data_name: for the title.

    Raises:
        ValueError: numbers of rows or classes do not fit together.
    """
    return ClassMap(logits, labels, classes, truth, data_name)
