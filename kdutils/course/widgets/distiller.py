"""Notebook 05's "distil it yourself": choose, press *train*, watch, compare."""

from __future__ import annotations

import html
import math
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets as controls
from matplotlib.figure import Figure

from ... import models
from ...losses import Distillation, LabelLoss, Loss
from ...train import History, Recipe, Row, TeacherLogits, fit
from .. import experiments
from ..plots.style import styled
from .curves import Curves, counted, still
from .live import PROSE, LiveFigure, number_field, weight_slider, wide
from .runs import CANCELLED, FAILED, FINISHED, RUNNING, Background, Run, WatchedLoss, WatchedTargets
from .stage import Word

if TYPE_CHECKING:
    from ...data import ImageData

PAUSE = 0.3  # seconds between two drawings of the live curve: drawing must not slow the training
HEAD = ("run", "T", "soft weight", "epochs", "validation", "against labels only", "seconds", "")
BAR = {RUNNING: "info", FINISHED: "success", CANCELLED: "warning", FAILED: "danger"}


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
        self.busy = False  # whether a training is going on
        self._folder = tempfile.TemporaryDirectory(prefix="kdutils-")  # unfinished comparisons
        self._note, self._steps, self._done = "Choose, then press <b>train</b>.", 1, 0
        self._background: Background | None = None
        self._lock = threading.RLock()  # two threads draw: sliders here, the training there
        self._drawn_at = 0.0
        self._build_controls(most_epochs)
        self._curves = Curves(data.name)
        self.figure = self._curves.figure
        self._fit_axes()
        self._assemble([], self._curves.artists, *self._rows())
        self.children = (*self.children, self.table)
        self._show_table()

    # Controls.

    def _build_controls(self, most_epochs: int) -> None:
        self.temperature.value = experiments.DISTILLATION.temperature
        self.soft_weight = weight_slider(experiments.DISTILLATION.soft_weight)
        self.typed_weight = number_field(self.soft_weight, "weight", 0, 1)
        known = max((n for n in self.baselines if n <= most_epochs), default=min(3, most_epochs))
        self.epochs = controls.IntSlider(
            value=known,
            min=1,
            max=most_epochs,
            description="Epochs",
            tooltip="How often the student sees every training image; arrow keys work",
            style={"description_width": "6.5em"},
            layout=wide("24em"),
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
            layout=wide("22em"),
        )
        self.table = controls.HTML()
        self.train_button.on_click(lambda _: self._press())
        self.cancel_button.on_click(lambda _: self.cancel())
        self.epochs.observe(self._rescale, "value")
        self.soft_weight.observe(self.refresh, "value")

    def _rows(self) -> tuple[list[controls.Widget], ...]:
        return (
            [self.temperature, self.typed, *self.presets],
            [self.soft_weight, self.typed_weight, self.epochs],
            [self.train_button, self.cancel_button, self.progress],
        )

    def _press(self) -> None:
        """A second click before the button is grey is no mistake: there is a run already."""
        with self._lock:
            if not self.busy:
                self.train()

    def train(self, wait: bool = False) -> Run:
        """What the button does: train a student as the sliders say, in the background.

        Args:
            wait: come back when it is over.

        Raises:
            RuntimeError: a training is going on already.
        """
        with self._lock:
            if self.busy:
                raise RuntimeError("A run is going on; wait for it, or press cancel first.")
            run = Run(
                len(self.runs) + 1, self.temperature.value, self.soft_weight.value,
                self.epochs.value,
            )  # fmt: skip
            self.runs.append(run)
            self._set_running(run)
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

    # Training. Everything from here to `_finish` runs in the background thread.

    def _work(self, run: Run, stop: threading.Event) -> None:
        try:
            if run.epochs not in self.baselines:
                self._train_labels_only(run, stop)
            loss = Distillation(run.temperature, run.soft_weight)
            self._fit(run, loss, stop, f"run {run.number}", run.rows)
            run.state = FINISHED
        except KeyboardInterrupt:  # from `WatchedLoss` or `WatchedTargets`: somebody pressed cancel
            run.state = CANCELLED
        except Exception as error:  # whatever went wrong must become words that a reader sees
            run.state, run.error = FAILED, f"{type(error).__name__}: {error}"
        finally:
            self._finish(run)

    def _train_labels_only(self, run: Run, stop: threading.Event) -> None:
        """Labels only at the run's length; cancelled, it goes on from there the next time."""
        run.comparing = True
        earlier = [one.compared for one in self.runs[:-1] if one.epochs == run.epochs]
        run.compared += max(earlier, key=len, default=[])
        file = Path(self._folder.name) / f"labels-{run.epochs}.pt"
        what = "the comparison on labels only"
        done = self._fit(run, LabelLoss(), stop, what, run.compared, file)
        self.baselines[run.epochs] = done.rows
        run.comparing, run.compared = False, []

    def _fit(
        self,
        run: Run,
        loss: Loss,
        stop: threading.Event,
        what: str,
        rows: list[Row],
        checkpoint: Path | None = None,
    ) -> History:
        """One training by the one training loop; the live curve follows, `rows` grows."""
        plan = self.recipe(run.epochs)
        steps = self._steps = max(1, len(self.data.train) // plan.batch_size)
        begun = len(rows)
        run.begun, run.batches = begun, []
        self._done = self.progress.value = begun * steps
        self.progress.max = run.epochs * steps
        targets = None
        if checkpoint is None:
            targets = WatchedTargets(self.soft_targets, self._asking, stop)

        def on_batch(share: float) -> None:
            run.batches.append(share)
            epoch, batch = divmod(len(run.batches) - 1, steps)
            self._done = begun * steps + len(run.batches)
            self._note = (
                f"Training {what}: epoch {begun + epoch + 1} of {run.epochs}, batch {batch + 1} "
                f"of {steps}."
            )
            self._draw_sometimes()

        def on_epoch(row: Row) -> None:
            rows.append(row)
            run.asking = targets.seconds if targets else 0.0
            self._draw_sometimes(now=True)

        model = models.build("student", self.seed, len(self.data.classes))
        return fit(
            model, self.data, plan, loss=WatchedLoss(loss, on_batch, stop), soft_targets=targets,
            seed=self.seed, progress=False, on_epoch=on_epoch, checkpoint=checkpoint,
        )  # fmt: skip

    def _asking(self, number: int, blocks: int) -> None:
        self._note = f"Asking the teacher, once for all runs: block {number} of {blocks}."
        self._draw_sometimes(now=True)

    def _draw_sometimes(self, now: bool = False) -> None:
        if now or time.monotonic() - self._drawn_at > PAUSE:
            self._drawn_at = time.monotonic()
            self.progress.value = self._done
            self._rescale()

    def _finish(self, run: Run) -> None:
        # In one piece: who presses *train* from now on starts a run, and finds this one complete.
        with self._lock:
            self._note = self._verdict(run)
            self._set_running(run)
            self._rescale()
            self._show_table()

    def _set_running(self, run: Run) -> None:
        self.busy = run.state == RUNNING
        self.train_button.disabled, self.cancel_button.disabled = self.busy, not self.busy
        self.progress.bar_style = BAR[run.state]

    # The figure: learning curves.

    def _baseline(self) -> list[Row]:
        shown = self.runs[-1].epochs if self.busy else self.epochs.value
        return self.baselines.get(shown, [])

    def _fit_axes(self) -> bool:
        length = max(self.epochs.value, self.runs[-1].epochs if self.busy else 0)
        return self._curves.fit_axes(self._baseline(), self.runs, length)

    def _rescale(self, change: Any = None) -> None:
        """Draw, on axes that hold every curve; any thread may call it."""
        with self._lock:
            if self._fit_axes():
                self._stage.set_background()
            self.refresh()

    def refresh(self, change: Any = None) -> None:
        """Draw the state of the controls and of the training; any thread may call it."""
        with self._lock:
            super().refresh(change)

    def _say(self, short: str) -> None:
        """What goes on, or the verdict: in sight, above the picture, beside the buttons."""
        new = f"<p role='status' class='kd-status' style='{PROSE};margin:0'>{short}</p>"
        if self.status.value != new:
            self.status.value = new

    def _update(self) -> tuple[list[Word], str, str]:
        words = self._curves.update(self._baseline(), self.runs, self._steps)
        return words, self._note, self._describe()

    # Words.

    def _describe(self) -> str:
        chosen = (
            f"Next run: T = {self.temperature.value:.2f}, soft weight "
            f"{self.soft_weight.value:.2f}, {counted(self.epochs.value)} on "
            f"{len(self.data.train):,} images"
        )
        known = self.epochs.value in self.baselines
        return chosen + ("." if known else "; labels only is trained first, to compare with.")

    def _verdict(self, run: Run) -> str:
        name = f"<b>Run {run.number}</b> (T = {run.temperature:.2f}, weight {run.soft_weight:.2f})"
        if run.state == FAILED:
            return f"{name} <b>stopped with an error</b>: {html.escape(run.error)}"
        if run.comparing:
            return (
                f"{name} was cancelled before it began, after {len(run.compared)} of "
                f"{counted(run.epochs)} on labels only; the next run of this length goes on there."
            )
        if run.state == CANCELLED:
            return f"{name} was cancelled after {len(run.rows)} of {counted(run.epochs)}."
        assert run.accuracy is not None
        asked = f", after {run.asking:.1f} s of asking the teacher" if run.asking >= 0.5 else ""
        return (
            f"{name} finished in {run.seconds:.1f} s{asked}: {100 * run.accuracy:.1f} %, labels "
            f"only {100 * self.baselines[run.epochs][-1]['val_accuracy']:.1f} %, difference "
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
        lengths = {self.epochs.value, *(run.epochs for run in self.runs)}
        known = sorted(self.baselines.keys() & lengths)
        rows = [_labels_only(n, self.baselines[n]) for n in known]
        for run in self.runs:
            if run.compared and run.epochs not in self.baselines:
                rows.append(
                    _labels_only(f"{len(run.compared)} of {run.epochs}", run.compared, CANCELLED)
                )
            accuracy = "–" if run.accuracy is None else f"{100 * run.accuracy:.1f} %"
            length = f"{len(run.rows)} of {run.epochs}" if run.state != FINISHED else run.epochs
            rows.append(
                (f"#{run.number}", f"{run.temperature:.2f}", f"{run.soft_weight:.2f}", length,
                 accuracy, self._gain(run), f"{run.seconds:.1f}", run.state)
            )  # fmt: skip
        self.table.value = _table(rows)

    @styled
    def still(self) -> Figure:
        """The recorded baseline and every run so far, in one picture."""
        lengths = {run.epochs for run in self.runs} or {self.epochs.value}
        shown = {n: self.baselines[n] for n in lengths & self.baselines.keys()}
        return still(shown, self.runs, self.data.name)


def _labels_only(length: int | str, rows: list[Row], state: str = "recorded") -> tuple[Any, ...]:
    """A line of the table."""
    accuracy, seconds = rows[-1]["val_accuracy"], rows[-1]["seconds"]
    return "labels only", "", "", length, f"{100 * accuracy:.1f} %", "", f"{seconds:.1f}", state


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
