"""How a feed stays connected: losses, rotations with and without an overlap, delays, gaps, and the end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import re
import warnings

import pytest

import rxws
from rxws import CallbackFailed, Connected, ConnectFailed, Disconnected, Gap, Many, Overflowed, Resumed, Rotated, State
from rxws.pytest_plugin import virtual_loop
from rxws.testing import FeedServer
from tests.support.life import ScriptedFeed, ScriptedWebsocket
from tests.support.opening import REFUSED, Followed, connecting, delays, never, now, status, stubborn

in_virtual_time = pytest.mark.usefixtures("virtual_time", "assert_no_leaks")


# Loss


@in_virtual_time
async def test_loss_reconnects_at_once_and_reports_the_gap():
    """After a loss the next connection is opened at once, and the gap is reported when it is open."""
    async with ScriptedFeed() as feed:
        stream = feed.stream_filter(gaps=True)
        await feed.record.happened(Connected)
        feed.websocket.come("a", "b")
        await asyncio.sleep(50)
        feed.websocket.end()
        await feed.record.happened(Connected, 2)
        feed.websocket.come("c")
        (gap,) = feed.record.of(Gap)
        assert (gap.reason, gap.last_message) == ("network", "b")
        assert gap.start <= gap.end == gap.time
        assert [await anext(stream) for _ in range(4)] == ["a", "b", gap, "c"]
        assert now() == 50
        assert dict(feed.statistics().reconnects) == {"network": 1}
        assert feed.statistics().gaps == 1
    assert [type(event).__name__ for event in feed.record.events] == [
        *("Connected", "Disconnected", "Connected", "Gap", "Disconnected")
    ]


@in_virtual_time
async def test_losses_have_growing_delays_until_a_connection_was_healthy():
    """The delays start over only after a connection that has delivered messages for 3 seconds."""
    async with ScriptedFeed(reconnect_delays=lambda: itertools.count()) as feed:
        opened_at = []
        for n in range(1, 5):
            await feed.record.happened(Connected, n)
            opened_at.append(now())
            feed.websocket.end()
        await feed.record.happened(Connected, 5)
        feed.websocket.come("1")
        await asyncio.sleep(3)
        feed.websocket.come("2")
        await asyncio.sleep(0.1)
        feed.websocket.end()
        await feed.record.happened(Connected, 6)
        assert [after - before for before, after in itertools.pairwise(opened_at)] == [0, 1, 2]
        assert now() == opened_at[-1] + 3 + 3.1
        assert dict(feed.statistics().reconnects) == {"network": 5}


@in_virtual_time
async def test_loss_ends_the_hook_and_the_streams_made_in_it():
    """After a loss the connection's rotation hook is cancelled, and the streams that the hook made are closed."""
    hooks = []

    async def wait_rotation_due():
        hooks.append(feed.stream_filter())
        await never()

    async with ScriptedFeed(wait_rotation_due=wait_rotation_due) as feed:
        await feed.record.happened(Connected)
        feed.websocket.end()
        await feed.record.happened(Connected, 2)
        await asyncio.sleep(0.01)
        assert len(hooks) == 2
        assert "closed" in repr(hooks[0])
        assert "closed" not in repr(hooks[1])


@in_virtual_time
async def test_loss_when_the_connection_ends_before_it_is_reported():
    """A connection that ends early is still reported as open, then as lost, and the feed reconnects."""
    first = ScriptedWebsocket()
    first.come("a")
    first.end()
    async with ScriptedFeed(first) as feed:
        await feed.record.entered(State.CONNECTED)
        assert feed.record.messages == ["a"]
        assert [event.number for event in feed.record.of(Connected)] == [1, 2]


async def three_losses(feed):
    """Lose a connection with a message at 10 s, and then one without any message at 20 s; return both gaps."""
    await feed.record.happened(Connected)
    began = feed.record.of(Connected)[0].time
    await asyncio.sleep(10)
    feed.websocket.come("a")
    await asyncio.sleep(5)
    feed.websocket.end()
    await feed.record.happened(Connected, 2)
    await asyncio.sleep(5)
    feed.websocket.end()
    await feed.record.happened(Connected, 3)
    return [(gap.start - began, gap.end - began) for gap in feed.record.of(Gap)]


@in_virtual_time
async def test_gap_of_a_connection_without_messages_starts_at_the_last_message():
    """A connection without messages does not change the start of the next gap."""
    async with ScriptedFeed(reconnect_delays=lambda: itertools.repeat(1)) as feed:
        gaps = await three_losses(feed)
        assert [tuple(round(time, 6) for time in gap) for gap in gaps] == [(10, 16), (10, 22)]


@in_virtual_time
@pytest.mark.parametrize(("channels", "end"), [(["a"], 1), (["a", "b"], 2), (["a", "b", "c"], 3)])
async def test_gap_ends_when_the_last_channel_has_begun(channels, end):
    """A channel begins with its answer or its first message. The gap ends when the last channel has begun."""

    class Feed(ScriptedFeed):
        def _parse_raw_data(self, raw_data):
            return json.loads(raw_data)

    async with Feed() as feed:
        await feed.record.happened(Connected)
        began = feed.record.of(Connected)[0].time
        answered = [{"answer": True}]
        options = {"acknowledged": answered, "timeout": 9.0}
        kept = [feed.multiplex(each, filters=[{"s": each}], **options) for each in channels]
        await asyncio.sleep(0.1)
        feed.websocket.come(*['{"answer": true}'] * 3)
        await asyncio.sleep(0.1)
        feed.websocket.end()
        second = await feed.opened(2)
        await asyncio.sleep(began + 1 - feed.record.of(Disconnected)[0].time)
        second.come('{"s": "a"}')
        await asyncio.sleep(1)
        second.come('{"s": "b"}')
        await asyncio.sleep(1)
        second.come(*['{"answer": true}'] * 3)
        gap = await feed.record.happened(Gap)
        assert round(gap.end - began, 6) == end
        assert len(kept) == len(channels)


class Resuming(ScriptedWebsocket):
    """A connection that says whether it begins where the last one ended."""

    is_resumed = False


def resuming(*frames, is_resumed=True):
    """Return a connection that resumes, with frames that have arrived."""
    websocket = Resuming(*frames)
    websocket.is_resumed = is_resumed
    return websocket


