"""How often a line is written to the log, and how suppressed lines are counted."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref

import pytest

from rxws import Connected, Disconnected, Gap, NothingMatched, SubscriptionFailed
from rxws.connections.connection_reporter import ConnectionReporter
from rxws.connections.failures import Failure
from rxws.reporting.log_limit import MAX_SUBJECTS, LogLimit
from rxws.reporting.reporter import Reporter
from tests.support.wiring import Wiring


def lines(caplog):
    """Return the logged lines without tracebacks."""
    return [record.getMessage().splitlines()[0] for record in caplog.records]


@pytest.fixture
async def reporter(virtual_time, caplog):
    caplog.set_level(logging.INFO, "rxws")
    return Reporter(virtual_time, "feed")


async def test_suppressed_lines_are_counted_when_the_second_is_over(reporter, caplog):
    """The first line about a subject is written at once; then one line per second counts the suppressed ones."""
    for number in range(5):
        reporter.log(logging.WARNING, "number %d", number)
    await asyncio.sleep(0.999)
    assert lines(caplog) == ["feed: number 0"]
    await asyncio.sleep(0.001)
    assert lines(caplog)[1:] == ["feed: number 1 ... and 3 more"]
    reporter.log(logging.WARNING, "number %d", 5)
    await asyncio.sleep(1)
    assert lines(caplog)[2:] == ["feed: number 5"]
    await asyncio.sleep(1)
    reporter.log(logging.WARNING, "number %d", 6)
    assert lines(caplog)[3:] == ["feed: number 6"]


async def test_lines_are_a_second_apart_when_suppressed_ones_were_counted(reporter, caplog):
    """The line that reports suppressed ones counts as a line, so the next line follows a second later."""
    said = []
    for pause in (0.0, 0.5, 1.1, 0.8):
        await asyncio.sleep(pause)
        reporter.log(logging.WARNING, "slow")
        said.append(len(lines(caplog)))
    await asyncio.sleep(2)
    assert said == [1, 1, 2, 3]
    assert len(lines(caplog)) == 4


async def test_suppressed_lines_are_counted_for_each_subject(reporter, caplog):
    """Each subject has its own first line and its own number of suppressed lines."""
    for _ in range(3):
        for name in ("first", "second"):
            reporter.log(logging.WARNING, "%s lags", name, about=name)
    await asyncio.sleep(1)
    assert lines(caplog) == [
        "feed: first lags",
        "feed: second lags",
        "feed: first lags ... and 1 more",
        "feed: second lags ... and 1 more",
    ]


async def test_line_that_the_log_does_not_show_suppresses_nothing(reporter, caplog):
    """A line whose level is disabled does not suppress the next line, and is not counted."""
    caplog.set_level(logging.WARNING, "rxws")
    reporter.log(logging.INFO, "it ended")
    reporter.log(logging.WARNING, "it ended")
    caplog.set_level(logging.INFO, "rxws")
    reporter.log(logging.INFO, "it ended")
    await asyncio.sleep(2)
    assert lines(caplog) == ["feed: it ended"] * 2


async def test_loss_is_logged_when_it_follows_a_rotation(virtual_time, caplog):
    """A loss within a second of a rotation has its own line, and so has every Gap."""
    caplog.set_level(logging.INFO, "rxws")
    wiring = Wiring("feed")
    report = ConnectionReporter(wiring.reporter, wiring.router.report_gap)
    report.ended(1, Failure("rotation", "a planned rotation"))
    report.ended(2, Failure("network", "it broke"))
    report.ended(3, Failure("server", "it closed"))
    report.refused(Failure("network", "it is down"), 0.0)
    for since in (1.0, 2.0, 2.0):
        report.gap(since, "network", 3.0)
    assert lines(caplog) == [
        "feed: connection 1 ended (rotation): a planned rotation",
        "feed: connection 2 ended (network): it broke",
        "feed: connection 3 ended (server): it closed",
        "feed: cannot connect (network): it is down; retrying at once",
        "feed: 2,000.0 ms without a connection (network): messages may be missing",
        "feed: 1,000.0 ms without a connection (network): messages may be missing",
        "feed: 1,000.0 ms without a connection (network): messages may be missing",
    ]


async def test_suppressed_lines_are_counted_when_the_feed_ends(reporter, caplog):
    """At the end of a feed, a line counts the suppressed ones, even if it is not yet due, and no timer is left."""
    for _ in range(3):
        reporter.log(logging.WARNING, "a line")
    reporter.close()
    reporter.close()
    assert lines(caplog) == ["feed: a line", "feed: a line ... and 1 more"]
    for _ in range(3):
        reporter.log(logging.WARNING, "a late line")
    assert all(timer.cancelled() for timer in asyncio.get_running_loop()._scheduled)
    assert lines(caplog)[2:] == ["feed: a late line"]


async def test_failures_of_a_function_are_logged_less_and_less_often(reporter, caplog):
    """The first failure is logged with its traceback; later ones are counted after 1 s, 10 s, 1 min, every 10 min."""
    start = reporter._loop.time()
    when = []
    logging.getLogger("rxws").addFilter(lambda record: when.append(round(reporter._loop.time() - start)) or True)
    for number in range(20_000):
        reporter.failed(print, None, ZeroDivisionError(number))
        await asyncio.sleep(0.1)
    assert when == [0, 1, 10, 60, 600, 1200, 1800]
    assert [record.getMessage().count("\n") > 0 for record in caplog.records] == [True, *[False] * 6]
    assert lines(caplog)[1:3] == [
        "feed: print raised ZeroDivisionError(1) ... and 8 more",
        "feed: print raised ZeroDivisionError(10) ... and 89 more",
    ]
    assert reporter.counters.failures == 20_000
    logging.getLogger("rxws").filters.clear()


async def test_failures_of_a_function_start_over_when_it_succeeded_for_long(reporter, caplog):
    """A failure has its traceback in the log again if the function did not fail for ten minutes before."""
    for pause in (20, 590, 600, 0):
        reporter.failed(print, None, ZeroDivisionError())
        await asyncio.sleep(pause)
    assert [record.getMessage().count("\n") > 0 for record in caplog.records] == [True, False, False, True]


async def test_failures_of_two_functions_of_one_name_are_apart(reporter, caplog):
    """A lambda does not suppress the failures of another lambda."""
    for function in (lambda _: 1, lambda _: 2):
        reporter.failed(function, None, ZeroDivisionError())
    assert len(caplog.records) == 2


async def test_subjects_are_forgotten_when_they_are_many(virtual_time, caplog):
    """A subject is forgotten when its next line would be written at once anyway, and not before."""
    limit = LogLimit(virtual_time, "feed")
    for number in range(MAX_SUBJECTS + 1):
        limit.write(logging.WARNING, number, str)
    limit.write(logging.WARNING, 0, str)
    assert len(caplog.records) == MAX_SUBJECTS + 1
    for _ in range(10):
        await asyncio.sleep(1)
        for number in range(MAX_SUBJECTS):
            limit.write(logging.WARNING, (virtual_time.time(), number), str)
    assert len(limit._subjects) <= 4 * MAX_SUBJECTS


async def test_suppressed_failure_is_not_kept(reporter):
    """The exception of a suppressed line is not kept for the next line."""

    class Odd(Exception):
        pass

    def fail():
        error = Odd()
        reporter.failed(print, None, error)
        return weakref.ref(error)

    kept = [fail() for _ in range(3)]
    gc.collect()
    assert [each() for each in kept] == [None] * 3


async def test_name_is_shown_without_secrets(virtual_time, caplog):
    """Secrets in the name of a feed, which may be its URL, are redacted in the log."""
    Reporter(virtual_time, "ws://me:secret@localhost/x").log(logging.WARNING, "a line")
    assert lines(caplog) == ["ws://***@localhost/x: a line"]


async def test_line_cannot_be_forged(reporter, caplog):
    """Line breaks, escapes of terminals and bidi characters of a feed stay inside one line."""
    evil = "x\r\n2026 ERROR forged\x1b[2J\u202e\x9b"
    reporter.log(logging.WARNING, "%s lags", evil)
    reporter.failed(evil, evil, ValueError(evil))
    reporter.log(logging.WARNING, reporter.emit(NothingMatched, filter=evil, messages=1, values={evil: (evil,)}))
    reporter.log(logging.WARNING, reporter.emit(SubscriptionFailed, message=evil, attempt=1, refusal=evil))
    Reporter(reporter._loop, evil).log(logging.WARNING, "a line")
    for record in caplog.records:
        text = record.getMessage()
        assert "forged" in text
        assert not any(line.startswith("2026") for line in text.splitlines())
        assert text.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    "event",
    [
        Gap(1.0, 2.0, "network", "x" * 500_000 + " S3cretS3cret", name="feed", time=0.0),
        Gap(1.0, 2.0, "network", {"listenKey": "pqIa91cmEdWYAMvzAIg7" * 3}, name="feed", time=0.0),
        Disconnected(number=1, reason="server", cause="token=pqIa91cmEdWYAMvzAIg7", name="feed", time=0.0),
        Connected(number=1, attempt=1, name="feed\n\x1b[2J", time=0.0),
    ],
    ids=lambda event: type(event).__name__,
)
def test_repr_of_an_event_is_short_and_without_secrets(event):
    """The repr shows at most 200 characters of each field, on one printable line, without secrets."""
    for text in (repr(event), str(event)):
        assert len(text) < 500
        assert text.isprintable()
        assert "S3cret" not in text
        assert "pqIa91cm" not in text
