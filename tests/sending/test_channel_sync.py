"""Subscribing the wanted channels on one connection, and keeping them in sync."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import math

import pytest

import rxws
from rxws import CallbackFailed, Connected, Disconnected, Rotated, State, SubscriptionFailed
from tests.support.life import ScriptedFeed, ScriptedWebsocket

pytestmark = pytest.mark.usefixtures("virtual_time", "assert_no_leaks")


def now():
    """Return the loop's time, rounded to the relevant digits."""
    return round(asyncio.get_running_loop().time(), 2)


async def settle():
    """Let all tasks run until they wait for something."""
    await asyncio.sleep(0.001)


def answering(websocket, answers=lambda message: f"ok {message}"):
    """Let the server answer each message."""

    def answer(message):
        reply = answers(message)
        if reply is not None:
            websocket.come(reply)

    websocket.on_send = answer
    return websocket


def is_answer_to(message):
    """Return the filter of a message's answer."""
    return lambda answer: answer == f"ok {message}"


def channel(feed, name, **options):
    """Return a stream of a channel."""
    return feed.multiplex(f"+{name}", f"-{name}", filters=lambda message: message == name, **options)


async def test_channel_is_subscribed_once_when_several_streams_want_it():
    """The first stream of a channel subscribes it, and closing the last one unsubscribes it."""
    async with ScriptedFeed() as feed:
        await feed.wait_connected()
        streams = [channel(feed, "a") for _ in range(3)]
        await settle()
        assert feed.websocket.sent == ["+a"]
        for stream in streams[:2]:
            await stream.close()
        await settle()
        assert feed.websocket.sent == ["+a"]
        await streams[2].close()
        await streams[2].close()
        await settle()
        assert feed.websocket.sent == ["+a", "-a"]


async def test_channel_is_unsubscribed_when_its_stream_is_collected_or_overflows():
    """A stream that is collected or overflows unsubscribes its channel as a closed stream does."""
    async with ScriptedFeed() as feed:
        await feed.wait_connected()
        stream = channel(feed, "a")
        full = channel(feed, "b", maxsize=1)
        await settle()
        del stream
        feed.websocket.come("b", "b")
        await settle()
        assert feed.websocket.sent == ["+a", "+b", "-a", "-b"]
        del full


async def test_nothing_is_sent_when_there_is_no_unsubscribe_message():
    """Without ``unsubscribe`` nothing is sent for a dropped channel. If it is wanted again, it is subscribed again."""
    async with ScriptedFeed() as feed:
        await feed.wait_connected()
        for _ in range(2):
            await feed.multiplex("+a", filters=None).close()
            stream = feed.multiplex("+a", filters=None)
            await settle()
            await stream.close()
            await settle()
        assert feed.websocket.sent == ["+a", "+a"]


async def test_both_messages_are_sent_when_a_channel_is_closed_and_made_again_in_one_go():
    """A stream that is closed and made again at once unsubscribes and subscribes again, even several times in one go.

    The new stream begins after the server's answer.
    """
    websocket = answering(ScriptedWebsocket())
    async with ScriptedFeed(websocket) as feed:
        await feed.wait_connected()
        stream = channel(feed, "a", acknowledged=is_answer_to("+a"))
        await settle()
        for _ in range(50):
            await stream.close()
            stream = channel(feed, "a", acknowledged=is_answer_to("+a"), gaps=True)
        websocket.come("a")
        await settle()
        assert websocket.sent == ["+a", "-a", "+a"]
        websocket.come("a")
        assert [(await anext(stream)).reason, await anext(stream)] == ["user", "a"]
        assert not stream.pending


async def test_commands_alternate_when_a_channel_changes_fast():
    """When a channel changes faster than the server answers, subscribe and unsubscribe commands strictly alternate."""
    websocket = ScriptedWebsocket()

    async def slowly(message):
        await asyncio.sleep(0.03)
        asyncio.get_running_loop().call_later(0.05, websocket.come, f"ok {message}")

    websocket.on_send = slowly
    async with ScriptedFeed(websocket) as feed:
        await feed.wait_connected()
        stream = None
        for _ in range(200):
            stream = channel(feed, "a", acknowledged=is_answer_to("+a"))
            await asyncio.sleep(0.013)
            await stream.close()
            await asyncio.sleep(0.007)
        stream = channel(feed, "a", acknowledged=is_answer_to("+a"))
        await asyncio.sleep(1)
        assert len(websocket.sent) > 20
        assert websocket.sent == ["+a" if n % 2 == 0 else "-a" for n in range(len(websocket.sent))]
        assert websocket.sent[-1] == "+a"


async def test_channels_are_acknowledged_when_a_connection_counts_as_open():
    """State, ``wait_connected`` and events show a new connection as open only when all channels are acknowledged."""
    first, second = answering(ScriptedWebsocket()), ScriptedWebsocket()
    async with ScriptedFeed(first, second, reconnect_delays=lambda: [0]) as feed:
        streams = [channel(feed, name, acknowledged=is_answer_to(f"+{name}")) for name in "ab"]
        await feed.wait_connected()
        assert first.sent == ["+a", "+b"]
        first.end()
        await feed.opened(2)
        await settle()
        assert (second.sent, feed.state.value, feed.present_ws) == (["+a", "+b"], State.CONNECTING, None)
        second.come("ok +a")
        await settle()
        assert len(feed.record.of(Connected)) == 1
        second.come("b", "ok +b")
        await feed.wait_connected()
        assert feed.present_ws is second
        await settle()
        assert len(feed.record.of(Connected)) == 2
        # After a loss the answers are delivered as messages.
        assert feed.record.messages == ["ok +a", "ok +b", "ok +a", "b", "ok +b"]
        assert [stream.pending for stream in streams] == [0, 1]


async def test_function_is_called_again_when_a_connection_is_new():
    """A ``subscribe`` function is called for every connection, and the function itself is the channel's identity."""
    numbers = iter(range(1, 9))

    async def token():
        await asyncio.sleep(0.1)
        return {"token": next(numbers)}

    async with ScriptedFeed(reconnect_delays=lambda: [0]) as feed:
        streams = [feed.multiplex(token, lambda: f"-{next(numbers)}", filters=None) for _ in range(2)]
        await feed.wait_connected()
        feed.websocket.end()
        await feed.opened(2)
        await feed.wait_connected()
        for stream in streams:
            await stream.close()
        await settle()
        assert feed.websockets[0].sent == ['{"token":1}']
        assert feed.websockets[1].sent == ['{"token":2}', "-3"]


async def test_failure_is_reported_when_a_function_returns_none():
    """A ``subscribe`` function that returns None is reported and called again."""
    answers = iter([None, "+a"])
    async with ScriptedFeed() as feed:
        stream = feed.multiplex(lambda: next(answers), filters=None)
        await feed.wait_connected()
        await settle()
        assert feed.statistics().failures == 1
        assert feed.websocket.sent == ["+a"]
        await stream.close()