@in_virtual_time
@pytest.mark.parametrize("frames", [(), ("b",)])
async def test_connection_that_is_resumed_begins_without_a_gap(frames):
    """A connection with a true ``is_resumed`` begins where the lost one ended; the reconnection is counted."""
    async with ScriptedFeed(ScriptedWebsocket(), resuming(*frames)) as feed:
        stream = feed.stream_filter(gaps=True)
        await feed.record.happened(Connected)
        feed.websocket.come("a")
        feed.websocket.end()
        resumed = await feed.record.happened(Resumed)
        assert (resumed.number, resumed.replayed) == (2, 0)
        feed.websocket.come(*([] if frames else ["b"]), "c")
        assert [await anext(stream) for _ in range(3)] == ["a", "b", "c"]
        assert feed.record.of(Gap) == []
        assert (feed.statistics().gaps, dict(feed.statistics().reconnects)) == (0, {"network": 1})


@in_virtual_time
async def test_is_resumed_is_read_when_the_first_message_arrives():
    """``is_resumed`` is read when the first message arrives, because a connection may know it only then."""
    websockets = [ScriptedWebsocket(), resuming(is_resumed=False)]
    async with ScriptedFeed(*websockets, parse=lambda raw: Many() if raw == "nothing" else raw) as feed:
        stream = feed.stream_filter(gaps=True)
        await feed.record.happened(Connected)
        feed.websocket.come("a")
        feed.websocket.end()
        await feed.record.happened(Connected, 2)
        feed.websocket.come("nothing")
        await asyncio.sleep(5)
        assert not feed.record.of(Gap) + feed.record.of(Resumed)
        feed.websocket.is_resumed = True
        feed.websocket.come("b")
        assert [await anext(stream) for _ in range(2)] == ["a", "b"]
        assert len(feed.record.of(Resumed)) == 1


@in_virtual_time
async def test_gap_of_a_connection_that_did_not_resume_precedes_its_first_message():
    """If ``is_resumed`` is false at the first message, the Gap precedes that message and ends at the subscription."""
    async with ScriptedFeed(ScriptedWebsocket(), resuming(is_resumed=False)) as feed:
        stream = feed.stream_filter(gaps=True)
        await feed.record.happened(Connected)
        feed.websocket.come("a")
        feed.websocket.end()
        connected = await feed.record.happened(Connected, 2)
        await asyncio.sleep(5)
        feed.websocket.come("b")
        gap = await feed.record.happened(Gap)
        assert gap.end == connected.time == gap.time - 5
        assert [await anext(stream) for _ in range(3)] == ["a", gap, "b"]


@in_virtual_time
async def test_gap_precedes_a_message_that_arrives_while_the_connection_takes_over():
    """Messages that arrive after ``is_resumed`` was read the first time, and before they are delivered, decide, too."""

    def come(event):
        if isinstance(event, Connected) and event.number == 2:
            feed.websocket.come("b")

    async with ScriptedFeed(ScriptedWebsocket(), resuming(is_resumed=False)) as feed:
        stream = feed.stream_filter(gaps=True)
        await feed.record.happened(Connected)
        feed.events.subscribe(come)
        feed.websocket.come("a")
        feed.websocket.end()
        gap = await feed.record.happened(Gap)
        assert [await anext(stream) for _ in range(3)] == ["a", gap, "b"]


@in_virtual_time
async def test_connection_without_a_message_decides_nothing():
    """A connection that might have resumed and was lost before its first message leaves the decision to the next."""
    websockets = [ScriptedWebsocket(), resuming(is_resumed=False), resuming("b")]
    async with ScriptedFeed(*websockets) as feed:
        stream = feed.stream_filter(gaps=True)
        await feed.record.happened(Connected)
        feed.websocket.come("a")
        feed.websocket.end()
        await feed.record.happened(Connected, 2)
        feed.websocket.end()
        await feed.record.happened(Resumed)
        assert [await anext(stream) for _ in range(2)] == ["a", "b"]
        assert feed.record.of(Gap) == []
        assert feed.statistics().reconnects["network"] == 2


@in_virtual_time
async def test_gap_starts_at_the_last_message_before_all_connections_that_decided_nothing():
    """Connections that were lost before their first message do not move the start of the gap."""
    websockets = [ScriptedWebsocket(), resuming(is_resumed=False), resuming(is_resumed=False)]
    async with ScriptedFeed(*websockets, reconnect_delays=lambda: itertools.repeat(0)) as feed:
        began = (await feed.record.happened(Connected)).time
        await asyncio.sleep(2)
        feed.websocket.come("a")
        for number in (2, 3):
            await asyncio.sleep(5)
            feed.websocket.end()
            await feed.record.happened(Connected, number)
        await asyncio.sleep(5)
        feed.websocket.come("b")
        gap = await feed.record.happened(Gap)
        assert [round(time - began, 6) for time in (gap.start, gap.end, gap.time)] == [2, 12, 17]


@in_virtual_time
@pytest.mark.parametrize("held", ["b", "nothing"])
async def test_connection_cannot_resume_after_messages_that_were_dropped(held):
    """If a connection ends before its held messages are delivered, they are lost, so the next one cannot resume."""

    class Feed(ScriptedFeed):
        def _parse_raw_data(self, raw_data):
            return {"s": raw_data} if raw_data != "nothing" else Many()

    second = ScriptedWebsocket(held)
    second.on_send = lambda _message: asyncio.sleep(1)
    async with Feed(ScriptedWebsocket(), second, resuming("c")) as feed:
        stream = feed.stream_filter(gaps=True)
        await feed.record.happened(Connected)
        kept = feed.multiplex("subscribe", filters=[{"s": "a"}])
        await asyncio.sleep(0.1)
        feed.websocket.come("a")
        feed.websocket.end()
        await feed.opened(2)
        await asyncio.sleep(0.5)
        second.end()
        await feed.record.received(2)
        gaps = feed.record.of(Gap)
        assert [await anext(stream) for _ in range(2 + len(gaps))] == [{"s": "a"}, *gaps, {"s": "c"}]
        assert (len(gaps), len(feed.record.of(Resumed))) == ((1, 0) if held == "b" else (0, 1))
        assert kept.pending == 1


