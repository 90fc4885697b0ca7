"""The judge alone: the problems that it finds in hand-made logs of a server."""

from __future__ import annotations

from typing import Any

import pytest

from rxws import Gap
from rxws.testing.lives import Act, Numbered, Schedule, Settings
from rxws.testing.lives.consumers import Look, Seen
from rxws.testing.lives.evidence import Deliveries, Evidence, RotateCall
from rxws.testing.lives.oracle import judge
from rxws.testing.lives.record import LineRecord, Repeat, Sent, VenueRecord
from rxws.testing.lives.venue import PAST

from .work import play_one


def rotated(**line: Any) -> Evidence:
    """Return a life in which connection 2 replaced connection 1 at 5.0. Both had a message each second."""
    first, second = LineRecord(1, 0.0, ended_at=5.0), LineRecord(2, 4.0)
    for name, value in line.items():
        setattr(first, name, value)
    for record, numbers in ((first, range(1, 6)), (second, range(5, 11))):
        record.sent += [Sent("c0", n, float(n), float(n), came_at=float(n)) for n in numbers]
    published = {"c0": [float(n) for n in range(1, 11)]}
    evidence = Evidence(Settings(close_lag=2.0), VenueRecord(published=published, lines=[first, second]))
    evidence.tolerance = 0.001
    # The feed reports each Gap twice: as an event, and in its continuity.
    evidence.claims.gaps = evidence.gaps
    return evidence


def reported(evidence: Evidence, start: float, end: float, reason: str = "rotation", *, last: int = 5) -> set[str]:
    """Return the kinds of problems if the feed reported a Gap after the number ``last``."""
    message = Numbered("c0", last)
    evidence.gaps.append(Gap(start, end, reason, None, name="feed", time=end))  # type: ignore[arg-type]
    evidence.deliveries.append(Deliveries(message, {"c0": message}))
    return {problem.kind for problem in judge(evidence)}


def test_gap_of_a_rotation_needs_a_close_that_was_cut() -> None:
    """A rotation's Gap is excused only if the client cut the closing handshake during the time of the Gap."""
    assert "Gap without a cause" in reported(rotated(), 5.0, 6.5)
    assert "Gap without a cause" in reported(rotated(cut_at=3.0), 5.0, 6.5)
    assert not reported(rotated(cut_at=6.0), 5.0, 6.5)


def test_gap_begins_with_the_last_message_when_it_has_another_cause() -> None:
    """Even a Gap with a cause must not begin before a message that arrived and was delivered."""
    lost: dict[str, Any] = {"damages": [(5.0, "cut fin")]}
    assert not reported(rotated(**lost), 5.0, 5.5, "network")
    assert reported(rotated(**lost), 4.0, 5.5, "network") == {"Gap too early"}


def test_gap_of_one_channel_may_begin_before_messages_of_another_in_an_overlap() -> None:
    """In an overlap, a Gap may begin at the last message of a channel, even if that was long before."""
    evidence = rotated(damages=[(5.0, "cut fin")])
    message = Numbered("c0", 5)
    evidence.gaps.append(Gap(4.0, 5.5, "network", None, name="feed", time=5.5))
    evidence.deliveries.append(Deliveries(message, {"c0": message, "c1": None}))
    assert not judge(evidence)


@pytest.mark.parametrize(
    ("change", "is_found"),
    [({}, True), ({"has_ended": True}, False), ({"flowing_on": None}, False), ({"result": True}, False)],
)
def test_rotation_that_failed_needs_a_fault(change: dict[str, Any], is_found: bool) -> None:
    """``rotate()`` must not return False for a feed that continues and was not disturbed."""
    evidence = rotated()
    call: dict[str, Any] = {"at": 4.0, "flowing_on": 1, "result": False, "newest": 2, "returned_at": 5.0} | change
    evidence.rotate_calls.append(RotateCall(**call))
    assert bool(judge(evidence)) is is_found


@pytest.mark.parametrize("fault", ["refusal", "hiccup", "cut", "standstill", "silence"])
def test_rotation_may_fail_for_a_fault(fault: str) -> None:
    """A refused handshake, a hiccup, a cut, a standstill or a silent new connection may make ``rotate()`` fail."""
    evidence = rotated()
    evidence.rotate_calls.append(RotateCall(4.0, 1, False, 2, 5.0))
    line = evidence.record.lines[1]
    if fault == "refusal":
        evidence.record.refusals.append((4.1, "503"))
    elif fault == "hiccup":
        line.holdups.append((4.1, 4.4))
    elif fault == "cut":
        line.damages.append((4.5, "cut fin"))
    elif fault == "silence":
        # The server notices the client's close frame after the lag.
        evidence.settings = Settings(close_lag=2.0, up=0.2)
        line.ended_at = 5.2
    else:
        evidence.standstills.append((4.1, 4.3))
    assert not judge(evidence)


def test_gap_of_a_channel_that_the_new_connection_answers_late_is_excused() -> None:
    """A rotation whose time is up closes a connection although the new one has not answered a subscription yet."""
    evidence = rotated()
    evidence.record.lines[1].answers.append((5.4, "c0"))
    assert not reported(evidence, 5.0, 5.4)
    evidence = rotated()
    evidence.record.lines[1].answers.append((2.9, "c0"))
    assert "Gap without a cause" in reported(evidence, 5.0, 5.4)


