"""The calls of a feed: sending, requests, rotation, exit, failure; from other threads, loops and processes."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import json
import math
import os
import re
import signal
import sys
import textwrap
import weakref

import pytest
import websockets

import rxws
from rxws import CallbackFailed, ConnectFailed, Disconnected, FeedClosed, SendFailed, SendTimeout, State
from rxws.testing import FeedServer
from tests.support.feeds import Feed, greet, of_kind, opened, record, take
from tests.support.life import ScriptedFeed, ScriptedWebsocket, StuckWebsocket
from tests.support.opening import never
from tests.support.wiring import in_thread

virtual = pytest.mark.usefixtures("virtual_time", "assert_no_leaks")


def now():
    """Return the loop's time."""
    return asyncio.get_running_loop().time()


class Fatal(Feed):
    """A feed whose opening fails fatally."""

    async def _create_ws(self):
        await asyncio.sleep(1)
        raise TypeError("a bug")


# Sending


@virtual
class TestSend:
    @pytest.mark.parametrize(
        ("message", "received"),
        [
            ("text", "text"),
            ("", ""),
            (b"\x00\xff", b"\x00\xff"),
            (bytearray(b"\x01"), b"\x01"),
            (memoryview(b"\x02"), b"\x02"),
            ({"op": "subscribe", "args": ["ä", 1.5]}, '{"op":"subscribe","args":["ä",1.5]}'),
            ([1, None, True], "[1,null,true]"),
            (12345678901234567890123, "12345678901234567890123"),
            (None, "null"),
        ],
    )
    async def test_send_sends_text_binary_or_json(self, feed_server, message, received):
        """``str`` is sent as a text frame, bytes of any kind as a binary one, anything else as JSON in a text frame."""
        async with Feed(feed_server) as feed:
            await feed.send(message)
            assert await feed_server.expect() == received

    @pytest.mark.parametrize(
        ("message", "error"),
        [(float("nan"), ValueError), ({"x": [float("inf")]}, ValueError), (object(), TypeError), ({1j}, TypeError)],
    )
    async def test_send_raises_at_once_for_what_json_cannot_hold(self, message, error):
        """NaN, and objects that JSON cannot represent, raise before the send waits for a connection."""
        async with ScriptedFeed() as feed:
            started = now()
            with pytest.raises(error):
                await feed.send(message)
            assert now() == started

    async def test_send_uses_the_encoder_of_the_options(self):
        """``encode`` makes the frame of other objects, and must return text or bytes."""
        websocket = ScriptedWebsocket()
        async with ScriptedFeed(websocket, encode=lambda message: f"<{message}>".encode() if message else 0) as feed:
            await feed.send(1)
            await feed.send("text")
            assert websocket.sent == [b"<1>", "text"]
            with pytest.raises(TypeError, match="encode must return str or bytes, not int"):
                await feed.send(None)

    async def test_send_waits_for_a_connection(self, feed_server):
        """Without a connection a send waits for one and uses it."""
        feed_server.refuse(503, {"Retry-After": "4"})
        async with Feed(feed_server) as feed:
            started = now()
            await feed.send("hello")
            assert now() - started == pytest.approx(4, abs=0.1)
            assert await feed_server.expect() == "hello"

    async def test_send_gives_up_at_send_timeout(self, feed_server):
        """A send without a connection raises SendTimeout, which is a TimeoutError, after ``send_timeout`` seconds."""
        async with ScriptedFeed(never, send_timeout=3) as feed:
            started = now()
            with pytest.raises(SendTimeout, match="no live connection for 3 s: nothing was sent") as caught:
                await feed.send("hello")
            assert now() - started == pytest.approx(3)
            assert isinstance(caught.value, TimeoutError)

    async def test_send_takes_send_timeout_in_total(self):
        """The time that a send waits for a connection counts against ``send_timeout``."""
        loop = asyncio.get_running_loop()

        class Late(ScriptedFeed):
            async def _create_ws(self):
                await asyncio.sleep(4)
                return await super()._create_ws()

        async with Late(StuckWebsocket()) as feed:
            started = loop.time()
            with pytest.raises(SendTimeout, match="the peer took nothing"):
                await feed.send("hello")
            assert loop.time() - started == pytest.approx(10)

    async def test_peer_that_takes_nothing_is_cut_off(self):
        """At ``send_timeout`` the send raises and the connection is replaced."""
        second = ScriptedWebsocket()
        async with ScriptedFeed(StuckWebsocket(), second, send_timeout=2) as feed:
            events = record(feed.events)
            with pytest.raises(SendTimeout):
                await feed.send("lost")
            await feed.send("hello")
            assert second.sent == ["hello"]
            assert of_kind(Disconnected, events)[0].cause == "the peer took nothing for 2 s"

    async def test_send_on_a_connection_that_is_lost_meanwhile_raises(self):
        """If the connection breaks during a send, the send raises SendFailed, whose cause is the transport's error."""

        class Breaking(ScriptedWebsocket):
            async def send(self, message):
                raise ConnectionResetError("gone")

        async with ScriptedFeed(Breaking()) as feed:
            with pytest.raises(SendFailed) as caught:
                await feed.send("hello")
            assert isinstance(caught.value.__cause__, ConnectionResetError)

    async def test_send_never_uses_a_connection_that_is_closing(self):
        """A send does not use a closing connection; it waits for the next one."""
        first, second = ScriptedWebsocket(), ScriptedWebsocket()
        async with ScriptedFeed(first, second) as feed:
            await feed.wait_connected()
            first.state = 2
            assert feed.present_ws is None
            sending = asyncio.create_task(feed.send("hello"))
            await asyncio.sleep(1)
            assert not sending.done()
            first.end()
            await sending
            assert first.sent == []
            assert second.sent == ["hello"]
            assert feed.present_ws is second

    async def test_send_gives_up_when_a_connection_does_not_end_its_closing(self):
        """``send_timeout`` also limits the wait for a connection that does not end its close."""
        first = ScriptedWebsocket()
        async with ScriptedFeed(first, send_timeout=2) as feed:
            await feed.wait_connected()
            first.state = 2
            started = now()
            with pytest.raises(SendTimeout, match="no live connection for 2 s"):
                await feed.send("hello")
            assert now() - started == pytest.approx(2)
            first.state = 1

    async def test_send_uses_the_new_connection_as_soon_as_it_is_open(self, feed_server):
        """In a rotation, ``send`` and ``present_ws`` use the new connection as soon as it is open."""
        async with Feed(feed_server, handover_timeout=5) as feed:
            first = await opened(feed, feed_server)
            old = feed.present_ws
            rotating = feed.rotate()
            assert feed.present_ws is old
            await feed.send("before")
            second = await feed_server.connected(2)
            await asyncio.sleep(0.01)
            assert feed.present_ws is not old
            await feed.send("during")
            await second.expect("during")
            assert not rotating.done()
            assert first.received == ["before"]
            assert await rotating
            assert second.received == ["during"]

    async def test_send_uses_the_old_connection_again_when_the_new_one_ends_first(self, feed_server):
        """If the new connection ends in the overlap, ``present_ws`` is the old one again."""
        async with Feed(feed_server, handover_timeout=5, reconnect_delays=lambda: iter([60])) as feed:
            first = await opened(feed, feed_server)
            old = feed.present_ws
            feed.rotate()
            second = await feed_server.connected(2)
            await asyncio.sleep(0.1)
            second.reset()
            await asyncio.sleep(0.1)
            assert feed.present_ws is old
            await feed.send("hello")
            await first.expect("hello")
            assert feed.state.value is State.ROTATING

    async def test_nothing_is_sent_again_on_a_new_connection(self, feed_server):
        """Messages that were sent are not repeated on the next connection."""
        async with Feed(feed_server) as feed:
            first = await opened(feed, feed_server)
            await feed.send("once")
            await first.expect("once")
            await feed_server.close()
            second = await opened(feed, feed_server, 2)
            await feed.send("next")
            await second.expect("next")
            assert second.received == ["next"]

    async def test_concurrent_sends_all_arrive_in_order(self, feed_server):
        """A hundred concurrent sends are sent in the order of their calls."""
        async with Feed(feed_server) as feed:
            await asyncio.gather(*(feed.send({"n": n}) for n in range(100)))
            await feed_server.expect({"n": 99})
            assert feed_server.received == [f'{{"n":{n}}}' for n in range(100)]

    async def test_send_after_exit_raises(self, feed_server):
        """After ``exit()`` a send raises FeedClosed."""
        async with Feed(feed_server, name="mine") as feed:
            await feed.wait_connected()
        with pytest.raises(FeedClosed, match="mine is closed"):
            await feed.send("hello")

    async def test_waiting_send_ends_with_the_feed(self):
        """A send that waits for a connection raises FeedClosed if the feed is closed meanwhile."""
        feed = ScriptedFeed(never)
        sending = asyncio.create_task(feed.send("hello"))
        await asyncio.sleep(1)
        started = now()
        await feed.exit()
        with pytest.raises(FeedClosed):
            await sending
        assert now() - started < 1

    async def test_waiting_send_does_not_wait_for_the_end(self):
        """A waiting send raises as soon as the closing begins, even if a handler takes long to finish."""
        websocket = ScriptedWebsocket("1")
        async with ScriptedFeed(websocket, never, close_timeout=4) as feed:
            feed.add_handler(slow)
            await feed.wait_connected()
            websocket.end()
            await asyncio.sleep(1)
            sending = asyncio.create_task(feed.send("hello"))
            await asyncio.sleep(0.1)
            exiting = asyncio.create_task(feed.exit())
            await asyncio.sleep(0.1)
            assert isinstance(sending.exception(), FeedClosed)
            assert not exiting.done()
            await exiting

    async def test_waiting_send_raises_the_fatal_error(self):
        """A send that waits for a connection raises ConnectFailed if the feed fails; so do later sends."""
        feed = Fatal(None)
        for _ in range(2):
            with pytest.raises(ConnectFailed, match="a bug"):
                await feed.send("hello")

    async def test_cancelled_send_sends_nothing(self, feed_server):
        """A message whose send is cancelled while it waits for a connection is never sent."""
        feed_server.refuse()
        async with Feed(feed_server, reconnect_delays=lambda: iter([3])) as feed:
            sending = asyncio.create_task(feed.send("never"))
            await asyncio.sleep(1)
            sending.cancel()
            await opened(feed, feed_server)
            await feed.send("hello")
            await feed_server.expect("hello")
            assert feed_server.received == ["hello"]


