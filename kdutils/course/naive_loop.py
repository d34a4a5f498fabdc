"""The textbook way to feed a network: one PIL image at a time through torchvision's transforms.

Nothing in the series trains with this. It is the yardstick for the batched views of `kdutils.views`
and for the training loop: notebook 01 and the benchmark measure both side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ..data import MEAN, STD, Split
from ..losses import Distillation, LabelLoss

PADDING = 4  # pixels of black border before the random crop, as in most CIFAR-10 recipes


class TextbookDataset(Dataset[tuple[Tensor, int]]):
    """A split as `torchvision.datasets.CIFAR10` would give it: image by image, as a PIL picture.

    The pixels lie in memory, decoded: what is measured is the transforms and the calls. `split` has
    uint8 images (N, 3, 32, 32) and int64 labels (N,), on the CPU.
    """

    def __init__(self, split: Split, transform: Callable[..., Tensor] | None = None) -> None:
        self.pixels = split.images.permute(0, 2, 3, 1).contiguous().numpy()  # (N, 32, 32, 3)
        self.labels = split.labels.tolist()
        self.transform = transform or textbook_transform(mean=split.mean, std=split.std)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """float32 (3, 32, 32), normalised, and its label."""
        from PIL import Image

        return self.transform(Image.fromarray(self.pixels[index])), self.labels[index]


def textbook_transform(
    augment: bool = True, mean: tuple[float, ...] = MEAN, std: tuple[float, ...] = STD
) -> Callable[..., Tensor]:
    """The usual CIFAR-10 recipe, from a PIL image to float32 (3, 32, 32), normalised as
    `views.normalise` does it; `augment=False` leaves crop and flip out."""
    from torchvision import transforms

    random = [transforms.RandomCrop(32, padding=PADDING), transforms.RandomHorizontalFlip()]
    always = [transforms.ToTensor(), transforms.Normalize(mean, std)]
    return transforms.Compose([*(random if augment else []), *always])


def textbook_loader(
    split: Split, batch_size: int = 128, *, augment: bool = True, seed: int = 0, workers: int = 0
) -> DataLoader[tuple[Tensor, Tensor]]:
    """Shuffled batches: float32 (batch_size, 3, 32, 32) and int64 (batch_size,).

    Args:
        split: the images.
        batch_size: images in a batch; the few left over wait for the next epoch.
        seed: decides the order. Crops and flips follow torch's global random state.
        workers: processes that prepare batches; 0 in notebooks, where they hang on some systems.

    Raises:
        ValueError: a batch is larger than the split, so that there would be none.
    """
    if not 1 <= batch_size <= len(split):
        raise ValueError(
            f"A batch of {batch_size} cannot be cut from {len(split)} images; "
            f"choose a batch size from 1 to {len(split)}."
        )
    return DataLoader(
        TextbookDataset(split, textbook_transform(augment, split.mean, split.std)),
        batch_size=batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        generator=torch.Generator().manual_seed(seed),
    )


def train_steps(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterator[tuple[Tensor, Tensor]],
    steps: int,
    teacher: nn.Module | None = None,
) -> float:
    """The usual loop, float32, image layout as it comes; returns the mean loss.

    `model` is in training mode and where it trains, `batches` are as `textbook_loader` gives them;
    a teacher is asked anew for every batch under `no_grad`.
    """
    loss_function = LabelLoss() if teacher is None else Distillation()
    device, total = next(model.parameters()).device, 0.0
    for _ in range(steps):
        images, labels = next(batches)
        images, labels = images.to(device), labels.to(device)
        taught = None
        if teacher is not None:
            with torch.no_grad():
                taught = teacher(images)
        optimizer.zero_grad()
        loss = loss_function(model(images), taught, labels)
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total / max(1, steps)
