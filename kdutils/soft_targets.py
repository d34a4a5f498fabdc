"""Soft targets, memoised: a teacher's logits for every (image, view), computed at most once.

An image has only 50 views, so what a teacher says can be kept. Logits are filled lazily, one whole
block of 1,024 images at a time and always in the block's own order; a value therefore never
depends on who asked first. They are stored as float16, one small file per (block, view), under a
folder named after what answers what: the teacher, the preprocessing, the images and the precision.
So a changed teacher or data set can never meet a stale cache. Files appear by an atomic rename:
several processes may share a folder.

Each row is centred before it is rounded: adding a number to all logits of an image changes no
softmax, but float16 has only 11 bits, and logits around 1,000 would lose what tells them apart.
"""

from __future__ import annotations

import copy
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from .runtime import distributed
from .runtime.files import load_arrays, save_arrays
from .runtime.identity import identity_of
from .runtime.modes import answer, as_input, best_device, eval_mode
from .runtime.precision import autocast, working_precision
from .views import IDENTITY_VIEW, N_VIEWS, apply_view, block_slices, normalise

CHUNK = 256  # images per teacher call: fixed, so that rounding is always the same
PER_CHECK = 16  # samples of `check_alignment` for which one chunk is computed again
SPAN = 30_000.0  # logits that far below their row's first are masks; float16 ends at 65,504


class Images(Protocol):
    """What is needed of a split."""

    images: Tensor
    labels: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def fingerprint(self) -> str: ...


class TeacherLogits(Protocol):
    """What `train.fit` needs of soft targets: the logits of an epoch, and a name for what they are.

    Those that know their images have their fingerprint as `split_fingerprint`; those that change
    the answers of others have these as `targets`.
    """

    fingerprint: str

    def epoch(self, views: list[int] | None) -> Tensor: ...


class MisalignedTargets(RuntimeError):
    """The cached logits are not what the teacher says about these images."""


def fingerprint(model: nn.Module, *preprocessing: Any) -> str:
    """16 hex digits that change with any weight, buffer, layer, setting or the source of `model`.

    Args:
        preprocessing: what else its answers depend on: mean and std.
    """
    return identity_of((model, *preprocessing), weights=True).split()[-1]


def centred(logits: Tensor) -> Tensor:
    """float32 (N, C) minus each row's mean; masked logits (-inf, -1e9) do not count in it."""
    counts = logits >= logits.amax(1, keepdim=True) - SPAN
    mean = torch.where(counts, logits, 0).sum(1, keepdim=True) / counts.sum(1, keepdim=True)
    return logits - mean


def check_images(targets: TeacherLogits, split: Images) -> None:
    """Raise ValueError where `targets` are known to be about other images than `split`'s."""
    inner: Any = targets
    while not hasattr(inner, "split_fingerprint") and hasattr(inner, "targets"):
        inner = inner.targets
    if getattr(inner, "split_fingerprint", split.fingerprint) != split.fingerprint:
        raise ValueError(
            "These soft targets are about other images than data.train; make them for these: "
            "SoftTargets(teacher, data.train)."
        )