@virtual
class TestRequest:
    @staticmethod
    async def answer(connection):
        """Answer each request, after another message."""
        async for message in connection:
            number = json.loads(message)["id"]
            await connection.send({"id": number - 1}, {"id": number, "result": "first"}, {"id": number, "result": 2})

    async def test_request_returns_the_first_message_that_passes(self, feed_server):
        """A request returns the first message that passes its filter; streams get that message too."""
        feed_server.script = self.answer
        async with Feed(feed_server) as feed:
            stream = feed.stream_filter()
            assert await feed.request({"id": 7}, [{"id": 7}]) == {"id": 7, "result": "first"}
            assert await feed.request({"id": 8}, lambda message: message["id"] == 8) == {"id": 8, "result": "first"}
            assert len(await take(stream, 6)) == 6
            assert feed.statistics().streams == 1

    async def test_concurrent_requests_get_their_own_replies(self, feed_server):
        """Each of many concurrent requests gets the message that passes its filter."""
        feed_server.script = self.answer
        async with Feed(feed_server) as feed:
            evens = range(0, 50, 2)
            replies = await asyncio.gather(*(feed.request({"id": n}, [{"id": n, "result": 2}]) for n in evens))
            assert [reply["id"] for reply in replies] == list(evens)
            assert feed.statistics().streams == 0

    @pytest.mark.parametrize("timeout", [-1, 0, math.nan, math.inf, None, "1"])
    async def test_request_with_an_invalid_timeout_sends_nothing(self, feed_server, timeout):
        """An invalid timeout is refused before the message is sent."""
        async with Feed(feed_server) as feed:
            await feed.wait_connected()
            with pytest.raises((TypeError, ValueError), match="timeout must be a positive number of seconds"):
                async with asyncio.timeout(60):
                    await feed.request("hello", [{"id": 1}], timeout=timeout)
            await asyncio.sleep(0.1)
            assert feed_server.received == []

    @pytest.mark.parametrize("timeout", [None, 3])
    async def test_request_without_a_reply_times_out(self, feed_server, timeout):
        """After ``timeout`` seconds, 10 by default, a request without a reply raises TimeoutError."""
        async with Feed(feed_server) as feed:
            await feed.wait_connected()
            started = now()
            with pytest.raises(TimeoutError, match=r"passes Filter\(\[{'id': 1, 'token': '\*\*\*'}\]\) came within"):
                await feed.request(
                    "hello", [{"id": 1, "token": "hunter2"}], **({} if timeout is None else {"timeout": timeout})
                )
            assert now() - started == pytest.approx(timeout or 10)
            assert feed.statistics().streams == 0
            assert feed_server.received == ["hello"]

    async def test_request_without_a_connection_says_that_nothing_was_sent(self, feed_server):
        """The error of a request without a reply says whether the message was sent."""
        feed_server.mute(times=None)
        async with Feed(feed_server) as feed:
            with pytest.raises(TimeoutError, match="no live connection for 3 s: nothing was sent"):
                await feed.request("hello", [{"id": 1}], timeout=3)
            assert feed.statistics().streams == 0

    async def test_request_that_gets_no_slot_says_so(self, feed_server):
        """The error of a request says if the send limit left no slot."""
        async with Feed(feed_server, send_limit=(1, 60)) as feed:
            await feed.send("first")
            with pytest.raises(TimeoutError, match="the send limit left no slot for 3 s: nothing was sent"):
                await feed.request("hello", [{"id": 1}], timeout=3)
            assert feed_server.received == ["first"]

    async def test_request_whose_filter_raises_is_reported_once(self, feed_server):
        """The filter is called once for each message; a message for which it raises does not pass."""
        feed_server.script = self.answer
        async with Feed(feed_server) as feed:
            reply = await feed.request({"id": 7}, lambda message: 1 / (message["id"] - 6))
            assert reply == {"id": 7, "result": "first"}
            assert feed.statistics().failures == 1

    @pytest.mark.parametrize("end", ["reset", "close"])
    async def test_request_raises_at_once_when_its_connection_is_lost(self, feed_server, end):
        """If the connection is lost after the message was sent, the request raises SendFailed and does not wait."""
        loop = asyncio.get_running_loop()
        async with Feed(feed_server) as feed:
            requesting = asyncio.create_task(feed.request("hello", [{"id": 1}], timeout=60))
            await feed_server.expect("hello")
            began = loop.time()
            await asyncio.sleep(1)
            if end == "reset":
                feed_server.connections[0].reset()
            else:
                await feed_server.connections[0].close(1001)
            with pytest.raises(SendFailed, match="sent, then the connection was lost"):
                await requesting
            assert loop.time() - began < 2
            assert feed.statistics().streams == 0

    async def test_reply_counts_when_the_connection_is_lost_after_it(self, feed_server):
        """A reply that arrives directly before the end of its connection is returned."""

        async def answer_and_close(connection):
            async for _ in connection:
                await connection.send({"id": 1})
                await connection.close(1011)

        feed_server.script = answer_and_close
        async with Feed(feed_server) as feed:
            assert await feed.request("hello", [{"id": 1}], timeout=60) == {"id": 1}

    async def test_request_raises_when_a_rotation_closes_its_connection(self, feed_server):
        """If a rotation closes the connection of a waiting request, the request raises, because no reply can arrive."""
        loop = asyncio.get_running_loop()
        async with Feed(feed_server, handover_timeout=1) as feed:
            requesting = asyncio.create_task(feed.request("hello", [{"id": 1}], timeout=60))
            await feed_server.expect("hello")
            assert await feed.rotate()
            with pytest.raises(SendFailed, match="sent, then the connection was lost"):
                await requesting
            assert loop.time() < 10

    async def test_request_ends_with_the_feed(self, feed_server):
        """A request raises FeedClosed if the feed is closed meanwhile."""
        async with Feed(feed_server, name="mine") as feed:
            requesting = asyncio.create_task(feed.request("hello", [{"id": 1}]))
            await feed_server.expect("hello")
        with pytest.raises(FeedClosed, match="mine was closed before the reply came"):
            await requesting

    async def test_request_raises_the_fatal_error(self, feed_server):
        """A request raises the fatal error if the feed fails meanwhile."""
        async with contextlib.AsyncExitStack() as stack:
            feed = await stack.enter_async_context(Feed(feed_server, should_retry=lambda error: False))
            requesting = asyncio.create_task(feed.request("hello", [{"id": 1}]))
            await feed_server.expect("hello")
            await feed_server.close()
            with pytest.raises(ConnectFailed):
                await requesting
            assert feed.statistics().streams == 0
            stack.pop_all()
            await feed.exit()

    async def test_request_that_cannot_be_sent_frees_its_stream(self):
        """If sending raises, or the request is cancelled, no receiver is left."""
        async with ScriptedFeed(never, send_timeout=2) as feed:
            with pytest.raises(SendTimeout):
                await feed.request("hello", None)
            with pytest.raises(ValueError, match="JSON"):
                await feed.request(float("nan"), None)
            requesting = asyncio.create_task(feed.request("hello", None))
            await asyncio.sleep(1)
            requesting.cancel()
            await asyncio.wait([requesting])
            assert requesting.cancelled()
            assert feed.statistics().streams == 0


