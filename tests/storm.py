"""Work in a forked process that is hit by a signal at a random moment.

Forked, because a process that has PyTorch loaded already starts in milliseconds. One thread each.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
MOMENTS = 20  # for each signal
HANGS = 300  # seconds after which a process counts as hung


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code (minus the signal's number), what it said, how long."""

    code: int
    said: str
    seconds: float


def start(work: Callable[[], int], log: Path) -> int:
    """Fork; the child does `work`, exits with what it returns and says everything into `log`."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        os.setsid()
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        code = work()
    except BaseException:  # as the interpreter would: said, and an exit code
        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def run(work: Callable[[], int], number: int | None = None, after: float = 0.0) -> Ended:
    """Do `work` in a process of its own, hit by signal `number` after `after` seconds."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        log.touch()
        began = time.monotonic()
        pid = start(work, log)
        status = _wait(pid, after) if number is not None else None
        if status is None:
            if number is not None:
                os.kill(pid, number)
            status = _wait(pid, HANGS)
        if status is None:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise AssertionError(f"it hung after signal {number}: {log.read_text()[-2000:]}")
        seconds = time.monotonic() - began
        return Ended(os.waitstatus_to_exitcode(status), log.read_text(errors="replace"), seconds)


def _wait(pid: int, seconds: float) -> int | None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status
        time.sleep(0.005)
    return None


def storm(
    work: Callable[[], int],
    number: int,
    seconds: float,
    unharmed: Callable[[], None],
    finished: Callable[[], None],
    moments: int = MOMENTS,
) -> int:
    """Hit `work` by signal `number` at random moments, and start it again, `moments` times.

    Args:
        work: goes on where it was; returns 0.
        seconds: what a run takes when nothing happens; moments fall into it.
        unharmed: checks what is on the disk, after every hit.
        finished: checks what a whole run has left, and clears it away.

    Returns:
        How many runs came to their end between the hits.
    """
    draw = random.Random(number)
    hits = whole = 0
    while hits < moments:
        ended = run(work, number, draw.uniform(0, 0.6 * seconds))
        if ended.code == 0:
            finished()
            whole += 1
        else:
            hits += 1
            _polite(number, ended)
            unharmed()
    assert run(work).code == 0, "left alone, it must come to its end"
    finished()
    return whole + 1


def _polite(number: int, ended: Ended) -> None:
    """A word and the right exit code; never a traceback."""
    expected = {signal.SIGKILL: (-9,), signal.SIGTERM: (-15, 143), signal.SIGINT: (130,)}[number]
    assert ended.code in expected, (ended.code, ended.said[-2000:])
    assert "Traceback" not in ended.said, ended.said[-2000:]
    if number == signal.SIGINT:
        assert "Stopped" in ended.said, ended.said[-500:]
