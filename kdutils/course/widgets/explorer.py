"""Notebook 04's temperature explorer."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

import ipywidgets as controls
import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure

from ..plots import dark_knowledge_examples, softmax_temperature_bars
from ..plots.style import (
    BAND,
    GREY,
    PALETTE,
    STUDENT,
    TEACHER,
    array,
    draw_pixels,
    new_figure,
    percent_axis,
    picture,
    probabilities,
    short,
    styled,
    telling_classes,
    temperature_axis,
)
from .live import HIGHEST, LOWEST, LiveFigure, check_classes, check_rows, listed, percents, wide
from .stage import Array, Bars, Word

HIDDEN = "sure at T = 1, more to say when warm"
CONFUSED, DISAGREE = "most confused", "teacher and student disagree"
SURE = 0.9  # the teacher's first choice at T = 1 on a picture of `HIDDEN`: one bar, it seems
PER_CHOICE = 24  # pictures that one choice of the picker offers


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
        check_rows(
            images=self.images, labels=self.labels, teacher=self.teacher, student=self.student
        )
        check_classes(self.teacher, classes)
        self._choices = self._find_choices()
        self.picker = controls.Dropdown(
            options=list(self._choices),
            description="Show",
            tooltip="Which pictures to look at",
            style={"description_width": "6.5em"},
            layout=wide("26em"),
        )
        self.which = controls.IntSlider(
            min=1,
            max=len(self._choices[self.picker.value]),
            description="Picture",
            tooltip="Which of these pictures; arrow keys work",
            layout=wide("20em"),
        )
        scene, moving = self._build()
        self.picker.observe(self._pick, "value")
        self.which.observe(self._turn, "value")
        self._set_picture()
        self._assemble(scene, moving, [self.picker, self.which], self._temperature_row())
        if len(self._rows) < len(self.classes):
            self._turn()  # the layout is made; now the names that belong to the first picture

    @property
    def index(self) -> int:
        """Row of the image on show."""
        return self._choices[self.picker.value][self.which.value - 1]

    def _find_choices(self) -> dict[str, list[int]]:
        """Name of a choice -> rows; a choice without images is left out. The first comes first."""
        unsure = np.argsort(-entropies(self.teacher, 1.0), kind="stable")
        sure = probabilities(self.teacher, 1.0).max(1) >= SURE
        telling = dark_knowledge_examples(self.teacher, self.labels, len(self.labels))
        choices = {HIDDEN: [row for row in telling if sure[row]][:PER_CHOICE]}
        choices[CONFUSED] = unsure[:PER_CHOICE].tolist()
        if self.student is not None:
            apart = self.teacher.argmax(1) != self.student.argmax(1)
            losses = [
                loss_by_class(*rows, 1.0).sum()
                for rows in zip(self.teacher, self.student, strict=True)
            ]
            far = np.argsort(np.negative(losses), kind="stable")  # the loudest quarrel first
            choices[DISAGREE] = [int(i) for i in far if apart[i]][:PER_CHOICE]
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
            if len(self._rows) < len(self.classes):  # of many classes, each picture has its own
                self._bars[0].rename([self.classes[row] for row in self._rows])
                self._stage.set_background()
            else:
                self._stage.set_scene()
            self.refresh()

    # The figure: picture over entropy | teacher | student | share of the loss.

    def _build(self) -> tuple[list[Artist], list[Artist]]:
        both = self.student is not None
        rows, note = telling_classes(self.teacher[self.index], "the likeliest of each picture")
        size = 9.0 if both else 6.4, 4.0 + 0.16 * max(0, len(rows) - 10)
        title = "What the networks see, softened"
        self.figure = new_figure(*size, title, self.data_name, note=note)
        ratios = (1.2, 1.3, 1.3, 1.1) if both else (1, 1.5)
        grid = self.figure.add_gridspec(
            2, len(ratios), width_ratios=ratios, height_ratios=(1.45, 1)
        )
        scene = self._build_picture(grid[0, 0])
        names = ("teacher", "student", "share of the loss") if both else ("teacher",)
        colours = (TEACHER, STUDENT, PALETTE[4])
        # Room for the longest names that may come.
        names_of_bars = sorted(self.classes, key=len)[-len(rows) :] if note else self.classes
        self._bars, self._bands = [], []
        for column, (name, colour) in enumerate(zip(names, colours, strict=False), 1):
            axes = self.figure.add_subplot(grid[:, column])
            axes.set(xlim=(0, 1.3), xticks=(0, 0.5, 1), title=name)
            axes.set_xlabel("probability" if column < 3 else "part of T² · KL")
            percent_axis(axes.xaxis)
            self._bands.append(axes.axhspan(-0.5, 0.5, color=BAND, zorder=0))
            self._bars.append(Bars(axes, names_of_bars, colour, named=column == 1))
            axes.set_ylim(len(rows) + 0.4, -0.5)  # a line of words under the bars
        curves, moving = self._build_entropy(grid[1, 0])
        return [*scene, *curves, *self._bands], [*moving, *(bars.artist for bars in self._bars)]

    def _build_picture(self, place: Any) -> list[Artist]:
        axes = self.figure.add_subplot(place)
        draw_pixels(axes, picture(self.images[0]))
        self._photo = axes.images[0]
        # Not an axis label: those are drawn with the axes, into the background.
        style = {"ha": "center", "va": "top", "transform": axes.transAxes}
        self._caption = axes.text(0.5, -0.04, "label\nband", **style)
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
        self._caption.set_text(f"label: {short(self.classes[label], 24)}\n(the yellow band)")
        self._rows = self._find_rows(label)
        for band in self._bands:
            band.set_y(int(np.flatnonzero(self._rows == label)[0]) - 0.5)
        for curve, logits in zip(self._curves, self._logits(), strict=True):
            curve.set_data(self._grid, entropies(logits / self._grid[:, None], 1.0))

    def _find_rows(self, label: int) -> Array:
        """The classes with a bar: all, or of many the teacher's likeliest, the label, and the
        student's first choice. The temperature does not change them."""
        scores = self.teacher[self.index].copy()
        first = [] if self.student is None else [int(self.student[self.index].argmax())]
        scores[[label, *first]] = np.inf
        return telling_classes(scores, "")[0]

    def _update(self) -> tuple[list[Word], str, str]:
        temperature, logits = self.temperature.value, self._logits()
        softened = [probabilities(row, temperature) for row in logits]
        entropy = [float(entropies(row, temperature)) for row in logits]
        self._cursor.set_xdata([temperature, temperature])
        for dot, value in zip(self._dots, entropy, strict=True):
            dot.set_data([temperature], [value])
        for bars, p in zip(self._bars, softened, strict=False):
            bars.update(p[self._rows], percents(p[self._rows]))
        text = self._describe(temperature, softened, entropy)
        if self.student is not None:
            text += "<br>" + self._update_shares(*logits, temperature)
        notes = [f"entropy {nats:.2f} nats" for nats in entropy]
        if self.student is not None:
            notes.append(f"KL {self._kl:.3f} nats")
        words = [Word(self._cursor.axes, 0.9 * HIGHEST, 0.25, f"T = {temperature:.2f}", "rm")]
        for bars, note in zip(self._bars, notes, strict=True):
            words += [*bars.words, Word(bars.axes, bars.gap, len(self._rows) - 0.05, note)]
        first = int(softened[0].argmax())
        said = (
            f"T = {temperature:.2f}: {self.classes[first]} {100 * softened[0][first]:.0f} %, "
            f"entropy {entropy[0]:.2f} nats"
        )
        return words, said, text

    def _update_shares(self, teacher: Array, student: Array, temperature: float) -> str:
        parts = loss_by_class(teacher, student, temperature)
        loss = float(parts.sum())
        self._kl = loss / temperature**2
        share = parts / max(loss, 1e-300)
        self._bars[2].update(share[self._rows], percents(share[self._rows]))
        return (
            f"<b>KL(teacher ‖ student)</b> {self._kl:.4f} nats; times T²: "
            f"{loss:.3f}. Share of the loss: {listed(share, self.classes)}."
        )

    def _describe(self, temperature: float, softened: list[Array], entropy: list[float]) -> str:
        label = html.escape(self.classes[int(self.labels[self.index])])
        lines = [f"<b>T = {temperature:.2f}</b>, image {self.index}, label {label}."]
        for name, p, nats in zip(("Teacher", "Student"), softened, entropy, strict=False):
            first, *runners = [html.escape(self.classes[c]) for c in np.argsort(-p)[:4]]
            lines.append(
                f"<b>{name}</b>: entropy {nats:.3f} nats; {first} first, runners-up "
                f"{', '.join(runners)}. {listed(p, self.classes)}."
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

    The first picture is one of which the teacher seems certain at T = 1 and is not.

    Args:
        images: uint8 (N, C, H, W) of any size; grey with one channel.
        labels: int64 (N,).
        teacher_logits, student_logits: float (N, C); the student may be left out.
        classes: C names, C >= 2; of more than 20 the likeliest are drawn.
        data_name: for the title.

    Raises:
        ValueError: numbers of rows or classes do not fit together.
    """
    return TemperatureExplorer(images, labels, teacher_logits, classes, student_logits, data_name)