@virtual
class TestConnected:
    async def test_present_ws_is_the_live_connection_or_none(self, feed_server):
        """``present_ws`` is the connection that ``_create_ws`` returned, or None if no connection is live."""
        created = []

        class Watched(Feed):
            async def _create_ws(self):
                created.append(await super()._create_ws())
                return created[-1]

        async with Watched(feed_server, reconnect_delays=lambda: iter([5])) as feed:
            assert feed.present_ws is None
            await opened(feed, feed_server)
            assert feed.present_ws is created[0]
            await feed_server.close()
            await asyncio.sleep(1)
            assert feed.present_ws is None
            await opened(feed, feed_server, 2)
            assert feed.present_ws is created[1]
        assert feed.present_ws is None

    async def test_wait_connected_has_its_old_name_too(self):
        """``wait_enter_handing_ws`` and ``wait_connected`` are the same method."""
        assert Feed.wait_connected is Feed.wait_enter_handing_ws

    async def test_wait_connected_waits_for_a_live_connection(self, feed_server):
        """``wait_connected`` returns for all callers when a connection is live, and at once while it is."""
        feed_server.slow_handshake(3)
        async with Feed(feed_server) as feed:
            started = now()
            waiting = [asyncio.create_task(feed.wait_enter_handing_ws()) for _ in range(3)]
            await asyncio.sleep(1)
            waiting[0].cancel()
            await asyncio.gather(*waiting[1:])
            assert waiting[0].cancelled()
            assert now() - started == pytest.approx(3, abs=0.1)
            await feed.wait_connected()
            assert now() - started == pytest.approx(3, abs=0.1)

    async def test_wait_connected_raises_when_the_feed_ends(self):
        """``wait_connected`` raises FeedClosed if the feed is closed, and the fatal error if it has failed."""
        feed = ScriptedFeed(never)
        waiting = asyncio.create_task(feed.wait_connected())
        await asyncio.sleep(1)
        await feed.exit()
        with pytest.raises(FeedClosed):
            await waiting
        with pytest.raises(FeedClosed):
            await feed.wait_connected()
        failed = Fatal(None)
        for _ in range(2):
            with pytest.raises(ConnectFailed, match="a bug"):
                await failed.wait_connected()

    async def test_heartbeat_is_sent_on_the_base_class_too(self):
        """``heartbeat=(message, seconds)`` is an option of every feed."""
        websocket = ScriptedWebsocket()
        async with ScriptedFeed(websocket, heartbeat=({"op": "ping"}, 20)) as feed:
            await feed.wait_connected()
            await asyncio.sleep(61)
            assert websocket.sent == ['{"op":"ping"}'] * 3


@virtual
class TestRotate:
    async def test_rotate_is_a_plain_call_whose_future_may_be_awaited(self, feed_server):
        """``rotate()`` works without being awaited; awaiting returns whether the first attempt succeeded."""
        async with Feed(feed_server, handover_timeout=1) as feed:
            await opened(feed, feed_server)
            feed.rotate()
            await feed_server.connected(2)
            await asyncio.sleep(3)
            assert feed.statistics().rotations == 1
            assert await feed.rotate() is True
            assert feed.statistics().rotations == 2

    async def test_rotate_again_after_a_rotation(self, feed_server):
        """One rotation may follow another at once, any number of times."""
        async with Feed(feed_server, handover_timeout=0) as feed:
            await opened(feed, feed_server)
            async with asyncio.timeout(60):
                assert [await feed.rotate() for _ in range(5)] == [True] * 5
            assert feed.statistics().rotations == 5

    async def test_rotate_while_rotating_is_the_same_rotation(self, feed_server):
        """``rotate()`` during a rotation starts no other rotation; all callers wait for the running one."""
        async with Feed(feed_server, handover_timeout=1) as feed:
            await opened(feed, feed_server)
            assert await asyncio.gather(*(feed.rotate() for _ in range(5))) == [True] * 5
            await asyncio.sleep(10)
            assert feed_server.opened == 2

    async def test_rotate_while_connecting_waits_for_that_connection(self, feed_server):
        """Without a connection ``rotate`` waits for the next one, even before its opening has begun."""
        feed_server.slow_handshake(2)
        async with Feed(feed_server) as feed:
            first = feed.rotate()
            await asyncio.sleep(1)
            assert await feed.rotate() is True
            assert await first is True
            await asyncio.sleep(10)
            assert feed_server.opened == 1

    async def test_rotate_returns_false_when_its_first_attempt_failed(self, feed_server):
        """If the first attempt to open the new connection fails, the result is False; the rotation is tried again."""
        async with Feed(feed_server, handover_timeout=1, reconnect_delays=lambda: iter([3, 3])) as feed:
            await opened(feed, feed_server)
            feed_server.refuse()
            assert await feed.rotate() is False
            assert feed.state.value is State.ROTATING
            await feed_server.connected(2)
            await asyncio.sleep(5)
            assert feed.statistics().rotations == 1

    async def test_rotate_ends_with_the_feed(self, feed_server):
        """If the feed is closed during a rotation, the result is False; later ``rotate()`` raises FeedClosed."""
        async with Feed(feed_server) as feed:
            await opened(feed, feed_server)
            rotating = feed.rotate()
        assert await rotating is False
        with pytest.raises(FeedClosed):
            feed.rotate()

    async def test_rotate_raises_the_fatal_error(self):
        """After a fatal error ``rotate()`` raises this error."""
        feed = Fatal(None)
        with pytest.raises(ConnectFailed):
            await feed.wait_closed()
        with pytest.raises(ConnectFailed):
            feed.rotate()


