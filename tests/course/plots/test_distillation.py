"""The sweep and the differences seed by seed."""

from __future__ import annotations

import math

from made_up import DIFFERENCES

from kdutils import metrics
from kdutils.course import plots


def test_unfinished_runs_leave_a_hole() -> None:
    figure = plots.sweep_heatmap([[0.8, math.nan]], (4,), (0.5, 0.9), baseline=0.75)
    plots.png(figure)
    assert "80.0 %\n+5.0" in [text.get_text() for text in figure.axes[0].texts]


def test_a_single_comparison_is_that_of_the_distilled_student() -> None:
    interval = metrics.paired_interval(DIFFERENCES, [0] * 3)
    axes = plots.paired_difference_plot(DIFFERENCES, interval).axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["distilled"]
    assert axes.texts[0].get_text().strip().startswith(f"{interval.mean:+.2f}")
