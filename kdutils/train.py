"""The one training loop of the project. A method is a loss that you hand to it.

    history = fit(student, data, Recipe(epochs=8))                             # labels only
    history = fit(student, data, Recipe(epochs=8), loss=Distillation(4, 0.9),
                  soft_targets=SoftTargets(teacher, data.train))               # distilled

Images stay in memory as uint8; views, shuffling and normalisation are batched tensor operations.
Every random choice follows from the seed and the epoch, so a run that is stopped and started again
from its checkpoint ends in the same weights, bit for bit, as one that was never stopped.

Under `torchrun` the same loop trains with several processes: see `kdutils.runtime.distributed`.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import math
import pickle
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from .losses import LabelLoss, Loss
from .metrics import Metrics, summarise
from .optim import optimizers
from .runtime import distributed
from .runtime.files import atomic_path
from .runtime.identity import identity_of
from .runtime.modes import answer, as_input, device_of, eval_mode, layout_of, training_device
from .runtime.precision import autocast, working_dtype
from .soft_targets import TeacherLogits, check_images, fingerprint
from .views import epoch_images, epoch_views, normalise

if TYPE_CHECKING:
    import pandas as pd

    from .data import ImageData, Split

Row = dict[str, float]
# All seeds walk through the views in one order. Were it another for each seed, every new seed would
# ask the teacher for views that nobody has seen yet; so it costs no more than labels alone.
VIEW_SEED = 0
PREPARE_IMAGES = 2000  # 1.8 million patches: plenty for a 27 x 27 covariance
AVERAGE_EVERY = 5  # steps between two updates of the averaged weights


class TrainingDiverged(RuntimeError):
    """The loss became NaN or infinite."""


class CheckpointMismatch(ValueError):
    """A checkpoint cannot be continued: it belongs to another run, or it is damaged."""


@dataclass(frozen=True)
class Recipe:
    """How to train: SGD with Nesterov momentum and a triangular learning rate.

    The rate climbs linearly to its peak over the first `warmup` share of all steps, then falls
    linearly to zero. Weight decay acts on weight matrices and filters, not on biases and norms.
    With `muon` the filters are turned by Muon instead, see `kdutils.optim`; SGD has the rest.

    With `ema` the network that is measured and handed back has an average of the weights along
    the way, which is steadier than the last ones (Polyak & Juditsky 1992). `cutout` erases a
    random square (DeVries & Taylor 2017, arXiv:1708.04552); not with soft targets, because the
    teacher would have seen other pixels.
    """

    epochs: int = 8
    batch_size: int = 128
    learning_rate: float = 0.25  # the peak, of SGD
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup: float = 0.2  # share of all steps, 0..1
    augment: bool = True  # show views; False shows every image unchanged
    muon: float = 0.0  # the peak of Muon's rate, for filters; 0: SGD for all
    ema: float = 0.0  # averaged weights: share kept at each update, every 5 steps; 0: no average
    cutout: int = 0  # side of the square erased from each training image, in pixels; 0: none

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1:
            raise ValueError(
                f"A recipe needs at least one epoch and one image a batch, got {self.epochs} and "
                f"{self.batch_size}."
            )
        steady = (self.learning_rate, self.momentum, self.weight_decay)
        if not all(0 <= value < math.inf for value in steady):
            raise ValueError(
                "Learning rate, momentum and weight decay are numbers from 0 up, got "
                f"{', '.join(map(str, steady))}."
            )
        if not 0 <= self.warmup < 1:
            raise ValueError(f"Warm-up is {self.warmup}; it is a share of all steps, 0 up to 1.")
        if not 0 <= self.muon < 1:
            raise ValueError(
                f"Muon's rate is {self.muon}; it is how far filters turn in a step, 0 up to 1."
            )
        if not 0 <= self.ema < 1 or self.cutout < 0:
            raise ValueError(
                f"Averaged weights keep a share of 0 up to, not 1, and cutout is a side in pixels; "
                f"got {self.ema} and {self.cutout}."
            )


@dataclass
class History:
    """What happened in training: one row per epoch.

    Row keys: epoch (from 1), train_loss, train_accuracy, val_accuracy, val_nll, learning_rate and
    seconds (since the start, resumed runs added up). Accuracies are fractions.
    """

    rows: list[Row] = field(default_factory=list)

    @property
    def last(self) -> Row:
        """The last epoch's row. We never pick the best epoch: that would be choosing by luck."""
        return self.rows[-1]

    def column(self, name: str) -> list[float]:
        return [row[name] for row in self.rows]

    def frame(self) -> pd.DataFrame:
        """The rows as a pandas DataFrame, indexed by epoch."""
        import pandas as pd

        return pd.DataFrame(self.rows).set_index("epoch")

    def __str__(self) -> str:
        if not self.rows:
            return "no epoch finished"
        last = self.last
        return (
            f"{len(self.rows)} epochs in {last['seconds']:.0f} s: loss {last['train_loss']:.3f}, "
            f"validation accuracy {100 * last['val_accuracy']:.2f} %"
        )


