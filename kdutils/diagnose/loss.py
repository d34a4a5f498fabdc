"""The loss, probed with made-up logits.

The labels' term does not know the teacher. So the gradient with one teacher minus the gradient
with another is the soft term's alone, whatever else is in the loss. It is compared with that of
plain divergences, of which one fits: this names the bug.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..losses import Loss, check_temperature
from .report import FAIL, OF_LOSS, PASS, SKIP, Verdict, judged, skipped

USUAL_TEMPERATURES = (1.0, 2.0, 3.0, 4.0, 5.0, 8.0, 10.0, 20.0)
CLEAR = 0.01  # share of a gradient that may stay unexplained

# What one side of a divergence may do to its logits z at a temperature t.
_SIDES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "soft": lambda z, t: F.log_softmax(z / t, dim=-1),
    "plain": lambda z, t: F.log_softmax(z, dim=-1),
    "twice": lambda z, t: F.log_softmax(z.softmax(-1) / t, dim=-1),
}
# (kind, in words, the student's side, the teacher's side)
_KINDS = (
    ("forward", "KL(teacher ‖ student)", "soft", "soft"),
    ("reversed", "KL(student ‖ teacher)", "soft", "soft"),
    ("double softmax", "a softmax of a softmax", "twice", "twice"),
    ("one side", "softened on the student's side only", "soft", "plain"),
    ("one side", "softened on the teacher's side only", "plain", "soft"),
    ("one side", "a softmax too many on the teacher's side", "soft", "twice"),
    ("one side", "a softmax too many on the student's side", "twice", "soft"),
)


@dataclass(frozen=True)
class _Form:
    """A soft term that a loss may contain: a KL, averaged over the batch, without T²."""

    kind: str
    words: str
    student_side: str
    teacher_side: str
    temperature: float

    def __call__(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        log_p = _SIDES[self.student_side](student, self.temperature)
        log_q = _SIDES[self.teacher_side](teacher, self.temperature)
        if self.kind == "reversed":
            log_p, log_q = log_q, log_p
        return F.kl_div(log_p, log_q, reduction="batchmean", log_target=True)


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

    def gradient(self, loss: Loss, teacher: Tensor) -> Tensor:
        """d loss / d student logits, (N, C); zeros if the loss does not depend on them."""
        logits = self.student.clone().requires_grad_()
        value = loss(logits, teacher, self.labels)
        if not isinstance(value, Tensor) or value.numel() != 1:
            what = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(
                f"The loss returned {what}, not one number: average it over the batch and return "
                "a scalar tensor."
            )
        if not value.requires_grad:
            return torch.zeros_like(logits)
        (found,) = torch.autograd.grad(value.sum(), logits, allow_unused=True)
        return torch.zeros_like(logits) if found is None else found

    def soft_gradient(self, loss: Loss) -> Tensor:
        """The soft term's part: the gradient with one teacher minus that with another, (N, C)."""
        return self.gradient(loss, self.teacher) - self.gradient(loss, self.other)

    def labels_part(self, loss: Loss) -> tuple[float, float]:
        """(weight of the labels' term, unexplained rest) of the gradient where student = teacher.

        There a soft term is at rest, so what is left should be softmax - label, perhaps smoothed.
        """
        n, classes = self.student.shape
        gradient = n * self.gradient(loss, self.student)
        p = self.student.softmax(-1)
        hard = p - F.one_hot(self.labels, classes)
        basis = torch.stack([hard.flatten(), (p - 1 / classes).flatten()], dim=1)
        found = torch.linalg.lstsq(basis, gradient.flatten().unsqueeze(1)).solution.squeeze(1)
        left = (gradient.flatten() - basis @ found).norm()
        return float(found.sum()), float(left / n)


@dataclass(frozen=True)
class _Fit:
    """The form that explains a soft gradient best: gradient = factor x that form's."""

    form: _Form
    factor: float
    relative_error: float  # 0..1, what it leaves unexplained


def _explain(probe: _Probe, gradient: Tensor, forms: Sequence[_Form]) -> _Fit:
    fits = []
    for form in forms:
        model = probe.soft_gradient(form)
        factor = float((gradient * model).sum() / (model * model).sum())
        error = float((gradient - factor * model).norm() / gradient.norm())
        fits.append(_Fit(form, factor, round(error, 9)))  # the first of equals
    return min(fits, key=lambda fit: fit.relative_error)


