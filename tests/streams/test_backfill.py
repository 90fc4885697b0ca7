"""stream.backfill: missed messages that a history supplies, and the effects of bad histories."""

from __future__ import annotations

import asyncio
import json

import pytest

from rxws import CallbackFailed, Gap, Overflowed
from rxws.streams import backfill
from tests.support.life import ScriptedFeed, ScriptedWebsocket

pytestmark = pytest.mark.usefixtures("virtual_time", "assert_no_leaks")


class Numbered(ScriptedFeed):
    """A feed whose frames are numbered messages."""

    def __init__(self, **options):
        super().__init__(parse=json.loads, reconnect_delays=lambda: [0] * 99, **options)

    def come(self, *numbers, **more):
        """Send messages with these numbers."""
        self.websocket.come(*(json.dumps({"n": number, **more}) for number in numbers))

    async def cut(self):
        """Lose the connection, and wait for the next one."""
        count = len(self.websockets)
        self.websocket.end()
        await self.opened(count + 1)
        await self.wait_connected()


class History:
    """A history of the numbers up to ``last``, which records its requests.

    Attributes:
        faults: what happens instead of each of the next answers: an exception to raise, an answer to return, or seconds
            to wait first.
    """

    def __init__(self, *faults, last=100):
        self.faults = list(faults)
        self.last = last
        self.asked = []

    async def __call__(self, *asked):
        self.asked.append(asked)
        after, before = asked[-2:]
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, BaseException):
            raise fault
        if isinstance(fault, (int, float)):
            await asyncio.sleep(fault)
        elif fault is not None:
            return fault
        if after is None:
            return []
        keys = {"s": asked[0]} if len(asked) == 3 else {}
        return [{"n": n, **keys} for n in range(after + 1, min(self.last + 1, before or 1_000))]


def numbers(items):
    """Return the numbers of the items, and the reason of a gap in its place."""
    return [each.reason if isinstance(each, Gap) else each["n"] for each in items]


async def settle(seconds=0.01):
    """Let the tasks run."""
    await asyncio.sleep(seconds)


async def started(feed, history, *, stream=None, **options):
    """Backfill a feed's messages; return the Observable, and the items that it delivers."""
    await feed.wait_connected()
    stream = feed.stream_filter() if stream is None else stream
    backfilled, got = stream.backfill(history, **({"sequence": "n"} | options)), []
    backfilled.subscribe(got.append)
    return backfilled, got


@pytest.mark.parametrize("gaps", [False, True])
async def test_messages_when_the_connection_was_lost(gaps):
    """Missed messages are taken from the history, before the live ones that were held, and without a Gap."""
    async with Numbered() as feed:
        history = History()
        await feed.wait_connected()
        backfilled, got = await started(feed, history, stream=feed.stream_filter(gaps=gaps))
        feed.come(1, 2)
        await settle()
        assert backfilled.in_sync
        await feed.cut()
        history.faults.append(1)
        feed.come(6, 7)
        await settle()
        assert (numbers(got), backfilled.in_sync) == ([1, 2], False)
        feed.come(8)
        await settle(2)
        assert numbers(got) == [1, 2, 3, 4, 5, 6, 7, 8]
        assert history.asked == [(None, 1), (2, 6)]
        assert backfilled.in_sync


async def test_messages_when_numbers_are_missing_without_a_gap():
    """A hole in the numbers is filled, too."""
    async with Numbered() as feed:
        _, got = await started(feed, History())
        feed.come(1, 4, 5)
        await settle()
        assert numbers(got) == [1, 2, 3, 4, 5]


async def test_history_when_no_message_arrives_after_a_gap():
    """The history is asked one second after the Gap, up to now."""
    async with Numbered() as feed:
        history = History(last=4)
        _, got = await started(feed, history)
        feed.come(1, 2)
        await settle()
        await feed.cut()
        await settle(0.9)
        assert numbers(got) == [1, 2]
        await settle(0.2)
        assert (numbers(got), history.asked[-1]) == ([1, 2, 3, 4], (2, None))
        feed.come(5)
        await settle()
        assert numbers(got) == [1, 2, 3, 4, 5]


async def test_history_when_a_feed_is_quiet_at_the_start():
    """Without a key, a warm start does not wait for the first message."""

    async def history(after, before):
        assert after is None
        return [{"n": 7}, {"n": 8}]

    async with Numbered() as feed:
        _, got = await started(feed, history)
        await settle(1.1)
        assert numbers(got) == [7, 8]


