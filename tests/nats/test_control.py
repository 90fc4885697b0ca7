"""Statements of relays: reading them, and what a relay knows about the others."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rxws.nats.control import CLOSED, JOINING, Control, Peers, control_subject, read_control


def said(event: Any, since: float, until: float, relay: str = "b", **more: Any) -> Control:
    """Return a statement of another relay."""
    return Control(
        **{"event": event, "feed": "f", "relay": relay, "boot": relay, "since": since, "time": until, **more}
    )


def peers() -> Peers:
    """Return what relay "a" knows."""
    return Peers("f", "a", 2.5, 0.3)


def test_statement_is_read_as_it_was_written() -> None:
    """A statement is JSON with documented fields, and reading it gives the same statement."""
    statement = {"event": "Alive", "feed": "f", "relay": "r", "boot": "b", "since": 1.0, "time": 2.0}
    assert read_control(json.dumps(statement).encode()) == said("Alive", 1.0, 2.0, relay="r", boot="b")


@pytest.mark.parametrize("payload", [b"", b"{}", b"[1]", b"\xff", b'{"event":"Other"}'])
def test_foreign_payload_is_not_a_statement(payload: bytes) -> None:
    """A payload that is not a statement is ignored."""
    assert read_control(payload) is None


def test_statement_without_an_interval_is_ignored() -> None:
    """A statement that ends before it begins is ignored."""
    wrong = {"event": "Alive", "feed": "f", "relay": "r", "boot": "b", "since": 3.0, "time": 2.0}
    assert read_control(json.dumps(wrong).encode()) is None


def test_subject_of_a_relay_is_one_token() -> None:
    """The name of a relay is one token below the root of statements."""
    assert control_subject("host.a b-1") == "_rx.host%2Ea%20b-1"


def test_relay_follows_a_claim_that_reaches_beyond_its_beginning() -> None:
    """A relay may begin when another one has stored its messages up to that time, and twice the margin longer."""
    known = peers()
    known.heard(said("Alive", 0.0, 10.5), 0.0)
    assert known.first_after(10.0) is None
    known.heard(said("Alive", 0.0, 10.6), 0.1)
    assert known.first_after(10.0) == 10.0


def test_relay_skips_messages_that_the_other_one_lacks() -> None:
    """A relay that may have messages from before the other one's beginning begins later, even if the clocks differ.

    Otherwise it would publish them after later ones. It also waits until the other relay has stored those before.
    """
    known = peers()
    known.heard(said("Alive", 10.0, 11.1), 0.0)
    assert known.first_after(10.2) is None
    known.heard(said("Alive", 10.0, 11.2), 0.1)
    assert known.first_after(10.2) == 10.6
    assert known.first_after(5.0) == 10.6


def test_other_relay_is_dead_without_claims() -> None:
    """A relay without a statement for ``patience`` seconds counts as dead."""
    known = peers()
    assert not known.is_alive(0.0)
    known.heard(said("Alive", 0.0, 1.0), 0.0)
    assert known.is_alive(2.5)
    assert not known.is_alive(2.6)


def test_own_statements_and_other_feeds_are_ignored() -> None:
    """A relay does not follow itself, nor relays of another feed."""
    known = peers()
    known.heard(said("Alive", 0.0, 1.0, relay="a"), 0.0)
    known.heard(said("Alive", 0.0, 1.0, feed="other"), 0.0)
    assert not known.is_alive(0.0)


@pytest.mark.parametrize("reason", [CLOSED, "network"])
def test_disconnected_relay_covers_nothing(reason: str) -> None:
    """A relay that is closed, or whose feed is disconnected, cannot replace another one."""
    known = peers()
    known.heard(said("Alive", 0.0, 10.0), 0.0)
    assert known.covers(1.0, 2.0)
    known.heard(said("Disconnected", 0.0, 10.0, reason=reason), 0.0)
    assert not known.covers(1.0, 2.0)
    assert not known.is_alive(0.0)


def test_relay_with_the_longest_history_goes_first() -> None:
    """If relays begin together, the one with the oldest messages publishes first."""
    known = peers()
    assert known.goes_first(5.0, 0.0)
    known.heard(said("Disconnected", 4.0, 4.0, reason=JOINING), 0.0)
    assert not known.goes_first(5.0, 0.0)
    assert known.goes_first(3.0, 0.0)
    assert known.goes_first(5.0, 9.0)
    known.heard(said("Disconnected", 5.0, 5.0, relay="0", reason=JOINING), 10.0)
    assert not known.goes_first(5.0, 10.0)


def test_coverage_needs_a_margin_on_both_sides() -> None:
    """Another relay covers an interval only if its claim exceeds both ends by more than clocks and delays differ."""
    known = peers()
    known.heard(said("Alive", 0.0, 10.0), 0.0)
    assert known.covers(0.6, 9.4)
    assert not known.covers(0.5, 9.4)
    assert not known.covers(0.6, 9.5)
    assert known.may_cover(50.0)
    assert not known.may_cover(0.5)
