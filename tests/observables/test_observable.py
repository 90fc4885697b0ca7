"""AsyncObservable: an Observable bound to an event loop."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref

import pytest
import reactivex as rx
from reactivex import ConnectableObservable, GroupedObservable, Observable
from reactivex import operators as ops
from reactivex.internal.exceptions import SequenceContainsNoElementsError
from reactivex.scheduler import CurrentThreadScheduler, HistoricalScheduler
from reactivex.subject import ReplaySubject, Subject

import rxws
from rxws.errors import StreamOverflow
from rxws.observables.hot import CurrentObservable, HotObservable
from rxws.observables.loop_context import LoopContext
from rxws.observables.observable import AsyncConnectableObservable, AsyncGroupedObservable, AsyncObservable, on_loop

from ..support.wiring import Wiring, emit, emit_at, in_thread, settle, subscribed


@pytest.fixture
async def wiring():
    return Wiring()


@pytest.fixture
async def hot(wiring):
    return wiring.router.messages


@pytest.fixture
async def timed(virtual_time):
    """A hot Observable in virtual time."""
    return Wiring().router.messages


# subscribe


async def test_subscribe_when_given_an_observer(hot):
    """An observer may be given in place of functions."""
    subject = ReplaySubject()
    behind = ReplaySubject()
    hot.subscribe(subject)
    hot.pipe(ops.map(str)).subscribe(behind)
    hot.on_next(1)
    hot.end()
    for observer, expected in ((subject, 1), (behind, "1")):
        seen = []
        observer.subscribe(seen.append, on_completed=lambda seen=seen: seen.append("end"))
        assert seen == [expected, "end"]


async def test_subscribe_when_given_a_coroutine_function(hot):
    """A coroutine function or method raises a TypeError that names the function and add_handler."""

    async def handle(item=None):
        raise AssertionError

    class Observer:
        async def on_next(self, item):
            raise AssertionError

        def on_error(self, error):
            raise AssertionError

        def on_completed(self):
            raise AssertionError

    for arguments in ((handle,), (print, handle), (print, print, handle), (Observer(),)):
        for observable in (hot, hot.pipe(ops.map(str))):
            with pytest.raises(TypeError, match=r"(handle|on_next) is a coroutine .* add_handler"):
                observable.subscribe(*arguments)


async def test_subscribe_when_given_a_generator_function(hot):
    """A generator function raises TypeError, because its code would never run."""

    def generate(item):
        yield item

    with pytest.raises(TypeError, match="generate is a coroutine or generator function"):
        hot.subscribe(generate)


@pytest.mark.parametrize("on_next", [5, "print", [print], {}])
async def test_subscribe_when_given_no_function(hot, on_next):
    """An argument that is not callable raises a TypeError that shows it."""
    with pytest.raises(TypeError, match="on_next must be an observer or a function of one argument, not"):
        hot.subscribe(on_next)


@pytest.mark.parametrize("wrong", ["on_error", "on_completed"])
async def test_subscribe_when_the_callbacks_of_the_end_are_not_functions(hot, wrong):
    """on_error and on_completed that are not callable raise TypeError when subscribing."""
    with pytest.raises(TypeError, match=f"{wrong} must be a function, or None for none, not 5"):
        hot.subscribe(print, **{wrong: 5})


async def test_subscribe_when_there_is_no_on_error(wiring, hot, caplog):
    """The error of a source or of a mapper is logged and emitted if the subscription has no on_error."""
    hot.pipe(ops.map(lambda item: 1 / item)).subscribe(print)
    sibling = subscribed(hot)
    hot.on_next(0)
    assert [type(event.error) for event in wiring.seen] == [ZeroDivisionError]
    assert "a subscription without on_error raised" in caplog.text
    error = KeyError()
    hot.subscribe(print)
    hot.end(error)
    assert wiring.seen[1].error is error
    assert sibling == [0, ("end", error)]


async def test_subscribe_when_a_mapper_raises(wiring, hot):
    """An error in a chain of operators is passed to the on_error of that chain, and ends only that chain."""
    chain, other = subscribed(hot.pipe(ops.map(lambda item: 1 / item))), subscribed(hot)
    emit(hot, 1, 0, 2)
    assert chain[0] == 1
    assert isinstance(chain[1][1], ZeroDivisionError)
    assert len(chain) == 2
    assert other == [1, 0, 2]
    assert not wiring.seen


@pytest.mark.parametrize("derive", [lambda hot: hot, lambda hot: hot.map(str)], ids=["itself", "piped"])
async def test_subscribe_when_disposed_from_another_thread(hot, derive):
    """The Disposable may be disposed from any thread; at most one loop iteration later no more items are emitted."""
    seen = []
    subscription = derive(hot).subscribe(seen.append)
    in_thread(subscription.dispose)
    await settle()
    hot.on_next(1)
    assert seen == []
    assert not hot.observed


async def test_subscribe_when_disposed_after_the_loop_was_closed():
    """A Disposable may be disposed after its loop was closed."""
    held = []

    async def main():
        hot = Wiring().router.messages
        held.extend((hot, hot.subscribe(print), hot.map(str).subscribe(print)))

    await asyncio.to_thread(asyncio.run, main())
    hot, *subscriptions = held
    for subscription in subscriptions:
        subscription.dispose()
    assert not hot.observed


async def test_subscribe_when_outside_the_loop(wiring, hot):
    """Outside the loop, subscribing, iterating and connecting raise RuntimeError with the feed's name and a remedy."""
    iterator = aiter(hot)
    published = hot.publish()
    for call in (
        lambda: hot.subscribe(print),
        lambda: hot.map(str).subscribe(print),
        lambda: aiter(hot),
        lambda: iterator.aclose().send(None),
        lambda: published.connect(),
        lambda: published.auto_connect(),
        lambda: wiring.context.check(),
    ):
        with pytest.raises(RuntimeError, match=r"feed belongs to the event loop .*call_soon_threadsafe"):
            in_thread(call)


