"""The command line: `python -m kdutils run | data | notebooks | readme`, without opening a notebook.

Each command is one `_add_…` function that declares its arguments and names the function that does
the work; add it to `COMMANDS`. A command returns the exit code: 0 done, 1 something failed on the
way, 2 asked for something that is not there. No traceback for the latter two: one clear sentence.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from .settings import PROFILE_NAMES, Settings, settings

Subparsers = argparse._SubParsersAction  # argparse has no public name for it

# Seconds a single cell may take. Far above what a slow machine needs: it ends what hangs.
CELL_TIMEOUT: dict[str, float | None] = {"smoke": 900, "class": 7200, "full": None}


class Stop(Exception):
    """Ends the program with a sentence and an exit code."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


# --- run ------------------------------------------------------------------------------------------


def _add_run(commands: Subparsers) -> None:
    parser = _command(
        commands,
        "run",
        "run the notebooks from start to end, without a browser",
        """
        Runs the numbered notebooks in order, each in a kernel of its own, and stops at the first
        error. Executed copies (.ipynb and .html) and the time and memory each one took go to
        results/run/<data>-<profile>/. What was trained before is loaded, not trained again.
        """,
        """
        python -m kdutils run                              # everything, on whatever data there is
        python -m kdutils run --profile smoke --data shapes       # a quick look, a few minutes
        python -m kdutils run --only 01,04 --data ~/pictures      # two notebooks, own images
        python -m kdutils run --in-place                   # and keep the outputs in notebooks/
        """,
    )
    _add_profile(parser)
    _add_data_option(parser)
    parser.add_argument(
        "--only", metavar="NN[,NN]", default="", help="run only these notebooks, by number or name"
    )
    parser.add_argument(
        "--out", metavar="FOLDER", type=Path, help="where executed copies go (see above)"
    )
    parser.add_argument(
        "--in-place",
        action="store_true",
        help="first bring each notebook in step with its script, then write the outputs into it, "
        "without widget state or anything of this machine",
    )
    parser.set_defaults(work=_run)


def _run(args: argparse.Namespace) -> int:
    chosen = _apply(args)  # before PyTorch loads: a typo is answered at once
    from . import artifacts, notebooks, report, timing

    only = [word.strip() for word in args.only.split(",") if word.strip()]
    if args.in_place:
        paths = [notebooks.notebook_of(script) for script in notebooks.scripts(only)]
    else:
        paths = notebooks.find(only)
    name = f"{artifacts.slug(Path(chosen.data).name)}-{chosen.profile.name}"
    out = args.out.expanduser().resolve() if args.out else chosen.results / "run" / name
    print(chosen)
    about = {
        "data": describe_data(),
        "profile": chosen.profile.name,
        "machine": timing.machine(),
    }
    print(f"Running {len(paths)} notebooks, each in its own kernel:", flush=True)
    timings = notebooks.execute(
        paths,
        out,
        timeout=CELL_TIMEOUT[chosen.profile.name],
        in_place=args.in_place,
        about=about,
    )
    print(f"  {'together':<20} {sum(row.seconds for row in timings):7.1f} s\n")
    if not any(path.stem.startswith("06") for path in paths):
        print("Notebook 06 was not part of this run; results so far are from an earlier one.\n")
    table = _write_table(about["data"])
    print(f"Executed notebooks: {shown(out)} (.ipynb, and .html to read in a browser)")
    print(f"Times and memory:   {shown(out / 'timings.json')}")
    if table is not None:
        print(f"Results table:      {shown(table)}")
    if args.in_place:
        print("Outputs were written into notebooks/ as well.")
        if not only:
            report.save(report.collect(out / "timings.json"))
            print("The run was noted in notebooks/recorded.json; `python -m kdutils readme` next.")
    return 0