async def test_connection_opens_when_a_function_raises():
    """A connection opens without a channel whose function raises; only this function is reported and called again."""

    def token():
        if now() < 3:
            raise LookupError("no token")
        return "+a"

    async with ScriptedFeed() as feed:
        streams = [feed.multiplex(token, filters=None), channel(feed, "b"), channel(feed, "c")]
        await feed.wait_connected()
        assert now() == 0
        assert feed.websocket.sent == ["+b", "+c"]
        await asyncio.sleep(40)
        assert feed.websocket.sent == ["+b", "+c", "+a"]
        failures = feed.record.of(CallbackFailed)
        assert len(failures) > 1
        assert "no token" in str(failures[0].error)
        assert feed.record.of(Disconnected) == []
        del streams


async def test_other_channels_work_when_a_function_always_raises():
    """A function that always raises is called and reported after growing delays; other channels are not affected."""
    async with ScriptedFeed() as feed:
        broken = feed.multiplex(lambda: len(7), filters=None)
        stream = channel(feed, "a")
        await feed.wait_connected()
        feed.websocket.come("a")
        assert await anext(stream) == "a"
        await asyncio.sleep(600)
        assert 10 < len(feed.record.of(CallbackFailed)) < 60
        assert feed.websocket.sent == ["+a"]
        await broken.close()
        reported = len(feed.record.of(CallbackFailed))
        await asyncio.sleep(600)
        assert len(feed.record.of(CallbackFailed)) == reported


async def test_rotation_waits_when_a_function_raises():
    """A rotation waits ten seconds for a channel that fails, because the old connection still delivers."""
    fails_until = {1: 0.0}

    def token():
        if now() < fails_until[1]:
            raise LookupError("no token")
        return "+a"

    async with ScriptedFeed() as feed:
        stream = feed.multiplex(token, filters=None)
        await feed.wait_connected()
        fails_until[1] = now() + 4
        rotated = feed.rotate()
        await asyncio.sleep(3)
        assert not rotated.done()
        await asyncio.sleep(40)
        assert [websocket.sent for websocket in feed.websockets] == [["+a"], ["+a"]]
        fails_until[1] = math.inf
        before = now()
        rotated = feed.rotate()
        await asyncio.sleep(30)
        assert rotated.done()
        assert feed.record.of(Rotated)[-1].time - feed.record.of(Rotated)[0].time < now() - before + 50
        assert feed.websockets[2].sent == []
        await stream.close()


async def test_connection_opens_when_a_function_takes_too_long():
    """A function must return its message within ``send_timeout``; otherwise the connection opens without it."""
    waits = iter([3600])

    async def token():
        for seconds in waits:
            await asyncio.sleep(seconds)
        return "+a"

    async with ScriptedFeed(send_timeout=4) as feed:
        streams = [feed.multiplex(token, filters=None), channel(feed, "b")]
        await settle()
        assert feed.websocket.sent == ["+b"]
        await feed.wait_connected()
        assert now() == 4
        await settle()
        assert feed.websocket.sent == ["+b", "+a"]
        del streams


async def test_opening_takes_one_timeout_when_no_channel_is_acknowledged():
    """Opening waits for all missing answers at once, so it takes one timeout for any number of channels."""
    async with ScriptedFeed() as feed:
        streams = [channel(feed, n, acknowledged=is_answer_to(f"+{n}"), timeout=5) for n in range(50)]
        await feed.wait_connected()
        assert now() == 5
        await feed.send("at once")
        assert now() == 5
        await asyncio.sleep(6)
        feed.websocket.sent.remove("at once")
        assert feed.websocket.sent[:50] == [f"+{n}" for n in range(50)]
        assert sorted(feed.websocket.sent[50:]) == sorted(feed.websocket.sent[:50])
        assert len(feed.record.of(SubscriptionFailed)) == feed.statistics().unacknowledged == 100
        del streams


async def test_opening_takes_the_longest_timeout_when_timeouts_differ():
    """Each channel has its own timeout, and opening waits for the longest one, once."""
    async with ScriptedFeed() as feed:
        streams = [channel(feed, n, acknowledged=is_answer_to(f"+{n}"), timeout=n) for n in (2, 5)]
        await feed.wait_connected()
        assert now() == 5
        del streams


async def test_rotation_waits_for_the_second_attempt_when_the_first_is_unanswered():
    """In a rotation opening also waits for the second attempt, because the old connection still delivers."""
    first = answering(ScriptedWebsocket(), lambda message: f"ok {message}")
    async with ScriptedFeed(first, handover_timeout=1) as feed:
        stream = channel(feed, "a", acknowledged=is_answer_to("+a"), timeout=2)
        await feed.wait_connected()
        began = now()
        assert await feed.rotate()
        assert 4 <= now() - began < 6
        assert feed.websocket.sent == ["+a", "+a"]
        del stream


@pytest.mark.parametrize(("lost_after", "opens_after"), [(1, 5), (7, 7), (30, 10)])
async def test_opening_takes_one_timeout_when_the_old_connection_is_lost(lost_after, opens_after):
    """If the old connection is lost, opening waits for one attempt only, because no connection delivers."""
    first = answering(ScriptedWebsocket())
    async with ScriptedFeed(first, handover_timeout=1) as feed:
        stream = channel(feed, "a", acknowledged=is_answer_to("+a"), timeout=5)
        await feed.wait_connected()
        began = now()
        rotating = asyncio.ensure_future(feed.rotate())
        losing = asyncio.get_running_loop().call_later(lost_after, first.end)
        await feed.opened(2)
        while feed.present_ws is not feed.websockets[1]:
            await asyncio.sleep(0.05)
        assert now() - began == pytest.approx(opens_after, abs=0.2)
        losing.cancel()
        await rotating
        await stream.close()


async def test_rotation_stops_waiting_when_the_old_connection_is_lost():
    """A rotation waits for a failing channel only as long as the old connection delivers."""
    tokens = iter(["+a"])
    async with ScriptedFeed() as feed:
        stream = feed.multiplex(lambda: next(tokens, None), filters=None)
        await feed.wait_connected()
        rotating = asyncio.ensure_future(feed.rotate())
        await feed.opened(2)
        await asyncio.sleep(3)
        assert feed.state.value is State.ROTATING
        feed.websockets[0].end()
        await feed.record.happened(Connected, 2)
        assert now() == pytest.approx(3, abs=0.2)
        await rotating
        await stream.close()


@pytest.mark.slow
async def test_thousand_commands_are_in_flight_when_more_channels_are_wanted():
    """At most a thousand commands wait for answers at once; each answer makes room for the next channel."""
    async with ScriptedFeed() as feed:
        streams = [channel(feed, n, acknowledged=is_answer_to(f"+{n}")) for n in range(1_500)]
        await settle()
        assert feed.websocket.sent == [f"+{n}" for n in range(1_000)]
        feed.websocket.come(*[f"ok +{n}" for n in range(600)])
        await settle()
        assert feed.websocket.sent == [f"+{n}" for n in range(1_500)]
        feed.websocket.come(*[f"ok +{n}" for n in range(600, 1_500)])
        await feed.wait_connected()
        assert feed.record.of(SubscriptionFailed) == []
        del streams


