"""Everything that happens to connections is reported once: in the log, the counters and the events."""

from __future__ import annotations

import logging

import pytest

from rxws import Connected, Disconnected, Gap, Overflowed, Quiet, Rotated
from rxws.connections.connection_reporter import ConnectionReporter
from rxws.connections.failures import Failure, diagnose
from tests.support.wiring import Wiring

pytestmark = pytest.mark.usefixtures("virtual_time", "assert_no_leaks")

LOST = Failure("network", "it broke", code=1006)
PLANNED = Failure("rotation", "a planned rotation")


@pytest.fixture
async def wiring():
    return Wiring("feed")


@pytest.fixture
def connection_reporter(wiring, caplog):
    caplog.set_level(logging.INFO, "rxws")
    return ConnectionReporter(wiring.reporter, wiring.router.report_gap)


def report(wiring, caplog):
    """Return the events, and the lines of the log with their levels."""
    return [type(event) for event in wiring.seen], [(each.levelname, each.getMessage()) for each in caplog.records]


async def test_open_connection_is_reported(wiring, connection_reporter, caplog):
    """An open connection is reported with an event that has its number and its attempts, and with a log line."""
    connection_reporter.connected(3, 2)
    assert report(wiring, caplog) == ([Connected], [("INFO", "feed: connection 3 is open after 2 attempts")])
    assert (wiring.seen[0].number, wiring.seen[0].attempt) == (3, 2)


@pytest.mark.parametrize(("failure", "level"), [(LOST, "WARNING"), (PLANNED, "INFO")])
async def test_end_of_a_connection_is_reported(wiring, connection_reporter, caplog, failure, level):
    """The end of a connection is logged: a loss as a warning, a planned end as information."""
    connection_reporter.ended(3, failure)
    code = "" if failure.code is None else f", code {failure.code}"
    assert report(wiring, caplog) == (
        [Disconnected],
        [(level, f"feed: connection 3 ended ({failure.reason}{code}): {failure.cause}")],
    )
    event = wiring.seen[0]
    assert (event.number, event.reason, event.code, event.delay) == (3, failure.reason, failure.code, None)


async def test_end_by_an_error_of_the_program_is_reported_with_its_traceback(wiring, connection_reporter, caplog):
    """An error of rxws itself is logged as an error, so that it can be found and reported."""
    connection_reporter.ended(3, diagnose(AttributeError("no 'paused'"), object(), now=0.0))
    (event,) = wiring.seen
    assert (event.reason, event.cause) == ("internal", "AttributeError: no 'paused'")
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert record.message == (
        "feed: connection 3 ended (internal): AttributeError: no 'paused'\nAttributeError: no 'paused'"
    )


@pytest.mark.parametrize(("delay", "after"), [(1.25, "retrying in 1.2 s"), (None, "giving up")])
async def test_refusal_is_reported_with_the_next_attempt(wiring, connection_reporter, caplog, delay, after):
    """A failed attempt is reported with the delay until the next one, or with a statement that the feed gives up."""
    connection_reporter.refused(LOST, delay)
    assert report(wiring, caplog) == (
        [Disconnected],
        [("WARNING", f"feed: cannot connect (network): it broke; {after}")],
    )
    assert (wiring.seen[0].number, wiring.seen[0].delay) == (None, delay)


@pytest.mark.parametrize(("failure", "reconnects"), [(LOST, {"network": 1}), (PLANNED, {})])
async def test_gap_reaches_events_counters_and_streams_when_reported(wiring, connection_reporter, failure, reconnects):
    """Streams with ``gaps=True`` get the gap; a loss that was not planned counts as a reconnect."""
    stream = wiring.stream(gaps=True)
    wiring.route("last")
    connection_reporter.reconnected(failure.reason)
    connection_reporter.gap(5.0, failure.reason)
    (gap,) = wiring.seen
    assert isinstance(gap, Gap)
    assert (gap.start, gap.reason, gap.last_message) == (5.0, failure.reason, "last")
    assert wiring.reporter.counters.gaps == 1
    assert wiring.reporter.counters.reconnects == reconnects
    assert [await anext(stream), await anext(stream)] == ["last", gap]


@pytest.mark.parametrize(("proven", "held", "level"), [(True, 5, "INFO"), (False, 0, "INFO"), (False, 5, "WARNING")])
async def test_rotation_is_reported(wiring, connection_reporter, caplog, proven, held, level):
    """A rotation is counted; if messages were held and the overlap was not proven, it is a warning."""
    connection_reporter.rotated(2, proven=proven, held=held)
    assert wiring.seen == [Rotated(name="feed", time=wiring.reporter.now(), number=2, proven=proven, held=held)]
    assert wiring.reporter.counters.rotations == 1
    assert report(wiring, caplog)[1][0][0] == level


async def test_silence_haste_and_floods_are_reported(wiring, connection_reporter, caplog):
    """Silence, early ends of hooks and dropped frames are logged. Silence and dropped frames also emit events."""
    connection_reporter.quiet(60.0)
    connection_reporter.rotated_too_soon(0.5)
    connection_reporter.flooded(3, 7)
    kinds, lines = report(wiring, caplog)
    assert kinds == [Quiet, Overflowed]
    assert [line.split(": ")[1].split()[0] for _, line in lines] == ["connected,", "_when2create_new_ws", "connection"]
    assert (wiring.seen[1].consumer, wiring.seen[1].dropped) == ("connection 3", 7)
    assert wiring.reporter.counters.dropped == 7


async def test_every_gap_is_logged_when_several_occur_within_a_second(wiring, connection_reporter, caplog):
    """Each Gap has its own line in the log, even if several are reported within a second."""
    for number in range(5):
        connection_reporter.gap(wiring.reporter.now() - number, "network")
    _, lines = report(wiring, caplog)
    assert [level for level, line in lines if "messages may be missing" in line] == ["WARNING"] * 5
