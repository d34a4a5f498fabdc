"""A folder of class folders, read as torchvision's `ImageFolder` reads it, decoded once.

    my_images/
        dataset.json            optional: {"name": "My images", "classes": ["cat", "dog"]}
        train/cat/anything.png
        train/dog/...
        test/cat/...

Decoding 60,000 files takes most of a minute, reading 60,000 decoded images under a second. So the
pixels are kept in the cache folder, beside a fingerprint of the files: every name, size and time
of change. Any change to any file gives another fingerprint, and the images are decoded again.
"""

from __future__ import annotations

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from ..runtime.errors import DataError
from ..runtime.store import load_arrays, save_arrays

SIDE = 32
# The endings that torchvision's ImageFolder takes (a test holds the two lists together).
IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "F"})
CLUTTER = frozenset({"thumbs.db", "desktop.ini"})  # what file managers leave behind
CACHE_FORMAT = 1
CHUNK = 256  # images a thread decodes before it reports progress


@dataclass(frozen=True)
class Decoded:
    """The pixels of a folder, in memory.

    `images` is {"train": ..., "test": ...}, uint8 (N, 3, 32, 32); `labels` the same, int64 (N,).
    """

    name: str
    classes: tuple[str, ...]
    images: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]


# One image file: path, size, and the two times (nanoseconds) of its last change. The second, which
# cannot be set by hand, catches an edit that put the first one back. A plain tuple: there are
# 60,000 of them at every start.
_File = tuple[str, int, int, int]


def read(folder: Path, cache: Path) -> Decoded:
    """Decode the images of `folder`, or take them from `cache` when nothing has changed.

    Both splits come in a fixed random order rather than class by class, so that any stretch of
    consecutive images holds every class.

    Raises:
        DataError: no such folder, no classes, a file that is no 32x32 colour image, classes that
            differ between train and test or from dataset.json.
    """
    described = _describe(folder)
    classes = _class_order(folder, described)
    files = {part: [_scan(folder / part / c) for c in classes] for part in ("train", "test")}
    for part, of_class in files.items():
        for name, found in zip(classes, of_class, strict=True):
            if not found:
                raise DataError(
                    f"{folder / part / name} holds no images; add some or remove the class folder."
                )
    fingerprint = _fingerprint(folder, classes, files)
    place = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:12]
    store = cache / f"folder-{place}.npz"
    arrays = load_arrays(store, fingerprint)
    if arrays is None:
        arrays = {}
        for part, of_class in files.items():
            labels = np.repeat(np.arange(len(classes)), [len(found) for found in of_class])
            order = np.random.default_rng(0).permutation(len(labels))
            paths = [file[0] for found in of_class for file in found]
            arrays[f"{part}_images"] = _decode([paths[i] for i in order], folder / part)
            arrays[f"{part}_labels"] = labels[order].astype(np.int64)
        save_arrays(store, fingerprint, arrays)
    return Decoded(
        name=str(described.get("name") or folder.resolve().name),
        classes=classes,
        images={part: arrays[f"{part}_images"] for part in files},
        labels={part: arrays[f"{part}_labels"] for part in files},
    )


def _describe(folder: Path) -> dict[str, Any]:
    """What dataset.json says; empty without one."""
    file = folder / "dataset.json"
    if not file.is_file():
        return {}
    try:
        described = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{file} is not readable JSON ({error}); mend or remove it.") from error
    if not isinstance(described, dict):
        raise DataError(f'{file} must hold an object such as {{"name": "…", "classes": ["…"]}}.')
    classes = described.get("classes", [])
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise DataError(f'"classes" in {file} must be a list of the names of the class folders.')
    if len(set(classes)) != len(classes):
        raise DataError(f'"classes" in {file} names a class twice; name each once.')
    return described


