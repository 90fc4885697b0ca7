"""The names that the server gives to channels on one connection."""

from __future__ import annotations

import pytest

from rxws.messages.filters import Filter
from rxws.messages.naming import ChannelNames, filter_of
from tests.support.wiring import Wiring

pytestmark = pytest.mark.usefixtures("virtual_time")


async def test_name_belongs_to_the_newest_channel_when_it_is_assigned_again():
    """A channel has one name, and a name belongs to the channel that got it last."""
    names = ChannelNames(Wiring().reporter)
    assert not names
    names.assign("a", Filter.parse([{"id": 1}]))
    names.assign("b", Filter.parse([{"id": 2}]))
    assert [*map(names.channels_of, [{"id": 1}, {"id": 2}, {"id": 3}])] == [("a",), ("b",), ()]
    names.assign("c", Filter.parse([{"id": 1}]))
    names.assign("b", Filter.parse([{"id": 3}]))
    assert [*map(names.channels_of, [{"id": 1}, {"id": 2}, {"id": 3}])] == [("c",), (), ("b",)]
    names.withdraw("a")
    names.withdraw("c")
    assert names
    names.withdraw("b")
    assert not names


async def test_filter_that_raises_is_reported():
    """A filter that is a function and raises is reported, and the message belongs to no channel."""
    wiring = Wiring()
    names = ChannelNames(wiring.reporter)
    names.assign("a", Filter.parse(lambda message: message["id"] == 1))
    assert not names.channels_of({})
    assert wiring.reporter.counters.failures == 1


async def test_receiver_of_a_channel_gets_only_messages_that_are_routed_to_it():
    """A receiver by channel gets only its channel's messages; one that raises is reported, and others continue."""
    wiring, got = Wiring(), []

    def fail(message):
        raise ValueError(message)

    for function, filters in ((fail, filter_of("a")), (got.append, filter_of("a")), (got.append, None)):
        wiring.receiver(function, filters)
    wiring.route("b")
    wiring.router.route_to("a", "a")
    wiring.router.route_to("c", "c")
    assert got == ["b", "a"]
    assert wiring.reporter.counters.failures == 1
    assert repr(filter_of("a")) == "Filter([{channel: 'a'}])"
