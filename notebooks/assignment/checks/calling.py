"""What visible checks and hidden tests share: calling a student's function safely, saying what is wrong.

Students have this file, so it holds no hidden test; those live in the instructor's notebooks and use
their own arithmetic.
"""

from __future__ import annotations

import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from kdutils import losses, metrics

CALL_SECONDS = 10.0  # one call of a small function takes milliseconds
TRAIN_SECONDS = 60.0  # a training run of the classroom takes a few
TOLERANCE = 1e-4  # relative


class NotYet(AssertionError):
    """A check that does not pass. Jupyter shows its sentence and spares the traceback."""

    def _render_traceback_(self) -> list[str]:
        return [f"Not yet: {self}"]


class _TimeUp(BaseException):
    """Raised inside a call that takes too long; not an Exception, so that few handlers eat it."""


class Elsewhere:
    """A function that lives in another process, as it does when a submission is graded."""

    def within(
        self, seconds: float, args: tuple[Any, ...], kw: Mapping[str, Any], through: Any = None
    ) -> Any:
        """Call it there with a time limit; or call `through(function, *args, **kw)` there."""
        raise NotImplementedError


class Here:
    """The notebook whose names the checks may lend to, when they run in it."""

    @contextmanager
    def lend(self, functions: Mapping[str, Callable[..., Any]]) -> Iterator[None]:
        """Within the block the notebook's names are these functions instead of the student's."""
        names = vars(sys.modules["__main__"])
        before = {name: names[name] for name in functions if name in names}
        names.update(functions)
        try:
            yield
        finally:
            for name in functions:
                names.pop(name, None)
            names.update(before)

    def hangs(self, name: str) -> bool:
        """Whether the function of this name has not come back before."""
        return _is_endless(vars(sys.modules["__main__"]).get(name))


notebook: Any = Here()  # the grader puts its own here: a notebook in another process


# --- calling a student's function ---------------------------------------------------------------


def call(function: Callable[..., Any], *args: Any, seconds: float = CALL_SECONDS, **kw: Any) -> Any:
    """`function(*args, **kw)`, with a time limit and without the ready-made answers of `kdutils`.

    Raises:
        NotYet: it is not written, ends the program, or does not come back.
    """
    if isinstance(function, Elsewhere):
        return function.within(seconds, args, kw)
    with closed_book():
        return _call(function, args, kw, seconds)


def call_through(
    helper: Callable[..., Any], function: Any, *args: Any, seconds: float = TRAIN_SECONDS
) -> Any:
    """`helper(function, *args)`, where the function lives; `helper` is a function of `checks`."""
    if isinstance(function, Elsewhere):
        return function.within(seconds, args, {}, through=helper)
    with closed_book():
        return _call(lambda *a: helper(function, *a), args, {}, seconds)


def _call(
    function: Callable[..., Any], args: tuple[Any, ...], kw: dict[str, Any], seconds: float
) -> Any:
    if not callable(function):
        raise NotYet(f"a function is expected here, and this is a {type(function).__name__}.")
    name = getattr(function, "__name__", "your function")
    too_long = NotYet(
        f"`{name}` had not come back after {seconds:.0f} seconds. Is there a loop without an end?"
    )
    if _is_endless(function):  # once is enough to know
        raise too_long
    try:
        with _time_limit(seconds):
            return function(*args, **kw)
    except _TimeUp:
        with suppress(AttributeError):
            function._endless = True
        raise too_long from None
    except NotImplementedError:
        raise NotYet(
            f"`{name}` is not written yet; replace `raise NotImplementedError()`."
        ) from None
    except SystemExit:
        raise NotYet(
            f"`{name}` ends the whole program (`exit` or `sys.exit`). Let it return a value instead."
        ) from None


