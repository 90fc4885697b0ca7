"""Functions and coroutine functions that are called with each message."""

from __future__ import annotations

import asyncio
import functools
import threading

import pytest

from rxws.callables import name_of
from rxws.errors import StreamOverflow
from rxws.reporting.events import CallbackFailed, Lagging, Overflowed
from rxws.streams.handlers import CoroutineHandler

from ..support.wiring import Wiring, in_thread, settle


@pytest.fixture
async def wiring():
    wiring = Wiring()
    yield wiring
    wiring.router.end(None)
    await settle()


def task_of(handler):
    assert isinstance(handler, CoroutineHandler)
    return handler.task


# Any handler


@pytest.mark.parametrize("function", [None, 5, "print", [print], {}, object()])
async def test_handler_when_not_callable(wiring, function):
    """An argument that is not callable raises a TypeError that names the argument and shows it."""
    with pytest.raises(TypeError, match="function_or_coroutine_function must be callable with a message, not"):
        wiring.handler(function)


async def test_handler_when_a_generator_function(wiring):
    """A generator function raises TypeError, because its code would never run."""

    def generator(message):
        yield message

    async def asynchronous(message):
        yield message

    for function in (generator, asynchronous):
        with pytest.raises(TypeError, match=f"{function.__name__} is a generator function"):
            wiring.handler(function)


async def test_handler_when_filtered(wiring):
    """A handler gets the messages that pass its filter, in order."""
    plain, coroutine = [], []

    async def take(message):
        coroutine.append(message)

    wiring.handler(plain.append, [{"e": "trade"}])
    wiring.handler(take, lambda message: message["e"] == "ticker")
    messages = [{"e": "trade"}, {"e": "ticker", "n": 1}, {"e": "ticker", "n": 2}]
    wiring.route(*messages)
    await settle()
    assert plain == messages[:1]
    assert coroutine == messages[1:]


def kinds(record):
    """Return the same handler as a plain function and as a coroutine function."""

    async def coroutine(message):
        record(message)

    return [record, coroutine]


@pytest.mark.parametrize("kind", [0, 1], ids=["plain", "coroutine"])
@pytest.mark.parametrize("error", [ZeroDivisionError("no"), asyncio.CancelledError(), StopAsyncIteration()], ids=repr)
async def test_handler_when_it_raises(wiring, kind, error, caplog):
    """A handler's exception is logged, counted and emitted; this handler and all others get the next message."""
    calls, before, after = [], [], []

    def record(message):
        calls.append(message)
        raise error

    wiring.handler(before.append)
    wiring.handler(kinds(record)[kind])
    wiring.handler(after.append)
    wiring.route(1, 2)
    await settle()
    assert calls == before == after == [1, 2]
    assert wiring.reporter.counters.failures == 2
    assert [(type(event), event.message, event.error) for event in wiring.seen] == [
        (CallbackFailed, 1, error),
        (CallbackFailed, 2, error),
    ]
    assert all(event.handler.endswith(["record", "coroutine"][kind]) for event in wiring.seen)
    assert f"{wiring.seen[0].handler} raised" in caplog.text


@pytest.mark.parametrize("kind", [0, 1], ids=["plain", "coroutine"])
async def test_handler_when_it_awaits_a_cancelled_future(wiring, kind):
    """A CancelledError that rxws did not cause is reported like any other exception."""
    calls = []
    future = asyncio.get_running_loop().create_future()
    future.cancel()

    def record(message):
        calls.append(message)
        future.result()

    wiring.handler(kinds(record)[kind])
    wiring.route(1, 2)
    await settle()
    assert calls == [1, 2]
    assert wiring.reporter.counters.failures == 2


@pytest.mark.parametrize("kind", [0, 1], ids=["plain", "coroutine"])
async def test_handler_when_another_is_added_inside(wiring, kind):
    """A handler may add another handler, which gets the next message."""
    added = []

    def record(message):
        if message == 1:
            wiring.handler(added.append)

    wiring.handler(kinds(record)[kind])
    wiring.route(1)
    await settle()
    wiring.route(2)
    assert added == [2]


