"""The loop, run on copies of the networks and watched from outside."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..losses import Loss
from ..metrics import paired_interval
from ..runtime.modes import answer, as_input, device_of, eval_mode, restored_modes
from ..soft_targets import ShuffledTargets, SoftTargets
from ..train import Recipe, TeacherLogits, evaluate, fit
from .report import FAIL, OF_LOOP, PASS, SKIP, Verdict, judged, skipped

if TYPE_CHECKING:
    from ..data import ImageData

Loop = Callable[[nn.Module, nn.Module, "ImageData", Loss], object]
MOST_STEPS = 64  # kept; more tell nothing new
MOST_BYTES = 4 << 20  # of images kept for a step: of 32 x 32 pixels all, of 224 x 224 some
# Differences below this share of the logits' own size are rounding: bfloat16 has eight bits.
ROUNDING = 0.01


@dataclass
class _Step:
    """What one call of the loss was handed, and what the student had been shown."""

    images: Tensor | None  # as the student got them, (n, C, H, W)
    teacher_logits: Tensor | None
    labels: Tensor
    student_training: bool


@dataclass
class _Watch:
    """What was seen while the loop ran."""

    steps: list[_Step] = field(default_factory=list)
    teacher_training: list[bool] = field(default_factory=list)
    shown: Tensor | None = None
    training: bool = True

    def __deepcopy__(self, memo: dict[int, Any]) -> _Watch:
        return self  # a copy of a watched network, as `SoftTargets` makes one, is watched as well

    def student_called(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        given = [each for each in (*args, *kwargs.values()) if isinstance(each, Tensor)]
        if torch.is_grad_enabled() and given:  # a step of learning, not a validation
            self.shown, self.training = given[0].detach(), module.training

    def teacher_called(self, module: nn.Module, args: Any) -> None:
        self.teacher_training.append(any(part.training for part in module.modules()))

    def loss_called(self, _: object, args: tuple[Any, ...]) -> None:
        teacher_logits, labels = args[1], args[2]
        images, logits = self.shown, None
        if images is not None and isinstance(teacher_logits, Tensor):
            every = slice(None, None, -(-images.nbytes // MOST_BYTES) or 1)
            images = images[every].clone()
            logits, labels = teacher_logits.detach()[every].clone(), labels[every].clone()
        # The first steps, then the newest: the second epoch must be among them.
        if len(self.steps) >= MOST_STEPS:
            del self.steps[MOST_STEPS // 2]
        self.steps.append(_Step(images, logits, labels, self.training))


@contextmanager
def _watching(student: nn.Module, teacher: nn.Module, loss: Loss) -> Iterator[tuple[_Watch, Loss]]:
    """Hooks on the copies, and a loss for the loop that notes what it is handed."""
    watch = _Watch()
    hooks = [
        student.register_forward_pre_hook(watch.student_called, with_kwargs=True),
        teacher.register_forward_pre_hook(watch.teacher_called),
    ]
    spy: Loss
    if isinstance(loss, nn.Module):  # it may have layers to name and adapters to train
        spy = copy.deepcopy(loss)
        hooks.append(spy.register_forward_pre_hook(watch.loss_called))
    else:

        def spy(student_logits: Tensor, teacher_logits: Tensor | None, labels: Tensor) -> Tensor:
            watch.loss_called(None, (student_logits, teacher_logits, labels))
            return loss(student_logits, teacher_logits, labels)

    try:
        yield watch, spy
    finally:
        for hook in hooks:
            hook.remove()


def default_loop(targets: TeacherLogits | None) -> Loop:
    """Two short epochs of `fit`, taught by `targets` or by the teacher's own answers; a loss that
    compares features gets the teacher itself."""

    def loop(student: nn.Module, teacher: nn.Module, data: ImageData, loss: Loss) -> None:
        live = teacher if hasattr(loss, "student_layers") else None
        source = targets or (SoftTargets(teacher, data.train) if live is None else None)
        recipe = Recipe(epochs=2, batch_size=min(64, len(data.train)), learning_rate=0.01)
        fit(student, data, recipe, loss=loss, soft_targets=source, teacher=live, progress=False)

    return loop


def check_loop(
    loop: Loop, student: nn.Module, teacher: nn.Module, data: ImageData, loss: Loss
) -> list[Verdict]:
    """Run `loop` on copies of the networks and watch: from `learner` to `views` in `QUESTIONS`.

    The student starts in train mode, the teacher in the mode that it comes in. Whatever the loop
    does, and also when it raises, the networks that were handed in keep weights and modes.
    """
    if not any(p.requires_grad for p in student.parameters()):
        frozen = Verdict(
            "learner", FAIL, "none of the student's weights can be trained",
            "requires_grad of the student's parameters: unfreeze what should learn",
        )  # fmt: skip
        return [frozen, *skipped(OF_LOOP[1:], "cannot be told before `learner` passes")]
    original, (student, teacher) = teacher, copy.deepcopy((student, teacher))
    student.train()
    before = _weights(student), _weights(teacher)
    with _watching(student, teacher, loss) as (watch, spy):
        loop(student, teacher, data, spy)
    if not watch.steps:
        return skipped(OF_LOOP, "the loop never called the loss that it was handed")
    learner = _learner(_changed(before[0], student), _changed(before[1], teacher))
    if learner.status == FAIL:
        first, _, *rest = skipped(OF_LOOP[1:], "cannot be told before `learner` passes")
        return [learner, first, _student_mode(watch), *rest]
    teacher_mode = _teacher_mode(watch)
    answers = _answers(watch, original, steady=teacher_mode.status != FAIL)
    return [learner, teacher_mode, _student_mode(watch), *answers]


def _weights(model: nn.Module) -> list[Tensor]:
    """What an optimiser may change; running statistics are the matter of `teacher_mode`."""
    return [p.detach().clone() for p in model.parameters()]


def _changed(before: list[Tensor], model: nn.Module) -> bool:
    after = _weights(model)
    return any(not torch.equal(a, b.to(a.device)) for a, b in zip(before, after, strict=True))


def _learner(student: bool, teacher: bool) -> Verdict:
    """Whose weights changed?"""
    hint = "which parameters the optimiser was given, and whether the networks are mixed up"
    if student and not teacher:
        return Verdict("learner", PASS, "the student's weights change, the teacher's do not")
    if student:
        words = "the teacher's weights change too"
    elif teacher:
        words = "the teacher's weights change and the student's do not: they are swapped"
    else:
        words = "the student's weights do not change"
    return Verdict("learner", FAIL, words, hint)


def _teacher_mode(watch: _Watch) -> Verdict:
    n, wrong = len(watch.teacher_training), sum(watch.teacher_training)
    if not n:
        return Verdict("teacher_mode", SKIP, "the teacher was not asked: its answers were kept")
    return judged(
        "teacher_mode", not wrong, f"in eval mode, all {n} times",
        f"it answered {wrong} of {n} times in train mode: what it says of an image depends on "
        "the batch, and its running statistics move",
        "teacher.eval() before the loop",
    )  # fmt: skip


def _student_mode(watch: _Watch) -> Verdict:
    n, wrong = len(watch.steps), sum(not step.student_training for step in watch.steps)
    if all(step.images is None for step in watch.steps):
        return Verdict("student_mode", SKIP, "the student was never asked with gradients")
    return judged(
        "student_mode", not wrong, f"in train mode at all {n} steps looked at",
        f"{wrong} of {n} steps were made in eval mode: batch norm no longer follows the batch, "
        "dropout is off",
        "student.train() at the start of every epoch, after validation",
    )  # fmt: skip


def _answers(watch: _Watch, teacher: nn.Module, steady: bool) -> list[Verdict]:
    """Compare what the loss was handed with what the teacher says about the images shown."""
    checks = OF_LOOP[3:]  # alignment, views
    steps = [s for s in watch.steps if s.images is not None and s.teacher_logits is not None]
    if not steps:
        return skipped(checks, "no teacher's logits")
    labels = torch.cat([s.labels.cpu() for s in steps])
    handed = torch.cat([s.teacher_logits.float().cpu() for s in steps])
    live = torch.cat([_ask(teacher, s.images) for s in steps])
    if handed.shape != live.shape:
        words = (
            f"{tuple(handed.shape[1:])} numbers an image, {tuple(live.shape[1:])} of the teacher"
        )
        return _misaligned(words, "what the loss is handed as its second argument")
    own, size = _own(live).norm(), _unmasked(live).norm()
    if own <= ROUNDING * size:
        words = "the teacher says the same of every image, there is nothing to compare: train it"
        return skipped(checks, words)
    right = [100 * float((x.argmax(-1) == labels).float().mean()) for x in (handed, live)]
    numbers = (
        f"the answers handed over name the label of {right[0]:.0f} % of the images, the teacher "
        f"itself {right[1]:.0f} %"
    )
    if _correlation(handed, live) < 0.5:
        return _misaligned(
            f"{numbers}: they belong to other images",
            "a cache read back in another order; keep it by image number, never by batch number",
        )
    aligned = Verdict("alignment", PASS, numbers)
    if not steady:
        return [aligned, *skipped(checks[1:], "cannot be told before `teacher_mode` passes")]
    error = (_own(handed) - _own(live)).norm()
    # Half precision and autocast stay below a hundredth of the logits, and of their differences.
    return [aligned, judged(
        "views", bool(error <= max(ROUNDING * size, 0.03 * own)), "for these very pixels",
        "the answers are for these images, but not for these pixels: they differ by "
        f"{100 * error / own:.0f} % of their spread",
        "ask the teacher about the augmented images, or keep its answer for every view",
    )]  # fmt: skip


def _misaligned(words: str, hint: str) -> list[Verdict]:
    rest = skipped(("views",), "cannot be told before `alignment` passes")
    return [Verdict("alignment", FAIL, words, hint), *rest]


def _ask(teacher: nn.Module, images: Tensor) -> Tensor:
    """float32 (N, C): what the teacher, untouched and in eval mode, says about `images`."""
    with eval_mode(teacher), torch.inference_mode():
        return answer(teacher, as_input(teacher, images.to(device_of(teacher)))).cpu().clone()


def _unmasked(logits: Tensor) -> Tensor:
    """float64: masked classes (-inf, -1e9) say nothing of an image."""
    return logits.double().where(logits.abs() < 1e4, 0.0)


def _own(logits: Tensor) -> Tensor:
    """float64: logits without their row means and without what all images share."""
    logits = _unmasked(logits)
    logits = logits - logits.mean(1, keepdim=True)
    return (logits - logits.mean(0)).flatten()


def _correlation(a: Tensor, b: Tensor) -> float:
    """How alike two sets of logits are in what they say of single images; 1: the same."""
    norm = _own(a).norm() * _own(b).norm()
    return float(_own(a) @ _own(b) / norm) if norm > 0 else 0.0


def shuffled_control(
    student: nn.Module,
    teacher: nn.Module,
    data: ImageData,
    loss: Loss,
    targets: TeacherLogits | None = None,
    recipe: Recipe | None = None,
    seeds: Sequence[int] = (0, 1, 2),
) -> Verdict:
    """Train short students with the teacher's answers as they are, and shuffled between images.

    If that makes no difference, nothing of what the teacher knows about an image arrives. It costs
    two short trainings for each seed.

    Args:
        recipe: how; default four epochs.
        seeds: paired; the honest teacher must win on the mean, and beyond its interval.
    """
    recipe = recipe or Recipe(epochs=4, batch_size=min(64, len(data.train)), learning_rate=0.05)

    def accuracy(seed: int, answers: TeacherLogits) -> float:
        model = copy.deepcopy(student)
        fit(model, data, recipe, loss=loss, soft_targets=answers, seed=seed, progress=False)
        return 100 * evaluate(model, data.val).accuracy

    with restored_modes(teacher):
        honest = SoftTargets(teacher, data.train) if targets is None else targets
        shuffled = ShuffledTargets(honest, data.train.labels, within_class=False)
        difference = paired_interval(
            [accuracy(seed, honest) for seed in seeds], [accuracy(seed, shuffled) for seed in seeds]
        )
    words = f"honest minus shuffled, in points: {difference}"
    hint = "the weight of the soft term, and whether its answers belong to the images"
    return judged("control", difference.verdict == "higher", words, words, hint)
