"""StreamReceiver: the part of a stream that is registered with the router."""

from __future__ import annotations

import pytest

from rxws.errors import StreamOverflow
from rxws.messages.filters import Filter
from rxws.observables.hot import HotObservable
from rxws.streams.stream_options import StreamOptions
from rxws.streams.stream_receiver import StreamReceiver

from ..support.wiring import Wiring


@pytest.fixture
async def wiring(virtual_time):
    return Wiring()


def make(wiring, **options):
    """Make and register a receiver without a stream."""
    filters = Filter.parse([{"token": "q8Xk29dLmZ7aT1bVw5RcYp"}])
    receiver = StreamReceiver(wiring.router, filters, StreamOptions(**options))
    wiring.router.add(receiver, Filter.parse(None))
    return receiver


def subscribe(wiring, receiver):
    """Subscribe to a receiver as its stream does; return the subscription and the list of its items."""
    got = []
    receiver.fan_out = receiver.fan_out or HotObservable(wiring.context)
    return receiver.fan_out._attach(got.append, got.append, lambda: got.append("end"), None), got


async def test_message_when_it_is_kept_and_subscribed(wiring):
    """A message goes into the buffer and to the subscribers, and is counted once."""
    receiver = make(wiring)
    _, got = subscribe(wiring, receiver)
    wiring.route(1)
    assert (receiver.take(), got, receiver.matched) == ([1], [1], 1)


async def test_message_when_it_is_not_kept(wiring):
    """Without ``keeps`` a message goes to the subscribers only."""
    receiver = make(wiring)
    _, got = subscribe(wiring, receiver)
    receiver.keeps = False
    wiring.route(1)
    assert (receiver.take(), got) == ([], [1])


@pytest.mark.parametrize("gaps", [True, False])
async def test_gap_when_asked_for_or_not(wiring, gaps):
    """A gap is taken only with gaps=True, and does not count as a message that passed the filter."""
    receiver = make(wiring, gaps=gaps)
    _, got = subscribe(wiring, receiver)
    gap = wiring.gap()
    wiring.router.announce(gap)
    assert receiver.take() == got == ([gap] if gaps else [])
    assert receiver.matched == 0


async def test_name_when_the_filter_holds_a_secret(wiring):
    """The name of a stream contains its filter, with secrets redacted."""
    name = make(wiring).describe()
    assert name.startswith("stream Filter(")
    assert "q8Xk29dLmZ7aT1bVw5RcYp" not in name


async def test_end_when_messages_wait_for_the_first_subscriber(wiring):
    """The first subscriber gets the waiting messages before the end."""
    receiver = make(wiring)
    wiring.route(1, 2)
    subscription, got = subscribe(wiring, receiver)
    receiver.keeps = False
    receiver.on_end(None)
    assert got == []
    receiver.hand_over(subscription)
    assert got == [1, 2, "end"]
    assert receiver not in wiring.router.receivers


async def test_overflow_when_the_buffer_is_full(wiring):
    """A receiver that overflows unregisters at once, and its subscribers get StreamOverflow."""
    receiver = make(wiring, maxsize=1)
    _, got = subscribe(wiring, receiver)
    wiring.route(1, 2, 3)
    assert receiver not in wiring.router.receivers
    # The subscriber gets the error before the message that overflowed the buffer, and no message after it.
    assert got[0] == 1
    assert isinstance(got[1], StreamOverflow)
    assert len(got) == 2


async def test_abandon_when_messages_arrive(wiring):
    """A receiver whose stream was garbage-collected keeps no further message."""
    receiver = make(wiring)
    receiver.abandon()
    wiring.route(1)
    assert receiver.abandoned
    assert len(receiver) == 0
