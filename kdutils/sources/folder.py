"""A folder of class folders, read as torchvision's `ImageFolder` reads it, decoded once.

    my_images/
        dataset.json            optional: {"name": "My images", "classes": ["cat", "dog"]}
        train/cat/anything.png
        train/dog/...
        test/cat/...

Images may have any size, one for the whole set; grey ones become RGB. Decoding 60,000 files takes
most of a minute, reading 60,000 decoded images under a second. So the pixels are kept in the cache
folder, beside a fingerprint of the files: every name, size and time of change. Any change to any
file gives another fingerprint, and the images are decoded again.
"""

from __future__ import annotations

import hashlib
import json
import os
import unicodedata
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..runtime.files import DataError, load_arrays, save_arrays
from .pixels import Pixels

if TYPE_CHECKING:
    from PIL.Image import Image

# The endings that torchvision's ImageFolder takes (a test holds the two lists together).
IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
CLUTTER = frozenset({"thumbs.db", "desktop.ini"})  # what file managers leave behind
CACHE_FORMAT = 2
CHUNK = 256  # images a thread decodes before it reports progress


# One image file: path, size, and the two times (nanoseconds) of its last change. The second, which
# cannot be set by hand, catches an edit that put the first one back. A plain tuple: there are
# 60,000 of them at every start.
_File = tuple[str, int, int, int]


def read(folder: Path, cache: Path) -> Pixels:
    """Decode the images of `folder`, or take them from `cache` when nothing has changed.

    Both splits come in a fixed random order rather than class by class, so that any stretch of
    consecutive images holds every class.

    Raises:
        DataError: no such folder, no classes, a file that is no image of the others' size, classes
            that differ between train and test or from dataset.json.
    """
    described = _describe(folder)
    places = _class_folders(folder)
    classes = _class_order(folder, places["train"], described)
    files = {
        part: [[file for place in places[part][c] for file in _scan(place)] for c in classes]
        for part in places
    }
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
        first = files["train"][0][0][0]
        for part, of_class in files.items():
            labels = np.repeat(np.arange(len(classes)), [len(found) for found in of_class])
            order = np.random.default_rng(0).permutation(len(labels))
            paths = [file[0] for found in of_class for file in found]
            arrays[f"{part}_images"] = _decode([paths[i] for i in order], first, part)
            arrays[f"{part}_labels"] = labels[order].astype(np.int64)
        save_arrays(store, fingerprint, arrays)
    name = str(described.get("name") or folder.resolve().name)
    return Pixels(**arrays, classes=classes, name=name)


def _same(name: str) -> str:
    """One spelling for letters with accents, which systems write in two ways (NFC, NFD)."""
    return unicodedata.normalize("NFC", name)


def _describe(folder: Path) -> dict[str, Any]:
    """What dataset.json says; empty without one."""
    file = folder / "dataset.json"
    if not file.is_file():
        return {}
    try:
        described = json.loads(file.read_text(encoding="utf-8-sig"))  # some editors write a mark
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file} is not readable JSON ({error}); mend or remove it.") from error
    if not isinstance(described, dict):
        raise DataError(f'{file} must hold an object such as {{"name": "…", "classes": ["…"]}}.')
    classes = described.get("classes") or []
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise DataError(f'"classes" in {file} must be a list of the names of the class folders.')
    classes = [_same(name) for name in classes]
    if len(set(classes)) != len(classes):
        raise DataError(f'"classes" in {file} names a class twice; name each once.')
    return described | {"classes": classes}


def _class_folders(folder: Path) -> dict[str, dict[str, list[Path]]]:
    """{"train": {class name: its folders}, "test": ...}, the same classes in both."""
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise DataError(f"The data folder {folder} {what}; set KDUTILS_DATA to a folder of images.")
    found: dict[str, dict[str, list[Path]]] = {"train": {}, "test": {}}
    for part, classes in found.items():
        place = folder / part
        for entry in sorted(place.iterdir()) if place.is_dir() else ():
            if entry.is_dir() and not entry.name.startswith("."):
                classes.setdefault(_same(entry.name), []).append(entry)
        if not classes:
            raise DataError(
                f"{place} holds no class folders; put the images into {part}/<class>/ inside "
                f"{folder}, one folder for each class, in train and in test."
            )
    odd = sorted(found["train"].keys() ^ found["test"].keys())
    if odd:
        raise DataError(
            f"train and test in {folder} must have the same classes, but only one of them has "
            f"{_listed(odd)}; add or remove those folders."
        )
    if len(found["train"]) < 2:
        raise DataError(
            f"{folder} has one class, {_listed(list(found['train']))}; a classifier needs two or "
            "more."
        )
    return found


