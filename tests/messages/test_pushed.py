"""Pushed frames: the reader's loop runs in the connection's callback, and its task takes over when it must wait."""

from __future__ import annotations

import asyncio

import pytest
from websockets.exceptions import ConnectionClosedOK

from rxws import Many
from rxws.messages.pushed import HIGH_WATER
from tests.support.reading import Reading

pytestmark = pytest.mark.usefixtures("virtual_time", "assert_no_leaks")


class PushingTransport:
    """A transport that notes whether it reads."""

    def __init__(self, end):
        self.is_reading = True
        self.abort = end

    def pause_reading(self):
        self.is_reading = False

    def resume_reading(self):
        self.is_reading = True

    def is_closing(self):
        return False


class PushingWebsocket:
    """A connection that pushes the frames that the test gives it."""

    def __init__(self):
        self._ended = asyncio.Event()
        self.transport = PushingTransport(self.end)
        self._take = None

    def push_frames(self, take):
        self._take = take

    def come(self, *frames):
        """Push frames, as the callback of a transport does for all frames of one read."""
        for frame in frames:
            self._take(frame)

    def end(self):
        self._ended.set()

    async def wait_closed(self):
        await self._ended.wait()

    async def recv(self):
        await self._ended.wait()
        raise ConnectionClosedOK(None, None)

    def __aiter__(self):
        raise AssertionError("frames are pushed")

    async def send(self, _message):
        """Send nothing."""

    async def close(self):
        self.end()


class Pushing(Reading):
    """A pushing connection with its reader."""

    def __init__(self, parse=lambda raw: raw):
        super().__init__(PushingWebsocket(), parse)

    async def begun(self):
        """Wait until the reader waits for a frame."""
        await asyncio.sleep(0.001)
        return self


async def test_message_is_delivered_at_once_when_it_is_pushed():
    """A message reaches its consumers before the connection's callback returns."""
    reading = await Pushing().begun()
    reading.websocket.come("a", b"b")
    assert reading.messages == ["a", b"b"]
    assert reading.connection.inbound.last_received_at is not None
    await reading.ended()
    assert type(reading.connection.failure.error) is ConnectionClosedOK


async def test_messages_wait_when_the_reader_has_not_begun():
    """Frames that are pushed before the reader waits for one are delivered first, in order."""
    reading = Pushing()
    await asyncio.sleep(0)
    reading.websocket.come("a", "b")
    await reading.begun()
    reading.websocket.come("c")
    assert reading.messages == ["a", "b", "c"]
    await reading.ended()


async def test_order_is_kept_when_a_plain_hook_returns_coroutines():
    """A plain hook may return coroutines: they run in the reader's task, where ``asyncio.timeout`` works, in order."""
    tasks = set()

    async def parse_later(raw):
        tasks.add(asyncio.current_task().get_name())
        async with asyncio.timeout(5):
            if raw == "slow":
                await asyncio.sleep(1)
        return raw.upper()

    reading = await Pushing(lambda raw: raw if raw == "now" else parse_later(raw)).begun()
    reading.websocket.come("now", "slow", "fast", "now")
    assert reading.messages == ["now"]
    await asyncio.sleep(2)
    reading.websocket.come("now", "fast")
    await asyncio.sleep(1)
    assert reading.messages == ["now", "SLOW", "FAST", "now", "now", "FAST"]
    assert tasks == {"rxws reader 1"}
    await reading.ended()


async def test_messages_go_through_the_task_when_the_hook_is_a_coroutine_function():
    """A coroutine hook runs in the reader's task, and messages that arrive while it waits keep their order."""

    async def parse(raw):
        await asyncio.sleep(1 if raw == "slow" else 0)
        return raw, asyncio.current_task().get_name()

    reading = await Pushing(parse).begun()
    reading.websocket.come("slow", "fast")
    await asyncio.sleep(2)
    assert reading.messages == [("slow", "rxws reader 1"), ("fast", "rxws reader 1")]
    await reading.ended()


