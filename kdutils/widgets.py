"""Interactive figures: drag a slider and the picture and its text alternative follow.

    explorer = temperature_explorer(images, labels, teacher_logits, classes, student_logits)
    explorer                                        # as the last line of a cell
    show(explorer.still(), "The same at T = 1, 4, 20.")   # for readers without a live kernel

How it works: a control's `observe` changes the artists of one Figure, which never is rebuilt, and
hands PNG bytes to an Image widget and words to an HTML widget. There is no Output widget, because
notebooks that are run without a browser sometimes hang on one (nbclient issue 312).
"""

from __future__ import annotations

import html
import math
import struct
import zlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import ipywidgets as controls
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont
from scipy.cluster.hierarchy import dendrogram, linkage
from scipy.spatial.distance import squareform
from scipy.stats import spearmanr

from .figures import (
    BAND,
    GREY,
    INK,
    PALETTE,
    STUDENT,
    TEACHER,
    array,
    bare,
    new_figure,
    percent_axis,
    picture,
    probabilities,
    styled,
    temperature_axis,
)
from .plots import (
    relative_similarity,
    similarity_heatmaps,
    similarity_mesh,
    softmax_temperature_bars,
)

LOWEST, HIGHEST = 0.5, 20.0
PRESETS = (1, 2, 4, 8, 20)
CONFUSED, DISAGREE = "most confused", "teacher and student disagree"
PER_CHOICE = 24  # pictures that one choice of the picker offers
Array = NDArray[Any]


# --- shared: a figure that is fast to update, and the controls of temperature ---------------------


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
        self.canvas.draw()
        figure.set_layout_engine("none")  # the layout holds from here on
        self.background = self.canvas.copy_from_bbox(figure.bbox)
        self.font = ImageFont.truetype(findfont("DejaVu Sans"), 8 * figure.dpi / 72)
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
        axes.set_yticklabels(classes if named else [])
        axes.tick_params(axis="y", length=0)
        self.axes, self.words = axes, list[Word]()
        self.artist = axes.add_collection(PolyCollection([], facecolors=colour, linewidths=0))
        self.gap = 0.02 * float(np.diff(axes.get_xlim())[0])
        top = np.arange(n) - 0.36
        self._y = np.stack([top, top, top + 0.72, top + 0.72], axis=1)

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


def temperature_slider(value: float = 1.0) -> controls.FloatLogSlider:
    """T from 0.5 to 20 on a log scale; 12 steps an octave, so that 1, 2, 4, 8 and 16 are hit."""
    return controls.FloatLogSlider(
        value=value,
        base=10,
        min=math.log10(LOWEST),
        max=math.log10(HIGHEST),
        step=math.log10(2) / 12,
        description="Temperature",
        readout_format=".2f",
        tooltip="Temperature T of the softmax, 0.5 to 20, log scale; arrow keys work",
        style={"description_width": "6.5em"},
        layout={"width": "30em", "max_width": "100%"},
    )


class LiveFigure(controls.VBox):
    """Controls over a picture (PNG) over its text alternative: what the widgets below share.

    A subclass builds `figure` and its artists, then calls `_assemble`; `_update` moves the artists
    and returns the words in the figure and the text alternative as HTML.
    """

    figure: Figure

    def __init__(self, alt: str) -> None:
        super().__init__()
        self.alt = alt  # what the picture shows; `text` says what can be read in it now
        self.temperature = temperature_slider()
        self.presets = tuple(self._preset(t) for t in PRESETS)
        self.play = self._sweep()
        # No tooltip: ipywidgets 8.1's image view fails on one, and nothing is drawn at all.
        self.image = controls.Image(
            format="png", layout={"max_width": "100%", "align_self": "flex-start"}
        )
        self.text = controls.HTML()
        self._busy = False

    def still(self) -> Figure:
        """A picture that tells the same story to a reader without a live kernel."""
        raise NotImplementedError

    def _update(self) -> tuple[list[Word], str]:
        raise NotImplementedError

    def _assemble(
        self,
        scene: Iterable[Artist],
        moving: Iterable[Artist],
        *rows: Sequence[controls.Widget],
    ) -> None:
        self._stage = Stage(self.figure, scene, moving)
        wrap = controls.Layout(flex_flow="row wrap", align_items="center")
        boxes = [controls.HBox(list(row), layout=wrap) for row in rows]
        self.children = (*boxes, self.image, self.text)
        self.temperature.observe(self.refresh, "value")
        self.refresh()

    def refresh(self, change: Any = None) -> None:
        """Draw the state of the controls: picture and words."""
        if not self._busy:
            words, alternative = self._update()
            self.image.value = self._stage.png(words)
            self.text.value = f"<div role='status' style='max-width:62em'>{alternative}</div>"

    def _preset(self, temperature: float) -> controls.Button:
        button = controls.Button(
            description=f"T = {temperature}",
            tooltip=f"Set the temperature to {temperature}",
            layout={"width": "5.4em"},
        )
        button.on_click(lambda _: setattr(self.temperature, "value", float(temperature)))
        return button

    def _sweep(self) -> controls.Play:
        steps = round(12 * math.log2(HIGHEST / LOWEST))
        play = controls.Play(
            min=0,
            max=steps,
            interval=120,
            description="Sweep",
            tooltip="Play: sweep the temperature from 0.5 to 20",
        )

        def move(change: Any) -> None:
            value = LOWEST * (HIGHEST / LOWEST) ** (change["new"] / steps)
            self.temperature.value = value

        play.observe(move, "value")
        return play

    def _temperature_rows(self) -> tuple[list[controls.Widget], list[controls.Widget]]:
        return [self.temperature, self.play], list(self.presets)


