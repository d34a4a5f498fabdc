"""All checks together, and the exercise of notebook 07."""

from __future__ import annotations

import copy
import re
from functools import cache
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from learned import setting
from small import TinyNet
from torch import Tensor, nn

from kdutils import diagnose, losses, train, views
from kdutils.course.pitfalls import ByBatchNumber, SwitchedLoss
from kdutils.diagnose import FAIL, PASS, QUESTIONS, SKIP
from kdutils.diagnose.loop import Loop
from kdutils.diagnose.report import OF_LOOP, OF_LOSS
from kdutils.losses import Loss
from kdutils.soft_targets import SoftTargets

RIGHT = SwitchedLoss()


def test_run_gives_a_verdict_for_every_question_but_the_control() -> None:
    data, teacher = setting()
    report = diagnose.run(TinyNet(2), teacher, data, RIGHT)
    assert [each.check for each in report.verdicts] == [*OF_LOSS, *OF_LOOP]
    assert report.failed == []
    assert str(report).endswith("Nothing failed.")


def test_run_takes_kept_targets() -> None:
    data, teacher = setting()
    targets = ByBatchNumber(SoftTargets(teacher, data.train))
    report = diagnose.run(TinyNet(2), teacher, data, RIGHT, targets=targets)
    assert report.failed == ["alignment"]
    assert "✗ alignment" in str(report) and "look at: " in str(report)
    assert report["alignment"].status == FAIL


def test_run_adds_the_control_on_request() -> None:
    data, teacher = setting()
    report = diagnose.run(TinyNet(2), teacher, data, RIGHT, images=64, control=True)
    assert [each.check for each in report.verdicts] == list(QUESTIONS)


class Features(nn.Module):
    """A loss as `fit` takes it with features; here it uses the logits only."""

    student_layers = teacher_layers = ("2",)

    def forward(
        self, logits: Tensor, teacher_logits: Tensor, labels: Tensor,
        student_features: object = None, teacher_features: object = None,
    ) -> Tensor:  # fmt: skip
        return RIGHT(logits, teacher_logits, labels)


def test_a_loss_that_compares_features_has_its_loop_watched_with_a_live_teacher() -> None:
    data, known = setting()
    teacher = copy.deepcopy(known.known).eval()
    report = diagnose.run(TinyNet(2), teacher, data, Features(), images=64)
    assert [each.status for each in report.verdicts] == [SKIP] * 6 + [PASS] * 5, str(report)


# --- the exercise of notebook 07 --------------------------------------------------------------

PLANTED = {
    1: "scale",
    2: "alignment",
    3: "teacher_mode",
    4: "student_mode",
    5: "direction",
    6: "views",
}


@cache
def exercise() -> tuple[dict[int, Loop], dict[int, Loss], str]:
    """The six loops and losses, as the cells of the notebook define them; and its whole text."""
    script = Path(__file__).parents[2] / "notebooks/scripts/07_when_distillation_hurts.py"
    text = script.read_text(encoding="utf-8")
    names = {"torch": torch, "F": F, "losses": losses, "train": train, "views": views}
    for cell in re.split(r"^# %%.*\n", text, flags=re.MULTILINE):
        if re.match(r"def (epoch_of|loop_\d|loss_\d)\(", cell):
            exec(cell, names)
    loops = {number: names[f"loop_{number}"] for number in PLANTED}
    return loops, {number: names[f"loss_{number}"] for number in PLANTED}, text


@pytest.mark.parametrize("number", PLANTED)
def test_each_loop_of_the_exercise_has_the_bug_that_its_solution_names(number: int) -> None:
    loops, functions, text = exercise()
    data, teacher = setting()
    report = diagnose.run(TinyNet(2), teacher, data, functions[number], loops[number], images=200)
    assert report.failed == [PLANTED[number]], str(report)
    solution = re.search(rf"^# {number}\. `(\w+)`", text, flags=re.MULTILINE)
    assert solution and solution[1] == PLANTED[number]
