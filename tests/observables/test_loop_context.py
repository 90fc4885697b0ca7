"""LoopContext: the event loop of Observables, its scheduler, and the reporter of their errors."""

from __future__ import annotations

import asyncio
import logging
import threading
import weakref

import pytest

from rxws.observables.buffer import Buffer
from rxws.observables.loop_context import LoopContext
from rxws.reporting.events import CallbackFailed
from rxws.reporting.reporter import Reporter

from ..support.wiring import Wiring, in_thread, settle


@pytest.fixture
async def wiring():
    return Wiring()


async def test_check_when_inside_and_outside_the_loop(wiring):
    """The check passes on the loop's thread. Elsewhere it raises a RuntimeError with the feed's name and a remedy."""
    wiring.context.check()
    with pytest.raises(RuntimeError, match=r"feed belongs to the event loop .*call_soon_threadsafe"):
        in_thread(wiring.context.check)


async def test_call_when_on_the_loop(wiring):
    """On the loop's thread a function is called at once."""
    calls = []
    wiring.context.call(calls.append, 1)
    assert calls == [1]


async def test_call_when_in_another_thread(wiring):
    """A function from another thread is called on the loop's thread, in a later callback."""
    threads = []
    in_thread(lambda: wiring.context.call(lambda: threads.append(threading.current_thread())))
    assert threads == []
    await settle()
    assert threads == [threading.current_thread()]


@pytest.mark.parametrize("name", ["call", "call_from_finalizer"])
def test_call_when_the_loop_is_closed(name):
    """With a closed loop a function is called at once, in the caller's thread."""
    loop = asyncio.new_event_loop()
    context = LoopContext(loop, Reporter(loop, "feed"))
    loop.close()
    calls = []
    getattr(context, name)(calls.append, 1)
    assert calls == [1]


async def test_call_from_finalizer_when_on_the_loop(wiring):
    """A function that a finalizer passes is called in a later callback, even on the loop's thread."""
    calls = []
    wiring.context.call_from_finalizer(calls.append, 1)
    assert calls == []
    await settle()
    assert calls == [1]


async def test_disposable_when_disposed_in_another_thread(wiring):
    """``dispose`` runs once, on the loop's thread, whichever thread calls it."""
    threads = []
    disposable = wiring.context.disposable(lambda: threads.append(threading.current_thread()))
    in_thread(disposable.dispose)
    await settle()
    disposable.dispose()
    assert threads == [threading.current_thread()]


async def test_scheduler_when_an_action_raises(wiring):
    """The exception of a timed action is reported as that of a timed operator's subscriber."""
    wiring.context.scheduler.schedule(lambda *_: 1 // 0)
    (event,) = wiring.seen
    assert isinstance(event, CallbackFailed)
    assert event.handler == "a timed operator's subscriber"


async def test_without_events_when_an_action_raises(wiring, caplog):
    """The failures of a context's copy without events are logged and counted, but emit no event."""
    silent = wiring.context.without_events()
    with caplog.at_level(logging.ERROR):
        silent.scheduler.schedule(lambda *_: 1 // 0)
        silent.unhandled(KeyError("late"))
    assert wiring.reporter.counters.failures == 2
    assert "a timed operator's subscriber raised" in caplog.text
    assert "a subscription without on_error raised" in caplog.text
    assert wiring.seen == []
    assert (silent.loop, silent.clock) == (wiring.context.loop, wiring.context.clock)


async def test_consumed_when_the_producer_cannot_wait(wiring):
    """A context records the buffers that have a consumer only if it was given the set ``consumers``."""
    buffer = Buffer(wiring.loop, wiring.reporter)
    wiring.context.consumed(buffer)
    assert wiring.context.consumers is None
    context = LoopContext(wiring.loop, wiring.reporter, consumers=weakref.WeakSet())
    context.consumed(buffer)
    assert set(context.consumers) == {buffer}
