"""Frame sources: websockets pushes frames past ``recv``; picows and all other connections are asked for each frame."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import sys
import types
from pathlib import Path

import picows.websockets
import pytest
import websockets
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK
from websockets.frames import Frame, Opcode

from rxws.messages import frames as module
from rxws.messages import pushed
from rxws.messages.frames import CHUNK_SIZE, frames_of
from rxws.messages.pushed import HIGH_WATER, IDLE
from rxws.reporting.reporter import Reporter
from rxws.testing import FeedServer

CONNECTS = {"websockets": websockets.connect, "picows": picows.websockets.connect}


class Taking:
    """A connection whose frames the test takes one by one. Its reader takes no frame before the test wants one."""

    def __init__(self, websocket, is_pushed=True):
        self.websocket = websocket
        self.frames = frames_of(websocket, Reporter(asyncio.get_running_loop(), "feed"))
        self._wanted = asyncio.Event()
        self._taker = None
        pushed = self.frames.pushed if is_pushed else None
        reading = self._read(pushed)
        self.reading = asyncio.ensure_future(reading if pushed is None else pushed.run(reading))

    @types.coroutine
    def _read(self, pushed):
        """Take frames as the reader does."""
        waiting = self.frames.waiting
        while True:
            if pushed is not None:
                yield from pushed.enter_task()
            yield from self._wanted.wait()
            if pushed is not None:
                frame = yield IDLE
            else:
                frame = waiting.popleft() if waiting else (yield from self.frames.next().__await__())
            if frame is not None:
                self._taker.set_result(frame)
                self._wanted.clear()

    async def take(self):
        """Take the next frame, which must arrive within 10 s."""
        self._taker = asyncio.get_running_loop().create_future()
        self._wanted.set()
        await asyncio.wait({self._taker, self.reading}, timeout=10, return_when=asyncio.FIRST_COMPLETED)
        if self._taker.done():
            return self._taker.result()
        assert self.reading.done(), "no frame has arrived"
        return await self.reading

    async def take_soon(self):
        """Start a task that takes the next frame, and return it when the reader waits for the frame."""
        waiting = asyncio.create_task(self.take())
        await asyncio.sleep(0.01)
        return waiting

    async def until_end(self, at_once=1):
        """Take all frames, ``at_once`` per iteration of the loop; return them and the connection's exception."""
        taken = []
        try:
            while True:
                taken.append(await self.take())
                if len(taken) % at_once == 0:
                    await asyncio.sleep(0)
        except (StopAsyncIteration, websockets.ConnectionClosed, picows.websockets.ConnectionClosed) as error:
            self.frames.release()
            return taken, error

    async def stop(self):
        """Stop reading, and release the connection."""
        self.reading.cancel()
        await asyncio.wait({self.reading})
        self.frames.release()


@pytest.fixture
async def server(assert_no_leaks):
    """A server that the test controls."""
    async with FeedServer() as server:
        yield server


async def taking(server, connect=websockets.connect, **options):
    """Open a connection and its frame source."""
    websocket = await connect(server.url, **options)
    await server.connected()
    return Taking(websocket)


async def pushing(server, **options):
    """Open a connection whose ``recv`` has waited once, so that complete frames bypass it from now on."""
    taking_ = await taking(server, **options)
    waiting = await taking_.take_soon()
    await server.send("first")
    assert await waiting == "first"
    return taking_


