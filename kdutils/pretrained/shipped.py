"""The weights that come with the package, and the measured results beside them.

    teacher = kdutils.load("teacher")       # in eval mode; prints where it comes from
    teacher.metadata["test_accuracy"]       # percent, and how it was trained

They are stored as safetensors in `kdutils/pretrained/`: matrices and filters as float16, the few
numbers of batch norm and the biases as float32. All were trained on CIFAR-10's training images
without the 5,000 of validation (`kdutils.data` cuts the same ones from every copy of CIFAR-10).
"""

from __future__ import annotations

import copy
import difflib
import json
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..train import History, Recipe, evaluate
from . import artifacts
from .artifacts import ArtifactError, Trained

if TYPE_CHECKING:
    from ..data import ImageData

FOLDER = Path(__file__).resolve().parent
RESULTS = "results.json"
FAMILY = "CIFAR-10"  # display names of every copy start with it
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def names() -> tuple[str, ...]:
    """The names that `load` knows: those of the files in `kdutils/pretrained/`."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.safetensors")))


def path(name: str) -> Path:
    """Where the weights of `name` lie.

    Raises:
        ArtifactError: no weights of this name are shipped.
    """
    found = FOLDER / f"{name}.safetensors"
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
    model = artifacts.load_model(path(name))
    if not quiet:
        print(origin(name, model.metadata))
    return model


def origin(name: str, facts: dict[str, Any]) -> str:
    """One sentence on where shipped weights come from."""
    taught = f", taught by the {facts['taught_by']}" if facts.get("taught_by") else ""
    return (
        f"{name}: shipped weights, {facts['epochs']} epochs on {facts['data_name']}{taught}, "
        f"seed {facts['seed']}; test accuracy {facts['test_accuracy']:.2f} % "
        f"({facts['date']}, kdutils {facts['version']})"
    )


def fits(data: ImageData) -> bool:
    """Whether shipped weights were made for images like these: CIFAR-10, in whatever copy."""
    return tuple(data.classes) == CLASSES and data.name.startswith(FAMILY)


def available(name: str, data: ImageData) -> bool:
    """Whether `name` is shipped and made for images like `data`."""
    return fits(data) and name in names()


def trained(name: str) -> Trained:
    """Shipped weights with the history of their training, as `artifacts.train_or_load` gives it."""
    model = load(name, quiet=True)
    facts = model.metadata
    return Trained(model, History(list(facts["rows"])), loaded=True, origin=origin(name, facts))


def ship(name: str, run: Trained, data: ImageData, recipe: Recipe, **facts: Any) -> dict[str, Any]:
    """Put a trained network among the shipped weights; gives what was noted beside it.

    Test accuracy is measured here, once, on the weights as they are stored.

    Args:
        name: what `load` will know it by.
        run: network and history.
        data: what it was trained on.
        recipe: how it was trained.
        facts: more to note; `seed`, and `taught_by` for a student.
    """
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
    FOLDER.mkdir(exist_ok=True)
    artifacts.save_model(model, FOLDER / f"{name}.safetensors", noted, half=True)
    return noted


def rounded(model: nn.Module) -> nn.Module:
    """A copy in eval mode with the weights as they come back from the file."""
    model = copy.deepcopy(model).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.copy_(artifacts.halved(value))
    return model


def results() -> list[dict[str, Any]]:
    """The records of `kdutils/pretrained/results.json`: what was measured, and on what.

    Raises:
        ArtifactError: the file is missing or damaged.
    """
    try:
        return json.loads((FOLDER / RESULTS).read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError) as error:
        raise ArtifactError(
            f"{RESULTS} is missing or damaged; `python -m kdutils numbers` makes it."
        ) from error


def record(arm: str) -> dict[str, Any]:
    """The record of `results` with the most epochs of an arm, for example "distilled".

    Raises:
        ArtifactError: nothing was measured under this name.
    """
    found = [one for one in results() if one["arm"] == arm]
    if not found:
        known = ", ".join(dict.fromkeys(one["arm"] for one in results()))
        raise ArtifactError(f"{RESULTS} has no arm {arm!r}; it has {known or 'none'}.")
    return max(found, key=lambda one: one["epochs"])