# The end


async def slow(message=None):
    """Wait for an hour, as a slow hook or handler."""
    await asyncio.sleep(3600)


class Scenes:
    """Feeds in all possible states; each method yields a feed on which ``exit()`` is then called."""

    @staticmethod
    async def just_made(server):
        return Feed(server)

    @staticmethod
    async def opening(server):
        server.mute()
        feed = Feed(server)
        await server.attempted()
        return feed

    @staticmethod
    async def waiting(server):
        server.refuse(times=None)
        feed = Feed(server, reconnect_delays=lambda: iter([60]))
        await asyncio.sleep(1)
        assert feed.state.value is State.WAITING
        return feed

    @staticmethod
    async def connected(server):
        feed = Feed(server)
        await opened(feed, server)
        return feed

    @staticmethod
    async def opening_for_a_rotation(server):
        feed = await Scenes.connected(server)
        server.mute()
        feed.rotate()
        await asyncio.sleep(0.1)
        assert feed.state.value is State.ROTATING
        return feed

    @staticmethod
    async def overlapping(server):
        feed = await Scenes.connected(server)
        feed.rotate()
        await server.connected(2)
        await server.send({"n": 1})
        await asyncio.sleep(0.1)
        assert feed.state.value is State.ROTATING
        return feed

    @staticmethod
    async def after_an_overlap(server):
        feed = Feed(server, handover_settle=3, handover_timeout=1)
        await opened(feed, server)
        rotating = feed.rotate()
        await server.connected(2)
        await asyncio.sleep(0.9)
        await server.send({"n": 1}, to=server.connections[:1])
        await rotating
        return feed

    @staticmethod
    async def waiting_to_rotate_again(server):
        feed = await Scenes.connected(server)
        server.refuse(times=None)
        feed.rotate()
        await asyncio.sleep(5)
        return feed

    @staticmethod
    async def rotated_too_soon(server):
        class Hasty(Feed):
            async def _when2create_new_ws(self):
                """Return at once."""

        feed = Hasty(server)
        await opened(feed, server)
        return feed

    @staticmethod
    async def breaking_before_making(server):
        feed = Feed(server, handover_timeout=0)
        await opened(feed, server)
        server.mute()
        feed.rotate()
        await asyncio.sleep(0.1)
        assert feed.state.value is State.CONNECTING
        return feed

    @staticmethod
    async def failed(server):
        server.refuse(404)
        feed = Feed(server)
        with pytest.raises(ConnectFailed):
            await feed.wait_connected()
        return feed

    @staticmethod
    async def closed(server):
        feed = await Scenes.connected(server)
        await feed.exit()
        return feed


SCENES = [name for name in vars(Scenes) if not name.startswith("_")]


