"""Layers, sizes and latencies of networks."""

from __future__ import annotations

import pytest
from made_up import layers_of

from kdutils import models
from kdutils.course import plots


@pytest.mark.parametrize("name", ["teacher", "student"])
def test_network_diagram_counts_every_parameter(name: str) -> None:
    model = models.build(name)
    figure = plots.network_diagram(layers_of(name), name=name)
    words = " ".join(text.get_text() for text in figure.texts)
    assert f"{models.count_parameters(model):,} parameters" in words
    plots.png(figure)


def test_networks_of_one_size_share_a_row_and_say_how_many_times_smaller() -> None:
    small = {"parameters": 100, "macs": 1e3, "size_mb": 0.4}
    rows = [{"name": "teacher", "parameters": 2_300, "macs": 26e3, "size_mb": 9.2},
            {"name": "labels only"} | small, {"name": "distilled"} | small]  # fmt: skip
    figure = plots.size_bars(rows)
    names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert names == ["teacher", "labels only\ndistilled"]
    words = [[text.get_text() for text in axes.texts] for axes in figure.axes]
    assert words == [["2.3 k", "100  (÷ 23)"], ["26 k", "1 k  (÷ 26)"], ["9.2", "0.4  (÷ 23)"]]
