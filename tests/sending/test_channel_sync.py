"""Subscribing on one connection what is wanted, and keeping it so."""

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
    """Return the loop's time, rounded to what matters."""
    return round(asyncio.get_running_loop().time(), 2)


async def settle():
    """Let everything happen that takes no time."""
    await asyncio.sleep(0.001)


def answering(websocket, answers=lambda message: f"ok {message}"):
    """Let the server answer what it is sent."""

    def answer(message):
        reply = answers(message)
        if reply is not None:
            websocket.come(reply)

    websocket.on_send = answer
    return websocket


def is_answer_to(message):
    """Make the filter of its answer."""
    return lambda answer: answer == f"ok {message}"


def channel(feed, name, **options):
    """Make a stream of a channel."""
    return feed.multiplex(f"+{name}", f"-{name}", filters=lambda message: message == name, **options)


async def test_streams_of_one_subscription_are_counted():
    """The first stream of an equal subscription sends it, and the last one to be closed ends it."""
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


async def test_stream_that_is_collected_or_overflows_unsubscribes():
    """Letting go of a stream ends its subscription as closing it does, and so does its overflow."""
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


async def test_unsubscribing_without_a_message_sends_none():
    """Where no message ends a subscription, it is forgotten, and sent again when it is wanted again."""
    async with ScriptedFeed() as feed:
        await feed.wait_connected()
        for _ in range(2):
            await feed.multiplex("+a", filters=None).close()
            stream = feed.multiplex("+a", filters=None)
            await settle()
            await stream.close()
            await settle()
        assert feed.websocket.sent == ["+a", "+a"]


async def test_closing_and_opening_in_one_breath_sends_nothing():
    """A subscription that is wanted again before anything was sent is still there."""
    async with ScriptedFeed() as feed:
        await feed.wait_connected()
        stream = channel(feed, "a")
        await settle()
        for _ in range(50):
            await stream.close()
            stream = channel(feed, "a")
        await settle()
        assert feed.websocket.sent == ["+a"]


async def test_changes_of_one_channel_are_made_one_after_the_other():
    """Under fast churn with slow answers and sends nothing overtakes: subscribed and unsubscribed in turn."""
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


async def test_everything_is_subscribed_again_before_a_connection_counts_as_open():
    """On a new connection all is sent, and acknowledged, before the state, ``wait_connected`` and events tell of it."""
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
        # After a loss the answers are delivered as any message is.
        assert feed.record.messages == ["ok +a", "ok +b", "ok +a", "b", "ok +b"]
        assert [stream.pending for stream in streams] == [0, 1]


async def test_function_is_asked_each_time():
    """A function gives a fresh message for every connection, and it is its own identity."""
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


async def test_function_that_gives_nothing_has_subscribed_nothing():
    """None is no message, from a function too: that is reported, and it is asked again."""
    answers = iter([None, "+a"])
    async with ScriptedFeed() as feed:
        stream = feed.multiplex(lambda: next(answers), filters=None)
        await feed.wait_connected()
        await settle()
        assert feed.statistics().failures == 1
        assert feed.websocket.sent == ["+a"]
        await stream.close()


async def test_function_that_raises_while_opening_holds_up_nobody():
    """The connection opens without the message that cannot be had, which is reported, and asked for again alone."""

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


async def test_function_with_a_bug_harms_no_other_channel():
    """What always raises is reported with growing delays; the feed, and every other channel, live on."""
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
        told = len(feed.record.of(CallbackFailed))
        await asyncio.sleep(600)
        assert len(feed.record.of(CallbackFailed)) == told


async def test_function_that_raises_in_an_overlap_is_waited_for_a_while():
    """A planned rotation waits ten seconds for what cannot be subscribed, since the old connection delivers still."""
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


async def test_function_that_takes_too_long_while_opening_is_not_waited_for():
    """A message must be had within ``send_timeout``; then the connection opens without it."""
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


async def test_answers_that_do_not_come_are_waited_for_together():
    """However many channels nobody acknowledges, opening takes their timeout, and no longer."""
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


async def test_answers_that_do_not_come_are_waited_for_for_the_longest_timeout():
    """Each has its own time, and no second one."""
    async with ScriptedFeed() as feed:
        streams = [channel(feed, n, acknowledged=is_answer_to(f"+{n}"), timeout=n) for n in (2, 5)]
        await feed.wait_connected()
        assert now() == 5
        del streams


async def test_second_answer_is_waited_for_in_a_rotation():
    """The old connection delivers still, so nothing is lost by waiting for the other attempt, too."""
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
async def test_second_answer_is_not_waited_for_where_the_old_connection_is_lost(lost_after, opens_after):
    """From the loss on no connection delivers, be it in the midst of a rotation: opening takes one timeout again."""
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


async def test_function_that_raises_is_not_waited_for_where_the_old_connection_is_lost():
    """What cannot be subscribed keeps a rotation waiting only as long as the old connection delivers."""
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


