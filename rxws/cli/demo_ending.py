"""How both demos end: with a table of what was measured, and a verdict in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from .output import Output
from .terminal import Animation, columns, wrap

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Ending", "Verdict", "print_ending", "write_ending"]

GAP = 2
"""Columns between the names and the texts."""


class Verdict(NamedTuple):
    """The result of a demo in words.

    Attributes:
        text: one or two sentences.
        is_good: whether all went as promised; None if the demo was stopped early.
    """

    text: str
    is_good: bool | None


class Ending(NamedTuple):
    """What is printed at the end.

    Attributes:
        measured: pairs of name and text.
        verdict: the last line.
    """

    measured: Sequence[tuple[str, str]]
    verdict: Verdict

    def lines(self, width: int | None) -> list[str]:
        """Return the table as lines of at most ``width`` columns; None: of any width."""
        names = max(len(name) for name, _ in self.measured) + GAP
        return [line for name, text in self.measured for line in wrap(f"{name.ljust(names)}{text}", width, names)]

    def words(self, width: int | None) -> list[str]:
        """Return the verdict as lines of at most ``width`` columns; None: of any width."""
        return wrap(self.verdict.text, width)


def write_ending(output: Output, ending: Ending) -> None:
    """Write it as plain lines."""
    width = columns()
    lines = ["", *ending.lines(width), "", *ending.words(width)]
    output.write("".join(f"{line}\n" for line in lines))


def print_ending(console: Console, animation: Animation, ending: Ending) -> None:
    """Print it on a terminal: the table above the last picture, and the verdict in colour below it.

    So the picture and the verdict are together on a screen that is too small for all.

    Args:
        console: the console of the picture.
        animation: the picture.
        ending: what is printed.
    """
    from rich.text import Text

    width = console.width
    animation.close(Text("\n".join([*ending.lines(width), ""])))
    style = {True: "bold green", False: "bold red", None: "bold yellow"}[ending.verdict.is_good]
    console.print(Text("\n".join(["", *ending.words(width)]), style), soft_wrap=True)
