"""The way of a message to those who want it."""

from __future__ import annotations

import asyncio

import pytest

from rxws.messages.filters import Filter
from rxws.reporting.events import CallbackFailed

from ..support.wiring import Wiring, in_thread, settle


class Recorder:
    """A receiver that keeps what it is told."""

    def __init__(self, pending=0):
        self.told = []
        self.pending = pending

    def on_message(self, message):
        self.told.append(message)

    def on_gap(self, gap):
        self.told.append(gap)

    def on_end(self, error):
        self.told.append(("end", error))

    def __len__(self):
        return self.pending


@pytest.fixture
async def wiring():
    return Wiring()


def add(wiring, filters=None, receiver=None):
    receiver = Recorder() if receiver is None else receiver
    wiring.router.add(receiver, Filter.parse(filters))
    return receiver


async def test_route_when_filters_differ(wiring):
    """A message goes to those whose filters it passes, and to them only."""
    everything, trades, one = add(wiring), add(wiring, [{"e": "trade"}]), add(wiring, lambda message: message["n"] == 1)
    messages = [{"e": "trade", "n": 1}, {"e": "ticker", "n": 1}, {"e": "trade", "n": 2}]
    wiring.route(*messages)
    assert everything.told == messages
    assert trades.told == [messages[0], messages[2]]
    assert one.told == messages[:2]


async def test_route_when_somebody_takes_all_messages(wiring):
    """Whoever is subscribed to messages gets each, as the same object, and they are counted."""
    seen = []
    subscription = wiring.router.messages.subscribe(seen.append)
    receiver = add(wiring)
    message = {"a": 1}
    wiring.route(message)
    subscription.dispose()
    wiring.route("unseen")
    assert seen[0] is receiver.told[0] is message
    assert len(seen) == 1
    assert wiring.reporter.counters.messages == 2
    assert wiring.router.last_message == "unseen"


@pytest.mark.parametrize("error", [ZeroDivisionError(), asyncio.CancelledError()])
async def test_route_when_a_receiver_raises(wiring, error):
    """A receiver that raises is reported, and its siblings on both sides get the message, and the next one."""

    class Broken(Recorder):
        def on_message(self, message):
            super().on_message(message)
            raise error

    before, broken, after = add(wiring), add(wiring, receiver=Broken()), add(wiring)
    wiring.route(1, 2)
    assert before.told == broken.told == after.told == [1, 2]
    assert [event.error for event in wiring.seen] == [error, error]
    assert [event.message for event in wiring.seen] == [1, 2]


async def test_route_when_a_predicate_raises(wiring, caplog):
    """A predicate that raises rejects; it is counted, logged and emitted by its name, and asked again next time."""
    calls = []

    def is_large(message):
        calls.append(message)
        return message["n"] > 10

    receiver, sibling = add(wiring, is_large), add(wiring)
    wiring.route({}, {"n": 11})
    assert receiver.told == [{"n": 11}]
    assert sibling.told == calls == [{}, {"n": 11}]
    assert wiring.reporter.counters.failures == 1
    (event,) = wiring.seen
    assert isinstance(event, CallbackFailed)
    assert event.handler.endswith("is_large")
    assert event.message == {}
    assert isinstance(event.error, KeyError)
    assert "is_large raised" in caplog.text


async def test_route_when_a_filter_compares_badly(wiring):
    """A value of a filter whose comparison raises rejects as well."""

    class Touchy:
        __hash__ = None

        def __eq__(self, other):
            if other is self:
                return True
            raise ZeroDivisionError

        def __deepcopy__(self, memory):
            return self

    receiver, sibling = add(wiring, [{"a": Touchy()}]), add(wiring)
    wiring.route({"a": 1})
    assert receiver.told == []
    assert sibling.told == [{"a": 1}]
    assert [event.handler for event in wiring.seen] == ["Filter"]


async def test_add_when_a_message_is_under_way(wiring):
    """Whoever is added while a message goes round gets the next one."""
    added = []

    class Adding(Recorder):
        def on_message(self, message):
            added.append(add(wiring))

    add(wiring, receiver=Adding())
    wiring.route(1)
    assert added[0].told == []
    wiring.route(2)
    assert added[0].told == [2]


async def test_remove_when_a_message_is_under_way(wiring):
    """Removing is safe at any moment, and twice; who is removed gets no further message."""

    class Removing(Recorder):
        def on_message(self, message):
            super().on_message(message)
            wiring.router.remove(self)
            wiring.router.remove(self)

    first, last = add(wiring, receiver=Removing()), add(wiring, receiver=Removing())
    wiring.route(1, 2)
    assert first.told == last.told == [1]
    assert wiring.router.receivers == []


async def test_receivers_when_read_from_another_thread(wiring):
    """Who is registered may be asked from any thread."""
    receivers = [add(wiring), add(wiring, receiver=Recorder(5))]
    assert in_thread(lambda: wiring.router.receivers) == receivers


async def test_announce_when_messages_may_be_missing(wiring):
    """A gap is told to every receiver, whatever its filter; those who are removed meanwhile included."""
    first, second = add(wiring, [{"a": 1}]), add(wiring)
    gap = wiring.gap()
    wiring.router.announce(gap)
    assert first.told == second.told == [gap]


async def test_gaps_when_subscribed(wiring):
    """Whoever is subscribed to gaps gets each, once."""
    gaps = []
    wiring.router.gaps.subscribe(gaps.append)
    add(wiring)
    gap = wiring.gap()
    wiring.router.announce(gap)
    assert gaps == [gap]


@pytest.mark.parametrize("error", [None, ZeroDivisionError()])
async def test_end_when_receivers_are_left(wiring, error):
    """At the end all are finished and forgotten, late ones at once, and messages ends too."""
    receiver = add(wiring)
    ends = []
    wiring.router.messages.subscribe(on_error=ends.append, on_completed=lambda: ends.append(None))
    wiring.route("last")
    wiring.router.end(error)
    late = add(wiring)
    assert receiver.told == ["last", ("end", error)]
    assert late.told == [("end", error)]
    assert ends == [error]
    assert wiring.router.receivers == []
    assert wiring.router.last_message is None
    wiring.router.remove(late)


async def test_end_when_a_subscriber_makes_another_stream(wiring):
    """What is made in the midst of the end ends at once, and disturbs nobody."""
    made = []
    stream, other = wiring.stream(), wiring.stream()
    stream.subscribe(on_completed=lambda: made.append(wiring.stream()))
    wiring.router.end(None)
    with pytest.raises(StopAsyncIteration):
        await anext(made[0])
    with pytest.raises(StopAsyncIteration):
        await anext(other)
    await settle()
    assert wiring.router.receivers == []