# async for


async def test_iteration_when_two_iterate(hot):
    """Each async for has its own buffer from the call of aiter on."""
    hot.on_next(0)
    first = aiter(hot)
    hot.on_next(1)
    second = aiter(hot)
    hot.on_next(2)
    hot.end()
    assert [item async for item in first] == [1, 2]
    assert [item async for item in second] == [2]


async def test_iteration_when_the_sequence_fails(hot):
    """An async for gets the waiting items before it raises the error of the sequence."""
    iterator = aiter(hot.pipe(ops.map(lambda item: 1 / item)))
    emit(hot, 1, 0)
    assert await anext(iterator) == 1
    with pytest.raises(ZeroDivisionError):
        await anext(iterator)


async def test_iteration_when_the_consumer_is_too_slow(wiring, hot):
    """An async for holds at most a million items; when one more arrives, it delivers them and raises StreamOverflow."""
    iterator = aiter(hot)
    for _ in range(1_000_000):
        iterator._buffer.put(None)
    assert not iterator._buffer.closed
    hot.on_next("one too many")
    assert len(iterator._buffer.take()) == 1_000_000
    with pytest.raises(StreamOverflow):
        await anext(iterator)
    assert wiring.seen[-1].consumer == "an async for"


async def test_iteration_when_cancelled(hot):
    """A cancelled anext loses no item, and a second concurrent one raises."""
    iterator = aiter(hot)
    waiting = asyncio.create_task(anext(iterator))
    await settle()
    with pytest.raises(RuntimeError, match="already waiting"):
        await anext(iterator)
    hot.on_next(1)
    waiting.cancel()
    await settle()
    assert waiting.cancelled()
    assert await anext(iterator) == 1


@pytest.mark.parametrize("derive", [lambda hot: hot, lambda hot: hot.map(str).filter(bool)], ids=["itself", "piped"])
@pytest.mark.parametrize("way", ["break", "raise", "cancel", "return"])
async def test_iteration_when_left(hot, derive, way):
    """Leaving an async for, in any way, ends its subscription and frees its items."""

    class Item:
        def __str__(self):
            return "item"

    async def consume():
        async for _ in derive(hot):
            if way == "break":
                break
            if way == "raise":
                raise ZeroDivisionError
            if way == "return":
                return

    task = asyncio.create_task(consume())
    await settle()
    assert hot.observed
    items = [Item(), Item()]
    held = [weakref.ref(item) for item in items]
    if way == "cancel":
        task.cancel()
    emit(hot, *items)
    items.clear()
    await asyncio.wait({task})
    assert task.cancelled() or isinstance(task.exception(), ZeroDivisionError | None)
    del task
    gc.collect()
    await asyncio.sleep(0)
    assert not hot.observed
    hot.on_next(None)
    assert [ref() for ref in held] == [None, None]