def entropies(logits: Array, temperature: float) -> Array:
    """Entropy of softmax(logits / T) over the last axis, in nats."""
    p = probabilities(logits, temperature)
    return -(p * np.log(np.maximum(p, 1e-300))).sum(-1)


def loss_by_class(teacher: Array, student: Array, temperature: float) -> Array:
    """Non-negative parts, one a class, that add up to T^2 · KL(teacher_T ‖ student_T).

    A part is T^2 (p log(p/q) - p + q): each is >= 0, and since p and q both sum to one the extra
    terms cancel in the sum. Logits (C,), nats.
    """
    p, q = probabilities(teacher, temperature), probabilities(student, temperature)
    tiny = 1e-300
    ratio = np.log(np.maximum(p, tiny)) - np.log(np.maximum(q, tiny))
    return temperature**2 * np.maximum(p * ratio - p + q, 0)


def _check_rows(**arrays: Array | None) -> None:
    """ValueError unless all that are given have equally many rows, at least one."""
    lengths = {name: len(values) for name, values in arrays.items() if values is not None}
    if len(set(lengths.values())) > 1 or 0 in lengths.values():
        found = ", ".join(f"{name} {n}" for name, n in lengths.items())
        raise ValueError(f"Give as many rows of each, at least one; found {found}.")


def _check_classes(logits: Array, classes: Sequence[str]) -> None:
    if logits.shape[-1] != len(classes):
        raise ValueError(
            f"The logits have {logits.shape[-1]} classes, but {len(classes)} names were given."
        )


def _percent(values: Array) -> list[str]:
    return [f"{100 * v:.1f} %" if v >= 0.0005 else "" for v in values]


def _listed(values: Array, classes: Sequence[str], least: float = 0.005) -> str:
    """`deer 61.2 %, horse 20.1 %, …`, greatest first."""
    order = [c for c in np.argsort(-values, kind="stable") if values[c] >= least]
    return ", ".join(f"{html.escape(classes[c])} {100 * values[c]:.1f} %" for c in order)


# --- notebook 04: the temperature explorer --------------------------------------------------------