@pytest.mark.parametrize("kind", [0, 1], ids=["plain", "coroutine"])
async def test_handler_when_it_removes_itself(wiring, kind):
    """A handler may remove itself: the running call continues to its end, and no further call follows."""
    calls = []
    subscriptions = []

    def record(message):
        subscriptions[0].dispose()
        calls.append(message)

    subscriptions.append(wiring.handler(kinds(record)[kind]))
    wiring.route(1, 2)
    await settle()
    wiring.route(3)
    await settle()
    assert calls == [1]
    assert wiring.router.receivers == []
    assert not wiring.seen


async def test_handler_when_a_sibling_removes_it(wiring):
    """A handler that another handler removes does not get the present message."""
    first, second, third = [], [], []
    subscriptions = []

    async def coroutine(message):
        second.append(message)

    def record(message):
        first.append(message)
        for subscription in subscriptions:
            subscription.dispose()

    wiring.handler(record)
    subscriptions.append(wiring.handler(coroutine))
    subscriptions.append(wiring.handler(third.append))
    wiring.route(1, 2)
    await settle()
    assert first == [1, 2]
    assert second == third == []


@pytest.mark.parametrize("kind", [0, 1], ids=["plain", "coroutine"])
async def test_handler_when_disposed_from_another_thread(wiring, kind):
    """The Disposable of a handler may be disposed from any thread, and more than once."""
    calls = []
    subscription = wiring.handler(kinds(calls.append)[kind])
    in_thread(subscription.dispose)
    in_thread(subscription.dispose)
    await settle()
    wiring.route(1)
    await settle()
    assert calls == []
    assert wiring.router.receivers == []


@pytest.mark.parametrize("kind", [0, 1], ids=["plain", "coroutine"])
async def test_handler_when_messages_may_be_missing(wiring, kind):
    """Handlers do not get gaps."""
    calls = []
    wiring.handler(kinds(calls.append)[kind])
    wiring.router.announce(wiring.gap())
    await settle()
    assert calls == []


# Plain functions


async def test_function_when_called():
    """A plain function is called at once in the loop's thread, and its result is ignored."""
    wiring = Wiring()
    threads = []
    receiver = wiring.receiver(lambda message: threads.append(threading.current_thread()) or "anything")
    wiring.route(1)
    assert threads == [threading.current_thread()]
    assert len(receiver) == 0
    assert not wiring.seen
    wiring.router.end(ZeroDivisionError())
    wiring.route(2)
    assert len(threads) == 1


async def test_function_when_it_returns_a_coroutine(wiring):
    """A plain function that returns a coroutine is reported, because the coroutine is never awaited."""

    async def handle(message):
        raise AssertionError

    wiring.handler(lambda message: handle(message))
    wiring.route(1, 2)
    assert wiring.reporter.counters.failures == 2
    assert isinstance(wiring.seen[0].error, TypeError)
    assert "give add_handler the coroutine function itself" in str(wiring.seen[0].error)


async def test_function_when_it_returns_another_awaitable(wiring):
    """A plain function that returns another awaitable is reported, too."""

    class Awaitable:
        def __await__(self):
            raise AssertionError

    wiring.handler(lambda message: Awaitable())
    wiring.route(1)
    assert "returned an awaitable" in str(wiring.seen[0].error)


async def test_function_when_it_returns_a_task(wiring):
    """A plain function may return a task, because a task runs without being awaited."""
    calls = []

    async def handle(message):
        calls.append(message)

    wiring.handler(lambda message: asyncio.ensure_future(handle(message)))
    wiring.route(1)
    await settle()
    assert calls == [1]
    assert not wiring.seen


# Coroutine functions


async def test_coroutine_when_in_any_form(wiring):
    """Methods, partials and objects whose ``__call__`` is a coroutine function are awaited, too."""
    calls = []

    class Handler:
        async def method(self, message):
            calls.append(("method", message))

        async def __call__(self, message):
            calls.append(("call", message))

    async def two(prefix, message):
        calls.append((prefix, message))

    for function in (Handler().method, Handler(), functools.partial(two, "partial")):
        wiring.handler(function)
    wiring.route(1)
    await settle()
    assert calls == [("method", 1), ("call", 1), ("partial", 1)]


