"""Distil it yourself: trains in the background, can be stopped, keeps its runs, says what failed."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import ipywidgets
import numpy as np
import pytest
import torch
from PIL import Image
from small import TinyNet, tiny_data

from kdutils import losses, models, train
from kdutils.course import plots, widgets
from kdutils.course.widgets import runs
from kdutils.course.widgets.distiller import Distiller
from kdutils.data import ImageData
from kdutils.soft_targets import SoftTargets

DATA = tiny_data(256)


def recipe(epochs: int) -> train.Recipe:
    return train.Recipe(epochs=epochs, batch_size=32, learning_rate=0.05)


@pytest.fixture(scope="module")
def baseline() -> train.History:
    return train.fit(models.build("student", 0), DATA, recipe(2), progress=False)


@pytest.fixture
def make(baseline: train.History) -> Callable[..., Distiller]:
    def new(data: ImageData = DATA, targets: train.TeacherLogits | None = None) -> Distiller:
        targets = targets or SoftTargets(TinyNet(), data.train)
        return widgets.distil_it_yourself(data, targets, {2: baseline}, 4, recipe=recipe)

    return new


class Gate(SoftTargets):
    """Soft targets that wait until they are let through: the training stands still meanwhile."""

    def __init__(self) -> None:
        super().__init__(TinyNet(), DATA.train)
        self.reached, self.opened = threading.Event(), threading.Event()

    def epoch(self, views: list[int] | None) -> torch.Tensor:
        self.reached.set()
        assert self.opened.wait(60)
        return super().epoch(views)


def test_a_run_is_drawn_told_and_kept(make: Callable[..., Distiller]) -> None:
    lesson = make()
    before = lesson.image.value
    run = lesson.train(wait=True)
    assert (run.state, len(run.rows), lesson.busy) == (runs.FINISHED, 2, False)
    assert lesson.image.value != before
    said = lesson.status.value
    found = re.search(r"finished in [\d.]+ s: ([\d.]+) %, labels only ([\d.]+) %", said)
    assert found and float(found[1]) == pytest.approx(100 * run.rows[-1]["val_accuracy"], abs=0.06)
    assert "#1" in lesson.table.value and "finished" in lesson.table.value
    assert not lesson.train_button.disabled and lesson.cancel_button.disabled
    assert lesson.progress.value == lesson.progress.max == 2 * 8


def test_it_is_the_run_that_fit_would_make(make: Callable[..., Distiller]) -> None:
    """Watching must change nothing: same loss, same seed, same numbers."""
    lesson = make()
    lesson.temperature.value, lesson.soft_weight.value = 2.0, 0.5
    run = lesson.train(wait=True)
    expected = train.fit(
        models.build("student", 0), DATA, recipe(2), progress=False,
        loss=losses.Distillation(run.temperature, 0.5),
        soft_targets=SoftTargets(TinyNet(), DATA.train),
    )  # fmt: skip
    assert [r["train_loss"] for r in run.rows] == [r["train_loss"] for r in expected.rows]


def test_weight_zero_is_the_baseline(
    make: Callable[..., Distiller], baseline: train.History
) -> None:
    lesson = make()
    lesson.soft_weight.value = 0
    run = lesson.train(wait=True)
    assert run.accuracy == baseline.last["val_accuracy"]
    assert "difference +0.0 points" in lesson.status.value


def test_the_button_returns_at_once_and_cancel_stops(make: Callable[..., Distiller]) -> None:
    gate = Gate()
    lesson = make(targets=gate)
    lesson.train_button.click()
    assert gate.reached.wait(30) and lesson.busy
    assert lesson.train_button.disabled and not lesson.cancel_button.disabled
    lesson.temperature.value = 7.0  # the main thread is free: controls answer meanwhile
    assert "Next run: T = 7.00" in lesson.text.value
    with pytest.raises(RuntimeError, match="going on"):
        lesson.train()
    lesson.cancel_button.click()
    gate.opened.set()
    assert lesson.wait(30)
    (run,) = lesson.runs
    assert (run.state, run.rows) == (runs.CANCELLED, [])
    assert "was cancelled after 0 of 2 epochs" in lesson.status.value
    assert "cancelled" in lesson.table.value and not lesson.train_button.disabled
    assert lesson.train(wait=True).state == runs.FINISHED, "and it can be used again"


def test_cancel_stops_within_a_batch() -> None:
    stop, seen = threading.Event(), []

    def on_batch(share: float) -> None:
        seen.append(share)
        if len(seen) == 3:
            stop.set()

    loss = runs.WatchedLoss(losses.LabelLoss(), on_batch, stop)
    with pytest.raises(KeyboardInterrupt):
        train.fit(models.build("student", 0), DATA, recipe(2), loss=loss, progress=False)
    assert len(seen) == 3


def test_cancel_stops_while_the_teacher_is_asked() -> None:
    data, stop, asked = tiny_data(2500), threading.Event(), []

    def on_block(number: int, blocks: int) -> None:
        asked.append((number, blocks))
        stop.set()

    targets = runs.WatchedTargets(SoftTargets(TinyNet(), data.train), on_block, stop)
    with pytest.raises(KeyboardInterrupt):
        targets.epoch(None)
    assert asked == [(1, 3)]


def test_a_failure_becomes_a_sentence(make: Callable[..., Distiller]) -> None:
    class Broken:
        fingerprint = "broken"

        def epoch(self, views: list[int] | None) -> torch.Tensor:
            raise ValueError("the disk is <full>")

    lesson = make(targets=Broken())
    run = lesson.train(wait=True)
    assert run.state == runs.FAILED
    said = "stopped with an error</b>: ValueError: the disk is &lt;full&gt;"
    assert said in lesson.status.value and lesson.progress.bar_style == "danger"
    assert "failed" in lesson.table.value and not lesson.train_button.disabled


def test_a_missing_baseline_is_trained_first(make: Callable[..., Distiller]) -> None:
    lesson = make()
    lesson.epochs.value = 1
    assert "labels only is trained first" in lesson.text.value
    run = lesson.train(wait=True)
    assert len(lesson.baselines[1]) == 1 and len(run.rows) == 1
    assert "labels only is trained first" not in lesson.text.value
    own = train.fit(models.build("student", 0), DATA, recipe(1), progress=False)
    assert lesson.baselines[1][0]["val_accuracy"] == own.last["val_accuracy"]


def test_runs_are_kept_to_compare(make: Callable[..., Distiller]) -> None:
    lesson = make()
    for temperature in (1.0, 4.0, 8.0):
        lesson.temperature.value = temperature
        lesson.train(wait=True)
    rows = lesson.table.value.count("<tr>")
    assert rows == 1 + 1 + 3  # heading, baseline, runs
    assert [run.number for run in lesson.runs] == [1, 2, 3]
    for temperature in ("1.00", "4.00", "8.00"):
        assert f">{temperature}</td>" in lesson.table.value
    assert {word.text for word in lesson._curves._numbers(lesson.runs)} == {"#1", "#2", "#3"}
    heights = sorted(word.y for word in lesson._curves._numbers(lesson.runs))
    low, high = lesson._curves.axes.get_ylim()
    assert min(np.diff(heights)) > 0.04 * (high - low), "numbers must not cover one another"


def test_a_double_click_is_one_run(
    make: Callable[..., Distiller], monkeypatch: pytest.MonkeyPatch
) -> None:
    """ipywidgets logs what a click raises: a traceback that the reader never asked for."""
    failed: list[object] = []
    monkeypatch.setattr(ipywidgets.widgets.widget.Widget, "log", _Log(failed))
    gate = Gate()
    lesson = make(targets=gate)
    lesson.train_button.click()
    lesson.train_button.click()
    gate.opened.set()
    assert lesson.wait(60) and len(lesson.runs) == 1 and not failed


class _Log:
    """Stands for a logger; keeps what is told it."""

    def __init__(self, kept: list[object]) -> None:
        self.kept = kept

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **kwargs: self.kept.append((name, args))


def test_train_can_be_pressed_as_soon_as_the_button_says_so(make: Callable[..., Distiller]) -> None:
    """In the instant when a run ends: its thread is alive still, the button is not grey any more."""
    lesson, second = make(), []

    def press(change: object) -> None:
        if not lesson.train_button.disabled and not second:
            assert lesson._background is not None and lesson._background.alive
            second.append(lesson.train())

    lesson.train_button.observe(press, "disabled")
    first = lesson.train(wait=True)
    assert lesson.wait(60) and [one.state for one in (first, *second)] == [runs.FINISHED] * 2
    assert len(lesson.runs) == 2 and not lesson.train_button.disabled


def test_the_bar_is_green_only_after_a_finished_run(make: Callable[..., Distiller]) -> None:
    gate = Gate()
    lesson = make(targets=gate)
    lesson.train_button.click()
    assert gate.reached.wait(30) and lesson.progress.bar_style == "info"
    lesson.cancel_button.click()
    gate.opened.set()
    assert lesson.wait(30) and lesson.progress.bar_style == "warning"
    lesson.train(wait=True)
    assert lesson.progress.bar_style == "success"


def test_the_live_curve_stays_within_its_axes(make: Callable[..., Distiller]) -> None:
    lesson, seen = make(), []

    def look(change: object) -> None:
        x, y = (np.asarray(v, dtype=float) for v in lesson._curves._thin.get_data())
        if len(x):
            (left, right), (low, high) = (
                lesson._curves.axes.get_xlim(), lesson._curves.axes.get_ylim()
            )  # fmt: skip
            seen.append(left <= x.min() and x.max() <= right and low <= y.min() and y.max() <= high)
            lesson.epochs.value = 1  # the next run shall be shorter: this one is drawn as before

    lesson.image.observe(look, "value")
    lesson.train(wait=True)
    assert seen and all(seen)


class Watched(Distiller):
    """Notes which thin line grows in which colour; can be cancelled in the comparison."""

    drawn: list[tuple[bool, str]]
    stop_after: int = 0

    def _update(self) -> object:
        found = super()._update()
        for line in (self._curves._thin, self._curves._thin_base):
            if self.runs and len(line.get_xdata()):
                self.drawn.append((self.runs[-1].comparing, line.get_color()))
        if self.stop_after and self.runs and len(self.runs[-1].compared) == self.stop_after:
            self.cancel()
        return found


def watched(stop_after: int = 0) -> Watched:
    Watched.drawn, Watched.stop_after = [], stop_after
    return Watched(DATA, SoftTargets(TinyNet(), DATA.train), {}, 4, recipe=recipe)


def test_labels_only_keeps_its_colour_while_it_is_trained() -> None:
    lesson = watched()
    lesson.epochs.value = 1
    lesson.train(wait=True)
    colours = {True: plots.role_colour("labels only"), False: plots.role_colour("distilled")}
    assert {comparing for comparing, _ in lesson.drawn} == {True, False}
    assert all(colour == colours[comparing] for comparing, colour in lesson.drawn)


def test_a_cancelled_comparison_goes_on_where_it_was() -> None:
    lesson = watched(stop_after=1)
    lesson.epochs.value = 2
    run = lesson.train(wait=True)
    assert run.state == runs.CANCELLED and run.rows == [] and len(run.compared) == 1
    assert "after 1 of 2 epochs on labels only" in lesson.status.value
    assert "1 of 2" in lesson.table.value and 2 not in lesson.baselines
    Watched.stop_after = 0
    again = lesson.train(wait=True)
    assert again.state == runs.FINISHED and "1 of 2" not in lesson.table.value.split("#1")[0]
    own = train.fit(models.build("student", 0), DATA, recipe(2), progress=False)
    assert [row["train_loss"] for row in lesson.baselines[2]] == own.column("train_loss")
    assert lesson.baselines[2][0] == run.compared[0], "the first epoch was not trained again"


def test_seconds_are_the_students_not_the_teachers(make: Callable[..., Distiller]) -> None:
    class Slow(SoftTargets):
        def epoch(self, views: list[int] | None) -> torch.Tensor:
            time.sleep(1.5)
            return super().epoch(views)

    lesson = make(targets=Slow(TinyNet(), DATA.train))
    run = lesson.train(wait=True)
    assert run.asking >= 3 and run.seconds == pytest.approx(run.rows[-1]["seconds"] - run.asking)
    assert f"finished in {run.seconds:.1f} s, after {run.asking:.1f} s of asking" in (
        lesson.status.value
    )
    assert f">{run.seconds:.1f}<" in lesson.table.value


def test_the_verdict_stands_above_the_picture(make: Callable[..., Distiller]) -> None:
    lesson = make()
    order = list(lesson.children)
    picture = next(i for i, box in enumerate(order) if lesson.image in getattr(box, "children", ()))
    buttons = next(
        i for i, box in enumerate(order) if lesson.train_button in getattr(box, "children", ())
    )
    assert buttons < order.index(lesson.status) < picture


def test_picture_and_still_are_pictures(make: Callable[..., Distiller]) -> None:
    lesson = make()
    assert Image.open(io.BytesIO(lesson.image.value)).width <= 900
    empty = plots.png(lesson.still())
    lesson.train(wait=True)
    assert plots.png(lesson.still()) != empty


def test_controls_are_labelled(make: Callable[..., Distiller]) -> None:
    lesson = make()
    for control in (lesson.temperature, lesson.soft_weight, lesson.epochs, lesson.train_button,
                    lesson.cancel_button, lesson.progress):  # fmt: skip
        assert control.description
    assert lesson.image.tooltip is None  # it breaks the picture in ipywidgets 8.1


def test_no_epochs_is_refused(baseline: train.History) -> None:
    with pytest.raises(ValueError, match="At least one epoch"):
        widgets.distil_it_yourself(DATA, SoftTargets(TinyNet(), DATA.train), {}, 0)


ENDS_WHILE_TRAINING = """
import sys
sys.path.insert(0, {tests!r})
from small import TinyNet, tiny_data
from kdutils import train, widgets
from kdutils.soft_targets import SoftTargets
data = tiny_data(2000)
lesson = widgets.distil_it_yourself(
    data, SoftTargets(TinyNet(), data.train), {{}}, 50,
    recipe=lambda n: train.Recipe(epochs=n, batch_size=16),
)
lesson.epochs.value = 50
lesson.train()
print("leaving", lesson.busy)
"""


def test_a_kernel_that_ends_takes_the_thread_along(request: pytest.FixtureRequest) -> None:
    code = ENDS_WHILE_TRAINING.format(tests=str(request.path.parents[2]))
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=180)
    assert (done.returncode, done.stdout, done.stderr) == (0, "leaving True\n", "")
    assert time.monotonic() - began < 170
