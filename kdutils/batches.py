"""Where batches come from: images in memory, seen as each epoch's views; or a DataLoader.

    fit(student, FromLoader(train_loader, val_loader), recipe, loss=..., teacher=teacher)

A DataLoader is for what does not fit in memory. It augments as it likes, so that no answer of a
teacher can be kept: it is asked live.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .runtime import distributed
from .runtime.identity import identity_of
from .views import batch_images, epoch_views, erase_squares, normalise

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

    from .data import Split
    from .recipe import Recipe

# Normalised pixels, labels and kept teacher logits of this process's share; images in the batch.
Batch = tuple[Tensor, Tensor, Tensor | None, int]
# All seeds walk through the views in one order. Were it another for each seed, every new seed would
# ask the teacher for views that nobody has seen yet; so it costs no more than labels alone.
VIEW_SEED = 0
PREPARE_IMAGES = 2000  # 1.8 million patches: plenty for a 27 x 27 covariance


class InMemory:
    """Random batches of a split in memory, on `device` and in the memory layout `layout`."""

    def __init__(
        self, split: Split, recipe: Recipe, device: torch.device, layout: torch.memory_format
    ) -> None:
        self.split, self.recipe = split, recipe
        self.images = split.images.to(device, memory_format=layout)
        self.labels = split.labels.to(device)
        self.size = min(recipe.batch_size, len(split))
        self.steps = len(split) // self.size

    def first(self) -> Tensor:
        """Some pixels, for layers whose first weights follow from images."""
        return normalise(self.images[:PREPARE_IMAGES], self.split.mean, self.split.std)

    def views(self, epoch: int) -> list[int] | None:
        """The view of each block in `epoch`; None: every image unchanged."""
        augment = self.recipe.augment
        return epoch_views(len(self.images), VIEW_SEED, epoch) if augment else None

    def epoch(self, epoch: int, seed: int, kept: Tensor | None) -> Iterator[Batch]:
        """Batches across all blocks; the few images left over wait for the next epoch.

        Args:
            kept: float (N, C), the teacher's logits for the views of this epoch.
        """
        views = self.views(epoch)
        generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        order = torch.randperm(len(self.labels), generator=generator).to(self.labels.device)
        for batch in order[: self.steps * self.size].split(self.size):
            share = distributed.shard(batch)
            images = batch_images(self.images, share, views)
            pixels = normalise(images, self.split.mean, self.split.std)
            if self.recipe.cutout:
                erase_squares(pixels, self.recipe.cutout)
            answers = None if kept is None else kept[share]
            yield pixels, self.labels[share], answers, len(batch)


@dataclass(eq=False)
class LoaderSplit:
    """A DataLoader of (images, labels), with what normalises its images if they are uint8."""

    loader: DataLoader[Any]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __len__(self) -> int:
        return len(self.loader.dataset)

    @property
    def fingerprint(self) -> str:
        """What the data set is; see `runtime.identity`."""
        loader = self.loader
        return identity_of((loader.dataset, loader.batch_size, self.mean, self.std))

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Float pixels (N, C, H, W) and int64 labels (N,), one pass.

        Raises:
            ValueError: batches are something else.
        """
        if self.loader.generator is not None:  # so that a resumed run draws the same order
            self.loader.generator.manual_seed(torch.initial_seed())
        for batch in self.loader:
            pair = isinstance(batch, list | tuple) and len(batch) == 2
            images, labels = batch if pair else (None, None)
            if not (isinstance(images, Tensor) and isinstance(labels, Tensor) and images.ndim == 4):
                raise ValueError(
                    "A DataLoader must give pairs of images (N, C, H, W) and labels (N,)."
                )
            if labels.is_floating_point() or labels.dtype == torch.bool:
                raise ValueError(f"Labels must be whole numbers, not {labels.dtype}.")
            if images.dtype == torch.uint8:
                if not self.mean:
                    raise ValueError(
                        "The DataLoader gives uint8 images; pass mean and std (0..1, one number a "
                        "channel) to FromLoader."
                    )
                images = normalise(images, self.mean, self.std)
            yield images, labels.long()


@dataclass(eq=False)
class FromLoader:
    """Data for `train.fit` that does not lie in memory; as an `ImageData`, but of DataLoaders.

    Args:
        train, val: DataLoaders of (images, labels). Float images are taken as they are, normalised
            and augmented by the loader's own transforms; uint8 ones are normalised here.
        mean, std: of each channel, 0..1, for uint8 images.
        classes, name: for people.
    """

    train: Any
    val: Any
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    classes: tuple[str, ...] = ()
    name: str = "images of a DataLoader"
    test: Any = field(default=None)

    def __post_init__(self) -> None:
        for part in ("train", "val", "test"):
            loader = getattr(self, part)
            if hasattr(loader, "dataset"):
                setattr(self, part, LoaderSplit(loader, tuple(self.mean), tuple(self.std)))

    @cached_property
    def fingerprint(self) -> str:
        """Names the data sets of train and val."""
        return identity_of((self.train.fingerprint, self.val.fingerprint))

    def __repr__(self) -> str:
        return f"{self.name}: train {len(self.train):,} · val {len(self.val):,}"


class Loaded:
    """The batches of a `LoaderSplit`, in its own order, for the loop."""

    def __init__(self, split: LoaderSplit, recipe: Recipe, device: torch.device) -> None:
        self.split, self.recipe, self.device = split, recipe, device
        self.steps = len(split.loader)

    def first(self) -> Tensor:
        return next(iter(self.split.batches()))[0].to(self.device)

    def views(self, epoch: int) -> None:
        return None

    def epoch(self, epoch: int, seed: int, kept: Tensor | None) -> Iterator[Batch]:
        """As `InMemory.epoch`; order and augmentation follow from the seeded random state."""
        for pixels, labels in self.split.batches():
            pixels, labels = pixels.to(self.device), labels.to(self.device)
            if self.recipe.cutout:
                erase_squares(pixels, self.recipe.cutout)
            yield pixels, labels, None, len(labels)
