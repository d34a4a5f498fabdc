"""The visible checks of the assignment "Find the bug": each tells a symptom, never the cause.

As in `distil.py`, no hidden test is in here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .calling import NotYet, as_number, call, same


def training(function: Callable[..., Any]) -> None:
    """Loop 1: plain training."""
    student, twin = nn.Linear(3, 2), nn.Linear(3, 2)
    twin.load_state_dict(student.state_dict())
    generator = torch.Generator().manual_seed(1)
    images, labels = torch.randn(8, 3, generator=generator), torch.arange(8) % 2
    call(function, student, images, labels, 2)
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.1)
    for _ in range(2):
        for start in (0, 4):
            optimizer.zero_grad()
            F.cross_entropy(twin(images[start : start + 4]), labels[start : start + 4]).backward()
            optimizer.step()
    if not torch.allclose(student.weight, twin.weight, atol=1e-6):
        raise NotYet(
            "the first step is fine, and the later ones are too long. What is left over from the "
            "batch before?"
        )
    print("Right: four steps end where four steps should.")


def order(function: Callable[..., Any]) -> None:
    """Loop 2: teacher logits kept in a table."""
    images, teacher = _linear_world(0, 64, 4)
    student = nn.Linear(6, 4)
    call(function, student, images, teacher, 30)
    with torch.no_grad():
        agree = (student(images).argmax(-1) == teacher.argmax(-1)).double().mean().item()
    if agree < 0.9:
        raise NotYet(
            f"after training, the student agrees with the teacher on {100 * agree:.0f} % of the "
            "images it was trained on; it can easily agree on nearly all. Whose answer does it "
            "learn for which image?"
        )
    print(f"Right: the student agrees with its teacher on {100 * agree:.0f} % of the images.")


def _linear_world(seed: int, n: int, classes: int) -> tuple[Tensor, Tensor]:
    """ "Images" (n, 6) and the logits (n, classes) of a linear teacher, which a linear student fits."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(n, 6, generator=generator)
    return images, images @ torch.randn(6, classes, generator=generator) * 3


def evaluation(function: Callable[..., Any]) -> None:
    """Loop 3: accuracy."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 3))
    with torch.no_grad():
        model[0].running_mean.copy_(torch.tensor([0.5, -0.5, 0.0]))
        model[1].weight.copy_(torch.eye(3))
        model[1].bias.zero_()
    images = torch.randn(40, 3, generator=torch.Generator().manual_seed(2)) + 1
    labels = (images - model[0].running_mean).argmax(-1)
    before = model[0].running_mean.clone()
    came = [as_number(call(function, model, images, labels, size), "accuracy") for size in (40, 4)]
    if not torch.equal(before, model[0].running_mean):
        raise NotYet(
            "looking at the model has changed it: its running means are not what they were."
        )
    if not same(came[0], came[1]):
        raise NotYet(
            f"the accuracy is {came[0]:.3f} in batches of 40 and {came[1]:.3f} in batches of 4. The "
            "images are the same."
        )
    if not same(came[0], 1.0):
        raise NotYet(f"this model names every image right, and the accuracy came as {came[0]:.3f}.")
    print("Right: the same accuracy in any batch size, and the model is as it was.")


def logarithm(function: Callable[..., Any]) -> None:
    """Loop 4: the divergence."""
    images, teacher = _linear_world(3, 32, 5)
    student = nn.Linear(6, 5)
    with torch.no_grad():
        first = _divergence(student(images), teacher, 2.0)
    history = call(function, student, images, teacher, 2.0, 20)
    if not isinstance(history, list) or len(history) != 20:
        raise NotYet("the loop should give a list of 20 losses, one for each step.")
    values = [as_number(value, "A loss in the list") for value in history]
    if min(values) < 0:
        raise NotYet(f"the losses go down to {min(values):.3f}. Can a divergence be negative?")
    if not same(values[0], first, 1e-3):
        raise NotYet(f"the first loss is {values[0]:.3f}, and it should be {first:.3f}.")
    print(f"Right: from {values[0]:.3f} down to {values[-1]:.3f}, and never below zero.")


def _divergence(student: Tensor, teacher: Tensor, t: float) -> float:
    log_p, log_q = (teacher / t).log_softmax(-1), (student / t).log_softmax(-1)
    return t**2 * (log_p.exp() * (log_p - log_q)).sum(-1).mean().item()


def temperature(function: Callable[..., Any]) -> None:
    """Loop 5: student and teacher at one temperature."""
    images, teacher = _linear_world(4, 48, 3)
    student = nn.Linear(6, 3)
    call(function, student, images, teacher, 3.0, 300)
    with torch.no_grad():
        mine = student(images).softmax(-1).amax(-1).mean().item()
    theirs = teacher.softmax(-1).amax(-1).mean().item()
    if abs(mine - theirs) > 0.05:
        raise NotYet(
            f"at T = 1 the teacher is {100 * theirs:.0f} % sure of its answers on average, and its "
            f"student, after long training, {100 * mine:.0f} %. It has learned to speak in another "
            "voice than the teacher's."
        )
    print(
        f"Right: the teacher is {100 * theirs:.0f} % sure on average, its student {100 * mine:.0f} %."
    )


def choice(function: Callable[..., Any]) -> None:
    """Loop 6: choosing a temperature."""
    val = {1.0: 0.70, 4.0: 0.80, 10.0: 0.75}
    test = {1.0: 0.71, 4.0: 0.76, 10.0: 0.79}
    looks = []

    def score(model: float, split: str) -> float:
        looks.append(split)
        return {"val": val, "test": test}[split][model]

    result = call(function, lambda t: t, score, list(val))
    if not isinstance(result, tuple) or len(result) != 2:
        raise NotYet("two things should come back: the temperature and the accuracy to report.")
    if looks.count("test") > 1:
        raise NotYet(
            f"the test images were looked at {looks.count('test')} times. What is the number in "
            "your report worth after that?"
        )
    if result != (4.0, 0.76):
        raise NotYet(f"T = 4 with test accuracy 0.76 should come back, and {result} came.")
    print("Right: chosen without the test images, which were looked at once, at the end.")
