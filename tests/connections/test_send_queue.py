"""Who may send next, where sending is limited."""

from __future__ import annotations

import asyncio

import pytest

from rxws.connections.rate_limit import MARGIN, SlidingWindow
from rxws.connections.send_queue import Priority, PrioritySendQueue

pytestmark = pytest.mark.usefixtures("virtual_time", "assert_no_leaks")

WINDOW = 1 + MARGIN


@pytest.fixture
def sent():
    """What was sent, and when."""
    return []


def limited(messages=1):
    """Make turns with a limit of so many a second."""
    return PrioritySendQueue(asyncio.get_running_loop(), SlidingWindow(messages, 1))


async def send(send_queue, sent, name, priority=Priority.NORMAL):
    """Send when it is one's turn."""
    if await send_queue.acquire(priority):
        send_queue.record()
        sent.append((name, round(asyncio.get_running_loop().time(), 3)))


def start(send_queue, sent, *names, priority=Priority.NORMAL):
    """Let senders ask for turns, in order."""
    return [asyncio.ensure_future(send(send_queue, sent, name, priority)) for name in names]


async def test_turns_come_in_the_order_of_asking(sent):
    """Those of one priority are served in order, as the limit allows."""
    await asyncio.gather(*start(limited(2), sent, *"abcde"))
    assert sent == [("a", 0), ("b", 0), ("c", WINDOW), ("d", WINDOW), ("e", 2 * WINDOW)]


async def test_turns_come_by_rank(sent):
    """Pongs come before what users send, and that before subscriptions, whoever asked first."""
    send_queue = limited()
    tasks = start(send_queue, sent, "now", "subscribe", priority=Priority.LOW) + start(send_queue, sent, "user")
    tasks += start(send_queue, sent, "pong", priority=Priority.HIGH)
    await asyncio.gather(*tasks)
    assert [name for name, _ in sent] == ["now", "pong", "user", "subscribe"]


async def test_turn_that_is_given_back_is_the_next_ones(sent):
    """A turn that nobody uses costs nobody anything."""
    send_queue = limited()
    assert await send_queue.acquire(Priority.NORMAL)
    tasks = start(send_queue, sent, "a")
    await asyncio.sleep(5)
    assert sent == []
    send_queue.release()
    await asyncio.gather(*tasks)
    assert sent == [("a", 5)]


async def test_turn_that_is_used_late_counts_from_then(sent):
    """The window begins when the message is sent, and not when the turn was taken."""
    send_queue = limited()
    await send_queue.acquire(Priority.NORMAL)
    tasks = start(send_queue, sent, "a")
    await asyncio.sleep(5)
    send_queue.record()
    await asyncio.gather(*tasks)
    assert sent == [("a", 5 + WINDOW)]


async def test_cancelled_waiting_is_left_out(sent):
    """Who does not wait any more takes nobody's turn."""
    send_queue = limited()
    tasks = start(send_queue, sent, *"abc")
    await asyncio.sleep(0.5)
    tasks[1].cancel()
    await asyncio.wait(tasks)
    assert sent == [("a", 0), ("c", WINDOW)]


async def test_turn_that_is_given_to_one_that_is_being_cancelled(sent):
    """A turn that is given in the moment of the cancellation goes to the next."""
    send_queue = limited()
    await send_queue.acquire(Priority.NORMAL)
    tasks = start(send_queue, sent, "a", "b")
    await asyncio.sleep(0)
    send_queue.release()
    tasks[0].cancel()
    await asyncio.wait(tasks)
    assert sent == [("b", 0)]


async def test_stop_tells_who_waits(sent):
    """There are no more turns after the end, neither for those who wait nor for those who come, nor a timer."""
    send_queue = limited()
    tasks = start(send_queue, sent, "a", "b", "c")
    await asyncio.sleep(0.5)
    tasks[2].cancel()
    send_queue.stop()
    assert not await send_queue.acquire(Priority.HIGH)
    await asyncio.wait(tasks)
    assert sent == [("a", 0)]


async def test_stop_when_nobody_waits():
    """Ending is always possible."""
    send_queue = limited()
    send_queue.stop()
    assert not await send_queue.acquire(Priority.NORMAL)


async def test_stop_in_the_moment_in_which_the_waiting_is_cancelled(sent):
    """Who is cancelled while being told that there are no more turns gives none back."""
    send_queue = limited()
    tasks = start(send_queue, sent, "a", "b")
    await asyncio.sleep(0.5)
    send_queue.stop()
    tasks[1].cancel()
    await asyncio.wait(tasks)
    assert tasks[1].cancelled()
    assert sent == [("a", 0)]
