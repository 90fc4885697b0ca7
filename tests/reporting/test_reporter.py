"""What happened, told: logged, counted, emitted."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest

from rxws.reporting.events import CallbackFailed
from rxws.reporting.reporter import MAX_KINDS, Counters, Reporter, is_being_cancelled

from ..support.wiring import Wiring


def lines(caplog):
    """What was logged, without tracebacks."""
    return [record.getMessage().splitlines()[0] for record in caplog.records]


@pytest.fixture
async def reporter(virtual_time):
    return Reporter(virtual_time, "feed")


async def test_log_when_a_line_comes_again(reporter, caplog):
    """A line of one kind is logged at most once a second, the next one with how many were not."""
    for number in range(5):
        reporter.log(logging.WARNING, "number %d", number)
    await asyncio.sleep(0.999)
    reporter.log(logging.WARNING, "number %d", 5)
    assert lines(caplog) == ["feed: number 0"]
    await asyncio.sleep(0.001)
    reporter.log(logging.WARNING, "number %d", 6)
    assert lines(caplog)[1:] == ["feed: number 6 (5 more like this)"]
    await asyncio.sleep(1)
    reporter.log(logging.WARNING, "number %d", 7)
    assert lines(caplog)[2:] == ["feed: number 7"]


async def test_log_when_kinds_differ(reporter, caplog):
    """A line hides no line of another kind, nor one about somebody else."""
    reporter.log(logging.WARNING, "%s lags", "first", about="first")
    reporter.log(logging.WARNING, "%s lags", "second", about="second")
    reporter.log(logging.WARNING, "%s ends", "first")
    assert lines(caplog) == ["feed: first lags", "feed: second lags", "feed: first ends"]


async def test_log_when_kinds_are_many(reporter, caplog):
    """Kinds of lines are forgotten when there are many, but not within their second."""
    for number in range(MAX_KINDS + 1):
        reporter.log(logging.WARNING, "%s lags", number, about=number)
    reporter.log(logging.WARNING, "%s lags", 0, about=0)
    assert len(caplog.records) == MAX_KINDS + 1
    for _ in range(10):
        await asyncio.sleep(1)
        for number in range(MAX_KINDS):
            reporter.log(logging.WARNING, "%s lags", number, about=(asyncio.get_running_loop().time(), number))
    assert len(reporter._logged) <= 4 * MAX_KINDS


async def test_log_when_given_level_and_error(reporter, caplog):
    """Lines go to the logger 'rxws' at their level, with the error's traceback."""
    error = ZeroDivisionError("no")
    reporter.log(logging.ERROR, "100 %% %s", "bad", error=error)
    (record,) = caplog.records
    assert (record.name, record.levelno, *lines(caplog)) == ("rxws", logging.ERROR, "feed: 100 % bad")
    assert f"{type(error).__name__}: {error}" in record.getMessage()


async def test_failed_when_a_function_raised(reporter, caplog):
    """A failure is logged with its traceback, counted, and emitted."""
    seen = []
    reporter.emit = seen.append
    error = ZeroDivisionError("no")
    reporter.failed(print, {"a": 1}, error)
    assert reporter.counters.failures == 1
    assert seen == [CallbackFailed(name="feed", time=reporter.now(), handler="print", message={"a": 1}, error=error)]
    (record,) = caplog.records
    assert lines(caplog) == ["feed: print raised"]
    assert f"{type(error).__name__}: {error}" in record.getMessage()


async def test_failed_when_two_functions_raise_at_once(reporter, caplog):
    """One function that fails all the time does not hide another in the log; and all are counted."""
    for _ in range(3):
        reporter.failed(print, None, ZeroDivisionError())
        reporter.failed(len, None, ZeroDivisionError())
    assert lines(caplog) == ["feed: print raised", "feed: len raised"]
    assert reporter.counters.failures == 6


async def test_failed_when_nobody_listens(reporter):
    """Without an emit nothing is missing."""
    reporter.failed("a function", None, ZeroDivisionError())
    assert reporter.counters == Counters(failures=1)


async def test_failed_when_the_subscriber_of_events_raises(caplog):
    """A subscriber of events that raises is logged and counted, and makes no event: it would be given that too."""
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
    """A reporter without events counts and logs to the same places as the one that it is made of."""
    seen = []
    reporter.emit = seen.append
    silent = reporter.without_events()
    reporter.failed(print, None, ZeroDivisionError())
    silent.failed(print, None, ZeroDivisionError())
    silent.failed(len, None, ZeroDivisionError())
    assert len(seen) == 1
    assert reporter.counters.failures == 3
    assert lines(caplog) == ["feed: print raised", "feed: len raised"]


