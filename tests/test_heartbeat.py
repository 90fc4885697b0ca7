"""Heartbeats whose answers are awaited, and whose interval a function returns."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

import rxws
from rxws.testing import FeedConnection, FeedServer
from tests.support.feeds import Feed, of_kind, record

pytestmark = pytest.mark.usefixtures("virtual_time", "assert_no_leaks")


def stand_still(seconds: float) -> None:
    """Block the loop, as a synchronous function or a stopped process does."""
    asyncio.get_running_loop()._selector.clock.advance(seconds)  # type: ignore[attr-defined]


async def coroutine_function() -> float:
    """A function that returns no seconds but a coroutine."""
    return 1.0


def answers(connection: FeedConnection, answer: Any, delay: float = 0.0) -> asyncio.Task[None]:
    """Answer each message of a client, after a delay."""

    async def run() -> None:
        async for _ in connection:
            await asyncio.sleep(delay)
            await connection.send(answer)

    return asyncio.ensure_future(run())


class CoroutineFeed(Feed):
    """A feed whose parse hook is a coroutine function, and returns several messages for a list."""

    async def _parse_raw_data(self, raw_data: str | bytes) -> Any:  # type: ignore[override]
        await asyncio.sleep(0)
        message = json.loads(raw_data)
        return rxws.Many(message) if isinstance(message, list) else message


@pytest.mark.parametrize("kind", [Feed, CoroutineFeed])
@pytest.mark.parametrize(
    ("answer", "frame"),
    [
        ("pong", "pong"),
        (b"\xff", b"\xff"),
        ([{"op": "pong"}], {"op": "pong", "ts": 1}),
        (lambda message: message["op"] == "pong", {"op": "pong"}),
    ],
)
async def test_answer_is_no_message(kind: type[Feed], answer: Any, frame: Any) -> None:
    """An answer reaches no stream and rejects nothing; ``frames`` shows it, and it does not end a silence."""
    async with FeedServer() as server, kind(server, heartbeat=rxws.Heartbeat("ping", 5, answer=answer)) as feed:
        everything, frames, events = record(feed.messages), record(feed.frames), record(feed.events)
        connection = await server.connected()
        answering = answers(connection, frame)
        await connection.send({"op": "trade"})
        await asyncio.sleep(302)
        assert everything == [{"op": "trade"}]
        assert len(frames) == 61
        assert connection.received == ["ping"] * 60
        assert [each.seconds for each in of_kind(rxws.Quiet, events)] == [60, 120, 240]
        assert (feed.statistics().rejected, feed.statistics().failures, server.opened) == (0, 0, 1)
        answering.cancel()


async def test_connection_is_replaced_when_a_heartbeat_is_not_answered() -> None:
    """Without an answer within an interval, the connection is replaced, with the reason ``"idle"``."""
    heartbeat = rxws.Heartbeat("ping", 5, answer="pong")
    async with FeedServer() as server, Feed(server, heartbeat=heartbeat) as feed:
        events = record(feed.events)
        connection = await server.connected()
        answering = answers(connection, "pong", 4.9)
        await asyncio.sleep(21)
        answering.cancel()
        began = asyncio.get_running_loop().time()
        await server.connected(2, timeout=20)
        assert 4 <= asyncio.get_running_loop().time() - began < 10.1
        await asyncio.sleep(1)
        [lost] = of_kind(rxws.Disconnected, events)
        assert lost.reason == "idle"
        assert "the heartbeat was not answered for 5 s" in str(lost)
        assert [each.reason for each in of_kind(rxws.Gap, events)] == ["idle"]


async def test_messages_do_not_answer_a_heartbeat() -> None:
    """A connection that only delivers messages is replaced as well."""
    async with FeedServer() as server, Feed(server, heartbeat=rxws.Heartbeat("ping", 1, answer="pong")) as feed:
        await server.connected()
        for _ in range(30):
            await server.send({"n": 1})
            await asyncio.sleep(0.1)
        assert server.opened == 2
        assert feed.statistics().reconnects == {"idle": 1}


async def test_answers_that_wait_in_the_socket_count_when_the_loop_was_blocked() -> None:
    """A blocked event loop is no silence of the server."""
    heartbeat = rxws.Heartbeat("ping", 2, answer="pong")
    async with FeedServer() as server, Feed(server, heartbeat=heartbeat):
        connection = await server.connected()
        answering = answers(connection, "pong", 0.5)
        for _ in range(20):
            await asyncio.sleep(1.1)
            stand_still(10)
        assert server.opened == 1
        answering.cancel()


async def test_interval_is_asked_after_each_beat() -> None:
    """An interval that the server names is used from the next beat on."""
    named = [1.0, 3.0, 10.0, 100.0]
    heartbeat = rxws.Heartbeat("ping", lambda: named.pop(0))
    async with FeedServer() as server, Feed(server, heartbeat=heartbeat):
        connection = await server.connected()
        found = []
        for _ in range(14):
            await asyncio.sleep(1)
            found.append(len(connection.received))
        assert found == [0, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2]


@pytest.mark.parametrize("wrong", ["5", None, 0, float("nan"), -1, ValueError("no")])
async def test_interval_that_cannot_be_used_is_reported(wrong: Any) -> None:
    """A function that raises or returns no seconds is reported by name, and the interval stays as it was."""
    named = [wrong, 2.0, wrong, wrong, 500.0]

    def interval() -> float:
        value = named.pop(0)
        if isinstance(value, Exception):
            raise value
        return value  # type: ignore[no-any-return]

    async with FeedServer() as server, Feed(server, heartbeat=rxws.Heartbeat("ping", interval)) as feed:
        failed = record(feed.events)
        connection = await server.connected()
        await asyncio.sleep(9.5)
        assert connection.received == []
        await asyncio.sleep(1)
        assert connection.received == ["ping"]
        await asyncio.sleep(6)
        assert connection.received == ["ping"] * 4
        assert [each.handler for each in of_kind(rxws.CallbackFailed, failed)] == ["the heartbeat's interval"] * 3


async def test_each_line_has_its_own_answers() -> None:
    """A line whose server does not answer is replaced, and the other line continues."""
    heartbeat = rxws.Heartbeat("ping", 5, answer="pong")
    async with FeedServer() as server, Feed(server, heartbeat=heartbeat, lines=2):
        await server.connected(2)
        answered = server.connections[0]
        answering = answers(answered, "pong")
        await asyncio.sleep(10.5)
        assert server.opened >= 3
        assert answered in server.connections
        answering.cancel()


async def test_answers_do_not_delay_a_rotation() -> None:
    """In a rotation, answers are neither held nor compared, and each connection counts its own."""
    heartbeat = rxws.Heartbeat("ping", 1, answer="pong")
    async with FeedServer() as server, Feed(server, heartbeat=heartbeat, handover_settle=3) as feed:
        messages, events = record(feed.messages), record(feed.events)
        answering = [answers(await server.connected(), "pong")]

        async def publish() -> None:
            for n in range(200):
                await server.send({"n": n})
                await asyncio.sleep(0.1)

        publishing = asyncio.ensure_future(publish())
        await asyncio.sleep(2)
        rotating = asyncio.ensure_future(feed.rotate())
        answering.append(answers(await server.connected(2), "pong"))
        assert await rotating
        await publishing
        assert messages == [{"n": n} for n in range(200)]
        assert [each.proven for each in of_kind(rxws.Rotated, events)] == [True]
        for each in answering:
            each.cancel()


async def test_answers_are_not_in_a_recording(tmp_path: Any) -> None:
    """A replay of the feed rejects nothing."""
    heartbeat = rxws.Heartbeat("ping", 1, answer="pong")
    async with FeedServer() as server, Feed(server, heartbeat=heartbeat) as feed:
        with rxws.record(feed, tmp_path / "a.jsonl"):
            connection = await server.connected()
            answering = answers(connection, "pong")
            await asyncio.sleep(5)
            await connection.send({"n": 1})
            await asyncio.sleep(5)
        answering.cancel()
    async with rxws.replay(tmp_path / "a.jsonl") as played:
        assert [each async for each in played.stream_filter()] == [{"n": 1}]
        assert played.statistics().rejected == 0


async def test_filter_of_answers_that_raises_is_reported() -> None:
    """A message for which the filter raises is delivered."""
    heartbeat = rxws.Heartbeat("ping", 100, answer=lambda message: message["op"] == "pong")
    async with FeedServer() as server, CoroutineFeed(server, heartbeat=heartbeat) as feed:
        connection = await server.connected()
        await connection.send([{"n": 1}, {"op": "pong"}], [{"op": "pong"}], [{"op": 3}, {"op": 4}])
        stream = feed.stream_filter()
        assert [await anext(stream) for _ in range(3)] == [{"n": 1}, {"op": 3}, {"op": 4}]
        assert feed.statistics().failures == 1


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (("ping", "5"), TypeError, "the interval of Heartbeat must be a positive number of seconds, not '5'"),
        (("ping", 0), ValueError, "the interval of Heartbeat must be a positive number of seconds, not 0"),
        (("ping", None), TypeError, "the interval of Heartbeat must be a positive number"),
        (("ping", lambda seconds: seconds), TypeError, "a plain function without parameters"),
        (("ping", coroutine_function), TypeError, "a plain function without parameters"),
    ],
)
async def test_wrong_interval_is_refused(arguments: Any, error: type[Exception], text: str) -> None:
    """A Heartbeat with a wrong interval raises an error that names it."""
    with pytest.raises(error, match=text):
        rxws.Heartbeat(*arguments)


@pytest.mark.parametrize(
    ("answer", "error", "text"),
    [
        ({"op": "pong"}, TypeError, "the answer of Heartbeat must be a list of dicts, not a dict"),
        (5, TypeError, "the answer of Heartbeat must be a list of dicts, or a callable, not int"),
        ([], ValueError, "the answer of Heartbeat must be a filter that only the answer passes"),
        ([{}], ValueError, "the answer of Heartbeat must be a filter that only the answer passes"),
        (coroutine_function, TypeError, "the answer of Heartbeat must be a plain function"),
    ],
)
async def test_wrong_answer_is_refused_by_the_feed(answer: Any, error: type[Exception], text: str) -> None:
    """The constructor of the feed raises an error that names the answer."""
    with pytest.raises(error, match=text):
        rxws.ReactiveWebSocket("ws://localhost", heartbeat=rxws.Heartbeat("ping", 5, answer=answer))
