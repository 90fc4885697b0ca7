"""The backlog: items that are held first and delivered later, in time slices between other tasks."""

from __future__ import annotations

import asyncio

import pytest

from rxws.messages.backlog import Backlog

pytestmark = pytest.mark.usefixtures("virtual_time", "assert_no_leaks")


async def test_backlog_lets_other_tasks_run_when_it_drains(virtual_time):
    """A large backlog drains in time slices and in order, including the items that are added meanwhile."""
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


async def test_backlog_drops_its_oldest_items_when_it_is_full():
    """A backlog at its limit drops its oldest items and counts them."""
    delivered = []
    backlog = Backlog(delivered.append, limit=2)
    for number in range(5):
        backlog.hold(number)
    await backlog.drain()
    assert delivered == [3, 4]
    assert backlog.dropped == 3


async def test_backlog_delivers_two_items_when_one_is_added_during_draining():
    """While a backlog drains, each added item causes the delivery of two, so the backlog becomes empty."""
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
