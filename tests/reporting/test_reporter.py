"""The reporter: log, counters and events."""

from __future__ import annotations

import ast
import asyncio
import dataclasses
import logging
import time
from pathlib import Path

import pytest

import rxws
from rxws.reporting import events
from rxws.reporting.events import CallbackFailed, Quiet
from rxws.reporting.log_limit import MAX_SUBJECTS, ONCE
from rxws.reporting.reporter import Counters, Reporter

from ..support.wiring import Wiring


def lines(caplog):
    """Return the logged lines without tracebacks."""
    return [record.getMessage().splitlines()[0] for record in caplog.records]


@pytest.fixture
async def reporter(virtual_time):
    return Reporter(virtual_time, "feed")


async def test_log_once(reporter, caplog):
    """A line with ``once`` is logged once in a feed's life, however many other kinds there are."""
    for number in range(3):
        reporter.log(logging.WARNING, "%s is missing", "a part", times=ONCE)
        for other in range(MAX_SUBJECTS):
            reporter.log(logging.WARNING, "other", about=(number, other))
        await asyncio.sleep(10)
    assert lines(caplog).count("feed: a part is missing") == 1


async def test_log_when_kinds_differ(reporter, caplog):
    """A line does not suppress lines of another kind or about another subject."""
    reporter.log(logging.WARNING, "%s lags", "first", about="first")
    reporter.log(logging.WARNING, "%s lags", "second", about="second")
    reporter.log(logging.WARNING, "%s ends", "first")
    assert lines(caplog) == ["feed: first lags", "feed: second lags", "feed: first ends"]


async def test_log_when_given_level_and_error(reporter, caplog):
    """Lines go to the logger 'rxws' with their level and the error's traceback."""
    error = ZeroDivisionError("no")
    reporter.log(logging.ERROR, "100 %% %s", "bad", error=error)
    (record,) = caplog.records
    assert (record.name, record.levelno, *lines(caplog)) == ("rxws", logging.ERROR, "feed: 100 % bad")
    assert f"{type(error).__name__}: {error}" in record.getMessage()


async def test_emit_makes_the_event_of_the_feed_and_the_time(reporter):
    """An event has the feed's name and the present time, and is published and returned."""
    seen = []
    reporter.publish = seen.append
    event = reporter.emit(Quiet, seconds=60.0)
    assert event == Quiet(name="feed", time=reporter.now(), seconds=60.0)
    assert seen == [event]


def test_emit_calls_pass_the_fields_of_the_event():
    """Every call of ``emit`` in rxws passes the event's fields, which type checkers cannot check."""
    checked = 0
    for path in Path(rxws.__file__).parent.rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "emit" and call.args:
                given = [each.arg for each in call.keywords]
                kind = getattr(events, call.args[0].id)
                fields = {each.name: each for each in dataclasses.fields(kind) if each.name not in {"name", "time"}}
                needed = [name for name, each in fields.items() if each.default is dataclasses.MISSING]
                where = f"{path}:{call.lineno}"
                if None not in given:
                    assert set(needed) <= set(given), where
                assert set(given) - {None} <= set(fields), where
                checked += 1
    assert checked > 10


async def test_failed_when_a_function_raised(reporter, caplog):
    """A failure is logged with its traceback, counted, and emitted."""
    seen = []
    reporter.publish = seen.append
    error = ZeroDivisionError("no")
    reporter.failed(print, {"a": 1}, error)
    assert reporter.counters.failures == 1
    assert seen == [CallbackFailed(name="feed", time=reporter.now(), handler="print", message={"a": 1}, error=error)]
    (record,) = caplog.records
    assert lines(caplog) == ["feed: print raised ZeroDivisionError('no')"]
    assert f"{type(error).__name__}: {error}" in record.getMessage()


@pytest.mark.parametrize("awaits", [False, True])
@pytest.mark.parametrize("error", [ZeroDivisionError("no"), asyncio.CancelledError()])
async def test_guard_reports_what_a_function_raises(reporter, error, awaits):
    """A failure is reported with function and message, and the code after the block runs."""
    seen = []
    reporter.publish = seen.append
    with reporter.guard(print, {"a": 1}, awaits=awaits):
        raise error
    assert [(each.handler, each.message, each.error) for each in seen] == [("print", {"a": 1}, error)]
    with reporter.guard(print):
        pass
    assert reporter.counters.failures == 1


@pytest.mark.parametrize("awaits", [False, True])
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
async def test_guard_lets_exits_pass(reporter, error, awaits):
    """Exceptions that end the program are neither suppressed nor reported."""
    with pytest.raises(error), reporter.guard(print, awaits=awaits):
        raise error
    assert reporter.counters.failures == 0


async def test_guard_when_a_base_exception_is_raised(reporter):
    """A BaseException of a plain function propagates; one of an awaited function is reported and suppressed."""
    with pytest.raises(BaseException, match="odd"), reporter.guard(print):
        raise BaseException("odd")
    with reporter.guard(print, awaits=True):
        raise BaseException("odd")
    assert reporter.counters.failures == 1


