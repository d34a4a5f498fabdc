"""`python -m kdutils data`: fetch CIFAR-10, or prepare other images."""

from __future__ import annotations

import argparse
import os

from . import Subparsers, add_data_option, apply, command, describe_data


def add(commands: Subparsers) -> None:
    parser = command(
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
    add_data_option(parser)
    parser.set_defaults(work=_data)


def _data(args: argparse.Namespace) -> int:
    asked = args.data or os.environ.get("KDUTILS_DATA", "").strip() or "cifar10"
    args.data = "cifar10" if asked == "auto" else asked
    apply(args)
    from .. import data

    if args.data == "cifar10":
        print("Fetching CIFAR-10 …", flush=True)
        data.download()
    describe_data()
    return 0
