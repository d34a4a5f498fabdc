"""Notebook 05's "distil it yourself": choose, press *train*, watch, compare."""

from __future__ import annotations

import html
import math
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import ipywidgets as controls
import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from ... import models
from ...losses import Distillation, LabelLoss, Loss
from ...train import History, Recipe, Row, TeacherLogits, fit
from .. import experiments
from ..plots.style import DISTILLED, GREY, STUDENT, new_figure, percent_axis, styled
from .live import LiveFigure, weight_slider
from .runs import CANCELLED, FAILED, FINISHED, Background, Run, WatchedLoss, WatchedTargets
from .stage import Array, Word

if TYPE_CHECKING:
    from ...data import ImageData

PAUSE = 0.3  # seconds between two drawings of the live curve: drawing must not slow the training
SMOOTH = 16  # batches in the moving average of the thin line
LABELLED = 6  # the latest runs have their numbers in the figure; the table has all
HEAD = ("run", "T", "soft weight", "epochs", "validation", "against labels only", "seconds", "")


class Distiller(LiveFigure):
    """What `distil_it_yourself` returns; `runs` holds every training so far."""

    @styled
    def __init__(
        self,
        data: ImageData,
        soft_targets: TeacherLogits,
        baselines: Mapping[int, list[Row]],
        most_epochs: int = 8,
        seed: int = 0,
        recipe: Callable[[int], Recipe] | None = None,
    ) -> None:
        super().__init__(
            "Learning curves: validation accuracy after each epoch of the student trained on "
            "labels only, of earlier runs, and of the run that goes on; a thin line is the share "
            "right in the training batches. The text and the table say the same in numbers."
        )
        if most_epochs < 1:
            raise ValueError(f"At least one epoch is needed; most_epochs is {most_epochs}.")
        self.data, self.soft_targets, self.seed = data, soft_targets, seed
        self.baselines = {n: list(rows) for n, rows in baselines.items()}
        self.recipe = recipe or (lambda epochs: experiments.recipe("student", data, epochs))
        self.runs: list[Run] = []
        self._note = "Choose, then press <b>train</b>."
        self._background: Background | None = None
        self._lock = threading.RLock()  # two threads draw: sliders here, the training there
        self._drawn_at = 0.0
        self._build_controls(most_epochs)
        self._assemble(*self._build(), *self._rows())
        self.children = (*self.children, self.table)
        self._show_table()

    # Controls.

    def _build_controls(self, most_epochs: int) -> None:
        self.temperature.value = experiments.DISTILLATION.temperature
        self.soft_weight = weight_slider(experiments.DISTILLATION.soft_weight)
        known = max((n for n in self.baselines if n <= most_epochs), default=min(3, most_epochs))
        self.epochs = controls.IntSlider(
            value=known,
            min=1,
            max=most_epochs,
            description="Epochs",
            tooltip="How often the student sees every training image; arrow keys work",
            style={"description_width": "6.5em"},
            layout={"width": "24em", "max_width": "100%"},
        )
        self.train_button = controls.Button(
            description="train", button_style="primary", tooltip="Train a new student"
        )
        self.cancel_button = controls.Button(
            description="cancel", disabled=True, tooltip="Stop the training at once"
        )
        self.progress = controls.IntProgress(
            min=0,
            max=1,
            description="Progress",
            style={"description_width": "5em"},
            layout={"width": "22em", "max_width": "100%"},
        )
        self.table = controls.HTML()
        self.train_button.on_click(lambda _: self.train())
        self.cancel_button.on_click(lambda _: self.cancel())
        self.epochs.observe(self._rescale, "value")
        self.soft_weight.observe(self.refresh, "value")

    def _rows(self) -> tuple[list[controls.Widget], ...]:
        return (
            [self.temperature, *self.presets],
            [self.soft_weight, self.epochs],
            [self.train_button, self.cancel_button, self.progress],
        )

    # Training. Everything from here to `_finish` runs in the background thread.

    def train(self, wait: bool = False) -> Run:
        """What the button does: train a student as the sliders say, in the background.

        Args:
            wait: come back when it is over.

        Raises:
            RuntimeError: a training is going on already.
        """
        if self.busy:
            raise RuntimeError("A run is going on; wait for it, or press cancel first.")
        run = Run(
            len(self.runs) + 1, self.temperature.value, self.soft_weight.value, self.epochs.value
        )
        self.runs.append(run)
        self._set_running(True)
        self._background = Background(lambda stop: self._work(run, stop))
        if wait:
            self._background.wait()
        return run

    def cancel(self) -> None:
        """What the button does: stop within a batch. What was learned so far stays in the table."""
        if self.busy:
            assert self._background is not None
            self._background.stop.set()
            self.cancel_button.disabled = True

    def wait(self, seconds: float | None = None) -> bool:
        """Until the run is over; False if it still goes on after `seconds`."""
        return self._background is None or self._background.wait(seconds)

    @property
    def busy(self) -> bool:
        """Whether a training is going on."""
        return self._background is not None and self._background.alive

    def _work(self, run: Run, stop: threading.Event) -> None:
        try:
            if run.epochs not in self.baselines:
                done = self._fit(run, LabelLoss(), None, stop, "the comparison on labels only")
                if len(done.rows) == run.epochs:
                    self.baselines[run.epochs] = done.rows
            if not stop.is_set():
                loss = Distillation(run.temperature, run.soft_weight)
                targets = WatchedTargets(self.soft_targets, self._asking, stop)
                self._fit(run, loss, targets, stop, f"run {run.number}", run.rows.append)
            run.state = FINISHED if len(run.rows) == run.epochs else CANCELLED
        except KeyboardInterrupt:  # from `WatchedLoss` or `WatchedTargets`: somebody pressed cancel
            run.state = CANCELLED
        except Exception as error:  # whatever went wrong must become words that a reader sees
            run.state, run.error = FAILED, f"{type(error).__name__}: {error}"
        finally:
            self._finish(run)

    def _fit(
        self,
        run: Run,
        loss: Loss,
        targets: TeacherLogits | None,
        stop: threading.Event,
        what: str,
        keep: Callable[[Row], Any] = lambda row: None,
    ) -> History:
        """One training by the one training loop; the live curve follows."""
        plan = self.recipe(run.epochs)
        steps = max(1, len(self.data.train) // plan.batch_size)
        self.progress.value, self.progress.max = 0, run.epochs * steps
        run.batches.clear()

        def on_batch(share: float) -> None:
            run.batches.append(share)
            epoch, batch = divmod(len(run.batches) - 1, steps)
            self._note = (
                f"Training {what}: epoch {epoch + 1} of {run.epochs}, batch {batch + 1} of {steps}."
            )
            self._draw_sometimes()

        def on_epoch(row: Row) -> bool:
            keep(row)
            self._draw_sometimes(now=True)
            return stop.is_set()

        model = models.build("student", self.seed, len(self.data.classes))
        return fit(
            model, self.data, plan, loss=WatchedLoss(loss, on_batch, stop), soft_targets=targets,
            seed=self.seed, progress=False, on_epoch=on_epoch,
        )  # fmt: skip

    def _asking(self, number: int, blocks: int) -> None:
        self._note = f"Asking the teacher, once for all runs: block {number} of {blocks}."
        self._draw_sometimes(now=True)

    def _draw_sometimes(self, now: bool = False) -> None:
        if now or time.monotonic() - self._drawn_at > PAUSE:
            self._drawn_at = time.monotonic()
            if self.runs:
                self.progress.value = len(self.runs[-1].batches)
            self.refresh()

    def _finish(self, run: Run) -> None:
        self._note = self._verdict(run)
        self._set_running(False)
        self._rescale()
        self._show_table()

    def _set_running(self, running: bool) -> None:
        self.train_button.disabled, self.cancel_button.disabled = running, not running
        self.progress.bar_style = "info" if running else "success"

    # The figure: learning curves.

    def _build(self) -> tuple[list[Artist], list[Artist]]:
        title = "Distil it yourself: teacher's answers against labels only"
        self.figure = new_figure(9, 3.7, title, self.data.name)
        axes = self._axes = self.figure.subplots()
        axes.set(xlabel="epoch", ylabel="accuracy")
        axes.xaxis.get_major_locator().set_params(integer=True)
        percent_axis(axes.yaxis)
        axes.grid(axis="y")
        draw = axes.plot
        self._old = draw([], [], color=GREY, lw=1, marker="o", ms=3, label="earlier runs")[0]
        self._thin = draw([], [], color=DISTILLED, lw=0.8, alpha=0.6,
                          label="this run, in training batches")[0]  # fmt: skip
        self._base = draw([], [], color=STUDENT, ls="--", marker="s", ms=5,
                          label="labels only, validation (recorded)")[0]  # fmt: skip
        self._now = draw([], [], color=DISTILLED, marker="o", ms=6,
                         label="this run, validation")[0]  # fmt: skip
        axes.legend(loc="upper left", bbox_to_anchor=(1.06, 1), borderaxespad=0)
        self._limits()
        return [], [self._old, self._thin, self._now, self._base]

    def _limits(self) -> None:
        """Axes that hold every curve, in whole tens of per cent."""
        seen = [row["val_accuracy"] for row in self._baseline()]
        seen += [row["val_accuracy"] for run in self.runs for row in run.rows]
        longest = max([self.epochs.value, *(len(run.rows) for run in self.runs)])
        top = math.ceil(10 * (max(seen, default=0.9) + 0.02)) / 10
        low = math.floor(10 * (min(seen, default=0.1) - 0.1)) / 10
        low, top = max(0, low), min(1, top)
        self._axes.set(xlim=(0, longest + 0.4), ylim=(low, top))
        self._axes.yaxis.set_major_locator(MultipleLocator(0.1 if top - low > 0.35 else 0.05))

    def _baseline(self) -> list[Row]:
        return self.baselines.get(self._epochs_shown(), [])

    def _epochs_shown(self) -> int:
        return self.runs[-1].epochs if self.busy and self.runs else self.epochs.value

    def _rescale(self, change: Any = None) -> None:
        with self._lock:
            self._limits()
            self._stage.set_background()
        self.refresh()

    def refresh(self, change: Any = None) -> None:
        """Draw the state of the controls and of the training; any thread may call it."""
        with self._lock:
            super().refresh(change)

    def _update(self) -> tuple[list[Word], str]:
        run = self.runs[-1] if self.runs else None
        _set_curve(self._base, self._baseline())
        _set_curve(self._now, run.rows if run else [])
        _set_curve(self._old, *(one.rows for one in self.runs[:-1]))
        self._thin.set_data(*self._moving_average(run))
        words = self._numbers()
        return words, self._describe()

    def _numbers(self) -> list[Word]:
        """The latest runs' numbers right of their last points, pushed apart where they collide."""
        ended = sorted(
            ((run.accuracy, run) for run in self.runs[-LABELLED:] if run.accuracy),
            key=lambda pair: pair[0],
        )
        low, high = self._axes.get_ylim()
        least = 0.05 * (high - low)
        words, height = [], -1.0
        for accuracy, run in ended:
            height = max(accuracy, height + least)
            words.append(Word(self._axes, len(run.rows) + 0.08, height, f"#{run.number}"))
        return words

    def _moving_average(self, run: Run | None) -> tuple[Array, Array]:
        """(epochs, share right in the last `SMOOTH` batches) of a run."""
        shares = np.array(run.batches if run else [])
        if len(shares) == 0:
            return shares, shares
        assert run is not None
        steps = self.progress.max / run.epochs
        sums = np.concatenate([[0.0], np.cumsum(shares)])
        ends = np.arange(1, len(sums))
        starts = np.maximum(ends - SMOOTH, 0)
        return ends / steps, (sums[ends] - sums[starts]) / (ends - starts)

    # Words.

    def _describe(self) -> str:
        chosen = (
            f"Next run: T = {self.temperature.value:.2f}, soft weight "
            f"{self.soft_weight.value:.2f}, {_epochs(self.epochs.value)} on "
            f"{len(self.data.train):,} images"
        )
        known = self.epochs.value in self.baselines
        first = "." if known else "; labels only is trained first, to compare with."
        return f"{self._note}<br>{chosen}{first}"

    def _verdict(self, run: Run) -> str:
        name = f"<b>Run {run.number}</b> (T = {run.temperature:.2f}, weight {run.soft_weight:.2f})"
        if run.state == FAILED:
            return (
                f"<span style='color:#b3261e'>{name} stopped with an error: "
                f"{html.escape(run.error)}</span>"
            )
        if run.state == CANCELLED:
            return f"{name} was cancelled after {len(run.rows)} of {_epochs(run.epochs)}."
        assert run.accuracy is not None
        return (
            f"{name} finished in {run.seconds:.1f} s: {100 * run.accuracy:.1f} %, labels only "
            f"{100 * self.baselines[run.epochs][-1]['val_accuracy']:.1f} %, difference "
            f"{self._gain(run)} points. One seed, {len(self.data.val):,} images: take less than "
            f"{self._tie(run.accuracy):.1f} points as a tie."
        )

    def _gain(self, run: Run) -> str:
        """Points above the baseline of equal length; only whole runs are compared."""
        if run.state != FINISHED or run.accuracy is None:
            return "–"
        return f"{100 * (run.accuracy - self.baselines[run.epochs][-1]['val_accuracy']):+.1f}"

    def _tie(self, accuracy: float) -> float:
        """Points that two accuracies on this many images differ by in 1 of 20 cases, by luck."""
        n = len(self.data.val)
        share = (accuracy * n + 1) / (n + 2)  # never exactly 0 or 1
        return 196 * math.sqrt(2 * share * (1 - share) / n)

    def _show_table(self) -> None:
        rows = [
            ("labels only", "", "", n, f"{100 * rows[-1]['val_accuracy']:.1f} %", "",
             f"{rows[-1]['seconds']:.1f}", "recorded")
            for n, rows in sorted(self.baselines.items()) if n == self.epochs.value or self._used(n)
        ]  # fmt: skip
        for run in self.runs:
            accuracy = "–" if run.accuracy is None else f"{100 * run.accuracy:.1f} %"
            length = f"{len(run.rows)} of {run.epochs}" if run.state != FINISHED else run.epochs
            rows.append(
                (f"#{run.number}", f"{run.temperature:.2f}", f"{run.soft_weight:.2f}", length,
                 accuracy, self._gain(run), f"{run.seconds:.1f}", run.state)
            )  # fmt: skip
        self.table.value = _table(rows)

    def _used(self, epochs: int) -> bool:
        return any(run.epochs == epochs for run in self.runs)

    @styled
    def still(self) -> Figure:
        """The recorded baseline and every run so far, in one picture."""
        figure = new_figure(7, 3.6, "Distilled here, against labels only", self.data.name)
        axes = figure.subplots()
        for n in sorted({run.epochs for run in self.runs} or {self.epochs.value}):
            rows = self.baselines.get(n, [])
            label = f"labels only, {_epochs(n)}"
            axes.plot(*_points(rows), color=STUDENT, ls="--", marker="s", ms=5, label=label)
        for run in self.runs:
            if run.rows:
                label = f"#{run.number}: T = {run.temperature:.3g}, weight {run.soft_weight:.2f}"
                axes.plot(*_points(run.rows), color=DISTILLED, marker="o", label=label,
                          alpha=1 if run is self.runs[-1] else 0.5)  # fmt: skip
        axes.set(xlabel="epoch", ylabel="validation accuracy")
        axes.xaxis.get_major_locator().set_params(integer=True)
        percent_axis(axes.yaxis, None)
        axes.grid(axis="y")
        axes.legend(loc="lower right")
        return figure


def _epochs(number: int) -> str:
    return f"{number} epoch{'' if number == 1 else 's'}"


def _points(rows: list[Row]) -> tuple[list[float], list[float]]:
    return [row["epoch"] for row in rows], [row["val_accuracy"] for row in rows]


def _set_curve(line: Any, *curves: list[Row]) -> None:
    """One or several learning curves in one artist, with a gap between them."""
    x: list[float] = []
    y: list[float] = []
    for rows in curves:
        epochs, values = _points(rows)
        x += [*epochs, math.nan]
        y += [*values, math.nan]
    line.set_data(x, y)


def _table(rows: list[tuple[Any, ...]]) -> str:
    side = "padding:.15em .9em;text-align:right"
    head = "".join(f"<th scope='col' style='{side}'>{name}</th>" for name in HEAD)
    body = "".join(
        "<tr>" + "".join(f"<td style='{side}'>{html.escape(str(v))}</td>" for v in row) + "</tr>"
        for row in rows
    )
    return (
        "<table class='kd-runs' style='border-collapse:collapse'><caption style='text-align:left'>"
        f"Runs to compare</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def distil_it_yourself(
    data: ImageData,
    soft_targets: TeacherLogits,
    baselines: Mapping[int, Any],
    most_epochs: int = 8,
    seed: int = 0,
    recipe: Callable[[int], Recipe] | None = None,
) -> Distiller:
    """Choose temperature, weight and epochs, press *train*, and compare with labels only.

    Every run starts from the same weights as the baseline and sees the same batches and views.

    Args:
        data: a part of the images that trains in seconds (`experiments.sweep_data`).
        soft_targets: the teacher's logits for `data.train`; cached ones make a run quick.
        baselines: number of epochs -> the recorded `History` (or its rows) of a student trained on
            labels only, with the same seed and recipe. A missing one is trained when first needed.
        most_epochs: the end of the slider.
        seed: of first weights and batches.
        recipe: number of epochs -> `Recipe`; default the house recipe for the student.

    Raises:
        ValueError: `most_epochs` is less than one.
    """
    recorded = {n: list(getattr(one, "rows", one)) for n, one in baselines.items()}
    return Distiller(data, soft_targets, recorded, most_epochs, seed, recipe)
