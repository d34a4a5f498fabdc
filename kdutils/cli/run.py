"""`python -m kdutils run`: the notebooks, without opening one."""

from __future__ import annotations

import argparse
from pathlib import Path

from . import (
    Subparsers,
    add_data_option,
    add_out,
    add_profile,
    apply,
    command,
    describe_data,
    output_folder,
    shown,
    words,
)

# Seconds a single cell may take. Far above what a slow machine needs: it ends what hangs.
CELL_TIMEOUT: dict[str, float | None] = {"smoke": 900, "class": 7200, "full": None}


def add(commands: Subparsers) -> None:
    parser = command(
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
    add_profile(parser)
    add_data_option(parser)
    parser.add_argument(
        "--only", metavar="NN[,NN]", default="", help="run only these notebooks, by number or name"
    )
    add_out(parser, "FOLDER", "where executed copies go (see above)")
    parser.add_argument(
        "--in-place",
        action="store_true",
        help="first bring each notebook in step with its script, then write the outputs into it, "
        "without widget state or anything of this machine",
    )
    parser.set_defaults(work=_run)


def _run(args: argparse.Namespace) -> int:
    chosen = apply(args)  # before PyTorch loads: a typo is answered at once
    from .. import pretrained, timing
    from ..tools import execution, notebooks, readme_tables

    only = words(args.only)
    if args.in_place:
        paths = [notebooks.notebook_of(script) for script in notebooks.scripts(only)]
    else:
        paths = notebooks.find(only)
    name = f"{pretrained.slug(Path(chosen.data).name)}-{chosen.profile.name}"
    out = output_folder(args.out or chosen.results / "run" / name)
    print(chosen)
    about = {
        "data": describe_data(),
        "profile": chosen.profile.name,
        "machine": timing.machine(),
    }
    print(f"Running {len(paths)} notebooks, each in its own kernel:", flush=True)
    timings = execution.execute(
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
            record = readme_tables.collect(out / "timings.json")
            pretrained.write_json(readme_tables.record_path(), record)
            print("The run was noted in notebooks/recorded.json; `python -m kdutils readme` next.")
    return 0


def _write_table(data_name: str) -> Path | None:
    """Print the results table and write it beside its JSON; None when there is none yet."""
    from .. import pretrained
    from ..runtime.files import atomic_path

    try:
        table = pretrained.results_table(pretrained.load_results("benchmark", data_name))
    except pretrained.ArtifactError:
        print("No results table yet: notebook 06 makes it.\n")
        return None
    print(f"{table}\n")
    path = pretrained.results_path("benchmark", data_name).with_suffix(".md")
    with atomic_path(path) as part:
        part.write_text(table + "\n", encoding="utf-8")
    return path
