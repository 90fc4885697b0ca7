"""Ways in which rxws is broken, to see that lives find it. What is patched inside stands in this one table."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from rxws.sending.channel_states import ChannelState

__all__ = ["BREAKS", "broken"]

Make = Callable[[Any], Any]
"""Makes what stands in the place of a function, from that function."""


def _drop_a_held_message(old_ended: Any) -> Any:
    return lambda self, now: old_ended(self, now)[1:]


def _deliver_copies(_account: Any) -> Any:
    return lambda self, identity, arrived: False


def _mistake_all_for_copies(is_copy: Any) -> Any:
    return lambda self, identity, now: is_copy(self, identity, now) or not self.is_over(now)


def _forget_gaps(_announce: Any) -> Any:
    return lambda self, gap: None


def _announce_late(announce: Any) -> Any:
    """Announce each Gap with the next one, behind messages that came after it."""
    waiting: list[Any] = []

    def late(self: Any, gap: Any) -> None:
        waiting.append(gap)
        if len(waiting) > 1:
            announce(self, waiting.pop(0))

    return late


def _leave_a_subscription_out(init: Any) -> Any:
    def without_the_last(self: Any, wanted: Any) -> None:
        init(self, wanted)
        pending = self._members[ChannelState.PENDING_SUBSCRIBE]
        if len(pending) > 1:
            pending.popitem()

    return without_the_last


def _unsubscribe_nothing(take_step: Any) -> Any:
    def subscribe_only(self: Any) -> Any:
        self._members[ChannelState.PENDING_UNSUBSCRIBE].clear()
        return take_step(self)

    return subscribe_only


def _close_the_old_one_at_once(_has_proof: Any) -> Any:
    return lambda self, now: True


def _hand_on_in_another_order(old_ended: Any) -> Any:
    return lambda self, now: old_ended(self, now)[::-1]


def _see_no_hole(_change: Any) -> Any:
    def change(self: Any, message: Any) -> list[Any]:
        return [message] if self.in_sync else _change(self, message)

    return change


def _leave_timers(_stop: Any) -> Any:
    return lambda self: None


def _lose_some(match: Any) -> Any:
    """Lose one message in a hundred on the way to its consumers."""
    count = itertools.count(1)
    return lambda self, message: match(self, message) if next(count) % 100 else ()


BREAKS: dict[str, tuple[str, Make]] = {
    "a held message is dropped": ("rxws.connections.handover:Handover.old_ended", _drop_a_held_message),
    "copies are delivered": ("rxws.connections.handover:Handover._account", _deliver_copies),
    "what comes after an overlap is taken for copies": (
        "rxws.connections.handover:Handover.is_copy",
        _mistake_all_for_copies,
    ),
    "a Gap is forgotten": ("rxws.messages.router:Router.announce", _forget_gaps),
    "a Gap comes too late": ("rxws.messages.router:Router.announce", _announce_late),
    "a subscription is left out": ("rxws.sending.channel_states:ChannelStates.__init__", _leave_a_subscription_out),
    "nothing is unsubscribed": ("rxws.sending.channel_states:ChannelStates.take_command", _unsubscribe_nothing),
    "the old connection is closed too early": (
        "rxws.connections.handover:Handover._has_proof",
        _close_the_old_one_at_once,
    ),
    "held messages change their order": ("rxws.connections.handover:Handover.old_ended", _hand_on_in_another_order),
    "a book sees no hole": ("rxws.streams.sequence:SequenceTracker.apply", _see_no_hole),
    "timers are left behind": ("rxws.connections.watchdog:Watchdog.stop", _leave_timers),
    "a message is lost now and then": ("rxws.messages.index:Index.match", _lose_some),
}
"""What is done to rxws, where, and how: the module and the name in it."""


@contextmanager
def broken(name: str) -> Iterator[None]:
    """Break rxws in one way while the block runs."""
    place, make = BREAKS[name]
    module, _, path = place.partition(":")
    owner: Any = importlib.import_module(module)
    *outer, attribute = path.split(".")
    for each in outer:
        owner = getattr(owner, each)
    with patch.object(owner, attribute, make(getattr(owner, attribute))):
        yield
