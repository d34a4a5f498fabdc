"""Confusions, calibration and single classes."""

from __future__ import annotations

import pytest
import torch

from kdutils.course import plots


def test_confusion_wants_a_name_for_each_class() -> None:
    with pytest.raises(ValueError, match="of 10 classes, but 3 names were given; give one a class"):
        plots.confusion(torch.eye(10), ["a", "b", "c"])
    with pytest.raises(ValueError, match=r"shape \(C, C\), not \(10, 9\)"):
        plots.confusion(torch.zeros(10, 9), ["a"] * 10)


def test_a_network_without_mistakes_has_a_pale_map() -> None:
    figure = plots.confusion(torch.eye(3), ["a", "b", "c"])
    plots.png(figure)
    assert figure.axes[0].collections[0].get_clim() == (0, 1)


def test_of_many_classes_the_mistaken_ones_are_shown() -> None:
    matrix = 9 * torch.eye(50)
    matrix[44, 3] = 5
    figure = plots.confusion(matrix, [f"class {i}" for i in range(50)])
    names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert len(names) == 20 and {"class 3", "class 44"} <= set(names)


def test_a_class_without_images_has_no_change() -> None:
    figure = plots.per_class_change([0.5, float("nan"), 0.5], [0.5, 0.7, 0.6], ("A", "B", "C"))
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["C", "A"]
    assert [text.get_text() for text in figure.axes[0].texts] == ["+10.0", "+0.0"]
