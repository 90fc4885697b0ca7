"""Draws lives over time as lanes, a row of characters for each connection or process. No I/O."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["Lane", "State", "draw", "is_unicode", "ruler"]

State: TypeAlias = Literal["starting", "running", "killed", "cut", "gap"]

LEAST_WIDTH: Final = 10
"""Minimum characters of a lane's life."""

NOTE: Final = 6
"""Columns that are kept for notes, so that the lives keep their width when the first note comes."""


class _Look(NamedTuple):
    """How a state looks: a character, its replacement where there is only ASCII, and a style of rich."""

    unicode: str
    ascii: str
    style: str


_LOOKS: Final[dict[State, _Look]] = {
    "starting": _Look("╌", "-", "yellow"),
    "running": _Look("━", "=", "green"),
    "killed": _Look("✘", "x", "red"),
    "cut": _Look("✘", "x", "bold red"),
    "gap": _Look("╳", "x", "bold red"),  # noqa: RUF001
}

# The first and the last character of a running time, so that a short hole between two lanes can be seen.
_ENDS: Final = {True: ("╺", "╸"), False: ("[", "]")}


class Lane:
    """The life of one connection or process.

    Attributes:
        name: its name, on the left.
        note: what is written on the right.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.note = ""
        self._changes: list[tuple[float, State | None]] = []
        self._marks: list[tuple[float, State]] = []

    def change(self, state: State | None) -> None:
        """Note that it has this state from now on; None: it has ended."""
        self._changes.append((time.monotonic(), state))

    def mark(self, state: State) -> None:
        """Note something that took no time. However short, it gets a character."""
        self._marks.append((time.monotonic(), state))

    @property
    def state(self) -> State | None:
        """Its state now; None before it starts, and after its end."""
        return self._changes[-1][1] if self._changes else None

    def between(self, start: float, end: float) -> State | None:
        """Return what to show for a time: its last mark, or the state at its end."""
        mark = next((state for when, state in reversed(self._marks) if start <= when < end), None)
        return mark or next((state for when, state in reversed(self._changes) if when < end), None)


def is_unicode(encoding: str) -> bool:
    """Return whether an encoding has the characters of lanes."""
    return encoding.lower().startswith("utf")


def draw(
    lanes: Sequence[Lane], *, start: float, end: float, now: float, width: int, unicode: bool
) -> tuple[int, int, list[Text]]:
    """Return the column where the lives begin, their width, and a line for each lane.

    Args:
        lanes: the lanes, the first one on top.
        start: the time at the left end, on the monotonic clock.
        end: the time at the right end. Times after ``now`` are empty.
        now: the present time.
        width: columns of the terminal.
        unicode: whether the terminal has more than ASCII.
    """
    from rich.text import Text

    names = max(len(lane.name) for lane in lanes) + 2
    notes = max(NOTE, *(len(lane.note) for lane in lanes)) + 2
    columns = max(LEAST_WIDTH, width - names - notes)
    lines = []
    for lane in lanes:
        line = Text(lane.name.ljust(names), no_wrap=True, overflow="crop")
        for text, style in _runs(lane, _cells(lane, start, end, now, columns), unicode):
            line.append(text, style)
        line.append(f"  {lane.note}", "dim")
        lines.append(line)
    return names, columns, lines


def ruler(names: Sequence[tuple[float, str]], *, start: float, end: float, width: int, unicode: bool) -> str:
    """Return a line that has a name at each of these times."""
    line = ""
    for when, name in names:
        column = max(0, int((when - start) / (end - start) * width))
        line = f"{line[: max(0, column - 1)].ljust(column)}{'╷' if unicode else '|'}{name}"
    return line[:width]


def _cells(lane: Lane, start: float, end: float, now: float, columns: int) -> list[State | None]:
    step = (end - start) / columns
    lefts = [start + step * column for column in range(columns)]
    return [lane.between(left, min(now, left + step)) if left < now else None for left in lefts]


def _runs(lane: Lane, cells: Sequence[State | None], unicode: bool) -> Iterator[tuple[str, str]]:
    """Yield the text and the style of each time in which the state is the same."""
    first, last = _ENDS[unicode]
    runs = [(state, len([*run])) for state, run in itertools.groupby(cells)]
    for number, (state, length) in enumerate(runs):
        if state is None:
            yield " " * length, ""
            continue
        look = _LOOKS[state]
        text = (look.unicode if unicode else look.ascii) * length
        if state == "running" and length > 1:
            begins = number > 0 and runs[number - 1][0] is None
            ends = lane.state is None and number + 1 < len(runs) and runs[number + 1][0] is None
            text = (first if begins else text[0]) + text[1:-1] + (last if ends else text[-1])
        yield text, look.style
