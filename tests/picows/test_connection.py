"""The connection: it behaves as one of websockets does, and pushes messages as soon as they arrive."""

from __future__ import annotations

import asyncio
import json
import zlib

import pytest
import websockets
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.asyncio.messages import MAX_FRAGMENTS
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK
from websockets.frames import Opcode
from websockets.protocol import State

import rxws.picows
from rxws.testing import FeedServer
from tests.picows.rig import BOTH, Pushed, message, outcome, text, wire

TEXT, BINARY, CONT, CLOSE, PING, PONG = (
    *(Opcode.TEXT, Opcode.BINARY, Opcode.CONT),
    *(Opcode.CLOSE, Opcode.PING, Opcode.PONG),
)


@pytest.fixture
async def server(assert_no_leaks):
    """A server that the test controls."""
    async with FeedServer() as server:
        yield server


async def connected(server, **options):
    """Open a connection, and return it with the server's side of it."""
    websocket = await rxws.picows.connect(server.url, **({"ping_interval": None, "proxy": None} | options))
    return websocket, await server.connected()


async def pushing(server, **options):
    """Open a connection whose messages are pushed, and return it with the server's side of it."""
    websocket, connection = await connected(server, **options)
    return Pushed(websocket), connection


# Receiving


async def test_recv_and_async_for_return_messages_when_frames_are_not_pushed(server):
    """Before ``push_frames`` a connection is read as one of websockets: with ``recv`` and ``async for``."""
    websocket, connection = await connected(server)
    await server.send("a", b"b", "ä€", "", b"")
    assert [await websocket.recv() for _ in range(3)] == ["a", b"b", "ä€"]
    await connection.send_fragments(["frag", "ment"])
    await server.close()
    assert [each async for each in websocket] == ["", b"", "fragment"]


async def test_messages_are_pushed_when_they_arrive(server):
    """Text is pushed as ``str`` and binary as bytes that own their memory, in order and without a task switch."""
    pushed, _ = await pushing(server)
    await server.send("a", b"b", "ä€", "", b"", "x" * 100_000)
    assert await pushed.until(6) == ["a", b"b", "ä€", "", b"", "x" * 100_000]
    assert [type(each) for each in pushed.messages[:2]] == [str, bytes]
    await server.close(4000, "enough")
    error = await pushed.ended()
    assert (error.rcvd.code, error.rcvd.reason) == (4000, "enough")


async def test_waiting_messages_are_pushed_first_when_pushing_begins(server):
    """Messages that waited in ``recv``, and the first part of one, precede the messages that arrive later."""
    websocket, connection = await connected(server, max_queue=4)
    connection.send_raw(b"".join(text(str(number)) for number in range(10)) + wire(TEXT, "fr", fin=False))
    await asyncio.sleep(0.05)
    assert await websocket.recv() == "0"
    pushed = Pushed(websocket)
    connection.send_raw(wire(CONT, "ag") + text("last"))
    assert await pushed.until(11) == [*map(str, range(1, 10)), "frag", "last"]
    await server.close()
    await pushed.ended()


async def test_another_function_gets_the_messages_when_one_replaces_itself(server):
    """``push_frames`` may be called again while a message is pushed: the next message of the same read obeys it."""
    websocket, connection = await connected(server)
    later = []

    def first(_message):
        websocket.push_frames(later.append)

    websocket.push_frames(first)
    connection.send_raw(text("1") + text("2") + text("3"))
    await server.close()
    with pytest.raises(ConnectionClosedOK):
        await websocket.recv()
    assert later == ["2", "3"]


