"""Arrays kept on disk for the next start: one .npz file and the fingerprint of what made it."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path

import numpy as np

from .files import atomic_path


def load_arrays(store: Path, fingerprint: str) -> dict[str, np.ndarray] | None:
    """The arrays kept in `store`, or None: not there, made from something else, or damaged."""
    try:
        # A zip file, so a checksum guards each array.
        with open(store, "rb") as file, np.load(file, allow_pickle=False) as kept:
            if str(kept["fingerprint"]) != fingerprint:
                return None
            return {key: kept[key] for key in kept.files if key != "fingerprint"}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def save_arrays(store: Path, fingerprint: str, arrays: dict[str, np.ndarray]) -> None:
    """Keep `arrays` in `store`, whole or not at all.

    When it cannot be written (full disk, no permission) the arrays in memory are still good, so
    this warns in one sentence and goes on.
    """
    try:
        with atomic_path(store) as part, open(part, "wb") as file:
            np.savez(file, fingerprint=np.array(fingerprint), **arrays)
    except OSError as error:
        reason = error.strerror or str(error)
        warnings.warn(
            f"{store.name} could not be kept in {store.parent} ({reason}), so the next start makes "
            "it again; free some space or make that folder writable.",
            stacklevel=2,
        )
