"""Trained once, then loaded: a network is found again by *what it is*, never by its file name.

What it is: network, first weights, recipe, loss, seed, data, teacher. Change any of these and it
is trained anew. Everything lies under `settings().results`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from torch import nn

from .. import soft_targets as soft_targets_module
from ..losses import LabelLoss, Loss
from ..runtime.settings import settings
from ..train import History, Recipe, Row, TeacherLogits, fit, identity
from .weights import load_model, save_model

if TYPE_CHECKING:
    from ..data import ImageData


@dataclass(frozen=True)
class Trained:
    """A trained network and how it came to be."""

    model: nn.Module
    history: History
    loaded: bool  # True: it was found on disk
    origin: str = ""  # of weights that come with the package: one sentence on where from

    @property
    def seconds(self) -> float:
        """Training time, also when it was loaded: as recorded then."""
        return self.history.last["seconds"]

    def __str__(self) -> str:
        return self.origin or f"{'loaded' if self.loaded else 'trained'}: {self.history}"


def train_or_load(
    name: str,
    model: nn.Module,
    data: ImageData,
    recipe: Recipe,
    *,
    loss: Loss | None = None,
    soft_targets: TeacherLogits | None = None,
    teacher: nn.Module | None = None,
    seed: int = 0,
    progress: bool = True,
    on_epoch: Callable[[Row], bool | None] | None = None,
) -> Trained:
    """What this training makes of `model`: from disk if it was done before, else trained now.

    A training that was cut off continues from its last finished epoch. `model` itself receives
    the weights, either way.

    Args:
        name: what to call it, for example "baseline"; used in the file name and progress bar.
        model: any classifier, freshly built; its first weights are part of what the run is.
        data, recipe, loss, soft_targets, teacher, seed: as for `train.fit`.

    Returns:
        The network in eval mode, with its history.

    Raises:
        KeyboardInterrupt: Ctrl-C; the last finished epoch is kept, nothing is recorded.
    """
    loss = loss or LabelLoss()
    facts = identity(model, data, recipe, loss, soft_targets, seed, teacher)
    facts["start"] = soft_targets_module.fingerprint(model)
    if isinstance(loss, nn.Module):  # a method with adapters: their first weights count as well
        facts["start of the loss"] = soft_targets_module.fingerprint(loss)
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
    path = settings().results / "models" / f"{name}-seed{seed}-{key}.safetensors"
    if path.exists():
        load_model(path, model, data)
        return Trained(model, History(model.metadata["rows"]), loaded=True)
    checkpoint = path.with_suffix(".ckpt")
    history = fit(
        model, data, recipe, loss=loss, soft_targets=soft_targets, teacher=teacher, seed=seed,
        checkpoint=checkpoint, progress=progress, on_epoch=on_epoch, label=f"{name}, seed {seed}",
    )  # fmt: skip
    if len(history.rows) == recipe.epochs:
        facts |= {"data_name": data.name, "rows": history.rows, "epochs": recipe.epochs,
                  "date": date.today().isoformat()}  # fmt: skip
        del facts["network"]  # `save_model` notes its name
        save_model(model, path, facts)
        checkpoint.unlink(missing_ok=True)
    return Trained(model.eval(), history, loaded=False)


def soft_targets(teacher: nn.Module, data: ImageData) -> soft_targets_module.SoftTargets:
    """`SoftTargets` for `data.train`, kept under the results folder."""
    folder = settings().results / "soft_targets"
    return soft_targets_module.SoftTargets(teacher, data.train, folder)
