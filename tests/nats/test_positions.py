"""Positions: each message has its number as long as other code holds the message."""

from __future__ import annotations

from rxws.nats.positions import SMALLEST, Positions


def test_message_has_its_position_while_it_is_held() -> None:
    """A message that a consumer holds has its number, even after many more messages."""
    positions = Positions()
    kept = [{"n": number} for number in range(50)]
    for number, message in enumerate(kept):
        positions.note(message, number)
    for number in range(5 * SMALLEST):
        positions.note({"n": number}, 1000 + number)
    assert [positions.get(message) for message in kept] == list(range(50))
    assert len(positions) <= SMALLEST + 50


def test_many_held_messages_are_all_remembered() -> None:
    """A consumer that holds many messages finds the number of each."""
    positions = Positions()
    kept = [[number] for number in range(3 * SMALLEST)]
    for number, message in enumerate(kept):
        positions.note(message, number)
    assert all(positions.get(message) == number for number, message in enumerate(kept))


def test_equal_object_has_no_position() -> None:
    """A copy of a message has no number, because only the delivered object has one."""
    positions = Positions()
    message = {"n": 1}
    positions.note(message, 7)
    assert positions.get(message) == 7
    assert positions.get(dict(message)) is None
