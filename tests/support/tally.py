"""The counts of a campaign: what became of numbered messages."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Tally"]


@dataclass
class Tally:
    """What became of the messages of a campaign.

    Attributes:
        lost: published messages that did not arrive and that no gap reports.
        twice: messages that arrived twice.
        disordered: messages that arrived after a later one of their channel.
        gaps: reported gaps.
        messages: messages that arrived.
    """

    lost: int = 0
    twice: int = 0
    disordered: int = 0
    gaps: int = 0
    messages: int = 0

    @property
    def is_sound(self) -> bool:
        """Whether no message was lost without a gap, arrived twice, or was out of order."""
        return not (self.lost or self.twice or self.disordered)
