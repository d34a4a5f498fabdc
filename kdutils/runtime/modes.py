"""Ask a network something without leaving a trace, where it is and as it lies in memory."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from .settings import settings


@contextlib.contextmanager
def restored_modes(*models: nn.Module) -> Iterator[None]:
    """Afterwards, exceptions included, every module is in the mode it was in.

    `model.train(was_training)` would not do: it wakes a batch norm that somebody froze.
    """
    modes = [
        (module, module.training)
        for model in models
        for module in model.modules()
        if hasattr(module, "training")  # a frozen TorchScript module has no mode
    ]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextlib.contextmanager
def eval_mode(*models: nn.Module) -> Iterator[None]:
    """The models in eval mode, then every module back in its own mode."""
    with restored_modes(*models):
        for model in models:
            if hasattr(model, "training"):
                model.eval()
        yield


def device_of(model: nn.Module) -> torch.device:
    """Where the network is, by its first weight or buffer; the CPU when it has neither."""
    for tensor in itertools.chain(model.parameters(), model.buffers()):
        return tensor.device
    return torch.device("cpu")


def layout_of(model: nn.Module) -> torch.memory_format:
    """The memory layout of images that suits the network: that of its filters.

    Networks of `models.build` come in channels_last, which is fastest on most processors. A foreign
    one may rely on rows one after another (`x.view(len(x), -1)`), so it gets what it came with.
    """
    for weight in model.parameters():
        if weight.ndim == 4 and not weight.is_contiguous():
            if weight.is_contiguous(memory_format=torch.channels_last):
                return torch.channels_last
    return torch.contiguous_format


def best_device(model: nn.Module) -> torch.device:
    """Where the network is trained when nobody says: where it is, but rather on a GPU than not."""
    here = device_of(model)
    return torch.device(settings().device) if here.type == "cpu" else here


def as_input(model: nn.Module, pixels: Tensor) -> Tensor:
    """float (N, C, H, W) as the network wants them: its layout, its precision (double, half)."""
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), pixels.dtype)
    return pixels.to(dtype, memory_format=layout_of(model))


def answer(model: nn.Module, pixels: Tensor) -> Tensor:
    """float32 (N, C): what the network says about `pixels`, in the mode it is in.

    Raises:
        ValueError: it returns something else than a tensor of logits (N, C).
    """
    logits = model(pixels)
    if isinstance(logits, Tensor) and logits.ndim == 2 and len(logits) == len(pixels):
        return logits.float()
    found = f"a {type(logits).__name__}"
    if isinstance(logits, Tensor):
        found = f"a tensor of shape {tuple(logits.shape)}"
    raise ValueError(
        f"{type(model).__name__} returns {found} for a batch of {len(pixels)} images; it must "
        "return logits (N, classes): wrap it in a module whose forward returns these alone."
    )
