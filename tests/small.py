"""A tiny data set and network for tests: ten colours, learnable in a second."""

from __future__ import annotations

import torch
from torch import nn

from kdutils.data import ImageData, Split


def split(n: int, seed: int) -> Split:
    """`n` noisy images; a class is a brightness pattern of the three channels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 10
    colours = torch.randint(40, 216, (10, 3), generator=torch.Generator().manual_seed(1234))
    noise = torch.randint(-40, 40, (n, 3, 32, 32), generator=generator)
    return Split((colours[labels][:, :, None, None] + noise).to(torch.uint8), labels)


def tiny_data(n: int = 600, seed: int = 0) -> ImageData:
    names = tuple("abcdefghij")
    return ImageData(split(n, seed), split(100, seed + 1), split(100, seed + 2), names, "colours")


class TinyNet(nn.Sequential):
    """32 x 32 images averaged to 4 x 4, one hidden layer: an epoch takes milliseconds."""

    def __init__(self, seed: int = 0) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            super().__init__(
                nn.AvgPool2d(8), nn.Flatten(), nn.Linear(48, 16), nn.BatchNorm1d(16), nn.ReLU(),
                nn.Dropout(0.1), nn.Linear(16, 10),
            )  # fmt: skip


class Viewing(nn.Module):
    """Flattens with `view`, which channels_last pixels do not allow."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3, 4, 1), nn.Linear(4 * 64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        return self.fc(x.view(x.size(0), -1))
