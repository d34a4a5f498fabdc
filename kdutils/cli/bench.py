"""`python -m kdutils bench`: how fast training is here, against a textbook loop."""

from __future__ import annotations

import argparse
import sys

from . import Subparsers, add_out, apply, command, output_file, shown


def add(commands: Subparsers) -> None:
    parser = command(
        commands,
        "bench",
        "measure the engine against a textbook training loop",
        """
        Trains the same networks the textbook way (one picture at a time, two worker processes,
        float32, a live teacher) and our way, in turns, and prints how many images a second each
        gets through. Some minutes; leave the machine alone meanwhile.
        """,
        """
        python -m kdutils bench                            # table, and results/bench.json
        python -m kdutils bench --quick                    # a rough look, about a minute
        """,
    )
    parser.add_argument("--quick", action="store_true", help="fewer and shorter pieces of work")
    add_out(parser, "FILE", "else results/bench.json")
    parser.set_defaults(work=_bench)


def _bench(args: argparse.Namespace) -> int:
    chosen = apply(args)
    out = output_file(args.out or chosen.results / "bench.json")
    from .. import pretrained
    from ..tools import bench

    size = bench.QUICK if args.quick else bench.Size()
    record = bench.run(size, say=lambda text: print(text, file=sys.stderr, flush=True))
    pretrained.write_json(out, record)
    print(f"{bench.table(record)}\n\nWritten to {shown(out)}")
    return 0
