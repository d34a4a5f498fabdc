"""A disk that fills, a read-only home, two processes on one file, a clock that jumps."""

from __future__ import annotations

import os
import subprocess
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from small import TinyNet, tiny_data
from storm import run, start
from torch import nn

from kdutils import pretrained, train
from kdutils.__main__ import main
from kdutils.runtime import settings as settings_module
from kdutils.runtime.files import DiskFull
from kdutils.soft_targets import SoftTargets

pytestmark = [pytest.mark.hostile, pytest.mark.timeout(1800)]
RECIPE = train.Recipe(epochs=2, batch_size=100)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """256 kB of memory as a disk of its own; needs the right to mount."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", place])
    if done.returncode:
        pytest.fail("this suite needs the right to mount a tmpfs: run it as root, in a container")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def fill(disk: Path, leave: int) -> None:
    """Leave `leave` bytes (whole pages) free on `disk`."""
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    (disk / "ballast").write_bytes(bytes(max(0, free - leave)))


class Wide(TinyNet):
    """Weights of 400 kB: more than the small disk."""

    def __init__(self) -> None:
        super().__init__()
        self[2] = nn.Linear(48, 2000)
        self[3] = nn.BatchNorm1d(2000)
        self[6] = nn.Linear(2000, 10)


def test_weights_on_a_full_disk_leave_the_older_file(small_disk: Path) -> None:
    path = small_disk / "a.safetensors"
    pretrained.save_model(TinyNet(), path)
    before = path.read_bytes()
    with pytest.raises(DiskFull, match="disk is full"):
        pretrained.save_model(Wide(), path)
    assert path.read_bytes() == before and [p.name for p in small_disk.iterdir()] == [path.name]


def test_a_checkpoint_on_a_full_disk_keeps_the_last_good_one(small_disk: Path) -> None:
    path = small_disk / "checkpoint.pt"
    train.fit(TinyNet(), tiny_data(), RECIPE, checkpoint=path, progress=False)
    rows = train.read_checkpoint(path)["rows"]
    with pytest.raises(DiskFull, match="disk is full"):
        train.fit(Wide(), tiny_data(), RECIPE, checkpoint=small_disk / "b.pt", progress=False)
    assert train.read_checkpoint(path)["rows"] == rows
    assert [p.name for p in small_disk.iterdir()] == [path.name], "nothing half-written stays"


def test_soft_targets_on_a_full_disk_warn_and_go_on(small_disk: Path) -> None:
    fill(small_disk, 8192)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        targets = SoftTargets(TinyNet(), tiny_data().train, small_disk)
        for view in range(6):
            targets.epoch([view])
    assert torch.equal(targets.clean(), SoftTargets(TinyNet(), tiny_data().train).clean())
    assert 1 <= len(said) <= 2, [str(one.message) for one in said]


def test_results_on_a_full_disk_keep_the_older_ones(small_disk: Path) -> None:
    path = small_disk / "results.json"
    pretrained.write_json(path, [1, 2, 3])
    fill(small_disk, 0)
    with pytest.raises(DiskFull):
        pretrained.write_json(path, list(range(90_000)))
    assert pretrained.read_json(path, "missing", "none") == [1, 2, 3]


def test_a_read_only_home_is_one_sentence(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    monkeypatch.setattr(settings_module, "cache_folder", lambda: small_disk / "cache")
    monkeypatch.setattr(settings_module, "results_folder", lambda: small_disk / "results")
    torch.set_num_threads(1)
    ended = run(lambda: main(["train", "student", "--epochs", "1"]))
    assert ended.code == 2 and "Traceback" not in ended.said, ended.said
    assert "read-only" in ended.said.lower() or "cannot" in ended.said.lower(), ended.said


def test_two_processes_train_one_network(own_folders: Path) -> None:
    torch.set_num_threads(1)

    def work() -> int:
        pretrained.train_or_load("one", TinyNet(), tiny_data(), RECIPE, progress=False)
        return 0

    logs = [own_folders / name for name in "ab"]
    pids = [start(work, log) for log in logs]
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    assert codes == [0, 0], [log.read_text() for log in logs]
    found = pretrained.train_or_load("one", TinyNet(), tiny_data(), RECIPE, progress=False)
    alone = TinyNet()
    train.fit(alone, tiny_data(), RECIPE, progress=False)
    values = zip(found.model.state_dict().values(), alone.state_dict().values(), strict=True)
    assert found.loaded and all(torch.equal(a, b) for a, b in values)


def test_a_clock_that_jumps_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Seconds are counted by a clock that nobody sets; files are trusted by content, not by age."""
    jumps = iter([2e9 - 86400.0 * day for day in range(10_000)])
    monkeypatch.setattr(time, "time", lambda: next(jumps))
    path = tmp_path / "checkpoint.pt"
    first = train.fit(TinyNet(), tiny_data(), RECIPE, checkpoint=path, progress=False)
    assert 0 < first.rows[0]["seconds"] < first.rows[1]["seconds"] < 60
    again = train.fit(TinyNet(), tiny_data(), RECIPE, checkpoint=path, progress=False)
    assert again.rows == first.rows
