"""kdutils.data and its sources. No test leaves this machine."""

from __future__ import annotations

import ast
import errno
import hashlib
import io
import json
import os
import shutil
import socket
import tarfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image

from kdutils import data, sources
from kdutils.data import DataError, ImageData, Split, load
from kdutils.runtime import files
from kdutils.sources import cifar10, folder, hosts

if TYPE_CHECKING:
    from http_fixtures import Server

pytest_plugins = ["http_fixtures"]

FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees a ./data, a network, or a decision that another test made."""
    work = tmp_path / "work" / "here"
    work.mkdir(parents=True)
    monkeypatch.chdir(work)
    monkeypatch.delenv("KDUTILS_DATA", raising=False)
    monkeypatch.setattr(sources, "_fell_back", {})
    monkeypatch.setattr(cifar10, "HOSTS", ())
    monkeypatch.setattr(cifar10, "DECIDE_SECONDS", 1.0)
    monkeypatch.setattr(cifar10, "UNPACKED", 1_000_000)
    for name, size in (("TRAIN", 200), ("VAL", 40), ("TEST", 100)):
        monkeypatch.setattr(sources, f"SHAPES_{name}", size)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def make_split(n: int = 100, classes: int = 10, seed: int = 0) -> Split:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (n, 3, 32, 32), generator=generator).to(torch.uint8)
    return Split(images, torch.arange(n) % classes)


def write_images(root: Path, classes: tuple[str, ...] = ("cat", "dog"), n: int = 10) -> Path:
    """A folder of images; every image differs from every other."""
    rng = np.random.default_rng(1)
    for part, count in (("train", n), ("test", n // 2)):
        for name in classes:
            place = root / part / name
            place.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{i:03d}.png")
    return root


# ---------------------------------------------------------------- splits


def test_subset_is_stratified_deterministic_and_nested() -> None:
    split = make_split(200)
    small, large = split.subset(50, seed=3), split.subset(100, seed=3)
    assert torch.bincount(small.labels).tolist() == [5] * 10
    assert small.fingerprint == split.subset(50, seed=3).fingerprint
    assert small.fingerprint != split.subset(50, seed=4).fingerprint
    rows = {image.numpy().tobytes() for image in large.images}
    assert all(image.numpy().tobytes() in rows for image in small.images)


def test_subset_keeps_the_shares_of_unequal_classes() -> None:
    labels = torch.tensor([0] * 70 + [1] * 20 + [2] * 10)
    split = Split(torch.zeros(100, 3, 32, 32, dtype=torch.uint8), labels)
    assert torch.bincount(split.subset(10).labels).tolist() == [7, 2, 1]
    assert len(split.subset(7)) == 7


@pytest.mark.parametrize("n", [0, -1, 101])
def test_subset_of_an_impossible_size(n: int) -> None:
    with pytest.raises(ValueError, match="cannot have"):
        make_split(100).subset(n)


def test_fingerprint_sees_pixels_labels_and_order() -> None:
    split = make_split(20)
    seen = {split.fingerprint}
    pixels = split.images.clone()
    pixels[7, 1, 3, 4] ^= 1
    labels = split.labels.clone()
    labels[0] = 5
    back = torch.arange(19, -1, -1)
    for other in (
        Split(pixels, split.labels),
        Split(split.images, labels),
        Split(split.images[back], split.labels[back]),
    ):
        assert len(other.fingerprint) == 16
        seen.add(other.fingerprint)
    assert len(seen) == 4
    assert split.to("cpu").fingerprint == split.fingerprint


def test_split_refuses_other_shapes_and_types() -> None:
    good = make_split(4)
    with pytest.raises(DataError, match="uint8"):
        Split(good.images.float(), good.labels)
    for bad in (good.images[0], good.images[:, :0], good.images[:, :, :0], good.images[None]):
        with pytest.raises(DataError, match="shape"):
            Split(bad, good.labels)
    with pytest.raises(DataError, match="int64"):
        Split(good.images, good.labels[:3])


def other_split(shape: tuple[int, int, int], n: int = 12, classes: int = 3) -> Split:
    generator = torch.Generator().manual_seed(n)
    images = torch.randint(0, 200, (n, *shape), generator=generator).to(torch.uint8)
    return Split(images, torch.arange(n) % classes)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 64, 48), (4, 5, 5), (3, 32, 31)])
def test_images_of_any_size_bring_their_own_statistics(shape: tuple[int, int, int]) -> None:
    train = other_split(shape, n=600)
    got = ImageData(train, other_split(shape), other_split(shape), ("a", "b", "c"), "mine")
    expected = train.images.double() / 255
    assert got.mean == pytest.approx(expected.mean((0, 2, 3)).tolist(), abs=1e-4)
    assert got.std == pytest.approx(expected.std((0, 2, 3), correction=0).tolist(), abs=1e-4)
    for split in (*got.splits.values(), got.test.subset(3), got.val.to("cpu")):
        assert (split.mean, split.std) == (got.mean, got.std)


def test_small_colour_images_keep_the_statistics_of_cifar10() -> None:
    split = make_split(20)
    assert (split.mean, split.std) == (data.MEAN, data.STD)


def test_statistics_are_part_of_the_fingerprint() -> None:
    split = make_split(20)
    other = Split(split.images, split.labels, (0.5, 0.5, 0.5), data.STD)
    assert other.fingerprint != split.fingerprint


def test_black_images_can_be_normalised() -> None:
    black = Split(torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64))
    assert black.std == (round(1 / 255, 4),)
    with pytest.raises(DataError, match="above zero"):
        Split(black.images, black.labels, (0.0,), (0.0,))
    with pytest.raises(DataError, match="1 channel"):
        Split(black.images, black.labels, (0.1, 0.2, 0.3), (0.1, 0.2, 0.3))


def test_splits_of_two_sizes_are_refused() -> None:
    small, large = other_split((1, 8, 8)), other_split((1, 9, 8))
    with pytest.raises(DataError, match="1x9x8.*one size"):
        ImageData(small, small, large, ("a", "b", "c"), "mine")


@pytest.mark.parametrize("count", [2, 1000])
def test_two_to_a_thousand_classes(count: int) -> None:
    split = other_split((1, 4, 4), n=count, classes=count)
    names = tuple(map(str, range(count)))
    assert len(ImageData(split, split, split, names, "many").classes) == count
    for wrong in (names[:1], tuple(map(str, range(1001)))):
        with pytest.raises(DataError, match="2 to 1,000"):
            ImageData(split, split, split, wrong, "many")


def test_labels_out_of_range_are_refused() -> None:
    split = make_split(20)
    with pytest.raises(DataError, match="0 to 4"):
        ImageData(split, split, split, tuple("abcde"), "five classes")


# ---------------------------------------------------------------- names


def test_unknown_name_lists_the_names_and_suggests_the_closest() -> None:
    with pytest.raises(DataError, match=r"cifar10, shapes, auto.*Did you mean 'cifar10'"):
        load("cifar-1O")
    with pytest.raises(ValueError, match="Did you mean 'shapes'"):
        load("shape")


def test_folder_by_name_asks_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KDUTILS_DATA", "folder")
    with pytest.raises(DataError, match="KDUTILS_DATA=/path/to/folder"):
        load()


@pytest.mark.parametrize("sizes", [{"train_size": 0}, {"val_size": -1}, {"test_size": 0}])
def test_sizes_below_one(sizes: dict[str, int], cache: Path) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        load("shapes", cache=cache, **sizes)


@pytest.mark.parametrize("module", [data, sources, cifar10, folder, hosts, files])
def test_importing_stays_light(module: ModuleType) -> None:
    tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
    names = {
        name.split(".")[0]
        for node in tree.body  # the top level only: functions may import what they like
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module]
        )
        if name is not None
    }
    assert not names & {"torchvision", "tqdm", "PIL", "filelock"}


# ---------------------------------------------------------------- shapes


def test_shapes_splits_and_truth(cache: Path) -> None:
    from kdutils.sources import shapes

    got = load("shapes", cache=cache)
    assert (len(got.train), len(got.val), len(got.test)) == (200, 40, 100)
    assert got.is_synthetic and got.notice == "" and got.name == "shapes"
    assert got.classes == tuple(shapes.CLASSES)
    assert got.similarity is not None and got.similarity.dtype == torch.float32
    assert got.similarity.shape == (10, 10)
    assert torch.bincount(got.val.labels).tolist() == [4] * 10
    again = load("shapes", cache=cache)  # from disk
    assert again.fingerprint == got.fingerprint
    (cache / "shapes.npz").write_bytes(b"damaged")
    assert load("shapes", cache=cache).fingerprint == got.fingerprint


def test_shapes_are_drawn_again_when_their_code_changes(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from kdutils.sources import shapes

    load("shapes", cache=cache)
    calls = []
    real = shapes.generate
    monkeypatch.setattr(shapes, "generate", lambda n, seed: calls.append(n) or real(n, seed))
    load("shapes", cache=cache)
    assert calls == []
    edited = tmp_path / "shapes.py"
    edited.write_text(Path(shapes.__file__).read_text() + "# edited\n")
    monkeypatch.setattr(shapes, "__file__", str(edited))
    load("shapes", cache=cache)
    assert calls == [240, 100]


def test_validation_is_cut_from_train_and_never_touches_test(cache: Path) -> None:
    whole, other = load("shapes", cache=cache), load("shapes", cache=cache, seed=1)
    assert whole.test.fingerprint == other.test.fingerprint
    assert whole.val.fingerprint != other.val.fingerprint
    train = {image.numpy().tobytes() for image in whole.train.images}
    val = {image.numpy().tobytes() for image in whole.val.images}
    pool = train | val
    assert len(pool) == 240 and not train & val
    assert pool == {image.numpy().tobytes() for s in (other.train, other.val) for image in s.images}
    small = load("shapes", cache=cache, train_size=50, test_size=20)
    assert small.val.fingerprint == whole.val.fingerprint  # the cut comes first
    assert torch.bincount(small.train.labels).tolist() == [5] * 10
    assert torch.bincount(small.test.labels).tolist() == [2] * 10
    assert {image.numpy().tobytes() for image in small.train.images} <= train
    assert len(load("shapes", cache=cache, train_size=10**6).train) == 200
    with pytest.raises(ValueError, match="val_size is 240"):
        load("shapes", cache=cache, val_size=240)


# ---------------------------------------------------------------- folders


def test_folder_is_read_as_imagefolder_reads_it(tmp_path: Path, cache: Path) -> None:
    from torchvision.datasets import ImageFolder
    from torchvision.datasets.folder import IMG_EXTENSIONS

    assert folder.IMAGE_ENDINGS == IMG_EXTENSIONS
    root = write_images(tmp_path / "pets", n=20)
    (root / "train" / "cat" / "more").mkdir()
    Image.new("RGB", (32, 32), "orange").save(root / "train" / "cat" / "more" / "x.JPG")
    Image.new("P", (32, 32)).save(root / "train" / "dog" / "palette.png")
    (root / "train" / "cat" / ".DS_Store").write_text("clutter")
    got = load(root, cache=cache)
    assert got.name == "pets" and got.classes == ("cat", "dog") and not got.is_synthetic
    assert (len(got.train), len(got.val), len(got.test)) == (38, 4, 20)
    for part, splits in (("train", (got.train, got.val)), ("test", (got.test,))):
        want = sorted(
            (np.asarray(image).transpose(2, 0, 1).tobytes(), label)
            for image, label in ImageFolder(root / part)
        )
        have = sorted(
            (image.numpy().tobytes(), int(label))
            for split in splits
            for image, label in zip(split.images, split.labels, strict=True)
        )
        assert have == want
    assert got.test.labels.unique_consecutive().numel() > 4  # not class after class


def test_folder_by_environment_with_names(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_images(tmp_path / "pets")
    described = {"name": "Pets (a copy)", "classes": ["dog", "cat"]}
    (root / "dataset.json").write_text(json.dumps(described))
    monkeypatch.setenv("KDUTILS_DATA", str(root))
    got = load(cache=cache)
    assert got.name == "Pets (a copy)" and got.classes == ("dog", "cat")
    dog = np.asarray(Image.open(root / "test" / "dog" / "000.png")).transpose(2, 0, 1)
    [index] = [i for i, image in enumerate(got.test.images) if (image.numpy() == dog).all()]
    assert got.test.labels[index] == 0


def test_decoded_folder_is_kept_until_a_file_changes(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_images(tmp_path / "pets")
    decoded = []
    real = folder._decode_one
    monkeypatch.setattr(folder, "_decode_one", lambda path: decoded.append(path) or real(path))
    first = load(root, cache=cache)
    assert len(decoded) == 30
    assert load(root, cache=cache).fingerprint == first.fingerprint
    assert len(decoded) == 30
    # An edit of the same size that puts the time of modification back is seen all the same.
    path = root / "train" / "cat" / "000.png"
    before, content = path.stat(), bytearray(path.read_bytes())
    other = io.BytesIO()
    Image.fromarray(255 - np.asarray(Image.open(path))).save(other, "PNG")
    assert other.getvalue() != bytes(content)
    time.sleep(0.02)
    path.write_bytes(other.getvalue())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    second = load(root, cache=cache)
    assert len(decoded) == 60 and second.fingerprint != first.fingerprint
    path.unlink()
    assert len(load(root, cache=cache, val_size=2).train) == 17
    assert [file.suffix for file in cache.iterdir()] == [".npz"]  # one file, whatever happened


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied"])
def test_a_damaged_cache_file_is_made_again(tmp_path: Path, cache: Path, damage: str) -> None:
    root = write_images(tmp_path / "pets")
    first = load(root, cache=cache)
    [kept] = cache.glob("*.npz")
    content = bytearray(kept.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 255
    kept.write_bytes({"cut": content[:5000], "flipped": content, "emptied": b""}[damage])
    assert load(root, cache=cache).fingerprint == first.fingerprint
    assert kept.stat().st_size > 5000


def test_full_disk_while_keeping_the_decoded_images(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_images(tmp_path / "pets")

    def savez(file: Any, **_: object) -> None:
        file.write(b"half of it")
        raise FULL

    monkeypatch.setattr(np, "savez", savez)
    with pytest.warns(UserWarning, match="could not be kept in .*free some space") as caught:
        got = load(root, cache=cache)
    assert len(caught) == 1
    assert len(got.test) == 10  # the images themselves are fine
    assert list(cache.iterdir()) == []
    with pytest.warns(UserWarning, match="could not be kept"):
        files.save_arrays(cache / "x.npz", "f", {})


def _edit(root: Path, what: str) -> None:
    cat = root / "train" / "cat"
    if what == "missing":
        shutil.rmtree(root)
    elif what == "file":
        shutil.rmtree(root)
        root.write_text("not a folder")
    elif what == "no classes":
        shutil.rmtree(root / "train")
        (root / "train").mkdir()
    elif what == "loose images":
        for path in cat.iterdir():
            shutil.move(path, root / "train")
        shutil.rmtree(cat)
        shutil.rmtree(root / "train" / "dog")
    elif what == "no test":
        shutil.rmtree(root / "test")
    elif what == "empty class":
        shutil.rmtree(cat)
        cat.mkdir()
    elif what == "text":
        (cat / "notes.txt").write_text("buy milk")
    elif what == "not an image":
        (cat / "000.png").write_text("buy milk")
    elif what == "cut short":
        (cat / "000.png").write_bytes((cat / "001.png").read_bytes()[:900])
    elif what == "deep grey":
        Image.new("I;16", (32, 32)).save(cat / "000.png")
    elif what == "64x64":
        Image.new("RGB", (64, 64)).save(cat / "001.png")
    elif what == "loop":
        (cat / "deeper").symlink_to(cat, target_is_directory=True)
    elif what == "link to itself":
        (cat / "again").symlink_to(cat / "again")
    elif what == "one class":
        shutil.rmtree(root / "train" / "dog")
        shutil.rmtree(root / "test" / "dog")
    elif what == "other classes":
        (root / "test" / "cat").rename(root / "test" / "wolf")
    elif what == "dead link":
        (cat / "zzz.png").symlink_to(cat / "nowhere.png")
    else:
        (root / "dataset.json").write_text(what)


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("missing", "does not exist; set KDUTILS_DATA"),
        ("file", "is a file, not a folder"),
        ("no classes", "train holds no class folders; put the images into train/<class>/"),
        ("loose images", "train holds no class folders"),
        ("no test", "test holds no class folders"),
        ("empty class", "cat holds no images; add some or remove"),
        ("text", r"notes\.txt is not an image; .*move it"),
        ("not an image", r"000\.png is not a readable image .*replace or remove"),
        ("cut short", r"000\.png is not a readable image"),
        ("deep grey", r"000\.png has more than 8 bits a pixel \(mode I;16\)"),
        ("64x64", r"is 64x64 pixels?.*32x32.*give all images one size"),
        ("loop", r"deeper is a link to a folder that holds it; remove the link"),
        ("link to itself", r"again cannot be read .*replace or remove"),
        ("one class", r"has one class, 'cat'; a classifier needs two"),
        ("other classes", "same classes, but only one of them has 'cat', 'wolf'"),
        ("dead link", r"zzz\.png cannot be read .*replace or remove"),
        ('{"classes": ["cat", "wolf"]}', "only one of the two has 'dog', 'wolf'"),
        ('{"classes": ["cat", "cat"]}', "names a class twice"),
        ('{"classes": "cat"}', "must be a list"),
        ('["cat"]', "must hold an object"),
        ("{", "is not readable JSON"),
    ],
)
def test_what_can_be_wrong_with_a_folder(tmp_path: Path, cache: Path, what: str, says: str) -> None:
    root = write_images(tmp_path / "pets", n=4)
    try:
        _edit(root, what)
    except OSError as error:  # links need a privilege on Windows
        pytest.skip(str(error))
    with pytest.raises(DataError, match=says) as caught:
        load(root, cache=cache)
    assert "\n" not in str(caught.value)
    assert not cache.exists() or not list(cache.iterdir())


@pytest.mark.parametrize("size", [(28, 28), (64, 48), (5, 9)])
def test_images_of_another_size_and_grey_ones(
    tmp_path: Path, cache: Path, size: tuple[int, int]
) -> None:
    from torchvision.datasets import ImageFolder

    root = write_images(tmp_path / "pets")
    rng = np.random.default_rng(2)
    for number, path in enumerate(sorted(root.rglob("*.png"))):
        pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).convert("L" if number % 3 else "RGB").save(path)
    for _ in range(2):  # decoded, then from the cache
        got = load(root, cache=cache)
        assert got.train.images.shape == (18, 3, size[1], size[0])
        assert got.mean == got.val.mean == got.test.mean != data.MEAN
    have = {image.numpy().tobytes() for image in got.test.images}
    want = {np.asarray(i).transpose(2, 0, 1).tobytes() for i, _ in ImageFolder(root / "test")}
    assert have == want


def test_class_names_in_both_spellings_of_accents(tmp_path: Path, cache: Path) -> None:
    composed, apart = "\u00e9lan", "e\u0301lan"
    root = write_images(tmp_path / "animals", (composed, "ibex"))
    (root / "test" / composed).rename(root / "test" / apart)
    (root / "dataset.json").write_text(json.dumps({"classes": ["ibex", apart]}))
    got = load(root, cache=cache)
    assert got.classes == ("ibex", composed) and len(got.test) == 10
    (root / "train" / apart).mkdir()  # where the file system keeps both, they are one class
    Image.new("RGB", (32, 32)).save(root / "train" / apart / "new.png")
    assert len(load(root, cache=cache, val_size=1).train) == 20


def test_a_description_with_a_byte_order_mark(tmp_path: Path, cache: Path) -> None:
    root = write_images(tmp_path / "pets")
    (root / "dataset.json").write_bytes(b"\xef\xbb\xbf" + b'{"name": "Pets"}')
    assert load(root, cache=cache).name == "Pets"


def test_a_home_of_nobody(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KDUTILS_DATA", "~no-such-user/pets")
    with pytest.raises(DataError, match="~no-such-user/pets does not exist; set KDUTILS_DATA"):
        load(cache=cache)


def test_one_image_in_all_is_too_few(tmp_path: Path, cache: Path) -> None:
    from kdutils.sources.pixels import Pixels

    one, label = np.zeros((1, 3, 8, 8), dtype=np.uint8), np.zeros(1, dtype=np.int64)
    alone = Pixels(one, label, one, label, ("a", "b"), "alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "read", lambda *_: alone)
        with pytest.raises(ValueError, match=r"alone has 1 training image\(s\).*add images"):
            load("alone", cache=cache)


def test_a_very_small_folder(tmp_path: Path, cache: Path) -> None:
    root = write_images(tmp_path / "pets", n=2)
    got = load(root, cache=cache)
    assert (len(got.train), len(got.val), len(got.test)) == (3, 1, 2)


# ---------------------------------------------------------------- how it prints


def test_repr_and_html(tmp_path: Path, cache: Path) -> None:
    root = write_images(tmp_path / "pets", ("cat", "<b>dog"))
    got = load(root, cache=cache)
    assert repr(got) == "pets: train 18 · val 2 · test 10\n2 classes: <b>dog, cat"
    html = got._repr_html_()
    assert "<td>train</td><td>18</td><td>9</td>" in html
    assert "&lt;b&gt;dog" in html and "<b>dog" not in html
    assert 'role="note"' not in html


def test_the_notice_is_a_banner() -> None:
    split = make_split(20)
    got = ImageData(split, split, split, tuple("abcdefghij"), "shapes", notice="Not <CIFAR>.")
    assert repr(got).startswith("Not <CIFAR>.\nshapes: ")
    assert 'role="note"' in got._repr_html_() and "Not &lt;CIFAR&gt;." in got._repr_html_()


# ---------------------------------------------------------------- CIFAR-10 from a host


def use(monkeypatch: pytest.MonkeyPatch, server: Server, *behaviours: str) -> None:
    monkeypatch.setattr(cifar10, "HOSTS", tuple(server.url(name) for name in behaviours))


def assert_is_cifar(got: ImageData) -> None:
    assert (
        got.name == "CIFAR-10"
        and got.classes[:2] == ("airplane", "automobile")
        and got.notice == ""
    )
    assert (len(got.train), len(got.val), len(got.test)) == (135, 15, 30)
    for split in (got.train, got.val, got.test):
        assert torch.equal(split.images[:, 0, 0, 0].long(), split.labels)


def test_constants_are_torchvisions() -> None:
    from torchvision.datasets import CIFAR10

    assert (cifar10.MD5, cifar10.ARCHIVE) == (CIFAR10.tgz_md5, CIFAR10.filename)
    assert cifar10.FOLDER == CIFAR10.base_folder


def test_download_verify_read(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, server, "fast")
    assert_is_cifar(load("cifar10", cache=cache))
    asked = len(server.requests)
    assert_is_cifar(load("cifar10", cache=cache))
    data.download(cache)
    assert len(server.requests) == asked  # nothing is fetched twice
    left = sorted(path.name for path in cache.iterdir())
    assert left == ["cifar-10-batches-py", "cifar-10-python.tar.gz", "cifar-10-python.tar.gz.lock"]


def test_auto_downloads_from_a_quick_host(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, server, "silent", "slow", "fast", "missing")
    began = time.monotonic()
    assert_is_cifar(load(cache=cache))
    assert time.monotonic() - began < 10
    assert len(server.asked("fast")) == 2 and len(server.asked("slow")) == 1


@pytest.mark.parametrize("put", ["unpacked", "archive"])
@pytest.mark.parametrize("where", ["data", "../data"])
def test_auto_takes_a_local_copy(
    server: Server,
    cache: Path,
    put: str,
    where: str,
) -> None:
    place = Path(where)
    place.mkdir()
    archive = place / cifar10.ARCHIVE
    archive.write_bytes(server.archive)
    if put == "unpacked":
        shutil.unpack_archive(archive, place)
        archive.unlink()
    assert_is_cifar(load("auto", cache=cache))
    data.download(cache)
    assert server.requests == []


def test_a_broken_off_download_goes_on_where_it_stopped(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, server, "missing")
    cache.mkdir()
    (cache / f"{cifar10.ARCHIVE}.part").write_bytes(server.archive[:300_000])
    with pytest.raises(DataError, match=r"127.0.0.1:\d+ answers 404.*goes on at 0 of"):
        load("cifar10", cache=cache)
    use(monkeypatch, server, "fast")
    assert_is_cifar(load("cifar10", cache=cache))
    assert server.asked("fast")[-1] == "bytes=300000-"


def test_a_host_that_always_breaks_off_still_delivers_piece_by_piece(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, server, "cut")
    assert_is_cifar(load("cifar10", cache=cache))
    assert len(server.asked("cut")) > 5


def test_another_host_goes_on_with_what_the_first_began(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cifar10, "probe", lambda hosts, *_: [cifar10.Sample(url) for url in hosts])
    use(monkeypatch, server, "cut", "fast")
    assert_is_cifar(load("cifar10", cache=cache))
    half = len(server.archive) // 2
    assert server.asked("cut") == [None] and server.asked("fast") == [f"bytes={half}-"]


def test_a_server_without_ranges_starts_again_cleanly(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, server, "norange")
    cache.mkdir()
    (cache / f"{cifar10.ARCHIVE}.part").write_bytes(b"\x1f\x8b" + bytes(200_000))
    assert_is_cifar(load("cifar10", cache=cache))
    assert len(server.asked("norange")) == 2  # the sample, and once the whole


def test_a_spoiled_part_file_is_thrown_away(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, server, "fast")
    cache.mkdir()
    part = cache / f"{cifar10.ARCHIVE}.part"
    for length in (1000, len(server.archive), len(server.archive) + 5):
        part.write_bytes(b"\x1f\x8b" + bytes(length - 2))
        cifar10.download(cache)
        assert not part.exists()
        assert hashlib.md5((cache / cifar10.ARCHIVE).read_bytes()).hexdigest() == cifar10.MD5
        (cache / cifar10.ARCHIVE).unlink()


@pytest.mark.parametrize(
    ("behaviour", "says"),
    [
        ("wrong", "sends something that is not the archive"),
        ("tampered", "sends a tampered archive"),
        ("missing", "answers 404"),
        ("silent", "does not answer"),
    ],
)
def test_hosts_of_no_use(
    server: Server,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    behaviour: str,
    says: str,
) -> None:
    monkeypatch.setattr(cifar10, "SILENCE_SECONDS", 0.5)
    use(monkeypatch, server, behaviour)
    began = time.monotonic()
    with pytest.raises(DataError, match=says) as caught:
        load("cifar10", cache=cache)
    assert time.monotonic() - began < 10
    assert "python -m kdutils data" in str(caught.value)
    assert not (cache / cifar10.ARCHIVE).exists()
    assert not (cache / f"{cifar10.ARCHIVE}.part").exists()
    use(monkeypatch, server, behaviour, "fast")  # one good host among them is enough
    assert_is_cifar(load("cifar10", cache=cache))


def test_no_network_at_all(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar10, "HOSTS", ("http://127.0.0.1:9/x",))  # nobody listens there
    monkeypatch.setenv("KDUTILS_DATA", "cifar10")
    with pytest.raises(DataError, match="refuses the connection"):  # never something else instead
        load(cache=cache)
    monkeypatch.setenv("KDUTILS_DATA", "auto")
    got = load(cache=cache)
    assert got.name == "shapes" and got.is_synthetic
    assert "not CIFAR-10" in got.notice and "python -m kdutils data" in got.notice


def test_looking_a_name_up_may_hang(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*_: object, **__: object) -> None:
        time.sleep(20)
        raise socket.gaierror(socket.EAI_AGAIN, "no network")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    monkeypatch.setattr(cifar10, "HOSTS", ("http://a.invalid/x", "http://b.invalid/x"))
    began = time.monotonic()
    got = load(cache=cache)
    assert time.monotonic() - began < 8
    assert "no host that offers it could be reached within 1 seconds" in got.notice
    began = time.monotonic()
    assert load(cache=cache).notice == got.notice  # decided once for this process
    assert time.monotonic() - began < 1


@pytest.mark.parametrize("behaviour", ["slow", "burst", "silent", "wrong", "missing"])
def test_auto_does_not_wait_for_a_bad_host(
    server: Server,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    behaviour: str,
) -> None:
    monkeypatch.setattr(cifar10, "PATIENCE_SECONDS", 5.0)  # 20 kB/s would take about 25 s
    use(monkeypatch, server, behaviour)
    began = time.monotonic()
    got = load("auto", cache=cache)
    assert time.monotonic() - began < 8
    assert got.name == "shapes"
    assert ("would need about" if behaviour in ("slow", "burst") else "no host") in got.notice


def test_auto_gives_up_on_a_host_that_becomes_slow(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosts, "SAMPLE_BYTES", 50_000)
    monkeypatch.setattr(cifar10, "PATIENCE_SECONDS", 0.5)
    use(monkeypatch, server, "fading")
    got = load("auto", cache=cache)
    assert got.name == "shapes" and "the download became slow" in got.notice
    assert (cache / f"{cifar10.ARCHIVE}.part").stat().st_size > 150_000  # kept for later


def test_download_at_any_speed(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.mkdir()
    (cache / f"{cifar10.ARCHIVE}.part").write_bytes(server.archive[:-20_000])
    monkeypatch.setattr(cifar10, "PATIENCE_SECONDS", 0.1)
    use(monkeypatch, server, "slow")
    data.download(cache)
    assert_is_cifar(load("auto", cache=cache))


# ---------------------------------------------------------------- CIFAR-10 damaged, disk full


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def _tamper(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [_cut, _tamper])
def test_a_damaged_archive_is_named_and_fetched_again(
    server: Server,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[Path], None],
) -> None:
    cache.mkdir()
    (cache / cifar10.ARCHIVE).write_bytes(server.archive)
    damage(cache / cifar10.ARCHIVE)
    use(monkeypatch, server, "fast")
    with pytest.warns(UserWarning, match=r"tar\.gz is truncated or was tampered with"):
        assert_is_cifar(load("cifar10", cache=cache))


def test_damaged_unpacked_files_are_unpacked_again(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, server, "fast")
    load("cifar10", cache=cache)
    use(monkeypatch, server)
    _tamper(cache / cifar10.FOLDER / "data_batch_3")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # mended from the archive: nothing to report
        assert_is_cifar(load("cifar10", cache=cache))
    _tamper(cache / cifar10.FOLDER / "test_batch")
    (cache / cifar10.ARCHIVE).unlink()
    with (
        pytest.warns(UserWarning, match="incomplete or was tampered with"),
        pytest.raises(DataError, match="could not be downloaded"),
    ):
        load("cifar10", cache=cache)


def test_full_disk_before_the_download(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, server, "fast")
    usage = shutil.disk_usage(cache.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(DataError, match="The disk is full: CIFAR-10 needs"):
        load("cifar10", cache=cache)
    assert server.requests == [] and list(cache.iterdir()) == []
    assert "The disk is full" in load("auto", cache=cache).notice


def test_full_disk_during_the_download_and_the_unpacking(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, server, "fast")

    class Full(io.FileIO):
        def write(self, _: object) -> int:
            raise FULL

    def open_full(path: Path, mode: str = "r") -> Any:
        return (Full if str(path).endswith(".part") and "r" not in mode else open)(path, mode)

    monkeypatch.setattr(cifar10, "open", open_full, raising=False)
    with pytest.raises(DataError, match="The disk is full.*free some space and run again"):
        load("cifar10", cache=cache)
    assert not (cache / cifar10.ARCHIVE).exists()
    monkeypatch.setattr(cifar10, "open", open)

    def copy(source: Any, target: Any, *_: Any) -> None:
        target.write(source.read(10))
        raise FULL

    with monkeypatch.context() as broken:
        broken.setattr(tarfile, "copyfileobj", copy)
        with pytest.raises(DataError, match="The disk is full"):
            load("cifar10", cache=cache)
    assert not (cache / cifar10.FOLDER).exists() and not list(cache.glob(".unpack-*"))
    asked = len(server.requests)
    assert_is_cifar(load("cifar10", cache=cache))
    assert len(server.requests) == asked  # the archive itself was saved


def test_two_downloads_at_once(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, server, "fast")
    cache.mkdir()
    lock = FileLock(cache / f"{cifar10.ARCHIVE}.lock")
    with lock, pytest.raises(DataError, match="another process is downloading"):
        load("cifar10", cache=cache)
    assert_is_cifar(load("cifar10", cache=cache))
