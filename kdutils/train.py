"""The one training loop of the project. A method is a loss that you hand to it.

    history = fit(student, data, Recipe(epochs=8))                             # labels only
    history = fit(student, data, Recipe(epochs=8), loss=Distillation(4, 0.9),
                  soft_targets=SoftTargets(teacher, data.train))               # distilled
    history = fit(student, data, Recipe(epochs=8), loss=FitNet(...), teacher=teacher)  # layers too

Images stay in memory as uint8; views, shuffling and normalisation are batched tensor operations.
Every random choice follows from the seed and the epoch, so a run that is stopped and started again
from its checkpoint ends in the same weights, bit for bit, as one that was never stopped.

Under `torchrun` the same loop trains with several processes: see `kdutils.runtime.distributed`.
"""

from __future__ import annotations

import copy
import functools
import itertools
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from .batches import VIEW_SEED, FromLoader, InMemory, Loaded
from .evaluation import evaluate, predict, score
from .features import Taps
from .losses import LabelLoss, Loss
from .optim import blend, optimizers
from .recipe import History, Recipe, Row, identity, triangular
from .runtime import distributed, modes
from .runtime.checkpoint import CheckpointMismatch, TrainingDiverged, read_checkpoint
from .runtime.files import atomic_path
from .runtime.precision import autocast, working_dtype
from .soft_targets import TeacherLogits, check_images
from .views import take

if TYPE_CHECKING:
    from .data import ImageData

__all__ = [
    "VIEW_SEED", "CheckpointMismatch", "FromLoader", "History", "Recipe", "Row", "TeacherLogits",
    "Trainer", "TrainingDiverged", "evaluate", "fit", "identity", "predict", "read_checkpoint",
    "score", "take", "triangular",
]  # fmt: skip
AVERAGE_EVERY = 5  # steps between two updates of the averaged weights


def fit(
    model: nn.Module,
    data: ImageData | FromLoader,
    recipe: Recipe | None = None,
    *,
    loss: Loss | nn.Module | None = None,
    soft_targets: TeacherLogits | None = None,
    teacher: nn.Module | None = None,
    seed: int = 0,
    checkpoint: Path | str | None = None,
    progress: bool = True,
    on_epoch: Callable[[Row], bool | None] | None = None,
    label: str | None = None,
    device: torch.device | str | None = None,
) -> History:
    """Train `model` in place on `data.train`; measure it on `data.val` after each epoch.

    Args:
        model: a classifier of float (N, C, H, W).
        data: an `ImageData` or a `FromLoader`; the test split is never looked at.
        recipe: epochs, batch size, learning rate, …; default `Recipe()`.
        loss: called as loss(student_logits, teacher_logits, labels); default cross entropy. A
            module that names `student_layers` and `teacher_layers` is also handed what these give
            (two dictionaries, name -> float32 tensor); its own weights are trained along.
        soft_targets: where teacher logits come from; without them (and a teacher) they are None.
        teacher: asked for its logits in every step, on the very pixels that the student sees.
        seed: decides the batches. Give baseline and distilled student the same one. The views of
            an epoch are the same for all seeds, so that soft targets serve them all.
        checkpoint: file to save after every epoch and to continue from if it exists.
        progress: show a progress bar.
        on_epoch: called with each new row; return True to stop after this epoch. Of several
            processes only the first calls it.
        label: name on the progress bar; default the model's name.
        device: where to train; default the model's own, or the GPU where that is a processor and
            there is a GPU. Afterwards the model is back where it was.

    Raises:
        ValueError: what was asked for does not go together; the message says what.
        TrainingDiverged: NaN or infinite loss; the model holds the last finished epoch.
        CheckpointMismatch: the checkpoint belongs to another run or is cut short.
        KeyboardInterrupt: Ctrl-C; the model holds the last finished epoch, the checkpoint is kept.
    """
    trainer = Trainer(model, data, recipe, loss, soft_targets, teacher, seed, device)
    return trainer.run(checkpoint, progress, on_epoch, label)