@virtual
class TestExit:
    @pytest.mark.parametrize("scene", SCENES)
    async def test_exit_ends_the_feed_in_every_state(self, feed_server, scene):
        """In any state ``exit()`` is quick, ends all streams, closes with 1000, and leaves no tasks."""
        feed = await getattr(Scenes, scene)(feed_server)
        consuming = [asyncio.create_task(self.consume(feed)) for _ in range(2)]
        before = asyncio.all_tasks()
        started = now()
        await feed.exit()
        assert now() - started < 0.5
        if scene != "failed":
            assert feed.state.value is State.CLOSED
        await asyncio.wait(consuming, timeout=1)
        assert [task.exception() is not None for task in consuming] == [scene == "failed"] * 2
        await asyncio.sleep(1)
        assert feed_server.connections == []
        assert {task.get_name() for task in asyncio.all_tasks() - before} == set()
        assert not [task for task in asyncio.all_tasks() if "rxws" in task.get_name()]

    @staticmethod
    async def consume(feed):
        """Consume a stream to its end."""
        async for _ in feed.stream_filter():
            pass

    @pytest.mark.parametrize("scene", SCENES)
    async def test_feed_is_collected_after_exit(self, feed_server, scene):
        """After ``exit()`` the feed, its connections and its streams can be garbage collected."""
        feed = await getattr(Scenes, scene)(feed_server)
        feed.add_handler(lambda message: None)
        feed.state.subscribe(lambda state: None, lambda error: None)
        references = [weakref.ref(feed), weakref.ref(feed.stream_filter())]
        if feed.present_ws is not None:
            references.append(weakref.ref(feed.present_ws))
        await feed.exit()
        await asyncio.sleep(10)
        del feed
        gc.collect()
        assert [reference() for reference in references] == [None] * len(references)

    async def test_server_sees_a_normal_close(self, feed_server):
        """``exit()`` closes the connection with 1000, and the feed reports that."""
        async with Feed(feed_server) as feed:
            events = record(feed.events)
            connection = await opened(feed, feed_server)
        await connection.wait_closed()
        assert connection.websocket.close_code == 1000
        (event,) = of_kind(Disconnected, events)
        assert (event.reason, event.number, event.delay) == ("user", 1, None)

    async def test_exit_twice_and_at_once_is_one_exit(self, feed_server):
        """All concurrent calls return when the feed is closed; later calls change nothing."""
        async with Feed(feed_server) as feed:
            states = record(feed.state)
            await opened(feed, feed_server)
            await asyncio.gather(*(feed.exit() for _ in range(5)))
            await feed.exit()
            assert states.count(State.CLOSED) == 1
        await feed.exit()
        assert states[-1] is State.CLOSED

    async def test_exit_that_is_cancelled_continues(self, feed_server):
        """Cancelling ``exit()`` cancels the wait, not the closing."""
        feed = await Scenes.connected(feed_server)
        exiting = asyncio.create_task(feed.exit())
        await asyncio.sleep(0)
        exiting.cancel()
        await asyncio.wait([exiting])
        assert exiting.cancelled()
        async with asyncio.timeout(1):
            await feed.wait_closed()
        assert feed.state.value is State.CLOSED

    async def test_exit_from_a_function_handler(self, feed_server):
        """A function handler may start ``exit()``."""
        tasks = []
        async with Feed(feed_server) as feed:
            feed.add_handler(lambda message: tasks.append(asyncio.create_task(feed.exit())))
            await opened(feed, feed_server)
            await feed_server.send("1")
            async with asyncio.timeout(0.5):
                await feed.wait_closed()
        await asyncio.gather(*tasks)

    async def test_exit_from_a_coroutine_handler_does_not_wait_for_it(self, feed_server):
        """A coroutine handler may await ``exit()``. It continues afterwards, and its waiting messages are dropped."""
        calls = []

        async def stop(message):
            calls.append(message)
            await feed.exit()
            calls.append("closed")

        async with Feed(feed_server) as feed:
            feed.add_handler(stop)
            await opened(feed, feed_server)
            await feed_server.send("1", "2", "3")
            started = now()
            await feed.wait_closed()
            await asyncio.sleep(0)
            assert now() - started < 0.5
            await asyncio.sleep(1)
            assert calls == [1, "closed"]
            assert feed.statistics().failures == 0

    async def test_exit_from_two_coroutine_handlers(self, feed_server):
        """Two handlers may await ``exit()``, which waits for neither of them."""
        calls = []

        async def stop(message):
            await feed.exit()
            calls.append(message)

        async def stop_too(message):
            await feed.exit()
            calls.append(message)

        async with Feed(feed_server) as feed:
            feed.add_handler(stop)
            feed.add_handler(stop_too)
            await opened(feed, feed_server)
            await feed_server.send("1")
            started = now()
            await feed.wait_closed()
            assert now() - started < 0.5
            await asyncio.sleep(1)
            assert calls == [1, 1]

    @pytest.mark.parametrize("hook", ["_create_ws", "_when2create_new_ws", "_parse_raw_data"])
    async def test_exit_from_a_hook(self, feed_server, hook):
        """A hook may await ``exit()``, and the feed ends in bounded time."""

        async def stop(self, *arguments):
            await self.exit()

        feed_server.script = greet
        feed = type("Stopping", (Feed,), {hook: stop})(feed_server)
        events = record(feed.events)
        async with asyncio.timeout(12):
            await feed.wait_closed()
        assert feed.state.value is State.CLOSED
        assert of_kind(CallbackFailed, events) == []
        await asyncio.sleep(10)

    async def test_exit_from_a_consumer(self, feed_server):
        """A consumer may await ``exit()`` inside its loop, which ends after the messages that the stream holds."""
        seen = []
        async with Feed(feed_server) as feed:
            await opened(feed, feed_server)
            await feed_server.send("1", "2")
            stream = feed.stream_filter()
            await asyncio.sleep(0.1)
            async for message in stream:
                seen.append(message)
                await feed.exit()
        assert seen == [1, 2]

    async def test_streams_deliver_their_messages_then_end(self, feed_server):
        """After ``exit()`` each stream and each handler gets its waiting messages, and then ends."""
        handled, completed, seen = [], [], []

        async def handle(message):
            await asyncio.sleep(0.5)
            handled.append(message)

        async with Feed(feed_server) as feed:
            one, other = feed.stream_filter(), feed.stream_filter()
            feed.stream_filter().subscribe(seen.append, on_completed=lambda: completed.append("stream"))
            feed.messages.subscribe(on_completed=lambda: completed.append("messages"))
            feed.frames.subscribe(on_completed=lambda: completed.append("frames"))
            feed.events.subscribe(on_completed=lambda: completed.append("events"))
            feed.state.subscribe(on_completed=lambda: completed.append("state"))
            feed.add_handler(handle)
            await opened(feed, feed_server)
            await feed_server.send("1", "2", "3")
            await take(one, 1)
        assert [message async for message in one] == [2, 3]
        assert [batch async for batch in other.batches()] == [[1, 2, 3]]
        assert [message async for message in other] == []
        assert handled == seen == [1, 2, 3]
        assert sorted(completed) == ["events", "frames", "messages", "state", "stream"]

    async def test_stream_made_after_exit_ends_at_once(self, feed_server):
        """A stream that is made after ``exit()`` ends at once; a new handler or subscription gets no messages."""
        completed = []

        async def handle(message):
            completed.append("never")

        async with Feed(feed_server) as feed:
            await opened(feed, feed_server)
        assert [message async for message in feed.stream_filter()] == []
        assert [message async for message in feed.messages] == []
        feed.stream_filter().subscribe(on_completed=lambda: completed.append("stream"))
        feed.add_handler(handle).dispose()
        feed.add_handler(handle)
        await asyncio.sleep(0.1)
        assert completed == ["stream"]
        assert feed.statistics().streams == 0

    async def test_stubborn_handler_is_cancelled_after_close_timeout(self, feed_server):
        """A handler that does not finish within ``close_timeout`` seconds is cancelled."""
        cancelled = []

        async def handle(message):
            try:
                await slow()
            finally:
                cancelled.append((message, now()))

        async with Feed(feed_server, close_timeout=3) as feed:
            feed.add_handler(handle)
            await opened(feed, feed_server)
            await feed_server.send("1", "2")
            await asyncio.sleep(0.1)
            started = now()
        assert cancelled == [(1, pytest.approx(started + 3, abs=0.1))]
        assert now() - started == pytest.approx(3, abs=0.1)
        assert feed.statistics().failures == 0

    async def test_handler_that_suppresses_its_cancellation_does_not_keep_the_feed(self, feed_server, caplog):
        """A handler that ignores its cancellation is abandoned after another second, with a warning."""
        released = asyncio.Event()

        async def handle(message):
            while not released.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await released.wait()

        async with Feed(feed_server, close_timeout=3) as feed:
            feed.add_handler(handle)
            await opened(feed, feed_server)
            await feed_server.send("1")
            await asyncio.sleep(0.1)
            started = now()
        assert 4 <= now() - started <= 4.2
        assert feed.state.value is State.CLOSED
        assert "a hook or a handler ignores its cancellation" in caplog.text
        released.set()

    async def test_hook_that_suppresses_its_cancellation_does_not_keep_the_feed(self, feed_server, caplog):
        """A rotation hook that ignores its cancellation is abandoned after another second, with a warning."""
        released = asyncio.Event()

        class Stubborn(Feed):
            async def _when2create_new_ws(self):
                while not released.is_set():
                    with contextlib.suppress(asyncio.CancelledError):
                        await released.wait()

        async with Stubborn(feed_server, close_timeout=3) as feed:
            await opened(feed, feed_server)
            await asyncio.sleep(0.1)
            started = now()
        assert now() - started <= 4.2
        assert feed.state.value is State.CLOSED
        released.set()

    async def test_exit_is_bounded_when_the_peer_does_not_answer(self, feed_server):
        """A connection whose peer does not answer is aborted after ``close_timeout`` seconds."""
        async with Feed(feed_server, close_timeout=2) as feed:
            connection = await opened(feed, feed_server)
            connection.stall()
            started = now()
        assert now() - started == pytest.approx(2, abs=0.3)
        assert feed.state.value is State.CLOSED
        connection.reset()

    async def test_wait_closed_returns_after_exit(self, feed_server):
        """``wait_closed()`` returns after ``exit()``, and at once later; cancelling it does not affect the feed."""
        async with Feed(feed_server) as feed:
            await opened(feed, feed_server)
            cancelled, waiting = (asyncio.create_task(feed.wait_closed()) for _ in range(2))
            await asyncio.sleep(1)
            cancelled.cancel()
            await asyncio.sleep(1)
            assert not waiting.done()
        assert await waiting is None
        assert await feed.wait_closed() is None

    async def test_entering_does_not_wait(self, feed_server):
        """A stream that is made first in the block gets the first message."""
        feed_server.script = greet
        async with Feed(feed_server) as feed:
            assert feed.state.value is State.CONNECTING
            stream = feed.stream_filter()
            assert await take(stream, 1) == [{"connection": 1, "n": 1}]

    async def test_leaving_by_an_exception_closes_too(self, feed_server):
        """An exception of the body closes the feed and is raised."""
        with pytest.raises(KeyError):
            async with Feed(feed_server) as feed:
                await opened(feed, feed_server)
                raise KeyError
        assert feed.state.value is State.CLOSED

    async def test_feed_is_abandoned_when_all_its_tasks_are_cancelled(self, feed_server):
        """If other code cancels the feed's tasks, the feed fails at once, and nothing hangs or leaks."""
        feed = await Scenes.connected(feed_server)
        stream = feed.stream_filter()
        feed.add_handler(slow)
        for task in asyncio.all_tasks():
            if task.get_name().startswith("rxws"):
                task.cancel()
        await asyncio.sleep(0.1)
        why = "other code cancelled a task of the feed"
        with pytest.raises(ConnectFailed, match=why) as failed:
            [message async for message in stream]
        assert isinstance(failed.value.__cause__, asyncio.CancelledError)
        assert feed.state.value is State.FAILED
        for use in (feed.wait_closed(), feed.send("late"), feed.wait_connected()):
            with pytest.raises(ConnectFailed, match=why):
                await use
        with pytest.raises(ConnectFailed, match=why):
            async with feed:
                pass
        await feed.exit()

    async def test_feed_fails_when_a_handler_raises_generator_exit(self, feed_server, caplog):
        """A plain function that raises GeneratorExit ends the feed, as a failure with that cause."""

        def leave(_message):
            raise GeneratorExit

        feed = await Scenes.connected(feed_server)
        stream = feed.stream_filter()
        feed.add_handler(leave)
        await feed_server.send("1")
        with pytest.raises(ConnectFailed, match="a handler raised GeneratorExit") as failed:
            await feed.wait_closed()
        assert isinstance(failed.value.__cause__, GeneratorExit)
        assert feed.state.value is State.FAILED
        assert "failed: a handler raised GeneratorExit" in caplog.text
        with pytest.raises(ConnectFailed):
            await stream.collect(2)

    @pytest.mark.parametrize(
        "follow",
        [
            lambda feed, leave: feed.add_handler(leave),
            lambda feed, leave: feed.messages.subscribe(leave),
            lambda feed, leave: feed.messages.map(str).subscribe(leave),
            lambda feed, leave: feed.messages.delay(0.1).subscribe(leave),
            lambda feed, leave: feed.stream_filter().subscribe(leave),
            lambda feed, leave: feed.stream_filter(lambda message: leave(message)),
            lambda feed, leave: feed.frames.subscribe(leave),
            lambda feed, leave: feed.events.subscribe(leave),
            lambda feed, leave: feed.state.subscribe(leave),
        ],
        ids=["handler", "messages", "operator", "timed operator", "stream", "filter", "frames", "events", "state"],
    )
    async def test_feed_fails_wherever_generator_exit_is_raised(self, feed_server, follow):
        """The feed fails at once wherever a function raises GeneratorExit, and no other code gets the exception."""

        def leave(_item):
            raise GeneratorExit

        feed, unhandled = await Scenes.connected(feed_server), []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
        following = follow(feed, leave)
        await feed_server.send("1")
        await asyncio.sleep(1)
        feed_server.reset()
        with pytest.raises(ConnectFailed, match="a handler raised GeneratorExit") as failed:
            async with asyncio.timeout(1):
                await feed.wait_closed()
        assert isinstance(failed.value.__cause__, GeneratorExit)
        assert feed.state.value is State.FAILED
        assert len(feed_server.connections) == 0
        del following, failed
        gc.collect()
        await asyncio.sleep(1)
        assert unhandled == []

    async def test_coroutine_handler_that_raises_generator_exit_is_reported(self, feed_server):
        """A coroutine handler that raises GeneratorExit is reported and not called again, and the feed continues."""

        async def leave(_message):
            raise GeneratorExit

        feed = await Scenes.connected(feed_server)
        failures = []
        feed.events.subscribe(lambda event: failures.append(event) if isinstance(event, CallbackFailed) else None)
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        feed.add_handler(leave)
        await feed_server.send("1", "2")
        await asyncio.sleep(0.1)
        (failure,) = failures
        assert isinstance(failure.error, GeneratorExit)
        assert feed.state.value is State.CONNECTED
        await feed.exit()

    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
    async def test_feed_that_ends_with_the_program_has_not_failed(self, feed_server, error):
        """If the program exits, the feed ends without a failure."""
        feed = await Scenes.connected(feed_server)
        feed._AsyncWebsocketStreamInterface__feed.failed(error())
        await feed.wait_closed()
        assert feed.state.value is State.CLOSED

    async def test_running_handler_is_cancelled_when_the_feed_is_abandoned(self, feed_server):
        """If other code cancels the feed's tasks, running handlers are cancelled too."""
        cancelled = []

        async def handle(message):
            try:
                await slow()
            finally:
                cancelled.append(message)

        feed = await Scenes.connected(feed_server)
        feed.add_handler(handle)
        await feed_server.send("1", "2")
        await asyncio.sleep(0.1)
        (reader,) = [task for task in asyncio.all_tasks() if task.get_name() == "rxws reader 1"]
        reader.cancel()
        with pytest.raises(ConnectFailed):
            await feed.wait_closed()
        await asyncio.sleep(0)
        assert cancelled == [1]
        assert feed.statistics().failures == 0

    @pytest.mark.parametrize("turns", [0, 1, 2, 3])
    async def test_closing_that_is_cancelled_still_ends_the_feed(self, feed_server, turns):
        """The feed ends even if its shutdown is cancelled, at any moment."""
        feed = await Scenes.connected(feed_server)
        exiting = asyncio.create_task(feed.exit())
        await asyncio.sleep(0)
        for _ in range(turns):
            await asyncio.sleep(0)
        for task in asyncio.all_tasks():
            if task.get_name().startswith("rxws"):
                task.cancel()
        async with asyncio.timeout(1):
            await exiting
        assert feed.state.value is State.CLOSED


