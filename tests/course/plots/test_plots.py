"""The figures: made without pyplot, titled, labelled, small; and `show` with its text alternative."""

from __future__ import annotations

import base64
import struct

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib import pyplot
from matplotlib.figure import Figure

from kdutils import metrics, models
from kdutils.course import plots

CLASSES = tuple(f"class {letter}" for letter in "ABCDEFGHIJ")
NAME = "made-up images"


def _made_up(n: int = 200) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, 3, 32, 32), dtype=torch.uint8, generator=generator)
    labels = torch.arange(n) % 10
    logits = torch.randn(n, 10, generator=generator)
    logits[torch.arange(n), labels] += 4
    logits[torch.arange(n), labels ^ 1] += 2  # neighbours look alike: A and B, C and D, …
    return images, labels, logits


IMAGES, LABELS, LOGITS = _made_up()
ROWS = [{"epoch": e, "val_accuracy": 0.5 + e / 20, "train_loss": 2 / e} for e in range(1, 6)]
MODELS = [
    {"name": "teacher", "parameters": 657_000, "macs": 48e6, "size_mb": 2.6, "accuracy": 0.9,
     "low": 0.89, "high": 0.91, "latency_ms": 3.0, "p10_ms": 2.8, "p90_ms": 3.4},
    {"name": "distilled", "parameters": 107_000, "macs": 4e6, "size_mb": 0.43, "accuracy": 0.8,
     "latency_ms": 0.5},
]  # fmt: skip
DIFFERENCES = [1.0, 1.5, 0.5]
LONG_RUNS = [
    {"name": "student, labels only", "role": "baseline", "epochs": 2,
     "runs": [{"curve": [[30.0, 50.0], [60.0, 70.0]]}, {"curve": [[40.0, 52.0], [600.0, 72.0]]}]},
    {"name": "student, distilled", "role": "distilled", "epochs": 2,
     "runs": [{"curve": [[30.0, 55.0], [60.0, 75.0]]}]},
    {"name": "student, distilled", "role": "distilled", "epochs": 1,
     "runs": [{"curve": [[30.0, 60.0]]}]},
]  # fmt: skip
FIGURES = {
    "sample_sheet": lambda: plots.sample_sheet(IMAGES, LABELS, CLASSES, data_name=NAME),
    "class_balance": lambda: plots.class_balance({"train": LABELS}, CLASSES, data_name=NAME),
    "view_grid": lambda: plots.view_grid(IMAGES[0], data_name=NAME),
    "view_grid, few": lambda: plots.view_grid(IMAGES[0], views=[24, 0, 49], data_name=NAME),
    "pixel_histogram": lambda: plots.pixel_histogram(IMAGES, data_name=NAME),
    "learning_curves": lambda: plots.learning_curves(
        {"teacher": ROWS, "distilled": [ROWS, ROWS]}, ("val_accuracy", "train_loss"), data_name=NAME
    ),
    "accuracy_over_time": lambda: plots.accuracy_over_time(LONG_RUNS, data_name=NAME),
    "confusion": lambda: plots.confusion(
        metrics.confusion_matrix(LOGITS, LABELS), CLASSES, data_name=NAME
    ),
    "reliability_diagram": lambda: plots.reliability_diagram(
        {"teacher": metrics.reliability(LOGITS, LABELS)}, data_name=NAME
    ),
    "size_bars": lambda: plots.size_bars(MODELS, data_name=NAME),
    "softmax_temperature_bars": lambda: plots.softmax_temperature_bars(
        LOGITS[0], (1, 4), CLASSES, label=0, image=IMAGES[0], student_logits=LOGITS[1],
        data_name=NAME,
    ),
    "dark_knowledge_gallery": lambda: plots.dark_knowledge_gallery(
        IMAGES, LABELS, LOGITS, CLASSES, count=4, data_name=NAME
    ),
    "entropy_curve": lambda: plots.entropy_curve(LOGITS, data_name=NAME),
    "similarity_heatmaps": lambda: plots.similarity_heatmaps(
        LOGITS, LABELS, CLASSES, truth=np.eye(10), data_name=NAME
    ),
    "gradient_scale_plot": lambda: plots.gradient_scale_plot(
        (1, 2, 4), {"measured": [1, 0.25, 0.0625]}, data_name=NAME
    ),
    "sweep_heatmap": lambda: plots.sweep_heatmap(
        [[0.8, 0.82], [0.79, 0.81]], (1, 4), (0.5, 0.9), baseline=0.8, data_name=NAME
    ),
    "paired_difference_plot": lambda: plots.paired_difference_plot(
        DIFFERENCES, metrics.paired_interval(DIFFERENCES, [0] * 3), data_name=NAME
    ),
    "per_class_change": lambda: plots.per_class_change(
        np.linspace(0.6, 0.8, 10), np.linspace(0.7, 0.75, 10), CLASSES, data_name=NAME
    ),
    "accuracy_latency_scatter": lambda: plots.accuracy_latency_scatter(MODELS, data_name=NAME),
}  # fmt: skip


