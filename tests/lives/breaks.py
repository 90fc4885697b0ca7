"""Deliberate bugs in rxws that lives must find. ``BREAKS`` lists every patched name."""

from __future__ import annotations

import asyncio
import importlib
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import rxws
from rxws.sending.subscriptions import SubscriptionState

__all__ = ["BREAKS", "broken"]

Make = Callable[[Any], Any]
"""Makes the replacement of a function. The argument is the original function."""


def _drop_a_held_message(replace: Any) -> Any:
    def without_one(self: Any, line: int, now: float, *, is_complete: bool) -> None:
        replace(self, line, now, is_complete=is_complete)
        held = next((each for each in self.out if isinstance(each, tuple)), None)
        if held is not None:
            self.out.remove(held)

    return without_one


def _hand_on_in_another_order(flush: Any) -> Any:
    def reversed_(self: Any) -> None:
        self._matcher.out.reverse()
        flush(self)

    return reversed_


def _deliver_copies(_original: Any) -> Any:
    return lambda self, seat, channel, key, now: None


def _mistake_all_for_copies(arrived: Any) -> Any:
    def arrive(self: Any, line: int, *message: Any) -> None:
        if self._reserved or line == 1 or len(self._last_new) > 1:
            arrived(self, line, *message)

    return arrive


def _trust_the_new_one(_original: Any) -> Any:
    return lambda self, seat, now: True


def _forget_gaps(_announce: Any) -> Any:
    return lambda self, gap: None


def _announce_late(announce: Any) -> Any:
    """Delay each Gap until the next one is announced, so that it follows later messages."""
    waiting: list[Any] = []

    def late(self: Any, gap: Any) -> None:
        waiting.append(gap)
        if len(waiting) > 1:
            announce(self, waiting.pop(0))

    return late


def _leave_a_subscription_out(init: Any) -> Any:
    def without_the_last(self: Any, wanted: Any) -> None:
        init(self, wanted)
        pending = self._members[SubscriptionState.PENDING]
        if len(pending) > 1:
            pending.popitem()

    return without_the_last


def _unsubscribe_nothing(take_step: Any) -> Any:
    def subscribe_only(self: Any) -> Any:
        self._members[SubscriptionState.EXPIRED].clear()
        return take_step(self)

    return subscribe_only


def _see_no_hole(_change: Any) -> Any:
    def change(self: Any, message: Any) -> list[Any]:
        return [message] if self.in_sync else _change(self, message)

    return change


def _drop_some_of_the_history(fill: Any) -> Any:
    """Take each message of a history, except every fifth."""
    return lambda self, message: [] if self.range_of(message)[0] % 5 == 0 else fill(self, message)


def _count_failures_as_answers(settle: Any) -> Any:
    return lambda self, **_: settle(self)


def _leave_timers(watch: Any) -> Any:
    async def leaving(*arguments: Any) -> None:
        asyncio.get_running_loop().call_later(3600.0, abs, 0)
        await watch(*arguments)

    return leaving


def _lose_some(match: Any) -> Any:
    """Deliver one message in a hundred to no consumer."""
    count = itertools.count(1)
    return lambda self, message: match(self, message) if next(count) % 100 else ()


def _deny_rotations(resolve: Any) -> Any:
    return lambda self, success: resolve(self, False)


def _miss_answers(_take: Any) -> Any:
    """Recognize answers, so that no stream gets them, but do not record that they arrived."""
    return lambda self, message: any(each.consent(message) for each in self.waiting)


def _change_gaps(**change: Callable[[Any], Any]) -> Make:
    """Change fields of each Gap that is reported."""

    def make(emit: Any) -> Any:
        def changed(self: Any, kind: Any, **fields: Any) -> Any:
            if kind is rxws.Gap:
                fields |= {name: function(fields[name]) for name, function in change.items()}
            return emit(self, kind, **fields)

        return changed

    return make


def _announce_twice(announce: Any) -> Any:
    def twice(self: Any, gap: Any) -> None:
        announce(self, gap)
        announce(self, gap)

    return twice


def _cut_nothing(_exclude: Any) -> Any:
    return lambda self, start, end, proof="connection": None


def _cut_too_little(exclude: Any) -> Any:
    return lambda self, start, end, proof="connection": exclude(self, start, max(start, end - 0.1), proof)


def _prove_nothing(_came: Any) -> Any:
    return lambda *_: False