# Failure


@virtual
class TestFailure:
    @staticmethod
    async def fail(server, **options):
        """Return a feed that has connected, delivered two messages, and then failed."""
        feed = Feed(server, **options)
        streams = [feed.stream_filter() for _ in range(2)]
        connection = await opened(feed, server)
        await connection.send("1", "2")
        server.refuse(401, times=3)
        await connection.close()
        with pytest.raises(ConnectFailed):
            await feed.wait_closed()
        return feed, streams

    async def test_streams_deliver_their_messages_then_raise(self, feed_server):
        """After a fatal error each stream delivers its messages, then raises the error; new streams raise at once."""
        feed, (one, other) = await self.fail(feed_server)
        assert await take(one, 2) == [1, 2]
        for _ in range(2):
            with pytest.raises(ConnectFailed) as caught:
                await anext(one)
            assert caught.value.status == 401
        errors = []
        seen = []
        other.subscribe(seen.append, errors.append)
        feed.messages.subscribe(on_error=errors.append)
        feed.frames.subscribe(on_error=errors.append)
        assert seen == [1, 2]
        assert [type(error) for error in errors] == [ConnectFailed] * 3
        with pytest.raises(ConnectFailed):
            await anext(feed.stream_filter())

    async def test_everything_raises_the_fatal_error(self, feed_server):
        """After a fatal error all methods that need a connection raise it, and ``exit`` does not."""
        feed, _ = await self.fail(feed_server)
        for call in (feed.wait_connected, feed.wait_closed, feed.wait_enter_handing_ws):
            with pytest.raises(ConnectFailed) as caught:
                await call()
        assert caught.value.status == 401
        assert isinstance(caught.value.__cause__, websockets.InvalidStatus)
        with pytest.raises(ConnectFailed):
            await feed.send("hello")
        with pytest.raises(ConnectFailed):
            await feed.request("hello", None)
        with pytest.raises(ConnectFailed):
            feed.rotate()
        await feed.exit()
        assert feed.state.value is State.FAILED
        assert feed.present_ws is None

    async def test_leaving_the_block_raises_the_fatal_error(self, feed_server):
        """The context manager raises the fatal error if the body raises nothing."""
        feed_server.refuse(404)
        with pytest.raises(ConnectFailed, match="404"):
            async with Feed(feed_server):
                await asyncio.sleep(1)

    async def test_exception_of_the_body_is_not_masked(self, feed_server):
        """An exception of the body is raised in place of the fatal error."""
        feed_server.refuse(404)
        with pytest.raises(KeyError, match="mine"):
            async with Feed(feed_server):
                await asyncio.sleep(1)
                raise KeyError("mine")

    async def test_fatal_error_does_not_grow(self, feed_server):
        """A fatal error that is raised repeatedly has only the traceback of the last raise."""
        feed, _ = await self.fail(feed_server)
        lengths = set()
        for _ in range(5):
            with pytest.raises(ConnectFailed) as caught:
                await feed.wait_connected()
            lengths.add(len(caught.traceback))
        assert len(lengths) == 1

    async def test_handlers_finish_their_messages(self, feed_server):
        """A coroutine handler gets all messages that arrived before a fatal error."""
        handled = []

        async def handle(message):
            await asyncio.sleep(1)
            handled.append(message)

        feed = Feed(feed_server, should_retry=lambda error: False)
        feed.add_handler(handle)
        connection = await opened(feed, feed_server)
        await connection.send("1", "2")
        await connection.close()
        with pytest.raises(ConnectFailed):
            await feed.wait_closed()
        assert handled == [1, 2]

    async def test_delays_that_end_end_the_feed(self, feed_server):
        """When ``reconnect_delays`` is exhausted, the feed fails, and the error has the number of attempts."""
        feed_server.refuse(times=None)
        feed = Feed(feed_server, reconnect_delays=lambda: [1, 2])
        with pytest.raises(ConnectFailed) as caught:
            await feed.wait_closed()
        assert (caught.value.status, caught.value.attempt) == (503, 3)

    async def test_delays_that_raise_end_the_feed_with_an_error(self, feed_server, caplog):
        """An exception of ``reconnect_delays`` ends the feed; the error has it as its cause and contains no secret."""

        def delays():
            raise ZeroDivisionError("wss://host/ws?token=secret")

        feed_server.refuse(times=None)
        feed = Feed(feed_server, reconnect_delays=delays)
        with pytest.raises(ConnectFailed, match="the rotation failed: ZeroDivisionError") as caught:
            await feed.wait_closed()
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
        assert caught.value.attempt == 1
        assert "secret" not in str(caught.value)
        assert "secret" not in caplog.text
        assert feed.state.value is State.FAILED

    async def test_should_retry_decides(self, feed_server):
        """True retries a fatal failure, False ends the feed, None leaves the decision to the default rule."""
        asked = []
        answers = {404: True, 503: None, 500: False}

        def should_retry(error):
            status = error.response.status_code
            asked.append(status)
            return answers[status]

        for status in answers:
            feed_server.refuse(status)
        feed = Feed(feed_server, should_retry=should_retry, reconnect_delays=lambda: iter([0, 0, 0]))
        with pytest.raises(ConnectFailed, match="500"):
            await feed.wait_closed()
        assert asked == [404, 503, 500]

    async def test_should_retry_that_raises_is_reported_and_the_rule_holds(self, feed_server):
        """An exception of ``should_retry`` is reported and does not end the feed; the default rule decides."""

        def should_retry(error):
            raise KeyError("status")

        feed_server.refuse(503)
        async with Feed(feed_server, should_retry=should_retry) as feed:
            events = record(feed.events)
            await opened(feed, feed_server)
            (failed,) = of_kind(CallbackFailed, events)
            assert isinstance(failed.error, KeyError)
            assert failed.handler.endswith("should_retry")

    async def test_events_and_state_end_with_the_error(self, feed_server):
        """Subscribers of the state and the events get FAILED, then the error."""
        feed_server.refuse(404)
        feed = Feed(feed_server)
        states, errors = [], []
        feed.state.subscribe(states.append, errors.append)
        feed.events.subscribe(on_error=errors.append)
        with pytest.raises(ConnectFailed):
            await feed.wait_closed()
        assert states == [State.CONNECTING, State.FAILED]
        assert [type(error) for error in errors] == [ConnectFailed] * 2
        assert feed.statistics().failures == 0

    async def test_subscriber_of_the_events_that_raises_makes_no_event(self, feed_server):
        """A raising subscriber of the events is logged and counted, but emits no event, as it would get this event."""
        async with Feed(feed_server) as feed:
            seen = []

            def broken(event):
                seen.append(event)
                raise ZeroDivisionError

            feed.events.subscribe(broken)
            await opened(feed, feed_server)
            assert seen
            assert not of_kind(CallbackFailed, seen)
            assert feed.statistics().failures == len(seen)