@pytest.mark.parametrize("pushes", [True, False], ids=["pushed", "recv"])
@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(text("a", "b", "c") + text("d"), id="fragments"),
        pytest.param(message(BINARY, b"a", b"", b"b"), id="an empty fragment"),
        pytest.param(message(TEXT, "ä€".encode()[:1], "ä€".encode()[1:3], "ä€".encode()[3:]), id="parts of characters"),
        pytest.param(wire(TEXT, "a", fin=False) + wire(PING, b"p") + wire(CONT, "b"), id="a ping among fragments"),
        pytest.param(wire(TEXT, "a") + wire(CONT, "b"), id="a continuation of nothing"),
        pytest.param(wire(TEXT, "a", fin=False) + wire(TEXT, "b"), id="a message within a message"),
        pytest.param(wire(TEXT, "a", fin=False) + wire(CLOSE, b"\x03\xe8"), id="a close within a message"),
        pytest.param(wire(TEXT, b"a\xff") + text("b"), id="not UTF-8"),
        pytest.param(message(TEXT, b"a\xff", b"b") + text("c"), id="fragments that are not UTF-8"),
        pytest.param(wire(TEXT, b"\xed\xa0\x80"), id="a surrogate"),
        pytest.param(wire(BINARY, b"\xff\xfe"), id="binary need not be UTF-8"),
        pytest.param(text("a") + wire(3, "b") + text("c"), id="a reserved opcode"),
        pytest.param(text("a") + wire(11), id="a reserved control opcode"),
        pytest.param(wire(TEXT, "a", bits=4), id="compressed without an agreement"),
        pytest.param(wire(TEXT, "a", bits=2), id="the second reserved bit"),
        pytest.param(wire(TEXT, "a", bits=1), id="the third reserved bit"),
        pytest.param(wire(TEXT, "a", masked=True), id="masked"),
        pytest.param(wire(PING, b"x" * 126), id="a ping that is too long"),
        pytest.param(wire(PING, b"x", fin=False), id="a fragmented ping"),
        pytest.param(wire(PONG, b"x") + text("a"), id="a pong without a ping"),
        pytest.param(wire(CLOSE), id="a close frame without a code"),
        pytest.param(wire(CLOSE, b"\x03"), id="half a code"),
        pytest.param(wire(CLOSE, b"\x03\xe9bye"), id="1001"),
        pytest.param(wire(CLOSE, b"\x03\xf3"), id="1011"),
        pytest.param(wire(CLOSE, b"\x0f\xa0"), id="4000"),
        pytest.param(wire(CLOSE, b"\x03\xed"), id="1005, which no frame may have"),
        pytest.param(wire(CLOSE, b"\x00\x01"), id="an invalid code"),
        pytest.param(wire(CLOSE, b"\x03\xe8\xff"), id="a reason that is not UTF-8"),
        pytest.param(wire(CLOSE, b"\x03\xe8") + text("late"), id="a message after the close frame"),
        pytest.param(b"\x81\x05hel", id="half a frame"),
        pytest.param(text("a") * 100 + wire(CLOSE, b"\x03\xe8"), id="a hundred messages"),
        pytest.param(text("x" * 1_100) + text("b"), id="a message over the limit"),
        pytest.param(text("x" * 600, "x" * 600) + text("b"), id="fragments over the limit"),
        pytest.param(text("x" * 1_000), id="a message of the limit"),
    ],
)
async def test_connection_behaves_as_one_of_websockets_when_it_gets_any_octets(server, octets, pushes):
    """Fragments, UTF-8, close codes and limits: the same messages, exceptions and close codes as with websockets."""
    theirs = await outcome(websockets.connect, server, octets, max_size=1_000)
    ours = await outcome(rxws.picows.connect, server, octets, max_size=1_000, pushes=pushes)
    assert ours == theirs


@pytest.mark.parametrize(
    "octets", [b"\x81\x7e\x00\x05hello", b"\x81\x7f\x80" + bytes(7)], ids=["longer than necessary", "negative"]
)
async def test_connection_fails_when_a_length_is_encoded_wrongly(server, octets):
    """A length in more octets than it needs, or with its first bit set, breaks the protocol (RFC 6455 §5.2)."""
    ended = await outcome(rxws.picows.connect, server, octets)
    assert (ended.messages, ended.sent, ended.server_code) == ([], 1002, 1002)