def _class_order(folder: Path, described: dict[str, Any]) -> tuple[str, ...]:
    """Class names in label order: as in dataset.json, otherwise sorted."""
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise DataError(f"The data folder {folder} {what}; set KDUTILS_DATA to a folder of images.")
    found: dict[str, set[str]] = {}
    for part in ("train", "test"):
        place = folder / part
        if place.is_dir():
            found[part] = {
                entry.name
                for entry in os.scandir(place)
                if entry.is_dir() and not entry.name.startswith(".")
            }
        if not found.get(part):
            raise DataError(
                f"{place} holds no class folders; put the images into {part}/<class>/ inside "
                f"{folder}, one folder for each class, in train and in test."
            )
    if found["train"] != found["test"]:
        odd = sorted(found["train"] ^ found["test"])
        raise DataError(
            f"train and test in {folder} must have the same classes, but only one of them has "
            f"{_listed(odd)}; add or remove those folders."
        )
    wanted = described.get("classes")
    if not wanted:
        return tuple(sorted(found["train"]))
    if set(wanted) != found["train"]:
        odd = sorted(set(wanted) ^ found["train"])
        raise DataError(
            f'"classes" in {folder / "dataset.json"} must name exactly the class folders, but only '
            f"one of the two has {_listed(odd)}; correct the list or the folders."
        )
    return tuple(wanted)


def _listed(names: list[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(repr(name) for name in names[:most]) + more


def _scan(folder: Path) -> list[_File]:
    """The image files of one class in ImageFolder's order, folders inside it included."""
    here: list[_File] = []
    below: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name.lower()
            if name.startswith(".") or name in CLUTTER:
                continue
            if name.endswith(IMAGE_ENDINGS):
                try:
                    stat = entry.stat()
                except OSError as error:  # a link to nowhere, no permission
                    raise DataError(
                        f"{entry.path} cannot be read ({error.strerror}); replace or remove it."
                    ) from error
                here.append((entry.path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))
            elif entry.is_dir():
                below.append(entry.path)
            else:
                raise DataError(
                    f"{entry.path} is not an image; class folders may hold only images "
                    f"({', '.join(IMAGE_ENDINGS)}), so move it elsewhere."
                )
    here.sort(key=itemgetter(0))
    return here + [file for place in sorted(below) for file in _scan(Path(place))]


def _fingerprint(
    folder: Path, classes: tuple[str, ...], files: dict[str, list[list[_File]]]
) -> str:
    """A name for the folder's present content, from what the file system says (no file is read)."""
    digest = hashlib.sha256(repr((CACHE_FORMAT, str(folder.resolve()), classes)).encode())
    for of_class in files.values():
        for found in of_class:
            digest.update(repr(found).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _decode(paths: list[str], title: Path) -> np.ndarray:
    """Decode files into one uint8 array (N, 3, 32, 32), on all cores, with a progress bar."""
    from tqdm.auto import tqdm

    out = np.empty((len(paths), 3, SIDE, SIDE), dtype=np.uint8)

    def work(start: int) -> int:
        stop = min(start + CHUNK, len(paths))
        for i in range(start, stop):
            out[i] = _decode_one(paths[i])
        return stop - start

    bar = tqdm(total=len(paths), desc=f"Decoding {title.name}", leave=False, mininterval=0.5)
    with bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            for done in pool.map(work, range(0, len(paths), CHUNK)):
                bar.update(done)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # the first bad file ends it
            raise
    return out


def _decode_one(path: str) -> np.ndarray:
    """One file as uint8 (3, 32, 32). The header is looked at before any pixel is decoded."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            mode, size = image.mode, image.size
            fits = size == (SIDE, SIDE) and not (mode in GREY_MODES or mode.startswith("I;"))
            pixels = np.asarray(image if mode == "RGB" else image.convert("RGB")) if fits else None
    except Exception as error:  # Pillow raises many kinds for a damaged file
        raise DataError(
            f"{path} is not a readable image ({error}); replace or remove it."
        ) from error
    if pixels is not None:
        return pixels.transpose(2, 0, 1)
    if size != (SIDE, SIDE):
        raise DataError(
            f"{path} is {size[0]}x{size[1]} pixels, but every image must be {SIDE}x{SIDE}; resize "
            f"them first, for example with PIL's image.resize(({SIDE}, {SIDE}))."
        )
    raise DataError(
        f"{path} is a grey image (mode {mode}), but every image must be in colour; convert them "
        "first, for example with PIL's image.convert('RGB')."
    )
