"""The checks: each planted bug makes the right one fail, and no other."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from small import TinyNet, tiny_data
from torch import Tensor, nn

from kdutils import losses, train, views
from kdutils.course.pitfalls import ByBatchNumber, CleanTargets, SwitchedLoss
from kdutils.data import ImageData
from kdutils.diagnose import checks
from kdutils.diagnose.checks import FAIL, PASS, QUESTIONS, SKIP
from kdutils.losses import Distillation, LabelLoss, Loss, logit_matching_loss
from kdutils.soft_targets import SoftTargets
from kdutils.train import Recipe, fit
from kdutils.views import apply_view, normalise

RIGHT = SwitchedLoss()
OF_LOSS = ("zero", "direction", "softmax", "temperature", "reduction", "scale")
OF_LOOP = ("learner", "teacher_mode", "student_mode", "alignment", "views")


def failed(verdicts: list[checks.Verdict]) -> list[str]:
    return checks.Report(tuple(verdicts)).failed


# --- the loss ---------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 2.5, 4.0, 20.0])
@pytest.mark.parametrize("weight", [0.1, 0.5, 0.9])
def test_a_correct_loss_passes_everything(temperature: float, weight: float) -> None:
    for loss in (Distillation(temperature, weight), SwitchedLoss(temperature, weight)):
        verdicts = checks.check_loss(loss, temperature)
        assert [each.check for each in verdicts] == list(OF_LOSS)
        assert all(each.status == PASS for each in verdicts), "\n".join(map(str, verdicts))


def test_other_numbers_of_classes_and_labels_that_are_smoothed() -> None:
    def smoothed(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        hard = F.cross_entropy(student, labels, label_smoothing=0.1)
        return Distillation(4.0, 1.0)(student, teacher, labels) * 0.9 + 0.1 * hard

    assert failed(checks.check_loss(smoothed)) == []
    assert failed(checks.check_loss(RIGHT, classes=100)) == []
    assert failed(checks.check_loss(RIGHT, classes=2)) == []


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
    verdicts = checks.check_loss(loss)
    assert failed(verdicts) == expected, "\n".join(map(str, verdicts))


def test_findings_say_what_is_wrong() -> None:
    def finding(bug: str) -> str:
        loss, (check, *_) = BAD_LOSSES[bug]
        return checks.Report(tuple(checks.check_loss(loss)))[check].finding

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
        assert failed(checks.check_loss(replace(RIGHT, **{name: value}))), name


def test_a_loss_that_is_no_kl_is_not_judged_as_one() -> None:
    def matching(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        return logit_matching_loss(student, teacher) + 0.1 * F.cross_entropy(student, labels)

    verdicts = checks.check_loss(matching)
    assert [each.status for each in verdicts] == [PASS] + [SKIP] * 5


def test_a_loss_that_knows_its_number_of_classes() -> None:
    def ten(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        if student.shape[1] != 10:
            raise ValueError("ten classes only")
        return RIGHT(student, teacher, labels)

    assert failed(checks.check_loss(ten)) == []


def test_the_soft_weight_may_be_named() -> None:
    assert failed(checks.check_loss(RIGHT, soft_weight=0.9)) == []
    assert failed(checks.check_loss(RIGHT, soft_weight=0.5)) == ["scale"]
    only_soft = Distillation(4.0, 1.0)
    assert failed(checks.check_loss(only_soft)) == []


# --- the loop ---------------------------------------------------------------------------------

Loop = Callable[[nn.Module, nn.Module, ImageData, Loss], object]


class Sharp(nn.Module):
    """A network that also looks where things are, so that a shift changes what it says."""

    def __init__(self, known: nn.Module) -> None:
        super().__init__()
        self.known = known
        self.place = nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(768, 10))
        generator = torch.Generator().manual_seed(5)
        self.place[2].weight.data.normal_(0, 0.1, generator=generator)

    def forward(self, images: Tensor) -> Tensor:
        return self.known(images) + self.place(images)


@cache
def setting() -> tuple[ImageData, nn.Module]:
    """Data and a teacher that has learned it: its answers differ from image to image."""
    data, teacher = tiny_data(600), TinyNet(1)
    fit(teacher, data, Recipe(epochs=6, batch_size=32, learning_rate=0.1), progress=False)
    return data, Sharp(teacher).eval()


def watched(loop: Loop, teacher: nn.Module | None = None) -> list[checks.Verdict]:
    data, known = setting()
    part = replace(data, train=data.train.subset(200))
    return checks.check_loop(loop, TinyNet(2), teacher or known, part, RIGHT)


def with_targets(wrap: Callable[[SoftTargets], train.TeacherLogits]) -> Loop:
    def loop(student: nn.Module, teacher: nn.Module, data: ImageData, loss: Loss) -> None:
        targets = wrap(SoftTargets(teacher, data.train))
        recipe = Recipe(epochs=2, batch_size=32, learning_rate=0.01)
        fit(student, data, recipe, loss=loss, soft_targets=targets, progress=False)

    return loop


def batches(data: ImageData, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """(uint8 images as an epoch shows them, labels), shuffled."""
    images = apply_view(data.train.images, 3 + epoch)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(epoch))
    for index in order.split(32):
        yield images[index], data.train.labels[index]


def plain(
    student: nn.Module,
    teacher: nn.Module,
    data: ImageData,
    loss: Loss,
    *,
    teacher_train: bool = False,
    eval_after_first: bool = False,
    all_parameters: bool = False,
    clean: bool = False,
    swapped: bool = False,
) -> None:
    """A loop as a learner may write it, with a live teacher; each switch is a bug."""
    if swapped:
        student, teacher = teacher, student
    teacher.train(teacher_train)
    parameters = [*student.parameters(), *(teacher.parameters() if all_parameters else ())]
    optimizer = torch.optim.SGD(parameters, lr=0.01, weight_decay=1e-3)
    for epoch in range(2):
        if not (eval_after_first and epoch):
            student.train()
        for images, labels in batches(data, epoch):
            asked = data.train.images[: len(images)] if clean else images
            with torch.set_grad_enabled(all_parameters):
                answers = teacher(normalise(asked))
            value = loss(student(normalise(images)), answers, labels)
            if all_parameters:  # some losses forget to detach
                value = value + 0.1 * F.cross_entropy(answers, labels)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
        student.eval()
        with torch.no_grad():
            student(normalise(data.val.images))


def bug(**switch: bool) -> Loop:
    return lambda student, teacher, data, loss: plain(student, teacher, data, loss, **switch)


@pytest.mark.parametrize("loop", [plain, with_targets(lambda targets: targets)], ids=["own", "fit"])
def test_a_correct_loop_passes_everything(loop: Loop) -> None:
    verdicts = watched(loop)
    assert [each.check for each in verdicts] == list(OF_LOOP)
    assert all(each.status == PASS for each in verdicts), "\n".join(map(str, verdicts))


BAD_LOOPS: dict[str, tuple[Loop, str]] = {
    "teacher in train mode": (bug(teacher_train=True), "teacher_mode"),
    "student stays in eval mode": (bug(eval_after_first=True), "student_mode"),
    "the teacher learns too": (bug(all_parameters=True), "learner"),
    "networks swapped": (bug(swapped=True), "learner"),
    "answers for other images": (bug(clean=True), "alignment"),
    "read by batch number": (with_targets(ByBatchNumber), "alignment"),
    "kept on unchanged images": (with_targets(CleanTargets), "views"),
}


@pytest.mark.parametrize("name", BAD_LOOPS)
def test_a_bug_in_the_loop_makes_its_check_fail_and_no_other(name: str) -> None:
    loop, expected = BAD_LOOPS[name]
    verdicts = watched(loop)
    assert failed(verdicts) == [expected], "\n".join(map(str, verdicts))


def test_both_networks_stay_as_they_are() -> None:
    data, teacher = setting()
    student = TinyNet(2)
    before = copy.deepcopy(student.state_dict()), copy.deepcopy(teacher.state_dict())
    checks.check_loop(bug(teacher_train=True), student, teacher, data, RIGHT)
    for model, kept in zip((student, teacher), before, strict=True):
        assert all(torch.equal(value, kept[key]) for key, value in model.state_dict().items())
    assert not teacher.training and student.training
    assert not student._forward_pre_hooks and not teacher._forward_pre_hooks


def test_a_teacher_that_comes_in_train_mode_is_seen() -> None:
    def loop(student: nn.Module, teacher: nn.Module, data: ImageData, loss: Loss) -> None:
        for images, labels in batches(data, 0):
            with torch.no_grad():
                answers = teacher(normalise(images))
            loss(student(normalise(images)), answers, labels).backward()
        torch.optim.SGD(student.parameters(), lr=0.1).step()

    teacher = copy.deepcopy(setting()[1]).train()
    assert failed(watched(loop, teacher)) == ["teacher_mode"]
    assert failed(watched(loop)) == []


def test_a_loop_that_never_calls_the_loss() -> None:
    verdicts = watched(lambda student, teacher, data, loss: None)
    assert {each.status for each in verdicts} == {SKIP}


def test_an_optimiser_without_the_student() -> None:
    def loop(student: nn.Module, teacher: nn.Module, data: ImageData, loss: Loss) -> None:
        frozen = copy.deepcopy(student)
        plain(frozen, teacher, data, lambda s, t, y: loss(s, t, y))

    assert failed(watched(loop)) == ["learner"]


# --- together ---------------------------------------------------------------------------------


def test_run_gives_a_verdict_for_every_question_but_the_control() -> None:
    data, teacher = setting()
    report = checks.run(TinyNet(2), teacher, data, RIGHT)
    assert [each.check for each in report.verdicts] == [*OF_LOSS, *OF_LOOP]
    assert report.failed == []
    assert str(report).endswith("Nothing failed.")


def test_run_takes_kept_targets() -> None:
    data, teacher = setting()
    targets = ByBatchNumber(SoftTargets(teacher, data.train))
    report = checks.run(TinyNet(2), teacher, data, RIGHT, targets=targets)
    assert report.failed == ["alignment"]
    assert "✗ alignment" in str(report) and "look at: " in str(report)
    assert report["alignment"].status == FAIL


@pytest.mark.parametrize(
    ("wrap", "status"), [(lambda targets: targets, PASS), (ByBatchNumber, FAIL)]
)
def test_the_control_needs_answers_that_fit(
    wrap: Callable[[SoftTargets], train.TeacherLogits], status: str
) -> None:
    data, teacher = setting()
    data = replace(data, train=data.train.subset(128))
    verdict = checks.shuffled_control(
        TinyNet(2), teacher, data, RIGHT, wrap(SoftTargets(teacher, data.train)),
        Recipe(epochs=3, batch_size=16, learning_rate=0.05),
    )  # fmt: skip
    assert verdict.status == status, str(verdict)


def test_run_adds_the_control_on_request() -> None:
    data, teacher = setting()
    report = checks.run(TinyNet(2), teacher, data, RIGHT, images=64, control=True)
    assert [each.check for each in report.verdicts] == list(QUESTIONS)


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
    report = checks.run(TinyNet(2), teacher, data, functions[number], loops[number], images=200)
    assert report.failed == [PLANTED[number]], str(report)
    solution = re.search(rf"^# {number}\. `(\w+)`", text, flags=re.MULTILINE)
    assert solution and solution[1] == PLANTED[number]