def check_loss(
    loss: Loss, temperature: float = 4.0, soft_weight: float | None = None, classes: int = 10
) -> list[Verdict]:
    """Probe a loss with made-up logits: the first six of `QUESTIONS`.

    Args:
        loss: called as loss(student_logits, teacher_logits, labels) with float64 (16, C) twice
            and int64 (16,). One that compares features (`student_layers`) is not judged.
        temperature: what the loss is meant to use.
        soft_weight: what it is meant to use; None: one minus the weight of the labels' term.
        classes: C, 2 or more.

    Raises:
        ValueError: a bad temperature, fewer than two classes, or a loss that gives no scalar.
    """
    check_temperature(temperature)
    if classes < 2:
        raise ValueError(f"A loss of {classes} class teaches nothing; give two classes or more.")
    if hasattr(loss, "student_layers"):
        return skipped(OF_LOSS, "the loss compares features, which are not probed")
    probe = _Probe.make(16, classes)
    gradient = probe.soft_gradient(loss)
    size = float(gradient.norm())
    if not size > 1e-12:  # NaN too
        words = "the loss does not depend on the teacher's logits at all"
        if math.isnan(size):
            words = "the loss has no gradient: it is NaN"
        last = Verdict("scale", FAIL, words, "where the teacher's logits are used")
        return [*skipped(OF_LOSS[:-1], words), last]
    labels_weight, left = probe.labels_part(loss)
    left /= size
    # Only one of two temperatures shows in the gradient; being at rest tells whether both agree.
    temperatures = dict.fromkeys(
        (temperature, *USUAL_TEMPERATURES, math.sqrt(temperature), temperature**2)
    )
    forms = [_Form(*kind, t) for t in temperatures for kind in _KINDS]
    forms = [form for form in forms if (form.kind == "one side") == (left > CLEAR)]
    found = _explain(probe, gradient, forms)
    if left > CLEAR or found.relative_error > CLEAR:
        return _not_at_rest(found, left)
    reduction, divisor = _reduction(loss, found, classes)
    weight = 1 - labels_weight if soft_weight is None else soft_weight
    return [
        Verdict("zero", PASS, "where student = teacher, only the labels pull"),
        *_form(found, temperature),
        reduction,
        _scale(found, temperature, weight, labels_weight, divisor),
    ]


def _not_at_rest(found: _Fit, left: float) -> list[Verdict]:
    """The soft term is not at rest at the teacher, or is none that we know."""
    if left <= CLEAR:
        first = Verdict("zero", PASS, "where student = teacher, only the labels pull")
        words = "no KL of softmaxes: these questions do not apply"
        return [first, *skipped(OF_LOSS[1:], words)]
    why = f": {found.form.words}" if found.relative_error <= CLEAR else ""
    first = Verdict(
        "zero", FAIL,
        f"it pulls even where student = teacher ({100 * left:.0f} % of its usual pull){why}",
        "both sides need the same temperature and exactly one softmax",
    )  # fmt: skip
    return [first, *skipped(OF_LOSS[1:], "cannot be told before `zero` passes")]


def _form(found: _Fit, temperature: float) -> list[Verdict]:
    """Which divergence it is, of what, at which temperature."""
    kind, used = found.form.kind, found.form.temperature
    return [
        judged(
            "direction", kind != "reversed", "KL(teacher ‖ student)",
            "it is KL(student ‖ teacher): the arguments are swapped",
            "F.kl_div(input, target): input is the student's log softmax, target the teacher's",
        ),
        judged(
            "softmax", kind != "double softmax", "logits go in, one softmax on each side",
            "a softmax of a softmax: its input is already probabilities",
            "does a network end in softmax, or is softmax called before the loss?",
        ),
        judged(
            "temperature", math.isclose(used, temperature), f"T = {used:g} on both sides",
            f"the loss uses T = {used:g}, not {temperature:g}",
            "divide both logits by T before the softmax",
        ),
    ]  # fmt: skip


def _reduction(loss: Loss, found: _Fit, classes: int) -> tuple[Verdict, float]:
    """How the factor changes with classes and batch size; and what it is divided by too much."""

    def factor(n: int, c: int) -> float:
        probe = _Probe.make(n, c)
        return _explain(probe, probe.soft_gradient(loss), [found.form]).factor

    try:
        by_class = factor(16, classes) / factor(16, 2 * classes)
    except (ValueError, RuntimeError, IndexError):
        by_class = 1.0  # the loss knows its number of classes
    by_batch = factor(16, classes) / factor(32, classes)
    hint = 'F.kl_div(..., reduction="batchmean"); its default, "mean", divides by C as well'
    if math.isclose(by_class, 2, rel_tol=0.01):
        words = f"averaged over classes too: with {classes} classes, {classes} times too weak"
        return Verdict("reduction", FAIL, words, hint), 1 / classes
    if math.isclose(by_batch, 0.5, rel_tol=0.01):
        words = "summed over the batch: twice the images, twice the pull"
        return Verdict("reduction", FAIL, words, hint), 16.0
    return Verdict("reduction", PASS, "summed over classes, averaged over the batch"), 1.0


def _scale(
    found: _Fit, temperature: float, weight: float, labels_weight: float, divisor: float
) -> Verdict:
    """Is the factor weight x T², once the reduction is accounted for?"""
    if not math.isclose(found.form.temperature, temperature):
        return Verdict("scale", SKIP, "cannot be told before `temperature` passes")
    measured = found.factor / divisor / temperature**2
    words = f"the soft term weighs {measured:.3g} x T², the labels' term {labels_weight:.3g}"
    if weight <= 0.001:
        return Verdict("scale", SKIP, f"{words}; name soft_weight to have it judged")
    if math.isclose(measured, weight / temperature**2, rel_tol=0.02) and temperature != 1:
        problem = f"T² is missing: the soft term is {temperature**2:g} times too weak"
        return Verdict("scale", FAIL, problem, "multiply the soft term by temperature ** 2")
    return judged(
        "scale", math.isclose(measured, weight, rel_tol=0.02), words,
        f"{words}; you say {weight:.3g}", "the two weights, and any other factor of the soft term",
    )  # fmt: skip
