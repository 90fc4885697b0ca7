"""The root of all events: what each of them has, and how it is shown."""

from __future__ import annotations

from dataclasses import dataclass, fields

from .quoting import quoted_repr
from .redaction import redact

__all__ = ["Event"]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Event:
    """The base class of all events.

    ``str(event)`` is the sentence that is logged for the event. ``repr(event)`` shows the beginning of each field. Both
    are without secrets and control characters.

    Attributes:
        name: the feed's name.
        time: the time of the event, in seconds since the epoch (of the loop's clock, if that is virtual).
    """

    name: str
    time: float

    @property
    def _sentence(self) -> str:
        return repr(self)

    def __str__(self) -> str:
        return redact(self._sentence)

    def __repr__(self) -> str:
        values = ", ".join(f"{field.name}={quoted_repr(getattr(self, field.name))}" for field in fields(self))
        return f"{type(self).__name__}({values})"
