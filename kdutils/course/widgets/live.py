"""What the interactive figures share: controls over a picture over its text alternative."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from typing import Any

import ipywidgets as controls
import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure

from .stage import Array, Stage, Word

LOWEST, HIGHEST = 0.5, 20.0
PRESETS = (1, 2, 4, 8, 20)
PROSE = "max-width:62em;line-height:1.45"


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


def weight_slider(value: float) -> controls.FloatSlider:
    """Weight of the soft loss, 0 to 1."""
    return controls.FloatSlider(
        value=value,
        min=0,
        max=1,
        step=0.05,
        description="Soft weight",
        tooltip="0: labels only, 1: teacher only; arrow keys work",
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
        self.image = controls.Image(format="png", layout={"max_width": "100%"})
        self.text = controls.HTML(layout={"flex": "1 1 18em"})
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
        # The words stand beside the picture where there is room, on a projector; else below it.
        top = controls.Layout(flex_flow="row wrap", align_items="flex-start")
        shown = controls.HBox([self.image, self.text], layout=top)
        self.children = (*boxes, controls.HTML(hidden(self.alt)), shown)
        self.temperature.observe(self.refresh, "value")
        self.refresh()

    def refresh(self, change: Any = None) -> None:
        """Draw the state of the controls: picture and words."""
        if not self._busy:
            words, alternative = self._update()
            self.image.value = self._stage.png(words)
            self.text.value = f"<div role='status' style='{PROSE}'>{alternative}</div>"

    def _preset(self, temperature: float) -> controls.Button:
        button = controls.Button(
            description=f"T = {temperature}",
            tooltip=f"Set the temperature to {temperature}",
            layout={"width": "4.3em", "padding": "0"},
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

    def _temperature_row(self) -> list[controls.Widget]:
        return [self.temperature, self.play, *self.presets]


def hidden(words: str) -> str:
    """Words for a screen reader only: what the picture below shows."""
    style = "position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)"
    return f"<p style='{style}'>Picture: {html.escape(words)}</p>"


def check_rows(**arrays: Array | None) -> None:
    """ValueError unless all that are given have equally many rows, at least one."""
    lengths = {name: len(values) for name, values in arrays.items() if values is not None}
    if len(set(lengths.values())) > 1 or 0 in lengths.values():
        found = ", ".join(f"{name} {n}" for name, n in lengths.items())
        raise ValueError(f"Give as many rows of each, at least one; found {found}.")


def check_classes(logits: Array, classes: Sequence[str]) -> None:
    if logits.shape[-1] != len(classes):
        raise ValueError(
            f"The logits have {logits.shape[-1]} classes, but {len(classes)} names were given."
        )


def percents(values: Array) -> list[str]:
    return [f"{100 * v:.1f} %" if v >= 0.0005 else "" for v in values]


def listed(values: Array, classes: Sequence[str], least: float = 0.005) -> str:
    """`deer 61.2 %, horse 20.1 %, …`, greatest first."""
    order = [c for c in np.argsort(-values, kind="stable") if values[c] >= least]
    return ", ".join(f"{html.escape(classes[c])} {100 * values[c]:.1f} %" for c in order)