def _class_order(
    folder: Path, found: dict[str, list[Path]], described: dict[str, Any]
) -> tuple[str, ...]:
    """Class names in label order: as in dataset.json, otherwise sorted."""
    wanted = described.get("classes") or sorted(found)
    if set(wanted) != found.keys():
        odd = sorted(set(wanted) ^ found.keys())
        raise DataError(
            f'"classes" in {folder / "dataset.json"} must name exactly the class folders, but only '
            f"one of the two has {_listed(odd)}; correct the list or the folders."
        )
    return tuple(wanted)


def _listed(names: list[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(repr(name) for name in names[:most]) + more


def _scan(folder: Path, above: tuple[Path, ...] = ()) -> list[_File]:
    """The image files of one class in ImageFolder's order, folders inside it included."""
    here: list[_File] = []
    below: list[Path] = []
    above = (*above, folder.resolve())
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name.lower()
            if name.startswith(".") or name in CLUTTER:
                continue
            try:
                if name.endswith(IMAGE_ENDINGS):
                    stat = entry.stat()
                    here.append((entry.path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))
                elif entry.is_dir():
                    below.append(Path(entry.path))
                else:
                    raise DataError(
                        f"{entry.path} is not an image; class folders may hold only images "
                        f"({', '.join(IMAGE_ENDINGS)}), so move it elsewhere."
                    )
            except OSError as error:  # a link to nowhere or to itself, no permission
                raise DataError(
                    f"{entry.path} cannot be read ({error.strerror}); replace or remove it."
                ) from error
    here.sort(key=itemgetter(0))
    for place in sorted(below):
        if place.resolve() in above:
            raise DataError(f"{place} is a link to a folder that holds it; remove the link.")
        here += _scan(place, above)
    return here


def _fingerprint(
    folder: Path, classes: tuple[str, ...], files: dict[str, list[list[_File]]]
) -> str:
    """A name for the folder's present content, from what the file system says (no file is read)."""
    digest = hashlib.sha256(repr((CACHE_FORMAT, str(folder.resolve()), classes)).encode())
    for of_class in files.values():
        for found in of_class:
            digest.update(repr(found).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _decode(paths: list[str], first: str, title: str) -> np.ndarray:
    """Decode files into one uint8 array (N, 3, H, W), on all cores, with a progress bar.

    `first` is the image whose size all must have.
    """
    from tqdm.auto import tqdm

    with _opened(first) as image:
        width, height = image.size
    out = np.empty((len(paths), 3, height, width), dtype=np.uint8)

    def work(start: int) -> int:
        stop = min(start + CHUNK, len(paths))
        for i in range(start, stop):
            pixels = _decode_one(paths[i])
            if pixels.shape != out.shape[1:]:
                raise DataError(
                    f"{paths[i]} is {pixels.shape[2]}x{pixels.shape[1]} pixels, but {first} is "
                    f"{width}x{height}; give all images one size, for example with PIL's "
                    f"image.resize(({width}, {height}))."
                )
            out[i] = pixels
        return stop - start

    bar = tqdm(total=len(paths), desc=f"Decoding {title}", leave=False, mininterval=0.5)
    with bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            for done in pool.map(work, range(0, len(paths), CHUNK)):
                bar.update(done)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # the first bad file ends it
            raise
    return out


@contextmanager
def _opened(path: str) -> Iterator[Image]:
    """The image, its pixels not decoded yet."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            yield image
    except Exception as error:  # Pillow raises many kinds for a damaged file
        raise DataError(
            f"{path} is not a readable image ({error}); replace or remove it."
        ) from error


def _decode_one(path: str) -> np.ndarray:
    """One file as uint8 (3, H, W), RGB."""
    with _opened(path) as image:
        mode = image.mode
        if not (mode in ("I", "F") or mode.startswith("I;")):
            return np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    raise DataError(  # PIL would cut these off at 255
        f"{path} has more than 8 bits a pixel (mode {mode}); scale it to 0..255 and save it as a "
        "common image first."
    )