@pytest.mark.parametrize("derive", [lambda hot: hot, lambda hot: hot.map(str)], ids=["itself", "piped"])
async def test_iteration_when_the_iterator_is_dropped(hot, derive):
    """A dropped iterator keeps no further item, and ends its subscription within one iteration of the loop."""
    iterator = aiter(derive(hot))
    buffer = iterator._buffer
    assert hot.observed
    del iterator
    hot.on_next(1)
    assert len(buffer) == 0
    assert hot.observed
    await asyncio.sleep(0)
    assert not hot.observed


async def test_iteration_when_it_is_dropped_in_another_thread(hot):
    """An iterator that is dropped in another thread ends its subscription on the loop's thread."""
    threads = []
    ended = hot.pipe(ops.do_action(), ops.finally_action(lambda: threads.append(threading.current_thread())))
    holder = [aiter(ended)]
    in_thread(holder.clear)
    assert threads == []
    await asyncio.sleep(0)
    assert threads == [threading.current_thread()]
    assert not hot.observed


async def test_iteration_when_it_is_dropped_after_the_loop_was_closed():
    """An iterator that is dropped after its loop was closed ends its subscription at once."""
    held = []

    async def main():
        hot = Wiring().router.messages
        held.append((hot, aiter(hot)))

    await asyncio.to_thread(asyncio.run, main())
    hot, iterator = held.pop()
    assert hot.observed
    del iterator
    assert not hot.observed


async def test_iteration_when_closed(hot):
    """aclose() ends the subscription, discards the waiting items, and ends the iteration."""
    iterator = aiter(hot)
    hot.on_next(1)
    await iterator.aclose()
    await iterator.aclose()
    assert not hot.observed
    with pytest.raises(StopAsyncIteration):
        await anext(iterator)


async def test_iteration_when_closed_while_the_consumer_waits(hot):
    """aclose() ends the anext of a waiting consumer."""
    iterator = aiter(hot)
    waiting = asyncio.create_task(anext(iterator))
    await settle()
    await iterator.aclose()
    with pytest.raises(StopAsyncIteration):
        await waiting


async def test_iteration_when_not_asynchronous(hot):
    """A plain for raises TypeError: it would block the loop."""
    with pytest.raises(TypeError, match="not iterable"):
        iter(hot)
    with pytest.raises(TypeError, match="not iterable"):
        iter(hot.map(str))


async def test_await_when_the_sequence_ends(hot):
    """await returns the last item, and to_future a future with it; without an item both raise."""
    for make in (lambda source: asyncio.ensure_future(awaited(source)), lambda source: source.pipe(ops.to_future())):
        future = make(hot.pipe(ops.take(2)))
        await settle()
        emit(hot, 1, 2, 3)
        assert await future == 2
    assert not hot.observed
    hot.end()
    with pytest.raises(SequenceContainsNoElementsError):
        await hot.pipe(ops.take(2))


@pytest.mark.parametrize("kind", ["hot", "stream", "current", "resynced"])
async def test_await_when_the_sequence_ends_only_with_its_feed(hot, kind):
    """await of a sequence without operators raises TypeError and names anext and collect; it does not wait."""
    wiring = Wiring()
    stream = wiring.stream()
    resynced = stream.resync(answer, sequence=("U", "u"), snapshot_sequence="u")
    sources = {"hot": hot, "stream": stream, "current": CurrentObservable(hot._context, 1), "resynced": resynced}
    with pytest.raises(TypeError, match=r"anext.*collect"):
        await sources[kind]


async def test_await_when_connectable(hot):
    """await of a published Observable returns its last item."""
    published = hot.publish()
    future = asyncio.ensure_future(awaited(published))
    await settle()
    connection = published.connect()
    emit(hot, 1, 2)
    hot.end()
    assert await future == 2
    connection.dispose()


