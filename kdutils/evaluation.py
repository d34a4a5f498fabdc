"""Ask a network about a whole split: logits, and what they are worth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .metrics import Metrics, summarise
from .runtime.modes import answer, as_input, device_of, eval_mode
from .views import normalise

if TYPE_CHECKING:
    from .batches import LoaderSplit
    from .data import Split


def predict(model: nn.Module, split: Split | LoaderSplit, batch_size: int = 500) -> Tensor:
    """float32 (N, C): logits for every image of `split`, unaugmented, in eval mode, on the CPU."""
    return _predict(model, split, batch_size)[0]


def evaluate(model: nn.Module, split: Split | LoaderSplit) -> Metrics:
    """Accuracy, NLL and ECE of `model` on `split`; every module is left in the mode it was in.

    Raises:
        ValueError: the logits are not numbers.
    """
    logits, labels = _predict(model, split)
    broken = int(logits.isnan().any(1).sum())
    if broken:
        raise ValueError(
            f"{type(model).__name__} gives NaN for {broken:,} of {len(logits):,} images, so it has "
            "no accuracy; train it again, with a lower learning rate."
        )
    return summarise(logits, labels)


def score(model: nn.Module, split: Split | LoaderSplit) -> tuple[float, float]:
    """Accuracy (fraction) and NLL (nats) of `model` on `split`, as `evaluate` gives them.

    Apart from `evaluate`, because its calibration error needs torchmetrics: seconds to import.
    """
    logits, labels = _predict(model, split)
    accuracy = (logits.argmax(-1) == labels).float().mean().item()
    return accuracy, F.cross_entropy(logits, labels).item()


def _predict(
    model: nn.Module, split: Split | LoaderSplit, batch_size: int = 500
) -> tuple[Tensor, Tensor]:
    """The logits, and the labels in the same order."""
    device, logits, labels = device_of(model), [], []
    with eval_mode(model), torch.inference_mode():
        if hasattr(split, "batches"):
            for pixels, right in split.batches():
                logits.append(answer(model, as_input(model, pixels.to(device))).cpu())
                labels.append(right.cpu())
            return torch.cat(logits).clone(), torch.cat(labels).clone()
        for images in split.images.split(batch_size):
            pixels = normalise(images.to(device), split.mean, split.std)
            logits.append(answer(model, as_input(model, pixels)).cpu())
    return torch.cat(logits).clone(), split.labels.cpu()