async def test_now_when_time_is_real():
    """Time is the wall clock's, also after that has been set."""
    reporter = Reporter(asyncio.get_running_loop(), "feed")
    assert abs(reporter.now() - time.time()) < 1


async def test_now_when_the_wall_clock_is_set(monkeypatch):
    """The wall clock is asked afresh: the monotonic one stands still while a machine sleeps."""
    reporter = Reporter(asyncio.get_running_loop(), "feed")
    monkeypatch.setattr(time, "time", lambda: 5_000_000_000.0)
    assert reporter.now() == 5_000_000_000.0


async def test_now_when_time_is_virtual(virtual_time):
    """In a loop with a virtual clock time goes with that clock, from the wall clock's when the reporter was made."""
    reporter = Reporter(virtual_time, "feed")
    before = reporter.now()
    assert abs(before - time.time()) < 5
    await asyncio.sleep(86_400)
    assert reporter.now() - before == pytest.approx(86_400)


async def test_is_being_cancelled_when_the_task_is():
    """A cancellation of the task that runs is told from one that it came upon."""
    outcomes = []

    async def run():
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError as error:
            outcomes.append(is_being_cancelled(error))
            raise

    task = asyncio.create_task(run())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    assert outcomes == [True]


async def test_is_being_cancelled_when_something_else_is():
    """The result of a cancelled future is a CancelledError, and nobody cancels the one who asked for it."""
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        future.result()
    assert not is_being_cancelled(caught.value)
    assert not is_being_cancelled(ZeroDivisionError())


async def test_is_being_cancelled_when_no_task_runs():
    """In a callback of the loop's there is no task, so a cancellation is not to be swallowed."""
    outcome = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(lambda: outcome.set_result(is_being_cancelled(asyncio.CancelledError())))
    assert await outcome


async def test_log_when_an_error_holds_a_secret(reporter, caplog):
    """A traceback shows no secret, and nothing that a terminal would obey."""
    error = ValueError("wss://me:hunter2@host/ws?token=SECRET \x1b[2J")
    reporter.log(logging.ERROR, "it raised", error=error)
    (record,) = caplog.records
    assert record.exc_info is None
    assert "wss://***@host/ws?token=***" in record.getMessage()
    assert not any(part in record.getMessage() for part in ("hunter2", "SECRET", "\x1b"))


async def test_traceback_tells_the_classes_of_exceptions_as_they_are(reporter, caplog):
    """However they are called, in whatever module: what they say is redacted, and what they are is not."""
    kind = type("HttpError", (Exception,), {"__module__": "rxws.testing.http"})
    error = kind("404 for https://example.com/?key=hunter2")
    error.__cause__ = type("BadRequest", (Exception,), {"__module__": "crm.api.v2.models.xyz"})("no")
    error.__cause__.__cause__ = error
    reporter.failed("handler", None, error)
    lines = caplog.records[0].message.splitlines()
    assert lines[-1] == "rxws.testing.http.HttpError: 404 for https://example.com/?key=***"
    assert any(line.startswith("crm.api.v2.models.xyz.BadRequest: no") for line in lines)


async def test_traceback_tells_what_a_program_calls_things(reporter, caplog):
    """Functions and attributes are called as they are, like tokens or not; what stands in quotes may be a token."""

    class Session:
        def is_set_by_rpc4x5(self, key):
            return [self.stop2x.IsMSXMLUrlq8 for _ in key]

    try:
        Session().is_set_by_rpc4x5("q8Xk29dLmZ7aT1bVw5RcYp")
    except AttributeError as error:
        error.__cause__ = ExceptionGroup("some", [type("HTTPXError", (Exception,), {"__module__": "crm.v2.xyz.b2c"})()])
        reporter.failed("handler", None, error)
    told = caplog.records[0].message
    assert "    return [self.stop2x.IsMSXMLUrlq8 for _ in key]" in told
    assert "    Session().is_set_by_rpc4x5(" in told
    assert "crm.v2.xyz.b2c.HTTPXError" in told
    assert "^^^^^^^^^^" in told
    assert "q8Xk29" not in told
