"""What the commands of `python -m kdutils` share: their options, and how they talk.

A command lives in a module of its own here. It is one `add` function that declares its arguments
and names the function that does the work; list it in `COMMANDS` of `kdutils/__main__.py`. The work
gives the exit code: 0 done, 1 something failed on the way, 2 asked for something that is not there.
No traceback for the latter two: one clear sentence.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from ..runtime.settings import PROFILE_NAMES, Settings, settings

Subparsers = argparse._SubParsersAction  # argparse has no public name for it


class Stop(Exception):
    """Ends the program with a sentence and an exit code."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


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


def apply(args: argparse.Namespace) -> Settings:
    """Put the options where everything looks for them, kernels too: in the environment."""
    if getattr(args, "profile", None):
        if args.profile not in PROFILE_NAMES:
            raise Stop(
                f"There is no profile {args.profile!r}; take one of {', '.join(PROFILE_NAMES)}.", 2
            )
        os.environ["KDUTILS_PROFILE"] = args.profile
    if args.data:
        os.environ["KDUTILS_DATA"] = args.data
    try:
        chosen = settings()
    except ValueError as error:  # KDUTILS_PROFILE
        raise Stop(str(error), 2) from None
    path = Path(chosen.data).expanduser()
    if path.exists() and chosen.data not in ("auto", "cifar10", "shapes"):
        # Kernels run in notebooks/, where a relative path would mean another folder.
        os.environ["KDUTILS_DATA"] = str(path.resolve())
    return settings()


def shown(path: Path) -> str:
    """A path as a person would type it from here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def describe_data() -> str:
    """Load the data once, say what it is, and give its display name.

    This is where a wrong name, a missing folder or a slow host shows: before any notebook starts.
    """
    from .. import data

    print("Looking for the data …", flush=True)
    images = data.load()
    sizes = ", ".join(f"{len(split):,} {name}" for name, split in images.splits.items())
    print(f"Data: {images.name} ({sizes})")
    if images.notice:
        print(images.notice)
    return images.name