class TemperatureExplorer(LiveFigure):
    """What `temperature_explorer` returns; `index` is the row of the image on show."""

    @styled
    def __init__(
        self,
        images: Any,
        labels: Any,
        teacher_logits: Any,
        classes: Sequence[str],
        student_logits: Any = None,
        data_name: str = "",
    ) -> None:
        super().__init__(
            "A picture, the classes that the networks see in it at the chosen temperature, and the "
            "entropy against temperature. The text below says the same in numbers."
        )
        self.images, self.labels = array(images), array(labels)
        self.teacher = array(teacher_logits).astype(np.float64)
        self.student = None if student_logits is None else array(student_logits).astype(np.float64)
        self.classes, self.data_name = tuple(classes), data_name
        _check_rows(
            images=self.images, labels=self.labels, teacher=self.teacher, student=self.student
        )
        _check_classes(self.teacher, classes)
        self._choices = self._find_choices()
        self.picker = controls.Dropdown(
            options=list(self._choices),
            description="Show",
            tooltip="Which pictures to look at",
            style={"description_width": "6.5em"},
            layout={"width": "22em"},
        )
        self.which = controls.IntSlider(
            min=1,
            max=len(self._choices[self.picker.value]),
            description="Picture",
            tooltip="Which of these pictures; arrow keys work",
            layout={"width": "20em"},
        )
        scene, moving = self._build()
        self.picker.observe(self._pick, "value")
        self.which.observe(self._turn, "value")
        self._set_picture()
        self._assemble(scene, moving, [self.picker, self.which], *self._temperature_rows())

    @property
    def index(self) -> int:
        """Row of the image on show."""
        return self._choices[self.picker.value][self.which.value - 1]

    def _find_choices(self) -> dict[str, list[int]]:
        """Name of a choice -> rows; a choice without images is left out."""
        unsure = np.argsort(-entropies(self.teacher, 1.0), kind="stable")
        choices = {CONFUSED: unsure[:PER_CHOICE].tolist()}
        if self.student is not None:
            apart = self.teacher.argmax(1) != self.student.argmax(1)
            choices[DISAGREE] = [int(i) for i in unsure if apart[i]][:PER_CHOICE]
        for number, name in enumerate(self.classes):
            choices[name] = np.flatnonzero(self.labels == number)[:PER_CHOICE].tolist()
        return {name: rows for name, rows in choices.items() if rows}

    def _pick(self, change: Any) -> None:
        self._busy = True  # one drawing for the change of choice, not one for each control
        self.which.max = len(self._choices[self.picker.value])
        self.which.value = 1
        self._busy = False
        self._turn()

    def _turn(self, change: Any = None) -> None:
        if not self._busy:
            self._set_picture()
            self._stage.set_scene()
            self.refresh()

    # The figure: picture over entropy | teacher | student | share of the loss.

    def _build(self) -> tuple[list[Artist], list[Artist]]:
        both = self.student is not None
        width = 9.0 if both else 6.4
        self.figure = new_figure(width, 4.0, "What the networks see, softened", self.data_name)
        ratios = (1.2, 1.3, 1.3, 1.1) if both else (1, 1.5)
        grid = self.figure.add_gridspec(
            2, len(ratios), width_ratios=ratios, height_ratios=(1.45, 1)
        )
        scene = self._build_picture(grid[0, 0])
        names = ("teacher", "student", "share of the loss") if both else ("teacher",)
        colours = (TEACHER, STUDENT, PALETTE[4])
        self._bars, self._bands = [], []
        for column, (name, colour) in enumerate(zip(names, colours, strict=False), 1):
            axes = self.figure.add_subplot(grid[:, column])
            axes.set(xlim=(0, 1.3), xticks=(0, 0.5, 1), title=name)
            axes.set_xlabel("probability" if column < 3 else "part of T² · KL")
            percent_axis(axes.xaxis)
            self._bands.append(axes.axhspan(-0.5, 0.5, color=BAND, zorder=0))
            self._bars.append(Bars(axes, self.classes, colour, named=column == 1))
        curves, moving = self._build_entropy(grid[1, 0])
        return [*scene, *curves, *self._bands], [*moving, *(bars.artist for bars in self._bars)]

    def _build_picture(self, place: Any) -> list[Artist]:
        axes = self.figure.add_subplot(place)
        bare(axes)
        self._photo = axes.imshow(picture(self.images[0]), interpolation="nearest")
        # Not an axis label: those are drawn with the axes, into the background.
        style = {"ha": "center", "va": "top", "transform": axes.transAxes}
        self._caption = axes.text(0.5, -0.04, "label", **style)
        return [self._photo, self._caption]

    def _build_entropy(self, place: Any) -> tuple[list[Artist], list[Artist]]:
        axes = self.figure.add_subplot(place)
        self._grid = np.geomspace(LOWEST, HIGHEST, 40)
        temperature_axis(axes, LOWEST, HIGHEST)
        axes.set(ylabel="entropy, nats", ylim=(0, 1.08 * math.log(len(self.classes))))
        axes.set_xlabel("temperature T")
        self._cursor = axes.axvline(1, color=GREY, lw=1)
        networks = ((TEACHER, "-"), (STUDENT, "--"))[: 1 if self.student is None else 2]
        self._curves = [axes.plot([], [], color=c, ls=dash)[0] for c, dash in networks]
        self._dots = [axes.plot([], [], "o", color=c, ms=6, clip_on=False)[0] for c, _ in networks]
        return self._curves, [self._cursor, *self._dots]

    def _logits(self) -> list[Array]:
        """The teacher's logits (C,) for the image on show, then the student's where given."""
        return [rows[self.index] for rows in (self.teacher, self.student) if rows is not None]

    def _set_picture(self) -> None:
        """What changes with the image and not with the temperature."""
        label = int(self.labels[self.index])
        self._photo.set_data(picture(self.images[self.index]))
        self._caption.set_text(f"label: {self.classes[label]}")
        for band in self._bands:
            band.set_y(label - 0.5)
        for curve, logits in zip(self._curves, self._logits(), strict=True):
            curve.set_data(self._grid, entropies(logits / self._grid[:, None], 1.0))

    def _update(self) -> tuple[list[Word], str]:
        temperature, logits = self.temperature.value, self._logits()
        softened = [probabilities(row, temperature) for row in logits]
        entropy = [float(entropies(row, temperature)) for row in logits]
        self._cursor.set_xdata([temperature, temperature])
        for dot, value in zip(self._dots, entropy, strict=True):
            dot.set_data([temperature], [value])
        for bars, p in zip(self._bars, softened, strict=False):
            bars.update(p, _percent(p))
        text = self._describe(temperature, softened, entropy)
        if self.student is not None:
            text += "<br>" + self._update_shares(*logits, temperature)
        note = Word(self._cursor.axes, 0.9 * HIGHEST, 0.25, f"T = {temperature:.2f}", "rm")
        return [note, *(word for bars in self._bars for word in bars.words)], text

    def _update_shares(self, teacher: Array, student: Array, temperature: float) -> str:
        parts = loss_by_class(teacher, student, temperature)
        loss = float(parts.sum())
        share = parts / max(loss, 1e-300)
        self._bars[2].update(share, _percent(share))
        return (
            f"<b>KL(teacher ‖ student)</b> {loss / temperature**2:.4f} nats; times T²: "
            f"{loss:.3f}. Share of the loss: {_listed(share, self.classes)}."
        )

    def _describe(self, temperature: float, softened: list[Array], entropy: list[float]) -> str:
        label = html.escape(self.classes[int(self.labels[self.index])])
        lines = [f"<b>T = {temperature:.2f}</b>, image {self.index}, label {label}."]
        for name, p, nats in zip(("Teacher", "Student"), softened, entropy, strict=False):
            first, *runners = [html.escape(self.classes[c]) for c in np.argsort(-p)[:4]]
            lines.append(
                f"<b>{name}</b>: entropy {nats:.3f} nats; {first} first, runners-up "
                f"{', '.join(runners)}. {_listed(p, self.classes)}."
            )
        return "<br>".join(lines)

    def still(self, temperatures: Sequence[float] = (1, 4, 20)) -> Figure:
        """The image on show at several temperatures, side by side."""
        return softmax_temperature_bars(
            self.teacher[self.index],
            temperatures,
            self.classes,
            label=int(self.labels[self.index]),
            image=self.images[self.index],
            student_logits=None if self.student is None else self.student[self.index],
            data_name=self.data_name,
        )


