"""The statements of relays, on a subject of their own: until when all that they received is stored. Pure."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from .subjects import token_of

__all__ = ["CLOSED", "CONTROL", "JOINING", "Control", "Peers", "control_subject", "read_control"]

#: The pattern of the subjects of all relays. Its root is not that of the data, because patterns must not overlap.
CONTROL: Final = "_rx.>"

#: The reason of a relay that has messages from ``since`` on, and waits until it may publish them in order.
JOINING: Final = "joining"

#: The reason of a relay that was closed.
CLOSED: Final = "closed"


class Control(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One statement of a relay. Times are in seconds since the epoch, by the relay's clock.

    Attributes:
        event: ``"Alive"``: all that the relay received from ``since`` to ``time`` is stored before this statement.
            ``"Connected"``: its messages from ``since`` on follow. ``"Disconnected"`` and ``"Overflowed"``: after
            ``time`` messages are missing.
        feed: the name of the feed that is captured. Relays with the same one stand in for one another.
        relay: the relay's name.
        boot: another one each time that a relay starts.
        since: where the interval begins that the relay has without a hole.
        time: where it ends so far.
        reason: why messages are missing; empty if none are.
        dropped: how many messages were dropped.
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
    """Return the subject on which a relay makes its statements."""
    return f"_rx.{token_of(relay)}"


def read_control(payload: bytes) -> Control | None:
    """Return the statement of a payload; None if it is none, or one whose times are no interval."""
    try:
        control = _READ(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return control if control.since <= control.time else None


_NEVER: Final = (None, float("-inf"))


class Peers:
    """What the other relays of a feed have claimed, and which of them wait to begin.

    Args:
        feed: the name of the feed.
        boot: of this relay, whose own statements are ignored.
        patience: seconds without a claim after which another relay counts as dead.
        settle: seconds by which clocks and connections may differ.
    """

    def __init__(self, feed: str, boot: str, patience: float, settle: float) -> None:
        self._feed = feed
        self._boot = boot
        self._patience = patience
        self._settle = settle
        # By relay: its last statement, and when it was heard on this machine's monotonic clock.
        self._claims: dict[tuple[str, str], tuple[Control, float]] = {}
        self._joining: dict[tuple[str, str], tuple[Control, float]] = {}

    def heard(self, control: Control, now: float) -> None:
        """Take note of a statement that was made at ``now`` on the monotonic clock."""
        if control.feed != self._feed or control.boot == self._boot:
            return
        key = control.relay, control.boot
        if now < max(self._claims.get(key, _NEVER)[1], self._joining.get(key, _NEVER)[1]):
            # Read from the stream, after a later one was heard.
            return
        self._claims.pop(key, None)
        self._joining.pop(key, None)
        if control.event in ("Alive", "Connected"):
            self._claims[key] = control, now
        elif control.reason == JOINING:
            self._joining[key] = control, now

    def is_alive(self, now: float) -> bool:
        """Whether another relay has claimed something within the patience."""
        return bool(self._fresh(self._claims, now))

    def goes_first(self, since: float, now: float) -> bool:
        """Whether, of all relays that wait to begin, this one has the longest history."""
        return all((since, self._boot) < (each.since, each.boot) for each in self._fresh(self._joining, now))

    def _fresh(self, statements: dict[tuple[str, str], tuple[Control, float]], now: float) -> list[Control]:
        for key in [key for key, (_, heard) in statements.items() if now - heard > self._patience]:
            del statements[key]
        return [control for control, _ in statements.values()]

    def following(self, since: float) -> Control | None:
        """Return a claim that reaches so far beyond ``since`` that a relay that begins there may follow it."""
        claims = [each for each, _ in self._claims.values() if each.time >= since + self._settle]
        return min(claims, key=lambda each: each.since, default=None)

    def covers(self, start: float, end: float) -> bool:
        """Return whether another relay has stored all that it received from ``start`` to ``end``, by any clock."""
        settle = self._settle
        return any(each.since + settle <= start and end + settle <= each.time for each, _ in self._claims.values())

    def may_cover(self, start: float) -> bool:
        """Return whether a relay that claimed something may yet cover what was received at ``start``."""
        return any(each.since + self._settle <= start for each, _ in self._claims.values())