async def answer(*_):
    return True


async def test_subscriber_when_an_item_is_a_coroutine(hot):
    """An item that is a coroutine is closed and ends the subscription with TypeError."""
    items, errors = [], []
    projected = hot.pipe(ops.map(lambda item: answer(item) if item > 1 else item))
    projected.subscribe(items.append, errors.append)
    emit(hot, 1, 2, 3)
    (error,) = errors
    assert isinstance(error, TypeError)
    assert "map_async(function)" in str(error)
    assert items == [1]
    assert not hot.observed


@pytest.mark.parametrize(
    "gather", [lambda one: [one], lambda one: (1, one), lambda one: {"result": one}], ids=["list", "tuple", "dict"]
)
async def test_subscriber_when_an_item_contains_a_coroutine(hot, gather):
    """A list, tuple or dict of coroutines ends the subscription with TypeError, even after an empty one."""
    got, errors = [], []

    async def later(item):
        return item

    hot.pipe(ops.map(lambda item: gather(later(item)) if item else type(gather(0))())).subscribe(
        got.append, errors.append
    )
    hot.on_next(0)
    hot.on_next(1)
    hot.on_next(2)
    assert len(got) == 1
    (error,) = errors
    assert isinstance(error, TypeError)
    assert "no operator awaited the coroutine" in str(error)


async def test_subscriber_when_coroutines_arrive_during_subscribe(hot):
    """Coroutines that are emitted before subscribe returns are closed, too, and reported once."""
    errors = []
    on_loop(rx.of(1, 2, 3)).pipe(ops.map(answer)).subscribe(print, errors.append)
    assert [type(error) for error in errors] == [TypeError]


async def test_iteration_when_an_item_is_a_coroutine(hot):
    """async for raises the TypeError of an item that is a coroutine."""
    iterator = aiter(hot.pipe(ops.map(answer)))
    emit(hot, 1, 2)
    with pytest.raises(TypeError, match="coroutine"):
        await anext(iterator)
    assert not hot.observed


async def test_iteration_when_a_coroutine_function_decides_a_filter(hot):
    """A filter with a coroutine function passes nothing: async for raises TypeError at the first item."""
    iterator = aiter(hot.pipe(ops.filter(answer)))
    emit(hot, 1)
    with pytest.raises(TypeError, match="answer is a coroutine function"):
        await anext(iterator)


async def awaited(observable):
    return await observable


# The results of operators


async def test_pipe_when_operators_are_chained(hot):
    """pipe and fluent operators return AsyncObservables."""
    for derived in (
        hot.pipe(ops.map(str)),
        hot.pipe(ops.map(str), ops.filter(bool), ops.buffer_with_count(2)),
        hot.map(str).filter(bool).buffer_with_count(2),
        hot.pipe(ops.share()),
        hot.merge(rx.never()),
        hot.combine_latest(hot),
        hot + hot,
        hot[1:],
        *hot.partition(bool),
    ):
        assert isinstance(derived, AsyncObservable)
    assert hot.pipe() is hot
    assert hot.pipe(lambda source: 5) == 5


async def test_fluent_when_subscribed(hot):
    """Fluent operators do the same as piped ones."""
    seen = subscribed(hot.filter(lambda item: item > 1).map(lambda item: item * 2).take(2))
    emit(hot, 1, 2, 3, 4)
    assert seen == [4, 6, ("end", None)]
    assert not hot.observed


async def test_publish_when_connected(hot):
    """publish returns an AsyncConnectableObservable, which starts with connect and ends with its Disposable."""
    published = hot.pipe(ops.publish())
    assert isinstance(published, AsyncConnectableObservable)
    assert isinstance(published, ConnectableObservable)
    seen, iterator = subscribed(published), aiter(published)
    hot.on_next(1)
    assert not published.has_subscription
    connection = published.connect()
    assert published.has_subscription
    hot.on_next(2)
    assert seen == [await anext(iterator)] == [2]
    assert published.connect() is connection
    connection.dispose()
    hot.on_next(3)
    assert seen == [2]
    assert not hot.observed