class SoftTargets:
    """The logits of `teacher` for every view of the images of `split`.

    Args:
        teacher: any classifier. A copy of it is kept, in eval mode, on the device where we train:
            whatever happens to yours later, these answers stay those of today.
        split: the training images, uint8 (N, C, H, W); order matters and is kept.
        folder: where files go, a sub-folder per (teacher, images); None keeps them in memory only.
            One that cannot be written (full, read-only) is warned of once.
    """

    def __init__(self, teacher: nn.Module, split: Images, folder: Path | str | None = None) -> None:
        device = best_device(teacher)
        self.teacher = copy.deepcopy(teacher).to(device).eval().requires_grad_(False)
        self.split = split
        self.images = split.images.to(device)
        self.teacher_calls = 0  # blocks computed by this object, for progress bars and tests
        self._precision = working_precision(device)
        self._slices = block_slices(len(self.images))
        self._known: dict[tuple[int, int], Tensor] = {}
        self.folder = None if folder is None else Path(folder) / self.fingerprint

    @cached_property
    def fingerprint(self) -> str:
        """Names the teacher with its preprocessing, the images, and the precision."""
        taught_by = fingerprint(self.teacher, self.split.mean, self.split.std)
        return f"{taught_by}-{self.split_fingerprint}-{self._precision}"

    @property
    def split_fingerprint(self) -> str:
        """Names the images."""
        return self.split.fingerprint

    def __repr__(self) -> str:
        done = len(self._known)
        return (
            f"SoftTargets({len(self.images):,} images x {N_VIEWS} views, {done:,} of "
            f"{len(self._slices) * N_VIEWS:,} blocks in memory)"
        )

    def block(self, number: int, view: int) -> Tensor:
        """float16 (n, C): logits for block `number` seen as `view`, in the block's own order."""
        key = (number, view)
        if key not in self._known:
            stored = self._read(number, view)
            self._known[key] = self._ask(number, view) if stored is None else stored
        return self._known[key]

    def epoch(self, views: list[int] | None) -> Tensor:
        """float16 (N, C): logits for all images in split order, one view per block.

        Args:
            views: as `views.epoch_views` gives them; None means the unchanged images.
        """
        views = [IDENTITY_VIEW] * len(self._slices) if views is None else views
        if len(views) != len(self._slices):
            raise ValueError(f"{len(views)} views were given for {len(self._slices)} blocks.")
        if self.folder is not None:  # processes that train together divide the work
            for number, view in enumerate(views):
                if number % distributed.world_size() == distributed.rank():
                    self.block(number, view)
            distributed.barrier()
        return torch.cat([self.block(number, view) for number, view in enumerate(views)])

    def missing(self, views: list[int] | None) -> int:
        """How many blocks of an epoch the teacher would still have to be asked for."""
        views = [IDENTITY_VIEW] * len(self._slices) if views is None else views
        return sum(
            (number, view) not in self._known and not self._stored(number, view)
            for number, view in enumerate(views)
        )

    def clean(self) -> Tensor:
        """float16 (N, C): logits of the unchanged images."""
        return self.epoch(None)

    def check_alignment(self, samples: int = 64, seed: int = 0) -> None:
        """Recompute a random part of what is cached and compare.

        A part is a whole teacher call (256 images), so that even the rounding is the same.

        Args:
            samples: one part for every 16 of these, each of another (block, view).
            seed: chooses them.

        Raises:
            MisalignedTargets: a cached value differs from what the teacher says now.
        """
        if not self._known:
            self.clean()
        generator = torch.Generator().manual_seed(seed)
        keys = sorted(self._known)
        order = torch.randperm(len(keys), generator=generator).tolist()
        for pick in order[: max(1, samples // PER_CHECK)]:
            number, view = keys[pick]
            kept, images = self._known[number, view], self.images[self._slices[number]]
            start = CHUNK * int(torch.randint(-(-len(kept) // CHUNK), (1,), generator=generator))
            part = slice(start, start + CHUNK)
            live, kept = centred(self._logits(apply_view(images[part], view))), kept[part].float()
            high = kept.abs().where(kept.isfinite(), 0).amax(1, keepdim=True)
            # Another machine rounds otherwise. What is masked in both is -inf, so equal.
            wrong = ((live - kept).abs() > 2e-2 * high).logical_and(live.half() != kept).any(1)
            if wrong.any():
                raise MisalignedTargets(
                    f"The cached soft targets of block {number}, view {view}, image "
                    f"{start + int(wrong.nonzero()[0])} are not what the teacher says; the cache "
                    "is shuffled or belongs to other images. Give another folder, or none, and "
                    "they are computed again."
                )

    def _logits(self, images: Tensor) -> Tensor:
        """float32 (n, C) on the CPU: what the teacher says, in the precision that we train in."""
        device = self.images.device
        with eval_mode(self.teacher), torch.inference_mode(), autocast(device):
            parts = [
                answer(self.teacher, self._pixels(images[start : start + CHUNK])).cpu()
                for start in range(0, len(images), CHUNK)
            ]
        return torch.cat(parts).clone()

    def _pixels(self, images: Tensor) -> Tensor:
        return as_input(self.teacher, normalise(images, self.split.mean, self.split.std))

    def _ask(self, number: int, view: int) -> Tensor:
        self.teacher_calls += 1
        shown = apply_view(self.images[self._slices[number]], view)
        logits = centred(self._logits(shown)).clone().half()
        if self.folder is not None:
            kept = {"logits": logits.numpy()}
            if not save_arrays(self._path(number, view), self.fingerprint, kept, durable=False):
                self.folder = None  # warned of, once; in memory they are still good
        return logits

    def _path(self, number: int, view: int) -> Path:
        assert self.folder is not None
        return self.folder / f"block{number:03d}-view{view:02d}.npz"

    def _stored(self, number: int, view: int) -> bool:
        return self.folder is not None and self._path(number, view).exists()

    def _read(self, number: int, view: int) -> Tensor | None:
        """What is on disk, or None when it is absent or damaged (it is then made again)."""
        if self.folder is None:
            return None
        kept = load_arrays(self._path(number, view), self.fingerprint)
        part = self._slices[number]
        values = None if kept is None else kept.get("logits")
        if values is None or values.dtype != np.float16 or len(values) != part.stop - part.start:
            return None
        return torch.from_numpy(values)


class ShuffledTargets:
    """A teacher's answers handed to the wrong images: as soft as before, but about something else.

    Args:
        targets: the honest soft targets.
        labels: int64 (N,), of the same images.
        within_class: True: every image gets the answer for another image of its own class, so
            what is known about classes stays and what is known about this image goes. False: the
            answer for any other image.
        seed: chooses the exchange; nobody keeps its own answer (in a class of two or more).
    """

    def __init__(
        self, targets: TeacherLogits, labels: Tensor, within_class: bool, seed: int = 0
    ) -> None:
        self.targets = targets
        self.donor = torch.arange(len(labels))  # whose answer each image is given
        generator = torch.Generator().manual_seed(seed)
        groups = labels.cpu() if within_class else torch.zeros(len(labels), dtype=torch.int64)
        for group in groups.unique():
            rows = (groups == group).nonzero().squeeze(1)
            rows = rows[torch.randperm(len(rows), generator=generator)]
            self.donor[rows] = rows.roll(1)  # one big ring: no fixed point
        kind = "class" if within_class else "any"
        self.fingerprint = f"{targets.fingerprint}-shuffled-{kind}-{seed}"

    def epoch(self, views: list[int] | None) -> Tensor:
        """float16 (N, C), as `SoftTargets.epoch`, exchanged."""
        return self.targets.epoch(views)[self.donor]
