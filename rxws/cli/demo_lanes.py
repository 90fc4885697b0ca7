"""Shows the processes of ``rxws demo --nats``: a lane for each on a terminal, a line for each change elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Protocol

from .demo_ending import Ending, print_ending, write_ending
from .lanes import Lane, State, draw, is_unicode
from .output import Output
from .terminal import Animation, columns, terminal, wrap

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

__all__ = ["Lanes", "make_lanes"]

STARTING: Final = 3.0
"""Seconds that the processes usually need to start."""


class Lanes(Protocol):
    """Shows the processes of the demo."""

    def change(self, lane: Lane, state: State) -> None:
        """Note that a process has another state."""

    def close(self, ending: Ending) -> None:
        """Stop, and show what was measured."""


def make_lanes(output: Output, lanes: list[Lane], seconds: float) -> Lanes:
    """Return lanes that are drawn if rich is installed and the output is a terminal, otherwise plain lines.

    Args:
        output: where the lanes are shown.
        lanes: the lanes.
        seconds: planned duration.
    """
    console = terminal(output)
    return _Lines(output) if console is None else _Drawn(console, lanes, seconds)


class _Lines:
    def __init__(self, output: Output) -> None:
        self._output = output

    def change(self, lane: Lane, state: State) -> None:
        if lane.state != state:
            lane.change(state)
            line = f"{time.strftime('%H:%M:%S')} {lane.name}: {state}{lane.note and '; ' + lane.note}"
            self._output.write("".join(f"{each}\n" for each in wrap(line, columns(), len("00:00:00 "))))

    def close(self, ending: Ending) -> None:
        write_ending(self._output, ending)


class _Drawn:
    def __init__(self, console: Console, lanes: list[Lane], seconds: float) -> None:
        self._console = console
        self._lanes = lanes
        self._began = time.monotonic()
        self._planned = self._began + STARTING + seconds
        self._animation = Animation(console, self._render, transient=False)

    def change(self, lane: Lane, state: State) -> None:
        if lane.state != state:
            lane.change(state)

    def close(self, ending: Ending) -> None:
        print_ending(self._console, self._animation, ending)

    def _render(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        now, width = time.monotonic(), self._console.width
        unicode = is_unicode(self._console.encoding)
        end = max(now, self._planned)
        _, _, lanes = draw(self._lanes, start=self._began, end=end, now=now, width=width, unicode=unicode)
        return Group(Text(f"{now - self._began:.1f} s", "dim"), *lanes)
