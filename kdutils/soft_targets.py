"""Soft targets, memoised: a teacher's logits for every (image, view), computed at most once.

An image has only 50 views, so what a teacher says can be kept. Logits are filled lazily, one whole
block of 1,024 images at a time and always in the block's own order; a value therefore never
depends on who asked first. They are stored as float16, one small file per (block, view), under a
folder named after the teacher's weights and the images, so that a changed teacher or data set can
never meet a stale cache. Files appear by an atomic rename: several processes may share a folder.

The teacher answers in the precision that students train in (`kdutils.runtime.precision`), as a teacher at
work in the loop would. Its values differ a little from float32's, so the folder's name says which.
"""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from .runtime import distributed
from .runtime.files import atomic_path
from .runtime.modes import device_of, layout_of
from .runtime.precision import autocast, working_precision
from .runtime.settings import settings
from .views import BLOCK, IDENTITY_VIEW, N_VIEWS, apply_view, block_slices, normalise

CHUNK = 256  # images per teacher call: fixed, so that rounding is always the same
PER_CHECK = 16  # samples of `check_alignment` for which one chunk is computed again


class Images(Protocol):
    """What is needed of a split."""

    images: Tensor
    labels: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def fingerprint(self) -> str: ...


class TeacherLogits(Protocol):
    """What training needs of soft targets: the logits for one epoch, and a name for what they are."""

    fingerprint: str

    def epoch(self, views: list[int] | None) -> Tensor: ...


class MisalignedTargets(RuntimeError):
    """The cached logits are not what the teacher says about these images."""


def fingerprint(model: nn.Module) -> str:
    """16 hex digits that change when any weight, buffer or layer of `model` changes."""
    digest = hashlib.sha256(repr(model).encode())
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


class SoftTargets:
    """The logits of `teacher` for every view of the images of `split`.

    Args:
        teacher: any classifier; it is used in eval mode under `inference_mode` and left as found.
            Where it is not on the training device, a copy of it is put there.
        split: the training images, uint8 (N, C, H, W); order matters and is kept.
        folder: where files go, a sub-folder per (teacher, images); None keeps them in memory only.
    """

    def __init__(self, teacher: nn.Module, split: Images, folder: Path | str | None = None) -> None:
        self.teacher = _on(torch.device(settings().device), teacher)
        self.images = split.images.to(settings().device)
        self.mean, self.std = split.mean, split.std
        self.teacher_fingerprint = fingerprint(teacher)
        self.fingerprint = f"{self.teacher_fingerprint}-{split.fingerprint}-{working_precision()}"
        self.folder = None if folder is None else Path(folder) / self.fingerprint
        self.teacher_calls = 0  # blocks computed by this object, for progress bars and tests
        self._slices = block_slices(len(self.images))
        self._known: dict[tuple[int, int], Tensor] = {}

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
            live, kept = self._logits(apply_view(images[part], view)), kept[part].float()
            slack = 2e-2 * kept.abs().amax(1, keepdim=True)  # another machine rounds otherwise
            wrong = ((live - kept).abs() > slack).any(1)
            if wrong.any():
                raise MisalignedTargets(
                    f"The cached soft targets of block {number}, view {view}, image "
                    f"{start + int(wrong.nonzero()[0])} are not what the teacher says; the cache "
                    "is shuffled or belongs to other images. Delete its folder and compute it "
                    "again."
                )

    def _logits(self, images: Tensor) -> Tensor:
        device = device_of(self.teacher)
        was_training = self.teacher.training
        self.teacher.eval()
        try:
            with torch.inference_mode(), autocast(device):
                parts = [
                    self.teacher(self._pixels(images[start : start + CHUNK], device)).float().cpu()
                    for start in range(0, len(images), CHUNK)
                ]
        finally:
            self.teacher.train(was_training)
        return torch.cat(parts)

    def _pixels(self, images: Tensor, device: torch.device) -> Tensor:
        images = images.to(device, memory_format=layout_of(self.teacher))
        return normalise(images, self.mean, self.std)

    def _ask(self, number: int, view: int) -> Tensor:
        self.teacher_calls += 1
        logits = self._logits(apply_view(self.images[self._slices[number]], view)).clone().half()
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            target = self._path(number, view)
            with atomic_path(target, durable=False) as path, open(path, "wb") as file:
                np.save(file, logits.numpy())
        return logits

    def _path(self, number: int, view: int) -> Path:
        assert self.folder is not None
        return self.folder / f"block{number:03d}-view{view:02d}.npy"

    def _stored(self, number: int, view: int) -> bool:
        return self.folder is not None and self._path(number, view).exists()

    def _read(self, number: int, view: int) -> Tensor | None:
        """What is on disk, or None when it is absent, cut short or has rows that a power cut left
        empty (it is then made again)."""
        if not self._stored(number, view):
            return None
        try:
            values = np.load(self._path(number, view), allow_pickle=False)
        except (ValueError, EOFError, OSError):
            return None
        part = self._slices[number]
        fits = values.ndim == 2 and len(values) == part.stop - part.start
        whole = fits and values.dtype == np.float16 and bool(values.any(axis=1).all())
        return torch.from_numpy(values) if whole else None


class ShuffledTargets:
    """A teacher's answers handed to the wrong images: as soft as before, but about something else.

    Args:
        targets: the honest soft targets.
        labels: int64 (N,), of the same images.
        within_class: True: every image gets the answer for another image of its own class, so
            what is known about classes stays and what is known about this image goes. False: the
            answer for any other image.
        seed: chooses the exchange; no image keeps its own answer (in a class of two or more).
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


def _on(device: torch.device, model: nn.Module) -> nn.Module:
    here = device_of(model)
    return model if here.type == device.type else copy.deepcopy(model).to(device)


__all__ = [
    "BLOCK", "Images", "MisalignedTargets", "ShuffledTargets", "SoftTargets", "TeacherLogits",
    "fingerprint",
]  # fmt: skip
