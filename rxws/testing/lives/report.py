"""The report of a life: its problems and counts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from .schedule import Schedule

__all__ = ["LifeFailed", "Problem", "Report"]

SHOWN = 8
"""How many problems of one life are shown."""


@dataclass(frozen=True, slots=True)
class Problem:
    """An error that the judge found.

    Attributes:
        kind: the kind of error, which does not depend on the seed.
        text: the details.
    """

    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


@dataclass(slots=True)
class Report:
    """The report of a life.

    Attributes:
        schedule: the life.
        problems: its problems; empty if there are none.
        counts: the numbers of connections, messages, gaps and so on.
    """

    schedule: Schedule
    problems: list[Problem] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def kinds(self) -> set[str]:
        """The kinds of the problems."""
        return {problem.kind for problem in self.problems}

    def __str__(self) -> str:
        shown = [f"  {problem}" for problem in self.problems[:SHOWN]]
        if len(self.problems) > SHOWN:
            shown.append(f"  and {len(self.problems) - SHOWN} more")
        counts = ", ".join(f"{count} {name}" for name, count in sorted(self.counts.items()))
        return "\n".join([str(self.schedule), f"({counts})", *(shown or ["  no problems"])])


class LifeFailed(AssertionError):
    """A feed did not survive a life: messages are missing without a Gap, for example.

    Attributes:
        report: the report of the shortest life that still fails.
        seed: the seed of the life.
    """

    def __init__(self, report: Report) -> None:
        super().__init__(report)
        self.report = report
        self.seed = report.schedule.seed

    def __str__(self) -> str:
        return f"the life of seed {self.seed} failed:\n{self.report}"
