"""What the visible checks say, and the classroom that task 6 trains in."""

from __future__ import annotations

import sys

import pytest
import torch
import torch.nn.functional as F
from checks import calling, classroom, distil
from checks.calling import NotYet

from kdutils import losses


def soft(z: torch.Tensor, v: torch.Tensor, t: float, reduction: str = "batchmean") -> torch.Tensor:
    return F.kl_div((z / t).log_softmax(-1), (v / t).softmax(-1), reduction=reduction)


SOFT_LOSSES = {
    "the factor T² is missing": lambda z, v, t: soft(z, v, t),
    "T², not T": lambda z, v, t: t * soft(z, v, t),
    "10 times too small: did you average over classes": lambda z, v, t: (
        t**2 * soft(z, v, t, "mean")
    ),
    "did you sum over the batch": lambda z, v, t: t**2 * soft(z, v, t, "sum"),
    "swapped: the teacher's": lambda z, v, t: t**2 * soft(v, z, t),
    "sign is the wrong way": lambda z, v, t: -(t**2) * soft(z, v, t),
    "Only the teacher is softened": lambda z, v, t: t**2 * soft(t * z, v, t),
    "shape \\(4, 10\\)": lambda z, v, t: soft(z, v, t, "none"),
    "Is the `return` missing": lambda z, v, t: None,
    "No usual mistake": lambda z, v, t: torch.tensor(1.0),
    "logarithm meet a zero": lambda z, v, t: torch.tensor(float("nan")),
}
SOFTENS = {
    "softmax at T = 1": lambda z, t: z.softmax(-1),
    "multiplied by T": lambda z, t: (z * t).softmax(-1),
    "Your columns sum to one": lambda z, t: (z / t).softmax(0),
    "log_softmax where softmax": lambda z, t: (z / t).log_softmax(-1),
    "divided the probabilities": lambda z, t: z.softmax(-1) / t,
    "should have shape": lambda z, t: (z / t).softmax(-1)[0],
}
MIXED = {
    "wrong way round": lambda s, h, warm, w, t: w * h + (1 - w) * s,
    "softened the student for them too": lambda s, h, warm, w, t: w * s + (1 - w) * warm,
    "has no weights": lambda s, h, warm, w, t: s + h,
    "T² is there twice": lambda s, h, warm, w, t: w * t**2 * s + (1 - w) * h,
}


@pytest.mark.parametrize("hint", SOFT_LOSSES)
def test_hints_for_the_soft_target_loss(hint: str) -> None:
    with pytest.raises(NotYet, match=hint):
        distil.soft_target_loss(SOFT_LOSSES[hint])


@pytest.mark.parametrize("hint", SOFTENS)
def test_hints_for_the_softmax(hint: str) -> None:
    with pytest.raises(NotYet, match=hint):
        distil.soften(SOFTENS[hint])


@pytest.mark.parametrize("hint", MIXED)
def test_hints_for_the_mixed_loss(hint: str) -> None:
    def wrong(z: torch.Tensor, v: torch.Tensor, y: torch.Tensor, t: float, w: float) -> float:
        hard, warm = F.cross_entropy(z, y), F.cross_entropy(z / t, y)
        return MIXED[hint](t**2 * soft(z, v, t), hard, warm, w, t).item()

    with pytest.raises(NotYet, match=hint):
        distil.mixed_loss(wrong)


def test_a_mistake_in_an_earlier_task_does_not_hide_the_one_in_this(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    main = sys.modules["__main__"]
    monkeypatch.setattr(main, "soft_target_loss", lambda z, v, t: soft(z, v, t), raising=False)

    def right(z: torch.Tensor, v: torch.Tensor, y: torch.Tensor, t: float, w: float) -> object:
        return w * main.soft_target_loss(z, v, t) + (1 - w) * F.cross_entropy(z, y)

    def wrong(z: torch.Tensor, v: torch.Tensor, y: torch.Tensor, t: float, w: float) -> object:
        return w * main.soft_target_loss(z, v, t) + F.cross_entropy(z, y)

    distil.mixed_loss(right)
    with pytest.raises(NotYet, match="label term is not weighted"):
        distil.mixed_loss(wrong)


def test_a_function_that_ends_the_program_or_never_ends_is_told_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def ends(*args: object) -> None:
        raise SystemExit

    def unwritten(*args: object) -> None:
        raise NotImplementedError

    def endless(*args: object) -> None:
        while True:
            pass

    with pytest.raises(NotYet, match="ends the whole program"):
        calling.call(ends)
    with pytest.raises(NotYet, match="not written yet"):
        calling.call(unwritten)
    for _ in range(2):  # the second time without waiting
        with pytest.raises(NotYet, match="had not come back"):
            calling.call(endless, seconds=0.2)


def test_the_book_is_closed_only_while_a_student_is_tested() -> None:
    z = torch.randn(3, 4)
    keep = losses.softened
    with pytest.raises(AssertionError, match="Write it yourself"):
        calling.call(lambda: keep(z, 2.0))
    assert losses.softened(z, 2.0).shape == z.shape
    assert torch.equal(calling.LENT_SOFTEN(z, 2.0), losses.softened(z, 2.0))


# --- the classroom --------------------------------------------------------------------------------


def test_a_classroom_is_repeatable_and_its_labels_are_careless() -> None:
    one, same, other = (classroom.classroom(seed, 200, 20) for seed in (5, 5, 6))
    assert torch.equal(one.images, same.images) and torch.equal(one.labels, same.labels)
    assert not torch.equal(one.images, other.images)
    wrong = (one.labels != one.teacher_logits.argmax(-1)).double().mean().item()
    assert 0.15 < wrong < 0.4
    assert (one.teacher_logits.exp().sum(-1) - 1).abs().max() < 0.01


def test_the_budget_counts_only_training() -> None:
    model, images = classroom.network(), torch.zeros(10, 3, 32, 32)
    with classroom.budget(model, 25):
        model.eval()(images.repeat(5, 1, 1, 1))
        model.train()(images)
        model(images)
        with pytest.raises(classroom.BudgetSpent, match="may see 25 images"):
            model(images)
    model(images)
