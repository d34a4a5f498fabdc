"""`python -m kdutils COMMAND`, without opening a notebook; the commands lie in `kdutils.cli`."""

from __future__ import annotations

import sys

try:
    from .cli.program import build_parser, main

    if __name__ == "__main__":
        sys.exit(main())
except KeyboardInterrupt:  # Ctrl-C while it was still starting: there is nothing to keep
    print("kdutils: Stopped.", file=sys.stderr)
    sys.exit(130)

__all__ = ["build_parser", "main"]
