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
PLAY, PAUSE = "▶ sweep", "❚❚ pause"
# Rings in the theme's strongest ink: ipywidgets' own have a contrast of 1.9 to 1. Names of tabs are
# never cut.
CSS = """<style>
.kd-live :is(.noUi-handle, button, select, input):focus-visible, .kd-live .noUi-handle:focus {
  outline: 3px solid var(--jp-ui-font-color0, currentColor) !important; outline-offset: 2px }
.widget-tab > .lm-TabBar .lm-TabBar-tab { flex: 0 1 auto !important; min-width: max-content }
</style>"""
ROW = {"flex_flow": "row wrap", "align_items": "center"}


def wide(width: str) -> dict[str, str]:
    """A control of this width, and no wider than the page."""
    return {"width": width, "max_width": "100%"}


def temperature_slider(value: float = 1.0) -> controls.FloatLogSlider:
    """T from 0.5 to 20 on a log scale; 12 steps an octave, so that 1, 2, 4, 8 and 16 are hit."""
    slider = controls.FloatLogSlider(
        value=value,
        base=10,
        min=math.log10(LOWEST),
        max=math.log10(HIGHEST),
        step=math.log10(2) / 12,
        description="Temperature",
        readout=False,  # `number_field` stands beside it, with a name
        tooltip="Temperature T of the softmax, 0.5 to 20, log scale; arrow keys work",
        style={"description_width": "6.5em"},
        layout=wide("26em"),
    )
    slider.add_class("kd-log")  # the page of `make app` then announces T, not its logarithm
    return slider


def weight_slider(value: float) -> controls.FloatSlider:
    """Weight of the soft loss, 0 to 1."""
    return controls.FloatSlider(
        value=value,
        min=0,
        max=1,
        step=0.05,
        description="Soft weight",
        readout=False,
        tooltip="0: labels only, 1: teacher only; arrow keys work",
        style={"description_width": "6.5em"},
        layout=wide("26em"),
    )


def number_field(
    slider: controls.FloatSlider | controls.FloatLogSlider, name: str, low: float, high: float
) -> controls.Text:
    """The slider's value as a text field with a name: screen readers read it, and a number can be
    typed (`3,5` is 3.5). What is no number brings the old value back. In a browser the slider then
    sends back its nearest step: 10 becomes 10.08."""
    field = controls.Text(
        description=name,
        continuous_update=False,
        tooltip=f"Type a number from {low:g} to {high:g}",
        style={"description_width": "initial"},
        layout={"width": f"{4.5 + 0.6 * len(name)}em"},
    )

    def show(change: Any = None) -> None:
        field.value = f"{slider.value:.2f}"

    def take(change: Any) -> None:
        if change["new"] == f"{slider.value:.2f}":
            return  # the slider moved, nobody typed
        try:
            typed = float(change["new"].strip().lstrip("T= ").replace(",", "."))
        except ValueError:
            typed = math.nan
        if math.isfinite(typed):
            slider.value = min(max(typed, low), high)
        show()

    show()
    slider.observe(show, "value")
    field.observe(take, "value")
    return field


