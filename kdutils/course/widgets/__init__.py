"""Interactive figures: drag a slider and the picture and its text alternative follow.

    explorer = temperature_explorer(images, labels, teacher_logits, classes, student_logits)
    explorer                                        # as the last line of a cell
    show(explorer.still(), "The same at T = 1, 4, 20.")   # for readers without a live kernel

How it works: a control's `observe` changes the artists of one Figure, which never is rebuilt, and
hands PNG bytes to an Image widget and words to an HTML widget. There is no Output widget, because
notebooks that are run without a browser sometimes hang on one (nbclient issue 312).
"""

from __future__ import annotations

from .distiller import Distiller, distil_it_yourself
from .explorer import (
    CONFUSED,
    DISAGREE,
    HIDDEN,
    TemperatureExplorer,
    entropies,
    loss_by_class,
    temperature_explorer,
)
from .live import HIGHEST, LOWEST, PRESETS, LiveFigure, temperature_slider
from .mixer import LossMixer, loss_mixer
from .similarity import ClassMap, class_map, class_tree, rank_agreement
from .stage import encode_png

__all__ = [
    "CONFUSED",
    "DISAGREE",
    "HIDDEN",
    "HIGHEST",
    "LOWEST",
    "PRESETS",
    "ClassMap",
    "Distiller",
    "LiveFigure",
    "LossMixer",
    "TemperatureExplorer",
    "class_map",
    "class_tree",
    "distil_it_yourself",
    "encode_png",
    "entropies",
    "loss_by_class",
    "loss_mixer",
    "rank_agreement",
    "temperature_explorer",
    "temperature_slider",
]
