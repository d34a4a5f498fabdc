"""Checks for a distillation that disappoints: what is wrong, in a minute and without guessing.

    report = checks.run(student, teacher, data, loss, loop)
    print(report)

`loss` is probed with made-up logits: what it does to its gradient tells which divergence it is, at
which temperature, how it averages and how strong it is. `loop` is run on copies of both networks
and watched from outside: who learns, in which mode, and whether the teacher's answers that reach
the loss belong to the images, and the very views, that the student was shown.

Every check ends in one sentence; a planted bug makes one check fail and no other.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..course.experiments import ShuffledTargets
from ..losses import Loss
from ..soft_targets import SoftTargets
from ..train import Recipe, TeacherLogits, evaluate, fit

if TYPE_CHECKING:
    from ..data import ImageData

Loop = Callable[[nn.Module, nn.Module, "ImageData", Loss], object]
PASS, FAIL, SKIP = "pass", "fail", "not applicable"
MARKS = {PASS: "✓", FAIL: "✗", SKIP: "–"}

# The checks in the order of the report: key -> what it asks.
QUESTIONS = {
    "zero": "Is the soft term at rest where student and teacher agree?",
    "direction": "Is it KL(teacher ‖ student)?",
    "softmax": "Is softmax applied once?",
    "temperature": "Is it softened by the temperature you name?",
    "reduction": "Is it summed over classes and averaged over the batch?",
    "scale": "Is it as strong as you say, T² included?",
    "learner": "Does the student learn, and the teacher not?",
    "teacher_mode": "Does the teacher answer in eval mode?",
    "student_mode": "Does the student learn in train mode?",
    "alignment": "Do the teacher's answers belong to these images?",
    "views": "And to the very views that the student is shown?",
    "control": "Is the honest teacher better than one whose answers are exchanged?",
}


@dataclass(frozen=True)
class Verdict:
    """What one check found: `status` is "pass", "fail" or "not applicable"."""

    check: str
    status: str
    finding: str  # one sentence
    look: str = ""  # where to look, when it failed

    def __str__(self) -> str:
        tail = f"\n    look at: {self.look}" if self.status == FAIL else ""
        return f"{MARKS[self.status]} {self.check:<13} {self.finding}{tail}"


@dataclass(frozen=True)
class Report:
    """The verdicts, in the order of `QUESTIONS`."""

    verdicts: tuple[Verdict, ...]

    @property
    def failed(self) -> list[str]:
        """Names of the checks that failed."""
        return [each.check for each in self.verdicts if each.status == FAIL]

    def __getitem__(self, check: str) -> Verdict:
        return next(each for each in self.verdicts if each.check == check)

    def __str__(self) -> str:
        lines = [str(each) for each in self.verdicts]
        n = len(self.failed)
        end = "Nothing failed." if n == 0 else f"{n} failed: {', '.join(self.failed)}."
        return "\n".join([*lines, end])


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
        student, teacher: the networks; both stay as they are, copies are used.
        data: images; only the first `images` for training and validation are used, unless
            `targets` are given, which belong to all of them.
        loss: called as loss(student_logits, teacher_logits, labels).
        loop: called as loop(student, teacher, data, loss); it should train for two short epochs
            with a validation between, and call the `loss` that it is handed. Default: `fit`.
        temperature: what you mean the loss to use.
        soft_weight: the share of the soft term; None: one minus the share of the labels' term.
        targets: kept teacher logits for the default loop; default `SoftTargets(teacher, …)`.
        images: how many images the loop sees; a few batches are enough.
        control: also train two short students, with honest and with exchanged answers.

    Returns:
        A report; print it. `report.failed` names the checks that failed.
    """
    part = data if targets is not None else _few(data, images)
    classes = len(data.classes)
    verdicts = check_loss(loss, temperature, soft_weight, classes)
    verdicts += check_loop(loop or _house_loop(targets), student, teacher, part, loss)
    if control:
        verdicts.append(shuffled_control(student, teacher, part, loss, targets))
    return Report(tuple(verdicts))


def _few(data: ImageData, images: int) -> ImageData:
    return replace(
        data,
        train=data.train.subset(min(images, len(data.train))),
        val=data.val.subset(min(images, len(data.val))),
    )


