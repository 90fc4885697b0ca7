"""The Observable of live connections: which one comes, and when; what is lost, and what is not."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import json
import logging
import warnings

import pytest

import rxws
from rxws import CallbackFailed, Connected, ConnectFailed, Disconnected, Gap, Overflowed, Rotated, State
from rxws.connections.handover import Handover
from rxws.pytest_plugin import virtual_loop
from rxws.testing import FeedServer
from tests.support.life import ScriptedFeed, ScriptedWebsocket
from tests.support.opening import REFUSED, Followed, connecting, delays, never, now, status, stubborn

in_virtual_time = pytest.mark.usefixtures("virtual_time", "assert_no_leaks")


# Loss


@in_virtual_time
async def test_loss_reconnects_at_once_and_reports_the_gap():
    """After a loss the next connection is opened at once, and the gap between them is told when it is."""
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
async def test_loss_after_loss_waits_longer_until_a_connection_was_healthy():
    """A mere open does not start the delays over; 30 seconds do."""
    async with ScriptedFeed(reconnect_delays=lambda: itertools.count()) as feed:
        opened_at = []
        for n in range(1, 5):
            await feed.record.happened(Connected, n)
            opened_at.append(now())
            feed.websocket.end()
        await feed.record.happened(Connected, 5)
        await asyncio.sleep(31)
        feed.websocket.end()
        await feed.record.happened(Connected, 6)
        assert [after - before for before, after in itertools.pairwise(opened_at)] == [0, 1, 2]
        assert now() == opened_at[-1] + 3 + 31
        assert dict(feed.statistics().reconnects) == {"network": 5}


@in_virtual_time
async def test_loss_ends_the_hook_and_the_streams_made_in_it():
    """The rotation hook of a lost connection is cancelled; the next connection has its own."""
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
async def test_loss_in_the_very_moment_of_the_opening():
    """A connection that is over before it was announced is announced, lost and replaced."""
    first = ScriptedWebsocket()
    first.come("a")
    first.end()
    async with ScriptedFeed(first) as feed:
        await feed.record.entered(State.CONNECTED)
        assert feed.record.messages == ["a"]
        assert [event.number for event in feed.record.of(Connected)] == [1, 2]


# A rotation


async def overlap(feed, *numbers):
    """Let the same messages come on both connections of a feed."""
    for n in numbers:
        for websocket in feed.websockets[-2:]:
            websocket.come(str(n))
        await asyncio.sleep(0.1)


async def rotating(feed, count=2, *, at_once=False):
    """Rotate, and wait until the new connection is open, or at once; return the rotation's future."""
    rotated = feed.rotate()
    if not at_once:
        await feed.opened(count)
    return rotated


@in_virtual_time
async def test_rotation_is_made_when_the_hook_ends():
    """The end of the hook opens the next connection; the old one delivers until both agree, and is closed."""
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
async def test_rotation_is_made_when_the_hook_raises():
    """A hook that raises is reported, and rotates."""

    async def wait_rotation_due():
        feed.wait_rotation_due = never
        await asyncio.sleep(1)
        raise OSError("the REST call failed")

    async with ScriptedFeed(wait_rotation_due=wait_rotation_due, handover_timeout=1) as feed:
        await feed.record.happened(Rotated)
        (event,) = feed.record.of(CallbackFailed)
        assert (event.handler, str(event.error)) == ("ScriptedFeed._when2create_new_ws", "the REST call failed")