def temperature_explorer(
    images: Any,
    labels: Any,
    teacher_logits: Any,
    classes: Sequence[str],
    student_logits: Any = None,
    data_name: str = "",
) -> TemperatureExplorer:
    """Pick an image, drag the temperature, and watch what the teacher says.

    Args:
        images: uint8 (N, 3, H, W).
        labels: int64 (N,).
        teacher_logits, student_logits: float (N, C); the student may be left out.
        classes: C names.
        data_name: for the title.

    Raises:
        ValueError: numbers of rows or classes do not fit together.
    """
    return TemperatureExplorer(images, labels, teacher_logits, classes, student_logits, data_name)


# --- notebook 05: the loss mixer ------------------------------------------------------------------


class LossMixer(LiveFigure):
    """What `loss_mixer` returns; `pushes` gives the drawn vectors."""

    @styled
    def __init__(
        self,
        teacher_logits_row: Any,
        student_logits_row: Any,
        label: int,
        classes: Sequence[str],
        data_name: str = "",
    ) -> None:
        super().__init__(
            "Three sets of bars: how the soft targets, the label, and both together push each "
            "logit of the student, and how long the two vectors are at every temperature. The "
            "text below says the same in numbers."
        )
        self.teacher = array(teacher_logits_row).astype(np.float64)
        self.student = array(student_logits_row).astype(np.float64)
        if self.teacher.ndim != 1 or self.teacher.shape != self.student.shape:
            raise ValueError(
                f"The loss mixer looks at one image: give two rows of logits (C,), not "
                f"{self.teacher.shape} and {self.student.shape}."
            )
        _check_classes(self.teacher, classes)
        if not 0 <= int(label) < len(classes):
            raise ValueError(f"Label {label} is not one of the {len(classes)} classes.")
        self.label, self.classes, self.data_name = int(label), tuple(classes), data_name
        self.temperature.value = 4.0
        self.soft_weight = controls.FloatSlider(
            value=0.9,
            min=0,
            max=1,
            step=0.05,
            description="Soft weight",
            tooltip="0: labels only, 1: teacher only; arrow keys work",
            style={"description_width": "6.5em"},
            layout={"width": "30em", "max_width": "100%"},
        )
        self.keep_t2 = controls.Checkbox(
            value=True, description="multiply the soft loss by T²", indent=False
        )
        scene, moving = self._build()
        self.soft_weight.observe(self._reweigh, "value")
        self.keep_t2.observe(self.refresh, "value")
        self._set_weight()
        first, second = self._temperature_rows()
        self._assemble(scene, moving, first, [self.soft_weight, self.keep_t2], second)

    def _soft(self, temperature: float, keep_t2: bool) -> Array:
        """Minus the gradient of (T^2) KL(p_T ‖ q_T) on the student's logits: (T^2) (p - q) / T."""
        p, q = probabilities(self.teacher, temperature), probabilities(self.student, temperature)
        return (p - q) * (temperature if keep_t2 else 1 / temperature)

    def _hard(self) -> Array:
        """Minus the gradient of the cross entropy on the student's logits: onehot - q."""
        push = -probabilities(self.student, 1.0)
        push[self.label] += 1
        return push

    def pushes(self) -> tuple[Array, Array, Array]:
        """Minus the gradients on the student's logits, weighted, (C,): soft, label, and their sum.

        One step of gradient descent moves the logits along the third.
        """
        weight = self.soft_weight.value
        soft = weight * self._soft(self.temperature.value, self.keep_t2.value)
        hard = (1 - weight) * self._hard()
        return soft, hard, soft + hard

    def _build(self) -> tuple[list[Artist], list[Artist]]:
        title = "How the two losses push the student's logits"
        self.figure = new_figure(9, 3.9, title, self.data_name)
        panels = self.figure.subplots(1, 4, width_ratios=(1, 1, 1, 1.25))
        self._grid = np.geomspace(LOWEST, HIGHEST, 40)
        reach = max(
            np.abs(self._hard()).max(), *(np.abs(self._soft(t, True)).max() for t in self._grid)
        )
        kinds = (
            ("soft targets", TEACHER),
            ("label", STUDENT),
            ("sum", PALETTE[4]),
        )
        self._bars = []
        for axes, (name, colour) in zip(panels, kinds, strict=False):
            axes.set(xlim=(-1.65 * reach, 1.65 * reach), title=name)
            axes.set_xlabel("push on the logit\n(minus the gradient)")
            axes.axhspan(self.label - 0.5, self.label + 0.5, color=BAND, zorder=0)
            axes.axvline(0, color=GREY, lw=0.8)
            axes.spines["left"].set_visible(False)
            self._bars.append(Bars(axes, self.classes, colour, named=axes is panels[0]))
        curves, moving = self._build_lengths(panels[3])
        return curves, [*(bars.artist for bars in self._bars), *moving]

    def _build_lengths(self, axes: Axes) -> tuple[list[Artist], list[Artist]]:
        self._lengths = {
            keep: np.array([np.linalg.norm(self._soft(t, keep)) for t in self._grid])
            for keep in (True, False)
        }
        hard = float(np.linalg.norm(self._hard()))
        every = np.concatenate([*self._lengths.values(), [hard]])
        temperature_axis(axes, LOWEST, HIGHEST)
        axes.set(yscale="log", title="length of each push", xlabel="temperature T\n")
        axes.set_ylim(0.05 * max(every.min(), 1e-4), 12 * every.max())
        axes.grid(axis="y")
        self._curves = {
            True: axes.plot([], [], color=TEACHER, label="soft, with T²")[0],
            False: axes.plot([], [], color=TEACHER, ls=":", label="soft, without")[0],
        }
        self._level = axes.axhline(1, color=STUDENT, ls="--", label="label")
        self._cursor = axes.axvline(1, 0, 0.76, color=GREY, lw=1)  # ends below the legend
        self._dot = axes.plot([], [], "o", color=TEACHER, ms=6, clip_on=False)[0]
        axes.legend(loc="upper right", fontsize=7.5, handlelength=1.6)
        return [*self._curves.values(), self._level], [self._cursor, self._dot]

    def _set_weight(self) -> None:
        """What changes with the weight and not with the temperature. A log axis has no zero."""
        weight = self.soft_weight.value
        for keep, curve in self._curves.items():
            curve.set_data(self._grid, np.maximum(weight * self._lengths[keep], 1e-12))
        level = max((1 - weight) * float(np.linalg.norm(self._hard())), 1e-12)
        self._level.set_ydata([level, level])

    def _reweigh(self, change: Any) -> None:
        self._set_weight()
        self._stage.set_scene()
        self.refresh()

    def _update(self) -> tuple[list[Word], str]:
        temperature, pushes = self.temperature.value, self.pushes()
        for bars, push in zip(self._bars, pushes, strict=True):
            bars.update(push, [f"{v:+.2f}" if abs(v) >= 0.005 else "" for v in push])
        self._cursor.set_xdata([temperature, temperature])
        self._dot.set_data([temperature], [max(float(np.linalg.norm(pushes[0])), 1e-12)])
        low = 2 * self._cursor.axes.get_ylim()[0]
        words = [Word(self._cursor.axes, 1.1 * LOWEST, low, f"T = {temperature:.2f}")]
        words += [word for bars in self._bars for word in bars.words]
        return words, self._describe(*pushes)

    def _describe(self, soft_push: Array, hard_push: Array, total: Array) -> str:
        soft, hard, both = (float(np.linalg.norm(v)) for v in (soft_push, hard_push, total))
        kept = "with T²" if self.keep_t2.value else "without T²"
        ratio = f"{soft / hard:.3g} times the label's" if hard > 0 else "the only one"
        up, down = (html.escape(self.classes[int(i)]) for i in (total.argmax(), total.argmin()))
        return (
            f"<b>T = {self.temperature.value:.2f}, soft weight {self.soft_weight.value:.2f}, "
            f"{kept}</b>, label {html.escape(self.classes[self.label])}.<br>Length of the push: "
            f"soft targets {soft:.4f}, label {hard:.4f}, sum {both:.4f}; the soft one is {ratio}."
            f"<br>Together they raise {up} most ({total.max():+.3f}) and lower {down} most "
            f"({total.min():+.3f})."
        )

    @styled
    def still(self) -> Figure:
        """Length of the two pushes against T, with and without T^2, at the present weight."""
        title = "T² keeps the two losses in balance"
        figure = new_figure(6.4, 3.6, title, self.data_name)
        axes, weight = figure.subplots(), self.soft_weight.value
        for keep, (dash, name) in {True: ("-", "with T²"), False: (":", "without T²")}.items():
            lengths = weight * self._lengths[keep]
            axes.plot(self._grid, lengths, color=TEACHER, ls=dash, label=f"soft targets, {name}")
        hard = (1 - weight) * float(np.linalg.norm(self._hard()))
        axes.axhline(hard, color=STUDENT, ls="--", label="label")
        temperature_axis(axes, LOWEST, HIGHEST)
        axes.set(yscale="log", ylabel=f"length of the push, soft weight {weight:g}")
        axes.grid(axis="y")
        axes.legend()
        return figure


