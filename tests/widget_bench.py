"""How long one change of a slider takes, from the new value to the new picture and words.

    python tests/widget_bench.py

Python's share only: the browser's own drawing of the PNG comes on top, some milliseconds.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import numpy as np

from kdutils.course.widgets import HIGHEST, LOWEST, LiveFigure, app, demo
from kdutils.timing import machine

TARGET_MS = 60.0  # a change that takes longer is seen to lag behind the mouse
CHANGES = 60


@dataclass(frozen=True)
class ChangeTime:
    """Milliseconds for one change of the temperature slider of one figure."""

    figure: str
    median_ms: float
    p90_ms: float
    processor_ms: float  # median of the process's own work: what is left on an idle machine
    picture_kb: float  # kB = 1,000 bytes; what is sent to the browser at each change
    changes: int

    def __str__(self) -> str:
        return (
            f"{self.figure:<20} {self.median_ms:6.1f} ms (p90 {self.p90_ms:5.1f}), of which "
            f"processor {self.processor_ms:5.1f}, picture {self.picture_kb:4.0f} kB"
        )


def change_times(changes: int = CHANGES) -> list[ChangeTime]:
    """The time of a change of each of the four interactive figures, on the embedded set."""
    figures = app.figures(demo.shapes())
    return [
        change_time(name, figure, changes) for name, figure in zip(app.TABS, figures, strict=True)
    ]


def change_time(name: str, figure: LiveFigure, changes: int = CHANGES) -> ChangeTime:
    """Sweep the temperature of `figure` and take the time of every step; the first is left out."""
    values = np.geomspace(LOWEST, HIGHEST, changes + 1)
    figure.temperature.value, times, worked = values[0], [], []
    for value in values[1:]:
        began, busy = time.perf_counter(), time.process_time()
        figure.temperature.value = float(value)
        worked.append(1000 * (time.process_time() - busy))
        times.append(1000 * (time.perf_counter() - began))
    return ChangeTime(
        name,
        statistics.median(times),
        float(np.quantile(times, 0.9)),
        statistics.median(worked),
        len(figure.image.value) / 1000,
        changes,
    )


def report(found: list[ChangeTime]) -> str:
    """The times as text, with the machine and the target."""
    late = [one.figure for one in found if one.median_ms >= TARGET_MS]
    verdict = f"too slow: {', '.join(late)}" if late else "all stay below it"
    return "\n".join(
        [
            f"One change of the temperature, median of {found[0].changes}, on {machine()}:",
            *(f"  {one}" for one in found),
            f"Target {TARGET_MS:.0f} ms: {verdict}.",
        ]
    )


if __name__ == "__main__":
    print(report(change_times()))
