"""Learning curves."""

from __future__ import annotations

import pytest
from made_up import ROWS, figures
from matplotlib.figure import Figure

from kdutils.course import plots


def _legend(figure: Figure) -> list[str]:
    legend = figure.axes[0].get_legend()
    return [text.get_text() for text in legend.get_texts()] if legend else []


def test_one_learning_rate_needs_no_legend_and_its_last_value_tells_nothing() -> None:
    assert _legend(plots.learning_curves({"teacher": ROWS}, "learning_rate")) == []
    two = plots.learning_curves({"teacher": ROWS, "student": ROWS}, "learning_rate")
    assert _legend(two) == ["teacher", "student"]


def test_seeds_are_thin_lines_beside_a_level() -> None:
    figure = plots.learning_curves({"student": [ROWS, ROWS]}, levels={"teacher": 0.9})
    assert _legend(figure) == ["student\n(75.0 %, mean of 2 seeds)", "teacher\n(90.0 %)"]
    dashed = [line for line in figure.axes[0].lines if line.get_linestyle() == "--"]
    assert [line.get_ydata()[0] for line in dashed] == [0.9]


def test_a_name_without_epochs_is_left_out() -> None:
    figure = plots.learning_curves({"student": ROWS, "cut": []})
    assert _legend(figure) == ["student\n(75.0 %)"]


@pytest.mark.parametrize(
    "name", ["learning_curves", "learning_curves, one", "accuracy_over_time",
             "reliability_diagram", "gradient_scale_plot", "softmax_temperature_bars",
             "entropy_curve", "class_balance", "per_class_change"],
)  # fmt: skip
def test_no_legend_covers_what_is_drawn(name: str) -> None:
    figure = figures()[name]()
    figure.draw_without_rendering()
    boxes = [(axes, axes.get_legend().get_window_extent()) for axes in figure.axes
             if axes.get_legend()]  # fmt: skip
    assert boxes
    for axes, box in boxes:
        assert not box.overlaps(axes.get_window_extent())
        assert box.x1 <= figure.bbox.x1 + 1 and box.y1 <= figure.bbox.y1, "it leaves the figure"