def _house_loop(targets: TeacherLogits | None) -> Loop:
    def loop(student: nn.Module, teacher: nn.Module, data: ImageData, loss: Loss) -> None:
        source = SoftTargets(teacher, data.train) if targets is None else targets
        recipe = Recipe(epochs=2, batch_size=min(64, len(data.train)), learning_rate=0.01)
        fit(student, data, recipe, loss=loss, soft_targets=source, progress=False)

    return loop


# --- the loss, probed -----------------------------------------------------------------------------
#
# The labels' term does not know the teacher. So the gradient with one teacher minus the gradient
# with another is the soft term's alone, whatever else is in the loss. It is compared with that of
# plain divergences, of which one fits: this names the bug.

Divergence = Callable[[Tensor, Tensor], Tensor]


def _kl(
    student: Tensor, teacher: Tensor, of_student: float, of_teacher: float, reverse: bool = False
) -> Tensor:
    """KL(teacher ‖ student) or its reverse, each side with its temperature; no T² factor."""
    log_student = F.log_softmax(student / of_student, dim=-1)
    log_teacher = F.log_softmax(teacher / of_teacher, dim=-1)
    if reverse:
        log_student, log_teacher = log_teacher, log_student
    return F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)


@dataclass(frozen=True)
class _Form:
    """A soft term that a loss may contain."""

    kind: str  # "forward", "reversed", "double softmax", "one side"
    temperature: float
    divergence: Divergence
    words: str


def _forms(temperature: float) -> list[_Form]:
    found = []
    usual = (1.0, 2.0, 3.0, 4.0, 5.0, 8.0, 10.0, 20.0)
    for t in dict.fromkeys((temperature, *usual, math.sqrt(temperature), temperature**2)):
        found += [
            _Form("forward", t, lambda s, q, t=t: _kl(s, q, t, t), "KL(teacher ‖ student)"),
            _Form("reversed", t, lambda s, q, t=t: _kl(s, q, t, t, True), "KL(student ‖ teacher)"),
            _Form(
                "double softmax", t, lambda s, q, t=t: _kl(s.softmax(-1), q.softmax(-1), t, t),
                "a softmax of a softmax",
            ),
            _Form(
                "one side", t, lambda s, q, t=t: _kl(s, q, t, 1.0), "softened on the student's side only"
            ),
            _Form(
                "one side", t, lambda s, q, t=t: _kl(s, q, 1.0, t), "softened on the teacher's side only"
            ),
            _Form(
                "one side", t, lambda s, q, t=t: _kl(s, q.softmax(-1), t, t),
                "a softmax too many on the teacher's side",
            ),
            _Form(
                "one side", t, lambda s, q, t=t: _kl(s.softmax(-1), q, t, t),
                "a softmax too many on the student's side",
            ),
        ]  # fmt: skip
    return found


@dataclass(frozen=True)
class _Probe:
    """Made-up logits: float64 (N, C) for a student and two teachers, int64 labels (N,)."""

    student: Tensor
    teacher: Tensor
    other: Tensor
    labels: Tensor

    @staticmethod
    def make(n: int, classes: int) -> _Probe:
        generator = torch.Generator().manual_seed(n * 1000 + classes)
        logits = 3 * torch.randn(3, n, classes, generator=generator, dtype=torch.float64)
        labels = torch.randint(classes, (n,), generator=generator)
        return _Probe(*logits, labels)


