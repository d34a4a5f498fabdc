"""What the commands of `python -m kdutils` share: their options, and how they talk.

A command lives in a module of its own here. It is one `add` function that declares its arguments
and names the function that does the work; list it in `COMMANDS` of `program.py`. The work returns
the exit code: 0 done, 1 something failed on the way, 2 asked for something that is not there. No
traceback for the latter two: one clear sentence.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..runtime.settings import PROFILE_NAMES, Settings, settings

if TYPE_CHECKING:
    from ..data import ImageData

Subparsers = argparse._SubParsersAction  # argparse has no public name for it


class Stop(Exception):
    """Ends the program with a sentence and an exit code."""

    def __init__(self, message: str, code: int = 2) -> None:
        super().__init__(message)
        self.code = code


# --- options --------------------------------------------------------------------------------------


def command(
    commands: Subparsers, name: str, summary: str, story: str, examples: str
) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=summary,
        description=_dedent(story),
        epilog="examples:\n" + _dedent(examples, indent="  "),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _dedent(text: str, indent: str = "") -> str:
    return "\n".join(indent + line.strip() for line in text.strip().splitlines())


def add_profile(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--profile",
        metavar="NAME",
        help=f"how much work: {', '.join(PROFILE_NAMES)} (else KDUTILS_PROFILE, else class)",
    )


def add_data_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        metavar="NAME",
        help="cifar10, shapes, auto, or the path of a folder of images "
        "(else KDUTILS_DATA, else auto)",
    )


def add_out(parser: argparse.ArgumentParser, metavar: str, help: str) -> None:
    parser.add_argument("--out", metavar=metavar, type=path, help=help)


def path(text: str) -> Path:
    """An argument that is a path; `~` means a home folder, as in a shell."""
    try:
        if not text.strip() or "\0" in text:
            raise ValueError("it names nothing")
        return Path(text).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no path ({error})") from None


def whole(low: int, high: int = 2**31) -> Callable[[str], int]:
    """The type of an argument that is a whole number from `low` up to `high`."""

    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {low} to {high}")
        return value

    return number


def words(text: str) -> list[str]:
    """The parts of "a, b,c"."""
    return [word.strip() for word in text.split(",") if word.strip()]


def apply(args: argparse.Namespace) -> Settings:
    """Put the options where everything looks for them, kernels too: in the environment.

    Raises:
        Stop: no such profile, or a data folder that cannot be a path.
    """
    profile, asked = getattr(args, "profile", None), getattr(args, "data", None)
    if profile is not None and profile not in PROFILE_NAMES:
        raise Stop(f"There is no profile {profile!r}; take one of {', '.join(PROFILE_NAMES)}.")
    try:
        if profile:
            os.environ["KDUTILS_PROFILE"] = profile
        if asked is not None:
            os.environ["KDUTILS_DATA"] = asked
        chosen = settings()  # ValueError: KDUTILS_PROFILE
        if chosen.data not in ("auto", "cifar10", "shapes"):
            folder = Path(chosen.data).expanduser()
            if folder.exists():
                # Kernels run in notebooks/, where a relative path would mean another folder.
                os.environ["KDUTILS_DATA"] = str(folder.resolve())
    except ValueError as error:
        raise Stop(str(error)) from None
    except (RuntimeError, OSError) as error:  # nobody's home, a name that is too long
        raise Stop(f"{chosen.data!r} cannot be a folder of images ({error}).") from None
    return settings()


# --- output ---------------------------------------------------------------------------------------


def output_folder(folder: Path) -> Path:
    """`folder`, made if missing, after seeing that it can be written: before the work, not after.

    Raises:
        Stop: it cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = "it is no folder" if isinstance(error, FileExistsError) else error.strerror
        raise Stop(
            f"Nothing can be written into {shown(folder)} ({reason}); choose another --out, or "
            "change its rights."
        ) from None
    return folder


def output_file(file: Path) -> Path:
    """`file`, after seeing that it can be written.

    Raises:
        Stop: it cannot.
    """
    output_folder(file.parent)
    if file.is_dir():
        raise Stop(f"{shown(file)} is a folder; give --out the name of a file.")
    return file


def shown(path: Path) -> str:
    """A path as a person would type it from here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def describe(images: ImageData) -> str:
    """Say what the data is; returns its display name."""
    sizes = ", ".join(f"{len(split):,} {name}" for name, split in images.splits.items())
    print(f"Data: {images.name} ({sizes})")
    if images.notice:
        print(images.notice)
    return images.name


def describe_data() -> str:
    """Load the data once, say what it is; returns its display name.

    This is where a wrong name, a missing folder or a slow host shows: before any notebook starts.
    """
    from .. import data

    print("Looking for the data …", flush=True)
    return describe(data.load())
