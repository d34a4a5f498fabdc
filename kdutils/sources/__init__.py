"""Where images come from: CIFAR-10, a folder, drawn shapes; `read` finds the one that is meant."""

from __future__ import annotations

import difflib
import hashlib
import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..runtime.files import DataError, load_arrays, save_arrays
from .pixels import Pixels

NAMES = ("auto", "cifar10", "folder", "shapes")
SHAPES_TRAIN, SHAPES_VAL, SHAPES_TEST = 10_000, 2_000, 4_000

# Why "auto" fell back to shapes in this process. Asking the network anew at every call would cost
# seconds each time, and might switch the data in the middle of a notebook.
_fell_back: dict[Path, str] = {}


def read(asked: str, cache: Path) -> Pixels:
    """The images that `asked` names: "auto", "cifar10", "shapes" or the path of a folder.

    Raises:
        DataError: unknown name, data that is missing, damaged or unusable.
    """
    from . import cifar10, folder

    word = asked.strip().lower()
    if word == "auto":
        return _auto(cache)
    if word == "cifar10":
        pixels = cifar10.local(cache)
        return cifar10.read(cifar10.download(cache)) if pixels is None else pixels
    if word == "shapes":
        return _shapes(cache)
    if word == "folder":
        raise DataError(
            "'folder' needs to know which folder: set KDUTILS_DATA=/path/to/folder, or call "
            "load('/path/to/folder')."
        )
    path = Path(os.path.expanduser(asked))  # Path's own fails where there is no such user
    if path.is_dir() or path.is_file() or any(mark in asked for mark in ("/", os.sep, "~")):
        return folder.read(path, cache)
    close = difflib.get_close_matches(word.replace("-", ""), NAMES, n=1, cutoff=0.5)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise DataError(
        f"There is no data set named {asked!r}; take one of cifar10, shapes, auto, or the path of "
        f"a folder of images.{hint}"
    )


def _auto(cache: Path) -> Pixels:
    from . import cifar10

    pixels = cifar10.local(cache)
    if pixels is None and cache not in _fell_back:
        try:
            pixels = cifar10.read(cifar10.download(cache, hurry=True))
        except DataError as error:
            _fell_back[cache] = str(error).rstrip(".")
    if pixels is not None:
        return pixels
    notice = (
        "These are drawn shapes, not CIFAR-10: there is no good copy of it here, and "
        f"{_fell_back[cache]}. Run `python -m kdutils data` to fetch it at any speed (170 MB), "
        "then start this notebook again."
    )
    return replace(_shapes(cache), notice=notice)


def _shapes(cache: Path) -> Pixels:
    """The drawn set. Drawing takes some seconds, so the arrays are kept, named by the code."""
    from . import shapes

    made_by = hashlib.sha256(Path(shapes.__file__).read_bytes())
    made_by.update(repr((np.__version__, SHAPES_TRAIN, SHAPES_VAL, SHAPES_TEST)).encode())
    file = cache / "shapes.npz"
    arrays = load_arrays(file, made_by.hexdigest())
    if arrays is None:
        arrays = {}
        for part, n, seed in (("train", SHAPES_TRAIN + SHAPES_VAL, 0), ("test", SHAPES_TEST, 1)):
            arrays[f"{part}_images"], arrays[f"{part}_labels"] = shapes.generate(n, seed)
        save_arrays(file, made_by.hexdigest(), arrays)
    return Pixels(
        **arrays,
        classes=tuple(shapes.CLASSES),
        name="shapes",
        val_size=SHAPES_VAL,
        similarity=np.asarray(shapes.SIMILARITY, dtype=np.float32),
        is_synthetic=True,
    )
