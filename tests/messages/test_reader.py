"""The reader: order of messages, fairness to other tasks, and timeouts of slow parse hooks."""

from __future__ import annotations

import asyncio
import re

import pytest

from rxws import Many, MessageRejected
from tests.support.feeds import of_kind
from tests.support.life import ScriptedWebsocket
from tests.support.reading import Reading

pytestmark = pytest.mark.usefixtures("virtual_time", "assert_no_leaks")


def ignore(*_):
    """Ignore all arguments."""


class Scripted(Reading):
    """A scripted connection with its reader."""

    def __init__(self, parse=lambda raw: raw):
        super().__init__(ScriptedWebsocket(), parse)


async def test_reader_delivers_messages_in_order_when_frames_arrive():
    """The reader delivers messages in the order of their frames, and notes when the last one arrived."""
    reading = Scripted()
    assert reading.connection.inbound.last_received_at is None
    await asyncio.sleep(5)
    reading.websocket.come("a", b"b")
    await asyncio.sleep(1)
    assert reading.messages == ["a", b"b"]
    assert reading.connection.inbound.last_received_at == pytest.approx(5, abs=0.001)
    await reading.ended()


async def test_reader_keeps_the_order_when_the_parse_hook_waits():
    """While a parse hook waits, the next frame waits too, so the order is kept."""

    async def parse(raw):
        if raw == "slow":
            await asyncio.sleep(1)
        return raw

    reading = Scripted(parse)
    reading.websocket.come("slow", "fast")
    await asyncio.sleep(2)
    assert reading.messages == ["slow", "fast"]
    await reading.ended()


async def items():
    """Return an async generator, which can be consumed only once."""
    yield 1


@pytest.mark.parametrize(
    ("promise", "advice"),
    [
        (lambda: asyncio.get_running_loop().create_future(), "a Future instead .* must await it"),
        (lambda: asyncio.sleep(0), "a coroutine instead .* must await it"),
        (lambda: iter([1, 2]), "a list_iterator instead .* must return rxws.Many"),
        (items, "an? async_generator instead .* must return rxws.Many"),
    ],
)
async def test_frame_is_rejected_when_its_message_can_be_consumed_only_once(promise, advice):
    """A future, a coroutine or an iterator is rejected as a message, because several receivers cannot share it."""

    async def parse(raw):
        return promise() if raw == "odd" else raw

    reading = Scripted(parse)
    reading.websocket.come("sound", "odd", "sound", "odd")
    await asyncio.sleep(1)
    assert reading.messages == ["sound", "sound"]
    assert reading.rejected() == [("odd", TypeError)] * 2
    for event in of_kind(MessageRejected, reading.wiring.seen):
        assert re.search(advice, str(event.error))
    await reading.ended()


async def test_frame_is_rejected_when_a_plain_hook_returns_a_future():
    """A plain parse hook must return the message itself: a future is rejected."""
    reading = Scripted(lambda raw: asyncio.get_running_loop().create_future())
    reading.websocket.come("a")
    await asyncio.sleep(1)
    assert reading.rejected() == [("a", TypeError)]
    assert reading.messages == []
    await reading.ended()


async def test_parse_hook_runs_in_the_task_of_the_reader():
    """The parse hook runs in the reader's task, so it can use ``asyncio.timeout``, whether or not it suspends."""
    tasks = []

    async def parse(raw):
        async with asyncio.timeout(5):
            tasks.append(asyncio.current_task())
            await asyncio.sleep(0 if raw == "a" else 0.01)
        return raw

    reading = Scripted(parse)
    reading.websocket.come("a", "b")
    await asyncio.sleep(0.1)
    assert tasks == [reading.connection.reader] * 2
    await reading.ended()


@pytest.mark.parametrize("costs", [[1e-3], [2e-5], [1e-6], [1e-6] * 1000 + [2e-3] * 1000])
async def test_other_tasks_run_when_a_burst_arrives(virtual_time, costs):
    """In a burst other tasks run at least every 25 ms at any cost per message, or every 80 ms while the cost rises."""
    clock = virtual_time._selector.clock
    spent = 0.0
    longest = looked = 0.0

    def parse(raw):
        # Rounded, because the virtual clock counts whole microseconds.
        nonlocal spent
        spent += costs[int(raw) % len(costs)]
        if spent >= 1e-6:
            clock.advance(spent)
            spent = 0.0
        return Many()

    async def watch():
        nonlocal longest, looked
        looked = virtual_time.time()
        while True:
            await asyncio.sleep(0)
            longest = max(longest, virtual_time.time() - looked)
            looked = virtual_time.time()

    reading = Scripted(parse)
    reading.websocket.come(*map(str, range(max(4_000, round(0.3 * len(costs) / sum(costs))))))
    watching = asyncio.create_task(watch())
    await reading.ended()
    watching.cancel()
    await asyncio.wait({watching})
    assert 0 < longest <= (0.025 if len(costs) == 1 else 0.080)


@pytest.mark.parametrize("heeds", [True, False], ids=["cancelled", "answers its cancellation"])
@pytest.mark.parametrize("seconds", [1000, 9])
async def test_frame_is_skipped_when_its_parse_hook_times_out(seconds, heeds):
    """After ten seconds the parse hook is cancelled. Its frame is skipped, unless the hook then returns a message."""

    async def parse(raw):
        try:
            await asyncio.sleep(seconds if raw == "slow" else 0)
        except asyncio.CancelledError:
            if heeds:
                raise
        return raw

    reading = Scripted(parse)
    reading.websocket.come("slow", "next")
    await asyncio.sleep(0.1)
    # A frame that arrives meanwhile is not read, and does not extend the timeout.
    reading.websocket.come("last")
    await asyncio.sleep(20)
    is_skipped = heeds and seconds > 10
    assert reading.messages == (["next", "last"] if is_skipped else ["slow", "next", "last"])
    assert reading.rejected() == ([("slow", TimeoutError)] if is_skipped else [])
    assert reading.connection.is_live
    assert reading.connection.reader.cancelling() == 0
    await reading.ended()


async def test_timeout_starts_over_when_the_next_frame_is_parsed():
    """The parse timeout applies to each frame: hooks that wait nine seconds each, one after the other, all succeed."""

    async def parse(raw):
        await asyncio.sleep(9)
        return raw

    reading = Scripted(parse)
    reading.websocket.come(*"abc")
    await asyncio.sleep(30)
    assert reading.messages == ["a", "b", "c"]
    await reading.ended()


async def test_no_timer_is_left_when_the_reader_is_cancelled_in_a_hook():
    """A reader that is cancelled while its parse hook waits leaves no timer."""

    async def parse(raw):
        await asyncio.sleep(1000)

    reading = Scripted(parse)
    reading.websocket.come("slow")
    await asyncio.sleep(1)
    reading.connection.reader.cancel()
    await asyncio.wait({reading.connection.reader})
    reading.connection.end()
    assert reading.rejected() == []