PIECES = st.one_of(
    st.builds(
        wire,
        st.sampled_from([TEXT, TEXT, TEXT, BINARY, CONT, PING, PONG]),
        st.one_of(st.text(max_size=20), st.binary(max_size=130)),
        fin=st.sampled_from([True, True, True, False]),
        bits=st.sampled_from([0] * 20 + [1, 2, 4]),
    ),
    st.lists(st.text(max_size=10), min_size=1, max_size=5).map(lambda parts: text(*parts)),
    st.lists(st.binary(max_size=10), min_size=1, max_size=5).map(lambda parts: message(BINARY, *parts)),
)

ENDS = st.integers(0, 5_000).map(lambda code: wire(CLOSE, code.to_bytes(2, "big")))


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(pieces=st.lists(PIECES, max_size=8), end=st.just(b"") | ENDS, pushes=st.booleans())
def test_connection_behaves_as_one_of_websockets_when_frames_are_random(pieces, end, pushes):
    """For any frames the messages, the exception and the close codes are those of websockets."""

    async def run():
        async with FeedServer() as server:
            octets = b"".join(pieces) + end
            theirs = await outcome(websockets.connect, server, octets, max_size=100)
            ours = await outcome(rxws.picows.connect, server, octets, max_size=100, pushes=pushes)
            if ours.sent == 1007:
                # `recv` checks text only when it returns the text, so a later fault of the server may count first.
                assert ours.messages == theirs.messages
            else:
                assert ours == theirs

    asyncio.run(run())


async def test_connection_fails_when_a_message_has_too_many_fragments(server):
    """A message of more fragments than websockets accepts ends the connection with 1009, and is not kept."""
    pushed, connection = await pushing(server)
    connection.send_raw(wire(TEXT, "", fin=False) + wire(CONT, "", fin=False) * MAX_FRAGMENTS)
    error = await pushed.ended()
    assert (error.sent.code, pushed.messages) == (1009, [])


async def test_frame_over_the_limit_is_refused_when_only_its_head_has_arrived(server):
    """A frame that is too big is refused before its content is read, and the connection's exception says why."""
    pushed, connection = await pushing(server, max_size=1_000)
    connection.send_raw(b"\x81\x7f" + (2**40).to_bytes(8, "big"))
    error = await pushed.ended()
    assert error.sent.code == 1009
    assert str(2**40) in error.sent.reason


# Compression


async def test_messages_are_decompressed_when_the_server_compresses(assert_no_leaks):
    """Compressed messages, with a context that continues from message to message, are pushed as they are."""
    async with FeedServer(compression="deflate") as server:
        pushed, connection = await pushing(server)
        assert pushed.websocket.protocol.extensions
        messages = [json.dumps({"n": number, "text": "ä" * 500}) for number in range(300)]
        await server.send(*messages)
        await connection.send_fragments(["x" * 1_000, "y" * 1_000])
        assert await pushed.until(301) == [*messages, "x" * 1_000 + "y" * 1_000]
        await pushed.websocket.send("z" * 1_000)
        assert await connection.expect() == "z" * 1_000
        await server.close()
        await pushed.ended()


@pytest.mark.parametrize("connect", BOTH.values(), ids=BOTH)
async def test_connection_fails_when_a_compressed_message_is_too_big(assert_no_leaks, connect):
    """A small frame that becomes a big message ends the connection with 1009."""
    compressor = zlib.compressobj(wbits=-15)
    bomb = compressor.compress(bytes(10**7)) + compressor.flush(zlib.Z_SYNC_FLUSH)
    async with FeedServer(compression="deflate") as server:
        ended = await outcome(connect, server, wire(BINARY, bomb[:-4], bits=4))
        assert (ended.messages, ended.sent) == ([], 1009)


@pytest.mark.parametrize("connect", BOTH.values(), ids=BOTH)
async def test_connection_fails_when_a_compressed_message_is_damaged(assert_no_leaks, connect):
    """Octets that cannot be decompressed end the connection with the same code as with websockets."""
    async with FeedServer(compression="deflate") as server:
        ended = await outcome(connect, server, wire(TEXT, b"\xff\xff\xff", bits=4) + text("late"))
        assert (ended.messages, ended.sent) == ([], 1002)


