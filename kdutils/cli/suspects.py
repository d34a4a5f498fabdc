"""`python -m kdutils suspects`: the experiments behind notebook 07."""

from __future__ import annotations

import argparse
from pathlib import Path

from . import Stop, Subparsers, add_data_option, apply, command, shown


def add(commands: Subparsers) -> None:
    parser = command(
        commands,
        "suspects",
        "measure what each usual mistake in distillation costs, several seeds (an hour or two)",
        """
        Trains one small student for each suspect of notebook 07 and each seed, all on the same
        budget. A finished run is one small file, and what is finished is not done again: stop it
        with Ctrl-C at any time. With --record the results become those that the notebook shows.
        """,
        """
        python -m kdutils suspects --data ~/cifar10                # all of them
        python -m kdutils suspects --arms labels,distilled,no_t2 --seeds 0,1
        python -m kdutils suspects --list                          # the suspects, and what was found
        """,
    )
    add_data_option(parser)
    parser.add_argument("--arms", metavar="NAME[,NAME]", default="", help="only these suspects")
    parser.add_argument(
        "--seeds", metavar="N[,N]", default="0,1,2,3,4", help="whole numbers; default 0 to 4"
    )
    parser.add_argument("--out", metavar="FOLDER", type=Path, help="where runs are kept")
    parser.add_argument(
        "--record", action="store_true", help="write kdutils/recorded/pitfalls.json as well"
    )
    parser.add_argument("--list", action="store_true", help="train nothing, show what is recorded")
    parser.set_defaults(work=_suspects)


def _suspects(args: argparse.Namespace) -> int:
    from ..course import pitfalls

    if args.list:
        print(pitfalls.table(pitfalls.load_recorded()))
        return 0
    chosen = [pitfalls.arm(name) for name in _words(args.arms)] or list(pitfalls.ARMS)
    try:
        seeds = [int(word) for word in _words(args.seeds)]
    except ValueError:
        raise Stop(f"--seeds takes whole numbers such as 0,1,2; got {args.seeds!r}.", 2) from None
    apply(args)
    from .. import data

    lab = pitfalls.laboratory(data.load(), folder=args.out)
    print(f"{lab.data.name}: {len(chosen)} arms, seeds {', '.join(map(str, seeds))}", flush=True)
    lab.run(chosen, seeds, say=lambda words: print(words, flush=True))
    record = lab.record()
    pitfalls.save_recorded(record, lab.folder / "pitfalls.json")
    if args.record:
        pitfalls.save_recorded(record)
        print(f"Recorded in {shown(pitfalls.recorded_path())}.")
    print(pitfalls.table(record))
    return 0


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]
