"""`python -m kdutils numbers`: the long trainings behind the README's table."""

from __future__ import annotations

import argparse

from . import Stop, Subparsers, add_data_option, apply, command


def add(commands: Subparsers) -> None:
    parser = command(
        commands,
        "numbers",
        "train the networks behind the README's numbers, several seeds (hours)",
        """
        Trains every arm of the comparison with every seed, skips what kdutils/pretrained/results.json
        has already, and writes each finished run into it. A run that was cut off goes on from its
        last epoch. Several of these may run at once, on different arms or seeds.
        """,
        """
        python -m kdutils numbers --data ~/cifar10                 # all that is missing
        python -m kdutils numbers --arms baseline --seeds 0,1      # two runs
        python -m kdutils numbers --list                           # what there is, as a table
        """,
    )
    add_data_option(parser)
    parser.add_argument("--arms", metavar="NAME[,NAME]", default="", help="only these arms")
    parser.add_argument("--seeds", metavar="N[,N]", default="", help="only these seeds (0 to 4)")
    parser.add_argument("--threads", type=int, metavar="N", help="threads of this process")
    parser.add_argument("--list", action="store_true", help="train nothing, show the table")
    parser.set_defaults(work=_numbers)


def _numbers(args: argparse.Namespace) -> int:
    from ..course import long_runs

    if args.list:
        print(long_runs.table())
        return 0
    arms = _words(args.arms) or list(long_runs.ARMS)
    unknown = [name for name in arms if name not in long_runs.ARMS]
    if unknown:
        raise Stop(f"There is no arm {unknown[0]!r}; take from {', '.join(long_runs.ARMS)}.", 2)
    try:
        seeds = [int(word) for word in _words(args.seeds)] or list(long_runs.SEEDS)
    except ValueError:
        raise Stop(f"--seeds takes whole numbers such as 0,1,2; got {args.seeds!r}.", 2) from None
    args.profile = "full"
    apply(args)
    if args.threads:
        import torch

        torch.set_num_threads(args.threads)
    from .. import data

    images = data.load()
    todo = long_runs.missing(arms, seeds, images.name)
    print(f"{images.name}: {len(todo)} runs to do", flush=True)
    for arm, seed in todo:
        found = long_runs.run(arm, seed, images)
        print(
            f"{arm.title}, seed {seed}: validation {found['val_accuracy']:.2f} %, test "
            f"{found['test_accuracy']:.2f} %, {found['train_seconds']:.0f} s",
            flush=True,
        )
    print(long_runs.table())
    return 0


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]
