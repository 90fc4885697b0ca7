"""Watermarks: a lost message has a hole in its place, in any history of relays."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from rxws.nats.control import CLOSED, JOINING, Control
from rxws.nats.watermarks import Watermarks


def said(event: Any, since: float, until: float, relay: str = "a", **more: Any) -> Control:
    """Return a statement of a relay."""
    return Control(
        **{"event": event, "feed": "f", "relay": relay, "boot": relay, "since": since, "time": until, **more}
    )


def test_chain_of_one_relay_has_no_hole() -> None:
    """While one relay runs without an interruption, no message is missing."""
    marks = Watermarks()
    assert marks.complete_until is None
    assert marks.take(said("Connected", 0.0, 0.0)) == []
    assert marks.take(said("Alive", 0.0, 5.0)) == []
    assert marks.complete_until == 5.0


def test_relay_that_begins_late_shows_a_hole_at_once() -> None:
    """The first statement of a relay precedes its messages, and shows the hole before them."""
    marks = Watermarks()
    marks.take(said("Alive", 0.0, 5.0))
    [(start, end)] = marks.take(said("Connected", 8.0, 8.0, relay="b"))
    assert (start, end) == (5.0, 8.0)
    assert marks.take(said("Alive", 8.0, 9.0, relay="b")) == []


def test_relay_that_takes_over_in_time_shows_no_hole() -> None:
    """A relay that began while another one was running takes over without a hole."""
    marks = Watermarks()
    marks.take(said("Alive", 0.0, 5.0))
    assert marks.take(said("Connected", 4.0, 4.0, relay="b")) == []
    assert marks.take(said("Alive", 4.0, 9.0, relay="b")) == []
    assert marks.complete_until == 9.0


def test_claim_that_is_taken_back_shows_a_hole() -> None:
    """A relay that notices later that its feed was silent shortens its claim, and there is a hole until it begins."""
    marks = Watermarks()
    marks.take(said("Alive", 0.0, 50.0))
    assert marks.take(said("Disconnected", 0.0, 20.0, reason="network")) == []
    assert marks.complete_until == 20.0
    assert marks.take(said("Connected", 51.0, 51.0)) == [(20.0, 51.0)]
    assert marks.take(said("Alive", 51.0, 52.0)) == []


def test_claim_that_is_taken_back_shows_a_hole_at_once_if_another_relay_continues() -> None:
    """Another relay that began meanwhile does not close the hole, because it lacks that time."""
    marks = Watermarks()
    marks.take(said("Alive", 0.0, 50.0))
    assert marks.take(said("Connected", 45.0, 45.0, relay="b")) == []
    assert marks.take(said("Disconnected", 0.0, 20.0, reason="network")) == [(20.0, 50.0)]


def test_claim_that_is_taken_back_shows_none_if_another_relay_has_it() -> None:
    """Another relay that covers the time closes the hole."""
    marks = Watermarks()
    marks.take(said("Alive", 0.0, 50.0))
    marks.take(said("Alive", 0.0, 51.0, relay="b"))
    assert marks.take(said("Disconnected", 0.0, 20.0, reason="network")) == []


def test_closed_relay_holds_nothing_back() -> None:
    """A feed whose relays are all closed does not count for ``complete_until``."""
    marks = Watermarks()
    marks.take(said("Alive", 0.0, 5.0))
    marks.take(said("Alive", 0.0, 9.0, feed="other", relay="o"))
    assert marks.complete_until == 5.0
    marks.take(said("Disconnected", 0.0, 5.0, reason=CLOSED))
    assert marks.complete_until == 9.0
    assert marks.take(said("Disconnected", 3.0, 3.0, relay="c", reason=JOINING)) == []
    marks.forget()
    assert marks.complete_until is None


class _Relay:
    """A relay of the simulation, with all messages of its interval, and its own clock."""

    def __init__(self, name: str, skew: float) -> None:
        self.name = name
        self.skew = skew
        self.boots = 0
        self.since: float | None = None
        self.held: list[float] = []


@given(st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_no_message_is_lost_without_a_hole_in_its_place(chances: Any) -> None:
    """For any schedule of two relays, kills and lags, with differing clocks, each lost message is in a hole.

    A relay holds received messages for a while, and its watermark follows the stored ones.
    """
    relays = [_Relay("a", chances.uniform(-0.1, 0.1)), _Relay("b", chances.uniform(-0.1, 0.1))]
    stream: list[Any] = []
    stored: set[float] = set()
    now, messages = 0.0, []
    claims: dict[str, float] = {}
    for _ in range(chances.randrange(20, 120)):
        now += chances.choice([0.05, 0.2, 0.5, 1.0, 3.0])
        messages.append(now)
        for relay in relays:
            if relay.since is None:
                if chances.random() < 0.3:
                    relay.since, relay.held = now + 0.001, []
                    relay.boots += 1
                    relay.name = f"{relay.name[0]}{relay.boots}"
                    relay.begun = False  # type: ignore[attr-defined]
                continue
            if now > relay.since:
                relay.held.append(now)
            if chances.random() < 0.12:
                relay.since = None
                continue
            others = [each for each in relays if each is not relay and each.since is not None]
            if not relay.begun:  # type: ignore[attr-defined]
                reached = any(claims.get(each.name, -1.0) >= relay.since + relay.skew + 0.3 for each in others)
                is_alone = not any(getattr(each, "begun", False) for each in others)
                if not reached and not is_alone:
                    continue
                relay.begun = True  # type: ignore[attr-defined]
                begins = relay.since + relay.skew
                stream.append(said("Connected", begins, begins, relay=relay.name))
            if chances.random() < 0.6:
                for time in relay.held:
                    if time not in stored:
                        stored.add(time)
                        stream.append(time)
                relay.held = []
                claims[relay.name] = now + relay.skew
                stream.append(said("Alive", relay.since + relay.skew, now + relay.skew, relay=relay.name))
    marks = Watermarks()
    holes: list[tuple[int, float, float]] = []
    for place, entry in enumerate(stream):
        if isinstance(entry, Control):
            holes += [(place, start, end) for start, end in marks.take(entry)]
    places = {entry: place for place, entry in enumerate(stream) if not isinstance(entry, Control)}
    times = sorted(places)
    for lost in messages:
        if lost in places or not times or not times[0] < lost < times[-1]:
            continue
        before = max(time for time in times if time < lost)
        after = min(time for time in times if time > lost)
        assert any(places[before] < place < places[after] for place, _, _ in holes), (lost, before, after, holes)
