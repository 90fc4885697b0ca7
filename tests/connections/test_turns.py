"""Who may send next, where sending is limited."""

from __future__ import annotations

import asyncio

import pytest

from rxws.connections.rate_limit import MARGIN, SendLimit
from rxws.connections.turns import FIRST, LAST, NORMAL, Turns

pytestmark = pytest.mark.usefixtures("virtual_time", "assert_no_leaks")

WINDOW = 1 + MARGIN


@pytest.fixture
def sent():
    """What was sent, and when."""
    return []


def limited(messages=1):
    """Make turns with a limit of so many a second."""
    return Turns(asyncio.get_running_loop(), SendLimit(messages, 1))


async def send(turns, sent, name, rank=NORMAL):
    """Send when it is one's turn."""
    if await turns.take(rank):
        turns.use()
        sent.append((name, round(asyncio.get_running_loop().time(), 3)))


def start(turns, sent, *names, rank=NORMAL):
    """Let senders ask for turns, in order."""
    return [asyncio.ensure_future(send(turns, sent, name, rank)) for name in names]


async def test_turns_come_in_the_order_of_asking(sent):
    """Those of one rank are served in order, as the limit allows."""
    await asyncio.gather(*start(limited(2), sent, *"abcde"))
    assert sent == [("a", 0), ("b", 0), ("c", WINDOW), ("d", WINDOW), ("e", 2 * WINDOW)]


async def test_turns_come_by_rank(sent):
    """Pongs come before what users send, and that before subscriptions, whoever asked first."""
    turns = limited()
    tasks = start(turns, sent, "now", "subscribe", rank=LAST) + start(turns, sent, "user")
    tasks += start(turns, sent, "pong", rank=FIRST)
    await asyncio.gather(*tasks)
    assert [name for name, _ in sent] == ["now", "pong", "user", "subscribe"]


async def test_turn_that_is_given_back_is_the_next_ones(sent):
    """A turn that nobody uses costs nobody anything."""
    turns = limited()
    assert await turns.take(NORMAL)
    tasks = start(turns, sent, "a")
    await asyncio.sleep(5)
    assert sent == []
    turns.give_back()
    await asyncio.gather(*tasks)
    assert sent == [("a", 5)]


async def test_turn_that_is_used_late_counts_from_then(sent):
    """The window begins when the message is sent, and not when the turn was taken."""
    turns = limited()
    await turns.take(NORMAL)
    tasks = start(turns, sent, "a")
    await asyncio.sleep(5)
    turns.use()
    await asyncio.gather(*tasks)
    assert sent == [("a", 5 + WINDOW)]


async def test_cancelled_waiting_is_left_out(sent):
    """Who does not wait any more takes nobody's turn."""
    turns = limited()
    tasks = start(turns, sent, *"abc")
    await asyncio.sleep(0.5)
    tasks[1].cancel()
    await asyncio.wait(tasks)
    assert sent == [("a", 0), ("c", WINDOW)]


async def test_turn_that_is_given_to_one_that_is_being_cancelled(sent):
    """A turn that is given in the moment of the cancellation goes to the next."""
    turns = limited()
    await turns.take(NORMAL)
    tasks = start(turns, sent, "a", "b")
    await asyncio.sleep(0)
    turns.give_back()
    tasks[0].cancel()
    await asyncio.wait(tasks)
    assert sent == [("b", 0)]


async def test_stop_tells_who_waits(sent):
    """There are no more turns after the end, neither for those who wait nor for those who come, nor a timer."""
    turns = limited()
    tasks = start(turns, sent, "a", "b", "c")
    await asyncio.sleep(0.5)
    tasks[2].cancel()
    turns.stop()
    assert not await turns.take(FIRST)
    await asyncio.wait(tasks)
    assert sent == [("a", 0)]


async def test_stop_when_nobody_waits():
    """Ending is always possible."""
    turns = limited()
    turns.stop()
    assert not await turns.take(NORMAL)


async def test_stop_in_the_moment_in_which_the_waiting_is_cancelled(sent):
    """Who is cancelled while being told that there are no more turns gives none back."""
    turns = limited()
    tasks = start(turns, sent, "a", "b")
    await asyncio.sleep(0.5)
    turns.stop()
    tasks[1].cancel()
    await asyncio.wait(tasks)
    assert tasks[1].cancelled()
    assert sent == [("a", 0)]