@in_virtual_time
async def test_rotation_when_somebody_cancels_the_hook(caplog):
    """A hook whose task is cancelled is over: it says so, and rotates, or it would be silent for ever."""

    async def wait_rotation_due():
        feed.wait_rotation_due = never
        await asyncio.sleep(1)
        asyncio.current_task().cancel()
        await never()

    async with ScriptedFeed(wait_rotation_due=wait_rotation_due, handover_timeout=1) as feed:
        await feed.record.happened(Rotated)
    (line,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert line.endswith("the task of _when2create_new_ws was cancelled: it is time to rotate")


def test_rotation_when_the_loop_is_torn_down(caplog):
    """A hook that ``asyncio.run`` cancels at its end says nothing, and rotates no more."""

    async def main():
        feeds.append(ScriptedFeed())
        await feeds[0].record.happened(Connected)

    feeds = []
    asyncio.run(main())
    assert "it is time" not in caplog.text


@in_virtual_time
async def test_rotate_tells_whether_the_first_attempt_succeeded():
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
    """Whoever waits for a connection, or for a rotation, may rotate at once: none is ignored."""
    async with ScriptedFeed(handover_timeout=1) as feed:
        await feed.wait_connected()
        for n in range(1, 6):
            assert await feed.rotate() is True
            assert len(feed.record.of(Rotated)) == n


@in_virtual_time
async def test_rotate_from_an_observer_of_the_state():
    """``rotate`` may be called by whoever is told that the feed is connected."""
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
    """Signals that come while a rotation runs are ignored; both callers wait for the same one."""
    async with ScriptedFeed(handover_timeout=1) as feed:
        await feed.wait_connected()
        assert await asyncio.gather(feed.rotate(), feed.rotate()) == [True, True]
        await asyncio.sleep(10)
        assert len(feed.websockets) == 2


@in_virtual_time
async def test_rotate_before_the_first_connection_waits_for_that():
    """Where there is no connection yet, the first one is what was asked for."""
    async with ScriptedFeed(REFUSED) as feed:
        assert await feed.rotate() is False
        assert await feed.rotate() is True
        assert len(feed.websockets) == 1


@in_virtual_time
async def test_rotate_when_the_feed_is_closed_meanwhile():
    """``exit`` answers whoever waits for a rotation: it did not succeed."""
    feed = ScriptedFeed(ScriptedWebsocket(), never)
    await feed.wait_connected()
    rotated = feed.rotate()
    await asyncio.sleep(0.1)
    await feed.exit()
    assert await rotated is False


@in_virtual_time
async def test_rotation_when_the_new_connection_is_refused():
    """The old connection stays and delivers; the attempt is told, and made again with backoff."""
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
async def test_rotation_when_it_is_of_no_use_ends_the_feed():
    """Three refused credentials in a row are final, also where the old connection still delivers."""
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(pytest.raises(ConnectFailed, match="401"))
        feed = await stack.enter_async_context(ScriptedFeed(ScriptedWebsocket(), *[status(401)] * 3))
        await feed.wait_connected()
        feed.rotate()
        await feed.record.entered(State.FAILED, timeout=300)
    assert feed.record.reasons[:3] == ["auth"] * 3


@in_virtual_time
async def test_rotation_when_the_new_connection_dies_in_the_overlap():
    """What the new one held is dropped, the old one stays, and the rotation is retried with backoff."""
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
        await overlap(feed, *range(4, 14))
        await feed.record.happened(Rotated)
        assert feed.record.messages == list(range(1, 14))
        assert feed.record.of(Gap) == []


@in_virtual_time
async def test_rotation_when_the_old_connection_dies_in_the_overlap():
    """What the new one held follows at once, after a gap; the rotation counts as one that was not proven."""
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
    """The connection that is being opened is the next one, with a gap; the loss waits for no delay of its own."""

    async def slowly():
        await asyncio.sleep(1)
        return ScriptedWebsocket()

    async with ScriptedFeed(ScriptedWebsocket(), slowly) as feed:
        await feed.wait_connected()
        await rotating(feed, at_once=True)
        await asyncio.sleep(0.5)
        feed.websocket.end()
        await feed.record.happened(Connected, 2)
        assert now() == 1
        assert len(feed.record.of(Gap)) == 1
        await feed.record.entered(State.CONNECTED, 2)
        assert feed.record.states[2:] == [State.ROTATING, State.CONNECTING, State.CONNECTED]


@in_virtual_time
async def test_rotation_when_the_old_connection_dies_before_the_new_one_is_refused():
    """An attempt that fails is told also where the old connection has ended meanwhile."""

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
async def test_rotation_when_the_old_connection_dies_while_the_next_attempt_is_waited_for():
    """The delay of a rotation's retry holds up no reconnection."""
    async with ScriptedFeed(ScriptedWebsocket(), REFUSED, reconnect_delays=delays(50, 0)) as feed:
        await feed.wait_connected()
        await rotating(feed, at_once=True)
        await asyncio.sleep(1)
        feed.websocket.end()
        await feed.record.happened(Connected, 2)
        assert now() == 1


@in_virtual_time
async def test_rotation_counts_what_is_too_much_when_the_old_connection_is_lost(monkeypatch):
    """What the new one brings before all is subscribed is nowhere else then, and what is not held is told."""
    monkeypatch.setattr("rxws.connections.rotation.Handover", functools.partial(Handover, limit=10))
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
async def test_rotate_asked_for_when_the_state_is_told():
    """It is about the rotation that follows, not about the one that the state tells of."""
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
    """There was no rotation: what was held follows between two gaps; if nothing was, there is one."""
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
    """The old one is read to its end, and the loss of the new one is made good, with a gap."""
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
    """It is sent on the new connection, whose messages are held, or for it alone: the reply is not waited for."""

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
    """One message is the reply of all that it passes; of one that is cancelled nothing is left."""
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
    """A reply that came before the loss has been had; one that comes on another connection counts as well."""
    async with ScriptedFeed(handover_timeout=5, reconnect_delays=lambda: [1]) as feed:
        await feed.wait_connected()
        await rotating(feed)
        await overlap(feed, 1)
        early, late, never = [
            asyncio.create_task(feed.request("ask", lambda message, n=n: message == n, timeout=3)) for n in (7, 8, 9)
        ]
        await asyncio.sleep(0.01)
        feed.websocket.come("7")
        feed.websocket.end()
        assert await early == 7
        feed.websockets[0].come("8")
        assert await late == 8
        with pytest.raises(TimeoutError, match="no message that passes"):
            await never
        assert feed.statistics().streams == 0


@in_virtual_time
async def test_request_in_a_rotation_on_a_real_server():
    """The reply comes while the two connections overlap, and not after."""

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
async def test_rotation_when_a_parse_hook_waits_for_ever():
    """What the old connection's parse hook waits for holds the rotation up by little more than the drain."""
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
    """Not even a hook that heeds no cancellation stops a rotation, and what it delivers too late goes nowhere."""
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
        # Its rotation hook ended because of the rotation: that is nothing to be told.
        assert "_when2create_new_ws" not in caplog.text


@in_virtual_time
async def test_rotation_right_after_a_rotation_waits_until_the_overlap_is_forgotten():
    """Two overlaps are never remembered at once: the second waits for the end of the first, while all is delivered."""
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
    """A connection that is lost while its overlap is remembered is replaced at once, also where a rotation waited."""
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
    """``exit`` frees the memory of an overlap at once."""
    async with ScriptedFeed(handover_settle=2, handover_timeout=3) as feed:
        await feed.wait_connected()
        await rotating(feed)
        feed.websockets[0].come("only on the old one")
        await feed.record.happened(Rotated)
    assert feed.record.states[-1] is State.CLOSED


@in_virtual_time
async def test_exit_in_the_moment_in_which_a_connection_is_entered():
    """A feed that is closed by an observer of the new connection is closed."""
    feed = ScriptedFeed()
    closing = []
    feed.events.subscribe(lambda event: closing.append(asyncio.ensure_future(feed.exit())))
    await feed.wait_closed()
    await asyncio.wait(closing)
    assert feed.record.states == [State.CONNECTING, State.CLOSED]


@in_virtual_time
async def test_rotation_without_handover_breaks_before_it_makes():
    """With ``handover_timeout=0`` the old connection is closed before the new one is opened, and a gap says so."""
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
    """It is retried, the first time as it comes; ``rotate`` tells that the first attempt failed."""
    async with ScriptedFeed(ScriptedWebsocket(), REFUSED, handover_timeout=0) as feed:
        await feed.wait_connected()
        assert await feed.rotate() is False
        await feed.record.happened(Rotated)
        assert len(feed.websockets) == 2


# Haste


@in_virtual_time
async def test_hooks_in_a_hurry_wait_longer_and_longer(caplog):
    """A hook that ends as soon as it had begun makes its rotation wait: 0.5 s at first, doubling to a minute."""

    async def at_once():
        pass

    async with ScriptedFeed(wait_rotation_due=at_once, handover_timeout=0) as feed:
        await feed.record.happened(Connected, 12, timeout=1000)
        times = [event.time for event in feed.record.of(Connected)]
        waits = [round(after - before, 1) for before, after in itertools.pairwise(times)]
        assert waits == [0.5, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60]
        assert "_when2create_new_ws ended as soon as it had begun: its rotation waits 0.5 s" in caplog.text


@in_virtual_time
async def test_hooks_that_take_their_time_are_not_delayed():
    """A hook that took longer than a quarter of a second rotates at once, and ends the haste before it."""
    seconds = iter([0, 0, 0.3, 0])

    async def wait_rotation_due():
        await asyncio.sleep(next(seconds, 1000))

    async with ScriptedFeed(wait_rotation_due=wait_rotation_due, handover_timeout=0) as feed:
        await feed.record.happened(Connected, 5, timeout=100)
        times = [event.time for event in feed.record.of(Connected)]
        waits = [round(after - before, 1) for before, after in itertools.pairwise(times)]
        assert waits == [0.5, 1, 0.3, 0.5]


@in_virtual_time
async def test_loss_while_a_hasty_rotation_waits():
    """A loss is made good at once, whatever its hook did."""

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
async def test_rotate_rotates_at_once_while_a_hasty_rotation_waits():
    """``rotate()`` does not wait for a rotation that is delayed because its hook ended too soon; it ends the haste."""

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


# The rest


@in_virtual_time
async def test_age_of_the_last_message():
    """The statistics know when the last message came, on whichever connection, also when none is open."""
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
    """A program that ends without ``exit`` ends: nothing hangs, complains, or is left open."""
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
async def test_cancellation_of_the_reading_task_alone_is_said(caplog):
    """Whoever cancels it, a parse hook say, ends the feed: not without a word, for that is no way to close it."""
    async with ScriptedFeed() as feed:
        await feed.wait_connected()
        (reader,) = [task for task in asyncio.all_tasks() if task.get_name() == "rxws reader 1"]
        reader.cancel()
        await feed.wait_closed()
    (record,) = [each for each in caplog.records if "ended without being closed" in each.message]
    assert record.levelno == logging.ERROR


@in_virtual_time
async def test_log_has_each_state(caplog):
    """However soon one follows another: none hides the next."""
    caplog.set_level(logging.DEBUG, "rxws")
    async with ScriptedFeed() as feed:
        await feed.wait_connected()
        feed.websocket.end()
        await feed.record.entered(State.CONNECTED, 2)
    states = [record.message.partition(": ")[2] for record in caplog.records if record.levelno == logging.DEBUG]
    assert [state for state in states if "connection " not in state] == ["connected", "connecting", "closed"]
    assert [state for state in states if state.startswith("connection 1 ")] == [
        "connection 1 is live",
        "connection 1 is ended",
    ]


@in_virtual_time
async def test_log_has_no_line_more_than_once_a_second(caplog, virtual_time):
    """However often a server accepts and closes, each kind of line is logged once a second at most, and each state."""
    caplog.set_level(logging.DEBUG, "rxws")
    logged = []

    def note(record):
        kind = record.msg if record.levelno > logging.DEBUG else record.getMessage().partition(" (")[0]
        logged.append((kind, virtual_time.time()))
        return True

    logging.getLogger("rxws").addFilter(note)

    async def flapping():
        websocket = ScriptedWebsocket()
        websocket.end()
        return websocket

    async with ScriptedFeed(*[flapping, REFUSED] * 200, reconnect_delays=delays(0.01)) as feed:
        await feed.record.happened(Connected, 150)
    logging.getLogger("rxws").removeFilter(note)
    lines = {}
    for line, at in logged:
        assert at - lines.get(line, -1) >= 1, line
        lines[line] = at
    assert len(lines) >= 3


@in_virtual_time
async def test_feeds_without_events_are_quiet():
    """Nothing of a life without trouble is a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        async with ScriptedFeed() as feed:
            await feed.wait_connected()
    assert isinstance(feed, rxws.AsyncWebsocketStreamInterface)