@pytest.mark.parametrize("rotates", [False, True], ids=["loss", "rotation"])
@pytest.mark.parametrize("names", [10**6, 3], ids=["ever new channels", "the same three"])
async def test_connection_opens_when_channels_change_faster_than_they_are_sent(names, rotates):
    """A connection opens although channels change faster than ``send_limit`` allows."""
    async with ScriptedFeed(send_limit=(5, 1)) as feed:
        await feed.wait_connected()

        async def churn():
            for n in itertools.count():
                stream = channel(feed, n % names)
                await asyncio.sleep(0.05)
                if n % 2 or names == 3:
                    await stream.close()
                else:
                    streams.append(stream)

        streams = [channel(feed, -n) for n in range(1, 20)]
        churning = asyncio.create_task(churn())
        await asyncio.sleep(5)
        began = now()
        rotating = feed.rotate() if rotates else feed.websocket.end()
        second = await feed.opened(2)
        while feed.present_ws is not second:
            assert now() - began < 120
            await asyncio.sleep(0.1)
        # Channels that were wanted before are subscribed.
        assert {f"+{-n}" for n in range(1, 20)} <= set(feed.websocket.sent)
        churning.cancel()
        await asyncio.wait({churning})
        streams.clear()
        assert rotating is None or await rotating


async def test_connection_opens_when_later_channels_are_unanswered():
    """After ten seconds opening waits neither for newly wanted channels nor for second attempts."""
    async with ScriptedFeed(send_limit=(1, 4.9)) as feed:
        streams = [
            channel(feed, "x", acknowledged=is_answer_to("+x"), timeout=12),
            *(channel(feed, n) for n in range(5)),
        ]
        await asyncio.sleep(11)
        streams += [channel(feed, f"later {n}") for n in range(9)]
        await feed.wait_connected()
        assert now() == 25
        assert feed.websocket.sent == ["+x", *(f"+{n}" for n in range(5))]
        del streams


async def test_answer_serves_the_longest_waiting_channel_when_answers_are_alike():
    """If all answers are equal, each is assigned to the channel that has waited longest."""
    async with ScriptedFeed() as feed:
        streams = [channel(feed, n, acknowledged=lambda answer: answer == "ok", timeout=5) for n in "abc"]
        await settle()
        feed.websocket.come("ok", "ok")
        await feed.wait_connected()
        await asyncio.sleep(6)
        assert feed.websocket.sent == ["+a", "+b", "+c", "+c"]
        assert len(feed.record.of(SubscriptionFailed)) == 2
        del streams


@pytest.mark.parametrize("given", ["a message", "a function"])
async def test_order_of_calls_is_the_order_on_the_wire_when_sending_is_not_limited(given):
    """A ``send``, a ``request`` or a ``multiplex`` after a ``multiplex`` call does not overtake that subscription."""

    def wanted(feed, name):
        message = f"+{name}" if given == "a message" else lambda: f"+{name}"
        return feed.multiplex(message, f"-{name}", filters=None, acknowledged=is_answer_to(f"+{name}"))

    async with ScriptedFeed() as feed:
        await feed.wait_connected()
        streams = [wanted(feed, "a")]
        asking = asyncio.ensure_future(feed.request("1", lambda message: message == "reply"))
        await asyncio.sleep(0)
        streams.append(wanted(feed, "b"))
        await feed.send("2")
        await feed.send("3")
        streams.append(wanted(feed, "c"))
        await streams[0].close()
        sending = [asyncio.ensure_future(feed.send(text)) for text in "45"]
        await settle()
        feed.websocket.come("ok +a", "reply")
        await asking
        await asyncio.gather(*sending)
        await streams[1].close()
        feed.websocket.come("ok +b")
        await settle()
        assert [text for text in feed.websocket.sent if text[0] != "-"] == ["+a", "1", "+b", "2", "3", "+c", "4", "5"]
        del streams


async def test_sends_keep_their_order_when_one_is_called_between_the_turns_of_others():
    """A ``send`` that is called while an earlier ``send`` waits does not overtake it."""
    loop = asyncio.get_running_loop()
    async with ScriptedFeed() as feed:
        await feed.wait_connected()
        sending = []

        def send(*texts):
            for text in texts:
                coroutine = feed.send(text)
                sending.append(loop.create_task(coroutine))

        loop.call_soon(lambda: loop.call_soon(lambda: loop.call_soon(send, "3")))
        stream = channel(feed, "a")
        send("1", "2")
        await asyncio.sleep(1)
        assert feed.websocket.sent == ["+a", "1", "2", "3"]
        await asyncio.gather(*sending)
        await stream.close()


async def test_message_is_not_held_up_when_a_function_takes_long():
    """A ``send`` does not wait for a ``subscribe`` function that is a slow coroutine function."""

    async def token():
        await asyncio.sleep(3)
        return "+a"

    async with ScriptedFeed() as feed:
        await feed.wait_connected()
        stream = feed.multiplex(token, filters=None)
        await feed.send("1")
        assert feed.websocket.sent == ["1"]
        await asyncio.sleep(5)
        assert feed.websocket.sent == ["1", "+a"]
        await stream.close()


async def test_failure_is_repeated_when_a_function_raises_on_an_open_connection():
    """On an open connection a function that raises is reported and called again; the connection stays."""
    errors = iter([ValueError("a"), asyncio.CancelledError(), rxws.SendTimeout("of another feed")])

    def token():
        for error in errors:
            raise error
        return "+a"

    async with ScriptedFeed() as feed:
        await feed.wait_connected()
        stream = feed.multiplex(token, filters=None)
        await asyncio.sleep(10)
        assert feed.websocket.sent == ["+a"]
        assert len(feed.record.of(CallbackFailed)) == 3
        assert feed.record.of(Disconnected) == []
        await stream.close()


async def test_channels_share_messages_when_they_are_combined():
    """Five hundred channels need three messages of at most two hundred channels; one channel alone is not combined."""

    def combined(messages):
        return {"subscribe": [name for message in messages for name in message["subscribe"]]}

    async with ScriptedFeed() as feed:
        streams = [feed.multiplex({"subscribe": [n]}, filters=None, combine=combined) for n in range(500)]
        await feed.wait_connected()
        sent = [json.loads(message)["subscribe"] for message in feed.websocket.sent]
        assert [len(names) for names in sent] == [200, 200, 100]
        assert [name for names in sent for name in names] == list(range(500))
        streams.append(feed.multiplex({"subscribe": ["one"]}, filters=None, combine=combined))
        await settle()
        assert feed.websocket.sent[3:] == ['{"subscribe":["one"]}']


async def test_all_channels_are_sent_when_more_than_the_limit_are_unanswered(monkeypatch):
    """Commands whose answer is late do not count against the limit, so they do not block other subscriptions."""
    monkeypatch.setattr("rxws.sending.channel_sync.MAX_COMMANDS", 2)
    async with ScriptedFeed() as feed:
        streams = [feed.multiplex(f"+{n}", filters=None, acknowledged=[{"never": n}], timeout=1.0) for n in range(7)]
        await feed.wait_connected()
        assert {f"+{n}" for n in range(7)} <= set(feed.websocket.sent)
        assert now() == 4
        del streams


async def test_messages_stay_the_same_when_combine_changes_them():
    """``combine`` gets copies, so the next connection sends the original messages."""

    def combine(messages):
        first, *rest = messages
        for each in rest:
            first["params"] += each["params"]
        return first

    async with ScriptedFeed() as feed:
        streams = [feed.multiplex({"params": [n]}, filters=None, combine=combine) for n in range(3)]
        await feed.wait_connected()
        first = feed.websocket
        first.end()
        await feed.record.happened(Connected, 2)
        assert first.sent == feed.websocket.sent == ['{"params":[0,1,2]}']
        del streams


