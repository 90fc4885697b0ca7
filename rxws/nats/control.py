"""The statements of relays: up to what time all messages that they received are stored. No I/O."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from .subjects import token_of

__all__ = ["CLOSED", "CONTROL", "JOINING", "Control", "Peers", "control_subject", "read_control"]

#: The pattern of the subjects of all relays' statements. They have another first token than messages, because patterns
#: must not overlap.
CONTROL: Final = "_rx.>"

#: The reason in a statement of a relay that has messages from ``since`` on, and waits for its turn to publish them.
JOINING: Final = "joining"

#: The reason in a statement of a relay that was closed.
CLOSED: Final = "closed"


class Control(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One statement of a relay. Times are in seconds since the epoch, by the relay's clock.

    Attributes:
        event: ``"Alive"``: all messages that the relay received from ``since`` to ``time`` are stored before this
            statement. ``"Connected"``: its messages from ``since`` on follow. ``"Disconnected"`` and ``"Overflowed"``:
            messages after ``time`` are missing.
        feed: the name of the captured feed. Relays with the same name can replace one another.
        relay: the relay's name.
        boot: an id that differs each time a relay starts.
        since: the start of the interval in which the relay has all messages.
        time: the end of that interval so far.
        reason: the reason why messages are missing; empty if none are.
        dropped: the number of dropped messages.
    """

    event: Literal["Alive", "Connected", "Disconnected", "Overflowed"]
    feed: str
    relay: str
    boot: str
    since: float
    time: float
    reason: str = ""
    dropped: int = 0


_READ: Final = msgspec.json.Decoder(Control).decode


def control_subject(relay: str) -> str:
    """Return the subject to which a relay publishes its statements."""
    return f"_rx.{token_of(relay)}"


def read_control(payload: bytes) -> Control | None:
    """Return the statement in a payload; None if there is none, or if its ``since`` is after its ``time``."""
    try:
        control = _READ(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return control if control.since <= control.time else None


_NEVER: Final = (None, float("-inf"))


class Peers:
    """Knows the claims of the other relays of a feed, and which of them wait to begin.

    Args:
        feed: the name of the feed.
        boot: the ``boot`` of this relay, whose own statements are ignored.
        patience: seconds without a claim after which another relay counts as dead.
        settle: seconds by which the clocks of two relays may differ, and also by which a message may reach one of them
            later than the other. So two times of two relays are compared with twice this margin.
    """

    def __init__(self, feed: str, boot: str, patience: float, settle: float) -> None:
        self._feed = feed
        self._boot = boot
        self._patience = patience
        self._margin = 2 * settle
        # By relay: its last statement, and when that arrived, on this machine's monotonic clock.
        self._claims: dict[tuple[str, str], tuple[Control, float]] = {}
        self._joining: dict[tuple[str, str], tuple[Control, float]] = {}

    def heard(self, control: Control, now: float) -> None:
        """Take note of a statement that was made at ``now`` on the monotonic clock."""
        if control.feed != self._feed or control.boot == self._boot:
            return
        key = control.relay, control.boot
        if now < max(self._claims.get(key, _NEVER)[1], self._joining.get(key, _NEVER)[1]):
            # This statement was read from the stream after a later one had arrived.
            return
        self._claims.pop(key, None)
        self._joining.pop(key, None)
        if control.event in ("Alive", "Connected"):
            self._claims[key] = control, now
        elif control.reason == JOINING:
            self._joining[key] = control, now

    def is_alive(self, now: float) -> bool:
        """Whether another relay has made a claim within the last ``patience`` seconds."""
        return bool(self._fresh(self._claims, now))

    def goes_first(self, since: float, now: float) -> bool:
        """Whether this relay has the oldest messages of all relays that wait to begin."""
        return all((since, self._boot) < (each.since, each.boot) for each in self._fresh(self._joining, now))

    def _fresh(self, statements: dict[tuple[str, str], tuple[Control, float]], now: float) -> list[Control]:
        for key in [key for key, (_, heard) in statements.items() if now - heard > self._patience]:
            del statements[key]
        return [control for control, _ in statements.values()]

    def first_after(self, since: float) -> float | None:
        """Return the time of the first message that a relay with all messages from ``since`` on may publish.

        It is ``since``, or later if another relay lacks the messages that were received then, because these would be
        out of order. It is None until another relay has stored all earlier messages.
        """
        claims = [claim for claim, _ in self._claims.values()]
        firsts = [(max(since, claim.since + self._margin), claim.time) for claim in claims]
        return min((first for first, until in firsts if first + self._margin <= until), default=None)

    def covers(self, start: float, end: float) -> bool:
        """Return whether another relay has stored all messages from ``start`` to ``end``, despite different clocks."""
        margin = self._margin
        return any(each.since + margin <= start and end + margin <= each.time for each, _ in self._claims.values())

    def may_cover(self, start: float) -> bool:
        """Return whether a relay with a claim may later cover the messages that were received at ``start``."""
        return any(each.since + self._margin <= start for each, _ in self._claims.values())
