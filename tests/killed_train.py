"""`python -m kdutils …` that kills itself, with a real SIGKILL, at a chosen moment of a training.

python killed_train.py MOMENT train student …
"""

import os
import signal
import sys
from pathlib import Path

import torch

from kdutils.__main__ import main
from kdutils.losses import LabelLoss
from kdutils.runtime.files import atomic_path


def die(*args: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def in_an_epoch() -> None:
    """In the second epoch of this process, before its last batch."""
    calls, honest = iter(range(1000)), LabelLoss.__call__

    def loss(self, *args):
        if next(calls) == 3:  # an epoch of the tests is two batches
            die()
        return honest(self, *args)

    LabelLoss.__call__ = loss


def in_the_write() -> None:
    """When half of the next checkpoint is on the disk."""
    save = torch.save

    def half(state, path):
        save(state, path)
        content = Path(path).read_bytes()
        Path(path).write_bytes(content[: len(content) // 2])
        die()

    torch.save = half


def before_the_rename() -> None:
    """When the next checkpoint is written but not yet in place."""
    replace = os.replace
    os.replace = lambda a, b: die() if Path(b).name == "checkpoint.pt" else replace(a, b)


def before_the_record() -> None:
    """When the final weights are in place, and nothing else."""
    import kdutils.runtime.files

    def path(target):
        if target.name == "record.json":
            die()
        return atomic_path(target)

    kdutils.runtime.files.atomic_path = path


def one_of_two() -> None:
    """In an epoch, but only the second of two processes."""
    if os.environ["RANK"] == "1":
        in_an_epoch()


def never() -> None:
    pass


if __name__ == "__main__":
    globals()[sys.argv[1]]()
    sys.exit(main(sys.argv[2:]))