def combined(messages):
    """Combine messages; raise if one of them is bad."""
    if "bad" in messages:
        raise ValueError("a bad one")
    return "+".join(messages)


async def test_channels_are_sent_alone_when_combine_raises():
    """A ``combine`` that raises is reported once, and each message is sent alone before the connection opens."""
    async with ScriptedFeed(send_limit=(1, 9.9)) as feed:
        streams = [feed.multiplex(name, filters=None, combine=combined) for name in ("a", "bad", "b")]
        await feed.wait_connected()
        assert now() == 20
        assert feed.websocket.sent == ["a", "bad", "b"]
        (failed,) = feed.record.of(CallbackFailed)
        assert failed.handler.endswith("combined")
        await streams.pop(1).close()
        streams += [feed.multiplex(name, filters=None, combine=combined) for name in ("c", "d")]
        await asyncio.sleep(60)
        assert feed.websocket.sent == ["a", "bad", "b", "c+d"]
        assert len(feed.record.of(CallbackFailed)) == 1


async def test_rotation_waits_when_combine_raises_late():
    """If ``combine`` raises, a rotation still waits until all channels are subscribed on the new connection."""
    async with ScriptedFeed(send_limit=(1, 4.9)) as feed:
        streams = [channel(feed, n) for n in range(5)]
        await feed.wait_connected()
        streams += [feed.multiplex(name, filters=None, combine=combined) for name in ("a", "bad")]
        await asyncio.sleep(60)
        rotating = asyncio.ensure_future(feed.rotate())
        second = await feed.opened(2)
        while feed.present_ws is not second:
            await asyncio.sleep(0.1)
        assert second.sent == [*(f"+{n}" for n in range(5)), "a", "bad"]
        assert len(feed.record.of(CallbackFailed)) == 2
        await rotating
        del streams


async def test_slot_is_released_when_combine_raises():
    """If ``combine`` raises, its slot is released, and only a channel that cannot be sent alone is postponed."""
    tokens = iter([1j, 1j])

    def number():
        return next(tokens, "b")

    async with ScriptedFeed(send_limit=(2, 60)) as feed:
        await feed.wait_connected()
        streams = [feed.multiplex(each, filters=None, combine=tuple) for each in ("a", number)]
        await asyncio.sleep(5)
        assert feed.websocket.sent == ["a", "b"]
        assert [type(event.error) for event in feed.record.of(CallbackFailed)] == [TypeError] * 2
        del streams


@pytest.mark.parametrize("given", [None, {1j}])
async def test_failure_is_reported_when_combine_returns_no_message(given):
    """A ``combine`` that returns None or a value that cannot be encoded is reported."""

    def combine(messages):
        return given

    async with ScriptedFeed() as feed:
        await feed.wait_connected()
        streams = [feed.multiplex(name, filters=None, combine=combine) for name in "ab"]
        await settle()
        assert feed.websocket.sent == ["a", "b"]
        (failed,) = feed.record.of(CallbackFailed)
        assert given is not None or "combine must return a message, not None" in str(failed.error)
        del streams


async def test_one_answer_is_enough_when_channels_are_combined():
    """A combined message needs one answer that passes any channel's filter, within the longest of their timeouts."""
    async with ScriptedFeed() as feed:
        await feed.wait_connected()
        feed.websocket.on_send = lambda _: (
            asyncio.get_running_loop().call_later(3, feed.websocket.come, "ok b") and None
        )
        streams = [
            feed.multiplex(name, filters=None, combine="".join, acknowledged=is_answer_to(name), timeout=timeout)
            for name, timeout in (("a", 1), ("b", 5))
        ]
        streams.append(feed.multiplex("later", filters=None))
        await asyncio.sleep(20)
        assert feed.websocket.sent == ["ab", "later"]
        assert feed.record.of(SubscriptionFailed) == []


async def test_no_slot_is_kept_when_a_subscription_is_not_answered():
    """An unanswered subscription uses two slots of the send limit, one for each attempt, and the third slot is free."""
    async with ScriptedFeed(ScriptedWebsocket(), send_limit=(3, 1000)) as feed:
        stream = feed.multiplex("+a", filters=None, acknowledged=[{"id": 1}], timeout=2)
        await feed.wait_connected()
        await asyncio.sleep(10)
        await feed.send("mine")
        assert feed.websocket.sent == ["+a", "+a", "mine"]
        await stream.close()


async def test_next_combined_message_is_sent_when_the_one_before_is_not_answered():
    """Channels that become wanted while a message waits for its slot are combined into the message of the next slot."""
    async with ScriptedFeed(ScriptedWebsocket(), send_limit=(1, 10)) as feed:
        options = {"filters": None, "acknowledged": [{"id": 1}], "combine": "".join, "timeout": 100}
        streams = []
        for names in ("a", "b", "cd"):
            streams += [feed.multiplex(name, **options) for name in names]
            await asyncio.sleep(1)
        await asyncio.sleep(25)
        assert feed.websocket.sent == ["a", "b", "cd"]
        for stream in streams:
            await stream.close()


def one_by_one(feed, names, rejected="named", **options):
    """Return streams of channels that share a message and get separate answers."""
    refusals = {"named": lambda name: [{"no": name}], "alike": lambda name: lambda message: "no" in message}
    options = {"acknowledged": "ok", "timeout": 5} | options
    return [
        feed.multiplex(
            name,
            f"-{name}",
            filters=None,
            combine="".join,
            acknowledged=[{options["acknowledged"]: name}],
            rejected=refusals[rejected](name),
            timeout=options["timeout"],
        )
        for name in names
    ]


@pytest.mark.parametrize("rejected", ["named", "alike"])
@pytest.mark.parametrize("order", ["abc", "bac", "cab", "acb"])
@pytest.mark.parametrize("pause", [0.0, 0.4])
async def test_only_the_refused_channel_is_refused_when_answers_arrive_one_by_one(rejected, order, pause):
    """If each channel of a combined message is answered, in any order, a refusal applies to one channel only."""
    async with ScriptedFeed(parse=json.loads) as feed:
        await feed.wait_connected()
        streams = one_by_one(feed, "abc", rejected)
        await settle()
        for name in order:
            feed.websocket.come(json.dumps({"no" if name == "b" else "ok": name}))
            await asyncio.sleep(pause)
        await asyncio.sleep(60)
        assert feed.websocket.sent == ["abc"]
        (told,) = feed.record.of(SubscriptionFailed)
        assert (told.message, told.attempt, told.refusal, told.combined) == ("b", 1, "{'no': 'b'}", 1)
        for stream in streams:
            await stream.close()
        await settle()
        assert feed.websocket.sent == ["abc", "-a", "-c"]


@pytest.mark.parametrize("rejected", ["named", "alike"])
async def test_each_refused_channel_is_reported_when_two_are_refused(rejected):
    """If two of three channels are refused, each has an event with its own answer, even if the filters are equal."""
    async with ScriptedFeed(parse=json.loads) as feed:
        await feed.wait_connected()
        streams = one_by_one(feed, "abc", rejected)
        await settle()
        feed.websocket.come('{"no":"a"}', '{"no":"b"}', '{"ok":"c"}')
        await asyncio.sleep(60)
        assert feed.websocket.sent == ["abc"]
        told = [(each.message, each.refusal, each.combined) for each in feed.record.of(SubscriptionFailed)]
        assert told == [("a", "{'no': 'a'}", 1), ("b", "{'no': 'b'}", 1)]
        assert len(streams) == 3