def test_gap_of_a_connection_that_sends_again_beside_another_one_is_excused() -> None:
    """Replayed messages close no gap if the client did not know of the loss when the new connection was opened."""
    first, second = {"ended_at": 3.9, "damages": [(3.9, "cut 1000")]}, {"replayed": {"": True}}
    for left_at, is_excused in ((3.95, False), (4.1, True)):
        evidence = rotated(**first, left_at=left_at)
        evidence.record.lines[1].replayed = second["replayed"]
        assert ("Gap of what was sent again" in reported(evidence, 5.0, 5.4, "server")) is not is_excused


def test_gap_of_a_rotation_without_any_message_is_excused() -> None:
    """If nothing arrives for a second after the last message, nothing proves the overlap."""
    evidence = rotated()
    evidence.record.lines[1].sent = [sent for sent in evidence.record.lines[1].sent if sent.n <= 5 or sent.n > 7]
    assert not reported(evidence, 5.0, 7.5)
    assert "Gap without a cause" in reported(rotated(), 5.0, 7.5)


def test_gap_of_a_rotation_with_an_outage_is_excused() -> None:
    """A new connection on which the server tells of an outage must agree again, and its time may be too short."""
    evidence = rotated()
    evidence.record.outages.append((3.0, 4.5))
    assert not reported(evidence, 5.0, 5.2)
    evidence = rotated()
    evidence.record.outages.append((3.0, 3.5))
    assert "Gap without a cause" in reported(evidence, 5.0, 5.2)


def test_gap_at_the_end_of_a_slow_handler_is_excused() -> None:
    """A rotation may cut a connection in the moment in which a slow handler ends, so that messages were unread."""
    evidence = rotated()
    evidence.slow_times.append((2.0, 4.9995))
    assert not reported(evidence, 5.0, 5.0)
    evidence = rotated()
    evidence.slow_times.append((2.0, 4.9))
    assert "Gap without a cause" in reported(evidence, 5.0, 5.0)


@pytest.mark.parametrize(
    ("items", "kind"),
    [
        ([1, 2, 3], None),
        ([3, 4], "not fetched"),
        ([1, 3], "lost without a word"),
        ([1, 2, 2, 3], "twice or out of order"),
        ([1, 3, 2], "lost without a word"),
        ([1, "history", 3], "not fetched"),
        ([1, 2, 3, "history", 5], None),
        ([1, 2, "history", 3], "Gap without a cause"),
        ([1, 2, 3, "network", 5], "Gap in the past"),
        ([1, 2, 3, "history", "history", 5], "Gap in the past"),
        ([1, 2, "end", "history", 5], None),
        ([1, 2, "end", 5], "lost without a word"),
    ],
)
def test_channel_with_a_history_is_whole(items: list[Any], kind: str | None) -> None:
    """Numbers are missing only where the history lacks them, or at the end, and then a Gap is in their place."""
    evidence, seen = rotated(), Seen(PAST, PAST, 0.0, until=9.0, has_ended=True)
    evidence.past, evidence.lacking, time = seen, {4}, 5.0
    for item in items:
        if item == "end":
            time = 9.0
        elif isinstance(item, str):
            seen.looks.append(Look(time, Gap(1.0, 2.0, item, None, name="feed", time=2.0)))  # type: ignore[arg-type]
        else:
            seen.looks.append(Look(time, Numbered(PAST, item)))
    found = [problem.kind for problem in judge(evidence)]
    assert found[:1] == ([] if kind is None else [kind])


def test_subscription_may_be_repeated_while_its_answer_is_under_way() -> None:
    """A client may repeat a subscription whose answer has not arrived, or arrived while its loop was blocked."""
    evidence = rotated()
    evidence.record.repeats.append(Repeat(6.0, "c0", 5.9999))
    assert not judge(evidence)
    evidence.record.repeats.append(Repeat(6.0, "c0", 5.0))
    assert [problem.kind for problem in judge(evidence)] == ["subscribed again"]
    evidence.standstills.append((4.9, 5.5))
    assert not judge(evidence)


def test_rotation_is_tried_again_when_only_the_lost_connection_had_a_channel() -> None:
    """If a channel was subscribed only on the lost connection of an overlap, the next rotation subscribes it."""
    acts = (Act(8.306, "answer", "refused"), Act(8.306, "rotate"), Act(12.306, "answer", "none"), Act(12.306, "rotate"))
    report = play_one(Schedule(7000124, Settings(seconds=0.3), (*acts, Act(12.8, "cut", "rst"))))
    assert not report.problems, report
    assert report.counts["rotations"] == 2


def test_half_open_connection_has_no_protocol_error() -> None:
    """A protocol error that is sent on a half-open connection never arrives, so it is not a fault of it."""
    acts = (Act(2.0, "half-open"), Act(3.5, "protocol", "unanswered"), Act(8.0, "cut", "1012", 2.0))
    report = play_one(Schedule(1, Settings(seconds=9.0, keepalive=2.4), acts))
    assert not report.problems, report
