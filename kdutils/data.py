"""Images in memory: one call, `load()`, for every data set of the course.

    data = load()                 # KDUTILS_DATA, or "auto"
    data.train.images             # uint8 (N, C, H, W); 3 x 32 x 32 for CIFAR-10
    data.train.labels             # int64 (N,)
    data.classes                  # ('airplane', 'automobile', ...)

There are three splits. `train` is learned from. `val` is cut from the training images and is what
choices are made on. `test` is looked at once per final model.
"""

from __future__ import annotations

import hashlib
import html
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .runtime.files import DataError
from .runtime.settings import settings

__all__ = ["DataError", "ImageData", "Split", "download", "load"]

# Channel statistics of CIFAR-10's training images, on the scale 0..1. Every set of 32 x 32 colour
# images has them, so that weights trained on one of these sets see another as they saw their own.
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2470, 0.2435, 0.2616)
MOST_VAL = 5_000
MOST_CLASSES = 1_000


@dataclass(frozen=True, eq=False, repr=False)
class Split:
    """Images of one size, their labels, and how their channels are normalised.

    Attributes:
        images: uint8 (N, C, H, W), C >= 1.
        labels: int64 (N,).
        mean, std: of each channel, on the scale 0..1; what `views.normalise` takes. Not given,
            they are CIFAR-10's for 32 x 32 colour images, and measured on these images otherwise.
    """

    images: Tensor
    labels: Tensor
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.ndim != 4 or 0 in self.images.shape[1:]:
            raise DataError(
                "Images must be uint8 of shape (N, C, H, W), "
                f"not {self.images.dtype} of shape {tuple(self.images.shape)}."
            )
        if self.labels.dtype != torch.int64 or self.labels.shape != self.images.shape[:1]:
            raise DataError(
                f"Labels must be int64 of shape ({len(self.images)},), "
                f"not {self.labels.dtype} of shape {tuple(self.labels.shape)}."
            )
        if not self.mean and not self.std:
            mean, std = channel_statistics(self.images)
            object.__setattr__(self, "mean", mean)
            object.__setattr__(self, "std", std)
        channels = self.images.shape[1]
        if not len(self.mean) == len(self.std) == channels or min(self.std) <= 0:
            raise DataError(
                f"Images of {channels} channel(s) need as many means and as many standard "
                f"deviations above zero, not {self.mean} and {self.std}."
            )

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"Split({len(self):,} images)"

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits: these pixels and labels, in this order, so normalised (SHA-256)."""
        digest = hashlib.sha256(repr(tuple(self.images.shape)).encode())
        if (self.mean, self.std) != (MEAN, STD):
            digest.update(repr((self.mean, self.std)).encode())
        digest.update(memoryview(self.images.cpu().contiguous().numpy()).cast("B"))
        digest.update(memoryview(self.labels.cpu().contiguous().numpy()).cast("B"))
        return digest.hexdigest()[:16]

    def subset(self, n: int, seed: int = 0) -> Split:
        """`n` of the images, every class in its share, chosen by `seed`; the order is kept.

        Raises:
            ValueError: `n` is not in 1..len(self).
        """
        if not 1 <= n <= len(self):
            raise ValueError(f"A subset of {len(self):,} images cannot have {n:,}.")
        chosen = torch.from_numpy(_stratified(self.labels.cpu().numpy(), n, seed))
        return self._take(chosen.to(self.labels.device))

    def to(self, device: torch.device | str) -> Split:
        """The same split on another device."""
        moved = replace(self, images=self.images.to(device), labels=self.labels.to(device))
        if "fingerprint" in self.__dict__:  # a cached property lives in the instance's dict
            moved.__dict__["fingerprint"] = self.fingerprint
        return moved

    def _take(self, index: Tensor) -> Split:
        # index_select: three times as fast as indexing with [] for bytes on a processor
        images = self.images.index_select(0, index)
        return replace(self, images=images, labels=self.labels.index_select(0, index))


@dataclass(frozen=True, eq=False, repr=False)
class ImageData:
    """A data set in memory, cut into three splits.

    Attributes:
        train, val, test: the splits, all of one image size and one normalisation.
        classes: class names, 2 to 1,000; a label is an index into them.
        name: display name, for titles.
        notice: empty, or the sentence to show when `shapes` stands in for CIFAR-10.
        similarity: float32 (C, C) in [0, 1], how alike two classes are by construction, or None
            where nobody knows.
        is_synthetic: True for drawn images.
        mean, std: of each channel, on the scale 0..1, for all three splits; not given, those of
            the training images (see `Split`).
    """

    train: Split
    val: Split
    test: Split
    classes: tuple[str, ...]
    name: str
    notice: str = ""
    similarity: Tensor | None = field(default=None)
    is_synthetic: bool = False
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not 2 <= len(self.classes) <= MOST_CLASSES:
            raise DataError(
                f"{self.name} has {len(self.classes)} classes; a classifier needs 2 to "
                f"{MOST_CLASSES:,}."
            )
        for name in ("mean", "std"):
            object.__setattr__(self, name, getattr(self, name) or getattr(self.train, name))
        for part, split in self.splits.items():
            if len(split) == 0:
                raise DataError(f"The {part} split of {self.name} is empty; add images.")
            least, most = int(split.labels.min()), int(split.labels.max())
            if least < 0 or most >= len(self.classes):
                raise DataError(
                    f"The {part} split of {self.name} has labels from {least} to {most}, but its "
                    f"{len(self.classes)} classes are numbered 0 to {len(self.classes) - 1}."
                )

            if split.images.shape[1:] != self.train.images.shape[1:]:
                raise DataError(
                    f"The {part} images of {self.name} are {_size(split)}, its training images "
                    f"{_size(self.train)}; give every split one size."
                )
            if (split.mean, split.std) != (self.mean, self.std):
                same = replace(split, mean=self.mean, std=self.std)
                object.__setattr__(self, part, same)

    @property
    def splits(self) -> dict[str, Split]:
        """The splits by name, in the order train, val, test."""
        return {"train": self.train, "val": self.val, "test": self.test}

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that name the pixels, labels and class names of all splits."""
        parts = [split.fingerprint for split in self.splits.values()]
        return hashlib.sha256(repr((parts, self.classes)).encode()).hexdigest()[:16]

    def __repr__(self) -> str:
        sizes = " · ".join(f"{part} {len(split):,}" for part, split in self.splits.items())
        lines = [f"{self.name}: {sizes}", f"{len(self.classes)} classes: {', '.join(self.classes)}"]
        return "\n".join([self.notice, *lines] if self.notice else lines)

    def _repr_html_(self) -> str:
        banner = ""
        if self.notice:
            banner = (
                '<div role="note" style="border-left:6px solid #d55e00;background:#fff3e6;'
                'color:#222;padding:.6em 1em;margin:.4em 0"><b>Stand-in data.</b> '
                f"{html.escape(self.notice)}</div>"
            )
        rows = []
        for part, split in self.splits.items():
            counts = torch.bincount(split.labels.cpu(), minlength=len(self.classes))
            least, most = int(counts.min()), int(counts.max())
            per_class = f"{least:,}" if least == most else f"{least:,} to {most:,}"
            rows.append(f"<tr><td>{part}</td><td>{len(split):,}</td><td>{per_class}</td></tr>")
        return (
            f"{banner}<table><caption><b>{html.escape(self.name)}</b>: "
            f"{len(self.classes)} classes, {html.escape(', '.join(self.classes))}</caption>"
            "<thead><tr><th>split</th><th>images</th><th>images per class</th></tr></thead>"
            f"<tbody>{''.join(rows)}</tbody></table>"
        )


