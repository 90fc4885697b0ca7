"""The overlap of two connections in a planned rotation: hold, match, release. Pure: time is passed in.

While the new connection is opened and subscribed, the old connection delivers and the messages of the new one are held.
This module decides two questions: *when may the old connection be closed*, and *which messages of the new connection
are copies of messages that the old one delivered*. Positions cannot decide them, because channels interleave
differently on each connection and one connection lags. Both decisions use the identity of a message and the time at
which it came.

Closing
    The overlap is proven by a stretch of ``settle`` seconds in which the old connection delivered at least one message,
    and every message that it delivered came on the new connection too, less than ``settle`` seconds later. (With a
    longer lag, the copies would come when the old connection's messages are no longer remembered.) The stretch begins
    after the new connection was subscribed, so that a channel that is silent in it has ``settle`` seconds to be
    subscribed as well.

Copies
    Every message that the server sends between the start of the new connection and the end of the old one comes on
    both. So if the old connection delivered an identity once, and the new connection brings it less than an overlap
    later, both are one message. Otherwise they may be two equal messages, and both are delivered: a doubled heartbeat
    is harmless, a lost message is not.

    ===========  ===========  ============================================================================
    on the old   on the new   of those on the new
    ===========  ===========  ============================================================================
    once         once         it is a copy, unless it came much later
    once         twice        the first is a copy, as above; the second is another message
    twice        any          none is known to be a copy: some may have been sent before the new one began
    none         any          none is a copy
    ===========  ===========  ============================================================================
"""

from __future__ import annotations

import enum
import math
from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

__all__ = ["Handover", "Verdict"]

T = TypeVar("T")

# In place of the time of an identity that came more than once: so long ago that no message can be its copy.
_REPEATED: Final = -math.inf

# In seconds. Differences of times are rounded. Without this margin, the same lag could be shorter than `settle` for the
# proof and longer for a copy, which would then be delivered twice although the overlap was proven.
_ROUNDING: Final = 1e-6


class Verdict(enum.Enum):
    """Whether the old connection may be closed, and why."""

    WAIT = "wait"
    """Not yet."""
    PROVEN = "proven"
    """Yes: the new connection brings what the old one delivers."""
    TIMEOUT = "timeout"
    """Yes, without a proof: the timeout has passed."""
    FULL = "full"
    """Yes, without a proof: the limit of remembered messages is reached."""