# Pings


async def test_pings_are_answered_when_messages_are_pushed(server):
    """Each side answers the other's pings, and the connection measures its latency."""
    pushed, connection = await pushing(server)
    assert await asyncio.wait_for(await connection.websocket.ping(b"hello"), 5) >= 0
    assert await asyncio.wait_for(await pushed.websocket.ping(), 5) == pushed.websocket.latency
    await server.close()
    await pushed.ended()


async def test_connection_ends_when_the_peer_answers_no_ping(server):
    """If no pong arrives within ``ping_timeout``, the connection closes with 1011."""
    pushed, connection = await pushing(server, ping_interval=0.05, ping_timeout=0.05, close_timeout=0.05)
    connection.stall()
    error = await pushed.ended()
    assert error.sent.code == 1011


# Sending


async def test_send_waits_when_the_peer_reads_nothing(server):
    """``send`` waits while the buffer is full, continues when the peer reads, and raises when the connection aborts."""
    pushed, connection = await pushing(server)
    connection.stall()
    sent = 0

    async def send():
        nonlocal sent
        while True:
            await pushed.websocket.send("x" * 100_000)
            sent += 1

    sending = asyncio.create_task(send())
    await asyncio.sleep(0.3)
    before = sent
    await asyncio.sleep(0.1)
    assert sent == before
    connection.resume()
    async with asyncio.timeout(5):
        while sent == before:
            await asyncio.sleep(0.01)
    connection.stall()
    await asyncio.sleep(0.3)
    pushed.websocket.transport.abort()
    with pytest.raises(ConnectionClosedError):
        await asyncio.wait_for(sending, 5)


async def test_server_gets_every_kind_of_message_when_they_are_sent(server):
    """Text, binary, fragments and a text given as bytes arrive as sent."""
    websocket, connection = await connected(server)
    await websocket.send("text")
    await websocket.send(b"binary")
    await websocket.send(["frag", "ment"])
    await websocket.send(b"bytes as text", text=True)
    assert [await connection.expect() for _ in range(4)] == ["text", b"binary", "fragment", "bytes as text"]
    await websocket.close()


# The end


async def test_recv_raises_when_the_connection_is_aborted(server):
    """``transport.abort()`` ends the connection from outside at once, even if the peer is silent."""
    pushed, connection = await pushing(server)
    connection.stall()
    waiting = asyncio.create_task(pushed.ended())
    await asyncio.sleep(0.01)
    pushed.websocket.transport.abort()
    error = await asyncio.wait_for(waiting, 1)
    assert (type(error), error.rcvd, error.sent) == (ConnectionClosedError, None, None)
    assert pushed.websocket.state is State.CLOSED
    connection.resume()
    await connection.wait_closed()


async def test_close_shakes_hands_when_the_peer_answers(server):
    """``close`` sends its code and reason, and delivers what the peer sends before its answer."""
    pushed, connection = await pushing(server)
    connection.send_raw(text("last"))
    await pushed.websocket.close(4001, "enough")
    assert (connection.websocket.close_code, connection.websocket.close_reason) == (4001, "enough")
    assert pushed.messages == ["last"]
    assert pushed.websocket.close_code == 4001


async def test_close_gives_up_when_the_peer_does_not_answer(server):
    """``close`` aborts after ``close_timeout``."""
    pushed, connection = await pushing(server, close_timeout=0.1)
    connection.stall()
    await asyncio.wait_for(pushed.websocket.close(), 2)
    assert pushed.websocket.state is State.CLOSED


async def test_state_is_closing_when_picows_has_refused_a_frame(server):
    """After a refused frame the state is CLOSING while the peer neither reads nor closes, so that rxws can abort."""
    pushed, connection = await pushing(server)
    connection.send_raw(wire(3))
    connection.stall()
    async with asyncio.timeout(5):
        while pushed.websocket.state is State.OPEN:
            await asyncio.sleep(0.001)
    assert pushed.websocket.state in (State.CLOSING, State.CLOSED)
    error = await pushed.ended()
    assert error.sent.code == 1002
