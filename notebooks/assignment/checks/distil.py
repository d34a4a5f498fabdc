"""The visible checks of the assignment "Distil it": what was expected, what came, and a likely reason.

Students have this file, so it holds no hidden test.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import classroom
from .calling import (
    LENT_SOFT_TARGET_LOSS,
    LENT_SOFTEN,
    NotYet,
    as_number,
    as_tensor,
    call,
    call_through,
    expect,
    forgiving,
    lent_mixed_loss,
    most_points,
)

__all__ = [  # what the hidden tests take from here
    "LENT_SOFTEN", "LENT_SOFT_TARGET_LOSS", "call", "lent_mixed_loss", "most_points",
]  # fmt: skip

BASELINE = 0.37  # more than the classroom's network reaches in the budget on labels alone


def _example(rows: int = 4, classes: int = 10) -> tuple[Tensor, Tensor, Tensor]:
    """Student logits, teacher logits (float64) and labels for the visible checks."""
    generator = torch.Generator().manual_seed(20)
    draw = torch.randn(2, rows, classes, generator=generator, dtype=torch.float64) * 3
    return draw[0], draw[1], torch.arange(rows) % classes


def soften(function: Callable[..., Any]) -> None:
    """Task 1 on one small example."""
    logits, temperature = _example(3, 4)[0], 2.0
    came = as_tensor(call(function, logits, temperature), (3, 4), "soften(logits, 2.0)")
    right = (logits / temperature).softmax(-1)
    hints = {
        "You divided by nothing: that is the softmax at T = 1.": logits.softmax(-1),
        "You multiplied by T. High temperatures flatten, so the logits are divided by T.": (
            logits * temperature
        ).softmax(-1),
        "Your columns sum to one. Each row is an image, so its row must: softmax over dim=-1.": (
            logits / temperature
        ).softmax(0),
        "These are logarithms: log_softmax where softmax was meant.": (
            logits / temperature
        ).log_softmax(-1),
        "Each row must sum to one; these are not normalised yet.": (logits / temperature).exp(),
        "You divided the probabilities. Divide the logits, then take the softmax.": (
            logits.softmax(-1) / temperature
        ),
    }
    if not torch.allclose(came, right, rtol=1e-4, atol=1e-7):
        found = [h for h, wrong in hints.items() if torch.allclose(came, wrong, rtol=1e-4)]
        raise NotYet(
            f"the first row should be {_row(right[0])}, and {_row(came[0])} came. "
            f"{found[0] if found else 'Does each row sum to one?'}"
        )
    print("Right: soften(logits, 2.0) is what it should be, and each row sums to one.")


def _row(values: Tensor) -> str:
    return "[" + ", ".join(f"{value:.3f}" for value in values.tolist()) + "]"


def soft_target_loss(function: Callable[..., Any]) -> None:
    """Task 2 on one small example."""
    student, teacher, _ = _example()
    rows, classes, t = *student.shape, 4.0
    log_p, log_q = (teacher / t).log_softmax(-1), (student / t).log_softmax(-1)
    divergence = F.kl_div(log_q, log_p, reduction="batchmean", log_target=True).item()
    right = t**2 * divergence
    backwards = t**2 * F.kl_div(log_p, log_q, reduction="batchmean", log_target=True).item()
    cross = -(t**2) * (log_p.exp() * log_q).sum(-1).mean().item()
    half = F.kl_div(student.log_softmax(-1), log_p, reduction="batchmean", log_target=True).item()
    mistakes = {
        "It is 16 times too small: the factor T² is missing.": divergence,
        "It is 4 times too small: the factor is T², not T.": t * divergence,
        f"It is {classes} times too small: did you average over classes? Sum over classes, "
        'average over images (reduction="batchmean").': right / classes,
        f"It is {classes * 16} times too small: averaged over classes, and no T².": divergence
        / classes,
        f"It is {rows} times too large: did you sum over the batch? Sum over classes, average "
        "over images.": right * rows,
        "Student and teacher are swapped: the teacher's probabilities weigh the logarithms.": (
            backwards
        ),
        "Student and teacher are swapped, and T² is missing.": backwards / t**2,
        "The sign is the wrong way round.": -right,
        "This is the cross entropy with the teacher. The divergence also takes off the "
        "teacher's own entropy, so that it is zero when both agree.": cross,
        "Only the teacher is softened. Both get the same temperature.": t**2 * half,
    }

    def test() -> float:
        came = as_number(call(function, student.clone(), teacher.clone(), t), "The loss at T = 4")
        expect(came, right, "The loss of the example at T = 4", mistakes)
        return came

    came = forgiving(test, soften=LENT_SOFTEN)
    print(
        f"Right: {came:.5f}, summed over {classes} classes, averaged over {rows} images, times T²."
    )


def mixed_loss(function: Callable[..., Any]) -> None:
    """Task 3 on one small example."""
    student, teacher, labels = _example()
    t, w = 4.0, 0.7
    soft = LENT_SOFT_TARGET_LOSS(student, teacher, t).item()
    hard = F.cross_entropy(student, labels).item()
    warm = F.cross_entropy(student / t, labels).item()
    mistakes = {
        "The weights are the wrong way round: soft_weight belongs to the teacher.": (
            (1 - w) * soft + w * hard
        ),
        "Labels are compared at T = 1; you softened the student for them too.": (
            w * soft + (1 - w) * warm
        ),
        "The sum has no weights.": soft + hard,
        "The label term is not weighted by 1 - soft_weight.": w * soft + hard,
        "The soft term is not weighted.": soft + (1 - w) * hard,
        "T² is there twice: soft_target_loss has it already.": w * t**2 * soft + (1 - w) * hard,
    }

    def test() -> float:
        value = call(function, student.clone(), teacher.clone(), labels, t, w)
        came = as_number(value, "The mixed loss")
        expect(came, w * soft + (1 - w) * hard, "The mixed loss at soft_weight = 0.7", mistakes)
        return came

    came = forgiving(test, soften=LENT_SOFTEN, soft_target_loss=LENT_SOFT_TARGET_LOSS)
    print(f"Right: {came:.5f} = 0.7 x {soft:.5f} (teacher) + 0.3 x {hard:.5f} (labels).")


def distil_step(function: Callable[..., Any]) -> None:
    """Task 4 with two tiny networks."""
    student, teacher = _tiny(1), _tiny(2).train()
    generator = torch.Generator().manual_seed(3)
    images, labels = torch.randn(8, 6, generator=generator), torch.arange(8) % 3
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    first, before = _state(student), _state(teacher)
    value = call(function, student, teacher, images, labels, optimizer, _square)
    as_number(value, "What distil_step returns, the loss,")
    if all(torch.equal(a, b) for a, b in zip(first, _state(student), strict=True)):
        raise NotYet(
            "the student has not changed. Is `optimizer.step()` called, after `backward()`?"
        )
    if any(p.grad is not None for p in teacher.parameters()):
        raise NotYet(
            "the teacher has got gradients. Ask it under `torch.no_grad()`: it only answers, it "
            "does not learn."
        )
    if any(not torch.equal(a, b) for a, b in zip(before, _state(teacher), strict=True)):
        raise NotYet(
            "the teacher's buffers have changed. In train mode, batch norm updates its running "
            "means whenever images pass: call `teacher.eval()` first."
        )
    print("Right: the student took a step, and the teacher is as it was.")


def _tiny(seed: int) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3))


def _square(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor) -> Tensor:
    return (student_logits - teacher_logits).square().mean() + F.cross_entropy(
        student_logits, labels
    )


def _state(model: nn.Module) -> list[Tensor]:
    return [value.clone() for value in model.state_dict().values()]


def calibration_error(function: Callable[..., Any]) -> None:
    """Task 5 on six images that can be done by hand."""
    confidence = torch.tensor([0.95, 0.95, 0.95, 0.95, 0.65, 0.65], dtype=torch.float64)
    probabilities = torch.stack([confidence, 1 - confidence], dim=1)
    labels = torch.tensor([0, 0, 0, 1, 0, 0])  # right: 3 of 4, then 2 of 2
    came = as_number(call(function, probabilities, labels, 10), "The calibration error")
    gaps = (0.95 - 0.75, 1.0 - 0.65)
    expect(
        came,
        (4 * gaps[0] + 2 * gaps[1]) / 6,
        "The calibration error of the six images in 10 bins",
        {
            "Each bin weighs as many images as it holds; you averaged the bins.": sum(gaps) / 2,
            "You averaged over all ten bins. Weigh each by its share of the images.": sum(gaps)
            / 10,
            "Gaps of opposite sign cancelled: take the absolute value in each bin.": abs(
                (4 * -gaps[0] + 2 * gaps[1]) / 6
            ),
            "It is the sum; divide by the number of images.": 4 * gaps[0] + 2 * gaps[1],
            "This is the largest gap. Asked for is the mean over images.": max(gaps),
        },
    )
    print(f"Right: {came:.4f} = (4 x 0.20 + 2 x 0.35) / 6.")


def train_student(function: Callable[..., Any], seed: int = 0) -> None:
    """Task 6 in the visible classroom."""
    room = classroom.classroom(seed)
    reached = forgiving(
        lambda: _beats(function, room),
        soften=LENT_SOFTEN,
        soft_target_loss=LENT_SOFT_TARGET_LOSS,
        mixed_loss=lent_mixed_loss,
    )
    print(f"Right: {100 * reached:.1f} % of the test images, and labels alone reach about a third.")


def _beats(function: Callable[..., Any], room: classroom.Classroom) -> float:
    reached = classroom_accuracy(function, room)
    if reached <= BASELINE:
        raise NotYet(
            f"your student names {100 * reached:.1f} % of the test images right, and it takes more "
            f"than {100 * BASELINE:.0f} %, which labels alone do not reach. Do you listen to the "
            "teacher (`soft_weight`), and does the loop take a step for every batch?"
        )
    return reached


def classroom_accuracy(
    function: Callable[..., Any], room: classroom.Classroom, seed: int = 0
) -> float:
    """Train a fresh network with `function` within the budget; its accuracy on the test images."""
    student = classroom.network(seed)
    try:
        call_through(_trained, function, student, room.images, room.labels, room.teacher_logits)
    except classroom.BudgetSpent as error:
        raise NotYet(str(error)) from None
    return classroom.accuracy(student, room.test_images, room.test_labels)


def _trained(function: Callable[..., Any], student: nn.Module, images: Tensor, *rest: Any) -> None:
    """Let `function` train `student`, as long as its budget lasts."""
    with classroom.budget(student, classroom.EPOCHS * len(images)):
        function(student, images, *rest)
