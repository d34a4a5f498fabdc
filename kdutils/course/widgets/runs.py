"""Training in the background: one thread, a report every batch, a stop that takes a moment only.

ipywidgets' messages (a click on *cancel*) are handled on the kernel's main thread. A training that
sat there would make the button dead until it is over, so it runs in a thread of its own.
"""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from ...losses import Loss
from ...runtime.identity import identity_of
from ...soft_targets import SoftTargets
from ...train import Row, TeacherLogits
from ...views import IDENTITY_VIEW, block_slices

RUNNING, FINISHED, CANCELLED, FAILED = "running", "finished", "cancelled", "failed"


@dataclass
class Run:
    """One training, as it goes on. Accuracies are fractions, times seconds."""

    number: int
    temperature: float
    soft_weight: float
    epochs: int
    state: str = RUNNING
    rows: list[Row] = field(default_factory=list)  # one a finished epoch, as in `History`
    batches: list[float] = field(default_factory=list)  # share right, one a batch
    compared: list[Row] = field(default_factory=list)  # of labels only, trained for this run
    begun: int = 0  # epochs that were finished before the first of `batches`
    comparing: bool = False  # whether `batches` are those of labels only
    asking: float = 0.0  # seconds that the teacher took, not the student
    error: str = ""

    @property
    def seconds(self) -> float:
        """Of training the student: what the teacher took to answer is not its fault."""
        return max(0.0, self.rows[-1]["seconds"] - self.asking) if self.rows else 0.0

    @property
    def accuracy(self) -> float | None:
        """Validation accuracy after the last finished epoch; never the best one."""
        return self.rows[-1]["val_accuracy"] if self.rows else None


class WatchedLoss:
    """`loss`, which tells after every batch what share was right, and ends the training on `stop`.

    It ends by KeyboardInterrupt, as Ctrl-C would: `train.fit` then goes back to the last finished
    epoch and hands the interrupt on.
    """

    def __init__(
        self, loss: Loss, on_batch: Callable[[float], None], stop: threading.Event
    ) -> None:
        self.loss, self.on_batch, self.stop = loss, on_batch, stop
        self.fingerprint = identity_of(loss)  # a run is known by its loss, not by who watches

    def __call__(
        self, student_logits: Tensor, teacher_logits: Tensor | None, labels: Tensor
    ) -> Tensor:
        check(self.stop)
        value = self.loss(student_logits, teacher_logits, labels)
        self.on_batch((student_logits.detach().argmax(-1) == labels).float().mean().item())
        return value


class WatchedTargets:
    """Soft targets fetched block by block, so that asking a slow teacher can be stopped as well."""

    def __init__(
        self, targets: TeacherLogits, on_block: Callable[[int, int], None], stop: threading.Event
    ) -> None:
        self.targets, self.on_block, self.stop = targets, on_block, stop
        self.fingerprint = targets.fingerprint
        self.seconds = 0.0  # spent here so far

    def epoch(self, views: list[int] | None) -> Tensor:
        """As `SoftTargets.epoch`."""
        began = time.perf_counter()
        try:
            if isinstance(self.targets, SoftTargets):
                self._ask(self.targets, views)
            return self.targets.epoch(views)
        finally:
            self.seconds += time.perf_counter() - began

    def _ask(self, targets: SoftTargets, views: list[int] | None) -> None:
        """Have every block ready; `on_block(number, how_many)` where the teacher must be asked."""
        if targets.missing(views) == 0:
            return
        blocks = len(block_slices(len(targets.images)))
        for number, view in enumerate([IDENTITY_VIEW] * blocks if views is None else views):
            check(self.stop)
            self.on_block(number + 1, blocks)
            targets.block(number, view)


def check(stop: threading.Event) -> None:
    """KeyboardInterrupt once `stop` is set."""
    if stop.is_set():
        raise KeyboardInterrupt


class Background:
    """`work` in a thread of its own; it is handed the event that asks it to stop."""

    def __init__(self, work: Callable[[threading.Event], None]) -> None:
        self.stop = threading.Event()
        self._thread = threading.Thread(
            target=work, args=(self.stop,), name="kdutils-training", daemon=True
        )
        _ALL.add(self)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def wait(self, seconds: float | None = None) -> bool:
        """Until it ends, or `seconds` have passed; whether it has ended. Ctrl-C stops it."""
        try:
            self._thread.join(seconds)
        except KeyboardInterrupt:
            self.stop.set()
            self._thread.join()
            raise
        return not self.alive


_ALL: weakref.WeakSet[Background] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    """A kernel that shuts down, or restarts, must not leave a thread inside PyTorch."""
    for one in list(_ALL):
        one.stop.set()
    for one in list(_ALL):
        one.wait(10)
