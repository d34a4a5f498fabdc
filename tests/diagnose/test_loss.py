"""The loss, probed: each planted bug makes the right check fail, and no other."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch.nn.functional as F
from torch import Tensor, nn

from kdutils import diagnose
from kdutils.course.pitfalls import SwitchedLoss
from kdutils.diagnose import PASS, SKIP
from kdutils.diagnose.report import OF_LOSS
from kdutils.losses import Distillation, LabelLoss, Loss, logit_matching_loss

RIGHT = SwitchedLoss()


def failed(verdicts: list[diagnose.Verdict]) -> list[str]:
    return diagnose.Report(tuple(verdicts)).failed


@pytest.mark.parametrize("temperature", [1.0, 2.5, 4.0, 20.0])
@pytest.mark.parametrize("weight", [0.1, 0.5, 0.9])
def test_a_correct_loss_passes_everything(temperature: float, weight: float) -> None:
    for loss in (Distillation(temperature, weight), SwitchedLoss(temperature, weight)):
        verdicts = diagnose.check_loss(loss, temperature)
        assert [each.check for each in verdicts] == list(OF_LOSS)
        assert all(each.status == PASS for each in verdicts), "\n".join(map(str, verdicts))


def test_other_numbers_of_classes_and_labels_that_are_smoothed() -> None:
    def smoothed(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        hard = F.cross_entropy(student, labels, label_smoothing=0.1)
        return Distillation(4.0, 1.0)(student, teacher, labels) * 0.9 + 0.1 * hard

    assert failed(diagnose.check_loss(smoothed)) == []
    assert failed(diagnose.check_loss(RIGHT, classes=100)) == []
    assert failed(diagnose.check_loss(RIGHT, classes=2)) == []


def one_sided(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    """The teacher is softened, the student is not."""
    soft = F.kl_div(
        F.log_softmax(student, -1), F.softmax(teacher / 4, -1), reduction="batchmean"
    )  # fmt: skip
    return 0.9 * 16 * soft + 0.1 * F.cross_entropy(student, labels)


def summed(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    soft = F.kl_div(
        F.log_softmax(student / 4, -1), F.softmax(teacher / 4, -1), reduction="sum"
    )  # fmt: skip
    return 0.9 * 16 * soft + 0.1 * F.cross_entropy(student, labels)


def half_weight(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    return 0.5 * Distillation(4, 1.0)(student, teacher, labels) + 0.1 * F.cross_entropy(
        student, labels
    )


BAD_LOSSES: dict[str, tuple[Loss, list[str]]] = {
    "mean reduction": (SwitchedLoss(reduction="mean"), ["reduction"]),
    "no T2": (SwitchedLoss(squared=False), ["scale"]),
    "both": (SwitchedLoss(reduction="mean", squared=False), ["reduction", "scale"]),
    "swapped": (SwitchedLoss(swapped=True), ["direction"]),
    "softmax twice": (SwitchedLoss(double_softmax=True), ["softmax"]),
    "another temperature": (SwitchedLoss(temperature=2.0), ["temperature"]),
    "no temperature": (SwitchedLoss(temperature=1.0), ["temperature"]),
    "one side": (one_sided, ["zero"]),
    "summed": (summed, ["reduction"]),
    "another weight": (half_weight, ["scale"]),
    "no teacher": (LabelLoss(), ["scale"]),
}


@pytest.mark.parametrize("bug", BAD_LOSSES)
def test_a_bug_in_the_loss_makes_its_check_fail_and_no_other(bug: str) -> None:
    loss, expected = BAD_LOSSES[bug]
    verdicts = diagnose.check_loss(loss)
    assert failed(verdicts) == expected, "\n".join(map(str, verdicts))


def test_findings_say_what_is_wrong() -> None:
    def finding(bug: str) -> str:
        loss, (check, *_) = BAD_LOSSES[bug]
        return diagnose.Report(tuple(diagnose.check_loss(loss)))[check].finding

    assert "10 times too weak" in finding("mean reduction")
    assert "16 times too weak" in finding("no T2")
    assert "swapped" in finding("swapped")
    assert "T = 2, not 4" in finding("another temperature")
    assert "teacher's side only" in finding("one side")
    assert "does not depend on the teacher" in finding("no teacher")


def test_every_switch_of_the_loss_is_seen() -> None:
    """A new switch needs a check, or at least a thought."""
    switches = {"reduction": "mean", "squared": False, "swapped": True, "double_softmax": True}
    for name, value in switches.items():
        assert failed(diagnose.check_loss(replace(RIGHT, **{name: value}))), name


def test_a_loss_that_is_no_kl_is_not_judged_as_one() -> None:
    def matching(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        return logit_matching_loss(student, teacher) + 0.1 * F.cross_entropy(student, labels)

    verdicts = diagnose.check_loss(matching)
    assert [each.status for each in verdicts] == [PASS] + [SKIP] * 5


def test_a_loss_that_knows_its_number_of_classes() -> None:
    def ten(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        if student.shape[1] != 10:
            raise ValueError("ten classes only")
        return RIGHT(student, teacher, labels)

    assert failed(diagnose.check_loss(ten)) == []


def test_the_soft_weight_may_be_named() -> None:
    assert failed(diagnose.check_loss(RIGHT, soft_weight=0.9)) == []
    assert failed(diagnose.check_loss(RIGHT, soft_weight=0.5)) == ["scale"]
    only_soft = Distillation(4.0, 1.0)
    assert failed(diagnose.check_loss(only_soft)) == []


def test_what_cannot_be_probed_is_refused_or_skipped_in_words() -> None:
    def each_image(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(student, labels, reduction="none")

    class Features(nn.Module):
        student_layers = ("net.2",)

    with pytest.raises(ValueError, match=r"returned \(16,\), not one number"):
        diagnose.check_loss(each_image)
    with pytest.raises(ValueError, match="two classes"):
        diagnose.check_loss(RIGHT, classes=1)
    with pytest.raises(ValueError, match="Temperature"):
        diagnose.check_loss(RIGHT, temperature=0.0)
    assert {each.status for each in diagnose.check_loss(Features())} == {SKIP}
    nan = diagnose.check_loss(lambda s, t, y: (s * t).sum() * float("nan"))
    assert failed(nan) == ["scale"] and "NaN" in nan[-1].finding
