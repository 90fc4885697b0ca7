"""Shows the processes of ``rxws demo --nats``: a lane for each on a terminal, a line for each change elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias

from .output import Output
from .terminal import Animation, terminal

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

__all__ = ["Lane", "Lanes", "State", "make_lanes"]

State: TypeAlias = Literal["starting", "running", "killed"]

WIDTH: Final = 40
"""Characters of a lane."""

_MARKS: Final[dict[State, tuple[str, str]]] = {
    "starting": ("╌", "yellow"),
    "running": ("━", "green"),
    "killed": ("✘", "red"),
}


class Lane:
    """The life of one process.

    Attributes:
        name: its name.
        changes: when it got which state, on the monotonic clock.
        said: what it says now.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.changes: list[tuple[float, State]] = []
        self.said = ""

    def at(self, moment: float) -> State | None:
        """Return its state at a time; None before its start."""
        return next((state for when, state in reversed(self.changes) if when <= moment), None)

    @property
    def state(self) -> State | None:
        """Its state now."""
        return self.changes[-1][1] if self.changes else None


class Lanes(Protocol):
    """Shows the processes of the demo."""

    def change(self, lane: Lane, state: State) -> None:
        """Note that a process has another state."""

    def close(self, summary: Iterable[tuple[str, str]]) -> None:
        """Stop, and show the summary as pairs of name and text."""


def make_lanes(output: Output, lanes: list[Lane]) -> Lanes:
    """Return lanes that are drawn if rich is installed and the output is a terminal, otherwise plain lines."""
    console = terminal(output)
    return _Lines(output) if console is None else _Drawn(output, console, lanes)


class _Lines:
    def __init__(self, output: Output) -> None:
        self._output = output

    def change(self, lane: Lane, state: State) -> None:
        if lane.state != state:
            lane.changes.append((time.monotonic(), state))
            self._output.write(f"{time.strftime('%H:%M:%S')} {lane.name}: {state}{lane.said and '; ' + lane.said}\n")

    def close(self, summary: Iterable[tuple[str, str]]) -> None:
        _write(self._output, summary)


class _Drawn:
    def __init__(self, output: Output, console: Console, lanes: list[Lane]) -> None:
        self._output = output
        self._lanes = lanes
        self._began = time.monotonic()
        self._animation = Animation(console, self._render, transient=False)

    def change(self, lane: Lane, state: State) -> None:
        if lane.state != state:
            lane.changes.append((time.monotonic(), state))

    def close(self, summary: Iterable[tuple[str, str]]) -> None:
        self._animation.close()
        _write(self._output, summary)

    def _render(self) -> RenderableType:
        from rich.table import Table
        from rich.text import Text

        now = time.monotonic()
        table = Table(title=f"{now - self._began:.1f} s", title_justify="left", box=None, padding=(0, 1))
        for heading in ("process", "its life", ""):
            table.add_column(heading, no_wrap=True)
        for lane in self._lanes:
            life = Text()
            for cell in range(WIDTH):
                state = lane.at(self._began + (cell + 1) / WIDTH * (now - self._began))
                life.append(*((" ", "") if state is None else _MARKS[state]))
            table.add_row(lane.name, life, lane.said)
        return table


def _write(output: Output, summary: Iterable[tuple[str, str]]) -> None:
    output.write("\n" + "".join(f"{name:<14}{measured}\n" for name, measured in summary))