class LiveFigure(controls.VBox):
    """Controls over a picture (PNG) over its text alternative: what the widgets below share.

    A subclass builds `figure` and its artists, then calls `_assemble`; `_update` moves the artists
    and returns the words in the figure, one short line for screen readers, and the text alternative
    as HTML.
    """

    figure: Figure

    def __init__(self, alt: str) -> None:
        super().__init__()
        self.add_class("kd-live")
        self.alt = alt  # what the picture shows; `text` says what can be read in it now
        self.temperature = temperature_slider()
        self.typed = number_field(self.temperature, "T", LOWEST, HIGHEST)
        self.presets = tuple(self._preset(t) for t in PRESETS)
        self._sweeping = self._overruled = False
        self.play, self.play_button = self._sweep()
        # No tooltip: ipywidgets 8.1's image view fails on one, and nothing is drawn at all.
        self.image = controls.Image(format="png", layout={"max_width": "100%"})
        self.status = controls.HTML()
        self.text = controls.HTML(layout={"flex": "1 1 18em"})
        self._busy = False

    def still(self) -> Figure:
        """A picture that tells the same story to a reader without a live kernel."""
        raise NotImplementedError

    def _update(self) -> tuple[list[Word], str, str]:
        raise NotImplementedError

    def _assemble(
        self,
        scene: Iterable[Artist],
        moving: Iterable[Artist],
        *rows: Sequence[controls.Widget],
    ) -> None:
        self._stage = Stage(self.figure, scene, moving)
        boxes = [controls.HBox(list(row), layout=ROW) for row in rows]
        # The words stand beside the picture where there is room, on a projector; else below it.
        top = ROW | {"align_items": "flex-start"}
        shown = controls.HBox([self.image, self.text], layout=top)
        alt = controls.HTML(CSS + hidden(f"Picture: {self.alt}"))
        self.children = (*boxes, self.status, alt, shown)
        self.temperature.observe(self.refresh, "value")
        self.refresh()

    def refresh(self, change: Any = None) -> None:
        """Draw the state of the controls: picture and words."""
        if not self._busy:
            words, short, alternative = self._update()
            self.image.value = self._stage.png(words)
            self.text.value = f"<div class='kd-text' style='{PROSE}'>{alternative}</div>"
            if not self.play.playing:  # nobody can listen to eight lines a second
                self._say(short)

    def _say(self, short: str) -> None:
        self.status.value = hidden(short, "role='status'")

    def _preset(self, temperature: float) -> controls.Button:
        button = controls.Button(
            description=f"T = {temperature}",
            tooltip=f"Set the temperature to {temperature}",
            layout={"width": "4.3em", "padding": "0"},
        )
        button.on_click(lambda _: setattr(self.temperature, "value", float(temperature)))
        return button

    # The sweep: the browser counts in a Play without buttons (its own have no names).

    def _sweep(self) -> tuple[controls.Play, controls.Button]:
        steps = math.ceil(12 * math.log2(HIGHEST / LOWEST))
        play = controls.Play(
            min=0, max=steps, interval=120, description="Sweep", layout={"display": "none"}
        )
        button = controls.Button(
            description=PLAY, tooltip="Sweep the temperature from 0.5 to 20", layout=wide("6em")
        )
        button.on_click(lambda _: setattr(play, "playing", not play.playing))
        play.observe(self._step, "value")
        play.observe(self._started, "playing")
        self.temperature.observe(self._by_hand, "value")
        return play, button

    def _step(self, change: Any) -> None:
        # A browser that has not heard of a pause yet still counts: too late, the user has moved on.
        if self._sweeping or (self._overruled and not self.play.playing):
            return
        self._sweeping = True
        # On the slider's own steps: off them, the browser would send back the nearest one.
        self.temperature.value = min(HIGHEST, LOWEST * 2 ** (change["new"] / 12))
        self._sweeping = False

    def _started(self, change: Any) -> None:
        self.play_button.description = PAUSE if change["new"] else PLAY
        if change["new"]:
            self._overruled = False
        else:
            self.refresh()

    def _by_hand(self, change: Any) -> None:
        """Whoever takes the slider has it: the sweep ends, and starts anew when it is asked for."""
        if self._sweeping or self.play.value == self.play.min and not self.play.playing:
            return
        if math.isclose(change["new"], change["old"], rel_tol=1e-4):
            return  # the browser's slider sends back what it was told, a rounding apart
        self._overruled = self._sweeping = True
        self.play.playing, self.play.value = False, self.play.min
        self._sweeping = False

    def _temperature_row(self) -> list[controls.Widget]:
        return [self.temperature, self.typed, self.play_button, self.play, *self.presets]


def hidden(words: str, role: str = "") -> str:
    """Words for a screen reader only."""
    style = "position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)"
    return f"<p {role} class='kd-hidden' style='{style}'>{html.escape(words)}</p>"


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
    if len(classes) < 2:
        raise ValueError("The interactive figures need two classes or more.")


def percents(values: Array) -> list[str]:
    return [f"{100 * v:.1f} %" if v >= 0.0005 else "" for v in values]


def listed(values: Array, classes: Sequence[str], least: float = 0.005, most: int = 10) -> str:
    """`deer 61.2 %, horse 20.1 %, …`, greatest first; of many, the first `most`."""
    order = [c for c in np.argsort(-values, kind="stable") if values[c] >= least]
    rest = f" and {len(order) - most} more" if len(order) > most else ""
    named = (f"{html.escape(classes[c])} {100 * values[c]:.1f} %" for c in order[:most])
    return ", ".join(named) + rest
