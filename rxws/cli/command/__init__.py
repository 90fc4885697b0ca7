"""The first module of the installed command ``rxws``. setup.py installs it beside rxws, as ``rxws_command``.

Importing rxws takes a few tenths of a second. Ctrl-C in that time would print a traceback if rxws were imported first.
"""

from __future__ import annotations

import sys

INTERRUPTED = 130
"""128 + SIGINT, the convention of shells."""

try:
    from rxws.cli import main as _main
except KeyboardInterrupt:
    sys.exit(INTERRUPTED)

__all__ = ["main"]


def main() -> int:
    """Run the command line; return its exit code."""
    try:
        return _main()
    except KeyboardInterrupt:
        # The user pressed Ctrl-C while the arguments were parsed, or after the command.
        return INTERRUPTED