@in_virtual_time
async def test_frames_without_a_message_do_not_decide_whether_a_connection_resumes():
    """Held frames without a message decide nothing: ``is_resumed`` is read with the first message."""
    second = resuming("nothing", is_resumed=False)
    second.on_send = lambda _message: asyncio.sleep(1)
    async with ScriptedFeed(ScriptedWebsocket(), second, parse=lambda raw: Many() if raw == "nothing" else raw) as feed:
        await feed.record.happened(Connected)
        kept = feed.multiplex("subscribe", filters=[{"s": "a"}])
        await asyncio.sleep(0.1)
        feed.websocket.come("a")
        feed.websocket.end()
        await feed.record.happened(Connected, 2)
        second.is_resumed = True
        second.come("b")
        await feed.record.happened(Resumed)
        assert feed.record.of(Gap) == []
        assert kept.pending == 0


@in_virtual_time
@pytest.mark.parametrize("timeout", [0, 1])
async def test_rotation_of_a_connection_without_messages(timeout):
    """A rotation before the first message of a connection that did not resume reports the loss once."""
    websockets = [ScriptedWebsocket(), resuming(is_resumed=False)]
    async with ScriptedFeed(*websockets, handover_timeout=timeout) as feed:
        await feed.record.happened(Connected)
        feed.websocket.come("a")
        feed.websocket.end()
        await feed.record.happened(Connected, 2)
        assert feed.record.of(Gap) == []
        assert await feed.rotate()
        feed.websocket.come("b")
        await feed.record.received(2)
        (gap,) = feed.record.of(Gap)
        assert gap.last_message == "a"


# A rotation


@in_virtual_time
@pytest.mark.parametrize("is_lost", [False, True])
@pytest.mark.parametrize("moment", [Connected, "message"])
async def test_rotate_when_messages_flow_and_the_state_is_connecting(is_lost, moment):
    """A ``rotate`` call just before the state becomes CONNECTED rotates the connection that has just been opened."""
    calls = []

    def rotate(_):
        if not calls and len(feed.websockets) == 1 + is_lost:
            calls.append(feed.rotate())
            assert feed.state.value is State.CONNECTING

    async with ScriptedFeed(ScriptedWebsocket("1"), ScriptedWebsocket("1")) as feed:
        if moment == "message":
            feed.messages.subscribe(rotate)
        else:
            feed.events.subscribe(lambda event: rotate(event) if isinstance(event, Connected) else None)
        if is_lost:
            await feed.record.happened(Connected)
            feed.websocket.end()
        await feed.record.happened(Connected, 1 + is_lost)
        await asyncio.sleep(0.01)
        (call,) = calls
        assert not call.done()
        assert await call
        assert feed.statistics().rotations == 1
        assert len(feed.websockets) == 2 + is_lost


@in_virtual_time
async def test_handler_of_a_held_message_raises_generator_exit():
    """A GeneratorExit of a handler fails the feed, which otherwise would never open a connection again."""

    def leave(_message):
        raise GeneratorExit

    first = ScriptedWebsocket("1")
    first.on_send = lambda _: asyncio.sleep(1)
    feed = Followed("ws://localhost", connect=connecting(first), on_open=["subscribe"])
    feed.add_handler(leave)
    with pytest.raises(ConnectFailed, match="a handler raised GeneratorExit"):
        await feed.wait_closed()
    assert feed.state.value is State.FAILED


@in_virtual_time
@pytest.mark.parametrize("turns", range(6))
async def test_parse_hook_raises_generator_exit_when_a_connection_takes_over(turns):
    """A GeneratorExit of a parse hook fails the feed at any moment of a rotation, and is not an unhandled exception."""

    def parse(frame):
        if frame == "leave":
            raise GeneratorExit
        return frame

    async def leave():
        for _ in range(turns):
            await asyncio.sleep(0)
        feed.websocket.come("leave")

    unhandled = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
    feed = ScriptedFeed(parse=parse)
    feed.events.subscribe(lambda event: asyncio.ensure_future(leave()) if isinstance(event, Connected) else None)
    with pytest.raises(ConnectFailed, match="a handler raised GeneratorExit"):
        await feed.wait_closed()
    await asyncio.sleep(1)
    assert unhandled == []


@in_virtual_time
async def test_rotation_hook_raises_generator_exit():
    """A GeneratorExit of the rotation hook is reported like any failure of the hook, and the feed rotates."""
    hooks = iter([1, 2])

    async def wait_rotation_due():
        if next(hooks) == 1:
            await asyncio.sleep(5)
            raise GeneratorExit
        await never()

    async with ScriptedFeed(wait_rotation_due=wait_rotation_due) as feed:
        await feed.record.happened(Rotated)
        (failure,) = feed.record.of(CallbackFailed)
        assert isinstance(failure.error, GeneratorExit)
        assert now() < 12


@in_virtual_time
async def test_rotate_when_the_connection_is_lost_before_it_is_announced():
    """If the connection is lost before its announcement, a ``rotate`` call ends with the next connection."""
    first = ScriptedWebsocket("1")
    async with ScriptedFeed(first) as feed:
        calls = []
        feed.messages.subscribe(lambda _: calls or (calls.append(feed.rotate()), first.end()))
        await feed.record.received(1)
        assert await calls[0]
        assert feed.state.value is State.CONNECTED


@in_virtual_time
async def test_rotate_when_the_new_connection_of_a_rotation_replaces_a_lost_one():
    """If the old connection is lost in a rotation, a ``rotate`` call of the first held message rotates once more."""
    async with ScriptedFeed() as feed:
        await feed.record.happened(Connected)
        calls = [await rotating(feed)]
        feed.messages.subscribe(lambda _: calls.append(feed.rotate()) if len(calls) == 1 else None)
        feed.websocket.come("1")
        await asyncio.sleep(0.01)
        feed.websockets[0].end()
        await feed.record.happened(Connected, 2)
        await asyncio.sleep(0.1)
        assert len(calls) == 2
        await overlap(feed, *range(2, 20))
        assert all([await call for call in calls])
        assert len(feed.websockets) == 3


@in_virtual_time
@pytest.mark.parametrize("timeout", [0, 1])
async def test_rotate_in_a_rotation_is_about_that_one(timeout):
    """A ``rotate`` call when the new connection begins to deliver joins the running rotation."""
    async with ScriptedFeed(handover_timeout=timeout) as feed:
        await feed.record.happened(Connected)
        calls = []
        feed.events.subscribe(lambda event: calls.append(feed.rotate()) if isinstance(event, Connected) else None)
        assert await feed.rotate()
        await asyncio.sleep(5)
        assert all([await call for call in calls])
        assert feed.statistics().rotations == 1


