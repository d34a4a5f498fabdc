"""The weights that come with the package.

    teacher = kdutils.load("teacher")       # in eval mode; prints where it comes from
    teacher.metadata["test_accuracy"]       # percent, and how it was trained

They are stored as safetensors in `kdutils/pretrained/`: matrices and filters as float16, the few
numbers of batch norm and the biases as float32. All were trained on CIFAR-10's training images
without the 5,000 of validation (`kdutils.data` cuts the same ones from every copy of CIFAR-10).
"""

from __future__ import annotations

import copy
import difflib
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..train import History, Recipe, evaluate
from . import records
from .runs import Trained
from .weights import ArtifactError, halved, load_model, save_model

if TYPE_CHECKING:
    from ..data import ImageData

FAMILY = "CIFAR-10"  # display names of every copy start with it
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def names() -> tuple[str, ...]:
    """The names that `load` knows: those of the files in `kdutils/pretrained/`."""
    return tuple(sorted(path.stem for path in records.FOLDER.glob("*.safetensors")))


def path(name: str) -> Path:
    """Where the weights of `name` lie.

    Raises:
        ArtifactError: no weights of this name come with the package.
    """
    found = records.FOLDER / f"{name}.safetensors"
    if not found.is_file():
        near = difflib.get_close_matches(name, names(), n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ArtifactError(
            f"No weights named {name!r} come with kdutils; there are {', '.join(names()) or 'none'}."
            f"{hint}"
        )
    return found


def load(name: str = "teacher", quiet: bool = False) -> nn.Module:
    """A network with the weights that come with the package, in eval mode, on the CPU.

    Args:
        name: one of `names()`, for example "teacher".
        quiet: True: do not print where the weights come from.

    Returns:
        The network, float32. `.metadata` holds the facts: network, data, seed, epochs,
        test accuracy in percent, date, package version, training history.

    Raises:
        ArtifactError: no such weights, or the file is damaged.
    """
    model = load_model(path(name))
    if not quiet:
        print(_origin(name, model.metadata))
    return model


def _origin(name: str, facts: dict[str, Any]) -> str:
    """One sentence on where the weights come from."""
    taught = f", taught by the {facts['taught_by']}" if facts.get("taught_by") else ""
    return (
        f"{name}: shipped weights, {facts['epochs']} epochs on {facts['data_name']}{taught}, "
        f"seed {facts['seed']}; test accuracy {facts['test_accuracy']:.2f} % "
        f"({facts['date']}, kdutils {facts['version']})"
    )


def fits(data: ImageData) -> bool:
    """Whether the weights were made for images like these: CIFAR-10, in whatever copy."""
    return tuple(data.classes) == CLASSES and data.name.startswith(FAMILY)


def available(name: str, data: ImageData) -> bool:
    """Whether weights of this name come with the package, made for images like `data`."""
    return fits(data) and name in names()


def trained(name: str) -> Trained:
    """The weights with the history of their training, as `train_or_load` gives it."""
    model = load(name, quiet=True)
    facts = model.metadata
    return Trained(model, History(list(facts["rows"])), loaded=True, origin=_origin(name, facts))


def ship(name: str, run: Trained, data: ImageData, recipe: Recipe, **facts: Any) -> dict[str, Any]:
    """Put a trained network among the weights of the package; returns what was noted beside it.

    Test accuracy is measured here, once, on the weights as they are stored.

    Args:
        name: what `load` will know it by.
        run: network and history.
        data: what it was trained on.
        recipe: how it was trained.
        facts: more to note; `seed`, and `taught_by` for a student.

    Raises:
        ArtifactError: `data` is not CIFAR-10.
    """
    if not fits(data):
        raise ArtifactError(
            f"The weights of the package are for {FAMILY}, not for {data.name}; keep yours with "
            "pretrained.save_model."
        )
    model = rounded(run.model)
    noted = {
        "data_name": data.name,
        "data": data.fingerprint,
        "epochs": len(run.history.rows),
        "recipe": asdict(recipe),
        "rows": run.history.rows,
        "test_accuracy": round(100 * evaluate(model, data.test).accuracy, 2),
        "date": date.today().isoformat(),
        **facts,
    }
    save_model(model, records.FOLDER / f"{name}.safetensors", noted, half=True)
    return noted


def rounded(model: nn.Module) -> nn.Module:
    """A copy in eval mode with the weights as they come back from the file."""
    model = copy.deepcopy(model).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.copy_(halved(value))
    return model
