"""What the assignment hands out: a small classroom of drawn images, a network, a training budget.

The drawn set has a rare gift: we know the exact probability of each class for every image. So the
classroom's teacher is perfect. Its labels are not: in a share of them, somebody was careless. That
is the setting in which a student has most to gain from a teacher, and the margin is wide enough
that a mark does not hang on luck.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from kdutils.data import MEAN, STD
from kdutils.sources import shapes
from kdutils.views import denormalise, normalise

if TYPE_CHECKING:
    from matplotlib.figure import Figure

IMAGES = 1_500  # training images in a classroom
TEST_IMAGES = 1_000
WRONG_LABELS = 0.3  # share of labels that are drawn by lot
EPOCHS = 6  # the budget, in passes over the training images
LEAST_PROBABILITY = 1e-4  # the teacher never rules a class out


class BudgetSpent(RuntimeError):
    """A network was shown more training images than it may see."""


@dataclass(frozen=True)
class Classroom:
    """Training images with careless labels and a good teacher's logits; test images with true labels.

    Attributes:
        images: float32 (N, 3, 32, 32), normalised.
        labels: int64 (N,); about three in ten are drawn by lot.
        teacher_logits: float32 (N, 10), one row per image.
        test_images, test_labels: the same kinds; these labels are right.
        seed: which classroom this is.
    """

    images: Tensor
    labels: Tensor
    teacher_logits: Tensor
    test_images: Tensor
    test_labels: Tensor
    seed: int

    def __repr__(self) -> str:
        return (
            f"Classroom {self.seed}: {len(self.images):,} training images with careless labels, "
            f"{len(self.test_images):,} test images"
        )


def classroom(seed: int = 0, images: int = IMAGES, test_images: int = TEST_IMAGES) -> Classroom:
    """Draw a classroom; the same arguments give the same one, other seeds other images."""
    pixels, true = shapes.generate(images, seed=1_000 + 2 * seed)
    points, _ = shapes.draw_points(images, seed=1_000 + 2 * seed)
    test_pixels, test_labels = shapes.generate(test_images, seed=1_001 + 2 * seed)
    teacher = torch.from_numpy(shapes.posterior(points)).double().clamp(min=LEAST_PROBABILITY).log()
    return Classroom(
        normalise(_images(pixels), MEAN, STD),
        careless(torch.from_numpy(true), WRONG_LABELS, seed),
        teacher.float(),
        normalise(_images(test_pixels), MEAN, STD),
        torch.from_numpy(test_labels),
        seed,
    )


def _images(pixels: np.ndarray) -> Tensor:
    """As a tensor in the layout of `network`, in which it is fastest."""
    return torch.from_numpy(pixels).to(memory_format=torch.channels_last)


def show(room: Classroom, images: int = 8) -> None:
    """Display the first training images, each with its label and what the teacher names first."""
    from kdutils.course.plots import style  # brings seaborn, which only this needs

    style.show(
        picture(room, images),
        f"{images} training images; above each its label, and below that the teacher's first choice.",
    )


def picture(room: Classroom, images: int) -> Figure:
    """The figure that `show` displays."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.5 * images, 2.4), layout="constrained")
    figure.suptitle("Training images: what the label says, and what the teacher says")
    pictures = denormalise(room.images[:images], MEAN, STD).permute(0, 2, 3, 1)
    for number, axes in enumerate(figure.subplots(1, images)):
        label = shapes.CLASSES[room.labels[number]]
        teacher = shapes.CLASSES[room.teacher_logits[number].argmax()]
        axes.imshow(pictures[number])
        axes.axis("off")
        differ = "" if label == teacher else "\n(they differ)"
        axes.set_title(f"{label}\n{teacher}{differ}", fontsize=9)
    return figure


def careless(labels: Tensor, share: float, seed: int) -> Tensor:
    """A copy of int64 labels (N,) in which about `share` (0..1) are drawn by lot from all classes."""
    generator = torch.Generator().manual_seed(seed)
    wrong = torch.rand(len(labels), generator=generator) < share
    lot = torch.randint(0, len(shapes.CLASSES), labels.shape, generator=generator)
    return torch.where(wrong, lot, labels)


def network(seed: int = 0) -> nn.Sequential:
    """A tiny student for 32 x 32 images, 26,154 parameters: it trains in seconds on one core."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers: list[nn.Module] = [nn.AvgPool2d(2)]
        for channels_in, channels_out in ((3, 16), (16, 32), (32, 64)):
            convolution = nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1)
            layers += [convolution, nn.BatchNorm2d(channels_out), nn.ReLU(), nn.MaxPool2d(2)]
        model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 4, len(shapes.CLASSES)))
    return model.to(memory_format=torch.channels_last)


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The fraction of images (N, 3, 32, 32) that `model` names right, in eval mode."""
    was_training = model.training
    model.eval()
    with torch.no_grad():
        right = (model(images).argmax(-1) == labels).double().mean().item()
    model.train(was_training)
    return right


@contextmanager
def budget(model: nn.Module, images: int) -> Iterator[None]:
    """Within the block `model`, in train mode, may see `images` images, each pass counted.

    Raises:
        BudgetSpent: at the batch that goes over it.
    """
    seen = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal seen
        seen += len(inputs[0]) if module.training else 0
        if seen > images:
            raise BudgetSpent(
                f"The budget is spent: in train mode the network may see {images:,} images, "
                "counting every pass over each one."
            )

    hook = model.register_forward_pre_hook(count)
    try:
        yield
    finally:
        hook.remove()