def fit(
    model: nn.Module,
    data: ImageData,
    recipe: Recipe | None = None,
    *,
    loss: Loss | None = None,
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
        data: an `ImageData`; the test split is never looked at.
        recipe: epochs, batch size, learning rate, …; default `Recipe()`.
        loss: called as loss(student_logits, teacher_logits, labels); default cross entropy.
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
        data: ImageData,
        recipe: Recipe | None = None,
        loss: Loss | None = None,
        soft_targets: TeacherLogits | None = None,
        teacher: nn.Module | None = None,
        seed: int = 0,
        device: torch.device | str | None = None,
    ) -> None:
        self.recipe, self.loss = recipe or Recipe(), loss or LabelLoss()
        self.data, self.seed, self.soft_targets, self.teacher = data, seed, soft_targets, teacher
        self._check_together()
        self.home = device_of(model)
        self.device = torch.device(device or training_device(model))
        self.model = model.to(self.device)
        self.network = self.model  # what a step calls; a wrapper when processes work together
        if teacher is not None and device_of(teacher) != self.device:
            self.teacher = copy.deepcopy(teacher).to(self.device)
        layout = layout_of(self.model)
        self.images = data.train.images.to(self.device, memory_format=layout)
        self.labels = data.train.labels.to(self.device)
        self.steps = max(1, len(self.labels) // self.recipe.batch_size)
        self.optimizers = optimizers(self.model, self.recipe, dtype=working_dtype(self.device))
        self.schedules = [LambdaLR(one, self._rate) for one in self.optimizers]
        self.history = History()
        self.live: dict[str, Tensor] | None = None
        self.good = _copy(model.state_dict())

    def _check_together(self) -> None:
        """Refuse what does not go together, before any work."""
        if self.recipe.cutout and self.soft_targets is not None:
            raise ValueError(
                "Cutout and soft targets do not go together: the teacher answered for whole "
                "images. Set cutout=0, or train on labels only."
            )
        if self.teacher is not None and self.soft_targets is not None:
            raise ValueError(
                "Both soft_targets and teacher would give the teacher's logits; pass one of them."
            )
        if self.soft_targets is not None:
            check_images(self.soft_targets, self.data.train)
        if self._batch_size < distributed.world_size():
            raise ValueError(
                f"A batch of {self._batch_size} cannot be shared by {distributed.world_size()} "
                "processes; take a larger batch or fewer processes."
            )

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
        try:
            if path is not None and path.exists():
                self.restore(path)
            else:
                self.prepare()
            self.connect()
            with _bar(self, label, progress) as bar:
                for epoch in range(len(self.history.rows), self.recipe.epochs):
                    row = self.epoch(epoch, bar)
                    if path is not None and distributed.is_main_process():
                        self.save(path)
                    bar.set_postfix_str(f"validation {100 * row['val_accuracy']:.1f} %")
                    asked = on_epoch is not None and distributed.is_main_process() and on_epoch(row)
                    if distributed.broadcast(bool(asked)):
                        break
        except KeyboardInterrupt:
            self.roll_back()  # nothing unfinished is ever taken for a result
            raise
        finally:
            self.model.to(self.home)
        return self.history

    @functools.cached_property
    def identity(self) -> dict[str, Any]:
        """What makes this run this run."""
        facts = identity(
            self.model, self.data, self.recipe, self.loss, self.soft_targets, self.seed, self.teacher
        )
        # Other shares, other batch norm: the same run has the same number of processes.
        together = distributed.world_size()
        return facts if together == 1 else facts | {"number of processes": together}

    def prepare(self) -> None:
        """Layers whose first weights follow from the images (`WhitenedConv`) get them."""
        for layer in self.model.modules():
            if hasattr(layer, "prepare"):
                layer.prepare(self._normalise(self.images[:PREPARE_IMAGES]))
        self.good = _copy(self.model.state_dict())

    def _normalise(self, images: Tensor) -> Tensor:
        return normalise(images, self.data.mean, self.data.std)

    def connect(self) -> None:
        """Join the other processes of this training, if there are any."""
        self.network = distributed.wrap(self.model)
        self.good = _copy(self.model.state_dict())

    def epoch(self, epoch: int, bar: Any) -> Row:
        """One pass over the training images, then a look at validation."""
        began = time.perf_counter()
        views = epoch_views(len(self.images), VIEW_SEED, epoch) if self.recipe.augment else None
        if self.soft_targets is None:
            teacher_logits = None
        else:
            bar.set_postfix_str("fetching soft targets")
            teacher_logits = self.soft_targets.epoch(views).to(self.device).float()
            if len(teacher_logits) != len(self.labels):
                raise ValueError(
                    f"There are soft targets for {len(teacher_logits):,} images, but "
                    f"{len(self.labels):,} training images; make them for data.train."
                )
        bar.set_postfix_str(f"epoch {epoch + 1} of {self.recipe.epochs}")
        images = epoch_images(self.images, views)
        totals = torch.zeros(2, dtype=torch.float64, device=self.device)
        average = self._resume_average()
        self.model.train()
        with _seeded(self.seed, epoch, self.device):
            for number, batch in enumerate(self._batches(epoch)):
                step = epoch * self.steps + number
                totals += self._step(images, teacher_logits, batch, epoch)
                if average is not None and (step + 1) % AVERAGE_EVERY == 0:
                    _blend(average, self.model.state_dict(), self._kept(step))
                bar.update()
        totals = distributed.all_reduce(totals)
        mean_loss, accuracy = (totals / (self.steps * self._batch_size)).tolist()
        self._check_finite(mean_loss, epoch)
        if average is not None:
            self.live = _copy(self.model.state_dict())
            self.model.load_state_dict(average)
        distributed.broadcast_tensors(self.model.buffers())
        row = distributed.broadcast(self._row(epoch, mean_loss, accuracy, began))
        self.history.rows.append(row)
        self.good = _copy(self.model.state_dict())
        return row

    def _row(self, epoch: int, mean_loss: float, accuracy: float, began: float) -> Row | None:
        """The epoch's line in the history; only the first process looks at validation."""
        if not distributed.is_main_process():
            return None
        val_accuracy, val_nll = score(self.model, self.data.val)
        before = self.history.rows[-1]["seconds"] if self.history.rows else 0.0
        return {
            "epoch": epoch + 1,
            "train_loss": mean_loss,
            "train_accuracy": accuracy,
            "val_accuracy": val_accuracy,
            "val_nll": val_nll,
            "learning_rate": self.recipe.learning_rate * self._rate(self.steps * (epoch + 1) - 1),
            "seconds": before + time.perf_counter() - began,
        }

    def _resume_average(self) -> dict[str, Tensor] | None:
        """Take the average out of the model and put the live weights back in; None: no average."""
        if not self.recipe.ema:
            return None
        average = _copy(self.model.state_dict())
        if self.live is not None:
            self.model.load_state_dict(self.live)
        return average

    def _kept(self, step: int) -> float:
        """How much of the average stays at this step: less at the start, when it is still poor."""
        updates = (step + 1) // AVERAGE_EVERY
        return min(self.recipe.ema, updates / (updates + 9))

    @property
    def _batch_size(self) -> int:
        return min(self.recipe.batch_size, len(self.data.train))

    def _batches(self, epoch: int) -> Iterator[Tensor]:
        """Random batches across all blocks; the few images left over wait for the next epoch."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        order = torch.randperm(len(self.labels), generator=generator).to(self.device)
        size = self._batch_size
        return (order[start : start + size] for start in range(0, self.steps * size, size))

    def _step(
        self, images: Tensor, teacher_logits: Tensor | None, batch: Tensor, epoch: int
    ) -> Tensor:
        """One update. Gives the summed loss and number right of this process's share."""
        share = distributed.shard(batch)
        labels = self.labels[share]
        pixels = self._normalise(take(images, share))
        if self.recipe.cutout:
            erase_squares(pixels, self.recipe.cutout)
        with autocast(self.device):
            logits = answer(self.network, as_input(self.model, pixels))
        if self.teacher is None:
            teacher = None if teacher_logits is None else teacher_logits[share]
        else:
            with eval_mode(self.teacher), torch.inference_mode(), autocast(self.device):
                teacher = answer(self.teacher, as_input(self.teacher, pixels))
            teacher = teacher.clone()  # outside of inference mode: losses may use it freely
        loss = self.loss(logits, teacher, labels)
        # A NaN is noticed at once where that is cheap. On a GPU it would wait for the device, and
        # one of several processes must not leave alone; there the epoch's mean tells.
        if self.device.type == "cpu" and not distributed.is_distributed():
            self._check_finite(loss.item(), epoch)
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        distributed.weight_by_shard(loss, len(share), len(batch)).backward()
        for optimizer, schedule in zip(self.optimizers, self.schedules, strict=True):
            optimizer.step()
            schedule.step()
        right = (logits.detach().argmax(-1) == labels).sum()
        return torch.stack([loss.detach().double() * len(share), right.double()])

    def _rate(self, step: int) -> float:
        return triangular(step, self.recipe.epochs * self.steps, self.recipe.warmup)

    def _check_finite(self, loss: float, epoch: int) -> None:
        if not math.isfinite(loss):
            self.roll_back()
            raise TrainingDiverged(
                f"The loss became {loss} in epoch {epoch + 1}; the model is back at epoch "
                f"{epoch}, the last good one. Lower the learning rate (now "
                f"{self.recipe.learning_rate}) or check the inputs."
            )

    def roll_back(self) -> None:
        """Put the model back to the last finished epoch."""
        self.model.load_state_dict(self.good)

    def save(self, path: Path) -> None:
        """Write everything that the next epoch needs, atomically."""
        state = {
            "identity": self.identity,
            "model": self.model.state_dict(),
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
        self.live = state.get("live")
        parts = [*self.optimizers, *self.schedules]
        for part, kept in zip(parts, state["optimizers"], strict=True):
            part.load_state_dict(kept)
        self.history = History(list(state["rows"]))
        self.good = _copy(self.model.state_dict())


def identity(
    model: nn.Module,
    data: ImageData,
    recipe: Recipe,
    loss: Loss,
    soft_targets: TeacherLogits | None,
    seed: int,
    teacher: nn.Module | None = None,
) -> dict[str, Any]:
    """What makes a run this run: a checkpoint, or a saved network, must match all of it."""
    taught_by = None if soft_targets is None else soft_targets.fingerprint
    return {
        "network": identity_of(model),
        "recipe": _said(recipe),
        "loss": identity_of(loss, frozen=True),
        "seed": seed,
        "data": data.fingerprint,
        "teacher": taught_by if teacher is None else f"live {fingerprint(teacher)}",
    }


def _said(recipe: Recipe) -> dict[str, Any]:
    """The recipe's fields; those that came later only where used, so that older runs stay known."""
    later = ("ema", "cutout", "muon")
    return {name: value for name, value in asdict(recipe).items() if value or name not in later}


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Load a training checkpoint without running any code that it might hold.

    Raises:
        CheckpointMismatch: the file is cut short or is no checkpoint of ours.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError, pickle.UnpicklingError) as error:
        raise CheckpointMismatch(
            f"The checkpoint {path.name} is cut short or damaged, or it is another kind of file; "
            "choose another file name to train from the start."
        ) from error
    if not isinstance(state, dict) or "identity" not in state:
        raise CheckpointMismatch(f"{path.name} is not a checkpoint of kdutils.train.fit.")
    return state


def predict(model: nn.Module, split: Split, batch_size: int = 500) -> Tensor:
    """float32 (N, C): logits for every image of `split`, unaugmented, in eval mode, on the CPU."""
    device, layout = device_of(model), layout_of(model)
    parts = []
    with eval_mode(model), torch.inference_mode():
        for start in range(0, len(split.images), batch_size):
            images = split.images[start : start + batch_size].to(device, memory_format=layout)
            pixels = as_input(model, normalise(images, split.mean, split.std))
            parts.append(answer(model, pixels).cpu())
    return torch.cat(parts).clone()


def evaluate(model: nn.Module, split: Split) -> Metrics:
    """Accuracy, NLL and ECE of `model` on `split`; the model is left in the mode it was in."""
    return summarise(predict(model, split), split.labels)


def score(model: nn.Module, split: Split) -> tuple[float, float]:
    """Accuracy (fraction) and NLL (nats) of `model` on `split`, as `evaluate` gives them.

    Apart from `evaluate`, because its calibration error needs torchmetrics: seconds to import.
    """
    logits, labels = predict(model, split), split.labels.cpu()
    accuracy = (logits.argmax(-1) == labels).float().mean().item()
    return accuracy, F.cross_entropy(logits, labels).item()


def triangular(step: int, total: int, warmup: float) -> float:
    """The share of the peak learning rate at `step` (0-based) of `total`: up, then down."""
    position = (step + 1) / (total + 1)
    if position < warmup:
        return position / warmup
    return (1 - position) / (1 - warmup)


def take(images: Tensor, index: Tensor) -> Tensor:
    """images[index] that keeps the memory layout, so that no later step rearranges pixels."""
    if not images.is_contiguous(memory_format=torch.channels_last):
        return images.index_select(0, index)
    return images.permute(0, 2, 3, 1).index_select(0, index).permute(0, 3, 1, 2)


def erase_squares(pixels: Tensor, side: int) -> None:
    """Set a random square of each image to zero, the mean colour, in place.

    Args:
        pixels: float (N, C, H, W), normalised.
        side: of the square, in pixels. Its centre lies anywhere, so that it may stick out.
    """

    def inside(length: int) -> Tensor:  # bool (N, length)
        centre = torch.randint(length, (len(pixels), 1)).to(pixels.device)  # drawn on the CPU
        offset = torch.arange(length, device=pixels.device) - centre + side // 2
        return (offset >= 0) & (offset < side)

    rows, columns = inside(pixels.shape[-2]), inside(pixels.shape[-1])
    pixels.masked_fill_((rows[:, :, None] & columns[:, None, :]).unsqueeze(1), 0.0)


def _blend(average: dict[str, Tensor], state: dict[str, Tensor], kept: float) -> None:
    """average = kept * average + (1 - kept) * state; counters are copied."""
    for name, value in state.items():
        if value.is_floating_point():
            average[name].lerp_(value, 1 - kept)
        else:
            average[name].copy_(value)


def _copy(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in state.items()}


@contextlib.contextmanager
def _seeded(seed: int, epoch: int, device: torch.device) -> Iterator[None]:
    """Layers that draw random numbers (dropout) draw the same in a resumed run."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        common = seed * 1_000_003 + epoch
        torch.manual_seed(common * distributed.world_size() + distributed.rank())
        yield


@contextlib.contextmanager
def _bar(run: Trainer, label: str | None, progress: bool) -> Iterator[Any]:
    from tqdm.auto import tqdm

    name = label or getattr(run.model, "name", type(run.model).__name__)
    total, done = run.recipe.epochs * run.steps, len(run.history.rows) * run.steps
    with tqdm(
        total=total, initial=done, desc=str(name), unit="batch", leave=False,
        disable=not (progress and distributed.is_main_process()),
    ) as bar:  # fmt: skip
        yield bar