async def test_thousands_of_channels_are_subscribed_a_thousand_at_once():
    """No more answers than that are waited for at once; each that comes lets the next channel be subscribed."""
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
async def test_opening_ends_also_where_more_is_wanted_than_can_be_sent(names, rotates):
    """Channels that come and go faster than ``send_limit`` allows keep no connection from opening."""
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
        # What was wanted before is subscribed.
        assert {f"+{-n}" for n in range(1, 20)} <= set(feed.websocket.sent)
        churning.cancel()
        await asyncio.wait({churning})
        streams.clear()
        assert rotating is None or await rotating


async def test_opening_ends_without_second_answers_where_more_comes_to_be_wanted():
    """What is wanted after ten seconds is not waited for, nor is an answer that did not come the first time."""
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


async def test_one_answer_serves_one_subscription():
    """Where the answers of all channels are alike, each serves the one that has waited longest."""
    async with ScriptedFeed() as feed:
        streams = [channel(feed, n, acknowledged=lambda answer: answer == "ok", timeout=5) for n in "abc"]
        await settle()
        feed.websocket.come("ok", "ok")
        await feed.wait_connected()
        await asyncio.sleep(6)
        assert feed.websocket.sent == ["+a", "+b", "+c", "+c"]
        assert len(feed.record.of(SubscriptionFailed)) == 2
        del streams


async def test_function_that_raises_later_is_reported_and_asked_again():
    """On an open connection a message that cannot be had is reported, and asked for again; the connection stays."""
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


async def test_combination_makes_few_messages_of_many():
    """Five hundred channels are three messages, of two hundred channels at most; one alone is not combined."""

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


async def test_connection_is_open_when_all_is_sent_however_much_is_not_answered(monkeypatch):
    """What waits in vain keeps nobody from being subscribed: it is not among those of whom there may be so many."""
    monkeypatch.setattr("rxws.sending.channel_sync.MAX_COMMANDS", 2)
    async with ScriptedFeed() as feed:
        streams = [feed.multiplex(f"+{n}", filters=None, acknowledged=[{"never": n}], timeout=1.0) for n in range(7)]
        await feed.wait_connected()
        assert {f"+{n}" for n in range(7)} <= set(feed.websocket.sent)
        assert now() == 4
        del streams


async def test_combination_may_do_with_its_messages_what_it_likes():
    """They are copies: what is sent on the next connection is what was asked for."""

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
    """Combine messages, but for a bad one."""
    if "bad" in messages:
        raise ValueError("a bad one")
    return "+".join(messages)


async def test_combination_that_raises_keeps_nobody_unsubscribed():
    """It is reported once, and each message is sent by itself; the connection opens after that."""
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


async def test_combination_that_raises_late_in_an_opening_is_waited_for_too():
    """In a rotation all is subscribed on the new connection before it counts as open, however long that takes."""
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


async def test_combination_that_raises_gives_its_turn_back():
    """What could not be combined takes nobody's turn, and what cannot be sent alone either is put off alone."""
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
async def test_combination_that_gives_no_message_is_reported(given):
    """None is no message, from ``combine`` too, nor is what cannot be encoded."""

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


async def test_combination_is_answered_once():
    """A combined message has one answer: what any of its subscriptions takes for one, within the longest timeout."""
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


async def test_subscription_that_is_not_answered_is_sent_once_more():
    """Without an answer in time there is an event and exactly one retry; then it is taken for subscribed."""
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


async def test_refusal_is_told_with_what_the_server_said():
    """A refusal ends the wait, is told once with its words, and is not sent again before the next connection."""
    first, second = ScriptedWebsocket(), ScriptedWebsocket()
    refusal = {"id": 1, "error": {"msg": "no such channel", "token": "s3cret"}}
    for websocket in first, second:
        answering(websocket, lambda _: json.dumps(refusal))
    async with ScriptedFeed(first, second, parse=json.loads, reconnect_delays=lambda: itertools.repeat(0)) as feed:
        stream = feed.multiplex(
            "+a",
            filters=None,
            # The filter of the answer is careless: the refusal is asked first.
            acknowledged=[{"id": 1}],
            rejected=lambda message: "error" in message,
        )
        await feed.wait_connected()
        assert now() == 0
        await asyncio.sleep(60)
        assert first.sent == ["+a"]
        (told,) = feed.record.of(SubscriptionFailed)
        assert (told.message, told.attempt) == ("+a", 1)
        assert told.refusal == "{'id': 1, 'error': {'msg': 'no such channel', 'token': '***'}}"
        assert feed.statistics().unacknowledged == 1
        assert feed.record.messages == [refusal]
        first.end()
        await settle()
        assert second.sent == ["+a"]
        assert len(feed.record.of(SubscriptionFailed)) == 2
        await stream.close()


async def test_answer_where_a_refusal_is_known_is_an_answer():
    """Whoever can be refused is acknowledged as before, and asked once more where no answer comes."""
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