class Trainer:
    """The state of one training run; the arguments are those of `fit`.

    Between epochs `model` holds what the run has to show for itself: its averaged weights, where
    the recipe asks for them. `live` then holds the weights that the next epoch goes on from.
    """

    def __init__(
        self,
        model: nn.Module,
        data: ImageData | FromLoader,
        recipe: Recipe | None = None,
        loss: Loss | nn.Module | None = None,
        soft_targets: TeacherLogits | None = None,
        teacher: nn.Module | None = None,
        seed: int = 0,
        device: torch.device | str | None = None,
    ) -> None:
        self.recipe, self.loss, self.seed = recipe or Recipe(), loss or LabelLoss(), int(seed)
        self.model, self.data, self.soft_targets = model, data, soft_targets
        self.layers = [tuple(getattr(loss, f"{who}_layers", ())) for who in ("student", "teacher")]
        self.teacher = teacher
        self._check_together()
        self.home = modes.device_of(model)
        self.device = torch.device(device or modes.best_device(model))
        self.network = model.to(self.device)  # what a step calls; later a wrapper, under torchrun
        self.adapters = self.loss if isinstance(self.loss, nn.Module) else nn.Module()
        self.adapters.to(self.device)
        if teacher is model or (teacher is not None and modes.device_of(teacher) != self.device):
            self.teacher = copy.deepcopy(teacher).to(self.device)
        if hasattr(data.train, "batches"):
            self.batches: InMemory | Loaded = Loaded(data.train, self.recipe, self.device)
        else:
            self.batches = InMemory(data.train, self.recipe, self.device, modes.layout_of(model))
        self.steps = self.batches.steps
        learned = self.adapters.parameters()
        self.optimizers = optimizers(model, self.recipe, learned, working_dtype(self.device))
        warmup, total = self.recipe.warmup, self.recipe.epochs * self.steps
        self.rate = functools.partial(triangular, total=total, warmup=warmup)
        self.schedules = [LambdaLR(one, self.rate) for one in self.optimizers]
        self.history = History()
        self.live: dict[str, Tensor] | None = None
        self._keep()

    def _check_together(self) -> None:
        """Refuse what does not go together, before any work."""
        targets, loaded = self.soft_targets is not None, hasattr(self.data.train, "batches")
        together = distributed.world_size()
        size = min(self.recipe.batch_size, len(self.data.train))
        compares = type(self.loss).__name__ if self.layers[1] else ""
        for wrong, problem in (
            (not any(p.requires_grad for p in self.model.parameters()),
             "This network has no weights to train (all are frozen, or there are none); call "
             "model.requires_grad_(True)."),
            (self.recipe.cutout and targets,
             "Cutout and soft targets do not go together: the teacher answered for whole images. "
             "Set cutout=0, or train on labels only."),
            (compares and self.teacher is None,
             f"{compares} compares layers, so it needs the teacher itself: pass teacher=... to fit "
             "(soft targets are logits only)."),
            (targets and self.teacher is not None and not compares,
             "Both soft_targets and teacher would give the teacher's logits; pass one of them."),
            (loaded and (targets or together > 1),
             "Images of a DataLoader have no fixed order and views: pass teacher=... instead of "
             "soft_targets, and train in one process."),
            (size < together,
             f"A batch of {size} cannot be shared by {together} processes; take a larger batch or "
             "fewer processes."),
        ):  # fmt: skip
            if wrong:
                raise ValueError(problem)
        if self.soft_targets is not None:
            check_images(self.soft_targets, self.data.train)

    def run(
        self,
        checkpoint: Path | str | None = None,
        progress: bool = True,
        on_epoch: Callable[[Row], bool | None] | None = None,
        label: str | None = None,
    ) -> History:
        """Train to the end of the recipe, from the checkpoint if there is one; see `fit`."""
        path = None if checkpoint is None else Path(checkpoint)
        if path is not None:
            _ = self.identity  # what has none is refused before the work
        with modes.restored_modes(self.model, self.adapters):
            try:
                if path is not None and path.exists():
                    self.restore(path)
                else:
                    self.prepare()
                self.connect()
                name = label or getattr(self.model, "name", type(self.model).__name__)
                total, done = self.recipe.epochs * self.steps, len(self.history.rows) * self.steps
                with distributed.progress_bar(total, done, str(name), progress) as bar:
                    for epoch in range(len(self.history.rows), self.recipe.epochs):
                        row = self.epoch(epoch, bar)
                        if path is not None and distributed.is_main_process():
                            self.save(path)
                        bar.set_postfix_str(f"validation {100 * row['val_accuracy']:.1f} %")
                        told = on_epoch is not None and distributed.is_main_process()
                        if distributed.broadcast(bool(told and on_epoch(row))):
                            break
            except KeyboardInterrupt:
                self.roll_back()  # nothing unfinished is ever taken for a result
                raise
            finally:
                self.model.to(self.home)
                self.adapters.to(self.home)
        return self.history

    @functools.cached_property
    def identity(self) -> dict[str, Any]:
        """What makes this run this run."""
        recipe, loss, targets = self.recipe, self.loss, self.soft_targets
        facts = identity(self.model, self.data, recipe, loss, targets, self.seed, self.teacher)
        # Other shares, other batch norm: the same run has the same number of processes.
        together = distributed.world_size()
        return facts if together == 1 else facts | {"number of processes": together}

    def prepare(self) -> None:
        """Layers whose first weights follow from the images (`WhitenedConv`) get them."""
        layers = [layer for layer in self.model.modules() if hasattr(layer, "prepare")]
        pixels = self.batches.first() if layers else None
        for layer in layers:
            layer.prepare(pixels)
        self._keep()

    def connect(self) -> None:
        """Join the other processes of this training, if there are any."""
        self.network = distributed.wrap(self.model)
        distributed.broadcast_tensors(self.adapters.state_dict().values())
        self._keep()

    def epoch(self, epoch: int, bar: Any) -> Row:
        """One pass over the training images, then a look at validation."""
        began = time.perf_counter()
        batches = self.batches.epoch(epoch, self.seed, self._answers(epoch, bar))
        totals = torch.zeros(3, dtype=torch.float64, device=self.device)  # loss, right, images
        average = self._resume_average()
        bar.set_postfix_str(f"epoch {epoch + 1} of {self.recipe.epochs}")
        self.model.train()
        self.adapters.train()
        with (
            distributed.seeded(self.seed * 1_000_003 + epoch, self.device),
            modes.eval_mode(*([] if self.teacher is None else [self.teacher])),
            Taps(self.model, self.layers[0]) as seen,
            Taps(self.teacher, self.layers[1]) as taught,
        ):
            for number, batch in enumerate(itertools.islice(batches, self.steps)):
                pixels, labels, kept, whole = batch
                loss, right = self._look(pixels, labels, kept, seen, taught)
                # A NaN is noticed at once where that is cheap. On a GPU it would wait for the
                # device, and one of several processes must not leave alone; there the mean tells.
                if self.device.type == "cpu" and not distributed.is_distributed():
                    self._check_finite(loss.item(), epoch)
                self._update(distributed.weight_by_shard(loss, len(labels), whole))
                totals[0] += loss.detach() * len(labels)
                totals[1] += right
                totals[2] += len(labels)
                done = epoch * self.steps + number + 1
                if average is not None and done % AVERAGE_EVERY == 0:
                    blend(average, self.model.state_dict(), self.recipe.ema, done // AVERAGE_EVERY)
                bar.update()
        return self._finish(epoch, distributed.all_reduce(totals), average, began)

    def _look(
        self,
        pixels: Tensor,
        labels: Tensor,
        kept: Tensor | None,
        seen: dict[str, Tensor],
        taught: dict[str, Tensor],
    ) -> tuple[Tensor, Tensor]:
        """The loss of this process's share of a batch, and how many of it are right."""
        with autocast(self.device):
            logits = modes.answer(self.network, modes.as_input(self.model, pixels))
            if self.teacher is not None:
                with torch.no_grad():
                    live = modes.answer(self.teacher, modes.as_input(self.teacher, pixels))
                kept = live if kept is None else kept
        features = (seen, taught) if any(self.layers) else ()
        loss = self.loss(logits, kept, labels, *features)
        return loss, (logits.detach().argmax(-1) == labels).sum()

    def _update(self, loss: Tensor) -> None:
        """One step of the optimizers and of their learning rates."""
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        loss.backward()
        distributed.average_gradients(self.adapters.parameters())
        for optimizer, schedule in zip(self.optimizers, self.schedules, strict=True):
            optimizer.step()
            schedule.step()

    def _finish(
        self, epoch: int, totals: Tensor, average: dict[str, Tensor] | None, began: float
    ) -> Row:
        """The end of an epoch: is all well, what is kept, and its line in the history."""
        loss, right, images = totals.tolist()
        self._check_finite(loss / images, epoch)
        if average is not None:
            self.live = _copy(self.model.state_dict())
            self.model.load_state_dict(average)
        distributed.broadcast_tensors(self.model.buffers())
        distributed.broadcast_tensors(self.adapters.buffers())
        # Only the first process looks at validation.
        found = score(self.model, self.data.val) if distributed.is_main_process() else None
        val_accuracy, val_nll = distributed.broadcast(found)
        if math.isnan(val_nll):
            self._check_finite(val_nll, epoch)
        before = self.history.rows[-1]["seconds"] if self.history.rows else 0.0
        row = {
            "epoch": epoch + 1,
            "train_loss": loss / images,
            "train_accuracy": right / images,
            "val_accuracy": val_accuracy,
            "val_nll": val_nll,
            "learning_rate": self.recipe.learning_rate * self.rate(self.steps * (epoch + 1) - 1),
            "seconds": before + time.perf_counter() - began,
        }
        self.history.rows.append(distributed.broadcast(row))
        self._keep()
        return self.history.last

    def _resume_average(self) -> dict[str, Tensor] | None:
        """Take the average out of the model and put the live weights back in; None: no average."""
        if not self.recipe.ema:
            return None
        average = _copy(self.model.state_dict())
        if self.live is not None:
            self.model.load_state_dict(self.live)
        return average

    def _answers(self, epoch: int, bar: Any) -> Tensor | None:
        """float (N, C): the kept logits for the views of `epoch`, if there are soft targets."""
        if self.soft_targets is None:
            return None
        bar.set_postfix_str("fetching soft targets")
        kept = self.soft_targets.epoch(self.batches.views(epoch)).to(self.device).float()
        if len(kept) != len(self.data.train):
            raise ValueError(
                f"There are soft targets for {len(kept):,} images, but {len(self.data.train):,} "
                "training images; make them for data.train."
            )
        return kept

    def _check_finite(self, loss: float, epoch: int) -> None:
        if not math.isfinite(loss):
            self.roll_back()
            raise TrainingDiverged(
                f"The loss became {loss} in epoch {epoch + 1}; the model is back at epoch "
                f"{epoch}, the last good one. Lower the learning rate (now "
                f"{self.recipe.learning_rate}) or check the inputs."
            )

    def _keep(self) -> None:
        """What `roll_back` goes back to is what model and adapters are now."""
        self.good = _copy(self.model.state_dict()), _copy(self.adapters.state_dict())

    def roll_back(self) -> None:
        """Put the model, and the adapters of a method, back to the last finished epoch."""
        for module, state in zip((self.model, self.adapters), self.good, strict=True):
            module.load_state_dict(state)

    def save(self, path: Path) -> None:
        """Write everything that the next epoch needs, atomically."""
        state = {
            "identity": self.identity,
            "model": self.model.state_dict(),
            "adapters": self.adapters.state_dict(),
            "live": self.live,
            "optimizers": [one.state_dict() for one in [*self.optimizers, *self.schedules]],
            "rows": self.history.rows,
        }
        with atomic_path(path) as part:
            torch.save(state, part)

    def restore(self, path: Path) -> None:
        """Continue from a checkpoint of the very same run."""
        state = read_checkpoint(path)
        mine, theirs = self.identity, state["identity"]
        different = [key for key in mine | theirs if mine.get(key) != theirs.get(key)]
        if different:
            raise CheckpointMismatch(
                f"The checkpoint {path.name} belongs to a run with another "
                f"{' and '.join(different)}; choose another file name."
            )
        self.model.load_state_dict(state["model"])
        self.adapters.load_state_dict(state["adapters"])
        self.live = state["live"]
        parts = [*self.optimizers, *self.schedules]
        for part, kept in zip(parts, state["optimizers"], strict=True):
            part.load_state_dict(kept)
        self.history = History(list(state["rows"]))
        self._keep()


def _copy(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in state.items()}
