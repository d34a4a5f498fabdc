"""Made-up images, logits and runs, and every public figure drawn from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from kdutils import metrics, models
from kdutils.course import plots

CLASSES = tuple(f"class {letter}" for letter in "ABCDEFGHIJ")
ARMS = ("labels only", "distilled")
NAME = "made-up images"
ROWS = [
    {"epoch": e, "val_accuracy": 0.5 + e / 20, "train_loss": 2 / e, "learning_rate": 0.1 / e}
    for e in range(1, 6)
]
DIFFERENCES = [1.0, 1.5, 0.5]


def answers(
    classes: int = 10, n: int = 200, shape: tuple[int, int, int] = (3, 32, 32)
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """uint8 images (n, *shape), labels (n,) and logits (n, classes); A and B, C and D, … alike."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, *shape), dtype=torch.uint8, generator=generator)
    labels = torch.arange(n) % classes
    logits = torch.randn(n, classes, generator=generator)
    logits[torch.arange(n), labels] += 4
    logits[torch.arange(n), (labels ^ 1).clamp(max=classes - 1)] += 2
    return images, labels, logits


def figures(
    classes: Sequence[str] = CLASSES,
    arms: Sequence[str] = ARMS,
    n: int = 200,
    shape: tuple[int, int, int] = (3, 32, 32),
) -> dict[str, Callable[[], Figure]]:
    """Name -> what draws that public figure; a variant has a comma in its name."""
    images, labels, logits = answers(len(classes), n, shape)
    first, second = arms
    paired = metrics.paired_interval(DIFFERENCES, [0] * 3)
    per_class = np.linspace(0.6, 0.8, len(classes)), np.linspace(0.7, 0.75, len(classes))
    sizes = [
        {"name": first, "parameters": 657_000, "macs": 48e6, "size_mb": 2.6, "accuracy": 0.9,
         "low": 0.89, "high": 0.91, "latency_ms": 3.0, "p10_ms": 2.8, "p90_ms": 3.4},
        {"name": second, "parameters": 107_000, "macs": 4e6, "size_mb": 0.43, "accuracy": 0.8,
         "latency_ms": 0.5},
    ]  # fmt: skip
    runs = [
        {"name": first, "role": "baseline", "epochs": 2, "runs": [
            {"curve": {"seconds": [30.0, 60.0], "val_accuracy": [0.50, 0.70]}},
            {"curve": {"seconds": [40.0, 600.0], "val_accuracy": [0.52, 0.72]}}]},
        {"name": second, "role": "distilled", "epochs": 2,
         "runs": [{"curve": {"seconds": [30.0, 60.0], "val_accuracy": [0.55, 0.75]}}]},
        {"name": second, "role": "distilled", "epochs": 1,
         "runs": [{"curve": {"seconds": [30.0], "val_accuracy": [0.60]}}]},
    ]  # fmt: skip
    effects = [
        SimpleNamespace(title=arm, verdict=verdict, gain=paired, cost=paired, gains=DIFFERENCES,
                        costs=DIFFERENCES)
        for arm, verdict in zip(arms, ("hurts: costs points", "no difference"), strict=True)
    ]  # fmt: skip
    layers = [SimpleNamespace(kind="Conv2d", parameters=9, macs=99, output_shape=(8, 16, 16))]
    calls: dict[str, tuple[Any, ...]] = {
        "sample_sheet": (images, labels, classes),
        "class_balance": ({first: labels, second: labels[:5]}, classes),
        "view_grid": (images[0],),
        "view_grid, few": (images[0], [24, 0, 49]),
        "pixel_histogram": (images,),
        "learning_curves": ({first: ROWS, second: [ROWS, ROWS]}, ("val_accuracy", "train_loss")),
        "learning_curves, one": ({first: ROWS, second: ROWS},),
        "accuracy_over_time": (runs,),
        "network_diagram": (layers,),
        "size_bars": (sizes,),
        "accuracy_latency_scatter": (sizes,),
        "confusion": (metrics.confusion_matrix(logits, labels), classes),
        "reliability_diagram": ({arm: metrics.reliability(logits, labels) for arm in arms},),
        "per_class_change": (*per_class, classes),
        "softmax_temperature_bars": (logits[0], (1, 4), classes),
        "dark_knowledge_gallery": (images, labels, logits, classes),
        "entropy_curve": (logits,),
        "similarity_heatmaps": (logits, labels, classes),
        "gradient_scale_plot": ((1, 2, 4), {arm: [1, 0.25, 0.0625] for arm in arms}),
        "sweep_heatmap": ([[0.8, 0.82], [0.79, 0.81]], (1, 4), (0.5, 0.9)),
        "paired_difference_plot": (dict.fromkeys(arms, DIFFERENCES), dict.fromkeys(arms, paired)),
        "pitfall_effects": (effects, paired),
        "seed_noise": ([60.0, 61.0, 62.0], SimpleNamespace(deviation=1.0, runs=3), 1.84),
    }
    options: dict[str, dict[str, Any]] = {
        "learning_curves, one": {"levels": {"teacher": 0.9}},
        "network_diagram": {"name": first},
        "per_class_change": {"names": arms},
        "softmax_temperature_bars": {
            "label": 0, "image": images[0], "student_logits": logits[1]},
        "similarity_heatmaps": {"truth": np.eye(len(classes))},
        "dark_knowledge_gallery": {"count": 4},
        "sweep_heatmap": {"baseline": 0.8},
    }  # fmt: skip

    def drawing(name: str) -> Callable[[], Figure]:
        named = {} if name == "network_diagram" else {"data_name": NAME}
        draw = getattr(plots, name.split(",")[0])
        return lambda: draw(*calls[name], **options.get(name, {}), **named)

    return {name: drawing(name) for name in calls}


def layers_of(name: str) -> Any:
    """The layer table of a network of ours."""
    return models.layer_table(models.build(name))
