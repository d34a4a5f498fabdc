"""The figures of notebook 07: what each pitfall does, and how far seeds alone lie apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import t as student_t

from ...metrics import PairedDifference
from ..comparisons import SeedNoise
from ..pitfalls import Effect
from . import style

# The first words found in a verdict decide. Colour and marker tell the same thing, so that neither
# is needed alone.
LOOKS = {
    "worse": (style.PALETTE[3], "v"),
    "costs": (style.PALETTE[1], "d"),
    "no difference": (style.GREY, "o"),
    "better": (style.PALETTE[0], "^"),
}
FAR = 15.0  # points: beyond that an arrow at the edge, so that the others stay readable


@style.styled
def pitfall_effects(
    effects: Sequence[Effect], correct: PairedDifference, *, data_name: str = ""
) -> Figure:
    """Two columns of paired differences, one pitfall a row: what its owner sees, what it costs.

    Args:
        effects: as `pitfalls.effects` gives them.
        correct: what distillation gains over labels only when nothing is wrong; drawn as a band.
        data_name: stands under the title.
    """
    rows = sorted(effects, key=lambda effect: effect.cost.mean)
    figure = style.new_figure(9, 1.6 + 0.36 * len(rows), "The pitfalls, measured", data_name)
    gain, cost = figure.subplots(1, 2, sharey=True)
    gain.axvspan(correct.low, correct.high, color=style.BAND)
    gain.axvline(correct.mean, color=style.INK, lw=1)
    over = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
    look = {"ha": "center", "va": "bottom", "fontsize": 8}
    gain.annotate("distilled correctly", (correct.mean, 1), (0, 3), **over, **look)
    right = {"transform": cost.get_yaxis_transform(), "va": "center", "fontsize": 8.5}
    for y, effect in enumerate(rows):
        _row(gain, y, effect.verdict, effect.gain, effect.gains)
        _row(cost, y, effect.verdict, effect.cost, effect.costs)
        words = f"{effect.cost.mean:+.1f}  {effect.verdict.split(': ')[-1]}"
        cost.text(1.02, y, words, **right)
    for axes, against in ((gain, "labels only"), (cost, "doing it right")):
        axes.axvline(0, color=style.GREY, lw=1, ls=":")
        axes.set_xlabel(f"test accuracy against {against}, points")
        axes.grid(axis="x")
        axes.tick_params(axis="y", length=0)
    style.name_rows(gain, [effect.title for effect in rows])
    return figure


def _row(axes: Axes, y: int, verdict: str, found: PairedDifference, seeds: Sequence[float]) -> None:
    """Interval as a bar, the mean as a big marker, seeds as small dots."""
    colour, marker = next(look for words, look in LOOKS.items() if words in verdict)
    if abs(found.mean) > FAR:
        less = found.mean < 0
        words = f"◀ {found.mean:+.0f}" if less else f"{found.mean:+.0f} ▶"
        look = {"ha": "left" if less else "right", "va": "center", "fontsize": 8.5}
        place = (0.01 if less else 0.99, y)
        axes.annotate(words, place, xycoords=axes.get_yaxis_transform(), color=colour, **look)
        return
    axes.plot((found.low, found.high), (y, y), color=colour, lw=5, alpha=0.3, solid_capstyle="butt")
    axes.plot(seeds, np.full(len(seeds), y), ".", color=colour, ms=4)
    axes.plot(found.mean, y, marker, color=colour, ms=7, mec="white", mew=0.6)


@style.styled
def seed_noise(
    accuracy: Sequence[float], noise: SeedNoise, points: float, *, data_name: str = ""
) -> Figure:
    """Left: single runs of one recipe. Right: how far two of them lie apart by chance.

    Args:
        accuracy: per cent, of runs that differ in the seed alone.
        noise: of these runs.
        points: the difference in question; the tails beyond it are coloured.
    """
    figure = style.new_figure(8, 2.9, "One recipe, other seeds", data_name)
    runs, apart = figure.subplots(1, 2, width_ratios=(1, 2))
    runs.plot(np.zeros(len(accuracy)), accuracy, "o", color=style.STUDENT, ms=6, alpha=0.8)
    runs.set(xticks=[], ylabel="test accuracy, %", xlabel=f"{len(accuracy)} runs")
    scale = np.sqrt(2) * noise.deviation
    reach = max(4 * scale, 1.3 * points)
    grid = np.linspace(-reach, reach, 400)
    density = student_t.pdf(grid / scale, noise.runs - 1) / scale
    apart.plot(grid, density, color=style.STUDENT)
    for tail in (grid <= -points, grid >= points):
        apart.fill_between(grid[tail], density[tail], color=style.PALETTE[3])
    apart.axvline(-points, color=style.PALETTE[3], lw=1, ls="--")
    look = {"ha": "right", "va": "top", "fontsize": 8.5, "color": style.PALETTE[3]}
    place = ((-points, density.max()), (-4, 0))
    apart.annotate(f"the table's {-points:+.2f}", *place, textcoords="offset points", **look)
    apart.set_xlabel("difference of two runs of the same recipe, points")
    apart.set(ylabel="density, 1 / point", ylim=(0, None))
    return figure