async def until(condition):
    """Wait until a condition holds, ten seconds at most."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


@pytest.mark.parametrize("connect", CONNECTS.values(), ids=CONNECTS)
async def test_frames_arrive_in_order_when_the_connection_ends(server, connect):
    """Frames arrive in order, text as ``str`` and binary as ``bytes``; then the exception of ``recv`` is raised."""
    taking_ = await taking(server, connect)
    await server.send("a", b"b", "ä€", "", b"")
    await server.close(4000, "enough")
    taken, error = await taking_.until_end()
    assert taken == ["a", b"b", "ä€", "", b""]
    assert error.rcvd is None or error.rcvd.code == 4000
    assert taking_.websocket.close_code == 4000
    await taking_.websocket.close()


@pytest.mark.parametrize(("code", "kind"), [(1000, ConnectionClosedOK), (1011, ConnectionClosedError)])
async def test_end_is_that_of_recv_when_the_connection_closes(server, code, kind):
    """After the last frame, a normal or abnormal closure raises the exception that ``recv`` would raise."""
    taking_ = await taking(server)
    await server.send("last")
    await server.close(code)
    taken, error = await taking_.until_end()
    assert (taken, type(error)) == (["last"], kind)


async def test_waiting_reader_gets_the_error_when_the_connection_is_reset(server):
    """A reader that waits for a frame gets the reset of the connection at once."""
    taking_ = await taking(server)
    waiting = asyncio.create_task(taking_.until_end())
    await asyncio.sleep(0.05)
    server.reset()
    taken, error = await asyncio.wait_for(waiting, 2)
    assert (taken, type(error)) == ([], ConnectionClosedError)


async def test_complete_frames_bypass_recv_when_recv_has_waited_once(server, monkeypatch):
    """After ``recv`` has waited once, complete frames bypass it, which makes reading fast."""
    received = []
    recv = ClientConnection.recv

    async def counted(self, decode=None):
        frame = await recv(self, decode)
        received.append(frame)
        return frame

    monkeypatch.setattr(ClientConnection, "recv", counted)
    taking_ = await taking(server)
    waiting = await taking_.take_soon()
    await server.send("1")
    assert await waiting == "1"
    assert received == ["1"]
    for number in range(2, 50):
        await server.send(str(number))
        assert await taking_.take() == str(number)
    assert received == ["1"]
    await server.close()
    await taking_.until_end()


async def test_queued_frames_are_first_when_reading_begins(server):
    """Frames that are in the library's queue when reading begins precede later ones."""
    websocket = await websockets.connect(server.url)
    await server.connected()
    await server.send(*map(str, range(10)))
    await until(lambda: len(websocket.recv_messages.frames) == 10)
    taking_ = Taking(websocket)
    await server.send(*map(str, range(10, 200)))
    assert [await taking_.take() for _ in range(200)] == list(map(str, range(200)))
    await server.close()
    await taking_.until_end()


async def fragmented(*parts):
    """Yield the parts of a message."""
    for part in parts:
        yield part


async def test_order_is_kept_when_a_message_is_fragmented(server):
    """A fragmented message is assembled, and later messages follow it."""
    taking_ = await taking(server)
    connection = server.connections[0]
    sent = []
    for number in range(20):
        for message in (f"whole {number}", ["a", "ä", str(number)], f"next {number}", [b"\x00", b"\xff"]):
            whole = message if isinstance(message, str) else message[0][:0].join(message)
            sent.append(whole)
            await connection.websocket.send(message)
    assert [await taking_.take() for _ in sent] == sent
    await server.close()
    await taking_.until_end()


async def test_reading_continues_when_a_message_has_thousands_of_fragments(server):
    """A message with more fragments than the library's queue holds does not stop reading."""
    taking_ = await taking(server)
    sending = asyncio.create_task(server.connections[0].websocket.send(["x"] * 4_000))
    assert await taking_.take() == "x" * 4_000
    await sending
    await server.close()
    await taking_.until_end()


@pytest.mark.parametrize("begin", [taking, pushing])
async def test_connection_ends_when_text_is_not_valid_utf_8(server, begin):
    """Invalid UTF-8 ends the connection with code 1007 (RFC 6455 §8.1), after the frames before it are delivered."""
    taking_ = await begin(server)
    await server.send("2", b"3")
    await server.connections[0].websocket.send(b"\xff", text=True)
    taken, error = await taking_.until_end()
    assert taken == ["2", b"3"]
    assert error.sent.code == 1007


async def test_pings_are_answered_when_frames_wait(server):
    """While frames wait, the pings of either side are answered."""
    taking_ = await taking(server)
    await server.send("1", "2", "3")
    assert await taking_.take() == "1"
    assert await asyncio.wait_for(await taking_.websocket.ping(), 5) >= 0
    assert await asyncio.wait_for(await server.connections[0].websocket.ping(), 5) >= 0
    assert [await taking_.take(), await taking_.take()] == ["2", "3"]
    await server.close()
    await taking_.until_end()