class Handover(Generic[T]):
    """One overlap of an old and a new connection, from the start of opening the new one.

    All times are seconds on one monotonic clock. If the new connection ends first, drop the object: the held messages
    come on the old connection too. If the old connection ends first, call :meth:`old_ended` as after a verdict.

    Args:
        settle: seconds, for three things: the length of the stretch that proves the overlap; the longest lag of the new
            connection behind the old one; how long copies are looked for after the end of the old connection.
        timeout: seconds after :meth:`subscribed` after which the old connection may be closed without a proof.
        limit: how many messages of each connection are remembered. Beyond it the verdict is ``FULL``; messages of the
            new connection are still held until the old one has ended; the oldest messages of the old connection are
            forgotten, so their copies are delivered.

    Attributes:
        held: how many messages of the new connection were held.
        lost: how many held messages were dropped that came on no other connection.
        duplicates: how many messages of the new connection were copies, held or later.

    Example::

        overlap = Handover[str](settle=0.5, timeout=5.0)
        overlap.subscribed(now=0.0)
        overlap.old_delivered("a", now=0.1)
        overlap.hold("a", "message a", now=0.2)
        overlap.hold("b", "message b", now=0.4)
        assert overlap.verdict(now=0.6) is Verdict.PROVEN
        assert overlap.old_ended(now=0.7) == ["message b"]
    """

    def __init__(self, *, settle: float, timeout: float, limit: int = 100_000) -> None:
        self._settle = settle
        self._timeout = timeout
        self._limit = limit
        self._subscribed = math.inf
        self._ended = math.inf
        self._verdict = Verdict.WAIT
        # When the old connection delivered each identity. Ordered, because finding the oldest key of a plain dict takes
        # longer with each removal.
        self._delivered: OrderedDict[Hashable, float] = OrderedDict()
        self._forgotten = False
        self._is_alone = False
        self._reach = -math.inf
        self._held: deque[tuple[Hashable, T, float]] = deque()
        # When the new connection brought each identity.
        self._arrived: dict[Hashable, float] = {}
        # Messages of the old connection that are not judged yet; then those that were matched since the last mismatch.
        self._unjudged: deque[tuple[Hashable, float]] = deque()
        self._matched: list[Hashable] = []
        self._clean_since = math.inf
        self.held = 0
        self.lost = 0
        self.duplicates = 0

    def old_delivered(self, identity: Hashable, now: float) -> None:
        """Note that the old connection delivered a message.

        Call this from the start of opening the new connection, not only from when it is open: the server may send the
        copy before. Leave out messages that every connection gets for itself.
        """
        self._delivered[identity] = _REPEATED if identity in self._delivered else now
        if len(self._delivered) > self._limit:
            _, oldest = self._delivered.popitem(last=False)
            # While the new connection is being opened, which may take long, the oldest messages have no copies to come.
            self._forgotten = self._forgotten or oldest >= self._subscribed
        if self._verdict is Verdict.WAIT and now >= self._subscribed:
            self._unjudged.append((identity, now))

    def subscribed(self, now: float) -> None:
        """Note that the new connection is open and everything is subscribed on it: the timeout begins."""
        self._subscribed = self._clean_since = now

    def hold(self, identity: Hashable, item: T, now: float) -> None:
        """Hold a message of the new connection.

        Raises:
            RuntimeError: the old connection has ended, so a message that is held now would never be delivered.
        """
        if self._ended < math.inf:
            raise RuntimeError("the old connection has ended: ask is_copy() and deliver")
        # Before _let_go(), which may drop a message of the same identity.
        repeated = identity in self._arrived
        self._held.append((identity, item, now))
        self.held += 1
        if self._subscribed == math.inf:
            # Beyond the limit, drop also messages that come on no other connection: a gap will be reported for them.
            self._let_go(-math.inf if self._is_alone else now - 2 * self._settle)
        if self._verdict is Verdict.WAIT:
            self._arrived[identity] = _REPEATED if repeated else now

    def old_lost(self) -> None:
        """Note that the old connection ended before the new one is subscribed: messages now come on no other one."""
        self._is_alone = True

    def _let_go(self, before: float) -> None:
        # Subscribing may take long where sending is limited. Messages that came long before its end came on the old
        # connection too, because that does not lag by more.
        while self._held and (self._held[0][2] < before or len(self._held) > self._limit):
            identity, _, arrived = self._held.popleft()
            if self._arrived.get(identity) == arrived:
                del self._arrived[identity]
            self.held -= 1
            self.lost += self._is_alone

    def verdict(self, now: float) -> Verdict:
        """Return whether the old connection may be closed.

        Call this on a timer, every few hundredths of a second. Each message of the old connection is judged once,
        for any number of calls. A verdict other than ``WAIT`` is final, and there is none before
        :meth:`subscribed`. After :meth:`old_ended` the verdict does not change.
        """
        if self._verdict is Verdict.WAIT and self._subscribed <= now < self._ended:
            if self.held >= self._limit or self._forgotten:
                self._verdict = Verdict.FULL
            elif self._has_proof(now):
                self._verdict = Verdict.PROVEN
            elif now - self._subscribed >= self._timeout:
                self._verdict = Verdict.TIMEOUT
            if self._verdict is not Verdict.WAIT:
                self._forget_evidence()
        return self._verdict

    def old_ended(self, now: float) -> list[T]:
        """Note that the old connection was read to its end. From now on call :meth:`is_copy`.

        Returns:
            The held messages without the copies, in the order of the new connection.
        """
        self._ended = now
        # Two different messages may be equal: one from before the start of the new connection, and one from after the
        # end of the old one. They are at least an overlap apart, less `settle` because of the lags. A copy that lags by
        # `settle` must be recognized in any case.
        self._reach = max(self._settle, now - self._subscribed - self._settle)
        held, self._held = self._held, deque()
        self._forget_evidence()
        return [item for identity, item, arrived in held if not self._account(identity, arrived)]

    def is_copy(self, identity: Hashable, now: float) -> bool:
        """Return whether the old connection delivered this message, which came on the new one after the old one's end.

        Each message of the old connection has one copy: a second call with the same identity returns False.
        """
        return not self.is_over(now) and self._account(identity, now)

    def is_over(self, now: float) -> bool:
        """Return whether no message can be a copy any more: nothing is remembered.

        That is so ``settle`` seconds after the end of the old connection, or earlier if every message of it had its
        copy. The memory is freed then.
        """
        if now - self._ended >= self._settle:
            self._delivered.clear()
        return self._ended < math.inf and not self._delivered

    def _account(self, identity: Hashable, arrived: float) -> bool:
        delivered = self._delivered.get(identity)
        if delivered is None or arrived - delivered > self._reach:
            return False
        del self._delivered[identity]
        self.duplicates += 1
        return True

    def _has_proof(self, now: float) -> bool:
        while self._unjudged:
            identity, delivered = self._unjudged[0]
            arrived = self._arrived.get(identity)
            if _REPEATED not in (arrived, self._delivered.get(identity)):
                if arrived is not None and arrived - delivered < self._settle - _ROUNDING:
                    self._matched.append(identity)
                elif self._is_proof(until=delivered):
                    return True
                elif now - delivered <= self._settle:
                    # The copy may still come: judge this message and those after it later.
                    return False
                else:
                    self._clean_since = delivered
                    self._matched.clear()
            self._unjudged.popleft()
        return self._is_proof(until=now)

    def _is_proof(self, until: float) -> bool:
        # An identity that was unique when it was judged may have come again since.
        while self._matched and self._is_repeated(self._matched[-1]):
            self._matched.pop()
        return bool(self._matched) and until - self._clean_since >= self._settle

    def _is_repeated(self, identity: Hashable) -> bool:
        return _REPEATED in (self._arrived.get(identity), self._delivered.get(identity))

    def _forget_evidence(self) -> None:
        self._arrived.clear()
        self._unjudged.clear()
        self._matched.clear()