async def test_filter_of_consents_names_the_refused_channel_when_refusals_are_alike():
    """If all channels have the same ``rejected``, the id in ``acknowledged`` decides which channel is refused."""
    async with ScriptedFeed(parse=json.loads) as feed:
        await feed.wait_connected()
        streams = one_by_one(feed, "abc", "alike", acknowledged="id")
        await settle()
        feed.websocket.come('{"id":"b","no":1}', '{"id":"a"}')
        await settle()
        assert [(each.message, each.combined) for each in feed.record.of(SubscriptionFailed)] == [("b", 1)]
        feed.websocket.come('{"id":"c"}')
        await asyncio.sleep(60)
        assert feed.websocket.sent == ["abc"]
        assert len(streams) == 3


async def test_only_unanswered_channels_are_sent_again_when_answers_arrive_one_by_one():
    """If only some channels of a message are answered, the others are reported and sent again in one message."""
    async with ScriptedFeed(parse=json.loads) as feed:
        await feed.wait_connected()
        streams = one_by_one(feed, "abcd")
        await settle()
        feed.websocket.come('{"ok":"a"}', '{"ok":"d"}')
        await asyncio.sleep(4)
        assert feed.websocket.sent == ["abcd"]
        await asyncio.sleep(2)
        assert feed.websocket.sent == ["abcd", "bc"]
        feed.websocket.come('{"ok":"c"}')
        await asyncio.sleep(60)
        assert feed.websocket.sent == ["abcd", "bc"]
        told = [
            (each.message, each.attempt, each.refusal, each.combined) for each in feed.record.of(SubscriptionFailed)
        ]
        assert told == [("bc", 1, None, 2)]
        assert len(streams) == 4


async def test_nothing_is_sent_again_when_the_answer_arrives_during_the_wait_for_a_slot():
    """An answer still counts while the second attempt waits for a slot of ``send_limit``; the slot is released."""
    async with ScriptedFeed(send_limit=(1, 9.9)) as feed:
        await feed.wait_connected()
        stream = channel(feed, "a", acknowledged=is_answer_to("+a"), timeout=2)
        await asyncio.sleep(5)
        assert [each.attempt for each in feed.record.of(SubscriptionFailed)] == [1]
        feed.websocket.come("ok +a")
        await asyncio.sleep(6)
        assert feed.websocket.sent == ["+a"]
        await asyncio.wait_for(feed.send("next"), 0.1)
        await asyncio.sleep(20)
        assert feed.websocket.sent == ["+a", "next"]
        assert len(feed.record.of(SubscriptionFailed)) == 1
        del stream


async def test_refusal_during_the_wait_for_a_slot_counts():
    """A refusal still counts while the second attempt waits for a slot of ``send_limit``."""
    async with ScriptedFeed(send_limit=(1, 9.9)) as feed:
        await feed.wait_connected()
        stream = channel(feed, "a", acknowledged=is_answer_to("+a"), rejected=lambda each: each == "no", timeout=2)
        await asyncio.sleep(5)
        feed.websocket.come("no")
        await asyncio.sleep(20)
        assert feed.websocket.sent == ["+a"]
        assert [each.refusal for each in feed.record.of(SubscriptionFailed)] == [None, "'no'"]
        del stream


async def test_unclear_refusals_are_found_by_halving_when_some_channels_are_accepted():
    """If it is unknown which of several channels was refused, only these are sent again, in halves."""
    async with ScriptedFeed(parse=json.loads) as feed:
        await feed.wait_connected()
        streams = one_by_one(feed, "abc", "alike")
        await settle()
        feed.websocket.come('{"ok":"a"}', '{"no":"?"}')
        await asyncio.sleep(3)
        assert feed.websocket.sent == ["abc", "b", "c"]
        feed.websocket.come('{"ok":"b"}', '{"no":"c"}')
        await asyncio.sleep(60)
        assert feed.websocket.sent == ["abc", "b", "c"]
        told = [(each.message, each.combined) for each in feed.record.of(SubscriptionFailed)]
        assert told == [("bc", 2), ("c", 1)]
        assert len(streams) == 3


async def test_channel_without_an_answer_is_done_with_the_others_when_it_shares_a_message():
    """In a combined message a channel without ``acknowledged`` is subscribed, or sent again, with the others."""
    async with ScriptedFeed(parse=json.loads) as feed:
        await feed.wait_connected()
        streams = [feed.multiplex("x", "-x", filters=None, combine="".join), *one_by_one(feed, "ab")]
        await settle()
        feed.websocket.come('{"no":"a"}')
        await asyncio.sleep(2)
        assert feed.websocket.sent == ["xab", "xa", "b"]
        feed.websocket.come('{"ok":"a"}', '{"ok":"b"}')
        await settle()
        assert [each.combined for each in feed.record.of(SubscriptionFailed)] == [3]
        for stream in streams:
            await stream.close()
        await settle()
        assert feed.websocket.sent[3:] == ["-x", "-a", "-b"]


async def test_channel_is_unsubscribed_when_others_of_its_message_are_unanswered():
    """An accepted channel counts as subscribed at once, although other channels of its message have no answer yet."""
    async with ScriptedFeed(parse=json.loads) as feed:
        await feed.wait_connected()
        first, *others = one_by_one(feed, "abc")
        await settle()
        await first.close()
        feed.websocket.come('{"ok":"a"}', '{"ok":"b"}')
        await settle()
        assert feed.websocket.sent == ["abc", "-a"]
        feed.websocket.come('{"ok":"c"}')
        await asyncio.sleep(60)
        assert feed.websocket.sent == ["abc", "-a"]
        assert len(others) == 2


async def test_subscription_is_sent_twice_when_it_is_not_answered():
    """A channel without an answer is reported and sent exactly once more; then it counts as subscribed."""
    async with ScriptedFeed() as feed:
        stream = feed.multiplex('{"op":"+a","token":"s3cret"}', "-a", filters=None, acknowledged=[{"id": 1}], timeout=2)
        raw = feed.multiplex(b"+b", filters=None, acknowledged=[{"id": 2}], timeout=2)
        await feed.wait_connected()
        assert now() == 2
        await asyncio.sleep(3)
        sent = ['{"op":"+a","token":"s3cret"}', b"+b"]
        assert [sorted(feed.websocket.sent[at : at + 2], key=sent.index) for at in (0, 2)] == [sent, sent]
        events = feed.record.of(SubscriptionFailed)
        assert {(event.attempt, event.message) for event in events} == {
            (attempt, shown) for attempt in (1, 2) for shown in ('{"op":"+a","token":"***"}', "2 bytes")
        }
        assert len(events) == 4
        await stream.close()
        await settle()
        assert feed.websocket.sent[-1] == "-a"
        await raw.close()


