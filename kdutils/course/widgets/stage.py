"""A figure that is fast to update: what never changes is drawn once, what moves every time."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from ..plots.style import INK, short

Array = NDArray[Any]


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """(H, W, 3) as PNG bytes. Rows stay unfiltered: a third of the time that Pillow takes."""
    height, width, _ = pixels.shape
    rows = np.zeros((height, 1 + 3 * width), np.uint8)  # each row starts with filter type 0
    rows[:, 1:] = pixels.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits a channel, RGB
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


class Word(NamedTuple):
    """A short text at data coordinates of some axes; anchor `lm` starts there, `rm` ends there."""

    axes: Axes
    x: float
    y: float
    text: str
    anchor: str = "lm"


class Stage:
    """A figure in three layers, so that a drag redraws only what it moves.

    The background never changes (axes, names). The scene changes with the picture. What moves is
    drawn at every call of `png`: its artists, then its words, for which Pillow takes a tenth of
    Matplotlib's time. Axes alone would take some 100 ms.
    """

    def __init__(self, figure: Figure, scene: Iterable[Artist], moving: Iterable[Artist]) -> None:
        self.figure, self.scene, self.moving = figure, list(scene), list(moving)
        self.canvas = FigureCanvasAgg(figure)
        for artist in (*self.scene, *self.moving):
            artist.set_animated(True)
        for artist in self.moving:
            artist.set_in_layout(False)  # the axes must not depend on where a dot is
        self.font = ImageFont.truetype(findfont("DejaVu Sans"), 8 * figure.dpi / 72)
        self.set_background()
        figure.set_layout_engine("none")  # the layout holds from here on

    def set_background(self) -> None:
        """Draw the axes anew: needed once, and when their limits change."""
        self.canvas.draw()
        self.background = self.canvas.copy_from_bbox(self.figure.bbox)
        self.set_scene()

    def set_scene(self) -> None:
        """Take over the scene's artists as they are now."""
        self.canvas.restore_region(self.background)
        self._draw(self.scene)
        self.still_part = self.canvas.copy_from_bbox(self.figure.bbox)

    def png(self, words: Iterable[Word]) -> bytes:
        """The figure as it is now, with words on it."""
        self.canvas.restore_region(self.still_part)
        self._draw(self.moving)
        size = self.canvas.get_width_height()
        image = PillowImage.frombuffer("RGBA", size, self.canvas.buffer_rgba(), "raw", "RGBA", 0, 1)
        image = image.convert("RGB")
        pen = ImageDraw.Draw(image)
        for word in words:
            x, y = word.axes.transData.transform((word.x, word.y))
            pen.text((x, image.height - y), word.text, INK, self.font, word.anchor)
        return encode_png(np.asarray(image))

    def _draw(self, artists: Iterable[Artist]) -> None:
        renderer = self.canvas.get_renderer()
        for artist in artists:
            artist.draw(renderer)


class Bars:
    """Horizontal bars, one a class, with their values beside them: one artist and C words."""

    def __init__(self, axes: Axes, classes: Sequence[str], colour: str, named: bool = True) -> None:
        n = len(classes)
        axes.set(ylim=(n - 0.5, -0.5), yticks=range(n))
        axes.tick_params(axis="y", length=0)
        self.axes, self.words = axes, list[Word]()
        self.rename(classes if named else [""] * n)
        self.artist = axes.add_collection(PolyCollection([], facecolors=colour, linewidths=0))
        self.gap = 0.02 * float(np.diff(axes.get_xlim())[0])
        top = np.arange(n) - 0.36
        self._y = np.stack([top, top, top + 0.72, top + 0.72], axis=1)

    def rename(self, names: Sequence[str]) -> None:
        """Other names for the bars; the stage's background must be drawn anew after it."""
        self.axes.set_yticklabels([short(name, 24) for name in names])

    def update(self, values: Array, words: Iterable[str]) -> None:
        zero = np.zeros_like(values)
        x = np.stack([zero, values, values, zero], axis=1)
        self.artist.set_verts(np.stack([x, self._y], axis=2))
        self.words = [
            Word(self.axes, v - self.gap, y, word, "rm")
            if v < 0
            else Word(self.axes, v + self.gap, y, word)
            for y, (v, word) in enumerate(zip(values, words, strict=True))
        ]