async def overlap(feed, *numbers):
    """Send the same messages on both connections of a feed."""
    for n in numbers:
        for websocket in feed.websockets[-2:]:
            websocket.come(str(n))
        await asyncio.sleep(0.1)


async def rotating(feed, count=2, *, at_once=False):
    """Rotate, wait until the new connection is open, and return the rotation's future."""
    rotated = feed.rotate()
    if not at_once:
        await feed.opened(count)
    return rotated


@in_virtual_time
async def test_rotation_starts_when_the_hook_ends():
    """When the hook ends, a new connection is opened, and the old one delivers until the overlap is proven."""
    due = asyncio.get_running_loop().create_future()
    async with ScriptedFeed(wait_rotation_due=lambda: asyncio.shield(due)) as feed:
        await feed.record.happened(Connected)
        await asyncio.sleep(1)
        due.set_result(None)
        feed.wait_rotation_due = never
        await feed.record.entered(State.ROTATING)
        await overlap(feed, *range(10))
        event = await feed.record.happened(Rotated)
        feed.websocket.come("10")
        await feed.record.received(11)
        assert feed.record.messages == list(range(11))
        assert (event.number, event.proven, event.truncated, event.discarded) == (2, True, False, 0)
        assert event.duplicates == event.held > 0
        assert 0 <= event.paused < 0.1
        assert feed.websockets[0].closes == 1
        assert feed.record.of(Gap) == []
    assert feed.record.states[:4] == [State.CONNECTING, State.CONNECTED, State.ROTATING, State.CONNECTED]
    assert feed.record.reasons == ["rotation", "user"]


@in_virtual_time
@pytest.mark.parametrize("settle", [0.005, 0.02])
async def test_rotation_is_proven_when_settle_is_no_longer_than_the_interval_of_the_checks(settle):
    """The time between two checks of an overlap is not treated as a blocked loop."""
    async with ScriptedFeed(handover_settle=settle) as feed:
        await feed.record.happened(Connected)
        rotated = asyncio.ensure_future(feed.rotate())
        for number in range(200):
            for each in feed.websockets[-2:]:
                each.come(str(number))
            await asyncio.sleep(0.003)
        assert await rotated
        (event,) = feed.record.of(Rotated)
        assert event.proven


@in_virtual_time
async def test_rotation_starts_when_the_hook_raises():
    """An exception of the hook is reported, and the feed rotates."""

    async def wait_rotation_due():
        feed.wait_rotation_due = never
        await asyncio.sleep(1)
        raise OSError("the REST call failed")

    async with ScriptedFeed(wait_rotation_due=wait_rotation_due, handover_timeout=1) as feed:
        await feed.record.happened(Rotated)
        (event,) = feed.record.of(CallbackFailed)
        assert (event.handler, str(event.error)) == ("ScriptedFeed._when2create_new_ws", "the REST call failed")


