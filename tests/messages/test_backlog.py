"""What is held for later, and delivered in turns with other tasks."""

from __future__ import annotations

import asyncio

import pytest

from rxws.messages.backlog import Backlog

pytestmark = pytest.mark.usefixtures("virtual_time", "assert_no_leaks")


async def test_backlog_drains_in_turns_with_other_tasks_and_keeps_the_order(virtual_time):
    """A large backlog drains in slices; items that are added meanwhile follow behind it, and it becomes empty."""
    delivered, waits = [], []

    def deliver(number):
        delivered.append(number)
        virtual_time._selector.clock.advance(0.0001)

    backlog = Backlog(deliver)
    for number in range(5_000):
        backlog.hold(number)

    async def add():
        last = virtual_time.time()
        while len(backlog):
            waits.append(virtual_time.time() - last)
            backlog.hold(4_999 + len(waits))
            last = virtual_time.time()
            await asyncio.sleep(0)

    adding = asyncio.create_task(add())
    await backlog.drain()
    await adding
    assert len(waits) > 10
    assert 0 < max(waits) < 0.025
    assert delivered == list(range(5_000 + len(waits)))


async def test_backlog_drops_the_oldest_at_its_limit():
    """At its limit a backlog drops its oldest items, and counts them."""
    delivered = []
    backlog = Backlog(delivered.append, limit=2)
    for number in range(5):
        backlog.hold(number)
    await backlog.drain()
    assert delivered == [3, 4]
    assert backlog.dropped == 3


async def test_item_that_comes_while_a_backlog_drains_makes_it_shorter():
    """While a backlog drains, each item that is added has two delivered."""
    delivered = []

    def deliver(number):
        delivered.append(number)
        if number == 0:
            backlog.hold(3)
            assert len(backlog) == 1

    backlog = Backlog(deliver)
    for number in range(3):
        backlog.hold(number)
    await backlog.drain()
    assert sorted(delivered) == [0, 1, 2, 3]
