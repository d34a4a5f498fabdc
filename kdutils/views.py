"""Views: the finite set of augmented versions of an image, and the schedule that deals them out.

A *view* is a shift of up to two pixels each way (the border reflects) with or without a flip:
25 x 2 = 50 views. Because there are only 50, a teacher's answer to every view of every image
can be kept, and a cached answer belongs to exactly the pixels that the student sees.

The training set is cut into fixed blocks of 1,024 images. In epoch `e` every image of block `k`
takes view `order(seed, k)[e mod 50]`, where `order` is a permutation. So each image meets every
view once before it meets one twice, and a mini-batch, drawn across blocks, mixes many views.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

SHIFT = 2
SIDE = 2 * SHIFT + 1
N_VIEWS = 2 * SIDE * SIDE
IDENTITY_VIEW = 2 * (SIDE * SHIFT + SHIFT)
BLOCK = 1024


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


def _reflected(length: int, shift: int) -> Tensor:
    """Which source line each target line shows after a shift, with reflection at the border."""
    period = max(1, 2 * (length - 1))  # reflected again and again, for images of one or two pixels
    index = (torch.arange(length) - shift) % period
    return torch.where(index >= length, period - index, index)


@lru_cache(maxsize=256)
def _source_pixels(height: int, width: int, view: int) -> Tensor:
    """int64 (H * W,): which source pixel each target pixel shows, both counted row by row."""
    down, right, flipped = decode_view(view)
    columns = _reflected(width, right)
    columns = columns.flip(0) if flipped else columns
    return (_reflected(height, down)[:, None] * width + columns).flatten()


def apply_view(images: Tensor, view: int) -> Tensor:
    """The images as `view` shows them.

    Args:
        images: (N, C, H, W), any dtype; one image (C, H, W) works too.
        view: 0..49, see `decode_view`.

    Returns:
        A new tensor, same shape, dtype and memory layout.
    """
    source = _source_pixels(*images.shape[-2:], view).to(images.device)
    # One look-up for all pixels: 20 times as fast as one for rows and one for columns.
    if images.ndim == 4 and images.is_contiguous(memory_format=torch.channels_last):
        shown = images.permute(0, 2, 3, 1).flatten(1, 2).index_select(1, source)
        return shown.unflatten(1, images.shape[-2:]).permute(0, 3, 1, 2)
    shown = images.flatten(-2).gather(-1, source.expand(*images.shape[:-2], -1))
    return shown.unflatten(-1, images.shape[-2:])


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
        images: uint8 (N, C, H, W); the result keeps their memory layout.
        views: one view per block from `epoch_views`; None shows every image unchanged.

    Returns:
        uint8 (N, C, H, W).
    """
    if views is None:
        return images
    out = torch.empty_like(images)
    for part, view in zip(block_slices(len(images)), views, strict=True):
        out[part] = apply_view(images[part], view)
    return out


@lru_cache(maxsize=2)
def _all_sources(height: int, width: int) -> Tensor:
    """int64 (50, H * W): `_source_pixels` of every view."""
    return torch.stack([_source_pixels(height, width, view) for view in range(N_VIEWS)])


def batch_images(images: Tensor, index: Tensor, views: list[int] | None) -> Tensor:
    """`epoch_images(images, views)[index]`, without making a copy of all the others.

    Args:
        images: (N, C, H, W).
        index: int64 (n,), which of them; on the same device.

    Returns:
        (n, C, H, W), in the memory layout of `images`.
    """
    if views is None:
        return take(images, index)
    height, width = images.shape[-2:]
    numbers = torch.tensor(views, device=index.device)[index // BLOCK]
    source = _all_sources(height, width).to(index.device)[numbers]  # (n, H * W)
    if images.is_contiguous(memory_format=torch.channels_last):
        rows = (index[:, None] * (height * width) + source).flatten()
        shown = images.permute(0, 2, 3, 1).flatten(0, 2).index_select(0, rows)
        return shown.view(len(index), height, width, -1).permute(0, 3, 1, 2)
    shown = images.index_select(0, index).flatten(2)
    shown = shown.gather(2, source[:, None].expand(-1, shown.shape[1], -1))
    return shown.unflatten(2, (height, width))


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


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """uint8 (N, C, H, W) in 0..255 to float32 with about zero mean and unit variance.

    Args:
        mean, std: one number a channel, on the scale 0..1, as a `Split` carries them.

    Returns:
        A new tensor in the memory layout of `images`: channels_last pixels, in which convolutions
        are fastest on most processors, stay channels_last.
    """
    shift, scale = _per_channel(mean, images), _per_channel(std, images)
    return images.to(torch.float32, copy=True).sub_(shift).mul_(1 / scale)


def denormalise(pixels: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Undo `normalise`: float (N, C, H, W) back to uint8."""
    scaled = pixels * _per_channel(std, pixels) + _per_channel(mean, pixels)
    return scaled.round().clamp(0, 255).to(torch.uint8)


def _per_channel(values: Sequence[float], images: Tensor) -> Tensor:
    """Numbers on the scale 0..1 as float32 (1, C, 1, 1) on the scale of the pixels, 0..255."""
    if len(values) != images.shape[-3]:
        raise ValueError(
            f"{len(values)} mean or std values were given for images of {images.shape[-3]} "
            "channels; give one for each channel."
        )
    return torch.tensor(values, device=images.device).view(1, -1, 1, 1) * 255
