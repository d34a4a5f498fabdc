"""Atomic writes: a reader meets the old file or the new one, never half of one."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from kdutils.runtime.files import DiskFull, atomic_path


def test_a_clean_exit_puts_the_file_in_place(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "new" / "a.txt") as part:
        part.write_text("hello")
        assert not (tmp_path / "new" / "a.txt").exists()
    assert (tmp_path / "new" / "a.txt").read_text() == "hello"
    assert len(list((tmp_path / "new").iterdir())) == 1


def test_an_error_leaves_the_old_file_and_no_rubbish(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(target) as part:
        part.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_full_disk_is_said_in_one_sentence(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(DiskFull, match="disk is full, so a.txt was not saved"):
        with atomic_path(target):
            raise OSError(errno.ENOSPC, "No space left on device")
    assert target.read_text() == "old"


def test_other_errors_pass_through(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), atomic_path(tmp_path / "a"):
        raise PermissionError(errno.EACCES, "no")


def test_a_full_disk_is_known_whatever_library_reports_it(tmp_path: Path) -> None:
    """safetensors and PyTorch raise errors of their own kind, without an errno."""
    target = tmp_path / "a.bin"
    target.write_text("before")
    with pytest.raises(DiskFull, match="a.bin was not saved"), atomic_path(target):
        raise RuntimeError("I/O error: No space left on device (os error 28)")
    with pytest.raises(RuntimeError, match="a bug"), atomic_path(target):
        raise RuntimeError("a bug")
    assert target.read_text() == "before" and list(tmp_path.iterdir()) == [target]