def loss_mixer(
    teacher_logits_row: Any,
    student_logits_row: Any,
    label: int,
    classes: Sequence[str],
    data_name: str = "",
) -> LossMixer:
    """One image's two gradients on the student's logits, and their sum, under two sliders.

    Args:
        teacher_logits_row, student_logits_row: float (C,).
        label: the true class, 0..C-1.
        classes: C names.
        data_name: for the title.

    Raises:
        ValueError: shapes, names or the label do not fit together.
    """
    return LossMixer(teacher_logits_row, student_logits_row, label, classes, data_name)


# --- notebook 04: the class map -------------------------------------------------------------------


def class_tree(similarity: Array) -> dict[str, Any]:
    """scipy's dendrogram (average linkage) on the distances 1 - similarity, not drawn."""
    distances = squareform(np.clip(1 - similarity, 0, None), checks=False)
    return dendrogram(linkage(distances, "average"), orientation="right", no_plot=True)


def rank_agreement(first: Array, second: Array) -> float:
    """Spearman's correlation of the pairs above the diagonal: do both rank the pairs alike?"""
    above = np.triu_indices(len(first), 1)
    return float(spearmanr(first[above], second[above]).statistic)


class Tree:
    """A dendrogram whose lines and names can move: one artist and C words."""

    def __init__(self, axes: Axes, classes: Sequence[str], title: str) -> None:
        self.axes, self.classes, self.words = axes, tuple(classes), list[Word]()
        self.artist = axes.add_collection(LineCollection([], colors=TEACHER, linewidths=1.6))
        axes.set(xlim=(1, 0), ylim=(10 * len(classes), 0), yticks=[], title=title)
        axes.set(xlabel="distance, 1 - similarity", xticks=(0, 0.5, 1))
        axes.spines["left"].set_visible(False)
        # Keeps the room that the names will need.
        widest = max(self.classes, key=len) + " "
        axes.text(-0.03, 5, widest, size=8, alpha=0)

    def update(self, similarity: Array) -> None:
        tree = class_tree(similarity)
        lines = zip(tree["dcoord"], tree["icoord"], strict=True)
        self.artist.set_segments([np.column_stack(line) for line in lines])
        names = (self.classes[leaf] for leaf in tree["leaves"])
        self.words = [Word(self.axes, -0.03, 10 * i + 5, name) for i, name in enumerate(names)]


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
        _check_rows(logits=self.logits, labels=self.labels)
        _check_classes(self.logits, classes)
        self.truth = None if truth is None else array(truth).astype(np.float64)
        if self.truth is not None and self.truth.shape != (len(classes),) * 2:
            raise ValueError(
                f"The true similarity has shape {self.truth.shape}; it must be "
                f"({len(classes)}, {len(classes)}), one row and column for each class."
            )
        self.temperature.value = 4.0
        self._assemble([], self._build(), *self._temperature_rows())

    @property
    def similarity(self) -> Array:
        """(C, C) `plots.relative_similarity` at the slider's temperature."""
        return relative_similarity(self.logits, self.labels, self.temperature.value)

    def _build(self) -> list[Artist]:
        rows = 1 if self.truth is None else 2
        self.figure = new_figure(7.6, 0.6 + 3.25 * rows, "Which classes look alike", self.data_name)
        panels = self.figure.subplots(rows, 2, squeeze=False, width_ratios=(1.25, 1))
        self._mesh = similarity_mesh(panels[0, 0], self.similarity, self.classes)
        panels[0, 0].set_title("the teacher's view")
        self._tree = Tree(panels[0, 1], self.classes, "its family tree")
        bar = self.figure.colorbar(self._mesh, ax=panels[:, 0], shrink=0.8, aspect=30, pad=0.02)
        bar.set_label("similarity, 0 to 1")
        bar.outline.set_visible(False)
        if self.truth is not None:
            similarity_mesh(panels[1, 0], self.truth, self.classes)
            panels[1, 0].set_title("the truth")
            self._true_tree = Tree(panels[1, 1], self.classes, "its family tree")
            self._true_tree.update(self.truth)
        return [self._mesh, self._tree.artist]

    def _update(self) -> tuple[list[Word], str]:
        temperature, found = self.temperature.value, self.similarity
        self._mesh.set_data(np.ma.masked_where(np.eye(len(found), dtype=bool), found))
        self._tree.update(found)
        words = [Word(self._mesh.axes, len(found) - 0.5, -1, f"T = {temperature:.2f}", "rm")]
        words += self._tree.words + ([] if self.truth is None else self._true_tree.words)
        return words, self._describe(found)

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
        if self.truth is None:
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
        classes: C names.
        truth: (C, C) known similarity in [0, 1] (`ImageData.similarity`), or None.
        data_name: for the title.

    Raises:
        ValueError: numbers of rows or classes do not fit together.
    """
    return ClassMap(logits, labels, classes, truth, data_name)
