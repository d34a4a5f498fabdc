"""The program: which commands there are, and how it ends, whatever happens in them."""

from __future__ import annotations

import argparse
import codecs
import errno
import os
import sys
import unicodedata
from collections.abc import Callable, Sequence
from typing import NoReturn

from . import Stop, Subparsers, ablations, bench, data, notebooks, run, train

COMMANDS: tuple[Callable[[Subparsers], None], ...] = (
    run.add, data.add, train.add, bench.add, notebooks.add, notebooks.add_readme,
    ablations.add_long_runs, ablations.add_pitfalls,
)  # fmt: skip

# Errors that are no bug, by name: asking for the classes would load PyTorch. Exit code 2 for what
# was asked for wrongly, 1 for what failed on the way.
SENTENCES = {
    "ArtifactError": 2, "CheckpointMismatch": 2, "DataError": 2, "NotebookError": 2,
    "DiskFull": 1, "NotebookFailed": 1, "ProcessLost": 1, "TrainingDiverged": 1,
}  # fmt: skip
NOT_WRITABLE = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR, errno.EISDIR,
    errno.ENAMETOOLONG,
}  # fmt: skip
# What a terminal without the sign shows in its place; accents are left out, the rest is "?".
PLAIN = {
    "…": "...", "–": "-", "—": "-", "−": "-", "·": "-", "±": "+/-", "×": "x", "→": "->",
    "≤": "<=", "≥": ">=", "“": '"', "”": '"', "’": "'",
    **dict.fromkeys("▏▎▍▌▋▊▉█", "#"),  # progress bars
}  # fmt: skip


class Parser(argparse.ArgumentParser):
    """An argument parser that complains in one sentence."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"kdutils: {message}; `{self.prog} --help` shows the usage.\n")


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m kdutils",
        description="Knowledge distillation, hands on: the notebooks without a browser.",
        epilog="`python -m kdutils COMMAND --help` shows a command's options and examples.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in COMMANDS:
        add(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""

    def work() -> int:
        args = build_parser().parse_args(argv)
        return args.work(args)

    return as_program(work)


def as_program(work: Callable[[], int]) -> int:
    """Do `work`; returns its exit code. What is no bug ends in one sentence, without a traceback.

    Ctrl-C is 130. Signs that the terminal cannot write are replaced by plain ones.
    """
    write_plainly()
    try:
        return work()
    except KeyboardInterrupt:
        return _say("Stopped. What was finished is kept; run it again to go on.", 130)
    except BrokenPipeError:  # `… | head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    except Exception as error:
        message, code = told(error)
        if code is None:
            raise
        return _say(message, code)


def told(error: Exception) -> tuple[str, int | None]:
    """The sentence and the exit code for an error that is no bug; None for a bug."""
    if isinstance(error, Stop):
        return str(error), error.code
    for kind in type(error).__mro__:
        if kind.__name__ in SENTENCES and kind.__module__.startswith("kdutils."):
            return str(error), SENTENCES[kind.__name__]
    if isinstance(error, OSError) and error.errno in NOT_WRITABLE and error.filename:
        return f"{error.filename}: {error.strerror}. Give another path, or change its rights.", 2
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "The disk is full; free some space and run it again.", 1
    if isinstance(error, ModuleNotFoundError) and not str(error.name).startswith("kdutils"):
        return f"The package {error.name!r} is missing: pip install -e '.[notebooks]' brings it.", 2
    return "", None


def write_plainly() -> None:
    """Let stdout and stderr replace signs that their encoding does not have."""
    codecs.register_error("kdutils.plain", _plain)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="kdutils.plain")


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    signs = error.object[error.start : error.end]
    return "".join(PLAIN.get(sign) or _ascii(sign) for sign in signs), error.end


def _ascii(sign: str) -> str:
    return unicodedata.normalize("NFKD", sign).encode("ascii", "ignore").decode() or "?"


def _say(message: object, code: int) -> int:
    print(f"kdutils: {message}", file=sys.stderr)
    return code