async def test_refusal_is_reported_when_the_server_refuses():
    """A refusal ends the wait, is reported once with its text, and the channel is not sent again on this connection."""
    first, second = ScriptedWebsocket(), ScriptedWebsocket()
    refusal = {"id": 1, "error": {"msg": "no such channel", "token": "s3cret"}}
    for websocket in first, second:
        answering(websocket, lambda _: json.dumps(refusal))
    async with ScriptedFeed(first, second, parse=json.loads, reconnect_delays=lambda: itertools.repeat(0)) as feed:
        stream = feed.multiplex(
            "+a",
            filters=None,
            # This filter also passes the refusal, so the test shows that ``rejected`` is checked first.
            acknowledged=[{"id": 1}],
            rejected=lambda message: "error" in message,
        )
        await feed.wait_connected()
        assert now() == 0
        await asyncio.sleep(60)
        assert first.sent == ["+a"]
        (reported,) = feed.record.of(SubscriptionFailed)
        assert (reported.message, reported.attempt) == ("+a", 1)
        assert reported.refusal == "{'id': 1, 'error': {'msg': 'no such channel', 'token': '***'}}"
        assert feed.statistics().unacknowledged == 1
        assert feed.record.messages == [refusal]
        first.end()
        await settle()
        assert second.sent == ["+a"]
        assert len(feed.record.of(SubscriptionFailed)) == 2
        await stream.close()


async def test_channel_is_acknowledged_when_it_has_a_refusal_filter():
    """A channel with ``rejected`` can be acknowledged, and is sent once more if no answer arrives."""
    async with ScriptedFeed() as feed:
        await feed.wait_connected()
        answering(feed.websocket, lambda message: "ok +a" if message == "+a" else None)
        options = {"rejected": lambda message: message == "no", "timeout": 2}
        streams = [channel(feed, name, acknowledged=is_answer_to(f"+{name}"), **options) for name in ("a", "b")]
        await asyncio.sleep(10)
        assert feed.websocket.sent == ["+a", "+b", "+b"]
        assert [(each.attempt, each.refusal) for each in feed.record.of(SubscriptionFailed)] == [(1, None), (2, None)]
        for stream in streams:
            await stream.close()


async def test_combined_message_is_halved_when_it_is_refused():
    """A refused message is halved until the refused channel is found, so this channel does not block the others."""

    def answers(message):
        return f"no {message}" if "b" in message else f"ok {message}"

    def is_reply(verdict, name):
        return lambda answer: answer.startswith(verdict) and name in answer[3:]

    async with ScriptedFeed(answering(ScriptedWebsocket(), answers)) as feed:
        streams = [
            feed.multiplex(
                name, filters=None, combine="".join, acknowledged=is_reply("ok", name), rejected=is_reply("no", name)
            )
            for name in "abcdefgh"
        ]
        await feed.wait_connected()
        await asyncio.sleep(60)
        assert feed.websocket.sent == ["abcdefgh", "abcd", "efgh", "ab", "cd", "a", "b"]
        reported = [(each.refusal, each.combined) for each in feed.record.of(SubscriptionFailed)]
        assert reported == [("'no abcdefgh'", 8), ("'no abcd'", 4), ("'no ab'", 2), ("'no b'", 1)]
        for stream in streams:
            await stream.close()


async def test_opening_waits_for_the_halves_when_a_combined_message_is_refused():
    """After the refusal of a combined message, a connection counts as open when each channel has been answered."""
    websocket = answering(ScriptedWebsocket(), lambda message: "no" if len(message) > 1 else None)
    async with ScriptedFeed(websocket) as feed:
        streams = [
            feed.multiplex(
                name,
                filters=None,
                combine="".join,
                acknowledged=is_answer_to(name),
                rejected=lambda message: message == "no",
            )
            for name in "ab"
        ]
        await asyncio.sleep(3)
        assert websocket.sent == ["ab", "a", "b"]
        assert not feed.state.value.is_live
        websocket.come("ok a", "ok b")
        await settle()
        assert feed.state.value is State.CONNECTED
        assert len(streams) == 2


async def test_channel_is_refused_when_the_second_attempt_is():
    """If the second attempt is refused, the channel counts as refused and not as subscribed."""

    async def fetch():
        return {"last": 0}

    async with ScriptedFeed() as feed:
        await feed.wait_connected()
        stream = channel(feed, "a", acknowledged=lambda _: False, rejected=lambda message: message == "no", timeout=1)
        book = stream.resync(fetch, sequence=("U", "u"), snapshot_sequence="last")
        book.subscribe()
        await asyncio.sleep(1.5)
        feed.websocket.come("no")
        await asyncio.sleep(60)
        assert feed.websocket.sent == ["+a", "+a"]
        assert [(each.attempt, each.refusal) for each in feed.record.of(SubscriptionFailed)] == [(1, None), (2, "'no'")]
        assert not book.in_sync


async def test_connection_opens_when_refused_channels_are_unanswered():
    """On the next connection a refused channel is sent last and alone, and opening does not wait for its answer."""

    def is_reply(verdict, name):
        return lambda answer: answer.startswith(verdict) and name in answer[3:]

    def answers(message):
        return f"no {message}" if "b" in message else f"ok {message}"

    first, second = answering(ScriptedWebsocket(), answers), ScriptedWebsocket()
    # The server does not answer messages that contain the refused channel.
    answering(second, lambda message: None if "b" in message else f"ok {message}")
    async with ScriptedFeed(first, second, reconnect_delays=lambda: itertools.repeat(0)) as feed:
        streams = [
            feed.multiplex(
                name, filters=None, combine="".join, acknowledged=is_reply("ok", name), rejected=is_reply("no", name)
            )
            for name in "abcd"
        ]
        await feed.wait_connected()
        assert first.sent == ["abcd", "ab", "cd", "a", "b"]
        first.end()
        await settle()
        assert feed.state.value is State.CONNECTED
        assert second.sent == ["acd", "b"]
        second.come("ok b")
        await settle()
        assert len(streams) == 4
        feed.websocket.end()
        await settle()
        assert feed.websocket.sent == ["abcd"]


async def test_answers_keep_the_order_when_they_arrive_together():
    """If two channels expect equal answers, the first channel gets the first answer, and the other one the second."""
    async with ScriptedFeed() as feed:
        await feed.wait_connected()
        options = {"acknowledged": lambda message: message == "ok", "rejected": lambda message: message == "no"}
        streams = [channel(feed, name, **options) for name in "ab"]
        await settle()
        feed.websocket.come("no", "ok")
        await asyncio.sleep(60)
        assert feed.websocket.sent == ["+a", "+b"]
        assert [(each.message, each.refusal) for each in feed.record.of(SubscriptionFailed)] == [("+a", "'no'")]
        for stream in streams:
            await stream.close()


async def test_late_answer_counts_when_the_retry_was_sent():
    """An answer that arrives after the retry is accepted, and nothing more is sent."""
    async with ScriptedFeed() as feed:
        await feed.wait_connected()
        stream = channel(feed, "a", acknowledged=is_answer_to("+a"), timeout=2)
        await asyncio.sleep(3)
        feed.websocket.come("ok +a")
        await asyncio.sleep(20)
        assert feed.websocket.sent == ["+a", "+a"]
        assert len(feed.record.of(SubscriptionFailed)) == 1
        await stream.close()


