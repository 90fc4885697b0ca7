"""What became of a life."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from .schedule import Schedule

__all__ = ["LifeFailed", "Problem", "Report"]

SHOWN = 8
"""How many problems of one life are shown."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that must not be.

    Attributes:
        kind: one of a few words, the same whatever the seed.
        text: what exactly.
    """

    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


@dataclass(slots=True)
class Report:
    """What became of a life.

    Attributes:
        schedule: the life.
        problems: what must not be; empty where all is well.
        counts: how many connections, messages, gaps and so on there were.
    """

    schedule: Schedule
    problems: list[Problem] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def kinds(self) -> set[str]:
        """What kinds of problems there are."""
        return {problem.kind for problem in self.problems}

    def __str__(self) -> str:
        shown = [f"  {problem}" for problem in self.problems[:SHOWN]]
        if len(self.problems) > SHOWN:
            shown.append(f"  and {len(self.problems) - SHOWN} more")
        counts = ", ".join(f"{count} {name}" for name, count in sorted(self.counts.items()))
        return "\n".join([str(self.schedule), f"({counts})", *(shown or ["  all is well"])])


class LifeFailed(AssertionError):
    """A feed did not survive a life: messages are missing without a word, say.

    Attributes:
        report: of the shortest life that still fails.
        seed: the seed.
    """

    def __init__(self, report: Report) -> None:
        super().__init__(report)
        self.report = report
        self.seed = report.schedule.seed

    def __str__(self) -> str:
        return f"the life of seed {self.seed} failed; the shortest that still does:\n{self.report}"