async def test_only_the_key_with_a_hole_waits():
    """Each key has its own numbers and its own requests."""
    async with Numbered() as feed:
        history = History()
        _, got = await started(feed, history, key="s")
        feed.come(1, s="a")
        feed.come(1, s="b")
        await settle()
        history.faults.append(5)
        feed.come(4, s="a")
        feed.come(2, 3, s="b")
        await settle()
        assert [(each["s"], each["n"]) for each in got] == [("a", 1), ("b", 1), ("b", 2), ("b", 3)]
        await settle(6)
        assert numbers(got) == [1, 1, 2, 3, 2, 3, 4]
        assert history.asked == [("a", None, 1), ("b", None, 1), ("a", 1, 4)]


async def test_requests_are_limited_to_concurrency():
    """At most ``concurrency`` keys are asked for at the same time."""
    running, most = 0, 0

    async def history(key, after, before):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(1)
        running -= 1
        return []

    async with Numbered() as feed:
        _, got = await started(feed, history, key="s", concurrency=2)
        for key in "abcdefg":
            feed.come(1, s=key)
        await settle(5)
        assert (most, len(got)) == (2, 7)


@pytest.mark.parametrize("kind", ["hangs", "never ends", "raises"])
async def test_key_whose_history_is_bad_does_not_make_others_wait(kind):
    """Even if one page is fetched at a time, the other keys wait for a page at most, and lose nothing."""

    async def history(key, after, before):
        if key == "bad" and after is not None:
            if kind == "raises":
                raise OSError("down")
            while kind == "hangs":
                await asyncio.sleep(1)
            for number in range(1, 1_000):
                await asyncio.sleep(0.05)
                yield [{"n": -number, "s": key}]
        yield [] if after is None else [{"n": n, "s": key} for n in range(after + 1, before)]

    async with Numbered() as feed:
        _, got = await started(feed, history, key="s", concurrency=1, timeout=8)
        for key in ("bad", "a", "b"):
            feed.come(1, s=key)
        await settle()
        for key in ("bad", "a", "b"):
            feed.come(9, s=key)
        await settle(4.5)
        for key in ("a", "b"):
            assert [each["n"] for each in got if each["s"] == key] == [*range(1, 10)]
        await settle(5)
        assert numbers(got)[-2:] == ["history", 9]


async def test_history_that_is_not_asked_in_time():
    """If too many keys wait, the report says so, and not that the history lacks messages."""

    async def history(key, after, before):
        await asyncio.sleep(0 if after is None else 1)
        return []

    async with Numbered() as feed:
        await started(feed, history, key="s", concurrency=1, timeout=4)
        for number in (1, 3):
            for key in "abcdefgh":
                feed.come(number, s=key)
            await settle()
        await settle(5)
        texts = [str(event.error) for event in feed.record.of(CallbackFailed)]
        assert sum("lacks messages after 1 and before 3" in text for text in texts) in (3, 4)
        assert sum("was not asked in time" in text and "see concurrency=" in text for text in texts) in (4, 5)


async def test_history_in_pages():
    """An async iterator gives pages, which may overlap, go beyond both bounds, and have other keys."""

    async def history(key, after, before):
        if after is not None:
            yield [{"n": n, "s": key} for n in range(6)]
            yield []
            yield ({"n": 2, "s": "other"}, {"n": 6, "s": key}, {"n": 5, "s": key}, {"n": 7, "s": key})
            raise AssertionError("the history was asked for more than needed")

    async with Numbered() as feed:
        _, got = await started(feed, history, key="s")
        feed.come(2, 7, s="a")
        await settle()
        assert numbers(got) == [2, 3, 4, 5, 6, 7]
        assert feed.record.of(CallbackFailed) == []


async def test_history_when_the_filter_rejects_messages():
    """The stream's filter is applied to the history."""
    async with Numbered() as feed:
        history = History([], [{"n": 2, "x": 1}, {"n": 2, "x": 2}, {"n": 3, "x": 1}])
        stream = feed.stream_filter([{"x": 1}])
        _, got = await started(feed, history, stream=stream)
        feed.come(1, 4, x=1)
        await settle()
        assert got == [{"n": n, "x": 1} for n in (1, 2, 3, 4)]


async def test_history_when_it_is_behind():
    """While the history does not reach the held messages, it is asked again after growing delays, without a report."""
    async with Numbered() as feed:
        history = History(last=3)
        _, got = await started(feed, history)
        feed.come(1, 6)
        await settle(0.4)
        history.last = 9
        assert numbers(got) == [1, 2, 3]
        await settle(10)
        assert numbers(got) == [1, 2, 3, 4, 5, 6]
        assert feed.record.of(CallbackFailed) == []
        assert history.asked[-1] == (3, 6)


