"""Colours and animation with rich's Console, if rich is installed and the output is a terminal."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import sys
import textwrap
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from .. import CallbackFailed, Connected, Event, Overflowed, Rotated
from .output import Output

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

__all__ = ["Animation", "columns", "style_of", "terminal", "wrap"]

REFRESH: Final = 0.25
"""Seconds between two updates of the screen. An update at each event would take longer than a reconnection."""


def terminal(output: Output) -> Console | None:
    """Return rich's Console on ``output``; None without a terminal, on a dumb terminal, or without rich.

    With the environment variable ``NO_COLOR`` (no-color.org) the console has no colours.
    """
    if not _is_terminal() or os.environ.get("TERM", "dumb") == "dumb":
        return None
    try:
        from rich.console import Console
    except ImportError:
        return None
    return Console(
        file=_TerminalFile(output), force_terminal=True, color_system=None if os.environ.get("NO_COLOR") else "auto"
    )


def _is_terminal() -> bool:
    return all(stream is not None and stream.isatty() for stream in (sys.stdout, sys.stderr))


def columns() -> int | None:
    """Return the width of the terminal; None if standard output is no terminal."""
    return shutil.get_terminal_size().columns if _is_terminal() else None


def wrap(line: str, width: int | None, indent: int = 0) -> list[str]:
    """Break a line between words.

    Args:
        line: the line.
        width: the most columns of a line; None breaks nothing.
        indent: columns by which the second and further lines are indented, where the terminal is wide enough.
    """
    if width is None or len(line) <= width:
        return [line]
    indent = indent if width >= 3 * indent else 2
    return textwrap.wrap(line, max(8, width), subsequent_indent=" " * indent, drop_whitespace=True)


class _TerminalFile(io.StringIO):
    """The file that rich prints to. It passes text to an Output, which does not block the event loop."""

    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output = output

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._output.encoding

    def flush(self) -> None:
        self._output.write(self.getvalue())
        self.seek(0)
        self.truncate()


class Animation:
    """Shows a picture that updates itself at the bottom of a terminal, below the printed lines.

    Args:
        console: the console that :func:`terminal` returned.
        render: function that returns the present picture.
        transient: whether :meth:`close` removes the picture.
    """

    def __init__(self, console: Console, render: Callable[[], RenderableType], *, transient: bool) -> None:
        from rich.live import Live

        self._live = Live(
            console=console,
            get_renderable=render,
            # rich would refresh in a thread, and would redirect the output of other code.
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
            transient=transient,
        )
        self._live.start(refresh=True)
        self._ticking = asyncio.get_running_loop().create_task(self._tick(), name="rxws animation")

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(REFRESH)
            self._live.refresh()

    def close(self, above: RenderableType | None = None) -> None:
        """Draw the last picture, or remove it if it is transient, and stop.

        Args:
            above: what is printed above the last picture; None prints nothing.
        """
        self._ticking.cancel()
        if above is not None:
            # Otherwise rich would draw the former picture, which may be larger, and scroll too far.
            self._live.refresh()
            self._live.console.print(above, soft_wrap=True)
        self._live.stop()


def style_of(event: Event) -> str:
    """Return the colour of an event: green for success, red for an error, yellow for a warning."""
    match event:
        case Connected() | Rotated():
            return "green"
        case CallbackFailed() | Overflowed():
            return "red"
        case _:
            return "yellow"
