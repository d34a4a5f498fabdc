"""Sheets, counts, views and brightness."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from made_up import CLASSES, answers

from kdutils.course import plots
from kdutils.course.plots.data import MIRRORED
from kdutils.views import N_VIEWS, apply_view, decode_view

IMAGES, LABELS, _ = answers()


def test_class_balance_counts_a_split_or_its_labels() -> None:
    figure = plots.class_balance({"train": torch.tensor([0, 0, 1])}, ("A", "B"))
    words = {text.get_text() for axes in figure.axes for text in axes.texts}
    assert {"2", "1"} <= words


def test_a_label_without_a_name_is_refused() -> None:
    with pytest.raises(ValueError, match="The labels are those of 3 classes, but 2 names"):
        plots.class_balance({"train": torch.tensor([0, 2])}, ("A", "B"))
    with pytest.raises(ValueError, match="of 10 classes, but 2 names were given; give one a class"):
        plots.sample_sheet(IMAGES, LABELS, ("A", "B"))


def test_sample_sheet_leaves_blanks_where_a_class_is_short() -> None:
    few = plots.sample_sheet(IMAGES[:12], LABELS[:12], CLASSES, per_class=3)
    mosaic = few.axes[0].images[0].get_array()
    assert mosaic.shape[:2] == (10 * 35 - 3, 3 * 35 - 3)
    assert (mosaic[-32:, -32:] == 255).all()


@pytest.mark.parametrize("view", range(0, N_VIEWS, 3))
def test_views_tint_what_the_reflection_filled_in_and_nothing_else(view: int) -> None:
    image = torch.full((3, 12, 10), 100, dtype=torch.uint8)
    drawn = plots.view_grid(image, [view]).axes[0].images[0].get_array()
    tinted = (np.asarray(drawn) != 100).any(-1)
    assert apply_view(image, view).float().mean() == 100
    down, right, flipped = decode_view(view)
    inside = np.pad(np.ones((12, 10), bool), 2)[2 - down : 14 - down, 2 - right : 12 - right]
    np.testing.assert_array_equal(tinted, ~(inside[:, ::-1] if flipped else inside))
    assert len(np.unique(drawn[tinted].reshape(-1, 3), axis=0)) <= 1
    assert (MIRRORED != 100).all()


def test_grey_images_have_one_channel_in_the_histogram() -> None:
    figure = plots.pixel_histogram(IMAGES[:, :1])
    assert [text.get_text()[:5] for text in figure.axes[0].get_legend().get_texts()] == ["grey:"]
