"""The interactive figures, driven from Python: move a control, look at picture and words."""

from __future__ import annotations

import html
import inspect
import io
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ipywidgets
import numpy as np
import pytest
import torch
from matplotlib import pyplot
from matplotlib.figure import Figure
from PIL import Image
from small import TinyNet, tiny_data

from kdutils import losses, pretrained, train
from kdutils.course import plots, widgets
from kdutils.course.widgets import demo

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
    assert ":focus-visible" in "".join(one.value for one in family if type(one) is ipywidgets.HTML)


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
def test_who_moves_the_slider_ends_the_sweep(make: Make) -> None:
    live = make()
    live.play_button.click()
    assert live.play.playing and "pause" in live.play_button.description
    live.play.value = 10
    swept = live.temperature.value
    live.temperature.value = 7.0
    assert not live.play.playing and "sweep" in live.play_button.description
    live.play.value = 11  # the browser counted once more before it heard of it
    assert live.temperature.value == 7.0
    live.play_button.click()
    live.play.value = 1
    assert live.temperature.value < swept, "the next sweep starts at the cold end and moves it"


def test_a_sweep_says_its_end_not_each_step() -> None:
    live = _explorer()
    live.play.playing = True
    before, texts = live.status.value, set()
    for step in (5, 10, 15):
        live.play.value = step
        texts.add(live.text.value)
        assert live.status.value == before
    live.play.playing = False
    assert len(texts) == 3 and f"T = {live.temperature.value:.2f}" in live.status.value


@each
def test_what_is_said_aloud_is_one_line(make: Make) -> None:
    live = make()
    live.temperature.value = 3.0
    assert "role='status'" in live.status.value and "role='status'" not in live.text.value
    said = re.sub("<[^>]+>", "", live.status.value)
    assert said.startswith("T = 3.00: ") and len(said) < 90


@each
def test_every_control_has_a_name(make: Make) -> None:
    """The buttons of a Play have none, so it stays out of sight and a button with words plays."""
    live = make()
    assert live.play.layout.display == "none" and live.play_button.description
    assert live.typed in list(_family(live)) and live.typed.description == "T"
    assert live.temperature.readout is False  # it would announce, and snap, in logarithms


@pytest.mark.parametrize(
    ("typed", "got"),
    [("10", 10.0), ("3,5", 3.5), (" T = 2.25 ", 2.25), ("0", 0.5), ("-4", 0.5), ("99", 20.0)],
)
def test_a_typed_temperature_is_what_was_typed(typed: str, got: float) -> None:
    live = _explorer()
    live.typed.value = typed
    assert live.temperature.value == got, "exactly, not the nearest step of the slider"
    assert live.typed.value == f"{got:.2f}" and f"T = {got:.2f}" in live.text.value


@pytest.mark.parametrize("typed", ["warm", "", "nan", "inf", "1e", "<b>"])
def test_what_is_no_number_changes_nothing(typed: str) -> None:
    live = _explorer()
    live.temperature.value = 2 ** (5 / 12)  # 1.3348...: more digits than the field shows
    live.typed.value = typed
    assert live.temperature.value == 2 ** (5 / 12) and live.typed.value == "1.33"


def test_a_typed_weight_is_what_was_typed() -> None:
    live = _mixer()
    live.typed_weight.value = "0,37"
    assert live.soft_weight.value == 0.37 and "soft weight 0.37" in live.text.value


@pytest.mark.parametrize("kind", [widgets.LiveFigure, widgets.Distiller, widgets.LossMixer,
                                  widgets.TemperatureExplorer, widgets.ClassMap])  # fmt: skip
def test_no_method_of_ipywidgets_is_overwritten(kind: type) -> None:
    """Only in a page, where values are sent, does ipywidgets call its own `_compare` and the like."""
    ours = [one for one in kind.__mro__ if one.__module__.startswith("kdutils")]
    written = {n for one in ours for n, value in vars(one).items() if inspect.isfunction(value)}
    assert written & set(dir(ipywidgets.VBox)) == {"__init__"}


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
    assert live.picker.options[1:3] == (widgets.CONFUSED, widgets.DISAGREE)  # a telling one first
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
    live.picker.value = odd[0]  # an image of this class
    assert "<b>bad" not in live.text.value
    assert "&lt;b&gt;bad" in live.text.value


def test_the_first_picture_is_a_telling_one() -> None:
    """Sure at T = 1, with a runner-up that warmth brings out: temperature does most on it."""
    shown = demo.shapes()
    live = widgets.temperature_explorer(
        shown.images, shown.labels, shown.teacher_logits, shown.classes, shown.student_logits
    )
    assert live.picker.options[:3] == (widgets.HIDDEN, widgets.CONFUSED, widgets.DISAGREE)
    assert live.temperature.value == 1
    logits = shown.teacher_logits[live.index]
    cold, warm = (losses.softened(logits, t).sort(descending=True) for t in (1.0, 4.0))
    assert cold.indices[0] == shown.labels[live.index]
    assert cold.values[0] > 0.9 > warm.values[0] and warm.values[1] > 2 * warm.values[2]
    assert cold.values[1] < 0.05 and warm.values[1] > 5 * cold.values[1], "warmth brings it out"
    live.picker.value = widgets.CONFUSED
    assert float(losses.softened(shown.teacher_logits[live.index], 1.0).max()) < 0.6


def _made_up(classes: int, shape: tuple[int, ...] = (3, 32, 32), n: int = 40) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(classes)
    logits = 3 * torch.randn(2, n, classes, generator=generator)
    images = torch.randint(0, 256, (n, *shape), dtype=torch.uint8, generator=generator)
    return {"images": images, "labels": torch.arange(n) % classes, "logits": logits}


