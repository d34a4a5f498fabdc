"""The loop, watched: each planted bug makes the right check fail, and no other."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from learned import setting
from small import TinyNet
from torch import Tensor, nn

from kdutils import diagnose, train, views
from kdutils.course.pitfalls import ByBatchNumber, CleanTargets, SwitchedLoss
from kdutils.data import MEAN, STD, ImageData
from kdutils.diagnose import FAIL, PASS, SKIP
from kdutils.diagnose.loop import Loop
from kdutils.diagnose.report import OF_LOOP
from kdutils.losses import Loss
from kdutils.soft_targets import SoftTargets
from kdutils.train import Recipe, fit
from kdutils.views import apply_view

RIGHT = SwitchedLoss()


def normalise(images: Tensor) -> Tensor:
    return views.normalise(images, MEAN, STD)


def failed(verdicts: list[diagnose.Verdict]) -> list[str]:
    return diagnose.Report(tuple(verdicts)).failed


def watched(loop: Loop, teacher: nn.Module | None = None) -> list[diagnose.Verdict]:
    data, known = setting()
    part = replace(data, train=data.train.subset(200))
    return diagnose.check_loop(loop, TinyNet(2), teacher or known, part, RIGHT)


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
    diagnose.check_loop(bug(teacher_train=True), student, teacher, data, RIGHT)
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


def test_an_exception_in_the_loop_leaves_no_trace() -> None:
    def loop(student: nn.Module, teacher: nn.Module, data: ImageData, loss: Loss) -> None:
        teacher.train()
        for images, labels in batches(data, 0):
            loss(student(normalise(images)), teacher(normalise(images)), labels).backward()
            torch.optim.SGD([*student.parameters(), *teacher.parameters()], lr=0.1).step()
            raise ZeroDivisionError("half-way")

    data, teacher = setting()
    teacher, student = copy.deepcopy(teacher).requires_grad_(), TinyNet(2)
    teacher.zero_grad()
    student[3].eval()  # a frozen batch norm
    before = copy.deepcopy((student, teacher))
    with pytest.raises(ZeroDivisionError, match="half-way"):
        diagnose.check_loop(loop, student, teacher, data, RIGHT)
    for model, kept in zip((student, teacher), before, strict=True):
        assert all(torch.equal(v, kept.state_dict()[k]) for k, v in model.state_dict().items())
        assert [m.training for m in model.modules()] == [m.training for m in kept.modules()]
        assert all(parameter.grad is None for parameter in model.parameters())
        assert not model._forward_pre_hooks


def test_a_student_without_anything_to_train_is_told_without_a_training() -> None:
    student = TinyNet(2).requires_grad_(False)
    verdicts = diagnose.check_loop(None, student, setting()[1], setting()[0], RIGHT)
    assert [each.check for each in verdicts] == list(OF_LOOP)
    assert failed(verdicts) == ["learner"] and "can be trained" in verdicts[0].finding


@pytest.mark.parametrize("wrap", [lambda targets: targets, ByBatchNumber])
def test_an_untrained_teacher_has_nothing_to_compare(
    wrap: Callable[[SoftTargets], train.TeacherLogits],
) -> None:
    """All its answers are alike, so that rounding is all they differ by: no false alarm."""
    teacher = TinyNet(7).eval()
    teacher[-1].weight.data.mul_(1e-4)
    verdicts = watched(with_targets(wrap), teacher)
    assert failed(verdicts) == []
    assert [each.status for each in verdicts[-2:]] == [SKIP, SKIP]
    assert "train it" in verdicts[-1].finding


class Masked(nn.Module):
    """A network that rules two classes out."""

    def __init__(self, known: nn.Module, mask: float) -> None:
        super().__init__()
        self.known, self.mask = known, mask

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat(
            [self.known(images)[:, :8], images.new_full((len(images), 2), self.mask)], 1
        )


@pytest.mark.parametrize("mask", [-1e9, -float("inf")])
def test_masked_classes_change_no_verdict(mask: float) -> None:
    data, known = setting()
    part = replace(data, train=data.train.subset(200))

    def soft(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        return F.mse_loss(student[:, :8], teacher[:, :8])

    def look(loop: Loop) -> list[str]:
        return failed(diagnose.check_loop(loop, TinyNet(2), Masked(known, mask), part, soft))

    assert look(plain) == []
    assert look(bug(clean=True)) == ["alignment"]


class Keyword(nn.Module):
    """A network of other people: its input has a name, and it calls nothing `images`."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.net(pixel_values)


def test_networks_called_by_keyword_and_a_loss_that_is_a_module() -> None:
    class ModuleLoss(nn.Module):
        def forward(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
            return RIGHT(student, teacher, labels)

    def loop(student: nn.Module, teacher: nn.Module, data: ImageData, loss: Loss) -> None:
        optimizer = torch.optim.SGD(student.parameters(), lr=0.01)
        for images, labels in batches(data, 0):
            with torch.no_grad():
                answers = teacher(pixel_values=normalise(images))
            loss(student(pixel_values=normalise(images)), answers, labels).backward()
            optimizer.step()

    data, known = setting()
    loss = ModuleLoss()
    verdicts = diagnose.check_loop(loop, Keyword(TinyNet(2)), Keyword(known).eval(), data, loss)
    assert all(each.status == PASS for each in verdicts), "\n".join(map(str, verdicts))
    assert not loss._forward_pre_hooks


def test_answers_of_another_shape_and_a_teacher_that_returns_no_tensor() -> None:
    class Pair(Keyword):
        def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
            return self.net(images), images

    def loop(student: nn.Module, teacher: nn.Module, data: ImageData, loss: Loss) -> None:
        for images, labels in batches(data, 0):
            answers = torch.zeros(len(images), 3)
            loss(student(normalise(images)), answers, labels).backward()
        torch.optim.SGD(student.parameters(), lr=0.1).step()

    def labels_only(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(student, labels)

    data, known = setting()
    verdicts = diagnose.check_loop(loop, TinyNet(2), known, data, labels_only)
    assert failed(verdicts) == ["alignment"] and "(3,) numbers" in verdicts[3].finding
    with pytest.raises(ValueError, match="returns a tuple"):
        diagnose.check_loop(loop, TinyNet(2), Pair(known), data, labels_only)


@pytest.mark.parametrize(
    ("wrap", "status"), [(lambda targets: targets, PASS), (ByBatchNumber, FAIL)]
)
def test_the_control_needs_answers_that_fit(
    wrap: Callable[[SoftTargets], train.TeacherLogits], status: str
) -> None:
    data, teacher = setting()
    data = replace(data, train=data.train.subset(128))
    verdict = diagnose.shuffled_control(
        TinyNet(2), teacher, data, RIGHT, wrap(SoftTargets(teacher, data.train)),
        Recipe(epochs=3, batch_size=16, learning_rate=0.05),
    )  # fmt: skip
    assert verdict.status == status, str(verdict)
