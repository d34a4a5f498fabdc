"""What holds for every public figure: titled, labelled, small; any names, classes and images."""

from __future__ import annotations

import inspect
import struct

import matplotlib
import pytest
import torch
from made_up import CLASSES, NAME, figures
from matplotlib import pyplot
from matplotlib.figure import Figure
from matplotlib.text import Text

from kdutils.course import plots

DRAWN = figures()
HOSTILE = ("US$ or CA$", r"$\frac", "_private")  # as TeX: two swallowed, one an error; one hidden
AS_TEXT = figures(HOSTILE, ("_own $x$ & y_1", r"distilled $\frac"), n=60, shape=(1, 28, 20))
BY_CLASS = (
    "sample_sheet", "class_balance", "confusion", "per_class_change", "entropy_curve",
    "softmax_temperature_bars", "dark_knowledge_gallery", "similarity_heatmaps",
)  # fmt: skip
MANY = {n: figures([f"class {i}" for i in range(n)], n=min(4 * n, 300)) for n in (2, 1000)}
NO_NAMES = {"view_grid", "view_grid, few", "pixel_histogram", "entropy_curve", "sweep_heatmap",
            "seed_noise"}  # fmt: skip


def test_every_public_figure_is_tried() -> None:
    public = {
        name for name, value in vars(plots).items()
        if inspect.isfunction(value) and value.__annotations__.get("return") == "Figure"
    }  # fmt: skip
    assert public == {name.split(",")[0] for name in DRAWN}


@pytest.mark.parametrize("name", DRAWN)
def test_figure_is_titled_names_its_data_and_is_small(name: str) -> None:
    before = dict(matplotlib.rcParams)
    figure = DRAWN[name]()
    assert isinstance(figure, Figure)
    assert figure.get_suptitle()
    if name != "network_diagram":  # a network is the same for all data
        assert any(f"{NAME} (not CIFAR-10)" in text.get_text() for text in figure.texts)
    picture = plots.png(figure)
    width, height = struct.unpack(">II", picture[16:24])
    assert 450 <= width <= 1350 and 225 <= height <= 1350, "150 dots an inch, at most 9 inches"
    assert len(picture) < 2_500_000, "noise, which no PNG packs, at 150 dots an inch"
    assert not pyplot.get_fignums(), "a figure leaked into pyplot"
    assert dict(matplotlib.rcParams) == before, "the style leaked out"


@pytest.mark.parametrize("name", AS_TEXT)
def test_names_are_drawn_as_they_are_and_grey_images_of_any_size(name: str) -> None:
    figure = AS_TEXT[name]()
    figure.draw_without_rendering()
    found = [text for text in figure.findobj(Text) if "$" in text.get_text()]
    assert found or name in NO_NAMES, "the names are not in the figure"
    assert not [text.get_text() for text in found if text.get_parse_math() or text.get_usetex()]


@pytest.mark.parametrize("name", ["learning_curves", "learning_curves, one", "per_class_change",
                                  "class_balance", "reliability_diagram", "gradient_scale_plot",
                                  "accuracy_over_time"])  # fmt: skip
def test_a_legend_hides_no_name(name: str) -> None:
    words = [text.get_text() for axes in AS_TEXT[name]().axes if axes.get_legend()
             for text in axes.get_legend().get_texts()]  # fmt: skip
    assert any("_own $x$ & y_1" in word for word in words)


@pytest.mark.parametrize("name", BY_CLASS)
@pytest.mark.parametrize("classes", MANY)
def test_any_number_of_classes(classes: int, name: str) -> None:
    figure = MANY[classes][name]()
    figure.draw_without_rendering()
    rows = [len(axes.get_yticklabels()) for axes in figure.axes if axes.get_yticklabels()]
    assert max(rows, default=0) <= 20, "more names than one can read"
    said = any("of 1,000 classes" in text.get_text() for text in figure.texts)
    assert said == (classes == 1000 and name not in ("entropy_curve", "dark_knowledge_gallery"))


EMPTY = torch.zeros(0)
NOTHING = {
    "sample_sheet": (torch.zeros(0, 3, 8, 8), EMPTY.long(), CLASSES),
    "class_balance": ({"train": EMPTY.long()}, CLASSES),
    "class_balance, no split": ({}, CLASSES),
    "view_grid": (torch.zeros(3, 8, 8), []),
    "pixel_histogram": (torch.zeros(0, 3, 8, 8),),
    "learning_curves": ({"teacher": []},),
    "learning_curves, no arm": ({},),
    "accuracy_over_time": ([],),
    "network_diagram": ([],),
    "size_bars": ([],),
    "accuracy_latency_scatter": ([],),
    "confusion": (torch.zeros(10, 10), CLASSES),
    "reliability_diagram": ({"teacher": []},),
    "per_class_change": (torch.full((2,), torch.nan), torch.zeros(2), ("A", "B")),
    "dark_knowledge_gallery": (torch.zeros(0, 3, 8, 8), EMPTY.long(), torch.zeros(0, 10), CLASSES),
    "entropy_curve": (torch.zeros(0, 10),),
    "similarity_heatmaps": (torch.zeros(0, 10), EMPTY.long(), CLASSES),
    "gradient_scale_plot": ([], {}),
    "paired_difference_plot": ({}, {}),
    "pitfall_effects": ([], None),
    "seed_noise": ([], None, 1.0),
}


@pytest.mark.parametrize("name", NOTHING)
def test_nothing_to_show_is_said_in_a_word(name: str) -> None:
    figure = getattr(plots, name.split(",")[0])(*NOTHING[name])
    plots.png(figure)
    assert figure.get_suptitle()
    assert any(text.get_text() == "nothing to show" for text in figure.texts)