async def test_history_when_it_fails_at_the_start():
    """A history that raises is not an empty one: it is asked again, and a Gap follows if it never answers."""
    async with Numbered() as feed:
        backfilled, got = await started(feed, History(OSError("down"), OSError("down"), [{"n": 1}, {"n": 2}]))
        feed.come(3)
        await settle(2)
        assert (numbers(got), backfilled.in_sync) == ([1, 2, 3], True)
        assert len(feed.record.of(CallbackFailed)) == 2
    async with Numbered() as feed:
        backfilled, got = await started(feed, History(*[OSError("down")] * 99), timeout=5)
        feed.come(3)
        await settle(4.9)
        assert (numbers(got), backfilled.in_sync) == ([], False)
        await settle(0.2)
        assert (numbers(got), backfilled.in_sync) == (["history", 3], True)


async def test_history_that_fails_while_no_message_waits():
    """A request that fails does not prove that nothing is missing, so the history is asked again."""
    async with Numbered() as feed:
        history = History(last=5)
        backfilled, got = await started(feed, history)
        feed.come(1)
        await settle()
        history.faults = [OSError("down")]
        await feed.cut()
        await settle(1.01)
        assert (numbers(got), backfilled.in_sync) == ([1], False)
        await settle(1)
        assert (numbers(got), backfilled.in_sync) == ([1, 2, 3, 4, 5], True)


async def hanging():
    """Never answer, and ignore the cancellation for a while."""
    try:
        await asyncio.get_running_loop().create_future()
    except asyncio.CancelledError:
        await asyncio.sleep(15)


async def endless():
    """Yield pages for ever, with growing numbers."""
    number = 10
    while True:
        await asyncio.sleep(0.01)
        number += 1
        yield [{"n": number}]


async def repeating():
    """Yield the same page for ever."""
    while True:
        yield [{"n": 1}]


BAD = {
    "wrong type": (lambda: 17, "must return a list of messages, or an async iterator of such lists, not 17"),
    "wrong page": (lambda: iterating(3), "must yield lists, not 3"),
    "goes back": (lambda: [{"n": 5}, {"n": 4}], "goes back from 5 to 4"),
    "never ends": (endless, "lacks messages after 1 and before 9"),
    "repeats itself": (repeating, "100 pages of the history in a row have no new message"),
    "hangs": (hanging, "no answer within 10 s"),
    "raises": (lambda: OSError("down"), "down"),
    "is cancelled": (lambda: asyncio.CancelledError(), "CancelledError"),
    "has no numbers": (lambda: [{"m": 2}], "there is no 'n'"),
    "has no messages": (lambda: ["text"], "there is no 'n'"),
    "has none": (list, "lacks messages after 1 and before 9"),
}


async def iterating(*pages):
    """Yield pages."""
    for page in pages:
        yield page


@pytest.mark.parametrize("kind", BAD)
async def test_history_when_it_is_bad(kind):
    """Events name the stream, a Gap is in its place, and live messages continue within ``timeout``."""
    make, text = BAD[kind]

    def history(after, before):
        answer = [] if after is None else make()
        if isinstance(answer, BaseException):
            raise answer
        return answer if hasattr(answer, "__aiter__") or hasattr(answer, "__await__") else returning(answer)

    async def returning(answer):
        return answer

    async with Numbered(name="feed") as feed:
        backfilled, got = await started(feed, history, timeout=20)
        feed.come(1)
        await settle()
        await feed.cut()
        loop = asyncio.get_running_loop()
        feed.come(9)
        await settle(19)
        assert numbers(got) == [1]
        feed.come(10)
        await settle(1.1)
        found = ["history", 5] if kind == "goes back" else []
        assert numbers(got) == [1, *found, "history", 9, 10]
        assert backfilled.in_sync
        gap = got[1]
        assert (gap.name, gap.last_message) == ("feed", {"n": 1})
        assert gap.start <= gap.end
        events = feed.record.of(CallbackFailed)
        assert any(text in repr(event.error) for event in events)
        assert all("stream Filter([])" in event.handler for event in events)
        assert any("lacks messages after 1 and before 9" in str(event.error) for event in events)
        assert loop.time() < 30
        feed.come(11)
        await settle()
        assert numbers(got)[-1] == 11
    await settle(30)


