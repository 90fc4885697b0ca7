"""Hot Observables: order, failing subscribers, the end; the current value; the events."""

from __future__ import annotations

import asyncio
import gc

import pytest
from reactivex import operators as ops

from rxws.callables import name_of
from rxws.observables.hot import CurrentObservable, HotObservable
from rxws.reporting.events import CallbackFailed, Quiet

from ..support.wiring import Wiring, emit, in_thread, subscribed


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


# Fan-out


async def test_emit_when_several_are_subscribed(hot):
    """Each item goes to all present subscribers, in the order of their subscriptions."""
    order = []
    first = hot.subscribe(lambda item: order.append(("first", item)))
    hot.subscribe(lambda item: order.append(("second", item)))
    hot.on_next(1)
    first.dispose()
    first.dispose()
    hot.on_next(2)
    assert order == [("first", 1), ("second", 1), ("second", 2)]
    assert hot.observed


async def test_emit_when_there_is_no_subscriber(hot):
    """An item without a subscriber is discarded: the Observable is hot."""
    hot.on_next(1)
    assert not hot.observed
    assert subscribed(hot) == []


@pytest.mark.parametrize("error", [ZeroDivisionError("no"), asyncio.CancelledError()], ids=repr)
async def test_emit_when_a_subscriber_raises(wiring, hot, error, caplog):
    """If a subscriber raises, this is logged, counted and emitted; the others get the item, and all get the next."""
    calls = []

    def broken(item):
        calls.append(item)
        raise error

    before = subscribed(hot)
    hot.subscribe(broken)
    after = subscribed(hot)
    emit(hot, 1, 2)
    assert before == calls == after == [1, 2]
    assert [(type(event), event.message, event.error) for event in wiring.seen] == [
        (CallbackFailed, 1, error),
        (CallbackFailed, 2, error),
    ]
    assert all(event.handler.endswith("broken") for event in wiring.seen)
    assert "broken raised" in caplog.text
    assert wiring.reporter.counters.failures == 2


async def test_emit_when_a_subscriber_after_operators_raises(wiring, hot):
    """A raising subscriber of a pipe is reported by its own name, and the other subscribers get the item."""
    calls = []

    def broken(item):
        calls.append(item)
        raise ZeroDivisionError

    hot.pipe(ops.map(lambda item: item), ops.filter(lambda item: True)).subscribe(broken)
    after = subscribed(hot.map(lambda item: item))
    emit(hot, 1, 2)
    assert calls == after == [1, 2]
    assert [event.message for event in wiring.seen] == [1, 2]
    assert all(event.handler.endswith("broken") for event in wiring.seen)


@pytest.mark.parametrize(
    "share",
    [
        lambda hot: hot.pipe(ops.share()),
        lambda hot: hot.share(),
        lambda hot: hot.publish().ref_count(),
        lambda hot: hot.replay(1).ref_count(),
        lambda hot: hot.publish().auto_connect(),
    ],
    ids=["share", "fluent share", "publish", "replay", "auto_connect"],
)
async def test_emit_when_a_subscriber_of_something_shared_raises(wiring, hot, share):
    """A subscriber of a shared Observable that raises, at an item or at the end, does not disturb the others."""
    shared = share(hot)
    before = subscribed(shared)
    shared.subscribe(lambda item: 1 / 0, on_completed=lambda: 1 / 0)
    after = subscribed(shared)
    emit(hot, 1, 2)
    hot.end()
    assert before == after == [1, 2, ("end", None)]
    assert len(wiring.seen) == 3


@pytest.mark.parametrize("error", [None, KeyError("e")])
async def test_end_when_a_callback_raises(wiring, hot, error):
    """The report names the function that raised: on_error or on_completed."""

    def raising(*_):
        raise ValueError

    hot.subscribe(print, on_error=raising, on_completed=raising)
    hot.end(error)
    assert [event.handler for event in wiring.seen] == [name_of(raising)]


async def test_emit_when_a_connectable_is_subscribed(wiring, hot):
    """A subscriber that raises does not disturb the other subscribers of a connectable."""
    published = hot.publish()
    published.subscribe(lambda item: 1 / 0)
    after = subscribed(published)
    published.connect()
    hot.on_next(1)
    hot.end(KeyError())
    assert after[0] == 1
    assert isinstance(after[1][1], KeyError)
    # The first event is the failure with the item. The second is the error of the sequence, which has no on_error.
    assert [type(event.error) for event in wiring.seen] == [ZeroDivisionError, KeyError]


