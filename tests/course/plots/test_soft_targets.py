"""Soft targets, dark knowledge and similar classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from made_up import CLASSES, answers

from kdutils.course import plots

IMAGES, LABELS, LOGITS = answers()


def test_dark_knowledge_examples_are_right_sure_and_varied() -> None:
    chosen = plots.dark_knowledge_examples(LOGITS * 2, LABELS, count=6)
    assert len(chosen) == len(set(chosen)) == 6
    assert len({int(LABELS[i]) for i in chosen}) == 6
    for i in chosen:
        assert int(LOGITS[i].argmax()) == int(LABELS[i])


def test_dark_knowledge_examples_of_two_classes_and_of_none() -> None:
    logits = torch.tensor([[3.0, 0.0], [0.9, 0.0]])
    assert plots.dark_knowledge_examples(logits, torch.tensor([0, 0])) == [1, 0]
    assert plots.dark_knowledge_examples(logits[:0], torch.zeros(0)) == []


def test_relative_similarity_runs_from_identity_to_ones() -> None:
    cold, warm, hot = (plots.relative_similarity(LOGITS, LABELS, t) for t in (0.05, 4, 500))
    for found in (cold, warm, hot):
        np.testing.assert_allclose(found, found.T)
        np.testing.assert_array_equal(found.diagonal(), 1)
        assert found.min() >= 0 and found.max() <= 1
    assert hot.min() > 0.95 > warm.min() > cold.min()
    assert warm[0, 1] > warm[0, 2], "neighbours were made alike"


def test_a_class_without_images_is_like_no_other() -> None:
    found = plots.relative_similarity(LOGITS[LABELS != 3], LABELS[LABELS != 3], 4)
    np.testing.assert_array_equal(found[3], np.eye(10)[3])
    assert (found[0, [1, 2, 4]] > 0).all()


def test_half_precision_logits_are_welcome() -> None:
    plots.png(plots.entropy_curve(LOGITS.half()))


def test_the_label_is_shown_even_where_the_teacher_thinks_little_of_it() -> None:
    surely = torch.tensor([[9.0, 3, 2, 1, 0, -9]])
    figure = plots.dark_knowledge_gallery(
        IMAGES[:1], torch.tensor([5]), surely, CLASSES[:6], indices=[0], temperature=1
    )
    bars = figure.axes[1]
    assert [text.get_text() for text in bars.get_yticklabels()] == [*CLASSES[:3], CLASSES[5]]
    assert [text.get_text() for text in bars.texts][-1] == "< 0.1 %"
    band = bars.patches[0].get_extents().transformed(bars.transData.inverted())
    assert (band.y0 + band.y1) / 2 == pytest.approx(3), "the yellow band is the label's"


def test_softened_bars_show_the_label_among_many_classes() -> None:
    names = [f"class {i}" for i in range(100)]
    logits = torch.arange(100.0)
    figure = plots.softmax_temperature_bars(logits, (1,), names, label=7)
    shown = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert shown == ["class 7", *names[81:]]


def test_names_and_logits_differ_in_number() -> None:
    with pytest.raises(ValueError, match="The logits are those of 10 classes, but 3 names"):
        plots.similarity_heatmaps(LOGITS, LABELS, ("a", "b", "c"))
    with pytest.raises(ValueError, match="The logits are those of 10 classes, but 3 names"):
        plots.softmax_temperature_bars(LOGITS[0], (1,), ("a", "b", "c"))
    with pytest.raises(ValueError, match="The logits are those of 10 classes, but 3 names"):
        plots.dark_knowledge_gallery(IMAGES, LABELS, LOGITS, ("a", "b", "c"))


def test_a_sure_teacher_has_numbers_in_its_map() -> None:
    figure = plots.similarity_heatmaps(LOGITS * 3, LABELS, CLASSES, (1,))
    assert len(figure.axes[0].texts) == 90
