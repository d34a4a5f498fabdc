"""`python -m kdutils long-runs` and `pitfalls`: many runs of many arms, over the one runner."""

from __future__ import annotations

import argparse
from typing import Any

from . import (
    Stop,
    Subparsers,
    add_data_option,
    add_out,
    apply,
    command,
    describe,
    output_folder,
    shown,
    whole,
    words,
)


def add_long_runs(commands: Subparsers) -> None:
    parser = command(
        commands,
        "long-runs",
        "train the networks behind the README's numbers, several seeds (hours)",
        """
        Trains every arm of the comparison with every seed, and skips what comes with the package or
        was done here before. A run that was cut off goes on from its last epoch. Several of these
        may run at once, on different arms or seeds.
        """,
        """
        python -m kdutils long-runs --data ~/cifar10 --jobs 2      # all that is missing
        python -m kdutils long-runs --arms baseline --seeds 0,1    # two runs
        python -m kdutils long-runs --list                         # what there is, as a table
        """,
    )
    _add_options(parser)
    parser.set_defaults(work=_long_runs)


def add_pitfalls(commands: Subparsers) -> None:
    parser = command(
        commands,
        "pitfalls",
        "measure what each usual mistake in distillation costs, several seeds (an hour or two)",
        """
        Trains one small student for each pitfall of notebook 07 and each seed, all on the same
        budget. A finished run is one small file, and what is finished is not done again: stop it
        with Ctrl-C at any time.
        """,
        """
        python -m kdutils pitfalls --data ~/cifar10 --jobs 2       # all of them
        python -m kdutils pitfalls --arms labels,distilled,no_t2 --seeds 0,1
        python -m kdutils pitfalls --cluster tcp://host:8786       # on the workers of a cluster
        python -m kdutils pitfalls --list                          # what was found
        """,
    )
    _add_options(parser)
    parser.set_defaults(work=_pitfalls)


def _add_options(parser: argparse.ArgumentParser) -> None:
    add_data_option(parser)
    parser.add_argument("--arms", metavar="NAME[,NAME]", default="", help="only these arms")
    parser.add_argument(
        "--seeds", metavar="N[,N]", default="0,1,2,3,4", help="whole numbers; default 0 to 4"
    )
    parser.add_argument(
        "--jobs", type=whole(0, 1024), metavar="N", default=1,
        help="runs side by side, in processes of one thread each; 0: as many as there are cores",
    )  # fmt: skip
    parser.add_argument(
        "--cluster", metavar="ADDRESS", help="let the workers of a dask scheduler do the runs"
    )
    add_out(parser, "FOLDER", "where runs are kept; else among the results")
    parser.add_argument(
        "--ship", action="store_true",
        help="add what is finished to the package's own results (CIFAR-10 only)",
    )  # fmt: skip
    parser.add_argument("--list", action="store_true", help="train nothing, show what is recorded")


def _long_runs(args: argparse.Namespace) -> int:
    from ..course import long_runs

    if args.list:
        print(long_runs.table())
        return 0
    chosen, seeds = _arms(args, long_runs.ARMS), _seeds(args)
    args.profile = "full"
    images = _images(args)
    runs = long_runs.runner(images, args.out)
    print(f"{len(chosen)} arms, runs in {shown(runs.folder)}", flush=True)
    records = long_runs.run(runs, chosen, seeds, args.ship, **_how(args))
    known = [] if args.ship else records
    print(long_runs.table([*long_runs.recorded_runs(), *known]))
    return 0


def _pitfalls(args: argparse.Namespace) -> int:
    from ..course import pitfalls

    if args.list:
        print(pitfalls.table(pitfalls.recorded()[1]))
        return 0
    chosen, seeds = _arms(args, {each.name: each for each in pitfalls.ARMS}), _seeds(args)
    images = _images(args)
    print(f"{len(chosen)} arms, seeds {', '.join(map(str, seeds))}", flush=True)
    about, records = pitfalls.measure(images, chosen, seeds, folder=args.out, **_how(args))
    if args.ship:
        pitfalls.ship(about, records)
        print("Added to kdutils/pretrained/pitfalls.json.")
    print(pitfalls.table(records))
    return 0


def _images(args: argparse.Namespace) -> Any:
    """The data, checked before any work is done."""
    apply(args)
    if args.out is not None:
        output_folder(args.out)
    from .. import data, pretrained

    images = data.load()
    describe(images)
    if args.ship and not pretrained.fits(images):
        raise Stop(
            f"Only runs on {pretrained.FAMILY} go into the package, not those on {images.name}; "
            "leave out --ship, and they are kept in the results folder."
        )
    return images


def _arms(args: argparse.Namespace, known: dict[str, Any]) -> list[Any]:
    names = words(args.arms) or list(known)
    for name in names:
        if name not in known:
            raise Stop(f"There is no arm {name!r}; choose from {', '.join(known)}.")
    return [known[name] for name in names]


def _seeds(args: argparse.Namespace) -> list[int]:
    try:
        seeds = [int(word) for word in words(args.seeds)]
    except ValueError:
        seeds = []
    if not seeds or min(seeds) < 0:
        raise Stop(f"--seeds takes whole numbers such as 0,1,2; got {args.seeds!r}.")
    return seeds


def _how(args: argparse.Namespace) -> dict[str, Any]:
    from ..course.ablations import default_jobs

    return {
        "jobs": args.jobs or default_jobs(),
        "cluster": args.cluster,
        "say": lambda line: print(line, flush=True),
    }
