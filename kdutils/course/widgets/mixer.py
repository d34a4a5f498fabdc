"""Notebook 05's loss mixer."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import ipywidgets as controls
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..plots.style import (
    BAND,
    GREY,
    PALETTE,
    STUDENT,
    TEACHER,
    array,
    draw_pixels,
    log_axis,
    new_figure,
    picture,
    probabilities,
    short,
    styled,
    telling_classes,
    temperature_axis,
)
from .live import HIGHEST, LOWEST, LiveFigure, check_classes, number_field, weight_slider
from .stage import Array, Bars, Word


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
        image: Any = None,
    ) -> None:
        super().__init__(
            "Three sets of bars: how the soft targets, the label, and both together push each "
            "logit of the student, and how long the two vectors are at every temperature. The "
            "label has a yellow band. The text below says the same in numbers."
        )
        self.teacher = array(teacher_logits_row).astype(np.float64)
        self.student = array(student_logits_row).astype(np.float64)
        if self.teacher.ndim != 1 or self.teacher.shape != self.student.shape:
            raise ValueError(
                f"The loss mixer looks at one image: give two rows of logits (C,), not "
                f"{self.teacher.shape} and {self.student.shape}."
            )
        check_classes(self.teacher, classes)
        if not 0 <= int(label) < len(classes):
            raise ValueError(f"Label {label} is not one of the {len(classes)} classes.")
        self.label, self.classes, self.data_name = int(label), tuple(classes), data_name
        self.temperature.value = 4.0
        self.image_shown = image
        self.soft_weight = weight_slider(0.9)
        self.typed_weight = number_field(self.soft_weight, "weight", 0, 1)
        self.keep_t2 = controls.Checkbox(
            value=True, description="multiply the soft loss by T²", indent=False
        )
        scene, moving = self._build()
        self.soft_weight.observe(self._reweigh, "value")
        self.keep_t2.observe(self.refresh, "value")
        self._set_weight()
        rows = self._temperature_row(), [self.soft_weight, self.typed_weight, self.keep_t2]
        self._assemble(scene, moving, *rows)

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
        self._grid = np.geomspace(LOWEST, HIGHEST, 40)
        soft = np.abs([self._soft(t, True) for t in self._grid])
        reach = max(np.abs(self._hard()).max(), soft.max())
        scores = soft.max(0)
        scores[self.label] = np.inf
        self._rows, note = telling_classes(scores, "those that are pushed most")
        names = [self.classes[row] for row in self._rows]
        size = 9, 3.9 + 0.16 * max(0, len(names) - 10)
        self.figure = new_figure(*size, title, self.data_name, note=note)
        shown = self.image_shown is not None
        ratios = (0.75, 1, 1, 1, 1.25)[0 if shown else 1 :]
        panels = list(self.figure.subplots(1, len(ratios), width_ratios=ratios))
        if shown:
            axes = panels.pop(0)
            draw_pixels(axes, picture(self.image_shown))
            axes.set_xlabel(f"label:\n{short(self.classes[self.label], 14)}", fontsize=8.5)
        kinds = ("soft targets", TEACHER), ("label (yellow)", STUDENT), ("sum", PALETTE[4])
        self._bars = []
        for axes, (name, colour) in zip(panels, kinds, strict=False):
            axes.set(xlim=(-1.65 * reach, 1.65 * reach), title=name)
            axes.set_xlabel("push on the logit\n= minus gradient")
            place = int(np.flatnonzero(self._rows == self.label)[0])
            axes.axhspan(place - 0.5, place + 0.5, color=BAND, zorder=0)
            axes.axvline(0, color=GREY, lw=0.8)
            axes.spines["left"].set_visible(False)
            self._bars.append(Bars(axes, names, colour, named=axes is panels[0]))
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
        log_axis(axes.yaxis)
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

    def _update(self) -> tuple[list[Word], str, str]:
        temperature, pushes = self.temperature.value, self.pushes()
        for bars, push in zip(self._bars, pushes, strict=True):
            shown = push[self._rows]
            bars.update(shown, [f"{v:+.2f}" if abs(v) >= 0.005 else "" for v in shown])
        self._cursor.set_xdata([temperature, temperature])
        self._dot.set_data([temperature], [max(float(np.linalg.norm(pushes[0])), 1e-12)])
        low = 2 * self._cursor.axes.get_ylim()[0]
        words = [Word(self._cursor.axes, 1.1 * LOWEST, low, f"T = {temperature:.2f}")]
        words += [word for bars in self._bars for word in bars.words]
        soft, hard = (float(np.linalg.norm(push)) for push in pushes[:2])
        said = f"T = {temperature:.2f}: soft targets push by {soft:.2f}, the label by {hard:.2f}"
        return words, said, self._describe(*pushes)

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
        log_axis(axes.yaxis)
        axes.grid(axis="y")
        axes.legend()
        return figure


def loss_mixer(
    teacher_logits_row: Any,
    student_logits_row: Any,
    label: int,
    classes: Sequence[str],
    data_name: str = "",
    image: Any = None,
) -> LossMixer:
    """One image's two gradients on the student's logits, and their sum, under two sliders.

    Args:
        teacher_logits_row, student_logits_row: float (C,).
        label: the true class, 0..C-1.
        classes: C names, C >= 2.
        data_name: for the title.
        image: uint8 (channels, H, W), to be shown beside the bars.

    Raises:
        ValueError: shapes, names or the label do not fit together.
    """
    return LossMixer(teacher_logits_row, student_logits_row, label, classes, data_name, image)
