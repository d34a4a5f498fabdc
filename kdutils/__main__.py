"""The command line: `python -m kdutils COMMAND`, without opening a notebook.

The commands themselves live in `kdutils/commands/`, one module each; `COMMANDS` lists them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from .cli import Stop, Subparsers, bench, data, notebooks, numbers, run, suspects, train

COMMANDS: tuple[Callable[[Subparsers], None], ...] = (
    run.add,
    data.add,
    train.add,
    bench.add,
    notebooks.add,
    notebooks.add_readme,
    numbers.add,
    suspects.add,
)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m kdutils",
        description="Knowledge distillation, hands on: the notebooks without a browser.",
        epilog="`python -m kdutils COMMAND --help` shows a command's options and examples.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in COMMANDS:
        add(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; gives the exit code. Errors that are no bug end in their own sentence."""
    args = build_parser().parse_args(argv)
    from .pretrained import ArtifactError
    from .runtime.distributed import ProcessLost
    from .runtime.errors import DataError
    from .runtime.files import DiskFull
    from .tools.notebooks import NotebookError, NotebookFailed
    from .train import CheckpointMismatch, TrainingDiverged

    try:
        return args.work(args)
    except Stop as stop:
        return _say(stop, stop.code)
    except (ArtifactError, CheckpointMismatch, DataError, NotebookError) as error:
        return _say(error, 2)
    except (NotebookFailed, DiskFull, ProcessLost, TrainingDiverged) as failure:
        return _say(failure, 1)
    except KeyboardInterrupt:
        return _say("Stopped. What was finished is kept; run it again to go on.", 130)


def _say(message: object, code: int) -> int:
    print(f"kdutils: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