async def test_failure_is_reported_when_an_answer_filter_raises():
    """An answer filter that raises rejects the message and is reported; other channels are not affected."""

    def broken(message):
        raise ZeroDivisionError("a bug")

    async with ScriptedFeed() as feed:
        await feed.wait_connected()
        stream = channel(feed, "a", acknowledged=broken, timeout=1)
        await settle()
        feed.websocket.come("x")
        await feed.record.received(1)
        assert feed.record.of(CallbackFailed)[0].handler.endswith("broken")
        await asyncio.sleep(5)
        assert feed.record.messages == ["x"]
        assert feed.record.of(Disconnected) == []
        await stream.close()


@pytest.mark.parametrize("options", [{}, {"acknowledged": is_answer_to("+a"), "timeout": 100}])
async def test_next_attempt_follows_when_the_connection_is_lost_while_subscribing(options):
    """A connection lost before all channels are subscribed never counts as open; the next attempt follows at once."""
    first, second = ScriptedWebsocket(), ScriptedWebsocket()
    async with ScriptedFeed(first, second, send_limit=(1, 50), reconnect_delays=lambda: [0]) as feed:
        streams = [channel(feed, "a", **options), channel(feed, "b")]
        await settle()
        first.end()
        second.come("ok +a")
        await feed.opened(2)
        assert now() == 0
        await settle()
        answering(second)
        assert (first.sent, second.sent) == (["+a"], ["+a"])
        assert feed.record.of(Connected) == []
        second.come("ok +a")
        await feed.wait_connected()
        assert now() == 50.1
        del streams


async def test_connection_was_never_open_when_it_is_lost_with_the_last_message():
    """A connection that ends while the last subscription is sent never counts as open."""
    first = ScriptedWebsocket()

    async def end(message):
        first.end()
        await asyncio.sleep(0.1)

    first.on_send = end
    async with ScriptedFeed(first, reconnect_delays=lambda: [0]) as feed:
        stream = channel(feed, "a")
        await feed.wait_connected()
        assert [event.number for event in feed.record.of(Connected)] == [2]
        await stream.close()


@pytest.mark.parametrize("waits_for", ["turn", "answer", "function"])
async def test_exit_is_fast_when_a_connection_is_being_subscribed(waits_for):
    """``exit()`` during subscribing takes no longer than at any other time."""

    async def token():
        await asyncio.sleep(5)

    async with ScriptedFeed(send_limit=(1, 50)) as feed:
        stream = channel(feed, "a", acknowledged=is_answer_to("+a") if waits_for == "answer" else None)
        other = feed.multiplex(token if waits_for == "function" else "+b", filters=None)
        await asyncio.sleep(1)
        assert feed.state.value is State.CONNECTING
        await feed.exit()
        assert now() == 1
        assert [message async for message in stream] == [message async for message in other] == []
    assert feed.websocket.sent == ["+a"]


async def test_stream_ends_at_once_when_the_feed_has_ended():
    """After ``exit()`` a new stream ends at once, and nothing is subscribed."""
    feed = ScriptedFeed()
    before = channel(feed, "a")
    await feed.exit()
    stream = channel(feed, "b")
    assert [message async for message in stream] == []
    await before.close()


async def test_channel_is_not_sent_when_it_is_dropped_while_waiting():
    """A channel that is dropped while it waits for a slot is not sent, and the next channel gets the slot."""
    async with ScriptedFeed(send_limit=(1, 10)) as feed:
        await feed.wait_connected()
        kept = channel(feed, "a")
        await settle()
        closed = channel(feed, "b")
        await settle()
        await closed.close()
        last = channel(feed, "c")
        await asyncio.sleep(10.2)
        assert feed.websocket.sent == ["+a", "+c"]
        del kept, last


async def test_change_is_made_on_the_next_connection_when_this_one_is_lost():
    """A change that waits when its connection ends is made on the next connection, and no failure is reported."""
    async with ScriptedFeed(send_limit=(1, 10), reconnect_delays=lambda: [0]) as feed:
        await feed.wait_connected()
        streams = [channel(feed, name) for name in "ab"]
        await settle()
        feed.websocket.end()
        await feed.opened(2)
        await feed.wait_connected()
        assert [websocket.sent for websocket in feed.websockets] == [["+a"], ["+a", "+b"]]
        assert feed.record.of(CallbackFailed) == []
        del streams


async def test_connection_ends_when_a_later_subscription_cannot_be_sent():
    """If the server reads nothing, the connection is aborted, and all channels are subscribed on the next one."""
    first = ScriptedWebsocket()
    async with ScriptedFeed(first, send_timeout=2, reconnect_delays=lambda: [0]) as feed:
        await feed.wait_connected()
        first.on_send = lambda _: asyncio.sleep(3600)
        stream = channel(feed, "a")
        await feed.opened(2)
        await feed.wait_connected()
        assert (now(), feed.websocket.sent, feed.record.of(CallbackFailed)) == (2, ["+a"], [])
        await stream.close()


async def test_idle_timeout_starts_when_all_channels_are_subscribed():
    """``idle_timeout`` starts when all channels are subscribed, because no message may arrive before that."""
    async with ScriptedFeed(send_limit=(1, 10), idle_timeout=5, reconnect_delays=lambda: [0]) as feed:
        streams = [channel(feed, name) for name in "abcd"]
        await feed.wait_connected()
        assert (now(), feed.record.of(Disconnected)) == (30.3, [])
        await feed.record.happened(Disconnected)
        assert (now(), feed.record.reasons) == (35.3, ["idle"])
        with contextlib.suppress(TimeoutError):
            await feed.opened(3, timeout=1)
        del streams


async def test_messages_are_held_when_the_old_connection_is_lost_while_subscribing():
    """After the loss of the old connection, the new one's messages are held until all its channels are subscribed."""
    async with ScriptedFeed(send_limit=(1, 10)) as feed:
        streams = [channel(feed, name) for name in "abc"]
        await feed.wait_connected()
        first = feed.websocket
        rotating = asyncio.ensure_future(feed.rotate())
        second = await feed.opened(2)
        await asyncio.sleep(1)
        first.end()
        await settle()
        assert (feed.state.value, feed.present_ws) == (State.CONNECTING, None)
        for n in range(15):
            second.come(str(n))
            await asyncio.sleep(1)
        assert feed.record.messages == []
        await rotating
        assert second.sent == ["+a", "+b", "+c"]
        assert feed.record.messages == list(range(15))
        assert len(feed.record.of(rxws.Gap)) == 1
        del streams


# Subscribing again


async def subscribed(feed, **options):
    """Return a stream of the channel ``a``, after the scripted server has accepted it."""
    stream = channel(feed, "a", acknowledged=is_answer_to("+a"), rejected=lambda answer: answer == "no +a", **options)
    await settle()
    feed.websocket.come("ok +a")
    await settle()
    return stream


async def test_resubscribe_returns_when_the_server_has_answered():
    """The answer to the first subscription does not end the wait of ``resubscribe``; the second one does."""
    async with ScriptedFeed() as feed:
        await feed.wait_connected()
        stream = await subscribed(feed)
        waiting = asyncio.ensure_future(stream.resubscribe())
        await asyncio.sleep(5)
        assert (waiting.done(), feed.websocket.sent) == (False, ["+a", "-a", "+a"])
        feed.websocket.come("ok +a")
        await settle()
        assert waiting.done()
        await waiting


