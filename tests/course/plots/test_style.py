"""What figures share: colours of arms, names, the text alternative."""

from __future__ import annotations

import base64

import numpy as np
import pytest
import torch
from made_up import figures
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from kdutils.course import plots
from kdutils.course.plots import style


def test_role_keeps_its_colour() -> None:
    assert plots.role_colour("teacher") == plots.role_colour("my Teacher")
    assert plots.role_colour("shuffled teacher") != plots.role_colour("teacher")
    assert plots.role_colour("distilled") != plots.role_colour("labels only")


def test_an_arm_has_one_colour_whatever_stands_beside_it() -> None:
    arm = "mean reduction and no T²"
    beside = [style.role_colours(names)[arm] for names in (
        ("distilled correctly", arm), (arm, "labels only, times 0.1"), (arm,))]  # fmt: skip
    assert len(set(beside)) == 1


def test_arms_of_one_figure_differ() -> None:
    names = ("labels only, again", "labels only", "teacher", "weak teacher", "x", "y", "z")
    found = style.role_colours(names)
    assert len(set(found.values())) == len(names)
    assert found["labels only"] == plots.role_colour("labels only"), "the plain name comes first"


def test_cifar10_is_not_called_foreign_and_shapes_are() -> None:
    own = style.new_figure(5, 2, "title", "CIFAR-10 (JPEG copy)", note="a note")
    other = style.new_figure(5, 2, "title", "shapes")
    assert [text.get_text() for text in own.texts][1:] == ["CIFAR-10 (JPEG copy) · a note"]
    assert [text.get_text() for text in other.texts][1:] == ["shapes (not CIFAR-10)"]
    assert own.texts[1].get_color() != other.texts[1].get_color()


def test_telling_classes_are_the_greatest_in_their_own_order() -> None:
    scores = np.arange(40.0)
    scores[39] = np.nan
    chosen, note = style.telling_classes(scores, "the best")
    assert chosen.tolist() == list(range(19, 39))
    assert note == "20 of 40 classes: the best"
    assert style.telling_classes(scores[:20], "the best")[1] == ""


def test_long_names_are_cut_line_by_line() -> None:
    assert style.short("a" * 40 + "\nb") == "a" * 33 + "…\nb"


@pytest.mark.parametrize(("fraction", "words"), [(0.3, "30 %"), (0.625, "62.5 %"), (1, "100 %")])
def test_per_cent_take_as_many_decimals_as_they_need(fraction: float, words: str) -> None:
    axes = Figure().subplots()
    style.percent_axis(axes.yaxis)
    formatter = axes.yaxis.get_major_formatter()
    assert isinstance(formatter, FuncFormatter) and formatter(fraction, 0) == words


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_pictures_have_three_channels(channels: int) -> None:
    image = torch.randint(0, 256, (channels, 5, 7), dtype=torch.uint8)
    found = style.picture(image)
    assert found.shape == (5, 7, 3) and found.dtype == np.uint8
    if channels == 3:
        np.testing.assert_array_equal(found, image.numpy().transpose(1, 2, 0))
    else:
        assert (found == found[..., :1]).all()


def test_show_gives_alt_text_and_a_visible_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, **how: shown.append((data, how)))
    plots.show(figures()["entropy_curve"](), "The curve rises < log 10.")
    (picture, how), (note, _) = shown
    assert base64.b64decode(picture["image/png"]).startswith(b"\x89PNG")
    assert how["metadata"]["image/png"] == {"alt": "The curve rises < log 10.", "width": 640}
    assert "The curve rises &lt; log 10." in note["text/html"]


def test_show_wants_an_alternative() -> None:
    with pytest.raises(ValueError, match="text alternative"):
        plots.show(Figure(), " ")