async def test_coroutine_when_slow(virtual_time):
    """Each coroutine handler has its own queue, so a slow one delays no other handler and misses no message."""
    wiring = Wiring()
    slow, fast, plain = [], [], []

    async def slowly(message):
        await asyncio.sleep(1)
        slow.append((message, virtual_time.time()))

    async def quickly(message):
        fast.append((message, virtual_time.time()))

    wiring.handler(slowly)
    wiring.handler(quickly)
    wiring.handler(plain.append)
    wiring.route(1, 2, 3)
    assert plain == [1, 2, 3]
    await asyncio.sleep(10)
    assert fast == [(1, 0), (2, 0), (3, 0)]
    assert slow == [(1, 1), (2, 2), (3, 3)]
    wiring.router.end(None)


async def test_coroutine_when_called(virtual_time):
    """A coroutine handler gets one message at a time, in order, however long each call takes."""
    wiring = Wiring()
    running = 0
    order = []

    async def handle(message):
        nonlocal running
        running += 1
        assert running == 1
        await asyncio.sleep(1 / message)
        running -= 1
        order.append(message)

    wiring.handler(handle)
    wiring.route(*range(1, 20))
    await asyncio.sleep(10)
    assert order == list(range(1, 20))
    assert not wiring.seen
    wiring.router.end(None)


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("held", [False, True])
async def test_coroutine_when_it_cancels_itself(wiring, times, waits, held):
    """A handler that cancels its own task fails for that message, and gets the next message."""
    done = []

    async def handle(message):
        if message == 1:
            for _ in range(times):
                asyncio.current_task().cancel()
            if waits:
                await asyncio.sleep(0)
        else:
            await asyncio.sleep(0)
            done.append((message, asyncio.current_task().cancelling()))

    wiring.handler(handle)
    wiring.route(1)
    if held:
        wiring.route(2)
    await settle()
    if not held:
        wiring.route(2)
    await settle()
    assert done == [(2, 0)]
    assert [event.message for event in wiring.seen] == [1]
    assert isinstance(wiring.seen[0].error, asyncio.CancelledError)


async def test_coroutine_when_it_swallows_a_cancellation(wiring):
    """A handler that suppresses a cancellation continues with the next message."""
    counts = []

    async def handle(message):
        asyncio.current_task().cancel()
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            counts.append(asyncio.current_task().cancelling())

    wiring.handler(handle)
    wiring.route(1, 2)
    await settle()
    assert counts == [1, 1]
    assert not wiring.seen


async def test_coroutine_when_it_uses_timeouts(virtual_time):
    """asyncio.timeout works in each call of a handler."""
    wiring = Wiring()
    outcomes = []

    async def handle(message):
        try:
            async with asyncio.timeout(1):
                await asyncio.sleep(message)
        except TimeoutError:
            outcomes.append("timeout")
        else:
            outcomes.append("done")

    wiring.handler(handle)
    wiring.route(0.5, 2, 0.5, 2)
    await asyncio.sleep(10)
    assert outcomes == ["done", "timeout", "done", "timeout"]
    assert not wiring.seen
    wiring.router.end(None)


async def test_coroutine_when_disposed_while_called(wiring):
    """After dispose the running call continues to its end, and the waiting messages are discarded."""
    done = []
    go_on = asyncio.Event()

    async def handle(message):
        await go_on.wait()
        done.append(message)

    receiver = wiring.receiver(handle)
    wiring.route(1, 2, 3)
    await settle()
    assert len(receiver) == 2
    receiver.dispose()
    assert len(receiver) == 0
    go_on.set()
    await asyncio.wait_for(task_of(receiver), 1)
    assert done == [1]


async def test_coroutine_when_the_feed_ends(wiring):
    """At the end of the feed a handler gets its waiting messages, then its task ends."""
    done = []

    async def handle(message):
        await asyncio.sleep(0)
        done.append(message)

    receiver = wiring.receiver(handle)
    wiring.route(1, 2, 3)
    wiring.router.end(ZeroDivisionError())
    await asyncio.wait_for(task_of(receiver), 1)
    assert done == [1, 2, 3]
    assert not wiring.seen


