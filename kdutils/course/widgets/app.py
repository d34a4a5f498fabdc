"""The interactive figures as one page, for Voilà (`make app`) or for the last line of a cell."""

from __future__ import annotations

import html

import ipywidgets as controls
import torch

from ...losses import softened
from ...metrics import kl_divergence
from . import demo as demo_module
from .demo import Demo, demo
from .distiller import distil_it_yourself
from .explorer import temperature_explorer
from .live import PROSE
from .mixer import loss_mixer
from .similarity import class_map

# Name of a tab, and what to try there.
TABS = {
    "Temperature": "Drag the temperature. At T = 1 the teacher seems certain of this image; "
    "warmer, it tells which other classes the image resembles. Then pick others. A yellow band "
    "marks the class on the label.",
    "Two losses": "One image, on which the student is furthest from its teacher. Move the weight "
    "to 0 and to 1; raise the temperature; then take away T² and raise it again. The yellow band "
    "marks the class on the label.",
    "Class map": "Which classes does the teacher find alike? Press sweep and watch the map fill.",
    "Distil it yourself": "Choose, press train, and compare with the same student on labels only. "
    "Which setting wins, and by more than luck?",
}
# For photographs nobody knows how alike two classes truly are; for the drawn shapes we do.
TRUTH_TAB = "Map and truth"
TRUTH_ADVICE = (
    "The drawn shapes were generated from a known likeness of their classes, so a teacher's map "
    "can be held against the truth."
)


def page(shown: Demo | None = None) -> controls.VBox:
    """All interactive figures in tabs, under a line that says what is shown.

    Args:
        shown: the data; default what `demo()` finds here.
    """
    shown = demo() if shown is None else shown
    content = {name: (TABS[name], one) for name, one in zip(TABS, figures(shown), strict=True)}
    if shown.truth is None:
        content[TRUTH_TAB] = (TRUTH_ADVICE, true_map())
    tabs = controls.Tab(
        children=[
            controls.VBox([controls.HTML(f"<p style='{PROSE};margin:0'>{advice}</p>"), figure])
            for advice, figure in content.values()
        ],
        titles=list(content),
    )
    note = controls.HTML(
        f"<p role='note' style='{PROSE}'>Every control works from the keyboard too: Tab goes to "
        f"it, arrow keys move it. <b>On show:</b> {html.escape(shown.note)}</p>"
    )
    return controls.VBox([note, tabs])


def figures(shown: Demo) -> list[controls.VBox]:
    """The interactive figures, in the order of `TABS`."""
    row = furthest_apart(shown)
    return [
        temperature_explorer(
            shown.images, shown.labels, shown.teacher_logits, shown.classes,
            shown.student_logits, shown.name,
        ),
        loss_mixer(
            shown.teacher_logits[row], shown.student_logits[row], int(shown.labels[row]),
            shown.classes, shown.name, shown.images[row],
        ),
        class_map(
            shown.teacher_logits, shown.labels, shown.classes, shown.truth, shown.name
        ),
        distil_it_yourself(
            shown.part, shown.soft_targets, shown.baselines, shown.most_epochs,
            recipe=shown.recipe,
        ),
    ]  # fmt: skip


def true_map() -> controls.VBox:
    """The class map of the embedded set, beside the truth that it was generated from."""
    drawn = demo_module.shapes()
    return class_map(
        drawn.teacher_logits, drawn.labels, drawn.classes, drawn.truth, drawn.name
    )  # fmt: skip


def furthest_apart(shown: Demo, temperature: float = 4.0) -> int:
    """Row of the image on which the teacher is right and the student furthest from it, by KL."""
    teacher, student = (
        softened(logits, temperature) for logits in (shown.teacher_logits, shown.student_logits)
    )
    distance = kl_divergence(teacher, student)
    right = shown.teacher_logits.argmax(-1) == shown.labels
    return int(torch.where(right, distance, torch.zeros_like(distance)).argmax())