# Threads and loops


@virtual
class TestThreads:
    async def test_statistics_and_state_may_be_read_from_any_thread(self, feed_server):
        """``statistics()`` and ``state.value`` may be called in another thread."""
        async with Feed(feed_server) as feed:
            connection = await opened(feed, feed_server)
            await connection.send("1")
            await asyncio.sleep(0.1)
            statistics = in_thread(feed.statistics)
            assert dataclasses.asdict(statistics) == dataclasses.asdict(feed.statistics())
            assert statistics.messages == 1
            assert in_thread(lambda: feed.state.value) is State.CONNECTED
            assert in_thread(lambda: repr(feed)) == repr(feed)

    @pytest.mark.parametrize(
        "call",
        [
            lambda feed: feed.stream_filter(),
            lambda feed: feed.add_handler(print),
            lambda feed: feed.messages.subscribe(print),
            lambda feed: feed.frames.subscribe(print),
            lambda feed: feed.state.subscribe(print),
            lambda feed: feed.events.subscribe(print),
            lambda feed: aiter(feed.messages),
            lambda feed: feed.present_ws,
            lambda feed: feed.rotate(),
            lambda feed: asyncio.run(feed.send("hello")),
            lambda feed: asyncio.run(feed.request("hello", None)),
            lambda feed: asyncio.run(feed.wait_connected()),
            lambda feed: asyncio.run(feed.wait_enter_handing_ws()),
            lambda feed: asyncio.run(feed.wait_closed()),
            lambda feed: asyncio.run(feed.exit()),
        ],
    )
    async def test_everything_else_raises_in_another_thread_and_loop(self, feed_server, call):
        """Any other call from another thread or another event loop raises RuntimeError and has no effect."""
        async with Feed(feed_server, name="mine") as feed:
            await opened(feed, feed_server)
            before = feed.statistics()
            with pytest.raises(RuntimeError, match="mine belongs to the event loop in which it was made"):
                in_thread(lambda: call(feed))
            await asyncio.sleep(1)
            assert dataclasses.replace(feed.statistics(), last_message_age=None) == dataclasses.replace(
                before, last_message_age=None
            )
            assert feed.state.value is State.CONNECTED
            assert feed_server.received == []