@pytest.mark.parametrize("classes", [2, 3, 12, 120])
def test_any_number_of_classes(classes: int) -> None:
    made = _made_up(classes, n=max(40, classes))
    names = [f"class number {k}" for k in range(classes)]
    teacher, student = made["logits"]
    explorer = widgets.temperature_explorer(
        made["images"], made["labels"], teacher, names, student, "made up"
    )
    for choice in (explorer.picker.options[0], explorer.picker.options[-1]):
        explorer.picker.value, explorer.temperature.value = choice, 4.0
        label = int(made["labels"][explorer.index])
        assert label in explorer._rows and int(student[explorer.index].argmax()) in explorer._rows
        shown = [text.get_text() for text in explorer._bars[0].axes.get_yticklabels()]
        assert shown == [names[row] for row in explorer._rows]
    mixer = widgets.loss_mixer(teacher[1], student[1], int(made["labels"][1]), names)
    truth = (teacher.T @ teacher).sigmoid()
    maps = widgets.class_map(teacher, made["labels"], names, truth)
    for live in (explorer, mixer, maps):
        live.temperature.value = 2.0
        assert _pixels(live).shape[1] <= 900 and _pixels(live).shape[0] <= 1200
        assert plots.png(live.still())
        assert len(live.text.value) < 3000, "a reader has no use for every class"


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 64, 64), (3, 224, 160)])
def test_images_of_any_size_and_grey(shape: tuple[int, ...]) -> None:
    made = _made_up(10, shape)
    teacher, student = made["logits"]
    live = widgets.temperature_explorer(made["images"], made["labels"], teacher, CLASSES, student)
    seen = live.image.value
    live.which.value = 2
    assert live.image.value != seen and plots.png(live.still())
    pixels = np.asarray(live._photo.get_array())
    assert pixels.shape == (*shape[1:], 3)
    assert shape[0] == 3 or (pixels[..., 0] == pixels[..., 2]).all(), "grey stays grey"
    image = made["images"][live.index]
    widgets.loss_mixer(teacher[0], student[0], 0, CLASSES, image=image)


def test_the_mixer_shows_its_image_and_says_what_yellow_is() -> None:
    without = _mixer()
    live = widgets.loss_mixer(TEACHER[0], STUDENT[0], 0, CLASSES, image=IMAGES[0])
    drawn = [one.get_array() for axes in live.figure.axes for one in axes.images]
    assert len(drawn) == 1 and np.array_equal(drawn[0], IMAGES[0].permute(1, 2, 0))
    assert not any(axes.images for axes in without.figure.axes)
    for one in (live, without):
        assert any("yellow" in axes.get_title("left") for axes in one.figure.axes)
    assert "yellow band" in _explorer()._caption.get_text()


@pytest.mark.parametrize("name", ["US$ or CA$", "$\\frac", "<img src=x onerror=alert(1)>", "a&b"])
def test_text_of_a_name_is_no_markup(name: str) -> None:
    names = (*CLASSES[:9], name)
    labels = torch.full_like(LABELS, 9)
    teacher = TEACHER.clone()
    teacher[:, 9] += 6
    every = [
        widgets.temperature_explorer(IMAGES, labels, teacher, names, STUDENT, name),
        widgets.loss_mixer(teacher[0], STUDENT[0], 9, names, name, IMAGES[0]),
        widgets.class_map(teacher, LABELS, names, data_name=name),
    ]
    for live in every:
        live.temperature.value = 3.0
        texts = [text for axes in live.figure.axes for text in axes.get_yticklabels()]
        texts += [text for axes in live.figure.axes for text in (*axes.texts, axes.title)]
        assert not any(text.get_parse_math() for text in (*texts, *live.figure.texts))
        assert "<img" not in live.text.value + live.status.value
        assert html.escape(name) in live.text.value
        assert plots.png(live.still())


def test_an_interrupted_baseline_is_no_student(own_folders: Path) -> None:
    """Else the slider of notebook 04 showed a half-trained one, without a word."""

    def ctrl_c(row: object) -> None:
        raise KeyboardInterrupt

    recipe = train.Recipe(epochs=2, batch_size=32)
    with pytest.raises(KeyboardInterrupt):
        pretrained.train_or_load(
            "baseline", TinyNet(), tiny_data(64), recipe, progress=False, on_epoch=ctrl_c
        )
    assert not list((own_folders / "results").rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: widgets.temperature_explorer(IMAGES[:9], LABELS, TEACHER, CLASSES), "as many"),
        (lambda: widgets.temperature_explorer(IMAGES[:0], LABELS[:0], TEACHER[:0], CLASSES), "one"),
        (lambda: widgets.temperature_explorer(IMAGES, LABELS, TEACHER, CLASSES[:9]), "9 names"),
        (lambda: widgets.loss_mixer(TEACHER[:1], STUDENT[:1], 0, CLASSES), "one image"),
        (lambda: widgets.loss_mixer(TEACHER[0], STUDENT[0], 10, CLASSES), "Label 10"),
        (lambda: widgets.class_map(TEACHER[:, :1], LABELS, CLASSES[:1]), "two classes"),
        (lambda: widgets.class_map(TEACHER, LABELS[:9], CLASSES), "as many"),
        (lambda: widgets.class_map(TEACHER, LABELS, CLASSES, np.eye(3)), r"\(10, 10\)"),
    ],
)
def test_mistakes_are_named(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
