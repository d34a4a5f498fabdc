"""Views: the finite set of augmented versions of an image, and the schedule that deals them out.

A *view* is a shift of up to two pixels each way (the border reflects) with or without a flip:
25 x 2 = 50 views. Because there are only 50, a teacher's answer to every view of every image
can be kept, and a cached answer belongs to exactly the pixels that the student sees.

The training set is cut into fixed blocks of 1,024 images. In epoch `e` every image of block `k`
takes view `order(seed, k)[e mod 50]`, where `order` is a permutation. So each image meets every
view once before it meets one twice, and a mini-batch, drawn across blocks, mixes many views.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

SHIFT = 2
SIDE = 2 * SHIFT + 1
N_VIEWS = 2 * SIDE * SIDE
IDENTITY_VIEW = 2 * (SIDE * SHIFT + SHIFT)
BLOCK = 1024

# Channel statistics of CIFAR-10's training images (0..1 scale). One pair for every data set, so
# that a network never depends on which set computed its statistics.
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2470, 0.2435, 0.2616)


def decode_view(view: int) -> tuple[int, int, bool]:
    """Split a view's number into (shift down, shift right, flipped); shifts in pixels, -2..2.

    Raises:
        ValueError: `view` is not in 0..49.
    """
    if not 0 <= view < N_VIEWS:
        raise ValueError(f"View {view} does not exist; views are numbered 0 to {N_VIEWS - 1}.")
    shifts, flip = divmod(view, 2)
    down, right = divmod(shifts, SIDE)
    return down - SHIFT, right - SHIFT, bool(flip)


def describe_view(view: int) -> str:
    """A view in words: `"2 up, 1 right, flipped"`, or `"unchanged"`."""
    down, right, flipped = decode_view(view)
    parts = []
    if down:
        parts.append(f"{abs(down)} {'down' if down > 0 else 'up'}")
    if right:
        parts.append(f"{abs(right)} {'right' if right > 0 else 'left'}")
    if flipped:
        parts.append("flipped")
    return ", ".join(parts) or "unchanged"


@lru_cache(maxsize=256)
def _source_pixels(length: int, shift: int) -> Tensor:
    """Which source pixel each target pixel shows after a shift, with reflection at the border."""
    index = torch.arange(length) - shift
    index = index.abs()
    return torch.where(index >= length, 2 * (length - 1) - index, index)


def apply_view(images: Tensor, view: int) -> Tensor:
    """The images as `view` shows them.

    Args:
        images: (N, C, H, W), any dtype; one image (C, H, W) works too.
        view: 0..49, see `decode_view`.

    Returns:
        A new tensor, same shape, dtype and memory layout.
    """
    down, right, flipped = decode_view(view)
    rows = _source_pixels(images.shape[-2], down).to(images.device)
    columns = _source_pixels(images.shape[-1], right)
    columns = (columns.flip(0) if flipped else columns).to(images.device)
    return images.index_select(-2, rows).index_select(-1, columns)


def block_slices(n_images: int, block: int = BLOCK) -> list[slice]:
    """The fixed blocks: consecutive slices of `block` images, the last one shorter."""
    return [slice(start, min(start + block, n_images)) for start in range(0, n_images, block)]


@lru_cache(maxsize=4096)
def view_order(seed: int, block: int) -> tuple[int, ...]:
    """The permutation of the 50 views that block number `block` walks through."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + block)
    return tuple(torch.randperm(N_VIEWS, generator=generator).tolist())


def epoch_views(n_images: int, seed: int, epoch: int) -> list[int]:
    """The view of each block in epoch `epoch` (0, 1, …): one int per block."""
    n_blocks = len(block_slices(n_images))
    return [view_order(seed, block)[epoch % N_VIEWS] for block in range(n_blocks)]


def epoch_images(images: Tensor, views: list[int] | None) -> Tensor:
    """All training images as one epoch shows them.

    Args:
        images: uint8 (N, 3, H, W), best in channels_last layout (which the result keeps).
        views: one view per block from `epoch_views`; None shows every image unchanged.

    Returns:
        uint8 (N, 3, H, W).
    """
    if views is None:
        return images
    out = torch.empty_like(images)
    for part, view in zip(block_slices(len(images)), views, strict=True):
        out[part] = apply_view(images[part], view)
    return out


def normalise(images: Tensor) -> Tensor:
    """uint8 (N, 3, H, W) in 0..255 to float32 with about zero mean and unit variance.

    The layout becomes channels_last, in which convolutions are fastest on most processors.
    """
    mean = torch.tensor(MEAN, device=images.device).view(1, 3, 1, 1) * 255
    scale = 1 / (torch.tensor(STD, device=images.device).view(1, 3, 1, 1) * 255)
    floats = images.to(torch.float32, memory_format=torch.channels_last)
    return floats.sub_(mean).mul_(scale)


def denormalise(pixels: Tensor) -> Tensor:
    """Undo `normalise`: float (N, 3, H, W) back to uint8."""
    mean = torch.tensor(MEAN, device=pixels.device).view(1, 3, 1, 1) * 255
    scale = torch.tensor(STD, device=pixels.device).view(1, 3, 1, 1) * 255
    return (pixels * scale + mean).round().clamp(0, 255).to(torch.uint8)
