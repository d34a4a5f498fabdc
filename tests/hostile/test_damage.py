"""Every region of every file with one bit flipped, and every file cut short: named, never used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from small import TinyNet, tiny_data

from kdutils import pretrained, train
from kdutils.runtime.files import load_arrays, save_arrays
from kdutils.soft_targets import SoftTargets

pytestmark = [pytest.mark.hostile, pytest.mark.timeout(1800)]
REGIONS = 64


def damaged(path: Path) -> Iterator[str]:
    """`path` with one bit of each region flipped, then cut short; whole again at the end."""
    whole = path.read_bytes()
    for region in range(REGIONS):
        at = (2 * region + 1) * len(whole) // (2 * REGIONS)
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        yield f"bit flipped at {at} of {len(whole)}"
    for region in range(REGIONS):
        path.write_bytes(whole[: region * len(whole) // REGIONS])
        yield f"cut to {region}/{REGIONS}"
    path.write_bytes(whole)


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def named_or_right(path: Path, read: Callable[[], bool], error: type[Exception]) -> int:
    """Each damage is answered by `error` in one sentence, or by the right content. -> how often
    the former."""
    named = 0
    for what in damaged(path):
        try:
            assert read(), f"{what}: wrong content was taken for right"
        except error as problem:
            named += 1
            assert "delete" not in str(problem).lower(), what
            assert len(str(problem).splitlines()) == 1, what
    return named


def test_weights(tmp_path: Path) -> None:
    path, right = tmp_path / "a.safetensors", TinyNet()
    pretrained.save_model(right, path)

    def read() -> bool:
        return same(pretrained.load_model(path, TinyNet(1)).state_dict(), right.state_dict())

    assert named_or_right(path, read, pretrained.ArtifactError) > REGIONS


def test_checkpoint(tmp_path: Path) -> None:
    path, recipe = tmp_path / "checkpoint.pt", train.Recipe(epochs=2, batch_size=100)
    model = TinyNet()
    train.fit(model, tiny_data(), recipe, checkpoint=path, progress=False)
    rows = train.read_checkpoint(path)["rows"]

    def read() -> bool:
        fresh = TinyNet()
        history = train.fit(fresh, tiny_data(), recipe, checkpoint=path, progress=False)
        return same(fresh.state_dict(), model.state_dict()) and history.rows == rows

    assert named_or_right(path, read, train.CheckpointMismatch) > REGIONS


def test_soft_targets_are_made_again(tmp_path: Path) -> None:
    teacher, split = TinyNet(), tiny_data().train
    right = SoftTargets(teacher, split, tmp_path).clean()
    (path,) = [one for one in tmp_path.rglob("*") if one.is_file()]
    for what in damaged(path):
        assert torch.equal(SoftTargets(teacher, split, tmp_path).clean(), right), what


def test_decoded_images_are_made_again(tmp_path: Path) -> None:
    import numpy as np

    path, right = tmp_path / "a.npz", np.arange(5000, dtype=np.int16)
    save_arrays(path, "made by", {"numbers": right})
    for what in damaged(path):
        found = load_arrays(path, "made by")
        assert found is None or np.array_equal(found["numbers"], right), what
