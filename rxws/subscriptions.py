"""What is subscribed, counted; what to send on a connection; how fast. Pure: time is passed in."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from . import codec
from .filters import Filter

__all__ = ["SendLimit", "Step", "Subscription", "Subscriptions", "identity_of"]

MARGIN: Final = 0.1
"""Seconds by which a window is kept longer than asked for: the server counts when messages reach it, and one may be
on its way for longer than the next."""


class SendLimit:
    """A strict rolling window: never more than so many messages within so many seconds.

    Args:
        messages: how many, at least 1.
        seconds: within how long.

    Example::

        limit = SendLimit(5, 1.0)
        wait = limit.delay(now)         # 0.0: one may be sent now
        limit.sent(now)
    """

    def __init__(self, messages: int, seconds: float) -> None:
        self._window: Final = seconds + MARGIN
        self._times: Final[deque[float]] = deque(maxlen=messages)

    def delay(self, now: float) -> float:
        """Return for how many seconds nothing may be sent."""
        if len(self._times) < (self._times.maxlen or 0):
            return 0.0
        return max(0.0, self._times[0] + self._window - now)

    def sent(self, now: float) -> None:
        """Count a message that is being sent."""
        self._times.append(now)


@dataclass(eq=False, slots=True)
class Subscription:
    """One thing that is subscribed, however many streams want it.

    Attributes:
        subscribe: the message that subscribes it, or an (async) function that gives one.
        unsubscribe: the message that ends it, or a function that gives one; None: none is sent.
        acknowledged: what the server's answer passes, or None where none is awaited.
        timeout: seconds in which the answer must have come.
        combine: makes one message of several ``subscribe``; None: each is sent by itself.
        combine_max: how many are combined at most.
        count: how many streams want it.
    """

    subscribe: Any
    unsubscribe: Any
    acknowledged: Filter | None
    timeout: float
    combine: Callable[[list[Any]], Any] | None = None
    combine_max: int = 200
    count: int = field(default=0)

    @classmethod
    def checked(
        cls,
        subscribe: Any,
        unsubscribe: Any,
        acknowledged: Any,
        *,
        timeout: float,
        combine: Callable[[list[Any]], Any] | None,
        combine_max: int,
    ) -> Subscription:
        """Make one of a user's arguments.

        Raises:
            TypeError: an argument is of the wrong kind.
            ValueError: ``timeout`` or ``combine_max`` is not positive.
        """
        identity_of(subscribe)
        answer = None if acknowledged is None else Filter.parse(acknowledged, "acknowledged")
        if isinstance(timeout, bool) or not isinstance(timeout, int | float):
            raise TypeError(f"timeout must be a positive number of seconds, not {timeout!r}")
        if not timeout > 0:
            raise ValueError(f"timeout must be a positive number of seconds, not {timeout!r}")
        if combine is not None and not callable(combine):
            raise TypeError(f"combine must be a function of a list of messages, or None, not {combine!r}")
        if isinstance(combine_max, bool) or not isinstance(combine_max, int):
            raise TypeError(f"combine_max must be a positive int, not {combine_max!r}")
        if combine_max < 1:
            raise ValueError(f"combine_max must be at least 1, not {combine_max}")
        return cls(subscribe, unsubscribe, answer, timeout, combine, combine_max)


@dataclass(frozen=True, slots=True)
class Step:
    """What is to be done next on a connection: subscribe these with one message, or unsubscribe one."""

    subscriptions: tuple[Subscription, ...]
    subscribes: bool


def identity_of(message: Any) -> Hashable:
    """Return what makes two subscribe messages equal: what is sent, or the function that gives it.

    Raises:
        TypeError: it is neither ``str``, nor bytes, nor a function, nor what JSON can hold.
        ValueError: it holds NaN or infinity.
    """
    return message if callable(message) else codec.to_payload(message)


class Subscriptions:
    """All that is wanted of a feed, in the order in which it was first wanted."""

    def __init__(self) -> None:
        self._wanted: dict[Hashable, Subscription] = {}

    def __len__(self) -> int:
        return len(self._wanted)

    def want(self, subscription: Subscription) -> Subscription:
        """Count a stream that wants it; return the equal subscription that was wanted before, or else this one."""
        wanted = self._wanted.setdefault(identity_of(subscription.subscribe), subscription)
        wanted.count += 1
        return wanted

    def release(self, subscription: Subscription) -> None:
        """Count a stream less; with the last one it is wanted no more."""
        subscription.count -= 1
        if subscription.count == 0:
            del self._wanted[identity_of(subscription.subscribe)]

    def next_step(self, active: Iterable[Subscription]) -> Step | None:
        """Return what to do next on a connection where ``active`` are subscribed; None: all is as it is wanted.

        What is wanted no more goes first, so that a server that limits how much is subscribed has room for the rest.
        """
        active = dict.fromkeys(active)
        for subscription in active:
            if subscription.count == 0:
                return Step((subscription,), subscribes=False)
        missing = [subscription for subscription in self._wanted.values() if subscription not in active]
        if not missing:
            return None
        first = missing[0]
        if first.combine is None:
            return Step((first,), subscribes=True)
        same = [subscription for subscription in missing if subscription.combine == first.combine]
        return Step(tuple(same[: first.combine_max]), subscribes=True)