async def test_resubscribe_marks_the_missing_messages_when_gaps_are_asked_for():
    """A ``Gap`` stands where the server's messages between the two subscriptions are missing."""
    async with ScriptedFeed() as feed:
        await feed.wait_connected()
        stream = await subscribed(feed, gaps=True)
        feed.websocket.come("a")
        waiting = asyncio.ensure_future(stream.resubscribe())
        await settle()
        feed.websocket.come("a", "ok +a", "a")
        await waiting
        found = [await anext(stream) for _ in range(4)]
        assert [getattr(each, "reason", each) for each in found] == ["a", "a", "user", "a"]


async def test_resubscribe_raises_when_the_server_refuses_or_does_not_answer():
    """A refusal is an RxwsError and a missing answer a TimeoutError. The next call tries again."""
    async with ScriptedFeed() as feed:
        await feed.wait_connected()
        stream = await subscribed(feed)
        feed.websocket.on_send = lambda message: feed.websocket.come(f"no {message}")
        with pytest.raises(rxws.RxwsError, match=r"'\+a' was not subscribed again: an event reports the refusal"):
            await stream.resubscribe()
        feed.websocket.on_send = None
        began = now()
        with pytest.raises(TimeoutError, match=r"the server has not answered the subscription of '\+a'"):
            await stream.resubscribe()
        assert now() - began == 20
        answering(feed.websocket)
        await stream.resubscribe()
        assert feed.websocket.sent == ["+a", "-a", "+a", "+a", "+a", "-a", "+a"]


async def test_resubscribe_waits_for_the_next_connection_when_its_own_is_lost():
    """A connection that is lost during ``resubscribe`` is followed by one that subscribes the channel."""
    first, second = ScriptedWebsocket(), answering(ScriptedWebsocket())
    async with ScriptedFeed(first, second, reconnect_delays=lambda: [3]) as feed:
        await feed.wait_connected()
        stream = await subscribed(feed)
        waiting = asyncio.ensure_future(stream.resubscribe())
        await settle()
        first.end()
        await asyncio.sleep(2)
        assert not waiting.done()
        again = asyncio.ensure_future(stream.resubscribe())
        await asyncio.gather(waiting, again)
        assert (now() >= 3, second.sent) == (True, ["+a"])


async def test_resubscribe_raises_when_there_is_no_connection_in_time():
    """The wait for a connection and for an answer is limited."""
    async with ScriptedFeed(ScriptedWebsocket(), reconnect_delays=lambda: [1000], send_timeout=5) as feed:
        await feed.wait_connected()
        stream = await subscribed(feed, timeout=2)
        feed.websocket.end()
        await settle()
        with pytest.raises(TimeoutError, match=r"'\+a' was not subscribed again within 9 s"):
            await stream.resubscribe()


async def test_resubscribe_raises_when_its_stream_or_feed_is_closed():
    """A stream that is closed before or during ``resubscribe``, and the end of the feed, raise an RxwsError at once."""
    async with ScriptedFeed() as feed:
        await feed.wait_connected()
        stream = await subscribed(feed)
        waiting = asyncio.ensure_future(stream.resubscribe())
        await settle()
        await stream.close()
        with pytest.raises(rxws.RxwsError, match=r"all streams of '\+a' were closed"):
            await waiting
        with pytest.raises(rxws.RxwsError, match="cannot be subscribed again: it is closed"):
            await stream.resubscribe()
        stream = await subscribed(feed)
        waiting = asyncio.ensure_future(stream.resubscribe())
        await settle()
    with pytest.raises(rxws.FeedClosed):
        await waiting
    with pytest.raises(rxws.RxwsError, match="it is closed"):
        await channel(feed, "a").resubscribe()


async def test_resubscribe_leaves_the_channel_subscribed_when_it_is_cancelled():
    """Cancelling stops the wait only."""
    async with ScriptedFeed() as feed:
        await feed.wait_connected()
        stream = await subscribed(feed)
        waiting = asyncio.ensure_future(stream.resubscribe())
        await settle()
        waiting.cancel()
        await settle()
        feed.websocket.come("ok +a", "a")
        await settle()
        assert (await anext(stream), feed.websocket.sent) == ("a", ["+a", "-a", "+a"])


async def test_resubscribe_waits_for_both_connections_when_they_overlap():
    """In a rotation each connection subscribes the channel again, and the wait ends with the slower one."""
    first, second = ScriptedWebsocket(), answering(ScriptedWebsocket())
    async with ScriptedFeed(first, second, handover_timeout=30) as feed:
        await feed.wait_connected()
        stream = await subscribed(feed)
        rotation = feed.rotate()
        await asyncio.sleep(1)
        waiting = asyncio.ensure_future(stream.resubscribe())
        await asyncio.sleep(1)
        assert (first.sent, second.sent, waiting.done()) == (["+a", "-a", "+a"],) * 2 + (False,)
        first.come("ok +a")
        await waiting
        await rotation


async def test_end_that_arrives_before_the_answer_is_applied_after_it():
    """A subscription that ends before its answer is reported and subscribed again once it was answered."""
    async with ScriptedFeed() as feed:
        await feed.wait_connected()
        events = []
        feed.events.subscribe(events.append)
        stream = channel(feed, "a", acknowledged=is_answer_to("+a"), ended="end a".__eq__)
        await settle()
        feed.websocket.come("end a")
        await settle()
        assert feed.websocket.sent == ["+a"]
        feed.websocket.come("ok +a")
        await settle()
        assert feed.websocket.sent == ["+a", "+a"]
        assert [each.ending for each in events if isinstance(each, rxws.SubscriptionEnded)] == ["'end a'"]
        await stream.close()


async def test_end_without_an_answer_is_reported_when_the_message_is_repeated():
    """A subscription that ends and is never answered is subscribed again by the repeated message."""
    async with ScriptedFeed() as feed:
        await feed.wait_connected()
        events = []
        feed.events.subscribe(events.append)
        stream = channel(feed, "a", acknowledged=is_answer_to("+a"), ended="end a".__eq__, timeout=1.0)
        await settle()
        feed.websocket.come("end a")
        await asyncio.sleep(1.1)
        assert feed.websocket.sent == ["+a", "+a"]
        assert [each.delay for each in events if isinstance(each, rxws.SubscriptionEnded)] == [0.0]
        feed.websocket.come("ok +a")
        await asyncio.sleep(5)
        assert feed.websocket.sent == ["+a", "+a"]
        await stream.close()


async def test_end_that_confirms_an_unsubscription_does_not_end_the_next_subscription():
    """Some servers send the same message when the client unsubscribes, and it may arrive after a new subscription."""
    async with ScriptedFeed() as feed:
        await feed.wait_connected()
        events = []
        feed.events.subscribe(events.append)
        options = {"acknowledged": is_answer_to("+a"), "ended": "end a".__eq__}
        first = channel(feed, "a", **options)
        await settle()
        feed.websocket.come("ok +a")
        await settle()
        await first.close()
        second = channel(feed, "a", **options)
        await settle()
        feed.websocket.come("end a", "ok +a")
        await settle()
        assert feed.websocket.sent == ["+a", "-a", "+a"]
        feed.websocket.come("end a")
        await settle()
        assert feed.websocket.sent == ["+a", "-a", "+a", "+a"]
        assert len([each for each in events if isinstance(each, rxws.SubscriptionEnded)]) == 1
        await second.close()
