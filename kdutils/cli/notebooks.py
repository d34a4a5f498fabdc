"""`python -m kdutils notebooks` and `readme`: keep notebooks and README in step with their sources."""

from __future__ import annotations

import argparse

from . import Subparsers, command, shown, words


def add(commands: Subparsers) -> None:
    parser = command(
        commands,
        "notebooks",
        "look after the notebooks: bring them in step with their scripts",
        """
        `sync` writes notebooks/scripts/NN_name.py into notebooks/NN_name.ipynb. Cells that did not
        change keep their outputs; cells that did lose them, until the next `run --in-place`.
        """,
        """
        python -m kdutils notebooks sync                   # all of them
        python -m kdutils notebooks sync --only 03
        """,
    )
    parser.add_argument("action", choices=["sync"], help="what to do")
    parser.add_argument(
        "--only", metavar="NN[,NN]", default="", help="only these notebooks, by number or name"
    )
    parser.set_defaults(work=_notebooks)


def _notebooks(args: argparse.Namespace) -> int:
    from ..tools import notebooks

    for path in notebooks.sync(notebooks.scripts(words(args.only))):
        print(f"updated {shown(path)}")
    print("Every notebook is in step with its script.")
    return 0


def add_readme(commands: Subparsers) -> None:
    parser = command(
        commands,
        "readme",
        "write the recorded numbers into the tables of README.md",
        """
        The README's tables come from notebooks/recorded.json, which `run --in-place` writes. This
        command brings the README in step with it.
        """,
        "python -m kdutils readme",
    )
    parser.set_defaults(work=_readme)


def _readme(args: argparse.Namespace) -> int:
    from ..tools import readme_tables

    print("README.md updated." if readme_tables.update_readme() else "README.md was in step already.")
    return 0
