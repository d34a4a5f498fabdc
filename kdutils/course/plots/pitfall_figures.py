"""The figures of notebook 07: what each suspect does, and how far seeds alone lie apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...metrics import PairedDifference
from ..pitfalls import Effect, SeedNoise
from .style import BAND, GREY, INK, PALETTE, STUDENT, new_figure, styled

# Colour and marker tell the same thing, so that neither is needed alone.
LOOKS = {
    "guilty: worse": (PALETTE[3], "v"),
    "guilty: costs": (PALETTE[1], "d"),
    "no difference": (GREY, "o"),
    "looks better": (PALETTE[0], "^"),
}


def _look(effect: Effect) -> tuple[str, str]:
    return next(look for words, look in LOOKS.items() if effect.verdict.startswith(words))


@styled
def suspects_figure(
    effects: Sequence[Effect], correct: PairedDifference, *, data_name: str = ""
) -> Figure:
    """Two columns of paired differences, one suspect a row: what its owner sees, and what it costs.

    Args:
        effects: as `suspects.effects` gives them.
        correct: what distillation gains over labels only when nothing is wrong; drawn as a band.
        data_name: stands under the title.
    """
    rows = sorted(effects, key=lambda effect: effect.cost.mean)
    figure = new_figure(9, 1.6 + 0.36 * len(rows), "The suspects, measured", data_name)
    gain, cost = figure.subplots(1, 2, sharey=True)
    gain.axvspan(correct.low, correct.high, color=BAND)
    gain.axvline(correct.mean, color=INK, lw=1)
    gain.annotate(
        "distilled correctly", (correct.mean, 1), (0, 3), xycoords=("data", "axes fraction"),
        textcoords="offset points", ha="center", va="bottom", fontsize=8,
    )  # fmt: skip
    for y, effect in enumerate(rows):
        _row(gain, y, effect, effect.gain, effect.gains)
        _row(cost, y, effect, effect.cost, effect.costs)
        cost.text(
            1.02, y, f"{effect.cost.mean:+.1f}  {effect.verdict.removeprefix('guilty: ')}",
            transform=cost.get_yaxis_transform(), va="center", fontsize=8.5,
        )  # fmt: skip
    for axes, title in ((gain, "against labels only"), (cost, "against doing it right")):
        axes.axvline(0, color=GREY, lw=1, ls=":")
        axes.set(xlabel=f"points {title}", ylim=(len(rows) - 0.5, -0.5))
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x")
    gain.set_yticks(range(len(rows)), [effect.title for effect in rows])
    return figure


FAR = 15.0  # points: beyond that an arrow at the edge, so that the others stay readable


def _row(
    axes: Axes, y: int, effect: Effect, found: PairedDifference, seeds: Sequence[float]
) -> None:
    """Interval as a bar, the mean as a big marker, seeds as small dots."""
    colour, marker = _look(effect)
    if abs(found.mean) > FAR:
        axes.annotate(
            f"◀ {found.mean:+.0f}" if found.mean < 0 else f"{found.mean:+.0f} ▶",
            (0.01 if found.mean < 0 else 0.99, y), xycoords=axes.get_yaxis_transform(),
            ha="left" if found.mean < 0 else "right", va="center", fontsize=8.5, color=colour,
        )  # fmt: skip
        return
    axes.plot((found.low, found.high), (y, y), color=colour, lw=5, alpha=0.3, solid_capstyle="butt")
    axes.plot(seeds, np.full(len(seeds), y), ".", color=colour, ms=4)
    axes.plot(found.mean, y, marker, color=colour, ms=7, mec="white", mew=0.6)


@styled
def noise_figure(
    accuracy: Sequence[float], noise: SeedNoise, points: float, *, data_name: str = ""
) -> Figure:
    """Left: single runs of one recipe. Right: how far two of them lie apart by chance.

    Args:
        accuracy: per cent, of runs that differ in the seed alone.
        noise: of these runs.
        points: the difference in question; the tails beyond it are coloured.
    """
    from scipy.stats import t

    figure = new_figure(8, 2.7, "One recipe, other seeds", data_name)
    runs, apart = figure.subplots(1, 2, width_ratios=(1, 2))
    runs.plot(np.zeros(len(accuracy)), accuracy, "o", color=STUDENT, ms=6, alpha=0.8)
    runs.set(xticks=[], ylabel="test accuracy, %", xlabel=f"{len(accuracy)} runs")
    scale = np.sqrt(2) * noise.deviation
    reach = max(4 * scale, 1.3 * points)
    grid = np.linspace(-reach, reach, 400)
    density = t.pdf(grid / scale, noise.runs - 1) / scale
    apart.plot(grid, density, color=STUDENT)
    for tail in (grid <= -points, grid >= points):
        apart.fill_between(grid[tail], density[tail], color=PALETTE[3])
    apart.axvline(-points, color=PALETTE[3], lw=1, ls="--")
    apart.annotate(
        f"the table's {-points:+.2f}", (-points, density.max()), (-4, 0),
        textcoords="offset points", ha="right", va="top", fontsize=8.5, color=PALETTE[3],
    )  # fmt: skip
    apart.set(
        xlabel="difference of two runs of the same recipe, points", ylabel="density", ylim=(0, None)
    )
    return figure
