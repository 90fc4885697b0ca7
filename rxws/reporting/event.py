"""The base class of all events, how events are shown, and the reasons that they contain."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, TypeAlias

from .quoting import quoted_repr
from .redaction import redact

__all__ = ["Event", "GapReason", "Overflow", "Reason", "next_attempt"]

#: The reason why a connection ended or could not be opened.
#:
#: - ``"rotation"``: a planned rotation.
#: - ``"server"``: the server closed it, or violated the protocol or a limit.
#: - ``"network"``: the connection broke, or the peer did not answer in time.
#: - ``"idle"``: no message arrived for ``idle_timeout`` seconds.
#: - ``"handshake"``: the answer was not a websocket handshake, or the opening hook raised.
#: - ``"tls"``: the server's identity was not proven, or the encryption failed.
#: - ``"auth"``: the server refused the credentials.
#: - ``"line"``: its messages could not be compared with those of the other lines.
#: - ``"user"``: this side closed it.
#: - ``"internal"``: the code that reads the connection raised a :exc:`TypeError`, :exc:`AttributeError`,
#:   :exc:`NameError` or :exc:`NotImplementedError`, which shows a bug in rxws, in the websocket library, or in the
#:   user's connection class.
Reason: TypeAlias = Literal[
    "rotation", "server", "network", "idle", "handshake", "tls", "auth", "line", "user", "internal"
]

#: The reason of a :class:`Gap`.
GapReason: TypeAlias = Reason | Literal["recording", "source", "subscription", "history"]

#: What a full buffer does: it ends its stream after the held items, drops the oldest item, or drops the newest.
Overflow: TypeAlias = Literal["error", "drop_oldest", "drop_newest"]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Event:
    """The base class of all events.

    ``str(event)`` is the sentence that is logged for the event. ``repr(event)`` shows the beginning of each field.
    Neither contains secrets or control characters.

    Attributes:
        name: the feed's name.
        time: the time of the event, in seconds since the epoch (by the loop's clock if that clock is virtual).
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


def next_attempt(delay: float | None) -> str:
    """Return the words for a next attempt after ``delay`` seconds. None means that no attempt follows."""
    if delay is None:
        return "giving up"
    return f"retrying in {delay:.1f} s" if delay >= 0.05 else "retrying at once"