async def test_pong_arrives_when_frames_bypass_recv(server):
    """While frames bypass ``recv``, a pong still resolves the caller's ping."""
    taking_ = await pushing(server)
    waiting = await taking_.take_soon()
    assert await asyncio.wait_for(await taking_.websocket.ping(), 5) >= 0
    await server.send("2")
    assert await waiting == "2"
    await server.close()
    await taking_.until_end()


async def test_release_resumes_reading_when_it_is_paused(server):
    """``release`` resumes a paused connection, so that it can be closed in time."""
    taking_ = await pushing(server)
    await server.send(*map(str, range(2, HIGH_WATER + 5)))
    await until(lambda: len(taking_.frames.waiting) > HIGH_WATER)
    assert not taking_.websocket.transport.is_reading()
    await taking_.stop()
    assert taking_.websocket.transport.is_reading()
    await asyncio.wait_for(taking_.websocket.close(), 5)


@pytest.mark.slow
async def test_reading_pauses_when_too_many_frames_wait(server):
    """While the reader takes no frames, only a bounded number waits; when it takes them, the others arrive."""
    taking_ = await taking(server)
    first = await taking_.take_soon()
    await server.send("first")
    await first
    size, count = 4_000, 8_000
    sending = asyncio.create_task(server.send(*[f"{number:0{size}}" for number in range(count)]))
    await asyncio.sleep(0.5)
    most = len(taking_.frames.waiting)
    assert HIGH_WATER < most <= HIGH_WATER + 2**18 // size + 2
    assert not sending.done()
    assert [int(await taking_.take()) for _ in range(count)] == list(range(count))
    await asyncio.wait_for(sending, 10)
    await server.close()
    await taking_.until_end()


async def test_release_restores_the_connection_when_reading_ends(server):
    """After ``release`` the connection has its own methods again, no task of rxws, and no pause."""
    taking_ = await taking(server)
    waiting = await taking_.take_soon()
    await server.send("1")
    assert await waiting == "1"
    await taking_.stop()
    await asyncio.sleep(0.01)
    assert not {"process_event", "data_received"} & set(vars(taking_.websocket))
    await server.send("2")
    assert await asyncio.wait_for(taking_.websocket.recv(), 5) == "2"
    await taking_.websocket.close()


async def test_connection_can_be_read_again_when_reading_was_cancelled(server):
    """After a cancelled reader, another one gets each later frame, with and without ``recv``."""
    taking_ = await taking(server)
    for number in range(20):
        await taking_.take_soon()
        await taking_.stop()
        await asyncio.sleep(0.01)
        await server.send(str(number))
        taking_ = Taking(taking_.websocket)
        assert await taking_.take() == str(number)
    await server.close()
    await taking_.until_end()


class Derived(ClientConnection):
    """A user's subclass of a connection. It puts "hello" before each message."""

    async def recv(self, decode=None):
        return "hello " + await super().recv(decode)


async def test_recv_is_used_when_the_connection_is_of_a_subclass(server):
    """A user's subclass of the connection class keeps its overridden methods: nothing bypasses them."""
    taking_ = await taking(server, create_connection=Derived)
    await server.send("you", "me")
    assert [await taking_.take(), await taking_.take()] == ["hello you", "hello me"]
    assert "process_event" not in vars(taking_.websocket)
    await server.close()
    await taking_.until_end()


async def test_messages_are_decompressed_when_they_are_compressed(server):
    """The library decompresses messages before they are pushed."""
    taking_ = await taking(server, compression="deflate")
    messages = [json.dumps({"n": number, "text": "x" * 500}) for number in range(300)]
    await server.send(*messages)
    assert [await taking_.take() for _ in messages] == messages
    await server.close()
    await taking_.until_end()