async def test_ref_count_when_the_last_subscriber_disposes(hot):
    """ref_count stays connected while there is a subscriber."""
    shared = hot.publish().ref_count()
    assert isinstance(shared, AsyncObservable)
    first, second = shared.subscribe(print), shared.subscribe(print)
    assert len(hot.subscriptions) == 1
    first.dispose()
    assert hot.observed
    second.dispose()
    assert not hot.observed


@pytest.mark.parametrize("count", [0, 1, 2])
async def test_auto_connect_when_enough_are_subscribed(hot, count):
    """auto_connect connects at the given number of subscribers; with 0 it connects at once."""
    shared = hot.publish().auto_connect(count)
    assert isinstance(shared, AsyncObservable)
    for subscribers in range(count):
        assert not hot.observed, subscribers
        shared.subscribe()
    assert hot.observed


async def test_auto_connect_when_the_source_is_timed(timed):
    """A source that is connected at once runs on the loop's clock, too."""
    shared = timed.pipe(ops.delay(5), ops.publish()).auto_connect(0)
    seen = subscribed(shared)
    timed.on_next(1)
    await asyncio.sleep(4.9)
    assert seen == []
    await asyncio.sleep(0.2)
    assert seen == [1]


async def test_replay_when_subscribed_late(timed):
    """replay gives a late subscriber the last items, within a window on the loop's clock."""
    replayed = timed.pipe(ops.replay(buffer_size=2))
    windowed = timed.pipe(ops.replay(window=5.0))
    replayed.connect()
    windowed.connect()
    await emit_at(timed, 1, 2, 3)
    assert subscribed(replayed) == [2, 3]
    await asyncio.sleep(4.5)
    assert subscribed(windowed) == [3]
    assert isinstance(windowed, AsyncConnectableObservable)


async def test_replay_when_given_a_scheduler(hot):
    """replay keeps a scheduler that it was given."""
    scheduler = HistoricalScheduler()
    assert hot.replay(scheduler=scheduler).subject.scheduler is scheduler


async def test_group_by_when_a_key_arrives(hot):
    """group_by emits AsyncObservables with their key, which support async for and pipe."""
    iterator = aiter(hot.pipe(ops.group_by(lambda item: item % 2)))
    emit(hot, 1)
    odd = await anext(iterator)
    assert isinstance(odd, AsyncGroupedObservable)
    assert isinstance(odd, GroupedObservable)
    assert odd.key == 1
    assert isinstance(odd.underlying_observable, Observable)
    items = aiter(odd.map(str))
    emit(hot, 2, 3)
    assert (await anext(iterator)).key == 0
    assert await anext(items) == "3"


async def test_group_by_when_merged_again(hot):
    """flat_map merges the groups of group_by into one sequence."""
    seen = subscribed(
        hot.group_by(lambda item: item % 2).flat_map(lambda group: group.map(lambda item: (group.key, item)))
    )
    emit(hot, 1, 2, 3)
    assert seen == [(1, 1), (0, 2), (1, 3)]


async def test_window_when_timed_inside_a_subscriber(timed):
    """Timed operators on windows and groups that a subscriber gets also run on the loop's clock."""
    seen = []
    threads = threading.active_count()
    timed.group_by(lambda item: "key").subscribe(lambda group: group.debounce(5.0).subscribe(seen.append))
    timed.window_with_count(2).subscribe(lambda window: window.delay(3.0).subscribe(lambda item: seen.append(-item)))
    await emit_at(timed, 1, 2)
    assert threading.active_count() == threads
    await asyncio.sleep(10)
    assert seen == [-1, -2, 2]


# Time


