"""Made-up folders: every one is either loaded whole, or refused in one sentence. Never a traceback
of something else, and never fewer images than lie there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from kdutils.data import DataError, ImageData, load

NAMES = st.sampled_from(
    ["cat", "dog", "élan", "e\u0301lan", "a b", "US$ or CA$", ".hidden", "7", "c" * 60, "Katze"]
)
MODES = st.sampled_from(["RGB", "RGB", "RGB", "L", "RGBA", "P", "1", "CMYK"])
SIDES = st.sampled_from([32, 32, 32, 28, 1])
ENDINGS = st.sampled_from([".png", ".png", ".png", ".jpg", ".bmp", ".txt", ".PNG"])
FILES = st.one_of(
    st.tuples(MODES, SIDES, ENDINGS),
    st.tuples(st.just("text"), SIDES, ENDINGS),
    st.tuples(st.just("cut"), SIDES, ENDINGS),
)
CLASS = st.tuples(NAMES, st.lists(FILES, max_size=6))
SPLITS = st.dictionaries(
    st.sampled_from(["train", "train", "test", "val", "other"]), st.lists(CLASS, max_size=4),
    max_size=3,
)  # fmt: skip


def write(path: Path, kind: str, side: int) -> None:
    if kind == "text":
        path.write_text("not an image")
        return
    file_format = {".jpg": "JPEG", ".bmp": "BMP"}.get(path.suffix, "PNG")
    image = Image.new("RGB" if kind == "cut" else kind, (side, side))
    if file_format == "JPEG" and image.mode not in ("RGB", "L", "CMYK"):
        image = image.convert("RGB")
    if image.mode == "CMYK" and file_format != "JPEG":
        image = image.convert("RGB")
    if image.mode == "RGBA" and file_format == "BMP":
        image = image.convert("RGB")
    image.save(path, file_format)
    if kind == "cut":
        path.write_bytes(path.read_bytes()[:40])


def build(root: Path, splits: dict[str, list[tuple[str, list[tuple[str, int, str]]]]]) -> None:
    for split, classes in splits.items():
        (root / split).mkdir(parents=True)
        for name, files in classes:
            (root / split / name).mkdir(exist_ok=True)
            for number, (kind, side, ending) in enumerate(files):
                write(root / split / name / f"{number}{ending}", kind, side)


@settings(
    max_examples=60, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(splits=SPLITS)
def test_any_folder_is_loaded_whole_or_refused_in_a_sentence(
    splits: dict, tmp_path: Path
) -> None:
    root = tmp_path / "images"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    build(root, splits)
    try:
        data = load(root, cache=tmp_path / "cache")
    except (DataError, ValueError) as refused:
        said = str(refused)
        assert said.endswith((".", ")")) and "\n" not in said and len(said) < 600, said
        return
    check(data, root)


def check(data: ImageData, root: Path) -> None:
    lying = {
        split: sum(1 for p in (root / split).glob("*/*") if p.suffix.lower() != ".txt")
        for split in ("train", "test")
    }
    assert len(data.train) + len(data.val) == lying["train"]
    assert len(data.test) == lying["test"]
    assert len({split.images.shape[1:] for split in data.splits.values()}) == 1
    assert len(data.classes) >= 2


def test_the_fuzz_sees_both_ends(tmp_path: Path) -> None:
    """Else it could pass by refusing everything."""
    good = {s: [(c, [("RGB", 32, ".png")] * 5) for c in ("cat", "dog")] for s in ("train", "test")}
    build(tmp_path / "good", good)
    check(load(tmp_path / "good", cache=tmp_path / "cache"), tmp_path / "good")
    build(tmp_path / "bad", {"train": good["train"]})
    with pytest.raises(DataError):
        load(tmp_path / "bad", cache=tmp_path / "cache")