async def test_emit_when_another_subscribes_inside(hot):
    """A subscriber that is added inside on_next gets the next item."""
    added = []
    hot.subscribe(lambda item: added.append(subscribed(hot)))
    sibling = subscribed(hot)
    hot.on_next(1)
    assert added == [[]]
    hot.on_next(2)
    assert added == [[2], []]
    assert sibling == [1, 2]


async def test_emit_when_another_is_disposed_inside(hot):
    """A subscriber that is disposed inside on_next does not get this item; the others get it once."""
    seen = []
    subscriptions = []
    first = subscribed(hot)
    hot.subscribe(lambda item: [each.dispose() for each in subscriptions])
    subscriptions.append(hot.subscribe(seen.append))
    last = subscribed(hot)
    emit(hot, 1, 2)
    assert seen == []
    assert first == last == [1, 2]


async def test_emit_when_one_disposes_itself(hot):
    """A subscriber may dispose itself in on_next."""
    seen = []
    subscriptions = []
    subscriptions.append(hot.subscribe(lambda item: (seen.append(item), subscriptions[0].dispose())))
    last = subscribed(hot)
    emit(hot, 1, 2)
    assert seen == [1]
    assert last == [1, 2]


async def test_emit_when_one_emits_inside(hot):
    """An item may be emitted inside on_next: each subscriber gets both."""
    before = subscribed(hot)
    hot.subscribe(lambda item: hot.on_next(2) if item == 1 else None)
    after = subscribed(hot)
    hot.on_next(1)
    assert before == [1, 2]
    assert sorted(after) == [1, 2]


async def test_emit_when_the_sequence_ends_inside(hot):
    """When the sequence ends inside on_next, the remaining subscribers do not get the item."""
    hot.subscribe(lambda item: hot.end())
    last = subscribed(hot)
    hot.on_next(1)
    hot.on_next(2)
    assert last == [("end", None)]


async def test_emit_when_a_subscriber_that_is_left_over_is_collected(hot):
    """If a garbage collection ends a subscription at any allocation, no item is lost and no memory is kept.

    The collected object is an iterator, or a user's object whose finalizer disposes of a subscription.
    """

    class Disposing:
        def __init__(self):
            self.cycle = self
            self.subscription = hot.subscribe(lambda item: None)

        def __del__(self):
            self.subscription.dispose()

    seen = subscribed(hot)
    thresholds = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for number in range(300):
            cycle = [aiter(hot)]
            cycle.append(cycle)
            del cycle
            Disposing()
            hot.on_next(number)
    finally:
        gc.set_threshold(*thresholds)
    gc.collect()
    await asyncio.sleep(0)
    assert seen == list(range(300))
    assert len(hot.subscriptions) == 1
    hot.on_next("last")
    assert len(hot._observers.pushes) == 1


async def test_emit_when_a_finalizer_disposes_while_the_subscribers_are_listed(hot):
    """A subscriber that is disposed while the subscribers are listed gets no further item."""

    class Subscriptions(dict):
        def __iter__(self):
            names = list(super().__iter__())
            if len(names) == 2:
                names[1].dispose()
            return iter(names)

    subscribed(hot)
    gone = subscribed(hot)
    hot.subscriptions = Subscriptions(hot.subscriptions)
    hot.on_next(1)
    hot.on_next(2)
    assert gone == []


@pytest.mark.parametrize("error", [None, ZeroDivisionError()], ids=repr)
async def test_end_when_subscribed_before_and_after(hot, error):
    """All present subscribers get the end once, and later ones get it when they subscribe."""
    early, behind = subscribed(hot), subscribed(hot.pipe(ops.map(str)))
    hot.on_next(1)
    hot.end(error)
    hot.end(KeyError())
    hot.on_next(2)
    assert early == [1, ("end", error)]
    assert behind == ["1", ("end", error)]
    assert subscribed(hot) == subscribed(hot.pipe(ops.map(str))) == [("end", error)]
    assert not hot.observed
    iterator = aiter(hot)
    with pytest.raises(StopAsyncIteration if error is None else ZeroDivisionError):
        await anext(iterator)