@pytest.mark.parametrize("awaits", [False, True])
async def test_guard_when_the_task_is_cancelled(reporter, awaits):
    """A cancellation of the awaiting task propagates; without ``awaits`` it is reported as a failure."""

    async def run():
        with reporter.guard("a hook", awaits=awaits):
            await asyncio.sleep(3600)

    task = asyncio.create_task(run())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    assert (task.cancelled(), reporter.counters.failures) == ((True, 0) if awaits else (False, 1))


async def test_failed_when_two_functions_raise_at_once(reporter, caplog):
    """A function that fails repeatedly does not suppress lines about another; all failures are counted."""
    for _ in range(3):
        reporter.failed(print, None, ZeroDivisionError())
        reporter.failed(len, None, ZeroDivisionError())
    assert lines(caplog) == ["feed: print raised ZeroDivisionError()", "feed: len raised ZeroDivisionError()"]
    assert reporter.counters.failures == 6


def test_counters_are_read_at_once():
    """``read`` returns a copy of all counters that the statistics need."""
    counters = Counters(messages=2, reconnects={"network": 1})
    read = counters.read()
    counters.reconnects["idle"] = 1
    assert (read["messages"], read["reconnects"]) == (2, {"network": 1})
    feeds_own = {"streams", "pending", "pending_bytes", "last_message_age", "complete_since"}
    feeds_own |= {"lines", "shards", "latency"}
    assert read.keys() == {each.name for each in dataclasses.fields(rxws.Statistics)} - feeds_own


async def test_failed_when_events_have_no_subscriber(reporter):
    """A failure is counted even if events have no subscriber."""
    reporter.failed("a function", None, ZeroDivisionError())
    assert reporter.counters == Counters(failures=1)


async def test_failed_when_the_subscriber_of_events_raises(caplog):
    """A raising subscriber of events is logged and counted, but emits no event, because it would get this event too."""
    wiring = Wiring()
    calls = []

    def broken(event):
        calls.append(event)
        raise RuntimeError("broken")

    wiring.events.subscribe(broken)
    late = []
    wiring.events.subscribe(late.append)
    wiring.reporter.failed(print, None, ZeroDivisionError())
    assert len(calls) == len(late) == len(wiring.seen) == 1
    assert wiring.reporter.counters.failures == 2
    assert [line for line in lines(caplog) if "broken raised" in line]


async def test_without_events_when_it_fails(reporter, caplog):
    """A reporter without events shares the counters and the log of its original."""
    seen = []
    reporter.publish = seen.append
    silent = reporter.without_events()
    reporter.failed(print, None, ZeroDivisionError())
    silent.failed(print, None, ZeroDivisionError())
    silent.failed(len, None, ZeroDivisionError())
    assert len(seen) == 1
    assert reporter.counters.failures == 3
    assert lines(caplog) == ["feed: print raised ZeroDivisionError()", "feed: len raised ZeroDivisionError()"]


async def test_now_when_time_is_real():
    """The time is that of the wall clock."""
    reporter = Reporter(asyncio.get_running_loop(), "feed")
    assert abs(reporter.now() - time.time()) < 1


async def test_now_when_the_wall_clock_is_set(monkeypatch):
    """If the wall clock is set, the time of events follows it."""
    reporter = Reporter(asyncio.get_running_loop(), "feed")
    monkeypatch.setattr(time, "time", lambda: 5_000_000_000.0)
    assert reporter.now() == 5_000_000_000.0


async def test_now_when_time_is_virtual(virtual_time):
    """With a virtual clock the time advances with the loop, from the wall clock's time at the start."""
    reporter = Reporter(virtual_time, "feed")
    before = reporter.now()
    assert abs(before - time.time()) < 5
    await asyncio.sleep(86_400)
    assert reporter.now() - before == pytest.approx(86_400)


@pytest.mark.parametrize("distance", [-4.0, 0.0, 4.0])
async def test_now_when_a_virtual_clock_is_near_the_machines(virtual_time, distance):
    """A virtual clock counts as virtual even if its time is close to the time of the machine's clock."""
    early = Reporter(virtual_time, "early")
    virtual_time._selector.clock.advance(max(0.0, time.monotonic() + distance - virtual_time.time()))
    for reporter in (early, Reporter(virtual_time, "late")):
        before = reporter.now()
        await asyncio.sleep(3)
        assert reporter.now() - before == pytest.approx(3, abs=1e-4)


def test_now_on_uvloop(monkeypatch):
    """The clock of uvloop counts as the machine's clock, and not as virtual."""
    uvloop = pytest.importorskip("uvloop")

    async def main():
        reporter = Reporter(asyncio.get_running_loop(), "feed")
        monkeypatch.setattr(time, "time", lambda: 5_000_000_000.0)
        assert reporter.now() == 5_000_000_000.0

    uvloop.run(main())


async def test_log_when_an_error_holds_a_secret(reporter, caplog):
    """A traceback in the log contains neither secrets nor control characters."""
    error = ValueError("wss://me:hunter2@host/ws?token=SECRET \x1b[2J")
    reporter.log(logging.ERROR, "it raised", error=error)
    (record,) = caplog.records
    assert record.exc_info is None
    assert "wss://***@host/ws?token=***" in record.getMessage()
    assert not any(part in record.getMessage() for part in ("hunter2", "SECRET", "\x1b"))
