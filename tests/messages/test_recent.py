"""RecentMessages: the ring of delivered messages, and the newest cursor among them."""

from __future__ import annotations

from typing import Any

import pytest

from rxws.messages import recent as module
from rxws.messages.hooks import Many
from rxws.messages.recent import RecentMessages
from rxws.reporting.events import CallbackFailed

from ..support.wiring import Wiring


def make(cursor: Any = "n", *, channels: tuple[str, ...] = (), wiring: Wiring | None = None) -> RecentMessages:
    """Make a ring of messages. The key ``"c"`` is their channel; those with a key ``"own"`` are per-connection."""
    reporter = (wiring or Wiring()).reporter
    return RecentMessages(
        reporter, cursor, lambda message: "own" not in message, lambda message: message.get("c"), lambda: channels
    )


def filled(ring: RecentMessages, *messages: Any) -> RecentMessages:
    """Add messages, each with a frame of ten characters."""
    for message in messages:
        ring.add("0123456789", message)
    return ring


async def test_cursor_is_the_newest_value_that_is_not_none() -> None:
    """Messages without the key, or with None, have no cursor."""
    ring = make()
    assert ring.cursor() is None
    assert filled(ring, {"n": 1}, {"n": 2}, {"x": 9}, {"n": None}).cursor() == 2
    assert filled(ring, {"n": 3}).cursor() == 3


async def test_cursor_is_a_path_or_a_function() -> None:
    """The cursor may be given by a path or a function."""
    message = {"data": {"id": "a"}, "k": 3}
    assert filled(make(("data", "id")), message).cursor() == "a"
    assert filled(make(lambda message: message["k"] + 1), message).cursor() == 4


async def test_message_is_its_own_cursor_without_a_field() -> None:
    """Without ``cursor`` the cursor is the last message that is not per-connection."""
    assert filled(make(None), {"n": 1}, {"n": 2}, {"own": True}).cursor() == {"n": 2}


async def test_cursor_of_many_messages_is_that_of_the_last_one() -> None:
    """In a frame of several messages the last message with a cursor counts."""
    assert filled(make(), Many([{"n": 1}, {"n": 2}, {"x": 0}]), Many()).cursor() == 2


async def test_each_channel_has_its_own_cursor() -> None:
    """The cursor of a channel is that of its newest message; the whole feed's is the newest of all."""
    ring = filled(make(), {"c": "A", "n": 1}, {"c": "B", "n": 7}, {"c": "A", "n": 2}, {"c": "B", "x": 0})
    assert [ring.cursor("A"), ring.cursor("B"), ring.cursor("C"), ring.cursor()] == [2, 7, None, 2]


async def test_answer_to_a_subscription_has_a_cursor() -> None:
    """The cursor in the server's answer is used for its channel and the whole feed, until a newer message arrives."""
    ring = make()
    ring.deliver_from(1)
    ring.note(1, "A", {"n": 5, "id": 1})
    assert (ring.cursor("A"), ring.cursor("B"), ring.cursor()) == (5, None, 5)
    assert filled(ring, {"c": "A", "n": 6}).cursor("A") == 6
    assert [message for _, message in ring.delivered()] == [{"c": "A", "n": 6}]


async def test_answer_is_not_a_message() -> None:
    """Without ``cursor`` the server's answer is not used as the cursor, because it was not delivered as a message."""
    ring = make(None)
    ring.deliver_from(1)
    ring.note(1, "A", {"id": 1})
    assert ring.cursor("A") is None


async def test_answer_on_a_connection_that_does_not_deliver_is_no_cursor_yet() -> None:
    """An answer counts only when its connection delivers; if that one is replaced before, its answers are ignored."""
    ring = make()
    ring.note(2, "A", {"n": 5})
    assert ring.cursor("A") is None
    ring.note(3, "B", {"n": 6})
    ring.deliver_from(3)
    assert (ring.cursor("A"), ring.cursor("B")) == (None, 6)


async def test_answers_are_bounded() -> None:
    """While no message arrives, the newest answers are kept, at most 10,000."""
    ring = make(channels=("A",))
    ring.deliver_from(1)
    ring.note(1, "A", {"n": 1})
    for n in range(30_000):
        ring.note(1, "B", {"n": n})
    assert len(ring._ring) <= 10_000
    assert (ring.cursor("A"), ring.cursor("B")) == (1, 29_999)


async def test_ring_keeps_ten_thousand_messages() -> None:
    """The newest messages are kept, at most 10,000 and at least 9,000."""
    ring = filled(make(), *({"n": n} for n in range(25_500)))
    kept = [message["n"] for _, message in ring.delivered()]
    assert kept == list(range(25_500 - len(kept), 25_500))
    assert 9_000 <= len(kept) <= 10_000
    assert [message["n"] for _, message in ring.delivered(3)] == [25_497, 25_498, 25_499]


async def test_ring_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large frames count by their size."""
    monkeypatch.setattr(module, "BYTES_MAX", 10_000)
    ring = filled(make(), *({"n": n} for n in range(5_000)))
    assert 900 <= len(list(ring.delivered())) <= 1_000


async def test_rare_cursor_outlives_its_message() -> None:
    """The last cursor of each channel is remembered even after its message has left the ring."""
    ring = make(channels=("A", "B"))
    filled(ring, {"c": "A", "n": "a"}, {"c": "B", "n": "b"}, {"n": "x"})
    filled(ring, *({"c": "A"} for _ in range(30_000)))
    assert (ring.cursor("A"), ring.cursor("B"), ring.cursor()) == ("a", "b", "x")
    assert filled(ring, {"c": "B", "n": "later"}).cursor("B") == "later"


async def test_function_that_raises_is_reported() -> None:
    """A cursor function that raises is reported with its message; an older message may have the cursor."""
    wiring = Wiring()
    ring = filled(make(lambda message: message["n"], wiring=wiring), {"n": 1}, {"x": 2})
    assert ring.cursor() == 1
    [event] = [each for each in wiring.seen if isinstance(each, CallbackFailed)]
    assert event.message == {"x": 2}


async def test_key_that_no_message_has() -> None:
    """The ring notices if none of the delivered messages has the key of the cursor."""
    ring = make()
    assert not ring.names_no_key
    assert filled(ring, {"x": 1}).names_no_key
    assert not filled(ring, {"n": 1}).names_no_key


async def test_answers_are_left_out() -> None:
    """``exclude`` removes an answer from the ring, but no other message that is equal to it."""
    ring, answer = make(), {"id": 1}
    filled(ring, {"n": 1}, answer, {"id": 1})
    ring.exclude([answer])
    assert [message for _, message in ring.delivered()] == [{"n": 1}, {"id": 1}]
