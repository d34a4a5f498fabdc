"""Finds the bug in your distillation: what is wrong, in a minute and without guessing.

    from kdutils import diagnose
    report = diagnose.run(student, teacher, data, loss, loop)
    print(report)

`loss` is probed with made-up logits: what it does to its gradient tells which divergence it is, at
which temperature, how it averages and how strong it is. `loop` is run on copies of both networks
and watched from outside: who learns, in which mode, and whether the teacher's answers that reach
the loss belong to the images, and the very views, that the student was shown.

Every check ends in one sentence; a planted bug makes one check fail and no other.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from torch import nn

from ..losses import Loss
from ..train import TeacherLogits
from .loop import Loop, check_loop, default_loop, shuffled_control
from .loss import check_loss
from .report import FAIL, PASS, QUESTIONS, SKIP, Report, Verdict

if TYPE_CHECKING:
    from ..data import ImageData

__all__ = [
    "FAIL", "PASS", "QUESTIONS", "SKIP", "Report", "Verdict", "check_loop", "check_loss", "run",
    "shuffled_control",
]  # fmt: skip


def run(
    student: nn.Module,
    teacher: nn.Module,
    data: ImageData,
    loss: Loss,
    loop: Loop | None = None,
    *,
    temperature: float = 4.0,
    soft_weight: float | None = None,
    targets: TeacherLogits | None = None,
    images: int = 512,
    control: bool = False,
) -> Report:
    """Check a distillation: its loss, and what reaches it while it trains.

    Args:
        student, teacher: any networks; both stay as they are, copies are used.
        data: images; only the first `images` for training and validation are used, unless
            `targets` are given, which belong to all of them.
        loss: called as loss(student_logits, teacher_logits, labels).
        loop: called as loop(student, teacher, data, loss); it should train for two short epochs
            with a validation between, and call the `loss` that it is handed. Default: `fit`.
        temperature: what you mean the loss to use.
        soft_weight: the weight of the soft term; None: one minus the weight of the labels' term.
        targets: kept teacher logits for the default loop; default `SoftTargets(teacher, …)`.
        images: how many images the loop sees; a few batches are enough.
        control: also train short students, with honest and with shuffled answers.

    Returns:
        A report; print it. `report.failed` names the checks that failed.

    Raises:
        ValueError: a bad temperature, fewer than two classes, or a loss that gives no scalar.
    """
    if targets is None:
        train, val = (s.subset(min(images, len(s))) for s in (data.train, data.val))
        data = replace(data, train=train, val=val)
    verdicts = check_loss(loss, temperature, soft_weight, len(data.classes))
    verdicts += check_loop(loop or default_loop(targets), student, teacher, data, loss)
    if control:
        verdicts.append(shuffled_control(student, teacher, data, loss, targets))
    return Report(tuple(verdicts))
