"""The priority queue for rate-limited sending."""

from __future__ import annotations

import asyncio

import pytest

from rxws.connections.send_queue import Priority, PrioritySendQueue
from rxws.rate_limit import MARGIN, SlidingWindow

pytestmark = pytest.mark.usefixtures("virtual_time", "assert_no_leaks")

WINDOW = 1 + MARGIN


@pytest.fixture
def sent():
    """The list of sent messages, each with its time."""
    return []


def limited(messages=1):
    """Return a queue with a limit of ``messages`` a second."""
    return PrioritySendQueue(asyncio.get_running_loop(), SlidingWindow(messages, 1))


async def send(send_queue, sent, name, priority=Priority.NORMAL):
    """Wait for a slot, then record the sending."""
    if await send_queue.acquire(priority):
        send_queue.record()
        sent.append((name, round(asyncio.get_running_loop().time(), 3)))


def start(send_queue, sent, *names, priority=Priority.NORMAL):
    """Start senders that acquire slots, in order."""
    return [asyncio.ensure_future(send(send_queue, sent, name, priority)) for name in names]


async def test_slots_are_granted_in_the_order_of_the_requests(sent):
    """Within one priority, slots are granted in order, as the limit allows."""
    await asyncio.gather(*start(limited(2), sent, *"abcde"))
    assert sent == [("a", 0), ("b", 0), ("c", WINDOW), ("d", WINDOW), ("e", 2 * WINDOW)]


async def test_slots_are_granted_by_priority(sent):
    """Slots go to pongs first, then to messages of users, then to subscriptions, whatever the order of the requests."""
    send_queue = limited()
    tasks = start(send_queue, sent, "now", "subscribe", priority=Priority.LOW) + start(send_queue, sent, "user")
    tasks += start(send_queue, sent, "pong", priority=Priority.HIGH)
    await asyncio.gather(*tasks)
    assert [name for name, _ in sent] == ["now", "pong", "user", "subscribe"]


async def test_slot_goes_to_the_next_when_it_is_released(sent):
    """A released slot is granted to the next sender at once."""
    send_queue = limited()
    assert await send_queue.acquire(Priority.NORMAL)
    tasks = start(send_queue, sent, "a")
    await asyncio.sleep(5)
    assert sent == []
    send_queue.release()
    await asyncio.gather(*tasks)
    assert sent == [("a", 5)]


async def test_slot_counts_from_the_sending_when_it_is_used_late(sent):
    """The window begins when the message is sent, not when the slot was granted."""
    send_queue = limited()
    await send_queue.acquire(Priority.NORMAL)
    tasks = start(send_queue, sent, "a")
    await asyncio.sleep(5)
    send_queue.record()
    await asyncio.gather(*tasks)
    assert sent == [("a", 5 + WINDOW)]


async def test_cancelled_sender_is_skipped(sent):
    """A cancelled sender uses no slot."""
    send_queue = limited()
    tasks = start(send_queue, sent, *"abc")
    await asyncio.sleep(0.5)
    tasks[1].cancel()
    await asyncio.wait(tasks)
    assert sent == [("a", 0), ("c", WINDOW)]


async def test_slot_when_its_sender_is_being_cancelled(sent):
    """If a sender is cancelled in the loop iteration that grants its slot, the slot goes to the next sender."""
    send_queue = limited()
    await send_queue.acquire(Priority.NORMAL)
    tasks = start(send_queue, sent, "a", "b")
    await asyncio.sleep(0)
    send_queue.release()
    tasks[0].cancel()
    await asyncio.wait(tasks)
    assert sent == [("b", 0)]


async def test_stop_ends_all_waiting(sent):
    """After ``stop`` no slot is granted, to waiting or new senders, and no timer is left."""
    send_queue = limited()
    tasks = start(send_queue, sent, "a", "b", "c")
    await asyncio.sleep(0.5)
    tasks[2].cancel()
    send_queue.stop()
    assert not await send_queue.acquire(Priority.HIGH)
    await asyncio.wait(tasks)
    assert sent == [("a", 0)]


async def test_stop_when_no_sender_waits():
    """``stop`` works even without waiting senders."""
    send_queue = limited()
    send_queue.stop()
    assert not await send_queue.acquire(Priority.NORMAL)


async def test_stop_when_a_sender_is_being_cancelled(sent):
    """A sender that is cancelled in the same loop iteration as ``stop`` releases no slot."""
    send_queue = limited()
    tasks = start(send_queue, sent, "a", "b")
    await asyncio.sleep(0.5)
    send_queue.stop()
    tasks[1].cancel()
    await asyncio.wait(tasks)
    assert tasks[1].cancelled()
    assert sent == [("a", 0)]