async def test_other_tasks_run_when_a_burst_is_pushed(virtual_time):
    """In a burst that takes longer than a time slice, other tasks run, and reading pauses while many frames wait."""
    reading = await Pushing().begun()
    turns = 0

    async def count():
        nonlocal turns
        while len(reading.messages) < 1_000:
            turns += 1
            await asyncio.sleep(0)

    clock = virtual_time._selector.clock
    reading.wiring.router.messages.subscribe(lambda _message: clock.advance(0.001))
    counting = asyncio.create_task(count())
    await asyncio.sleep(0)
    reading.websocket.come(*map(str, range(1_000)))
    assert len(reading.messages) < 100
    assert not reading.websocket.transport.is_reading
    await counting
    assert turns > 20
    assert reading.messages == list(map(str, range(1_000)))
    await asyncio.sleep(0.01)
    assert reading.websocket.transport.is_reading
    await reading.ended()


async def test_reading_is_not_paused_when_few_frames_wait():
    """As long as at most ``HIGH_WATER`` frames wait, the connection goes on reading."""

    async def parse(raw):
        await asyncio.sleep(1)
        return raw

    reading = await Pushing(parse).begun()
    reading.websocket.come(*["x"] * HIGH_WATER)
    assert reading.websocket.transport.is_reading
    reading.websocket.come("x")
    assert not reading.websocket.transport.is_reading
    await reading.ended()


async def test_frame_is_rejected_when_a_plain_hook_raises():
    """A hook that raises, even a CancelledError that no task got, rejects only its frame."""

    def parse(raw):
        if raw == "cancelled":
            raise asyncio.CancelledError
        return Many(raw.split()) if " " in raw else int(raw)

    reading = await Pushing(parse).begun()
    reading.websocket.come("1", "x", "cancelled", "a b", "2")
    assert reading.messages == [1, "a", "b", 2]
    assert reading.rejected() == [("x", ValueError), ("cancelled", asyncio.CancelledError)]
    await reading.ended()


async def test_program_ends_when_a_consumer_exits():
    """SystemExit of a consumer ends the program from the reader's task; the connection's callback does not see it."""
    pushed, readers = [], []

    async def program():
        reading = await Pushing().begun()
        readers.append(reading.connection.reader)

        def leave(message):
            if message == "exit":
                raise SystemExit(3)

        reading.wiring.router.messages.subscribe(leave)
        reading.websocket.come("1", "exit", "2")
        pushed.extend(reading.messages)
        await asyncio.sleep(1)

    def run():
        with pytest.raises(SystemExit):
            asyncio.run(program())
        assert isinstance(readers[0].exception(), SystemExit)

    await asyncio.to_thread(run)
    assert pushed == ["1", "exit"]


@pytest.mark.parametrize("waits", [False, True], ids=["for a frame", "for a hook"])
async def test_reader_ends_when_it_is_cancelled(waits):
    """A cancelled reader ends, whether it waits for a frame or for the coroutine of a hook, which is cancelled, too."""
    ended = []

    async def parse_later(_raw):
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(True)

    reading = await Pushing(lambda raw: parse_later(raw)).begun()
    if waits:
        reading.websocket.come("1")
        await asyncio.sleep(1)
    reading.connection.reader.cancel()
    await asyncio.wait({reading.connection.reader})
    assert ended == [True] * waits
    assert reading.connection.reader.done()
    reading.websocket.come("late")
    reading.websocket.end()
    await asyncio.sleep(0)
    assert reading.messages == []


async def test_coroutine_is_closed_when_the_reader_is_cancelled_before_it_begins():
    """A coroutine of a plain hook that never began because the reader was cancelled leaves no warning."""

    async def parse_later(raw):
        return raw

    reading = await Pushing(lambda raw: parse_later(raw)).begun()
    reading.websocket.come("1")
    reading.connection.reader.cancel()
    await asyncio.wait({reading.connection.reader})
    assert reading.messages == []
    reading.websocket.end()