async def test_history_when_it_lacks_some():
    """What the history has is delivered, with a Gap in each place where messages are missing."""
    async with Numbered() as feed:
        history = History(*[[], *[[{"n": 2}, {"n": 4}]] * 99])
        _, got = await started(feed, history, timeout=5)
        feed.come(1, 6)
        await settle(6)
        assert numbers(got) == [1, 2, "history", 4, "history", 6]


async def test_connection_lost_again_while_the_history_is_asked():
    """A second Gap is a second hole after the first one."""
    async with Numbered() as feed:
        history = History()
        _, got = await started(feed, history)
        feed.come(1)
        await settle()
        history.faults.append(3)
        await feed.cut()
        feed.come(4)
        await settle()
        await feed.cut()
        feed.come(7)
        await settle(4)
        assert numbers(got) == [1, 2, 3, 4, 5, 6, 7]
        assert history.asked == [(None, 1), (1, 4), (4, 7)]


async def test_connection_lost_again_when_no_message_came():
    """A Gap that is reported while the history is asked is filled, too."""
    async with Numbered() as feed:
        history = History(last=4)
        _, got = await started(feed, history)
        feed.come(1, 2)
        await settle()
        history.faults.append(3)
        await feed.cut()
        await settle(1.5)
        history.last = 6
        await feed.cut()
        await settle(10)
        assert numbers(got) == [1, 2, 3, 4, 5, 6]
        assert history.asked[-1] == (6, None)


async def test_numbers_when_the_server_has_restarted():
    """If the first number after a loss is lower, the numbers start over: no history is fetched for that loss."""
    async with Numbered() as feed:
        history = History()
        _, got = await started(feed, history)
        feed.come(50, 51)
        await settle()
        await feed.cut()
        feed.come(1, 2)
        await settle()
        assert numbers(got) == [50, 51, "history", 1, 2]
        assert history.asked == [(None, 50)]


async def test_times_when_messages_have_an_identity():
    """Numbers that only grow need the messages at both ends; the feed's ``identity`` distinguishes equal ones."""

    async def history(after, before):
        if after is None:
            return []
        return [{"n": n, "id": n, "from": "history"} for n in range(after, before + 1)]

    async with Numbered() as feed:
        assert feed.cursor is None
    feed = IdentifiedFeed()
    async with feed:
        _, got = await started(feed, history, contiguous=False)
        feed.come(1, id=1)
        await settle(20)
        await feed.cut()
        feed.come(4, id=4)
        await settle()
        assert numbers(got) == [1, 2, 3, 4]
        assert "from" not in got[-1]


class IdentifiedFeed(Numbered):
    """A feed with the optional hook that identifies messages."""

    def _message_identity(self, message):
        return message["id"]


async def test_message_without_a_number():
    """It is delivered when it arrives. Only the first of several in a row is reported, and all are counted."""
    async with Numbered() as feed:
        _, got = await started(feed, History())
        feed.come(1)
        await settle()
        feed.websocket.come('{"x": 1}', '{"x": 2}')
        feed.come(2)
        await settle()
        assert got == [{"n": 1}, {"x": 1}, {"x": 2}, {"n": 2}]
        (event,) = feed.record.of(CallbackFailed)
        assert event.handler == "sequence or key of backfill for stream Filter([])"
        assert feed.statistics().failures == 2


@pytest.mark.parametrize("bound", ["HELD_MAX", "HELD_BYTES"])
async def test_held_messages_when_there_are_too_many(monkeypatch, bound):
    """Messages that overflow are fetched again with the hole, and reported once."""
    monkeypatch.setattr(backfill, bound, 3 if bound == "HELD_MAX" else 30)
    async with Numbered() as feed:
        _, got = await started(feed, History([], 5, last=19))
        feed.come(1, *range(10, 20))
        await settle(5.5)
        assert len(got) < 19
        await settle(2)
        assert numbers(got) == [*range(1, 20)]
        feed.come(20)
        await settle()
        assert numbers(got) == [*range(1, 21)]
        (event,) = feed.record.of(Overflowed)
        assert (event.consumer, event.overflow) == ("backfill", "drop_newest")


async def test_end_of_the_feed_when_messages_are_held():
    """Held messages are delivered at the end, after a Gap."""
    async with Numbered() as feed:
        backfilled, got = await started(feed, History([], 99))
        feed.come(1, 5, 6)
        await settle()
        ended = []
        backfilled.subscribe(lambda _: None, on_completed=lambda: ended.append(True))
    assert numbers(got) == [1, "history", 5, 6]
    assert ended == [True]


