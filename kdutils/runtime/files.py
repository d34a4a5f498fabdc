"""Files written so that a reader never sees half of one, and errors with a name of their own."""

from __future__ import annotations

import errno
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


class DataError(ValueError):
    """Something is wrong with the data; the message says what, and what to do about it."""


class DiskFull(OSError):
    """There is no room to save; what was there before is untouched."""


def recorded(name: str) -> Path:
    """Where the package keeps a file of results that took long to measure."""
    return Path(__file__).resolve().parents[1] / "pretrained" / name


@contextmanager
def atomic_path(target: Path, durable: bool = True) -> Iterator[Path]:
    """A temporary path beside `target`; on a clean exit it is renamed onto `target`.

    On any error the temporary file is removed and `target` is as it was before. Renaming within a
    folder is atomic, so a reader, or a process killed at any moment, meets the old or the new.

    Args:
        target: the file to write; its folder is made.
        durable: wait until the bytes are on the disk, so that even a power cut leaves a whole file.
            False for what can be made again, where the reader notices missing bytes.

    Raises:
        DiskFull: the disk is full.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    os.close(handle)
    part = Path(name)
    try:
        yield part
        part.chmod(target.stat().st_mode & 0o777 if target.exists() else 0o644)  # mkstemp: 0600
        if durable:
            with open(part, "r+b") as file:  # Windows syncs only what is open for writing
                os.fsync(file.fileno())
        os.replace(part, target)
    except Exception as error:  # PyTorch and safetensors report a full disk in their own ways
        if not _disk_is_full(error, part):
            raise
        raise DiskFull(
            errno.ENOSPC,
            f"The disk is full, so {target.name} was not saved; free some space and run again "
            "(what was saved before is untouched).",
        ) from error
    finally:
        part.unlink(missing_ok=True)


def _disk_is_full(error: Exception, part: Path) -> bool:
    """Whether there was no room: the error says so, or the next 64 kB beside it do not fit."""
    full = (errno.ENOSPC, errno.EDQUOT)
    if getattr(error, "errno", None) in full or "No space left" in str(error):
        return True
    try:
        with open(part, "ab") as file:
            file.write(bytes(1 << 16))
            file.flush()
            os.fsync(file.fileno())
    except OSError as problem:
        return problem.errno in full
    return False


def load_arrays(path: Path, fingerprint: str) -> dict[str, np.ndarray] | None:
    """The arrays kept in `path`, or None: not there, made from something else, or damaged."""
    import numpy as np

    try:
        # A zip file, so a checksum guards each array.
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as kept:
            if str(kept["fingerprint"]) != fingerprint:
                return None
            return {key: kept[key] for key in kept.files if key != "fingerprint"}
    except Exception:  # a damaged zip file shows in a dozen ways
        return None


def save_arrays(
    path: Path, fingerprint: str, arrays: dict[str, np.ndarray], durable: bool = True
) -> bool:
    """Keep `arrays` in `path`, whole or not at all; returns whether that went well.

    When it cannot be written (full disk, no permission) the arrays in memory are still good, so
    this warns in one sentence and goes on.
    """
    import numpy as np

    try:
        with atomic_path(path, durable) as part, open(part, "wb") as file:
            np.savez(file, fingerprint=np.array(fingerprint), **arrays)
    except OSError as error:
        reason = error.strerror or str(error)
        warnings.warn(
            f"{path.name} could not be kept in {path.parent} ({reason}), so the next start makes "
            "it again; free some space or make that folder writable.",
            stacklevel=2,
        )
        return False
    return True