@pytest.mark.parametrize(
    ("operator", "expected"),
    [
        (ops.buffer_with_time(2.5), [(2.5, [1, 2]), (5, [3, 4]), (7.5, [])]),
        (ops.debounce(0.75), [(1.75, 1), (2.75, 2), (3.75, 3), (4.75, 4)]),
        (ops.delay(10), [(11, 1), (12, 2), (13, 3), (14, 4)]),
        (ops.throttle_first(1.5), [(1, 1), (3, 3)]),
        (ops.sample(2.5), [(2.5, 2), (5, 4)]),
        (ops.take_with_time(2.5), [(1, 1), (2, 2), (2.5, "end")]),
        (ops.timeout(2.0, rx.just("quiet")), [(1, 1), (2, 2), (3, 3), (4, 4), (6, "quiet"), (6, "end")]),
        (ops.map(lambda item: item), [(1, 1), (2, 2), (3, 3), (4, 4)]),
    ],
    ids=["buffer_with_time", "debounce", "delay", "throttle", "sample", "take_with_time", "timeout", "none"],
)
async def test_operator_when_timed(timed, operator, expected):
    """Timed operators run on the loop's clock, here with items at 1, 2, 3 and 4 seconds of virtual time."""
    loop = asyncio.get_running_loop()
    seen = []
    threads = threading.active_count()
    started = time.monotonic()
    subscription = timed.pipe(operator).subscribe(
        lambda item: seen.append((round(loop.time(), 6), item)),
        on_completed=lambda: seen.append((round(loop.time(), 6), "end")),
    )
    await emit_at(timed, 1, 2, 3, 4)
    await asyncio.sleep(4)
    assert threading.active_count() == threads
    await asyncio.sleep(10)
    subscription.dispose()
    # Leave out the empty buffers of a longer silence.
    assert [entry for entry in seen if entry[0] < 8 or entry[1]] == expected
    assert time.monotonic() - started < 5


async def test_operator_when_iterated_over(timed):
    """async for over a timed operator runs on the loop's clock."""

    async def consume():
        async for batch in timed.pipe(ops.buffer_with_time(1.0)):
            batches.append((asyncio.get_running_loop().time(), batch))
            if len(batches) == 3:
                return

    batches = []
    task = asyncio.create_task(consume())
    await emit_at(timed, 0.25, 0.5, 2.25)
    await task
    assert batches == [(1, [0.25, 0.5]), (2, []), (3, [2.25])]
    await settle()
    gc.collect()
    assert not timed.observed


async def test_operator_when_given_a_scheduler(timed):
    """An operator that is given a scheduler uses it, and so does subscribe."""
    for given in ("operator", "subscribe"):
        scheduler = HistoricalScheduler()
        if given == "operator":
            seen = subscribed(timed.pipe(ops.delay(5.0, scheduler=scheduler)))
        else:
            seen = subscribed(timed.pipe(ops.delay(5.0)), scheduler=scheduler)
        timed.on_next(1)
        await asyncio.sleep(100)
        assert seen == []
        scheduler.advance_by(6.0)
        assert seen == [1]


async def test_operator_when_its_timed_subscriber_raises(virtual_time):
    """A raising subscriber of a timed operator is reported by its own name, and gets the next item."""
    wiring = Wiring()
    hot = wiring.router.messages
    calls = []

    def broken(item):
        calls.append(item)
        raise ZeroDivisionError

    hot.pipe(ops.delay(1.0)).subscribe(broken)
    emit(hot, 1, 2)
    await asyncio.sleep(2)
    assert calls == [1, 2]
    assert [event.message for event in wiring.seen] == [1, 2]
    assert wiring.seen[0].handler.endswith("broken")


async def test_operator_when_what_it_schedules_raises(virtual_time):
    """An exception in an action that an operator scheduled is reported."""
    wiring = Wiring()
    wiring.context.scheduler.schedule_relative(1.0, lambda *_: 1 / 0)
    await asyncio.sleep(2)
    assert [(event.handler, type(event.error)) for event in wiring.seen] == [
        ("a timed operator's subscriber", ZeroDivisionError)
    ]


# on_loop


async def test_on_loop_when_given_any_observable(hot):
    """on_loop makes an AsyncObservable of any Observable."""
    other = Subject()
    merged = rxws.on_loop(rx.merge(hot, other))
    assert isinstance(merged, AsyncObservable)
    iterator = aiter(merged)
    hot.on_next(1)
    other.on_next(2)
    assert [await anext(iterator), await anext(iterator)] == [1, 2]
    assert await rxws.on_loop(rx.of(1, 2, 3)).filter(lambda item: item < 3) == 2
    assert [item async for item in rxws.on_loop(rx.from_iterable(range(5)))] == list(range(5))


async def test_on_loop_when_it_is_one_already(hot):
    """on_loop returns an AsyncObservable unchanged."""
    assert rxws.on_loop(hot) is hot


