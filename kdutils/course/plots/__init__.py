"""The figures of the notebooks. Each function takes arrays and names, and returns a Figure.

Images are uint8 (N, C, H, W) of any size, grey or in colour; labels int64 (N,), logits float
(N, C) with any number of classes; tensors or arrays. Accuracies and probabilities come in as
fractions and are drawn in per cent. `data_name` is the name of the data set (`ImageData.name`); it
stands under the title. One arm keeps one colour through all figures (`role_colour`), from
seaborn's colour-blind-safe palette. Where there is nothing to show, a figure says so in a word.

A cell ends in `show(figure, "what one sees")`; a Figure alone is not displayed twice and not kept.
"""

# ruff: noqa: F401
from .data import class_balance, pixel_histogram, sample_sheet, view_grid
from .distillation import paired_difference_plot, sweep_heatmap
from .evaluation import confusion, per_class_change, reliability_diagram
from .networks import accuracy_latency_scatter, network_diagram, size_bars
from .pitfalls import pitfall_effects, seed_noise
from .soft_targets import (
    dark_knowledge_examples,
    dark_knowledge_gallery,
    entropy_curve,
    gradient_scale_plot,
    relative_similarity,
    similarity_heatmaps,
    similarity_mesh,
    softmax_temperature_bars,
)
from .style import png, role_colour, show
from .training import accuracy_over_time, learning_curves