async def test_end_of_the_stream_when_a_subscriber_closes_it():
    """Items that were due already are delivered before the end."""
    async with Numbered() as feed:
        await feed.wait_connected()
        stream, got = feed.stream_filter(), []

        def take(item):
            got.append(item)
            stream.close_nowait()

        stream.backfill(History(), sequence="n").subscribe(take, on_completed=lambda: got.append({"n": "end"}))
        feed.come(1, 2, 3)
        await settle()
        assert numbers(got) == [1, 2, 3, "end"]


async def test_requests_end_when_the_subscription_is_disposed():
    """Disposing cancels the requests, and in_sync is False without a subscriber."""
    cancelled = []

    async def history(after, before):
        try:
            await asyncio.sleep(99)
        except asyncio.CancelledError:
            cancelled.append(before)
            raise

    async with Numbered() as feed:
        await feed.wait_connected()
        backfilled = feed.stream_filter().backfill(history, sequence="n")
        subscription = backfilled.subscribe(lambda _: None)
        feed.come(1)
        await settle()
        subscription.dispose()
        await settle()
        assert cancelled == [1]
        assert (backfilled.in_sync, repr(backfilled)[-12:]) == (False, "not in sync>")


async def test_subscribers_have_their_own_history():
    """Each subscriber, and each ``async for``, begins with its own request."""
    async with Numbered() as feed:
        history = History()
        backfilled, got = await started(feed, history)
        iterator = aiter(backfilled)
        feed.come(1)
        assert await anext(iterator) == {"n": 1}
        assert numbers(got) == [1]
        assert len(history.asked) == 2
        await iterator.aclose()


async def test_history_waits_for_a_connection_when_nothing_is_held():
    """A warm start is not asked before messages can arrive, so that none is missing in between."""

    async def open_late():
        await asyncio.sleep(5)
        return ScriptedWebsocket()

    async with Numbered() as feed:
        feed.outcomes.append(open_late)
        history, clock = History(), asyncio.get_running_loop().time
        backfilled = feed.stream_filter().backfill(history, sequence="n")
        backfilled.subscribe(lambda _: None)
        await settle(4.5)
        assert (history.asked, backfilled.in_sync) == ([], False)
        await settle(2)
        assert (history.asked, backfilled.in_sync) == ([(None, None)], True)
        assert clock() < 7


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"history": 17}, TypeError, "history must be a function that returns past messages, not 17"),
        ({"sequence": None}, TypeError, "sequence must be a key or a path"),
        ({"key": []}, TypeError, "key must be a key, a tuple of keys or a function"),
        ({"contiguous": 1}, TypeError, "contiguous must be True or False, not 1"),
        ({"timeout": 0}, ValueError, "timeout must be a positive number of seconds, not 0"),
        ({"concurrency": 0}, ValueError, "concurrency must be an int of at least 1, not 0"),
    ],
)
async def test_argument_that_is_wrong(options, error, text):
    """The error names the argument and what was expected."""
    async with Numbered() as feed:
        with pytest.raises(error, match=text):
            feed.stream_filter().backfill(**({"history": History(), "sequence": "n"} | options))


async def test_backfill_and_resync_on_one_stream():
    """A stream has one remedy for gaps."""

    async def snapshot():
        return {}

    async with Numbered() as feed:
        stream = feed.stream_filter()
        stream.backfill(History(), sequence="n")
        with pytest.raises(TypeError, match="backfill was called on this stream, so resync needs another stream"):
            stream.resync(snapshot, sequence="n", snapshot_sequence="n")
        stream = feed.stream_filter()
        stream.resync(snapshot, sequence="n", snapshot_sequence="n")
        with pytest.raises(TypeError, match="resync was called on this stream"):
            stream.backfill(History(), sequence="n")


async def test_channel_that_was_not_subscribed_for_a_time():
    """A Gap of the stream's own channel is a hole, too: times show nothing by themselves."""
    async with Numbered() as feed:
        await feed.wait_connected()

        async def history(after, before):
            return [] if after is None else [{"n": n, "s": "a"} for n in range(after, before + 1)]

        stream = feed.multiplex("+a", "-a", filters=[{"s": "a"}], acknowledged=[{"ok": 1}])
        _, got = await started(feed, history, stream=stream, contiguous=False)
        feed.websocket.come('{"ok": 1}')
        feed.come(1, s="a")
        await settle(40)
        stream.receiver.interrupt(0.0)
        feed.come(4, s="a")
        await settle()
        assert numbers(got) == [1, 2, 3, 4]