async def test_on_loop_when_it_can_be_connected():
    """A connectable Observable keeps its members and its connection."""
    source = Subject()
    published = source.pipe(ops.publish())
    connection = published.connect()
    bound = rxws.on_loop(published)
    assert bound.has_subscription
    assert bound.connect() is connection
    seen = subscribed(bound)
    source.on_next(1)
    assert seen == [1]


async def test_on_loop_when_timed(virtual_time):
    """All timed operators of an on_loop Observable, even those inside a pipe, run on the loop's clock."""
    seen = []
    rxws.on_loop(rx.timer(3600.0)).subscribe(lambda _: seen.append(virtual_time.time()))
    rxws.on_loop(rx.merge(rx.timer(60.0), rx.timer(120.0))).pipe(ops.delay(1.0)).subscribe(
        lambda _: seen.append(virtual_time.time())
    )
    await asyncio.sleep(4000)
    assert seen == [61, 121, 3600]


@pytest.mark.parametrize("observable", [None, [1, 2], print, range(3)])
async def test_on_loop_when_given_none(observable):
    """An argument that is not an Observable raises TypeError."""
    with pytest.raises(TypeError, match=r"expected a reactivex Observable, such as ws\.messages or a stream, not"):
        rxws.on_loop(observable)


def test_on_loop_when_no_loop_runs():
    """Without a running loop on_loop raises a RuntimeError that says so."""
    with pytest.raises(RuntimeError, match="on_loop must be called inside a running event loop"):
        rxws.on_loop(rx.never())


async def test_on_loop_when_there_is_no_on_error(caplog):
    """An error without on_error is logged."""
    rxws.on_loop(rx.throw(ZeroDivisionError("no"))).subscribe(print)
    assert "on_loop: a subscription without on_error raised" in caplog.text


async def test_scheduler_when_nothing_is_timed(hot):
    """Without timed operators items arrive during subscribe."""
    seen = subscribed(hot.pipe(ops.start_with(0)))
    assert seen == [0]
    assert subscribed(hot.pipe(ops.start_with(0)), scheduler=CurrentThreadScheduler.singleton()) == [0]


# collect


async def test_collect_when_the_sequence_ends(hot):
    """collect returns all items from the call on until the end as a list, and raises an error of the sequence."""
    for error in (None, ZeroDivisionError()):
        source = HotObservable(hot._context)
        source.on_next(0)
        task = asyncio.create_task(source.collect())
        await settle()
        emit(source, 1, 2)
        source.end(error)
        if error is None:
            assert await task == [1, 2]
        else:
            with pytest.raises(ZeroDivisionError):
                await task


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"count": 2}, [1, 2]),
        ({"seconds": 3.5}, [1, 2, 3]),
        ({"count": 9, "seconds": 1.5}, [1]),
        ({"count": 0}, []),
        ({"seconds": 0}, []),
    ],
    ids=repr,
)
async def test_collect_when_limited(timed, limits, expected):
    """collect ends after the given number of items or of seconds on the loop's clock, and ends its subscription."""
    task = asyncio.create_task(timed.collect(**limits))
    await emit_at(timed, 1, 2, 3, 4)
    await asyncio.sleep(1)
    assert task.done()
    assert await task == expected
    assert not timed.observed


@pytest.mark.parametrize("limits", [{"count": -1}, {"seconds": -0.1}, {"seconds": float("nan")}], ids=repr)
async def test_collect_when_a_limit_is_negative(hot, limits):
    """A negative limit raises ValueError."""
    with pytest.raises(ValueError, match="count and seconds must not be negative"):
        await hot.collect(**limits)


async def test_collect_when_cancelled(hot):
    """A cancelled collect ends its subscription."""
    task = asyncio.create_task(hot.collect())
    await settle()
    task.cancel()
    await settle()
    assert task.cancelled()
    assert not hot.observed


async def test_consumed_when_the_producer_can_wait(wiring):
    """If the producer can wait for consumers, the context records the buffers that have a consumer."""
    consumers = weakref.WeakSet()
    hot = HotObservable(LoopContext(wiring.loop, wiring.reporter, consumers=consumers))
    iterator = aiter(hot)
    assert set(consumers) == {iterator._buffer}
    del iterator
    gc.collect()
    await settle()
    assert not consumers