async def test_combination_that_is_refused_is_divided():
    """One that the server does not know keeps no other unsubscribed: it is looked for in one half and the other."""

    def answers(message):
        return f"no {message}" if "b" in message else f"ok {message}"

    def is_told(verdict, name):
        return lambda answer: answer.startswith(verdict) and name in answer[3:]

    async with ScriptedFeed(answering(ScriptedWebsocket(), answers)) as feed:
        streams = [
            feed.multiplex(
                name, filters=None, combine="".join, acknowledged=is_told("ok", name), rejected=is_told("no", name)
            )
            for name in "abcdefgh"
        ]
        await feed.wait_connected()
        await asyncio.sleep(60)
        assert feed.websocket.sent == ["abcdefgh", "abcd", "efgh", "ab", "cd", "a", "b"]
        told = [(each.refusal, each.combined) for each in feed.record.of(SubscriptionFailed)]
        assert told == [("'no abcdefgh'", 8), ("'no abcd'", 4), ("'no ab'", 2), ("'no b'", 1)]
        for stream in streams:
            await stream.close()


async def test_opening_waits_for_what_was_combined_and_refused():
    """A connection counts as open once what was refused together has been answered one by one."""
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


async def test_refusal_that_comes_late_is_one():
    """What is refused when it was sent once more is refused: nobody takes it for subscribed."""

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


async def test_what_was_refused_before_keeps_no_connection_waiting():
    """On the next connection it is sent last and by itself, and the connection opens without its answer."""

    def is_told(verdict, name):
        return lambda answer: answer.startswith(verdict) and name in answer[3:]

    def answers(message):
        return f"no {message}" if "b" in message else f"ok {message}"

    first, second = answering(ScriptedWebsocket(), answers), ScriptedWebsocket()
    # It does not even say no.
    answering(second, lambda message: None if "b" in message else f"ok {message}")
    async with ScriptedFeed(first, second, reconnect_delays=lambda: itertools.repeat(0)) as feed:
        streams = [
            feed.multiplex(
                name, filters=None, combine="".join, acknowledged=is_told("ok", name), rejected=is_told("no", name)
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


async def test_answers_that_come_in_one_breath_are_for_those_who_asked_in_turn():
    """Of two who expect the same answers the first has the refusal that comes first, and the other the consent."""
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


async def test_answer_that_comes_late_serves_the_second_attempt():
    """An answer after the retry is one; then nothing more is sent."""
    async with ScriptedFeed() as feed:
        await feed.wait_connected()
        stream = channel(feed, "a", acknowledged=is_answer_to("+a"), timeout=2)
        await asyncio.sleep(3)
        feed.websocket.come("ok +a")
        await asyncio.sleep(20)
        assert feed.websocket.sent == ["+a", "+a"]
        assert len(feed.record.of(SubscriptionFailed)) == 1
        await stream.close()


async def test_filter_of_the_answer_that_raises_is_reported():
    """A filter that raises passes nothing, and harms nobody."""

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
async def test_connection_that_is_lost_while_subscribing(options):
    """A connection that ends before all is subscribed was none: the next attempt follows at once."""
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


async def test_connection_that_is_lost_while_the_last_message_is_sent():
    """A connection that has ended by the time that all is sent was never open."""
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
async def test_exit_while_subscribing(waits_for):
    """Leaving while a connection is being subscribed is as quick as ever."""

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


async def test_subscription_after_the_end_is_none():
    """After ``exit()`` a stream ends at once, and nothing is subscribed."""
    feed = ScriptedFeed()
    before = channel(feed, "a")
    await feed.exit()
    stream = channel(feed, "b")
    assert [message async for message in stream] == []
    await before.close()


async def test_subscription_that_is_called_off_while_it_waits_for_its_turn_is_not_sent():
    """What is closed before it is sent costs no message, and its turn goes to the next."""
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


async def test_connection_that_is_lost_while_following():
    """A change that waits when the connection ends is made on the next one, and nothing is reported."""
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


async def test_send_that_fails_while_following():
    """A peer that takes nothing ends the connection, and all is subscribed on the next one."""
    first = ScriptedWebsocket()
    async with ScriptedFeed(first, send_timeout=2, reconnect_delays=lambda: [0]) as feed:
        await feed.wait_connected()
        first.on_send = lambda _: asyncio.sleep(3600)
        stream = channel(feed, "a")
        await feed.opened(2)
        await feed.wait_connected()
        assert (now(), feed.websocket.sent, feed.record.of(CallbackFailed)) == (2, ["+a"], [])
        await stream.close()


async def test_silence_is_not_held_against_a_connection_that_is_being_subscribed():
    """``idle_timeout`` counts from when all is subscribed: before that there may be nothing to hear."""
    async with ScriptedFeed(send_limit=(1, 10), idle_timeout=5, reconnect_delays=lambda: [0]) as feed:
        streams = [channel(feed, name) for name in "abcd"]
        await feed.wait_connected()
        assert (now(), feed.record.of(Disconnected)) == (30.3, [])
        await feed.record.happened(Disconnected)
        assert (now(), feed.record.reasons) == (35.3, ["idle"])
        with contextlib.suppress(TimeoutError):
            await feed.opened(3, timeout=1)
        del streams


async def test_old_connection_that_is_lost_while_the_new_one_is_being_subscribed():
    """From then on no connection is live, and all that comes on the new one is kept until that is subscribed."""
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