async def test_end_when_a_subscriber_raises(wiring, hot):
    """An exception in on_completed or on_error is reported, and all other subscribers still get the end."""
    for error in (None, KeyError()):
        source = HotObservable(wiring.context)
        before = subscribed(source)
        for observable in (source, source.map(str)):
            observable.subscribe(print, lambda error: 1 / 0, lambda: 1 / 0)
        after = subscribed(source)
        source.end(error)
        assert before == after == [("end", error)]
        source.subscribe(print, lambda error: 1 / 0, lambda: 1 / 0)
    assert [type(event.error) for event in wiring.seen] == [ZeroDivisionError] * 6


async def test_end_when_a_subscriber_disposes_or_subscribes(hot):
    """Subscribing and disposing in on_completed are safe."""
    late = []
    subscriptions = []
    subscriptions.append(
        hot.subscribe(on_completed=lambda: (late.append(subscribed(hot)), [each.dispose() for each in subscriptions]))
    )
    last = subscribed(hot)
    hot.end()
    assert late == [[("end", None)]]
    assert last == [("end", None)]


# The current value, and the events


async def test_current_when_subscribed(wiring):
    """A subscriber gets the current value, then each new one."""
    current = CurrentObservable(wiring.context, 1)
    first = subscribed(current)
    current.on_next(2)
    second, iterator = subscribed(current), aiter(current)
    current.on_next(3)
    assert first == [1, 2, 3]
    assert second == [2, 3]
    assert [await anext(iterator), await anext(iterator)] == [2, 3]
    assert current.value == in_thread(lambda: current.value) == 3


async def test_repr_when_shown(wiring, hot):
    """The repr of a feed's Observable contains the feed, the number of subscribers, and its state."""
    subscription = hot.subscribe(print)
    assert repr(hot) == "<HotObservable of feed: 1 subscribed>"
    subscription.dispose()
    hot.end(None)
    assert repr(hot) == "<HotObservable of feed: 0 subscribed, ended>"
    assert repr(CurrentObservable(wiring.context, 1)) == "<CurrentObservable of feed: 0 subscribed, 1>"


async def test_current_when_ended(wiring):
    """After the end a subscriber gets the last value, then the end."""
    current = CurrentObservable(wiring.context, 1)
    current.on_next(2)
    current.end()
    assert subscribed(current) == subscribed(current.map(int)) == [2, ("end", None)]
    assert current.value == 2


async def test_current_when_a_subscriber_raises_on_the_current_value(wiring):
    """A subscriber that raises on the current value gets the next one."""
    current = CurrentObservable(wiring.context, 1)
    calls = []

    def broken(value):
        calls.append(value)
        raise ZeroDivisionError

    current.subscribe(broken)
    current.on_next(2)
    assert calls == [1, 2]
    assert [event.message for event in wiring.seen] == [1, 2]


async def test_current_when_one_value_is_enough(wiring):
    """``take(1)`` gets only the current value."""
    current = CurrentObservable(wiring.context, 1)
    seen = subscribed(current.pipe(ops.take(1)))
    current.on_next(2)
    assert seen == [1, ("end", None)]
    assert not current.observed
    assert await current.pipe(ops.first()) == 2


@pytest.mark.parametrize(
    "derive",
    [
        lambda events: events,
        lambda events: events.pipe(ops.filter(lambda event: True)),
        lambda events: events.pipe(ops.delay(1.0)),
        lambda events: events.pipe(ops.share()),
    ],
    ids=["itself", "piped", "delayed", "shared"],
)
async def test_events_when_a_subscriber_raises(virtual_time, derive, caplog):
    """If a subscriber of events raises, this is logged and counted, but emits no event and disturbs no subscriber."""
    wiring = Wiring()
    calls = []

    def broken(event):
        calls.append(event)
        raise ZeroDivisionError

    derive(wiring.events).subscribe(broken)
    after = subscribed(wiring.events)
    event = Quiet(name="feed", time=0.0, seconds=60.0)
    wiring.events.on_next(event)
    await asyncio.sleep(60)
    assert calls == after == wiring.seen == [event]
    assert wiring.reporter.counters.failures == 1
    assert "broken raised" in caplog.text


async def test_events_when_an_error_has_no_on_error(wiring, caplog):
    """An error in a chain of events without on_error is logged and counted."""
    wiring.events.pipe(ops.map(lambda event: 1 / 0)).subscribe(print)
    wiring.events.on_next(Quiet(name="feed", time=0.0, seconds=60.0))
    assert "a subscription without on_error raised" in caplog.text
    assert wiring.reporter.counters.failures == 1
    assert len(wiring.seen) == 1