async def test_coroutine_when_added_after_the_end(wiring):
    """A handler that is added after the end leaves no task."""
    wiring.router.end(None)

    async def handle(message):
        raise AssertionError

    await asyncio.wait_for(task_of(wiring.receiver(handle)), 1)


@pytest.mark.parametrize("busy", [False, True])
async def test_coroutine_when_cancelled_by_the_feed(wiring, busy):
    """When the feed cancels a call, the task ends without a report."""

    async def handle(message):
        await asyncio.Event().wait()

    receiver = wiring.receiver(handle)
    if busy:
        wiring.route(1, 2)
    await settle()
    receiver.cancel()
    await settle()
    assert task_of(receiver).cancelled()
    assert not wiring.seen
    assert wiring.router.receivers == []


async def test_coroutine_when_it_fails_while_cancelled(wiring):
    """An exception that a handler raises while the feed cancels it is reported, and the task ends."""

    async def handle(message):
        try:
            await asyncio.Event().wait()
        finally:
            raise ZeroDivisionError

    receiver = wiring.receiver(handle)
    wiring.route(1, 2)
    await settle()
    receiver.cancel()
    await asyncio.wait_for(task_of(receiver), 1)
    assert [type(event.error) for event in wiring.seen] == [ZeroDivisionError]


async def test_coroutine_when_its_task_is_cancelled(wiring):
    """If a handler's task is cancelled while it waits, this is reported, and the handler is unregistered."""

    async def handle(message):
        raise AssertionError

    receiver = wiring.receiver(handle)
    await settle()
    task_of(receiver).cancel()
    await settle()
    assert wiring.router.receivers == []
    assert [(event.handler, type(event.error)) for event in wiring.seen] == [(name_of(handle), asyncio.CancelledError)]


def test_coroutine_when_the_loop_is_torn_down(caplog):
    """A call that asyncio.run cancels at its end is not reported."""

    async def handle(message):
        await asyncio.sleep(60)

    async def main():
        wiring = Wiring()
        wirings.append(wiring)
        for _ in range(2):
            wiring.receiver(handle)
        wiring.route("a")
        await settle()

    wirings = []
    asyncio.run(main())
    assert wirings[0].reporter.counters.failures == 0
    assert caplog.records == []


async def test_coroutine_when_full_and_overflow_is_error(wiring):
    """A handler whose queue overflows handles its waiting messages and ends. The overflow and the end are reported."""
    done = []

    async def handle(message):
        done.append(message)

    receiver = wiring.receiver(handle, maxsize=2)
    wiring.route(1, 2, 3, 4)
    assert wiring.router.receivers == []
    await asyncio.wait_for(task_of(receiver), 1)
    assert done == [1, 2]
    overflowed, failed = wiring.seen
    assert isinstance(overflowed, Overflowed)
    assert overflowed.consumer.startswith("handler ")
    assert overflowed.consumer.endswith("handle")
    assert isinstance(failed, CallbackFailed)
    assert isinstance(failed.error, StreamOverflow)


@pytest.mark.parametrize(("overflow", "expected"), [("drop_oldest", [3, 4]), ("drop_newest", [1, 2])])
async def test_coroutine_when_full_and_overflow_drops(wiring, overflow, expected):
    """A handler's queue drops messages as a stream does."""
    done = []

    async def handle(message):
        done.append(message)

    receiver = wiring.receiver(handle, maxsize=2, overflow=overflow)
    wiring.route(1, 2, 3, 4)
    await settle()
    assert done == expected
    assert receiver.dropped == 2


async def test_coroutine_when_it_lags(wiring):
    """A handler with 10,000 waiting messages is reported as lagging."""

    async def handle(message):
        await asyncio.Event().wait()

    wiring.handler(handle)
    wiring.route(*range(10_001))
    assert [type(event) for event in wiring.seen] == [Lagging]
    for receiver in wiring.router.receivers:
        receiver.cancel()
    await settle()