def channel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel on the scale 0..1, to normalise `images` with.

    Args:
        images: uint8 (N, C, H, W).

    Returns:
        (mean, std), C numbers each: CIFAR-10's for 32 x 32 colour images, else measured.
    """
    if images.shape[1:] == (3, 32, 32):
        return MEAN, STD
    counts = torch.zeros(images.shape[1], 256, dtype=torch.float64)
    for part in images.cpu().split(256):
        for channel, pixels in enumerate(part.unbind(1)):
            counts[channel] += torch.bincount(pixels.flatten(), minlength=256)
    share, value = counts / counts.sum(1, keepdim=True).clamp(min=1), torch.arange(256) / 255
    mean = share @ value.double()
    variance = (share * (value - mean[:, None]).square()).sum(1)
    # Images of one colour have no deviation: a grey level stands for it.
    std = variance.sqrt().clamp(min=1 / 255)
    # Rounded, so that another order of additions cannot give another fingerprint.
    return tuple(round(m, 4) for m in mean.tolist()), tuple(round(s, 4) for s in std.tolist())


def _size(split: Split) -> str:
    return "x".join(str(length) for length in split.images.shape[1:])


def load(
    name: str | Path | None = None,
    *,
    train_size: int | None = None,
    val_size: int | None = None,
    test_size: int | None = None,
    seed: int = 0,
    cache: Path | None = None,
) -> ImageData:
    """Load a data set into memory.

    Args:
        name: "cifar10", "shapes", "auto", or the path of a folder of images (see
            `kdutils.sources.folder`). None means KDUTILS_DATA, and "auto" where that is not set.
            "auto" takes a local copy of CIFAR-10, else downloads it when that is quick (it decides
            within about 5 seconds), else takes `shapes` and says so in `.notice`.
        train_size: at most this many training images, every class in its share; None keeps all.
        val_size: images cut from the training images for validation. None: a tenth, at most
            5,000 (2,000 for shapes).
        test_size: at most this many test images.
        seed: chooses the validation images and the subsets, never the test split itself.
        cache: where downloads and decoded images are kept; None is the user's cache folder.

    Raises:
        DataError: unknown name, data that is missing, damaged or unusable.
        ValueError: a size out of range.
    """
    from . import sources

    asked = str(name) if name is not None else settings().data
    _check_sizes(train_size, val_size, test_size)
    found = sources.read(asked, settings().cache if cache is None else Path(cache))
    whole = Split(torch.from_numpy(found.train_images), torch.from_numpy(found.train_labels))
    images, labels = torch.from_numpy(found.test_images), torch.from_numpy(found.test_labels)
    test = Split(images, labels, whole.mean, whole.std)
    n_val = val_size or found.val_size or max(1, min(MOST_VAL, len(whole) // 10))
    if n_val >= len(whole):
        raise ValueError(
            f"val_size is {n_val:,}, but {found.name} has {len(whole):,} training image(s) to "
            f"cut it from; {'ask for fewer' if len(whole) > 1 else 'add images'}."
        )
    train, val = _cut(whole, n_val, seed)
    return ImageData(
        train=_at_most(train, train_size, seed),
        val=val,
        test=_at_most(test, test_size, seed),
        classes=found.classes,
        name=found.name,
        notice=found.notice,
        similarity=None if found.similarity is None else torch.from_numpy(found.similarity),
        is_synthetic=found.is_synthetic,
    )


def download(cache: Path | None = None) -> None:
    """Fetch CIFAR-10 into the cache folder, however long it takes, unless a good copy is here.

    Stopped and called again, it goes on where it was.

    Raises:
        DataError: no host delivers, or the disk is full.
    """
    from .sources import cifar10

    cache = settings().cache if cache is None else Path(cache)
    if cifar10.local(cache) is None:
        cifar10.download(cache)


def _check_sizes(*sizes: int | None) -> None:
    for name, size in zip(("train_size", "val_size", "test_size"), sizes, strict=True):
        if size is not None and size < 1:
            raise ValueError(f"{name} is {size}, but must be at least 1 (or None).")


def _at_most(split: Split, n: int | None, seed: int) -> Split:
    return split if n is None or n >= len(split) else split.subset(n, seed)


def _cut(split: Split, n: int, seed: int) -> tuple[Split, Split]:
    """(the rest, `n` images), both stratified; together they are the whole split."""
    chosen = torch.zeros(len(split), dtype=torch.bool)
    chosen[torch.from_numpy(_stratified(split.labels.numpy(), n, seed))] = True
    return split._take((~chosen).nonzero().squeeze(1)), split._take(chosen.nonzero().squeeze(1))


def _stratified(labels: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Indices of `n` images, sorted. Each class gives its share; largest remainders get the rest.

    For one seed, and as long as the shares grow, a smaller choice is part of a larger one.
    """
    classes, counts = np.unique(labels, return_counts=True)
    share = n * counts / len(labels)
    take = np.floor(share).astype(int)
    largest_first = np.argsort(take - share, kind="stable")
    take[largest_first[: n - take.sum()]] += 1
    rng = np.random.default_rng(seed)
    chosen = [
        rng.permutation(np.flatnonzero(labels == c))[:k] for c, k in zip(classes, take, strict=True)
    ]
    return np.sort(np.concatenate(chosen))