def _resume_at_once(_is_resuming: Any) -> Any:
    def resume(self: Any, line: int) -> bool:
        self.stated(line, self._last_new.get(line, 0.0), is_resumed=True)
        return False

    return resume


def _take_the_cursor_of_all(cursor: Any) -> Any:
    return lambda self, channel=None: cursor(self)


def _deliver_repeats(_take: Any) -> Any:
    return lambda self, counted, key, unit: self._matcher.out.append((unit,))


def _compare_no_number(_compare: Any) -> Any:
    return lambda self, counted: None


BREAKS: dict[str, tuple[str, Make]] = {
    "a held message is dropped": ("rxws.connections.matching.matcher:Matcher.replace", _drop_a_held_message),
    "copies are delivered": ("rxws.connections.matching.evidence:Evidence.copied", _deliver_copies),
    "messages after an overlap are mistaken for copies": (
        "rxws.connections.matching.matcher:Matcher.arrived",
        _mistake_all_for_copies,
    ),
    "a Gap is forgotten": ("rxws.messages.router:Router.announce", _forget_gaps),
    "a Gap comes twice": ("rxws.messages.router:Router.announce", _announce_twice),
    "a Gap ends in the future": ("rxws.reporting.reporter:Reporter.emit", _change_gaps(end=lambda end: end + 3600.0)),
    "a Gap begins too early": ("rxws.reporting.reporter:Reporter.emit", _change_gaps(start=lambda start: start - 0.5)),
    "a Gap names no last message": (
        "rxws.reporting.reporter:Reporter.emit",
        _change_gaps(last_message=lambda _message: None),
    ),
    "a Gap comes too late": ("rxws.messages.router:Router.announce", _announce_late),
    "a subscription is left out": ("rxws.sending.subscriptions:Subscriptions.__init__", _leave_a_subscription_out),
    "a subscription is sent again": ("rxws.sending.answers:Answers.take", _miss_answers),
    "nothing is unsubscribed": ("rxws.sending.subscriptions:Subscriptions.take_command", _unsubscribe_nothing),
    "the new connection is trusted at once": (
        "rxws.connections.matching.evidence:Evidence.has_agreed",
        _trust_the_new_one,
    ),
    "held messages change their order": ("rxws.connections.merger:Merger._flush", _hand_on_in_another_order),
    "a gap of the source is dropped": (
        "rxws.messages.dispatcher:FrameDispatcher._announce",
        lambda _announce: lambda *_: None,
    ),
    "a gap cuts no interval": ("rxws.connections.coverage:Coverage.exclude", _cut_nothing),
    "an interval begins too early": ("rxws.connections.coverage:Coverage.exclude", _cut_too_little),
    "a replay proves nothing": ("rxws.connections.matching.replay:Replay.came", _prove_nothing),
    "a connection resumes without a proof": ("rxws.connections.matching.matcher:Matcher.is_resuming", _resume_at_once),
    "a subscription resumes from the cursor of another": (
        "rxws.messages.recent:RecentMessages.cursor",
        _take_the_cursor_of_all,
    ),
    "a repeated number is delivered": ("rxws.connections.resumption:Resumption._take_counted", _deliver_repeats),
    "numbers are not compared": ("rxws.messages.numbers:Numbers._compare", _compare_no_number),
    "a book sees no hole": ("rxws.streams.sequence:SnapshotTracker.apply", _see_no_hole),
    "messages of a history are dropped": ("rxws.streams.holes:HoleTracker.fill", _drop_some_of_the_history),
    "a history that fails counts as empty": ("rxws.streams.holes:HoleTracker.settle", _count_failures_as_answers),
    "rotate() is False": ("rxws.connections.line:Line._resolve_rotation", _deny_rotations),
    "timers are left behind": ("rxws.connections.opener:watch", _leave_timers),
    "a message is lost now and then": ("rxws.messages.index:Index.match", _lose_some),
}
"""By description of the bug: the patched function (module and name), and the function that makes its replacement."""


@contextmanager
def broken(name: str) -> Iterator[None]:
    """Put one deliberate bug into rxws while the block runs."""
    place, make = BREAKS[name]
    module, _, path = place.partition(":")
    owner: Any = importlib.import_module(module)
    *outer, attribute = path.split(".")
    for each in outer:
        owner = getattr(owner, each)
    with patch.object(owner, attribute, make(getattr(owner, attribute))):
        yield