async def feed(server, pieces, taken_at_once):
    """Send a mixture of messages, take them in portions, and return the sent and the received messages."""
    taking_ = await taking(server)
    sent = []

    async def send():
        for kind, length in pieces:
            text = kind * length
            sent.append(text)
            if length % 3 == 2:
                await server.connections[-1].websocket.send([text[: length // 2], text[length // 2 :]])
            else:
                await server.connections[-1].websocket.send(text)
            if length % 5 == 0:
                await asyncio.sleep(0)
        await server.close()

    sending = asyncio.create_task(send())
    came, _ = await taking_.until_end(taken_at_once)
    await sending
    return sent, came


@settings(max_examples=30, deadline=None)
@given(
    pieces=st.lists(st.tuples(st.sampled_from("aé€"), st.integers(0, 300)), max_size=60),
    taken_at_once=st.integers(1, 20),
    high=st.sampled_from([0, 3, HIGH_WATER]),
    piece=st.sampled_from([1, 7, CHUNK_SIZE]),
)
def test_messages_arrive_in_order_when_whole_and_fragmented_ones_mix(pieces, taken_at_once, high, piece):
    """Any mixture of whole and fragmented messages arrives complete and in order, for any sizes of the reads."""

    async def run():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pushed, "HIGH_WATER", high)
            patch.setattr(module, "CHUNK_SIZE", piece)
            async with FeedServer() as server:
                return await feed(server, pieces, taken_at_once)

    sent, came = asyncio.run(run())
    assert came == sent


def raw(*parts):
    """Return the bytes of a server's frames: a ``str`` is a whole message, a list holds the fragments of one."""
    frames = []
    for part in parts:
        pieces = [part] if isinstance(part, str) else part
        for n, piece in enumerate(pieces):
            opcode = Opcode.CONT if n else Opcode.TEXT
            frames.append(Frame(opcode, piece.encode(), n == len(pieces) - 1).serialize(mask=False))
    return frames


@pytest.mark.parametrize("whole", [1, HIGH_WATER + 1, 3 * HIGH_WATER])
async def test_reading_continues_when_it_pauses_within_a_message(server, whole):
    """If one read contains whole messages and the first fragment of another message, reading continues."""
    taking_ = await pushing(server)
    texts = [str(n) for n in range(whole)]
    transport = server.connections[-1].websocket.transport
    first, last = raw(["frag", "ment"])
    transport.write(b"".join(raw(*texts)) + first)
    await asyncio.sleep(0.05)
    transport.write(last + b"".join(raw("after")))
    assert [await taking_.take() for _ in range(whole + 2)] == [*texts, "fragment", "after"]
    await server.close()
    await taking_.until_end()


async def test_reading_pauses_again_when_recv_has_resumed_it(server):
    """After ``recv`` has paused and resumed reading for a fragmented message, the waiting frames are still bounded."""
    taking_ = await pushing(server)
    connection = server.connections[-1].websocket
    texts = [str(n) for n in range(HIGH_WATER + 10)]
    connection.transport.write(b"".join(raw(*texts, ["a"] * 40)))
    await asyncio.sleep(0.05)
    for _ in range(HIGH_WATER + 11):
        await taking_.take()
    connection.transport.write(b"".join(raw(*["x" * 5_000] * 4_000)))
    await asyncio.sleep(0.3)
    await taking_.take()
    await asyncio.sleep(0.3)
    assert len(taking_.frames.waiting) < HIGH_WATER + 2**18 // 5_000 + 2
    for _ in range(4_000 - 1):
        await taking_.take()
    await server.close()
    await taking_.until_end()


async def test_order_is_kept_when_a_fragment_arrives_before_reading_begins(server):
    """A message whose first fragment arrives before reading begins comes first, as soon as it is complete."""
    async with websockets.connect(server.url) as websocket:
        await server.connected()
        transport = server.connections[-1].websocket.transport
        first, last = raw(["frag", "ment"])
        transport.write(first)
        await asyncio.sleep(0.05)
        taking_ = Taking(websocket)
        waiting = await taking_.take_soon()
        await asyncio.sleep(0.05)
        transport.write(last + b"".join(raw("B")))
        async with asyncio.timeout(5.0):
            assert [await waiting, await taking_.take()] == ["fragment", "B"]
        for text in "012":
            transport.write(b"".join(raw(text)))
            async with asyncio.timeout(5.0):
                assert await taking_.take() == text
        await taking_.stop()


def test_frame_of_websockets_has_the_expected_attributes():
    """A frame of websockets has the attributes that rxws reads: fin, opcode and data."""
    frame = Frame(Opcode.TEXT, b"text", True)
    assert (frame.fin, frame.opcode, frame.data.decode()) == (True, Opcode.TEXT, "text")


async def test_recv_is_used_when_the_connection_lacks_a_private_attribute(server, caplog):
    """If a private attribute is missing, frames are read through ``recv``, and each reporter logs one line."""
    reporter = Reporter(asyncio.get_running_loop(), "feed")
    for _ in range(2):
        websocket = await websockets.connect(server.url)
        connection = await server.connected(1)
        transport = websocket.transport
        del websocket.transport
        frames = frames_of(websocket, reporter)
        websocket.transport = transport
        assert "process_event" not in vars(websocket)
        await server.send("1", b"2")
        assert [await frames.next(), await frames.next()] == ["1", b"2"]
        await connection.close(4000)
        with pytest.raises(ConnectionClosedError):
            await frames.next()
        frames.release()
        await server.disconnected()
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.message == (
        "feed: this version of websockets has no transport: frames are read through recv, which is slower"
    )


BUFFERED = """
    def get_buffer(self, sizehint):
        self.buffer = bytearray(65536)
        return self.buffer

    def buffer_updated(self, count):
        self.receive_bytes(bytes(self.buffer[:count]))
"""

RENAMED = {
    "nothing": {},
    "transport": {r"\btransport\b": "channel"},
    "process_event": {r"\bprocess_event\b": "handle_event"},
    "recv_messages": {r"\brecv_messages\b": "incoming"},
    "paused": {r"\bpaused\b": "is_paused"},
    # asyncio calls data_received() by its name. A version of websockets without it needs another base class.
    "data_received": {
        r"\bdata_received\b": "receive_bytes",
        r"asyncio\.Protocol": "asyncio.BufferedProtocol",
        r"(?=\n    def receive_bytes)": BUFFERED,
    },
}
"""The private attributes of websockets that pushed frames need, and the edits that make a version without each."""

CLIENT = """
import asyncio, itertools, logging, sys
import rxws, websockets

async def main():
    logging.basicConfig(level=logging.INFO)
    delays = lambda: itertools.repeat(0.01)
    async with rxws.ReactiveWebSocket(sys.argv[1], reconnect_delays=delays, close_timeout=1) as feed:
        messages = await feed.messages.collect(count=4, seconds=20)
    print(websockets.__file__, messages)

asyncio.run(main())
"""
"""A program that reads four messages, the last two after a reconnection."""


@pytest.mark.slow
@pytest.mark.parametrize(("missing", "renames"), RENAMED.items(), ids=RENAMED)
async def test_feed_uses_recv_when_websockets_lacks_a_private_attribute(server, tmp_path, missing, renames):
    """A feed delivers through ``recv``, even after a reconnection, and logs once which attribute is missing."""
    package = tmp_path / "websockets"
    shutil.copytree(Path(websockets.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (package / "asyncio").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        for name, other in renames.items():
            text = re.sub(name, other, text)
        path.write_text(text, encoding="utf-8")
    path = os.pathsep.join([str(tmp_path), *sys.path])
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", CLIENT, server.url), env=os.environ | {"PYTHONPATH": path}, stdout=pipe, stderr=pipe
    )
    try:
        async with asyncio.timeout(60):
            for number in range(2):
                await server.connected(number + 1)
                # Pause between the two messages, so that the client waits for the second one.
                await server.send(str(2 * number))
                await asyncio.sleep(0.05)
                await server.send(str(2 * number + 1))
                if number < 1:
                    await server.close(1012)
            output, log = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert output.decode().split() == [str(package / "__init__.py"), *str(list(range(4))).split()], log.decode()
    lines = [line for line in log.decode().splitlines() if "through recv" in line]
    assert len(lines) == bool(renames)
    assert all(f"this version of websockets has no {missing}: frames are read through recv" in line for line in lines)
