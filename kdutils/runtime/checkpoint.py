"""Training checkpoints: what one holds, and reading it without running what it might hold."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch

CHECKPOINT = {"identity", "model", "adapters", "live", "optimizers", "rows"}  # what one holds


class TrainingDiverged(RuntimeError):
    """The loss became NaN or infinite."""


class CheckpointMismatch(ValueError):
    """A checkpoint cannot be continued: it belongs to another run, or it is damaged."""


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Load a training checkpoint without running any code that it might hold.

    Raises:
        CheckpointMismatch: the file is cut short or is no checkpoint of ours.
    """
    try:
        with zipfile.ZipFile(path) as archive:  # PyTorch does not look at its files' checksums
            flaw = archive.testzip()
        if flaw is not None:
            raise ValueError(flaw)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damage shows in a dozen ways
        raise CheckpointMismatch(
            f"The checkpoint {path.name} is cut short or damaged, or it is another kind of file; "
            "choose another file name to train from the start."
        ) from error
    if not isinstance(state, dict) or "identity" not in state:
        raise CheckpointMismatch(f"{path.name} is not a checkpoint of kdutils.train.fit.")
    if not CHECKPOINT <= state.keys():
        raise CheckpointMismatch(
            f"The checkpoint {path.name} was written by another version of kdutils; choose another "
            "file name."
        )
    return state
