"""The usual mistakes in distillation, each as a part that can be put into a correct training.

Losses with a switch, soft targets that go wrong on their way, a student in the wrong mode;
`kdutils.course.pitfalls` measures what each costs.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..runtime.modes import device_of, restored_modes
from ..runtime.precision import autocast
from ..soft_targets import SoftTargets
from ..train import Row
from ..views import epoch_images, normalise


@dataclass(frozen=True)
class SwitchedLoss:
    """The distillation loss with its usual mistakes as switches; all at rest, it is
    `losses.distillation_loss`.

    Attributes:
        reduction: "batchmean" sums over classes; "mean" is what `kl_div` does unless told, and
            divides by the number of classes too.
        squared: multiply the soft term by T^2.
        swapped: the student where the teacher belongs, so KL(student ‖ teacher).
        double_softmax: probabilities are handed to a softmax that expects logits.
    """

    temperature: float = 4.0
    soft_weight: float = 0.9
    reduction: str = "batchmean"
    squared: bool = True
    swapped: bool = False
    double_softmax: bool = False

    def __call__(
        self, student_logits: Tensor, teacher_logits: Tensor | None, labels: Tensor
    ) -> Tensor:
        assert teacher_logits is not None
        student, teacher = student_logits, teacher_logits
        if self.double_softmax:
            student, teacher = student.softmax(-1), teacher.softmax(-1)
        log_student = F.log_softmax(student / self.temperature, dim=-1)
        log_teacher = F.log_softmax(teacher / self.temperature, dim=-1)
        if self.swapped:
            log_student, log_teacher = log_teacher, log_student
        soft = F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)
        if self.reduction == "mean":  # written out: PyTorch announces to change its default
            soft = soft / student_logits.shape[1]
        if self.squared:
            soft = self.temperature**2 * soft
        hard = F.cross_entropy(student_logits, labels)
        return self.soft_weight * soft + (1 - self.soft_weight) * hard


@dataclass(frozen=True)
class WeakLabels:
    """Cross entropy times a weight: what is left of distillation when its soft term is lost."""

    weight: float = 0.1

    def __call__(
        self, student_logits: Tensor, teacher_logits: Tensor | None, labels: Tensor
    ) -> Tensor:
        return self.weight * F.cross_entropy(student_logits, labels)


# --- soft targets that go wrong on their way ------------------------------------------------------


def _draw(views: list[int] | None, salt: int = 0) -> torch.Generator:
    """Random numbers that belong to one epoch, known by its views: the same in every run."""
    return torch.Generator().manual_seed(zlib.crc32(bytes(views or ())) + salt)


class ByBatchNumber:
    """Teacher logits kept in one shuffled pass, then read back by batch number.

    The student's pass is shuffled anew, so its k-th batch meets the answers to other images:
    each epoch pairs images and answers by chance.
    """

    def __init__(self, targets: SoftTargets) -> None:
        self.targets = targets
        self.fingerprint = f"{targets.fingerprint}-by-batch-number"

    def epoch(self, views: list[int] | None) -> Tensor:
        logits = self.targets.epoch(views)
        return logits[torch.randperm(len(logits), generator=_draw(views))]


class CleanTargets:
    """Teacher logits of the unchanged images, whatever view the student is shown."""

    def __init__(self, targets: SoftTargets) -> None:
        self.targets = targets
        self.fingerprint = f"{targets.fingerprint}-clean"

    def epoch(self, views: list[int] | None) -> Tensor:
        return self.targets.clean()


class ScaledLogits:
    """The same teacher with logits times a factor: what it thinks, more or less loudly."""

    def __init__(self, targets: SoftTargets, factor: float) -> None:
        self.targets, self.factor = targets, factor
        self.fingerprint = f"{targets.fingerprint}-times-{factor}"

    def epoch(self, views: list[int] | None) -> Tensor:
        return self.factor * self.targets.epoch(views)


class TrainModeTargets:
    """A live teacher that was never put into eval mode.

    Its batch norms then use the statistics of the batch, so an answer depends on which images
    happen to share the batch. Which do is drawn once for each epoch, the same for all seeds.
    """

    def __init__(self, targets: SoftTargets, batch_size: int) -> None:
        self.teacher, self.images = targets.teacher, targets.images
        self.normalisation = targets.split.mean, targets.split.std
        self.batch_size = batch_size
        self.fingerprint = f"{targets.fingerprint}-train-mode-{batch_size}"
        self._known: dict[tuple[int, ...], Tensor] = {}

    def epoch(self, views: list[int] | None) -> Tensor:
        key = tuple(views or ())
        if key not in self._known:
            self._known[key] = self._ask(views)
        return self._known[key]

    def _ask(self, views: list[int] | None) -> Tensor:
        device = device_of(self.teacher)
        images = epoch_images(self.images, views)
        order = torch.randperm(len(images), generator=_draw(views, salt=1))
        kept = {name: value.clone() for name, value in self.teacher.state_dict().items()}
        parts = []
        with restored_modes(self.teacher), torch.inference_mode(), autocast(device):
            self.teacher.train()
            for batch in order.split(self.batch_size):
                pixels = normalise(images[batch.to(images.device)].to(device), *self.normalisation)
                parts.append(self.teacher(pixels).float().cpu())
        self.teacher.load_state_dict(kept)  # the running statistics moved
        logits = torch.empty_like(torch.cat(parts))
        logits[order] = torch.cat(parts)
        return logits.half().clone()


def stay_in_eval(model: nn.Module, row: Row) -> None:
    """From the first validation on, `model` never returns to train mode."""
    model.train = lambda mode=True: nn.Module.train(model, False)  # type: ignore[method-assign]
