"""The receiving side of one connection: the sink of its messages and the replies that it awaits."""

from __future__ import annotations

import asyncio

import pytest

from rxws import CallbackFailed
from rxws.messages.filters import Filter
from rxws.messages.inbound import Inbound
from rxws.reporting.reporter import Reporter
from tests.support.wiring import never_asked

pytestmark = pytest.mark.usefixtures("virtual_time", "assert_no_leaks")


class Received:
    """The receiving side of a connection that the test ends."""

    def __init__(self):
        loop = asyncio.get_running_loop()
        self.events = []
        self.has_ended = False
        reporter = Reporter(loop, "feed")
        reporter.publish = self.events.append
        self.inbound = Inbound(1, reporter, answer=never_asked, has_ended=lambda: self.has_ended)


async def test_reply_goes_to_the_longest_waiting_caller_when_several_wait():
    """A reply goes to the longest-waiting caller; a cancelled caller or a filter that raises blocks no other."""
    received = Received()
    inbound = received.inbound
    replies = {"first": [], "second": []}

    def expect(name):
        def take(message):
            is_reply = message == {"id": 2}
            replies[name] += [message] * is_reply
            future.cancel() if is_reply else None
            return is_reply

        future = inbound.expect_replies(take)

    expect("first")
    expect("second")
    raises = Filter.parse(lambda message: message["missing"])
    broken = inbound.expect_replies(lambda message: inbound.passes(raises, message))
    inbound.expect_replies(lambda message: True).cancel()
    assert not inbound.resolve_reply({"id": 3})
    assert inbound.resolve_reply({"id": 2})
    assert replies == {"first": [{"id": 2}], "second": []}
    assert inbound.resolve_reply({"id": 2})
    assert not inbound.resolve_reply({"id": 2})
    assert replies == {"first": [{"id": 2}], "second": [{"id": 2}]}
    await asyncio.sleep(0)
    assert {type(event) for event in received.events} == {CallbackFailed}
    assert len(inbound.pending_replies) == 1
    inbound.cancel_replies()
    await asyncio.sleep(0)
    assert broken.cancelled()
    assert not inbound.pending_replies


async def test_connection_is_held_when_its_predecessor_delivers():
    """Messages of a connection are held while its predecessor delivers, and until the connection takes over."""
    old, new = Received(), Received()
    assert not new.inbound.is_held
    new.inbound.hold(never_asked, old.inbound)
    assert new.inbound.is_held
    old.has_ended = True
    assert not new.inbound.is_held
    old.has_ended = False
    new.inbound.take_over()
    assert not new.inbound.is_held


async def test_messages_are_discarded_when_the_connection_is_given_up():
    """Messages of a connection that the feed has abandoned are discarded."""
    inbound = Received().inbound
    delivered = []
    inbound.deliver(lambda *frame: delivered.append(frame))
    inbound.sink("a", "a", 0)
    inbound.discard()
    inbound.sink("b", "b", 0)
    assert delivered == [("a", "a", 0)]


@pytest.mark.parametrize("end", ["delivers", "ends"])
async def test_function_is_called_when_the_held_messages_are_delivered(end):
    """``when_delivered`` calls a function when the held messages are delivered, or when the connection ends.

    While another connection delivers, it calls the function at once.
    """
    old, new = Received().inbound, Received().inbound
    called = []
    new.hold(never_asked)
    new.when_delivered(lambda: called.append("held"))
    assert called == []
    new.deliver() if end == "delivers" else new.cancel_replies()
    assert called == ["held"]
    new.hold(never_asked, old)
    new.when_delivered(lambda: called.append("at once"))
    assert called == ["held", "at once"]