class TestLoops:
    def test_disposable_may_be_disposed_from_any_thread(self):
        """``dispose`` may be called in another thread: it takes effect on the loop's thread."""
        seen = []

        async def main():
            async with FeedServer() as server, Feed(server) as feed:
                subscriptions = [feed.add_handler(seen.append), feed.messages.subscribe(seen.append)]
                stream = feed.stream_filter()
                connection = await opened(feed, server)
                await connection.send("1")
                await take(stream, 1)
                for subscription in subscriptions:
                    in_thread(subscription.dispose)
                await asyncio.sleep(0)
                await connection.send("2")
                await take(stream, 1)

        asyncio.run(main())
        assert seen == [1, 1]

    def test_feed_of_a_closed_loop_still_has_its_statistics(self):
        """After its loop is closed, the statistics can still be read; other calls raise RuntimeError."""

        async def main():
            async with FeedServer(greet) as server, Feed(server) as feed:
                await take(feed.stream_filter(), 2)
            return feed

        feed = asyncio.run(main())
        assert feed.statistics().messages == 2
        assert feed.state.value is State.CLOSED
        with pytest.raises(RuntimeError, match="belongs to the event loop"):
            asyncio.run(feed.send("hello"))

    def test_two_loops_have_feeds_of_their_own(self):
        """A class of feeds can be used in two event loops, one after the other."""

        async def main():
            async with FeedServer(greet) as server, Feed(server) as feed:
                return await take(feed.stream_filter(), 2)

        assert asyncio.run(main()) == asyncio.run(main())

    @pytest.mark.skipif(not hasattr(asyncio, "eager_task_factory"), reason="Python 3.12 introduced eager tasks")
    def test_eager_tasks_change_nothing(self):
        """With ``asyncio.eager_task_factory`` a feed connects, delivers, rotates and ends as usual."""

        async def main():
            asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
            handled = []

            async def handle(message):
                handled.append(message)

            async with FeedServer(greet) as server, Feed(server, handover_timeout=0.1) as feed:
                feed.add_handler(handle)
                stream = feed.stream_filter()
                first = await take(stream, 2)
                await feed.wait_connected()
                assert await feed.rotate()
                second = await take(stream, 2)
            assert handled == first + second
            return [message["connection"] for message in handled]

        assert asyncio.run(main()) == [1, 1, 2, 2]


PROGRAM = """
import asyncio, json, logging, sys
import rxws

# Warnings that are logged on purpose are not tested here.
logging.getLogger("rxws").disabled = True

class Feed(rxws.AsyncWebsocketStreamInterface):
    async def _create_ws(self):
        import websockets
        return await websockets.connect(sys.argv[1])
    async def _when2create_new_ws(self):
        await asyncio.Future()
    async def _parse_raw_data(self, raw_data):
        await asyncio.sleep(0)
        return json.loads(raw_data)

async def consume(feed):
    async for message in feed.stream_filter():
        pass

async def handle(message):
    await asyncio.sleep(3600)

async def main():
{body}

try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("interrupted", flush=True)
print("ended", flush=True)
"""


@pytest.mark.slow
class TestProcesses:
    """Programs that end in different ways, each in its own process, with warnings as errors."""

    @staticmethod
    async def run(server, body, *, interrupt=False, expected="(?!)"):
        """Run a program against a server, assert its exit code and its stderr, and return its stdout."""
        program = PROGRAM.replace("{body}", textwrap.indent(textwrap.dedent(body), "    "))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", "-X", "dev", "-c", program, server.url),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.path.dirname(os.path.dirname(rxws.__file__))},
        )
        try:
            async with asyncio.timeout(30):
                output = b""
                if interrupt:
                    output = await process.stdout.readline()
                    process.send_signal(signal.SIGINT)
                rest, errors = await process.communicate()
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        # On a busy machine, a loop in debug mode logs callbacks that take long.
        expected += "|^Executing <.* took [0-9.]+ seconds$"
        assert [line for line in errors.decode().splitlines() if not re.search(expected, line)] == []
        assert process.returncode == 0
        return (output + rest).decode().split()

    @pytest.mark.parametrize(
        "body",
        [
            pytest.param("Feed()", id="just made"),
            pytest.param("feed = Feed(); await asyncio.sleep(0)", id="starting"),
            pytest.param("feed = Feed(); await feed.wait_connected()", id="connected"),
            pytest.param("feed = Feed(); await asyncio.sleep(0.001)", id="opening"),
            pytest.param(
                """
                feed = Feed()
                feed.add_handler(handle)
                consuming = asyncio.create_task(consume(feed))
                await anext(feed.stream_filter())
                await feed.wait_connected()
                """,
                id="consuming",
            ),
            pytest.param(
                """
                feed = Feed(heartbeat=("ping", 0.01))
                await feed.wait_connected()
                feed.rotate()
                await asyncio.sleep(0.3)
                assert feed.state.value is rxws.State.ROTATING
                """,
                id="rotating",
            ),
            pytest.param(
                """
                feed = Feed()
                await feed.wait_connected()
                closing = asyncio.create_task(feed.exit())
                await asyncio.sleep(0)
                """,
                id="closing",
            ),
            pytest.param(
                """
                feed = rxws.ReactiveWebSocket("ws://127.0.0.1:9", reconnect_delays=lambda: iter([60]))
                await asyncio.sleep(0.1)
                """,
                id="waiting",
            ),
            pytest.param(
                """
                feed = rxws.ReactiveWebSocket(sys.argv[1], rotate_every=60, rotate_on=[{"e": "expired"}])
                await feed.wait_connected()
                """,
                id="ready-made",
            ),
        ],
    )
    async def test_program_that_ends_without_exit_ends_quietly(self, body):
        """If ``asyncio.run`` ends without ``exit()``, nothing hangs and no warning is printed."""
        async with FeedServer(greet) as server:
            assert await self.run(server, body) == ["ended"]

    async def test_program_on_picows_that_ends_without_exit_ends(self):
        """On picows the program ends. Only picows itself warns, because rxws cannot close its socket."""
        body = """
        from picows import websockets
        feed = rxws.ReactiveWebSocket(sys.argv[1], connect=websockets.connect)
        await feed.wait_connected()
        """
        async with FeedServer(greet) as server:
            assert await self.run(server, body, expected="ResourceWarning|Exception ignored") == ["ended"]

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
    @pytest.mark.parametrize("where", ["feed.wait_closed()", "asyncio.sleep(60)", "anext(feed.stream_filter([{}, ]))"])
    async def test_interrupt_closes_the_feed(self, where):
        """Ctrl-C in the block closes the feed; only KeyboardInterrupt itself is printed."""
        body = f"""
        async with Feed() as feed:
            feed.add_handler(handle)
            feed.state.subscribe(lambda state: print(state.value, flush=True) if state.is_final else None)
            await feed.wait_connected()
            print("ready", flush=True)
            stream = feed.stream_filter(lambda message: False)
            await {where.replace("feed.stream_filter([{}, ])", "stream")}
        """
        async with FeedServer() as server:
            assert await self.run(server, body, interrupt=True) == ["ready", "closed", "interrupted", "ended"]

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
    async def test_interrupt_without_a_block_ends_quietly(self):
        """Ctrl-C in a program that never calls ``exit()`` ends it without further output."""
        body = """
        feed = Feed()
        feed.add_handler(handle)
        await anext(feed.stream_filter())
        print("ready", flush=True)
        await consume(feed)
        """
        async with FeedServer(greet) as server:
            assert await self.run(server, body, interrupt=True) == ["ready", "interrupted", "ended"]
