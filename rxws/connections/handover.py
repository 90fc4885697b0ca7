"""The overlap of two connections in a planned rotation: hold, match, release. Pure: time is passed in.

While the new connection is opened and subscribed, the old one delivers and the new one's messages are held. Two
questions are decided here: *when may the old one be closed*, and *which of the new one's messages are copies of what
the old one delivered*. The connections never agree in position (channels interleave differently on each, one of them
lags), so both answers rest on what a message is, its identity, and on when it came.

Closing
    The overlap is proven by a stretch of ``settle`` seconds in which the old connection delivered something and all
    of it came on the new one too, each less than ``settle`` later: a new connection that lags more would bring its
    copies when they are no longer remembered. The stretch lies after the new one was subscribed, so that a channel
    that is silent in it has ``settle`` seconds to be subscribed as well.

Copies
    Every message sent between the new connection's first moment and the old one's last comes on both. So an identity
    that the old one delivered once, and that the new one brings less than an overlap later, is one message. Anything
    else may be two messages that are equal, and is delivered: a doubled heartbeat is harmless, a lost message is not.

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

# Stands for the time of an identity that came more than once: so long ago that nothing can be its copy.
_REPEATED: Final = -math.inf

# Differences of times are rounded: without a margin, one and the same lag could be within `settle` for the proof and
# beyond it for a copy, which would then be delivered twice although the overlap was proven. In seconds.
_ROUNDING: Final = 1e-6


class Verdict(enum.Enum):
    """Whether the old connection may be closed, and why."""

    WAIT = "wait"
    """Not yet."""
    PROVEN = "proven"
    """Yes: the new connection has shown that it brings what the old one does."""
    TIMEOUT = "timeout"
    """Yes, unproven: the overlap has lasted long enough."""
    FULL = "full"
    """Yes, unproven: there is too much to remember."""


class Handover(Generic[T]):
    """One overlap of an old and a new connection, from the start of opening the new one.

    All times are seconds on one monotonic clock. If the new connection ends first, drop the object: what it held is
    on the old one too. If the old one ends first, call :meth:`old_ended` as after a verdict.

    Args:
        settle: how long the stretch must be that proves the overlap; by how much the new connection may lag behind
            the old one; how long copies are looked for after the old one's end.
        timeout: how long after :meth:`subscribed` the old connection may be closed without a proof.
        limit: how many messages of either connection to remember. Nothing is refused beyond it: the verdict is
            then ``FULL``, what the new connection brings until the old one has ended is still held, and the oldest
            deliveries of the old one are forgotten (their copies are delivered).

    Attributes:
        held: how many messages of the new connection were held.
        lost: how many messages of the new connection were let go that are on no other connection.
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
        # When the old connection delivered each identity. Ordered, because in a plain dict it takes longer and longer
        # to find the oldest.
        self._delivered: OrderedDict[Hashable, float] = OrderedDict()
        self._forgotten = False
        self._is_alone = False
        self._reach = -math.inf
        self._held: deque[tuple[Hashable, T, float]] = deque()
        # When the new connection brought each identity.
        self._arrived: dict[Hashable, float] = {}
        # The old one's deliveries that are not judged yet, then the matched ones since the last that was not.
        self._unjudged: deque[tuple[Hashable, float]] = deque()
        self._matched: list[Hashable] = []
        self._clean_since = math.inf
        self.held = 0
        self.lost = 0
        self.duplicates = 0

    def old_delivered(self, identity: Hashable, now: float) -> None:
        """Tell that the old connection delivered a message.

        To be called from the moment that the opening of the new connection starts, not from when it is open: the copy
        may be on its way there before. Messages that every connection gets for itself are not told.
        """
        self._delivered[identity] = _REPEATED if identity in self._delivered else now
        if len(self._delivered) > self._limit:
            _, oldest = self._delivered.popitem(last=False)
            # While the new connection is being opened, however long it takes, the oldest have no copies to come.
            self._forgotten = self._forgotten or oldest >= self._subscribed
        if self._verdict is Verdict.WAIT and now >= self._subscribed:
            self._unjudged.append((identity, now))

    def subscribed(self, now: float) -> None:
        """Tell that the new connection is open and everything is subscribed on it: the timeout counts from here."""
        self._subscribed = self._clean_since = now

    def hold(self, identity: Hashable, item: T, now: float) -> None:
        """Hold a message of the new connection.

        Raises:
            RuntimeError: the old connection has ended: what is held now would never be delivered.
        """
        if self._ended < math.inf:
            raise RuntimeError("the old connection has ended: ask is_copy() and deliver")
        # Before a message is let go, which may be the same.
        repeated = identity in self._arrived
        self._held.append((identity, item, now))
        self.held += 1
        if self._subscribed == math.inf:
            # Beyond the limit also what is on no other connection: the gap that will be told covers it.
            self._let_go(-math.inf if self._is_alone else now - 2 * self._settle)
        if self._verdict is Verdict.WAIT:
            self._arrived[identity] = _REPEATED if repeated else now

    def old_lost(self) -> None:
        """Tell that the old connection ended before the new one is subscribed: what comes now is on no other one."""
        self._is_alone = True

    def _let_go(self, before: float) -> None:
        # Subscribing may take long, where sending is limited. What came long before it is complete is on the old
        # connection as well, which lags by no more than that.
        while self._held and (self._held[0][2] < before or len(self._held) > self._limit):
            identity, _, arrived = self._held.popleft()
            if self._arrived.get(identity) == arrived:
                del self._arrived[identity]
            self.held -= 1
            self.lost += self._is_alone

    def verdict(self, now: float) -> Verdict:
        """Tell whether the old connection may be closed.

        To be called on a timer, every few hundredths of a second. Each delivery is judged once, however often this is
        called. A verdict other than ``WAIT`` is final, and there is none before :meth:`subscribed`. After
        :meth:`old_ended` it stays what it was.
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
        """Tell that the old connection was read to its end; from now on ask :meth:`is_copy`.

        Returns:
            What was held, in the new connection's order, less what the old one delivered.
        """
        self._ended = now
        # Equal messages that are two, one before the new connection began and one after the old one's end, are an
        # overlap apart; less `settle`, because of the lags. A copy that lags by `settle` must be known in any case.
        self._reach = max(self._settle, now - self._subscribed - self._settle)
        held, self._held = self._held, deque()
        self._forget_evidence()
        return [item for identity, item, arrived in held if not self._account(identity, arrived)]

    def is_copy(self, identity: Hashable, now: float) -> bool:
        """Tell whether a message of the new connection, after the old one's end, was delivered by the old one.

        Each delivery accounts for one copy: asking twice gives True, then False.
        """
        return not self.is_over(now) and self._account(identity, now)

    def is_over(self, now: float) -> bool:
        """Tell whether nothing is remembered any more, so that no message can be a copy.

        That is so ``settle`` seconds after the old connection's end, or once every delivery is accounted for. The
        memory is freed then.
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
                    # The new connection lags: this one, and what follows, is judged later.
                    return False
                else:
                    self._clean_since = delivered
                    self._matched.clear()
            self._unjudged.popleft()
        return self._is_proof(until=now)

    def _is_proof(self, until: float) -> bool:
        # What was unique when it was judged may have been repeated since.
        while self._matched and self._is_repeated(self._matched[-1]):
            self._matched.pop()
        return bool(self._matched) and until - self._clean_since >= self._settle

    def _is_repeated(self, identity: Hashable) -> bool:
        return _REPEATED in (self._arrived.get(identity), self._delivered.get(identity))

    def _forget_evidence(self) -> None:
        self._arrived.clear()
        self._unjudged.clear()
        self._matched.clear()