def describe_data() -> str:
    """Load the data once, say what it is, and give its display name.

    This is where a wrong name, a missing folder or a slow host shows: before any notebook starts.
    """
    from . import data

    print("Looking for the data …", flush=True)
    images = data.load()
    sizes = ", ".join(f"{len(split):,} {name}" for name, split in images.splits.items())
    print(f"Data: {images.name} ({sizes})")
    if images.notice:
        print(images.notice)
    return images.name


def _write_table(data_name: str) -> Path | None:
    """Print the results table and write it beside its JSON; None when there is none yet."""
    from . import artifacts
    from .files import atomic_path

    try:
        table = artifacts.results_table(artifacts.load_results("benchmark", data_name))
    except artifacts.ArtifactError:
        print("No results table yet: notebook 06 makes it.\n")
        return None
    print(f"{table}\n")
    path = artifacts.results_path("benchmark", data_name).with_suffix(".md")
    with atomic_path(path) as part:
        part.write_text(table + "\n", encoding="utf-8")
    return path


# --- readme ---------------------------------------------------------------------------------------


def _add_readme(commands: Subparsers) -> None:
    parser = _command(
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
    from . import report

    print("README.md updated." if report.update_readme() else "README.md was in step already.")
    return 0


# --- data -----------------------------------------------------------------------------------------


def _add_data(commands: Subparsers) -> None:
    parser = _command(
        commands,
        "data",
        "fetch CIFAR-10, at any speed, going on where it stopped",
        """
        Downloads CIFAR-10 (170 MB) into the cache, however slow its host is, and checks it. Stop
        it with Ctrl-C at any time and start it again: it goes on where it was. With --data it
        prepares other data instead and says what is in it: the path of a folder of images is
        decoded once.
        """,
        """
        python -m kdutils data                             # CIFAR-10, then nothing has to wait
        python -m kdutils data --data ~/pictures           # check and decode a folder of images
        """,
    )
    _add_data_option(parser)
    parser.set_defaults(work=_data)


def _data(args: argparse.Namespace) -> int:
    asked = args.data or os.environ.get("KDUTILS_DATA", "").strip() or "cifar10"
    args.data = "cifar10" if asked == "auto" else asked
    _apply(args)
    from . import data

    if args.data == "cifar10":
        print("Fetching CIFAR-10 …", flush=True)
        data.download()
    describe_data()
    return 0


# --- notebooks ------------------------------------------------------------------------------------


def _add_notebooks(commands: Subparsers) -> None:
    parser = _command(
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
    from . import notebooks

    only = [word.strip() for word in args.only.split(",") if word.strip()]
    changed = notebooks.sync(notebooks.scripts(only))
    for path in changed:
        print(f"updated {shown(path)}")
    print("Every notebook is in step with its script.")
    return 0


# --- shared ---------------------------------------------------------------------------------------

COMMANDS: tuple[Callable[[Subparsers], None], ...] = (
    _add_run,
    _add_data,
    _add_notebooks,
    _add_readme,
)


def _command(
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


def _add_profile(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--profile",
        metavar="NAME",
        help=f"how much work: {', '.join(PROFILE_NAMES)} (else KDUTILS_PROFILE, else class)",
    )


def _add_data_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        metavar="NAME",
        help="cifar10, shapes, auto, or the path of a folder of images "
        "(else KDUTILS_DATA, else auto)",
    )


def _apply(args: argparse.Namespace) -> Settings:
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
    from .artifacts import ArtifactError
    from .errors import DataError
    from .files import DiskFull
    from .notebooks import NotebookError, NotebookFailed

    try:
        return args.work(args)
    except Stop as stop:
        return _say(stop, stop.code)
    except (ArtifactError, DataError, NotebookError) as error:
        return _say(error, 2)
    except (NotebookFailed, DiskFull) as failure:
        return _say(failure, 1)
    except KeyboardInterrupt:
        return _say("Stopped. What was finished is kept; run it again to go on.", 130)


def _say(message: object, code: int) -> int:
    print(f"kdutils: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
