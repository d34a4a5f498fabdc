"""What the app shows: images, what teacher and student say about them, and what a short run needs.

CIFAR-10 with the shipped weights where a copy is at hand; else the embedded set, `shapes`, with
logits that come with the package (`shapes.npz`). Nothing is downloaded, no teacher is trained. The
logits were made by

    python -m kdutils.course.widgets.demo

which trains a teacher on `shapes` for some minutes; the file says in itself what it holds.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ... import __version__, models, pretrained
from ... import data as data_module
from ...data import ImageData, Split
from ...runtime import files
from ...runtime.settings import settings
from ...soft_targets import SoftTargets, fingerprint
from ...sources import cifar10
from ...train import VIEW_SEED, Recipe, Row, TeacherLogits, evaluate, fit, predict
from ...views import epoch_views
from .. import experiments

FILE = Path(__file__).with_name("shapes.npz")
COMMAND = "python -m kdutils.course.widgets.demo"
SHOWN = 400  # validation images to look at
TRAINED_ON, EPOCHS = 4096, 6  # of a short run on shapes, and the most epochs that logits are for
PHOTOS, PHOTO_EPOCHS = 2048, 4  # of a short run on CIFAR-10; its teacher is asked when first needed
STEP = 1 / 16  # training logits are rounded to this: it halves the file
# Chosen on validation: a short run has few steps, so its batches are half the house recipe's, and
# its peak is a fifth. At the house peak T² makes the early soft gradients too large for 400 steps.
SHORT = Recipe(batch_size=32, learning_rate=0.02)
STUDENTS = (
    "baseline",
    "student",
    "distilled",
)  # shipped weights to compare with, best choice first


class DemoError(ValueError):
    """The shipped logits do not belong to these images, or the file is damaged."""


@dataclass(frozen=True, eq=False)
class Demo:
    """Everything that the interactive figures of the app need."""

    images: Tensor  # uint8 (N, 3, 32, 32), validation images
    labels: Tensor  # int64 (N,)
    teacher_logits: Tensor  # float32 (N, C)
    student_logits: Tensor  # float32 (N, C)
    classes: tuple[str, ...]
    name: str  # of the data, for titles
    note: str  # one sentence: which images, whose logits, and why these
    truth: Tensor | None  # float32 (C, C), known similarity of the classes
    part: ImageData  # for short runs
    soft_targets: TeacherLogits  # for `part.train`
    baselines: dict[int, list[Row]]  # epochs -> recorded rows of labels only on `part`
    most_epochs: int
    recipe: Callable[[int], Recipe] | None = None  # what the baselines were trained by


def demo() -> Demo:
    """CIFAR-10 with the shipped weights where both are at hand, else `shapes`; `.note` says which.

    Raises:
        DataError: `KDUTILS_DATA` names a folder that cannot be read.
        DemoError: the shipped logits do not fit the drawn shapes.
    """
    data, why = _photographs()
    return shapes(why) if data is None else _cifar(data)


def _photographs() -> tuple[ImageData | None, str]:
    """Photographs that the shipped weights were made for; or None, and why not."""
    asked, here = settings().data, settings()
    if asked == "shapes":
        return None, "because KDUTILS_DATA asks for them"
    if asked in ("auto", "cifar10") and cifar10.local(here.cache) is None:
        return None, "because there is no copy of CIFAR-10 here (python -m kdutils data fetches it)"
    data = data_module.load("cifar10" if asked == "auto" else asked)
    if not pretrained.available("teacher", data) or _student_name() is None:
        return None, f"because no weights for {data.name} come with this version"
    return data, ""


def _student_name() -> str | None:
    return next((name for name in STUDENTS if name in pretrained.names()), None)


def _cifar(data: ImageData) -> Demo:
    shown, student = data.val.subset(SHOWN), _student_name()
    assert student is not None
    teacher = pretrained.load("teacher", quiet=True)
    logits = {
        name: _remembered(pretrained.load(name, quiet=True), shown) for name in ("teacher", student)
    }
    part = replace(
        data, train=data.train.subset(PHOTOS), val=data.val.subset(min(1000, len(data.val)))
    )
    return Demo(
        shown.images, shown.labels, logits["teacher"], logits[student], data.classes, data.name,
        f"{data.name}: {SHOWN} validation images, seen by the shipped teacher and "
        f"{student} student.",
        None, part, pretrained.soft_targets(teacher, part), {}, PHOTO_EPOCHS,
        lambda epochs: replace(SHORT, epochs=epochs),
    )  # fmt: skip


def _remembered(model: torch.nn.Module, split: Split) -> Tensor:
    """float32 (N, C): the logits, kept in the cache folder for the next start."""
    key = f"{fingerprint(model)}-{split.fingerprint}"
    file = settings().cache / "app" / f"{key}.npz"
    kept = files.load_arrays(file, key)
    if kept is None:
        kept = {"logits": predict(model, split).numpy()}
        files.save_arrays(file, key, kept)
    return torch.from_numpy(kept["logits"])


# --- the embedded set ---------------------------------------------------------------------------


class ShippedTargets:
    """Soft targets that come with the package, for the first epochs of training on `shapes`."""

    def __init__(self, logits: Tensor, fingerprint: str) -> None:
        self.logits, self.fingerprint = logits, fingerprint  # (epochs, N, C)

    def epoch(self, views: list[int] | None) -> Tensor:
        """float16 (N, C), as `SoftTargets.epoch`.

        Raises:
            DemoError: these views are not among the shipped ones.
        """
        n = self.logits.shape[1]
        for number, logits in enumerate(self.logits):
            if views == epoch_views(n, VIEW_SEED, number):
                return logits
        raise DemoError(f"The shipped soft targets are for the first {len(self.logits)} epochs.")


def shapes(why: str = "") -> Demo:
    """The embedded set with the shipped logits; `why` goes into `.note`."""
    data = data_module.load("shapes")
    shown, part = data.val.subset(SHOWN), replace(data, train=data.train.subset(TRAINED_ON))
    arrays, about = _read(FILE)
    for split, means in ((shown, arrays["shown_means"]), (part.train, arrays["train_means"])):
        _check_same(split, means)
    soft = torch.from_numpy(arrays["soft_targets"].astype(np.float16) * np.float16(STEP))
    taught = about["teacher"]
    return Demo(
        shown.images, shown.labels,
        torch.from_numpy(arrays["teacher"]).float(), torch.from_numpy(arrays["student"]).float(),
        data.classes, data.name,
        f"The drawn shapes that come with the package{why and f', {why}'}. A teacher of "
        f"{100 * taught['val_accuracy']:.1f} % and a student of "
        f"{100 * about['student']['val_accuracy']:.1f} % validation accuracy look at {SHOWN} of "
        "them.",
        data.similarity, part, ShippedTargets(soft, about["fingerprint"]),
        {int(n): rows for n, rows in about["baselines"].items()}, EPOCHS,
        lambda epochs: replace(_recipe(about["recipe"]), epochs=epochs),
    )  # fmt: skip


def _recipe(noted: dict[str, Any]) -> Recipe:
    known = {one.name for one in fields(Recipe)}
    return Recipe(**{key: value for key, value in noted.items() if key in known})


def _read(file: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    try:
        with np.load(file, allow_pickle=False) as kept:
            arrays = {key: kept[key] for key in kept.files}
        return arrays, json.loads(str(arrays.pop("about")))
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise DemoError(
            f"{file.name} is missing or damaged; `{COMMAND}` makes it again."
        ) from error


def _means(split: Split) -> np.ndarray:
    """uint8 (N, 3): mean colour of each image, enough to recognise it by."""
    return split.images.float().mean((2, 3)).round().byte().numpy()


def _check_same(split: Split, means: np.ndarray) -> None:
    """The images that the logits were made for? Two grey levels allow for rounding elsewhere."""
    found = _means(split).astype(int)
    if found.shape != means.shape or np.abs(found - means).max() > 2:
        raise DemoError(
            f"{FILE.name} was made for other shapes than this version draws; `{COMMAND}` makes it "
            "again."
        )


def make(file: Path = FILE, teacher_epochs: int = 6, student_epochs: int = 6) -> dict[str, Any]:
    """Train a teacher and students on `shapes`, write `file`; gives what was noted in it.

    Some minutes on two cores. Networks are kept under the results folder, so a second call is
    quick.
    """
    data = data_module.load("shapes")
    teacher = pretrained.train_or_load(
        "demo-teacher", models.build("teacher"), data,
        experiments.recipe("teacher", data, teacher_epochs),
    ).model  # fmt: skip
    plan = experiments.recipe("student", data, student_epochs)
    student = pretrained.train_or_load("demo-student", models.build("student"), data, plan).model
    shown, part = data.val.subset(SHOWN), replace(data, train=data.train.subset(TRAINED_ON))
    arrays = {
        "teacher": predict(teacher, shown).half().numpy(),
        "student": predict(student, shown).half().numpy(),
        "soft_targets": _soft_targets(teacher, part.train),
        "shown_means": _means(shown),
        "train_means": _means(part.train),
    }
    about = {
        "what": "logits of a teacher and a student on shapes, for the app",
        "made_by": COMMAND,
        "date": date.today().isoformat(),
        "kdutils": __version__,
        "torch": torch.__version__,
        "data": data.fingerprint,
        "fingerprint": f"{fingerprint(teacher)}-{part.train.fingerprint}-rounded",
        "teacher": _facts(teacher, teacher_epochs, data),
        "student": _facts(student, student_epochs, data),
        "baselines": {n: _baseline(part, n) for n in range(1, EPOCHS + 1)},
        "recipe": asdict(SHORT),
    }
    with open(file, "wb") as out:
        np.savez_compressed(out, about=np.array(json.dumps(about)), **arrays)
    return about


def _soft_targets(teacher: torch.nn.Module, split: Split) -> np.ndarray:
    """int16 (epochs, N, C): logits in steps of `STEP`, for the views of each epoch."""
    asked = SoftTargets(teacher, split)
    rows = [
        asked.epoch(epoch_views(len(split), VIEW_SEED, epoch)).float() for epoch in range(EPOCHS)
    ]
    return (torch.stack(rows) / STEP).round().clamp(-2047, 2047).short().numpy()


def _facts(model: torch.nn.Module, epochs: int, data: ImageData) -> dict[str, Any]:
    accuracy = evaluate(model, data.val).accuracy
    return {
        "epochs": epochs,
        "parameters": models.count_parameters(model),
        "val_accuracy": round(accuracy, 4),
    }


def _baseline(part: ImageData, epochs: int) -> list[Row]:
    """The rows of a student trained on labels only, seed 0, by the recipe `SHORT`."""
    rows = fit(
        models.build("student", 0, len(part.classes)),
        part,
        replace(SHORT, epochs=epochs),
        progress=False,
    ).rows
    return [{key: round(value, 4) for key, value in row.items()} for row in rows]


if __name__ == "__main__":
    noted = make()
    print(json.dumps({k: v for k, v in noted.items() if k != "baselines"}, indent=2))
    print(f"{FILE.name}: {FILE.stat().st_size / 1000:.0f} kB")
