"""Rich's Console, where it is installed and there is a terminal: for what moves and has colours."""

from __future__ import annotations

import asyncio
import io
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from .. import CallbackFailed, Connected, Event, Overflowed, Rotated
from .output import Output

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

__all__ = ["Animation", "style_of", "terminal"]

REFRESH: Final = 0.25
"""Seconds between two pictures. Not one for each event: to draw it takes longer than to reconnect."""


def terminal(output: Output) -> Console | None:
    """Give rich's Console on ``output``; None where there is no terminal, a dumb one, or no rich.

    With ``NO_COLOR`` (no-color.org) it has no colours.
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


class _TerminalFile(io.StringIO):
    """What rich prints to: an Output, which does not hold up the event loop."""

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
    """What moves at the bottom of a terminal, below what is printed on its console.

    Args:
        console: as :func:`terminal` gives it.
        render: function that gives the picture of now.
        transient: whether it vanishes at the end.
    """

    def __init__(self, console: Console, render: Callable[[], RenderableType], *, transient: bool) -> None:
        from rich.live import Live

        self._live = Live(
            console=console,
            get_renderable=render,
            # rich would do it in a thread; and what others print is left alone.
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

    def close(self) -> None:
        """Draw the last picture, or none."""
        self._ticking.cancel()
        self._live.stop()


def style_of(event: Event) -> str:
    """Give the colour of an event: what is well, what is wrong, what is to be looked at."""
    match event:
        case Connected() | Rotated():
            return "green"
        case CallbackFailed() | Overflowed():
            return "red"
        case _:
            return "yellow"
