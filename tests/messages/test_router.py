"""The router: delivers each message to the receivers whose filters it passes."""

from __future__ import annotations

import asyncio

import pytest

from rxws.messages.filters import Filter
from rxws.messages.naming import filter_of
from rxws.messages.router import Receiver
from rxws.reporting.events import CallbackFailed

from ..support.wiring import Wiring, in_thread, settle


class Recorder(Receiver):
    """A receiver that records its calls."""

    def __init__(self, pending=0):
        self.received = []
        self.pending = pending

    def on_message(self, message):
        self.received.append(message)

    def on_gap(self, gap):
        self.received.append(gap)

    def on_end(self, error):
        self.received.append(("end", error))

    def __len__(self):
        return self.pending


@pytest.fixture
async def wiring():
    return Wiring()


def add(wiring, filters=None, receiver=None):
    receiver = Recorder() if receiver is None else receiver
    wiring.router.add(receiver, Filter.parse(filters))
    return receiver


async def test_message_is_routed_when_it_passes_a_filter(wiring):
    """A message goes to the receivers whose filters it passes, and to no other."""
    everything, trades, one = add(wiring), add(wiring, [{"e": "trade"}]), add(wiring, lambda message: message["n"] == 1)
    messages = [{"e": "trade", "n": 1}, {"e": "ticker", "n": 1}, {"e": "trade", "n": 2}]
    wiring.route(*messages)
    assert everything.received == messages
    assert trades.received == [messages[0], messages[2]]
    assert one.received == messages[:2]


async def test_every_message_is_emitted_when_messages_has_subscribers(wiring):
    """Subscribers of ``messages`` get every message as the same object, and messages are counted."""
    seen = []
    subscription = wiring.router.messages.subscribe(seen.append)
    receiver = add(wiring)
    message = {"a": 1}
    wiring.route(message)
    subscription.dispose()
    wiring.route("unseen")
    assert seen[0] is receiver.received[0] is message
    assert len(seen) == 1
    assert wiring.reporter.counters.messages == 2
    assert wiring.router.last_message == "unseen"


@pytest.mark.parametrize("error", [ZeroDivisionError(), asyncio.CancelledError()])
async def test_other_receivers_get_the_message_when_one_raises(wiring, error):
    """A receiver that raises is reported; the receivers before and after it get this message and the next."""

    class Broken(Recorder):
        def on_message(self, message):
            super().on_message(message)
            raise error

    before, broken, after = add(wiring), add(wiring, receiver=Broken()), add(wiring)
    wiring.route(1, 2)
    assert before.received == broken.received == after.received == [1, 2]
    assert [event.error for event in wiring.seen] == [error, error]
    assert [event.message for event in wiring.seen] == [1, 2]


async def test_message_is_rejected_when_a_predicate_raises(wiring, caplog):
    """A raising predicate rejects the message, is counted, logged and emitted by name, and is called again later."""
    calls = []

    def is_large(message):
        calls.append(message)
        return message["n"] > 10

    receiver, sibling = add(wiring, is_large), add(wiring)
    wiring.route({}, {"n": 11})
    assert receiver.received == [{"n": 11}]
    assert sibling.received == calls == [{}, {"n": 11}]
    assert wiring.reporter.counters.failures == 1
    (event,) = wiring.seen
    assert isinstance(event, CallbackFailed)
    assert event.handler.endswith("is_large")
    assert event.message == {}
    assert isinstance(event.error, KeyError)
    assert "is_large raised" in caplog.text


async def test_message_is_rejected_when_a_comparison_raises(wiring):
    """A filter's value whose comparison raises rejects the message."""

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
    assert receiver.received == []
    assert sibling.received == [{"a": 1}]
    assert [event.handler for event in wiring.seen] == ["Filter"]


async def test_new_receiver_gets_the_next_message_when_added_during_one(wiring):
    """A receiver that is added while a message is delivered gets the next message."""
    added = []

    class Adding(Recorder):
        def on_message(self, message):
            added.append(add(wiring))

    add(wiring, receiver=Adding())
    wiring.route(1)
    assert added[0].received == []
    wiring.route(2)
    assert added[0].received == [2]