def _gradient(function: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    """d function / d logits, (N, C); zeros if the function does not depend on them."""
    logits = at.clone().requires_grad_()
    value = function(logits)
    if not value.requires_grad:
        return torch.zeros_like(logits)
    (gradient,) = torch.autograd.grad(value, logits, allow_unused=True)
    return torch.zeros_like(logits) if gradient is None else gradient


def _soft_pull(loss: Loss, probe: _Probe) -> Tensor:
    """The soft term's part: the gradient with one teacher minus the gradient with another."""
    one = _gradient(lambda s: loss(s, probe.teacher, probe.labels), probe.student)
    return one - _gradient(lambda s: loss(s, probe.other, probe.labels), probe.student)


@dataclass(frozen=True)
class _Fit:
    """The form that explains a soft pull best: pull = factor x that form's; residual 0..1."""

    form: _Form
    factor: float
    residual: float


def _explain(pull: Tensor, probe: _Probe, forms: Sequence[_Form]) -> _Fit:
    best: _Fit | None = None
    for form in forms:
        model = _soft_pull(lambda s, q, y, form=form: form.divergence(s, q), probe)
        factor = float((pull * model).sum() / (model * model).sum())
        residual = float((pull - factor * model).norm() / pull.norm())
        if best is None or residual < best.residual - 1e-9:
            best = _Fit(form, factor, residual)
    assert best is not None
    return best


def _labels_part(loss: Loss, probe: _Probe) -> tuple[float, float]:
    """(weight of the labels' term, unexplained share) of the gradient where student = teacher.

    There a soft term is at rest, so what is left should be softmax - label, perhaps smoothed.
    """
    at, n = probe.student, len(probe.student)
    gradient = n * _gradient(lambda s: loss(s, at, probe.labels), at)
    p = at.softmax(-1)
    hard = p - F.one_hot(probe.labels, at.shape[1])
    basis = torch.stack([hard.flatten(), (p - 1 / at.shape[1]).flatten()], dim=1)
    found = torch.linalg.lstsq(basis, gradient.flatten().unsqueeze(1)).solution.squeeze(1)
    left = (gradient.flatten() - basis @ found).norm()
    return float(found.sum()), float(left / n)


def check_loss(
    loss: Loss, temperature: float = 4.0, soft_weight: float | None = None, classes: int = 10
) -> list[Verdict]:
    """Probe a loss with made-up logits: the first six of `QUESTIONS`.

    Args:
        loss: called as loss(student_logits, teacher_logits, labels).
        temperature: what the loss is meant to use.
        soft_weight: what it is meant to use; None: one minus the weight of the labels' term.
        classes: C.
    """
    names = ("zero", "direction", "softmax", "temperature", "reduction", "scale")
    probe = _Probe.make(16, classes)
    pull = _soft_pull(loss, probe)
    if float(pull.norm()) < 1e-12:
        words = "the loss does not depend on the teacher's logits at all"
        skipped = [Verdict(name, SKIP, words) for name in names[:-1]]
        return [*skipped, Verdict("scale", FAIL, words, "where the teacher's logits are used")]
    labels_weight, left = _labels_part(loss, probe)
    left /= float(pull.norm())
    # Only one of two temperatures shows in the pull; being at rest tells whether both agree.
    forms = [f for f in _forms(temperature) if (f.kind == "one side") == (left > 0.01)]
    found = _explain(pull, probe, forms)
    if left > 0.01 or found.residual > 0.01:
        return _not_at_rest(found, left, names)
    verdicts = [
        Verdict("zero", PASS, "where student = teacher, only the labels pull"),
        _direction(found),
        _softmax(found),
        _temperature(found, temperature),
    ]
    reduction, divisor = _reduction(loss, found, classes)
    verdicts.append(reduction)
    weight = 1 - labels_weight if soft_weight is None else soft_weight
    verdicts.append(_scale(found, temperature, weight, labels_weight, divisor))
    return verdicts


def _not_at_rest(found: _Fit, left: float, names: Sequence[str]) -> list[Verdict]:
    """The soft term is not at rest at the teacher, or is none that we know."""
    why = f": {found.form.words}" if found.residual <= 0.01 else ""
    if left > 0.01:
        first = Verdict(
            "zero", FAIL,
            f"it pulls even where student = teacher ({100 * left:.0f} % of its usual pull){why}",
            "both sides need the same temperature and exactly one softmax",
        )  # fmt: skip
        rest = "cannot be told before `zero` passes"
    else:
        first = Verdict("zero", PASS, "where student = teacher, only the labels pull")
        rest = "no KL of softmaxes: these questions do not apply"
    return [first, *(Verdict(name, SKIP, rest) for name in names[1:])]


def _direction(found: _Fit) -> Verdict:
    if found.form.kind == "reversed":
        return Verdict(
            "direction", FAIL, "it is KL(student ‖ teacher): the arguments are swapped",
            "F.kl_div(input, target): input is the student's log softmax, target the teacher's",
        )  # fmt: skip
    return Verdict("direction", PASS, "KL(teacher ‖ student)")


def _softmax(found: _Fit) -> Verdict:
    if found.form.kind == "double softmax":
        return Verdict(
            "softmax", FAIL, "a softmax of a softmax: its input is already probabilities",
            "does a network end in softmax, or is softmax called before the loss?",
        )  # fmt: skip
    return Verdict("softmax", PASS, "logits go in, one softmax on each side")


def _temperature(found: _Fit, temperature: float) -> Verdict:
    used = found.form.temperature
    if math.isclose(used, temperature):
        return Verdict("temperature", PASS, f"T = {used:g} on both sides")
    return Verdict(
        "temperature", FAIL, f"the loss uses T = {used:g}, not {temperature:g}",
        "divide both logits by T before the softmax",
    )  # fmt: skip


def _reduction(loss: Loss, found: _Fit, classes: int) -> tuple[Verdict, float]:
    """How the factor changes with classes and batch size; and what it is divided by too much."""

    def factor(n: int, c: int) -> float:
        probe = _Probe.make(n, c)
        return _explain(_soft_pull(loss, probe), probe, [found.form]).factor

    try:
        by_class = factor(16, classes) / factor(16, 2 * classes)
    except (ValueError, RuntimeError, IndexError):
        by_class = 1.0  # the loss knows its number of classes
    by_batch = factor(16, classes) / factor(32, classes)
    look = 'F.kl_div(..., reduction="batchmean"); its default, "mean", divides by C as well'
    if math.isclose(by_class, 2, rel_tol=0.01):
        words = f"averaged over classes too: with {classes} classes, {classes} times too weak"
        return Verdict("reduction", FAIL, words, look), 1 / classes
    if math.isclose(by_batch, 0.5, rel_tol=0.01):
        words = "summed over the batch: twice the images, twice the pull"
        return Verdict("reduction", FAIL, words, look), 16.0
    return Verdict("reduction", PASS, "summed over classes, averaged over the batch"), 1.0


def _scale(
    found: _Fit, temperature: float, weight: float, labels_weight: float, divisor: float
) -> Verdict:
    """Is the factor weight x T², once the reduction is accounted for?"""
    if not math.isclose(found.form.temperature, temperature):
        return Verdict("scale", SKIP, "cannot be told before `temperature` passes")
    measured = found.factor / divisor
    words = (
        f"the soft term weighs {measured / temperature**2:.3g} x T², "
        f"the labels' term {labels_weight:.3g}"
    )
    if weight <= 0.001:
        return Verdict("scale", SKIP, f"{words}; name soft_weight to have it judged")
    ratio = measured / (weight * temperature**2)
    if math.isclose(ratio, 1, rel_tol=0.02):
        return Verdict("scale", PASS, words)
    if math.isclose(ratio, 1 / temperature**2, rel_tol=0.02):
        return Verdict(
            "scale", FAIL, f"T² is missing: the soft term is {temperature**2:g} times too weak",
            "multiply the soft term by temperature ** 2",
        )  # fmt: skip
    return Verdict(
        "scale", FAIL, f"{words}; you say {weight:.3g}",
        "the two weights, and any other factor of the soft term",
    )  # fmt: skip


# --- the loop, watched ----------------------------------------------------------------------------


@dataclass
class _Step:
    """What one call of the loss was handed, and what the student had been shown."""

    images: Tensor | None  # normalised, (N, 3, H, W)
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


MOST_STEPS = 64  # kept; more tell nothing new


@contextmanager
def _watching(student: nn.Module, teacher: nn.Module, loss: Loss) -> Iterator[tuple[_Watch, Loss]]:
    watch = _Watch()

    def seen(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if torch.is_grad_enabled():  # a step of learning, not a validation
            watch.shown, watch.training = inputs[0].detach(), module.training

    def asked(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        watch.teacher_training.append(any(part.training for part in module.modules()))

    def spy(student_logits: Tensor, teacher_logits: Tensor | None, labels: Tensor) -> Tensor:
        step = _Step(watch.shown, teacher_logits, labels, watch.training)
        # The first steps, then the newest: the second epoch must be among them.
        if len(watch.steps) >= MOST_STEPS:
            del watch.steps[MOST_STEPS // 2]
        watch.steps.append(step)
        return loss(student_logits, teacher_logits, labels)

    hooks = [student.register_forward_pre_hook(seen), teacher.register_forward_pre_hook(asked)]
    try:
        yield watch, spy
    finally:
        for hook in hooks:
            hook.remove()


def check_loop(
    loop: Loop, student: nn.Module, teacher: nn.Module, data: ImageData, loss: Loss
) -> list[Verdict]:
    """Run `loop` on copies of the networks and watch: from `learner` to `views` in `QUESTIONS`.

    The student starts in train mode, the teacher in the mode that it comes in.
    """
    pupil, master = copy.deepcopy(student).train(), copy.deepcopy(teacher)
    before = _weights(pupil), _weights(master)
    with _watching(pupil, master, loss) as (watch, spy):
        loop(pupil, master, data, spy)
    if not watch.steps:
        words = "the loop never called the loss that it was handed"
        names = ("learner", "teacher_mode", "student_mode", "alignment", "views")
        return [Verdict(name, SKIP, words) for name in names]
    learner = _learner(before, (_weights(pupil), _weights(master)))
    teacher_mode = _teacher_mode(watch, learner)
    return [
        learner,
        teacher_mode,
        _student_mode(watch, learner),
        *_answers(watch, teacher, learner.status == FAIL, teacher_mode.status == FAIL),
    ]


def _weights(model: nn.Module) -> list[Tensor]:
    """What an optimiser may change; running statistics are the matter of `teacher_mode`."""
    return [p.detach().clone() for p in model.parameters()]


def _changed(before: list[Tensor], after: list[Tensor]) -> bool:
    return any(not torch.equal(a, b.to(a.device)) for a, b in zip(before, after, strict=True))


def _learner(
    before: tuple[list[Tensor], list[Tensor]], after: tuple[list[Tensor], list[Tensor]]
) -> Verdict:
    student, teacher = (_changed(a, b) for a, b in zip(before, after, strict=True))
    look = "which parameters the optimiser was given, and whether the networks are mixed up"
    if teacher and not student:
        words = "the teacher's weights change and the student's do not: they are swapped"
        return Verdict("learner", FAIL, words, look)
    if teacher:
        return Verdict("learner", FAIL, "the teacher's weights change too", look)
    if not student:
        return Verdict("learner", FAIL, "the student's weights do not change", look)
    return Verdict("learner", PASS, "the student's weights change, the teacher's do not")


def _teacher_mode(watch: _Watch, learner: Verdict) -> Verdict:
    if learner.status == FAIL:
        return Verdict("teacher_mode", SKIP, "cannot be told before `learner` passes")
    if not watch.teacher_training:
        return Verdict("teacher_mode", SKIP, "the teacher was not asked: its answers were kept")
    n, wrong = len(watch.teacher_training), sum(watch.teacher_training)
    if wrong:
        return Verdict(
            "teacher_mode", FAIL,
            f"it answered {wrong} of {n} times in train mode: what it says of an image depends on "
            "the batch, and its running statistics move",
            "teacher.eval() before the loop",
        )  # fmt: skip
    return Verdict("teacher_mode", PASS, f"in eval mode, all {n} times")


def _student_mode(watch: _Watch, learner: Verdict) -> Verdict:
    wrong = sum(not step.student_training for step in watch.steps)
    if all(step.images is None for step in watch.steps):
        return Verdict("student_mode", SKIP, "the student was never asked with gradients")
    if wrong:
        return Verdict(
            "student_mode", FAIL,
            f"{wrong} of {len(watch.steps)} steps were made in eval mode: batch norm no longer "
            "follows the batch, dropout is off",
            "student.train() at the start of every epoch, after validation",
        )  # fmt: skip
    return Verdict("student_mode", PASS, f"in train mode at all {len(watch.steps)} steps looked at")


def _answers(
    watch: _Watch, teacher: nn.Module, no_learner: bool, unsteady: bool
) -> tuple[Verdict, Verdict]:
    """Compare what the loss was handed with what the teacher says about the images shown."""
    steps = [s for s in watch.steps if s.images is not None and s.teacher_logits is not None]
    if no_learner or not steps:
        words = "cannot be told before `learner` passes" if no_learner else "no teacher's logits"
        return Verdict("alignment", SKIP, words), Verdict("views", SKIP, words)
    handed = torch.cat([s.teacher_logits.detach().float().cpu() for s in steps])
    labels = torch.cat([s.labels.cpu() for s in steps])
    live = _ask([s.images for s in steps], teacher)
    right = [100 * float((x.argmax(-1) == labels).float().mean()) for x in (handed, live)]
    same, apart = _correlation(handed, live), _apart(handed, live)
    numbers = (
        f"the answers handed over name the label of {right[0]:.0f} % of the images, the teacher "
        f"itself {right[1]:.0f} %"
    )
    if same < 0.5:
        words = f"{numbers}: they belong to other images"
        look = "a cache read back in another order; keep it by image number, never by batch number"
        skip = Verdict("views", SKIP, "cannot be told before `alignment` passes")
        return Verdict("alignment", FAIL, words, look), skip
    aligned = Verdict("alignment", PASS, numbers)
    if unsteady:
        return aligned, Verdict("views", SKIP, "cannot be told before `teacher_mode` passes")
    if apart > 0.03:  # half precision and autocast stay below 0.01
        return aligned, Verdict(
            "views", FAIL,
            "the answers are for these images, but not for these pixels: they differ by "
            f"{100 * apart:.0f} % of their spread",
            "ask the teacher about the augmented images, or keep its answer for every view",
        )  # fmt: skip
    return aligned, Verdict("views", PASS, "for these very pixels")


def _ask(images: Sequence[Tensor], teacher: nn.Module) -> Tensor:
    """float32 (N, C): what the teacher, untouched and in eval mode, says about images shown."""
    model = copy.deepcopy(teacher).eval()
    device = next(model.parameters()).device
    with torch.inference_mode():
        return torch.cat([model(part.to(device)).float().cpu() for part in images]).clone()


def _own(logits: Tensor) -> Tensor:
    """float64: logits without their row means and without what all images share."""
    logits = logits.double() - logits.double().mean(1, keepdim=True)
    return (logits - logits.mean(0)).flatten()


def _correlation(a: Tensor, b: Tensor) -> float:
    """How alike two sets of logits are in what they say of single images; 1: the same."""
    norm = _own(a).norm() * _own(b).norm()
    return float(_own(a) @ _own(b) / norm) if norm > 0 else 0.0


def _apart(handed: Tensor, live: Tensor) -> float:
    """Size of the differences, as a share of the spread of `live`."""
    spread = _own(live).norm()
    return float(_own(handed - live).norm() / spread) if spread > 0 else 0.0


# --- the control ----------------------------------------------------------------------------------


def shuffled_control(
    student: nn.Module,
    teacher: nn.Module,
    data: ImageData,
    loss: Loss,
    targets: TeacherLogits | None = None,
    recipe: Recipe | None = None,
    seeds: Sequence[int] = (0, 1, 2),
) -> Verdict:
    """Train short students with the teacher's answers as they are, and exchanged between images.

    If that makes no difference, nothing of what the teacher knows about an image arrives. It costs
    two short trainings for each seed.

    Args:
        recipe: how; default four epochs.
        seeds: paired; the honest teacher must win on the mean, and beyond their spread.
    """
    from ..metrics import paired_interval

    source = SoftTargets(teacher, data.train) if targets is None else targets
    exchanged = ShuffledTargets(source, data.train.labels, within_class=False)
    recipe = recipe or Recipe(epochs=4, batch_size=min(64, len(data.train)), learning_rate=0.05)

    def accuracy(seed: int, what: TeacherLogits) -> float:
        model = copy.deepcopy(student)
        fit(model, data, recipe, loss=loss, soft_targets=what, seed=seed, progress=False)
        return 100 * evaluate(model, data.val).accuracy

    honest = [accuracy(seed, source) for seed in seeds]
    mixed = [accuracy(seed, exchanged) for seed in seeds]
    difference = paired_interval(honest, mixed)
    words = f"honest minus exchanged, in points: {difference}"
    if difference.verdict == "higher":
        return Verdict("control", PASS, words)
    look = "the weight of the soft term, and whether its answers belong to the images"
    return Verdict("control", FAIL, words, look)


__all__ = [
    "QUESTIONS",
    "Report",
    "Verdict",
    "check_loop",
    "check_loss",
    "run",
    "shuffled_control",
]
