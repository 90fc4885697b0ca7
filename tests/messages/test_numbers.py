"""Numbers: what is missing between the numbers of messages, on one connection and after a loss."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from rxws.messages.numbers import Loss, Name, Numbers
from rxws.options import Options

from ..support.wiring import Wiring

pytestmark = pytest.mark.usefixtures("virtual_time")


class Feed:
    """The numbers of a feed whose messages have a number ``n``, a key ``k`` and a channel ``c``."""

    def __init__(self, **options: Any) -> None:
        self.wiring = Wiring()
        self.delivered: list[Any] = []
        self.starts: list[float] = []
        options = {"resume": True, "sequence": "n", "key": "k", **options}
        self.numbers = Numbers(
            Options(**options),
            self.wiring.reporter,
            lambda message: message.get("c"),
            lambda message: "own" not in message,
            lambda start, end: self.tell("gap"),
        )

    def deliver(self, message: Any) -> None:
        """Compare a message, and deliver it."""
        self.numbers.compare(message)
        self.delivered.append(message)

    def tell(self, word: str) -> None:
        """Count a gap, and note it in its place."""
        self.wiring.reporter.counters.gaps += 1
        self.delivered.append(word)

    def lose(self, *channels: str) -> Loss:
        """Lose a connection with these channels."""
        loss = self.numbers.lose(lambda start: (self.starts.append(start), self.tell("loss")), {None, *channels})
        loss.on_resumed = lambda: self.delivered.append("resumed")
        self.numbers.loss = loss
        return loss

    def take(self, *numbers: Any, key: str = "A", channel: str | None = None) -> list[Any]:
        """Deliver messages, and return what was delivered since the last call: numbers, gaps and verdicts."""
        for number in numbers:
            self.deliver({"n": number, "k": key, "c": channel})
        found = [each if isinstance(each, str) else each["n"] for each in self.delivered]
        self.delivered.clear()
        return found


async def test_hole_is_a_gap_in_its_place() -> None:
    """A number that does not follow has a gap before it; a number that is repeated has none."""
    assert Feed().take(5, 6, 8, 8, 7, 9) == [5, 6, "gap", 8, 8, 7, 9]


async def test_each_key_of_each_channel_has_a_sequence() -> None:
    """Numbers are compared with those of the same key and channel only."""
    feed = Feed()
    assert [feed.take(n, key=key, channel=channel) for n in (1, 2) for key in "AB" for channel in "XY"] == [
        [1], [1], [1], [1], [2], [2], [2], [2],
    ]  # fmt: skip
    assert feed.numbers.last(Name("X", "A")) == 2
    assert feed.numbers.last(Name("Z", "A")) is None


async def test_gap_excuses_all_sequences() -> None:
    """After a gap each sequence may continue with any number."""
    feed = Feed()
    feed.take(1, key="A")
    feed.take(1, key="B")
    feed.tell("source")
    assert feed.take(7, 8, 10, key="A") == ["source", 7, 8, "gap", 10]
    assert feed.take(4, key="B") == [4]


async def test_range_follows_if_its_first_number_does() -> None:
    """A message with a range of numbers follows if no number before its first one is missing."""
    feed = Feed(sequence=lambda message: message["n"])
    assert feed.take((1, 4), (5, 9), (8, 12), (14, 15)) == [(1, 4), (5, 9), (8, 12), "gap", (14, 15)]


async def test_messages_without_numbers_are_delivered() -> None:
    """A message without the fields, or that is per connection, has no number; a function that fails is reported."""
    feed = Feed(key=lambda message: message["k"])
    for message in {"n": 1, "k": "A"}, {"n": 5, "k": "A", "own": 1}, {"k": "A"}, {"n": 3}, {"n": "x", "k": "A"}:
        feed.deliver(message)
    assert len(feed.delivered) == 5
    assert [event.handler for event in feed.wiring.seen] == ["sequence or key"]


@pytest.mark.parametrize(
    ("following", "expected"), [(4, ["resumed", 4]), (5, ["loss", 5]), (3, ["loss", 3]), (1, ["loss", 1])]
)
async def test_first_number_after_a_loss_decides(following: int, expected: list[Any]) -> None:
    """The next number proves that nothing is missing, a later one shows a hole, and any other one shows a new count."""
    feed = Feed()
    feed.take(1, 2, 3)
    feed.lose()
    assert feed.take(following, following + 1) == [*expected, following + 1]


async def test_one_loss_is_one_gap_and_no_resumption_follows_it() -> None:
    """The gap of the first sequence with a hole is announced; it accounts for the holes of the others."""
    feed = Feed()
    for key in "ABC":
        feed.take(1, key=key)
    loss = feed.lose()
    assert feed.take(3, key="A") == ["loss", 3]
    assert feed.take(2, key="B") == [2]
    assert feed.take(9, key="C") == [9]
    assert (loss.is_broken, loss.is_proven, loss.pending) == (True, False, set())
    loss.broken(1.0)
    assert feed.take() == []


async def test_gap_of_two_losses_starts_before_the_first() -> None:
    """If a sequence had no number between two losses, its gap starts at its last message, not at the second loss."""
    feed = Feed()
    feed.take(1, key="A")
    feed.take(1, key="B")
    before = feed.wiring.reporter.now()
    await asyncio.sleep(0.05)
    feed.lose()
    feed.take(2, key="A")
    await asyncio.sleep(0.05)
    feed.lose()
    assert feed.take(4, key="B") == ["loss", 4]
    assert feed.starts == [pytest.approx(before, abs=0.02)]


async def test_first_number_of_a_sequence_after_a_loss() -> None:
    """A new sequence of a lost channel has a gap before it if it begins after 1; another channel may begin anywhere."""
    feed = Feed()
    feed.take(1)
    feed.lose("X")
    assert feed.take(77, key="B", channel="Y") == [77]
    assert feed.take(1, key="C", channel="X") == [1]
    assert feed.take(2, key="D", channel="X") == ["loss", 2]
    assert feed.take(8, key="E", channel="X") == [8]


async def test_channel_that_is_unsubscribed_is_forgotten() -> None:
    """The numbers of a channel that is subscribed again may start over, even after a loss."""
    feed = Feed()
    feed.take(1, channel="X")
    feed.take(1, channel="Y")
    feed.numbers.forget("X")
    assert feed.take(9, channel="X") == [9]
    loss = feed.lose("X", "Y")
    feed.numbers.forget("X")
    assert feed.take(20, channel="X") == [20]
    assert not loss.is_proven
    assert feed.take(2, channel="Y") == ["resumed", 2]


@pytest.mark.parametrize(("following", "verdict"), [(2, "resumed"), (3, "loss"), (1, "loss")])
async def test_gap_after_a_loss_decides_nothing_about_it(following: int, verdict: str) -> None:
    """Another gap begins later than the loss, so it accounts for no number that is missing because of the loss."""
    feed = Feed()
    feed.take(1)
    feed.lose()
    feed.tell("source")
    assert feed.take(following) == ["source", verdict, following]


@pytest.mark.parametrize("options", [{"sequence": []}, {"key": []}, {"sequence": ()}])
async def test_wrong_options_raise(options: Any) -> None:
    """Fields that name nothing raise at once."""
    with pytest.raises((TypeError, ValueError), match=r"must be|is an empty tuple"):
        Feed(**options)


async def test_gap_before_a_loss_accounts_for_no_number_after_it() -> None:
    """What was missed since a loss is compared with the last number, even if another gap was reported before."""
    feed = Feed()
    feed.take(1, key="A")
    feed.take(1, key="B")
    feed.tell("source")
    feed.lose()
    assert feed.take(3, key="A") == ["source", "loss", 3]
    feed.lose()
    assert feed.take(2, key="B") == ["resumed", 2]
