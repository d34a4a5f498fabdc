"""The interactive figures, driven from Python: move a control, look at picture and words."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterator

import ipywidgets
import numpy as np
import pytest
import torch
from matplotlib import pyplot
from matplotlib.figure import Figure
from PIL import Image

from kdutils import losses
from kdutils.course import plots, widgets

CLASSES = tuple(f"class {letter}" for letter in "ABCDEFGHIJ")


def _logits(seed: int, n: int = 60) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, 10, generator=generator)
    labels = torch.arange(n) % 10
    logits[torch.arange(n), labels] += 3
    logits[torch.arange(n), labels ^ 1] += 1.5
    return logits


IMAGES = torch.randint(
    0, 256, (60, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)
LABELS = torch.arange(60) % 10
TEACHER, STUDENT = _logits(1), 0.7 * _logits(2)


def _explorer(student: torch.Tensor | None = STUDENT) -> widgets.TemperatureExplorer:
    return widgets.temperature_explorer(IMAGES, LABELS, TEACHER, CLASSES, student, "made-up images")


def _mixer() -> widgets.LossMixer:
    return widgets.loss_mixer(TEACHER[0], STUDENT[0], 0, CLASSES, "made-up images")


def _map() -> widgets.ClassMap:
    truth = np.kron(np.eye(5), np.full((2, 2), 0.5)) + np.eye(10) / 2
    return widgets.class_map(TEACHER, LABELS, CLASSES, truth, "made-up images")


def _map_without_truth() -> widgets.ClassMap:
    return widgets.class_map(TEACHER, LABELS, CLASSES)


ALL = [_explorer, lambda: _explorer(None), _mixer, _map, _map_without_truth]
IDS = ["explorer", "explorer without student", "mixer", "map", "map without truth"]
each = pytest.mark.parametrize("make", ALL, ids=IDS)
Make = Callable[[], widgets.LiveFigure]


def _family(widget: ipywidgets.Widget) -> Iterator[ipywidgets.Widget]:
    yield widget
    for child in getattr(widget, "children", ()):
        yield from _family(child)


def _pixels(live: widgets.LiveFigure) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(live.image.value)).convert("RGB"))


def _teacher_entropy(live: widgets.LiveFigure) -> float:
    found = re.search(r"Teacher</b>: entropy ([\d.]+) nats", live.text.value)
    assert found
    return float(found[1])


@each
def test_every_temperature_updates_one_and_the_same_figure(make: Make) -> None:
    live = make()
    figure, axes = live.figure, list(live.figure.axes)
    artists = [list(one.get_children()) for one in axes]
    seen = set()
    for temperature in (0.5, 20.0, 1.0, 3.7):  # least, most, default, between
        live.temperature.value = temperature
        seen.add((live.image.value, live.text.value))
        assert _pixels(live).shape[1] <= 900
    assert len(seen) == 4
    assert live.figure is figure and live.figure.axes == axes
    assert [list(one.get_children()) for one in axes] == artists, "artists were rebuilt"
    assert not pyplot.get_fignums()


@each
def test_the_same_state_gives_the_same_picture(make: Make) -> None:
    live = make()
    live.temperature.value = 2.0
    first = live.image.value
    live.temperature.value = 9.0
    live.temperature.value = 2.0
    assert live.image.value == first


@each
def test_controls_are_labelled_and_none_is_an_output(make: Make) -> None:
    live = make()
    family = list(_family(live))
    assert not any(isinstance(one, ipywidgets.Output) for one in family)
    boxes = (ipywidgets.Box, ipywidgets.Image, ipywidgets.HTML)
    described = [one for one in family if not isinstance(one, boxes)]
    assert len(described) >= 7
    assert all(one.description for one in described)
    assert live.alt and live.text.value
    # With a tooltip, ipywidgets' JavaScript fails to draw the image (seen in a browser).
    assert live.image.tooltip is None


@each
def test_presets_and_sweep_move_the_slider(make: Make) -> None:
    live = make()
    for button, temperature in zip(live.presets, (1, 2, 4, 8, 20), strict=True):
        button.click()
        assert live.temperature.value == pytest.approx(temperature)
    for step in (1, live.play.max, live.play.min):
        live.play.value = step
    assert live.temperature.value == pytest.approx(0.5)


@each
def test_still_is_a_figure_of_its_own(make: Make) -> None:
    live = make()
    still = live.still()
    assert isinstance(still, Figure) and still is not live.figure
    assert plots.png(still).startswith(b"\x89PNG")


def test_slider_reaches_its_ends_and_hits_whole_temperatures() -> None:
    slider = widgets.temperature_slider()
    for asked, got in ((0.01, 0.5), (1000, 20.0)):
        slider.value = asked
        assert slider.value == pytest.approx(got)
    steps = [(math.log10(t) - slider.min) / slider.step for t in (0.5, 1, 2, 4, 8, 16)]
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-9)


def test_png_is_what_went_in() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)
    picture = Image.open(io.BytesIO(widgets.encode_png(pixels)))
    np.testing.assert_array_equal(np.asarray(picture), pixels)


def test_entropy_in_the_text_rises_with_temperature() -> None:
    live, found = _explorer(), []
    for temperature in (0.5, 1, 2, 4, 8, 20):
        live.temperature.value = temperature
        found.append(_teacher_entropy(live))
    assert found == sorted(found) and found[0] < found[-1] < math.log(10)


def test_the_longest_bar_shrinks_as_the_teacher_is_softened() -> None:
    live = _explorer(None)
    blue = [int(plots.role_colour("teacher")[k : k + 2], 16) for k in (1, 3, 5)]
    longest = []
    for temperature in (0.5, 2.0, 20.0):
        live.temperature.value = temperature
        right = _pixels(live)[:, 280:]  # past the picture and the entropy curve
        longest.append(int((right == blue).all(2).sum(1).max()))
    assert longest == sorted(longest, reverse=True) and longest[0] > longest[-1] > 0


def test_picker_offers_classes_confusion_and_disagreement() -> None:
    live = _explorer()
    assert live.picker.options[:2] == (widgets.CONFUSED, widgets.DISAGREE)
    assert set(CLASSES) <= set(live.picker.options)
    live.picker.value = "class C"
    assert int(LABELS[live.index]) == 2
    before = live.index, live.image.value
    live.which.value = 2
    assert int(LABELS[live.index]) == 2 and (live.index, live.image.value) != before
    live.picker.value = widgets.DISAGREE
    assert live.which.value == 1
    assert int(TEACHER[live.index].argmax()) != int(STUDENT[live.index].argmax())
    live.picker.value = widgets.CONFUSED
    entropy = widgets.entropies(TEACHER.double().numpy(), 1.0)
    assert live.index == int(entropy.argmax())
    assert f"image {live.index}," in live.text.value


def test_without_disagreement_there_is_no_such_choice() -> None:
    assert widgets.DISAGREE not in _explorer(TEACHER).picker.options
    assert widgets.DISAGREE not in _explorer(None).picker.options


def test_every_picture_of_every_choice_can_be_shown() -> None:
    live = _explorer()
    for choice in live.picker.options:
        live.picker.value = choice
        for number in (live.which.min, live.which.max):
            live.which.value = number
            assert f"image {live.index}," in live.text.value


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
def test_parts_of_the_loss_add_up_to_it(temperature: float) -> None:
    teacher, student = TEACHER[:1].double(), STUDENT[:1].double()
    parts = widgets.loss_by_class(teacher[0].numpy(), student[0].numpy(), temperature)
    assert (parts >= 0).all()
    expected = losses.soft_target_loss(student, teacher, temperature).item()
    assert parts.sum() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("keep_t2", [True, False])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
def test_pushes_are_minus_the_gradients(temperature: float, keep_t2: bool) -> None:
    live = _mixer()
    live.temperature.value, live.soft_weight.value, live.keep_t2.value = temperature, 0.7, keep_t2
    student = STUDENT[:1].double().requires_grad_()
    loss = losses.soft_target_loss(student, TEACHER[:1].double(), live.temperature.value)
    loss = 0.7 * loss / (1 if keep_t2 else live.temperature.value**2)
    loss = loss + 0.3 * torch.nn.functional.cross_entropy(student, LABELS[:1])
    loss.backward()
    np.testing.assert_allclose(live.pushes()[2], -student.grad[0].numpy(), atol=1e-9)


def test_mixer_weight_and_toggle_change_picture_and_words() -> None:
    live = _mixer()
    seen = {(live.image.value, live.text.value)}
    for weight in (0.0, 1.0, 0.5):
        live.soft_weight.value = weight
        seen.add((live.image.value, live.text.value))
    live.keep_t2.value = False
    assert "without T²" in live.text.value
    seen.add((live.image.value, live.text.value))
    assert len(seen) == 5


def test_without_t2_the_soft_push_fades_with_temperature() -> None:
    live, lengths = _mixer(), []
    live.keep_t2.value = False
    for temperature in (2.0, 4.0, 8.0, 20.0):
        live.temperature.value = temperature
        lengths.append(float(np.linalg.norm(live.pushes()[0])))
    assert lengths == sorted(lengths, reverse=True) and lengths[0] > 10 * lengths[-1]


def test_map_names_the_closest_pair_and_agrees_with_the_truth() -> None:
    live = _map()
    found = re.search(r"Most alike: (class \w) and (class \w)", live.text.value)
    assert found
    assert CLASSES.index(found[1]) ^ 1 == CLASSES.index(found[2])
    agreement = re.search(r"Rank agreement with the truth: ([\d.-]+)\.", live.text.value)
    assert agreement and float(agreement[1]) > 0.3
    assert "truth" not in _map_without_truth().text.value


def test_names_are_escaped() -> None:
    odd = ("<b>bad</b>", *CLASSES[1:])
    live = widgets.temperature_explorer(IMAGES, LABELS, TEACHER, odd)
    assert "<b>bad" not in live.text.value
    assert "&lt;b&gt;bad" in live.text.value


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: widgets.temperature_explorer(IMAGES[:9], LABELS, TEACHER, CLASSES), "as many"),
        (lambda: widgets.temperature_explorer(IMAGES[:0], LABELS[:0], TEACHER[:0], CLASSES), "one"),
        (lambda: widgets.temperature_explorer(IMAGES, LABELS, TEACHER, CLASSES[:9]), "9 names"),
        (lambda: widgets.loss_mixer(TEACHER[:1], STUDENT[:1], 0, CLASSES), "one image"),
        (lambda: widgets.loss_mixer(TEACHER[0], STUDENT[0], 10, CLASSES), "Label 10"),
        (lambda: widgets.class_map(TEACHER, LABELS[:9], CLASSES), "as many"),
        (lambda: widgets.class_map(TEACHER, LABELS, CLASSES, np.eye(3)), r"\(10, 10\)"),
    ],
)
def test_mistakes_are_named(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