async def test_removed_receiver_gets_no_message_when_removed_during_one(wiring):
    """Removing is safe at any moment and idempotent; a removed receiver gets no further message."""

    class Removing(Recorder):
        def on_message(self, message):
            super().on_message(message)
            wiring.router.remove(self)
            wiring.router.remove(self)

    first, last = add(wiring, receiver=Removing()), add(wiring, receiver=Removing())
    wiring.route(1, 2)
    assert first.received == last.received == [1]
    assert wiring.router.receivers == []


async def test_receivers_when_read_from_another_thread(wiring):
    """The receivers can be read from any thread."""
    receivers = [add(wiring), add(wiring, receiver=Recorder(5))]
    assert in_thread(lambda: wiring.router.receivers) == receivers


async def test_every_receiver_gets_the_gap_when_it_is_announced(wiring):
    """Every receiver gets a gap, whatever its filter."""
    first, second = add(wiring, [{"a": 1}]), add(wiring)
    gap = wiring.gap()
    wiring.router.announce(gap)
    assert first.received == second.received == [gap]


async def test_snapshot_of_a_named_channel_is_known(wiring):
    """If the server names the channel, a snapshot is recognized by it."""
    receiver = add(wiring, filter_of("x").alternatives)
    wiring.router.expect_snapshots(receiver, filter_of("x"), Filter.parse([{1: "s"}]))
    assert wiring.router.is_snapshot([7, "s"], "x")
    assert not wiring.router.is_snapshot([7, "s"], "y")
    assert not wiring.router.is_snapshot([7, "t"], "x")


async def test_snapshot_is_known_while_its_receiver_is_registered(wiring):
    """A message is a snapshot if it passes the filters of a receiver and of the receiver's snapshots."""
    first, second = add(wiring, [{"a": 1}]), add(wiring, [{"a": 2}])
    router = wiring.router
    assert not router.is_snapshot({"a": 1, "b": 1}, None)
    for receiver, filters, snapshots in (
        (first, [{"a": 1}], [{"b": 1}]),
        (first, [{"a": 1}], [{"b": 2}]),
        (first, [{"a": 1}], [{"b": 2}]),
        (second, [{"a": 2}], [{"b": 3}]),
    ):
        router.expect_snapshots(receiver, Filter.parse(filters), Filter.parse(snapshots))
    messages = [{"a": a, "b": b} for a in (1, 2) for b in (1, 2, 3)]
    assert [router.is_snapshot(message, None) for message in messages] == [True, True, False, False, False, True]
    router.remove(first)
    assert [router.is_snapshot(message, None) for message in messages] == [False, False, False, False, False, True]
    router.expect_snapshots(first, Filter.parse([{"a": 1}]), Filter.parse([{"b": 1}]))
    assert not router.is_snapshot({"a": 1, "b": 1}, None)


@pytest.mark.parametrize("error", [None, ZeroDivisionError()])
async def test_all_receivers_end_when_the_router_ends(wiring, error):
    """At the end all receivers end and are unregistered, later ones end at once, and ``messages`` ends."""
    receiver = add(wiring)
    ends = []
    wiring.router.messages.subscribe(on_error=ends.append, on_completed=lambda: ends.append(None))
    wiring.route("last")
    wiring.router.end(error)
    late = add(wiring)
    assert receiver.received == ["last", ("end", error)]
    assert late.received == [("end", error)]
    assert ends == [error]
    assert wiring.router.receivers == []
    assert wiring.router.last_message is None
    wiring.router.remove(late)


async def test_new_stream_ends_at_once_when_made_during_the_end(wiring):
    """A stream that is made while the router ends is ended at once, and other streams are not affected."""
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


async def test_gap_after_the_end_is_not_reported() -> None:
    """After the end of the feed a gap is neither counted nor emitted."""
    wiring = Wiring()
    wiring.router.end(None)
    wiring.router.report_gap(1.0, 2.0, "server")
    assert (wiring.reporter.counters.gaps, wiring.seen) == (0, [])
