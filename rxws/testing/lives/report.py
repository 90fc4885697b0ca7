"""The report of a life: its problems and counts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from .ingredients import needed
from .schedule import Schedule

__all__ = ["LifeFailed", "Problem", "Report"]

EARLY = 0.0005
"""If a life begins before this time of the loop's clock, the times of its acts are those of the clock, too."""

SHOWN = 8
"""The number of problems that are shown of one life."""


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
        began_at: when the life began on the loop's clock, which is the clock of the times in problems.
        lateness: the longest time, in seconds, for which a loop in real time did not run although it should have. If
            it is long, the problems may come from a busy machine.
        is_shortened: whether the schedule is only a part of the life of its seed.
    """

    schedule: Schedule
    problems: list[Problem] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    began_at: float = 0.0
    lateness: float = 0.0
    is_shortened: bool = False

    @property
    def kinds(self) -> set[str]:
        """The kinds of the problems."""
        return {problem.kind for problem in self.problems}

    def __str__(self) -> str:
        shown = [f"  {problem}" for problem in self.problems[:SHOWN]]
        if len(self.problems) > SHOWN:
            shown.append(f"  and {len(self.problems) - SHOWN} more")
        if self.problems and self.began_at > EARLY:
            shown.insert(0, f"  (the times of problems are of the loop's clock: the life began at {self.began_at:.3f})")
        if self.lateness:
            shown.insert(0, f"  (the machine was busy: the loop was up to {self.lateness:.3f} s late)")
        counts = ", ".join(f"{count} {name}" for name, count in sorted(self.counts.items()))
        if self.is_shortened:
            left = ", ".join(needed(self.schedule)) or "none"
            shown.insert(0, f"  (shortened: only acts and settings of these ingredients remain: {left})")
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

    def __repr__(self) -> str:
        return f"{type(self).__name__}(seed {self.seed}: {', '.join(sorted(self.report.kinds))})"

    def __str__(self) -> str:
        return f"the life of seed {self.seed} failed:\n{self.report}"