@pytest.mark.parametrize("name", FIGURES)
def test_figure_is_titled_names_its_data_and_is_small(name: str) -> None:
    before = dict(matplotlib.rcParams)
    figure = FIGURES[name]()
    assert isinstance(figure, Figure)
    assert figure.get_suptitle()
    assert any(NAME in text.get_text() for text in figure.texts)
    picture = plots.png(figure)
    width, height = struct.unpack(">II", picture[16:24])
    assert 450 <= width <= 1350 and 225 <= height <= 1350, "150 dots an inch, at most 9 inches"
    assert len(picture) < 2_500_000, "noise, which no PNG packs, at 150 dots an inch"
    assert not pyplot.get_fignums(), "a figure leaked into pyplot"
    assert dict(matplotlib.rcParams) == before, "the style leaked out"


@pytest.mark.parametrize("name", ["teacher", "student"])
def test_network_diagram_counts_every_parameter(name: str) -> None:
    model = models.build(name)
    figure = plots.network_diagram(models.layer_table(model), name=name)
    words = " ".join(text.get_text() for text in figure.texts)
    assert f"{models.count_parameters(model):,} parameters" in words
    plots.png(figure)


def test_class_balance_counts_a_split_or_its_labels() -> None:
    figure = plots.class_balance({"train": torch.tensor([0, 0, 1])}, ("A", "B"))
    words = {text.get_text() for axes in figure.axes for text in axes.texts}
    assert {"2", "1"} <= words


def test_sample_sheet_leaves_blanks_where_a_class_is_short() -> None:
    few = plots.sample_sheet(IMAGES[:12], LABELS[:12], CLASSES, per_class=3)
    mosaic = few.axes[0].images[0].get_array()
    assert mosaic.shape[:2] == (10 * 35 - 3, 3 * 35 - 3)
    assert (mosaic[-32:, -32:] == 255).all()


def test_role_keeps_its_colour() -> None:
    assert plots.role_colour("teacher") == plots.role_colour("my Teacher")
    assert plots.role_colour("shuffled teacher") != plots.role_colour("teacher")
    assert plots.role_colour("distilled") != plots.role_colour("labels only")


def test_dark_knowledge_examples_are_right_sure_and_varied() -> None:
    chosen = plots.dark_knowledge_examples(LOGITS * 2, LABELS, count=6)
    assert len(chosen) == len(set(chosen)) == 6
    assert len({int(LABELS[i]) for i in chosen}) == 6
    for i in chosen:
        assert int(LOGITS[i].argmax()) == int(LABELS[i])


def test_relative_similarity_runs_from_identity_to_ones() -> None:
    cold, warm, hot = (plots.relative_similarity(LOGITS, LABELS, t) for t in (0.05, 4, 500))
    for found in (cold, warm, hot):
        np.testing.assert_allclose(found, found.T)
        np.testing.assert_array_equal(found.diagonal(), 1)
        assert found.min() >= 0 and found.max() <= 1
    assert hot.min() > 0.95 > warm.min() > cold.min()
    assert warm[0, 1] > warm[0, 2], "neighbours were made alike"


def test_half_precision_logits_are_welcome() -> None:
    plots.png(plots.entropy_curve(LOGITS.half()))


def test_show_gives_alt_text_and_a_visible_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, **how: shown.append((data, how)))
    plots.show(FIGURES["entropy_curve"](), "The curve rises < log 10.")
    (picture, how), (note, _) = shown
    assert base64.b64decode(picture["image/png"]).startswith(b"\x89PNG")
    assert how["metadata"]["image/png"]["alt"] == "The curve rises < log 10."
    assert "The curve rises &lt; log 10." in note["text/html"]


def test_show_wants_an_alternative() -> None:
    with pytest.raises(ValueError, match="text alternative"):
        plots.show(Figure(), " ")