@in_virtual_time
async def test_rotation_when_the_program_cancels_the_hook(caplog):
    """If the program cancels the hook's task, the feed logs this and rotates, because no other signal would follow."""

    async def wait_rotation_due():
        feed.wait_rotation_due = never
        await asyncio.sleep(1)
        asyncio.current_task().cancel()
        await never()

    async with ScriptedFeed(wait_rotation_due=wait_rotation_due, handover_timeout=1) as feed:
        await feed.record.happened(Rotated)
    (line,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert line.endswith("_when2create_new_ws was cancelled: the feed rotates")


def test_rotation_when_the_loop_is_torn_down(caplog):
    """A hook that ``asyncio.run`` cancels at its end logs nothing and starts no rotation."""

    async def main():
        feeds.append(ScriptedFeed())
        await feeds[0].record.happened(Connected)

    feeds = []
    asyncio.run(main())
    assert "it is time" not in caplog.text


@in_virtual_time
async def test_rotate_returns_whether_the_first_attempt_succeeded():
    """The future of ``rotate`` is True after the rotation, and False when its first attempt fails."""
    async with ScriptedFeed(ScriptedWebsocket(), ScriptedWebsocket(), REFUSED, handover_timeout=1) as feed:
        await feed.wait_connected()
        assert await feed.rotate() is True
        assert len(feed.record.of(Rotated)) == 1
        assert await feed.rotate() is False
        assert len(feed.record.of(Rotated)) == 1
        await feed.record.happened(Rotated, 2)


@in_virtual_time
async def test_rotate_again_and_again():
    """Directly after ``wait_connected`` or a rotation, a ``rotate`` call starts another rotation."""
    async with ScriptedFeed(handover_timeout=1) as feed:
        await feed.wait_connected()
        for n in range(1, 6):
            assert await feed.rotate() is True
            assert len(feed.record.of(Rotated)) == n


@in_virtual_time
async def test_rotate_from_a_subscriber_of_the_state():
    """A subscriber of the state may call ``rotate`` when the feed is connected."""
    feed = ScriptedFeed(handover_timeout=1)
    rotations = []

    def on_state(state):
        if state is State.CONNECTED and len(rotations) < 3:
            rotations.append(feed.rotate())

    feed.state.subscribe(on_state)
    async with feed:
        await feed.record.happened(Rotated, 3)
        assert await asyncio.gather(*rotations) == [True, True, True]


@in_virtual_time
async def test_rotate_while_a_rotation_is_under_way():
    """Signals during a rotation are ignored, and two callers of ``rotate`` wait for the same rotation."""
    async with ScriptedFeed(handover_timeout=1) as feed:
        await feed.wait_connected()
        assert await asyncio.gather(feed.rotate(), feed.rotate()) == [True, True]
        await asyncio.sleep(10)
        assert len(feed.websockets) == 2


@in_virtual_time
async def test_rotate_before_the_first_connection_waits_for_that():
    """Before the first connection ``rotate`` waits for it."""
    async with ScriptedFeed(REFUSED) as feed:
        assert await feed.rotate() is False
        assert await feed.rotate() is True
        assert len(feed.websockets) == 1


@in_virtual_time
async def test_rotate_when_the_feed_is_closed_meanwhile():
    """If the feed is closed during a rotation, the result of ``rotate`` is False."""
    feed = ScriptedFeed(ScriptedWebsocket(), never)
    await feed.wait_connected()
    rotated = feed.rotate()
    await asyncio.sleep(0.1)
    await feed.exit()
    assert await rotated is False


@in_virtual_time
async def test_rotation_when_the_new_connection_is_refused():
    """If the new connection is refused, the old one stays and delivers, and the attempt is repeated with backoff."""
    async with ScriptedFeed(ScriptedWebsocket(), REFUSED, REFUSED, reconnect_delays=delays(0, 2)) as feed:
        await feed.wait_connected()
        rotated = await rotating(feed)
        assert await rotated is False
        assert now() == pytest.approx(2, abs=0.05)
        await overlap(feed, *range(10))
        await feed.record.happened(Rotated)
        assert feed.record.messages == list(range(10))
        assert feed.record.reasons == ["network", "network", "rotation"]
        assert [event.delay for event in feed.record.of(Disconnected)] == [0, 2, None]


@in_virtual_time
async def test_rotation_ends_the_feed_when_its_failure_is_fatal():
    """Three refusals of the credentials in a row end the feed, although the old connection still delivers."""
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(pytest.raises(ConnectFailed, match="401"))
        feed = await stack.enter_async_context(ScriptedFeed(ScriptedWebsocket(), *[status(401)] * 3))
        await feed.wait_connected()
        feed.rotate()
        await feed.record.entered(State.FAILED, timeout=300)
    assert feed.record.reasons[:3] == ["auth"] * 3


@in_virtual_time
async def test_rotation_when_the_new_connection_dies_in_the_overlap():
    """If the new connection is lost in the overlap, its held messages are dropped, and the rotation is repeated."""
    async with ScriptedFeed(reconnect_delays=delays(3)) as feed:
        await feed.wait_connected()
        rotated = await rotating(feed)
        await overlap(feed, 1, 2)
        feed.websocket.end()
        assert await rotated is False
        assert feed.present_ws is feed.websockets[0]
        await feed.record.happened(Disconnected)
        feed.websocket.come("dropped")
        feed.websockets[0].come("3")
        await feed.record.received(3)
        await rotating(feed, 3)
        assert now() == pytest.approx(3.1, abs=0.2)
        del feed.websockets[1]
        await overlap(feed, *range(4, 14))
        await feed.record.happened(Rotated)
        assert feed.record.messages == list(range(1, 14))
        assert feed.record.of(Gap) == []


@in_virtual_time
async def test_gap_begins_with_the_last_message_when_the_lost_connection_had_none():
    """If a lost connection had no message, the gap begins at the last message of the connection before it.

    That message arrived in the overlap, after the lost connection was opened.
    """
    async with ScriptedFeed(handover_timeout=5) as feed:
        await feed.record.happened(Connected)
        first, rotating = feed.websocket, feed.rotate()
        await asyncio.sleep(3)
        first.come("a")
        delivered_at = now()
        assert await rotating
        second, rotating = feed.websocket, feed.rotate()
        await feed.record.entered(State.ROTATING, 2)
        await asyncio.sleep(1)
        feed.websocket.come("b")
        await asyncio.sleep(1)
        second.end()
        await feed.record.happened(Connected, 3)
        await asyncio.sleep(0.1)
        gap = feed.record.of(Gap)[-1]
        assert gap.time - gap.start == pytest.approx(now() - delivered_at, abs=0.2)
        await rotating


@in_virtual_time
async def test_rotation_when_the_old_connection_dies_in_the_overlap():
    """If the old connection is lost in the overlap, a gap precedes the held messages, and the overlap is not proven."""
    async with ScriptedFeed() as feed:
        stream = feed.stream_filter(gaps=True)
        await feed.wait_connected()
        await rotating(feed)
        await overlap(feed, 1, 2)
        feed.websocket.come("3")
        feed.websockets[0].end()
        event = await feed.record.happened(Rotated)
        assert (event.proven, event.held, event.duplicates) == (False, 3, 2)
        (gap,) = feed.record.of(Gap)
        assert (gap.reason, gap.last_message) == ("network", 2)
        assert [await anext(stream) for _ in range(4)] == [1, 2, gap, 3]
        assert feed.state.value in (State.ROTATING, State.CONNECTED)
        assert dict(feed.statistics().reconnects) == {"network": 1}


@in_virtual_time
async def test_rotation_when_the_old_connection_dies_while_the_new_one_is_opened():
    """If the old connection is lost while the new one is opened, the new one delivers after a gap, without a delay."""

    async def slowly():
        await asyncio.sleep(1)
        return ScriptedWebsocket()

    async with ScriptedFeed(ScriptedWebsocket(), slowly) as feed:
        await feed.wait_connected()
        await rotating(feed, at_once=True)
        await asyncio.sleep(0.5)
        feed.websocket.end()
        await feed.record.happened(Gap)
        assert now() == 1
        assert len(feed.record.of(Connected)) == 2
        await feed.record.entered(State.CONNECTED, 2)
        assert feed.record.states[2:] == [State.ROTATING, State.CONNECTING, State.CONNECTED]


@in_virtual_time
async def test_rotation_when_the_old_connection_dies_before_the_new_one_is_refused():
    """A failed attempt of a rotation is reported even if the old connection ended during the attempt."""

    async def slowly_refused():
        await asyncio.sleep(1)
        raise REFUSED

    async with ScriptedFeed(ScriptedWebsocket(), slowly_refused, reconnect_delays=delays(0)) as feed:
        await feed.wait_connected()
        await rotating(feed, at_once=True)
        await asyncio.sleep(0.5)
        feed.websocket.end()
        await feed.record.happened(Connected, 2)
        assert [event.number for event in feed.record.of(Disconnected)] == [1, None]
        assert len(feed.record.of(Gap)) == 1


@in_virtual_time
async def test_rotation_when_the_old_connection_dies_during_the_delay_of_a_retry():
    """After a loss the feed reconnects at once, even while a rotation's retry is delayed."""
    async with ScriptedFeed(ScriptedWebsocket(), REFUSED, reconnect_delays=delays(50, 0)) as feed:
        await feed.wait_connected()
        await rotating(feed, at_once=True)
        await asyncio.sleep(1)
        feed.websocket.end()
        await feed.record.happened(Connected, 2)
        assert now() == 1


@in_virtual_time
async def test_rotation_counts_dropped_messages_when_the_old_connection_is_lost(monkeypatch):
    """Until the new connection is subscribed, its messages are held; those beyond the limit are dropped and counted."""
    monkeypatch.setattr("rxws.connections.overlap.HELD_MAX", 10)
    first, second = ScriptedWebsocket(), ScriptedWebsocket()
    second.on_send = lambda _: asyncio.sleep(5)
    async with Followed("ws://localhost", connect=connecting(first, second), on_open=["subscribe"]) as feed:
        await feed.wait_connected()
        rotated = feed.rotate()
        await asyncio.sleep(1)
        first.end()
        await asyncio.sleep(1)
        second.come(*map(str, range(50)))
        await rotated
        assert await feed.record.received(10) == list(range(40, 50))
        (event,) = feed.record.of(Overflowed)
        assert (event.consumer, event.dropped, feed.statistics().dropped) == ("connection 2", 40, 40)


@in_virtual_time
async def test_rotate_in_a_subscriber_that_gets_connected_starts_the_next_rotation():
    """A ``rotate`` call of a subscriber that gets CONNECTED starts a new rotation, because the handover is complete."""
    asked = []
    async with ScriptedFeed(handover_timeout=1) as feed:
        feed.state.subscribe(lambda state: asked or (state is State.CONNECTED and asked.append(feed.rotate())))
        await feed.wait_connected()
        assert await asked[0]
        assert len(feed.record.of(Rotated)) == 1


@in_virtual_time
@pytest.mark.parametrize("later", [0, 0.01])
@pytest.mark.parametrize("held", [["held"], []])
async def test_rotation_when_both_connections_end_at_once(later, held):
    """If both connections end, the held messages are delivered between two gaps; without held messages there is one."""
    async with ScriptedFeed(reconnect_delays=delays(3)) as feed:
        stream = feed.stream_filter(gaps=True)
        await feed.wait_connected()
        rotated = await rotating(feed)
        await overlap(feed, 1)
        feed.websocket.come(*held)
        feed.websockets[0].end()
        await asyncio.sleep(later)
        feed.websockets[1].end()
        assert await rotated is False
        await feed.record.happened(Connected, 2)
        await feed.record.entered(State.CONNECTED, 2)
        gaps = feed.record.of(Gap)
        assert [gap.reason for gap in gaps] == ["network"] * (len(held) + 1)
        assert [gap.last_message for gap in gaps] == [1, *held]
        feed.websocket.come("next")
        follows = [item for pair in zip(gaps, [*held, "next"], strict=True) for item in pair]
        assert [await anext(stream) for _ in range(1 + len(follows))] == [1, *follows]
        assert [event.number for event in feed.record.of(Connected)] == [1, 3]
        assert [event.number for event in feed.record.of(Disconnected)] == [1, 2]
        assert feed.record.of(Rotated) == []
        assert feed.statistics().duplicates == 1


@in_virtual_time
async def test_rotation_when_the_new_connection_dies_during_the_old_ones_close():
    """If the new connection is lost while the old one closes, the old one is read to its end, and a gap follows."""
    async with ScriptedFeed(handover_timeout=1) as feed:
        stream = feed.stream_filter(gaps=True)
        await feed.wait_connected()

        async def close():
            feed.websockets[1].end()
            await asyncio.sleep(0.5)
            feed.websockets[0].come("last")
            feed.websockets[0].end(StopAsyncIteration())

        feed.websocket.on_close = close
        await rotating(feed)
        await feed.record.entered(State.CONNECTED, 2)
        feed.websocket.come("next")
        last, gap, following = [await anext(stream) for _ in range(3)]
        assert (last, gap.last_message, gap.reason, following) == ("last", "last", "network", "next")
        assert feed.record.of(Rotated) == []


@in_virtual_time
@pytest.mark.parametrize("is_per_connection", [False, True])
async def test_request_in_a_rotation_gets_its_reply_at_once(is_per_connection):
    """A request returns its reply at once, even if the reply is a held or a per-connection message."""

    class Lonely(ScriptedFeed):
        def _is_per_connection(self, message):
            return is_per_connection and message == 7

    async with Lonely(handover_timeout=5) as feed:
        stream = feed.stream_filter()
        await feed.wait_connected()
        await rotating(feed)
        await overlap(feed, 1)
        started = now()
        requesting = asyncio.create_task(feed.request("ask", lambda message: message == 7))
        await asyncio.sleep(0.01)
        assert feed.websocket.sent == ["ask"]
        assert feed.websockets[0].sent == []
        feed.websockets[0].come("6")
        feed.websocket.come("7")
        assert await requesting == 7
        assert now() < started + 0.1
        assert feed.state.value is State.ROTATING
        await overlap(feed, *range(8, 18))
        await feed.record.happened(Rotated)
        feed.websocket.come("18")
        expected = [1, 6, *range(8, 18), 18] if is_per_connection else [1, 6, *range(8, 18), 7, 18]
        seen = [await anext(stream) for _ in expected]
        assert sorted(seen) == sorted(expected)
        assert feed.statistics().streams == 1


@in_virtual_time
async def test_requests_in_a_rotation_share_a_reply_and_leave_nothing_behind():
    """One message answers all requests whose filter it passes; a cancelled request leaves nothing behind."""
    async with ScriptedFeed(handover_timeout=5) as feed:
        await feed.wait_connected()
        await rotating(feed)
        await overlap(feed, 1)
        first, second = [asyncio.create_task(feed.request("ask", lambda message: message == 7)) for _ in range(2)]
        asked = []
        cancelled = asyncio.create_task(feed.request("ask", asked.append))
        await asyncio.sleep(0.01)
        cancelled.cancel()
        await asyncio.wait({cancelled})
        feed.websocket.come("7")
        assert await asyncio.gather(first, second) == [7, 7]
        assert feed.statistics().streams == 0
        assert feed.state.value is State.ROTATING
        assert asked == []


@in_virtual_time
async def test_request_whose_connection_is_lost_in_a_rotation():
    """A reply that arrived before the loss is returned. A request without a reply fails at once and is not repeated."""
    async with ScriptedFeed(handover_timeout=5, reconnect_delays=lambda: [1]) as feed:
        await feed.wait_connected()
        await rotating(feed)
        await overlap(feed, 1)
        early, late = [
            asyncio.create_task(feed.request("ask", lambda message, n=n: message == n, timeout=3)) for n in (7, 8)
        ]
        await asyncio.sleep(0.01)
        feed.websocket.come("7")
        feed.websocket.end()
        assert await early == 7
        feed.websockets[0].come("8")
        with pytest.raises(rxws.SendFailed, match="connection was lost before the reply came"):
            await late
        assert feed.statistics().streams == 0


@in_virtual_time
async def test_request_in_a_rotation_on_a_real_server():
    """The reply to a request in an overlap is returned during the overlap, not after it."""

    async def answer(connection):
        async for message in connection:
            await connection.send({"id": json.loads(message)["id"]})

    async with (
        FeedServer(answer) as server,
        rxws.ReactiveWebSocket(server.url, handover_timeout=3, per_connection=[{"id": 2}]) as feed,
    ):
        assert await feed.request({"id": 1}, [{"id": 1}]) == {"id": 1}
        rotated = feed.rotate()
        second = await server.connected(2)
        async with asyncio.timeout(10):
            while not second.received:
                assert await feed.request({"id": 2}, [{"id": 2}], timeout=2) == {"id": 2}
        assert feed.state.value is State.ROTATING
        assert not rotated.done()
        assert await rotated


@in_virtual_time
async def test_rotation_when_a_parse_hook_waits_forever():
    """A parse hook that never returns on the old connection delays the rotation by little more than the drain time."""
    waits = True

    async def parse(frame):
        if frame == "stuck" and waits:
            await never()
        return frame

    async with ScriptedFeed(parse=parse, handover_timeout=1) as feed:
        await feed.wait_connected()
        await rotating(feed)
        feed.websockets[0].come("stuck")
        await asyncio.sleep(0.5)
        waits = False
        feed.websocket.come("stuck", "next")
        await feed.record.received(2)
        assert now() <= 2.5
        assert feed.record.messages == ["stuck", "next"]


@in_virtual_time
async def test_rotation_when_the_old_ones_reader_cannot_be_ended(caplog):
    """A parse hook that ignores cancellation does not stop a rotation, and its late messages are discarded."""
    until = asyncio.get_running_loop().create_future()

    async def parse(frame):
        if frame == "stuck":
            await stubborn(until)
        return frame

    async with ScriptedFeed(parse=parse, handover_timeout=1) as feed:
        await feed.wait_connected()
        await rotating(feed)
        feed.websockets[0].come("stuck")
        feed.websocket.come("next")
        await feed.record.received(1)
        await feed.record.entered(State.CONNECTED, 2)
        until.set_result(None)
        await asyncio.sleep(0.1)
        assert feed.record.messages == ["next"]
        assert feed.record.reasons == ["rotation"]
        # The rotation cancelled its hook, which is not logged.
        assert "_when2create_new_ws" not in caplog.text


@in_virtual_time
async def test_rotation_right_after_a_rotation_waits_until_the_overlap_is_forgotten():
    """A rotation right after another one waits until the first overlap ends, and messages are delivered meanwhile."""
    async with ScriptedFeed(handover_settle=2, handover_timeout=3) as feed:
        await feed.wait_connected()
        await rotating(feed)
        feed.websockets[0].come("never on the new one")
        await overlap(feed, *range(25))
        assert len(feed.record.of(Rotated)) == 1
        feed.rotate()
        await asyncio.sleep(0.5)
        assert len(feed.websockets) == 2
        await feed.opened(3)
        await overlap(feed, *range(25, 75))
        await feed.record.happened(Rotated, 2)
        assert feed.record.messages == ["never on the new one", *range(75)]


@in_virtual_time
async def test_loss_right_after_a_rotation_waits_for_nothing():
    """A connection that is lost during its overlap is replaced at once, even if a rotation waits for the overlap."""
    async with ScriptedFeed(handover_settle=2, handover_timeout=3) as feed:
        await feed.wait_connected()
        await rotating(feed)
        feed.websockets[0].come("only on the old one")
        await feed.record.happened(Rotated)
        at = now()
        rotated = feed.rotate()
        await asyncio.sleep(0.5)
        feed.websocket.end()
        await feed.record.happened(Connected, 3)
        assert now() == pytest.approx(at + 0.5, abs=0.05)
        assert await rotated is True
        await asyncio.sleep(5)
        feed.websocket.come("only on the old one")
        await feed.record.received(2)


@in_virtual_time
async def test_exit_while_an_overlap_is_remembered():
    """``exit`` ends an overlap at once and frees its memory."""
    async with ScriptedFeed(handover_settle=2, handover_timeout=3) as feed:
        await feed.wait_connected()
        await rotating(feed)
        feed.websockets[0].come("only on the old one")
        await feed.record.happened(Rotated)
    assert feed.record.states[-1] is State.CLOSED


@in_virtual_time
async def test_exit_from_a_subscriber_of_the_connected_event():
    """A subscriber of the events may close the feed when a connection is reported."""
    feed = ScriptedFeed()
    closing = []
    feed.events.subscribe(lambda event: closing.append(asyncio.ensure_future(feed.exit())))
    await feed.wait_closed()
    await asyncio.wait(closing)
    assert feed.record.states == [State.CONNECTING, State.CLOSED]


@in_virtual_time
async def test_rotation_without_handover_breaks_before_it_makes():
    """With ``handover_timeout=0`` the old connection is closed before the new one is opened, and a gap is reported."""
    open_at_once = []

    async def opening():
        open_at_once.append(sum(websocket.is_open for websocket in feed.websockets))
        return ScriptedWebsocket()

    async with ScriptedFeed(opening, opening, handover_timeout=0) as feed:
        await feed.wait_connected()
        feed.websocket.come("a")
        await feed.record.received(1)
        assert await feed.rotate() is True
        assert open_at_once == [0, 0]
        (gap,) = feed.record.of(Gap)
        assert (gap.reason, gap.last_message) == ("rotation", "a")
        (rotated,) = feed.record.of(Rotated)
        assert (rotated.number, rotated.proven, rotated.held) == (2, False, 0)
        assert dict(feed.statistics().reconnects) == {}
        assert (feed.statistics().rotations, feed.statistics().gaps) == (1, 1)


@in_virtual_time
async def test_rotation_without_handover_when_the_new_connection_is_refused():
    """With ``handover_timeout=0`` a refused connection is retried with backoff, and ``rotate`` returns False."""
    async with ScriptedFeed(ScriptedWebsocket(), REFUSED, handover_timeout=0) as feed:
        await feed.wait_connected()
        assert await feed.rotate() is False
        await feed.record.happened(Rotated)
        assert len(feed.websockets) == 2


# Hooks that end too soon


@in_virtual_time
async def test_hooks_that_end_too_soon_are_delayed_more_and_more(caplog):
    """If a hook ends as soon as it begins, its rotation waits: 0.5 s at first, then twice as long, up to a minute."""

    async def at_once():
        pass

    async with ScriptedFeed(wait_rotation_due=at_once, handover_timeout=0) as feed:
        await feed.record.happened(Connected, 12, timeout=1000)
        times = [event.time for event in feed.record.of(Connected)]
        waits = [round(after - before, 1) for before, after in itertools.pairwise(times)]
        assert waits == [0.5, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60]
        assert "_when2create_new_ws returned too soon, so the rotation is delayed by 0.5 s" in caplog.text


@in_virtual_time
async def test_hooks_that_take_their_time_are_not_delayed():
    """A hook that took longer than 0.25 s rotates at once, and the delays start over."""
    seconds = iter([0, 0, 0.3, 0])

    async def wait_rotation_due():
        await asyncio.sleep(next(seconds, 1000))

    async with ScriptedFeed(wait_rotation_due=wait_rotation_due, handover_timeout=0) as feed:
        await feed.record.happened(Connected, 5, timeout=100)
        times = [event.time for event in feed.record.of(Connected)]
        waits = [round(after - before, 1) for before, after in itertools.pairwise(times)]
        assert waits == [0.5, 1, 0.3, 0.5]


@in_virtual_time
async def test_loss_while_a_rotation_is_delayed():
    """A lost connection is replaced at once, even while its rotation is delayed."""

    async def at_once():
        feed.wait_rotation_due = never

    async with ScriptedFeed(wait_rotation_due=at_once) as feed:
        await feed.wait_connected()
        await asyncio.sleep(0.1)
        feed.websocket.end()
        await feed.record.happened(Connected, 2)
        assert now() == 0.1
        assert len(feed.record.of(Gap)) == 1


@in_virtual_time
async def test_rotate_rotates_at_once_while_a_rotation_is_delayed():
    """``rotate()`` does not wait for a delay after a hook that ended too soon, and the delays start over."""

    async def at_once():
        pass

    async with ScriptedFeed(wait_rotation_due=at_once, handover_timeout=0) as feed:
        await feed.record.happened(Connected, 3)
        await asyncio.sleep(0.1)
        assert await feed.rotate()
        await feed.record.happened(Connected, 5)
        times = [event.time for event in feed.record.of(Connected)]
        waits = [round(after - before, 1) for before, after in itertools.pairwise(times)]
        assert waits == [0.5, 1, 0.1, 0.5]


# The end, and the log


@in_virtual_time
async def test_age_of_the_last_message():
    """``last_message_age`` counts from the last message of any connection, even while no connection is open."""
    async with ScriptedFeed(ScriptedWebsocket(), REFUSED, reconnect_delays=delays(10, 100)) as feed:
        await feed.wait_connected()
        assert feed.statistics().last_message_age is None
        feed.websocket.come("a")
        await asyncio.sleep(5)
        assert feed.statistics().last_message_age == pytest.approx(5, abs=0.01)
        feed.websocket.end()
        await asyncio.sleep(5)
        assert feed.statistics().last_message_age == pytest.approx(10, abs=0.01)


def test_loop_that_is_torn_down_under_the_feed(caplog):
    """A program that ends without ``exit`` does not hang, logs no warning, and leaves nothing open."""
    websockets = []

    async def main(outcome, seconds):
        websockets.append(ScriptedWebsocket())
        feed = ScriptedFeed(outcome or websockets[-1])
        feeds.append(feed)
        await asyncio.sleep(seconds)

    feeds = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for outcome, seconds in [(None, 0), (None, 1), (never, 1), (REFUSED, 1)]:
            with asyncio.Runner(loop_factory=virtual_loop) as runner:
                runner.run(main(outcome, seconds))
    assert not websockets[1].is_open
    assert {each.levelno for each in caplog.records if "ended without being closed" in each.message} <= {logging.INFO}
    assert [feed.state.value for feed in feeds[1:]] == [State.CLOSED] * 3


@in_virtual_time
async def test_cancellation_of_the_reader_alone_is_logged(caplog):
    """If other code, such as a parse hook, cancels the reader, the feed fails and logs an error."""
    name = "mine"
    feed = ScriptedFeed(name=name)
    await feed.wait_connected()
    (reader,) = [task for task in asyncio.all_tasks() if task.get_name() == "rxws reader 1"]
    reader.cancel()
    with pytest.raises(ConnectFailed):
        await feed.wait_closed()
    records = [each for each in caplog.records if each.message.startswith(f"{name}: failed: other code")]
    assert [each.levelno for each in records] == [logging.ERROR]


@in_virtual_time
async def test_log_has_each_state(caplog):
    """Each state is logged, even if it lasts no time."""
    caplog.set_level(logging.DEBUG, "rxws")
    async with ScriptedFeed() as feed:
        await feed.wait_connected()
        feed.websocket.end()
        await feed.record.entered(State.CONNECTED, 2)
    states = [record.message.partition(": ")[2] for record in caplog.records if record.levelno == logging.DEBUG]
    assert [state for state in states if "connection " not in state] == [
        "connected",
        "connecting",
        "connected",
        "closed",
    ]
    assert [state for state in states if state.startswith("connection 1 ")] == [
        "connection 1 is live",
        "connection 1 is ended",
    ]


@in_virtual_time
async def test_log_has_no_line_more_than_once_a_second(caplog, virtual_time):
    """If a server accepts and closes repeatedly, each kind of line but Gap is logged at most once a second."""
    caplog.set_level(logging.DEBUG, "rxws")
    logged = []

    def note(record):
        kind = record.getMessage().partition(" ... ")[0]
        if record.levelno > logging.DEBUG:
            kind = re.sub("[0-9.]+", "#", kind)
        if "without a connection" not in kind:
            logged.append((kind, virtual_time.time()))
        return True

    logging.getLogger("rxws").addFilter(note)

    async def flapping():
        websocket = ScriptedWebsocket()
        websocket.end()
        return websocket

    async with ScriptedFeed(*[flapping, REFUSED] * 200, reconnect_delays=delays(0.01)) as feed:
        await feed.record.happened(Connected, 150)
        # The end of the feed writes the suppressed lines at once.
        logging.getLogger("rxws").removeFilter(note)
    lines = {}
    for line, at in logged:
        assert at - lines.get(line, -1) > 0.999, line
        lines[line] = at
    assert len(lines) >= 3


@in_virtual_time
async def test_feeds_without_events_are_quiet():
    """A feed without failures logs no warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        async with ScriptedFeed() as feed:
            await feed.wait_connected()
    assert isinstance(feed, rxws.AsyncWebsocketStreamInterface)
