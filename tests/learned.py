"""A tiny data set and a teacher that has learned it, for tests that look at its answers."""

from __future__ import annotations

from functools import cache

import torch
from small import TinyNet, tiny_data
from torch import Tensor, nn

from kdutils.data import ImageData
from kdutils.train import Recipe, fit


class Sharp(nn.Module):
    """A network that also looks where things are, so that a shift changes what it says."""

    def __init__(self, known: nn.Module) -> None:
        super().__init__()
        self.known = known
        self.place = nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(768, 10))
        generator = torch.Generator().manual_seed(5)
        self.place[2].weight.data.normal_(0, 0.1, generator=generator)

    def forward(self, images: Tensor) -> Tensor:
        return self.known(images) + self.place(images)


@cache
def setting() -> tuple[ImageData, nn.Module]:
    """Data and a teacher that has learned it: its answers differ from image to image."""
    data, teacher = tiny_data(600), TinyNet(1)
    fit(teacher, data, Recipe(epochs=6, batch_size=32, learning_rate=0.1), progress=False)
    return data, Sharp(teacher).eval()