def _is_endless(function: Any) -> bool:
    return getattr(function, "_endless", False)


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise `_TimeUp` after `seconds`; no limit where the system has no such alarm (Windows)."""
    if (
        not hasattr(signal, "setitimer")
        or threading.current_thread() is not threading.main_thread()
    ):
        yield
        return

    def ring(number: int, frame: Any) -> None:
        raise _TimeUp

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, 5.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _closed(*args: Any, **kw: Any) -> None:
    raise AssertionError(
        "Not yet: this part of kdutils is the answer to the task. Write it yourself, with plain "
        "tensor operations."
    )


_ANSWERS = (
    losses.softened,
    losses.soft_target_loss,
    losses.distillation_loss,
    metrics.summarise,
    metrics.reliability,
)


@contextmanager
def closed_book() -> Iterator[None]:
    """Within the block the ready-made answers of `kdutils` refuse to work, however imported."""
    codes = [answer.__code__ for answer in _ANSWERS]
    try:
        for answer in _ANSWERS:
            answer.__code__ = _closed.__code__
        yield
    finally:
        for answer, code in zip(_ANSWERS, codes, strict=True):
            answer.__code__ = code


def forgiving(test: Callable[[], Any], **references: Any) -> Any:
    """Run `test`; when it fails, once more with the answers to earlier tasks lent by us.

    A mistake in an earlier task then costs that task's points and no others.
    """
    try:
        if any(map(notebook.hangs, references)):
            raise NotYet("an earlier function does not come back.")
        return test()
    except Exception as first:
        with notebook.lend(references):
            try:
                return test()
            except NotYet:  # says more: it knows that the earlier tasks are right
                raise
            except Exception:
                raise first from None


def most_points(test: Callable[[], float], most: float, **references: Any) -> float:
    """The points that `test` gives; where they are not the most, the better of that and `forgiving`.

    Raises:
        Exception: whatever `test` raises, when it fails with and without our help.
    """
    points = forgiving(test, **references)
    if points < most:
        with notebook.lend(references), suppress(Exception):
            points = max(points, test())
    return points


def _copy(function: types.FunctionType) -> types.FunctionType:
    """A copy that `closed_book` does not reach."""
    return types.FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__
    )


LENT_SOFTEN = _copy(losses.softened)
LENT_SOFT_TARGET_LOSS = _copy(losses.soft_target_loss)


def lent_mixed_loss(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: float,
    soft_weight: float,
) -> Tensor:  # fmt: skip
    """The mixed loss, for tasks that come after it."""
    soft = LENT_SOFT_TARGET_LOSS(student_logits, teacher_logits, temperature)
    return soft_weight * soft + (1 - soft_weight) * F.cross_entropy(student_logits, labels)


# --- saying what is wrong -----------------------------------------------------------------------


def as_number(value: Any, what: str) -> float:
    """A finite float from a scalar tensor or a number, or NotYet with a reason."""
    if value is None:
        raise NotYet(f"{what} came back as None. Is the `return` missing?")
    if isinstance(value, Tensor):
        if value.numel() != 1:
            raise NotYet(
                f"{what} should be one number, and a tensor of shape {tuple(value.shape)} came. "
                "Which dimensions are still to be summed or averaged?"
            )
        value = value.item()
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        value = value.item()  # NumPy's
    if not isinstance(value, int | float):
        raise NotYet(f"{what} should be a number, and a {type(value).__name__} came.")
    if value != value or value in (float("inf"), float("-inf")):
        raise NotYet(
            f"{what} is {value}. Does a logarithm meet a zero, or an exponential overflow?"
        )
    return float(value)


def as_tensor(value: Any, shape: tuple[int, ...], what: str) -> Tensor:
    """A float64 tensor of this shape, or NotYet with a reason."""
    if value is None:
        raise NotYet(f"{what} came back as None. Is the `return` missing?")
    if not isinstance(value, Tensor):
        raise NotYet(f"{what} should be a tensor, and a {type(value).__name__} came.")
    if tuple(value.shape) != shape:
        raise NotYet(f"{what} should have shape {shape}, and {tuple(value.shape)} came.")
    return value.detach().double()


def same(a: float, b: float, tolerance: float = TOLERANCE) -> bool:
    """Whether two numbers agree up to a relative tolerance."""
    return abs(a - b) <= tolerance * max(abs(a), abs(b), 1e-12)


def expect(came: float, expected: float, what: str, mistakes: dict[str, float]) -> None:
    """NotYet unless `came` is `expected`; a known wrong value brings its hint.

    Args:
        mistakes: hint -> the value that this mistake gives.
    """
    if same(came, expected):
        return
    hints = [hint for hint, value in mistakes.items() if same(came, value)]
    text = f"{what} should be {expected:.5f}, and {came:.5f} came."
    raise NotYet(f"{text} {hints[0]}" if hints else f"{text} No usual mistake gives this number.")
