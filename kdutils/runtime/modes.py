"""Ask a network something without leaving a trace: every module's own mode is put back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import nn


@contextlib.contextmanager
def restored_modes(*models: nn.Module) -> Iterator[None]:
    """Afterwards, exceptions included, every module is in the mode it was in.

    `model.train(was_training)` would not do: it wakes a batch norm that somebody froze.
    """
    modes = [(module, module.training) for model in models for module in model.modules()]
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
            model.eval()
        yield
