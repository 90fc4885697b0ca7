"""Publishing of an outbox on one connection after another, with a client that only collects."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

from rxws.nats.broker import Broker
from rxws.nats.control import Control, Peers
from rxws.nats.outbox import Held, Hole, Outbox
from rxws.nats.publishing import Counts, Identity, Publisher, Timing


def held(second: float) -> Held:
    """Return a message that was received at this time."""
    return Held("rx.a", b"{}", str(second), 1, int(second * 1e9), False)


class Connections:
    """A relay without a feed, whose connections are made one after the other.

    Attributes:
        outbox: its messages.
        identity: its names and its interval.
        peers: the other relays.
    """

    def __init__(self, *, is_shared: bool = False) -> None:
        self.outbox = Outbox(1000, 1000, 2**20)
        self.identity = Identity("f", "a", "boot", is_shared=is_shared)
        self.peers = Peers("f", "boot", 2.5, 0.3)

    def publish(self) -> list[str]:
        """Publish all on a new connection. Return the ids of the messages, and the events and times of statements."""
        published: list[str] = []

        def put(subject: str, _reply: str, payload: bytes, headers: str) -> bool:
            said = json.loads(payload)
            published.append(
                f"{said['event']} {said['since']:g} {said['time']:g}"
                if subject.startswith("_rx.")
                else headers.partition("\r\n")[0].removeprefix("Nats-Msg-Id: ")
            )
            return True

        client: Any = SimpleNamespace(put=put)
        publisher = Publisher(
            broker=cast("Broker", SimpleNamespace(client=client)),
            outbox=self.outbox,
            identity=self.identity,
            peers=self.peers,
            timing=Timing(5.0, 0.5, 0.3, 2.5),
            counts=Counts(),
            is_ending=lambda: False,
            refused=lambda _: None,
            begins=lambda: None,
            max_payload=2**20,
            _now=lambda: 0.0,
        )
        while publisher._advance():
            pass
        return published

    def lose(self) -> None:
        """Lose the connection before the broker has acknowledged anything."""
        hole = self.outbox.restore()
        if hole is not None:
            self.identity.rewind(hole)


def test_statements_are_repeated_unchanged_after_a_lost_connection() -> None:
    """If a connection is lost in the middle of a hole, the next one states the same intervals again."""
    relay = Connections()
    relay.outbox.add_hole(Hole(None, 1.0, "start"))
    relay.outbox.add(held(1.0))
    relay.outbox.add_hole(Hole(2.0, 4.0, "network"))
    relay.outbox.add(held(4.0))
    first = relay.publish()
    assert first == ["Connected 1 1", "1.0", "Disconnected 1 2", "Connected 4 4", "4.0"]
    for _ in range(2):
        relay.lose()
        assert relay.identity.since is None
        assert relay.publish() == first
    assert relay.identity.since == 4.0


def test_mark_before_a_hole_keeps_its_interval_after_a_lost_connection() -> None:
    """A mark that is stated on the next connection belongs to the interval in which it was made."""
    relay = Connections()
    relay.identity.since = 1.0
    relay.outbox.add(held(1.5))
    relay.outbox.mark(2.0)
    relay.outbox.add_hole(Hole(2.0, 4.0, "network"))
    assert relay.publish() == ["1.5"]
    relay.outbox.acknowledged(0)
    statements = ["Alive 1 2", "Disconnected 1 2", "Connected 4 4"]
    assert relay.publish() == statements
    relay.lose()
    assert relay.publish() == statements


def test_messages_before_a_hole_are_not_skipped_after_a_lost_connection() -> None:
    """A relay that began again after another one still publishes what it had published before its hole."""
    relay = Connections(is_shared=True)
    relay.identity.since = 1.0
    relay.outbox.add(held(1.5))
    relay.outbox.add_hole(Hole(2.0, 4.0, "network"))
    relay.outbox.add(held(4.0))
    relay.outbox.add(held(7.0))
    relay.peers.heard(Control(event="Alive", feed="f", relay="b", boot="b", since=5.0, time=9.0), 0.0)
    # The other relay began later, so this one skips the message that the other one lacks.
    first = relay.publish()
    assert first == ["1.5", "Disconnected 1 2", "Connected 5.6 5.6", "7.0"]
    relay.lose()
    assert relay.publish() == first


def test_relay_waits_for_its_turn_after_it_dropped_messages_behind_a_refused_one() -> None:
    """A relay that dropped messages does not begin before another relay may have stored them."""
    relay = Connections(is_shared=True)
    relay.outbox = Outbox(1000, 1, 2**20)
    relay.identity.since = 1.0
    relay.outbox.add(held(1.5))
    relay.outbox.reject()
    relay.outbox.add(held(2.0))
    relay.outbox.add(held(3.0))
    relay.peers.heard(Control(event="Alive", feed="f", relay="b", boot="b", since=0.0, time=2.5), 0.0)
    assert relay.publish() == ["Overflowed 1 1.5", "Disconnected 3 3"]
    relay.peers.heard(Control(event="Alive", feed="f", relay="b", boot="b", since=0.0, time=9.0), 0.0)
    assert relay.publish() == ["Overflowed 1 1.5", "Connected 3 3", "3.0"]
