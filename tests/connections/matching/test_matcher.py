"""The rules of the matcher, each with an example.

A joined line *owes* a message while another line has delivered it and its copy has not arrived on the joined line.
"""

from __future__ import annotations

import math

import pytest

from rxws.connections.matching import INCOMPARABLE, GapFound, Joined, Limits, Lost, Matcher, Proof, Reopen, Resumed
from rxws.connections.matching.seats import TRANSITIONS, HeldMessage, Seat, SeatState

LIMITS = Limits(settle=0.5, reach=2.0, farthest=10.0)


class Table:
    """A matcher with a short notation: ``"1a"`` is a message with the identity ``a`` on line 1."""

    def __init__(self, limits: Limits = LIMITS, unordered: tuple[object, ...] = ()) -> None:
        self.matcher: Matcher[str] = Matcher(limits, lambda channel: channel not in unordered)
        self.now = 0.0

    def at(self, now: float, *messages: str, channel: object = "x", size: int = 1) -> Table:
        """Let messages arrive at a time. Each message's text in the notation is also its item."""
        self.now = now
        for text in messages:
            key = INCOMPARABLE if text.endswith("?") else text[1:]
            self.matcher.arrived(int(text[0]), channel, key, text, size, now)
        return self

    def acknowledge(self, now: float, *lines: int, channel: object = "x") -> Table:
        """Let the server acknowledge a channel on some lines."""
        for line in lines:
            self.matcher.acknowledged(line, channel, now)
        return self

    def tick(self, *times: float) -> Table:
        """Tell the matcher these times, one after the other."""
        for now in times:
            self.matcher.tick(now)
        return self

    @property
    def out(self) -> list[object]:
        """The results since the previous access: the delivered items, and the outcomes."""
        out, self.matcher.out = self.matcher.out, []
        return [each[0] if isinstance(each, tuple) else each for each in out]


def two_joined(**limits: float) -> Table:
    """Return a matcher with two lines that joined in channel ``x`` at 0.7, after ``a`` and ``b`` arrived on both."""
    table = Table(Limits(**{"settle": 0.5, "reach": 2.0, "farthest": 10.0, **limits}))  # type: ignore[arg-type]
    table.acknowledge(0.0, 1, 2).at(0.1, "1a", "2a").at(0.6, "1b", "2b").tick(0.7)
    assert table.out == ["1a", "1b", Joined(2, "x")]
    return table


def rotation(*, channels: tuple[object, ...] = ("x",), unordered: tuple[object, ...] = (), **limits: int) -> Table:
    """Return a matcher in which line 1 delivers, and line 2 is reserved and subscribed at 0."""
    table = Table(Limits(**limits), unordered)
    table.matcher.begin(1, channels, 0.0, -1.0)
    table.matcher.reserve(2)
    for channel in channels:
        table.acknowledge(0.0, 2, channel=channel)
    return table


# Joining


def test_first_line_delivers_at_once():
    """The first acknowledged line of a new channel delivers without a gap."""
    table = Table().acknowledge(1.0, 1).at(1.1, "1a")
    assert table.out == ["1a"]
    assert table.matcher.is_joined(1)


def test_second_line_joins_when_it_has_agreed_for_settle():
    """A line joins when all messages delivered in the last ``settle`` seconds have arrived on it too."""
    table = Table().acknowledge(0.0, 1, 2).at(0.1, "1a", "2a").tick(0.4)
    assert not table.matcher.is_joined(2)
    table.tick(0.5)
    assert table.matcher.is_joined(2)
    assert table.at(0.6, "2b", "1b").out[-1] == "2b"


def test_silent_line_joins_a_silent_channel_when_settle_has_passed():
    """A line without messages joins after ``settle`` seconds if no message was delivered since its acknowledgement."""
    table = Table().acknowledge(0.0, 1, 2).tick(0.5)
    assert table.out[-1] == Joined(2, "x")


def test_line_does_not_join_while_it_lacks_a_message():
    """A line that lacks a delivered message does not join ``settle`` seconds after its acknowledgement."""
    table = Table().acknowledge(0.0, 1, 2).at(0.1, "1a").at(0.4, "1b", "2b").tick(0.55)
    assert not table.matcher.is_joined(2)


def test_acknowledgement_counts_once():
    """A second acknowledgement of the same channel on the same line changes nothing."""
    table = Table().acknowledge(0.0, 1).at(0.1, "1a").acknowledge(3.0, 1)
    assert table.out == ["1a"]


def test_messages_before_the_first_copy_are_older():
    """Messages that a line held before its first copy are older than that copy. They are dropped and counted."""
    table = Table().acknowledge(0.0, 1).at(0.1, "1a", "1b").acknowledge(0.2, 2)
    table.at(0.3, "2z").at(0.3, "2b").at(0.4, "1c", "2c").tick(0.8)
    assert table.out == ["1a", "1b", "1c", Joined(2, "x")]
    assert table.matcher.older == 1


def test_messages_after_the_first_copy_are_delivered_at_the_join():
    """Messages that a line held after its first copy are delivered in order when the line joins."""
    table = Table().acknowledge(0.0, 1, 2).at(0.1, "1a", "2a").at(0.45, "2b", "2c").tick(0.5)
    assert table.out == ["1a", Joined(2, "x"), "2b", "2c"]


def test_messages_before_the_first_copy_of_an_unordered_channel_are_delivered_and_counted():
    """In an unordered channel no held message counts as older. Those without copies are delivered at the join."""
    table = Table(unordered=("x",)).acknowledge(0.0, 1, 2)
    table.at(0.1, "2z", "1a", "2a").tick(0.6)
    assert table.out == ["1a", Joined(2, "x"), "2z"]
    assert (table.matcher.uncopied, table.matcher.older) == (1, 0)


def test_copies_from_before_a_gap_do_not_show_that_held_messages_are_new():
    """A line that lags by seconds does not deliver late what another line took over after, with a gap."""
    table = Table().acknowledge(0.0, 1, 2).at(0.1, "1a", "1b")
    table.matcher.ended(1, 1.0)
    table.acknowledge(1.1, 3).at(1.2, "3d")
    assert [each for each in table.out if isinstance(each, str | GapFound)] == [
        *("1a", "1b"),
        GapFound(0.1, 1.1, ("x",)),
        "3d",
    ]
    # Line 2 brings what was delivered before the gap, what no line delivered, and then what follows the gap.
    table.at(3.0, "2a", "2b", "2c", "2d").at(3.1, "3e", "2e").at(3.7, "3f", "2f").tick(3.8)
    assert table.out == ["3e", "3f", Joined(2, "x")]
    assert table.matcher.older == 1


def test_copy_is_taken_alone_and_any_other_message_is_not():
    """``copied`` takes a message only if it is a copy, and changes nothing otherwise."""
    table = two_joined().at(1.0, "1c")
    assert table.out == ["1c"]
    assert not table.matcher.copied(2, "x", "d", 1.1)
    assert not table.matcher.copied(3, "new", "d", 1.1)
    assert table.matcher.copied(2, "x", "c", 1.1)
    assert not table.matcher.copied(2, "x", "c", 1.1)
    assert table.at(1.2, "2d").out == ["2d"]


def test_first_copy_is_not_evidence_when_an_equal_message_arrives():
    """A copy that is followed by an equal message does not prove that the messages before it are older."""
    table = Table().acknowledge(0.0, 1).at(0.1, "1h").acknowledge(0.15, 2)
    table.at(0.2, "2h", "2z", "2h").at(0.3, "1b", "2b").at(0.4, "1c", "2c").tick(0.9)
    assert table.out == ["1h", "1b", "1c", Joined(2, "x")]
    assert table.matcher.older == 2


def test_only_the_first_eight_copies_are_kept_as_evidence():
    """Only the first eight copies of a long agreement are kept."""
    table = Table().acknowledge(0.0, 1, 2)
    for number in range(20):
        table.at(0.01 * number, f"1{number}", f"2{number}")
    ((_, seat),) = table.matcher._seats_of(2)
    assert len(seat.first_copies) == 8


# Early messages


def test_early_messages_are_held_and_prove_nothing():
    """Messages before the acknowledgement are held. In an unordered channel a copy among them proves nothing."""
    table = Table(unordered=("x",)).acknowledge(0.0, 1).at(0.1, "1a").at(0.2, "2a", "2b")
    ((_, seat),) = table.matcher._seats_of(2)
    assert seat.state is SeatState.EARLY
    assert seat.newest_copy is None
    assert table.acknowledge(0.3, 2).tick(1.0).out == ["1a", Joined(2, "x"), "2b"]


def test_early_copy_replaces_the_acknowledgement_of_an_ordered_channel():
    """In an ordered channel the first copy counts as the acknowledgement, which may never arrive."""
    table = Table().acknowledge(0.0, 1).at(0.1, "1a").at(0.2, "2a").at(0.3, "1b", "2b").tick(0.8)
    assert table.out[-1] == Joined(2, "x")


def test_reserved_line_drops_early_messages_that_came_long_ago():
    """Before its acknowledgement a line holds only the last ``2 * settle`` seconds; another line delivers the rest."""
    table = rotation(channels=()).acknowledge(0.0, 1)
    table.at(0.05, "1z").at(0.1, "2a").at(0.2, "2b").at(1.15, "2c")
    ((_, seat),) = table.matcher._seats_of(2)
    assert [message.item for _, message in seat.held.items()] == ["2b", "2c"]
    assert table.matcher.dropped == 0


def test_reserved_line_drops_early_messages_when_it_is_full_and_alone():
    """If more messages arrive than may be held, and the old line has ended, the oldest are dropped and counted."""
    table = rotation(channels=(), messages=3)
    table.matcher.begin(1, ["x"], 0.0)
    table.matcher.ended(1, 0.05)
    table.at(0.1, "2a", "2b", "2c", "2d", "2e")
    assert table.matcher.dropped == 2


# Copies, and equal messages


def test_message_of_both_lines_is_delivered_once():
    """A message is delivered from the joined line on which it arrives first; its copies are dropped and counted."""
    table = two_joined().at(0.8, "2c", "1c", "1d", "2d", "1d")
    assert table.out == ["2c", "1d", "1d"]
    assert table.matcher.copies == 4


def test_equal_messages_leave_one_credit_each():
    """Each delivery on one line allows one equal message to be dropped on the other; a further one is delivered."""
    table = two_joined().at(0.8, "1h", "1h", "2h", "2h", "2h")
    assert table.out == ["1h", "1h", "2h"]


def test_credit_ends_with_reach():
    """An equal message that arrives more than ``reach`` seconds later is delivered, and the line stays joined."""
    table = two_joined().at(0.8, "1h", "1h").at(2.0, "1i", "2i").tick(2.9).at(2.95, "2h")
    assert table.out == ["1h", "1h", "1i", "2h"]
    assert table.matcher.is_joined(2)


def test_joining_line_discards_equal_messages_before_its_newest_copy():
    """Equal messages that a line held before its newest copy are dropped, and later equal messages are delivered."""
    table = Table().acknowledge(0.0, 1, 2).at(0.1, "1h", "1h", "2h", "2h", "1a", "2a").at(0.2, "1h").tick(0.6)
    assert table.out == ["1h", "1h", "1a", "1h", Joined(2, "x")]
    assert table.at(0.7, "2h", "2h").out == ["2h"]


def test_incomparable_message_is_delivered_from_every_joined_line():
    """A message without an identity is never a copy."""
    assert two_joined().at(0.8, "1?", "2?", "1?").out == ["1?", "2?", "1?"]


def test_repeated_value_is_new_when_it_arrives_much_later():
    """A message is delivered even if a much older equal one, which the joined line does not owe, is remembered."""
    table = Table()
    table.matcher.begin(1, ["x"], 0.0)
    table.at(0.1, "1a").acknowledge(0.2, 2).tick(0.8)
    assert table.matcher.is_joined(2)
    assert table.at(1.0, "2a").out == ["1a", Joined(2, "x")]
    table.matcher.begin(3, ["x"], 1.0)
    assert table.at(9.0, "3a").out == ["3a"]


@pytest.mark.parametrize("beats", [("1h", "2h", "1h"), ("1h", "2h", "2h"), ("2h", "2h", "1h"), ("2h", "1h", "1h")])
def test_copy_is_no_evidence_when_an_equal_message_follows(beats):
    """Heartbeats do not show that a reserved line has what the ended line delivered, in any order of their arrivals."""
    table = rotation(unordered=("x",))
    for place, beat in enumerate(beats):
        table.at(0.1 + place / 10, beat)
    table.at(0.5, "1a").at(0.6, "2z").tick(0.7, 1.1)
    table.matcher.ended(1, 1.2)
    table.matcher.replace(2, 1.2, is_complete=True)
    assert GapFound(0.5, 1.2, ("x",)) in table.out


def test_earlier_copies_are_evidence_when_the_newest_one_is_repeated():
    """A heartbeat that arrives again is no evidence, and leaves the evidence of the other messages."""
    table = rotation().at(0.1, "1a").at(0.2, "2a").at(0.3, "1h").at(0.4, "2h").at(0.45, "1h").tick(0.7)
    assert table.matcher.agrees(2, 0.7)


def test_line_that_has_only_heartbeats_joins_another_one_that_has_only_heartbeats():
    """Repeated messages do not hinder the agreement in silence: such lines are neither held nor opened again."""
    table = Table().acknowledge(0.0, 1, 2)
    for tenth in range(1, 110, 3):
        table.at(tenth / 10, "1h").at(tenth / 10 + 0.1, "2h").tick(tenth / 10 + 0.2)
    assert table.matcher.is_joined(2)
    assert Reopen(2) not in table.out


def test_line_that_joined_in_silence_delivers_although_its_first_copy_leaves_messages_out():
    """When the other line ends, a gap precedes its messages if the missing copies do not arrive within ``reach``."""
    table = Table().acknowledge(0.0, 1, 2).tick(0.6).at(1.0, "1a", "1b")
    table.matcher.ended(1, 1.1)
    assert table.at(1.2, "2b", "2c").tick(2.9).out == [Joined(2, "x"), "1a", "1b"]
    assert table.tick(3.1).out == [GapFound(1.0, 3.1, ("x",)), "2c"]


def test_reach_grows_with_the_lag_up_to_farthest():
    """``reach`` is four times the largest lag of a copy, but at least the limit ``reach`` and at most ``farthest``."""
    table = two_joined(farthest=6.0)
    assert table.matcher.reach == 2.0
    assert table.at(1.0, "1c").at(2.0, "2c").matcher.reach == 4.0
    assert table.at(2.0, "1d").at(4.0, "2d").matcher.reach == 6.0


def test_held_equal_message_after_the_newest_copy_uses_up_a_credit():
    """When a line joins, one equal message is dropped for each one that was delivered after the line's newest copy."""
    table = Table().acknowledge(0.0, 1, 2).at(0.1, "1a", "2a", "1h", "1h", "2h").tick(0.6)
    assert table.out == ["1a", "1h", "1h", Joined(2, "x")]
    assert table.at(0.7, "2h", "2h").out == ["2h"]


def test_copies_may_arrive_in_another_order():
    """A copy that arrives after a newer copy is dropped too."""
    assert two_joined().at(0.8, "1c", "1d", "2d", "2c", "2e").out == ["1c", "1d", "2e"]


# A line that is behind, mute, or strange


def test_joined_line_is_lost_when_a_message_has_not_arrived_within_reach():
    """A joined line that lacks a unique message for ``reach`` seconds is behind, and must agree again."""
    table = two_joined().at(1.0, "1c").tick(3.0)
    assert table.matcher.is_joined(2)
    table.tick(3.1)
    assert table.out == ["1c", Lost(2, "x", "behind")]
    assert table.at(3.2, "1d", "2d").at(3.7, "1e", "2e").tick(3.8).out == ["1d", "1e", Joined(2, "x")]


def test_joined_line_is_lost_when_a_copy_overtakes_a_message_by_settle():
    """A message that is more than ``settle`` seconds older than a newer copy counts as missing on that line.

    The line is lost as "behind", and joins again at once, because the newer copy agrees.
    """
    table = two_joined().at(1.0, "1c").at(1.6, "1d", "2d").tick(1.7)
    assert table.out == ["1c", "1d", Lost(2, "x", "behind"), Joined(2, "x")]


def test_silent_joined_line_is_given_up_for_a_line_that_leads():
    """After ``reach`` seconds of silence of the joined line, another line takes over, with one gap for all channels."""
    table = Table()
    table.matcher.begin(1, ["x", "y"], 0.0)
    for channel in ("x", "y"):
        # Line 2 lacks ``m``, so it cannot join.
        table.acknowledge(0.0, 2, channel=channel)
        table.at(0.1, "1a", "1m", channel=channel).at(0.2, "2a", "2c", channel=channel)
    table.tick(2.1)
    assert table.out == ["1a", "1m"] * 2
    lost = [Lost(1, "x", "mute"), Lost(1, "y", "mute")]
    assert table.tick(2.3).out == [*lost, GapFound(0.1, 2.3, ("x", "y")), "2c", "2c"]


def test_line_without_agreement_is_reopened_after_farthest():
    """A line on which no copy has arrived for ``farthest`` seconds is rejected, and delivers nothing."""
    table = Table().acknowledge(0.0, 1, 2)
    for second in range(11):
        table.at(second, f"1{second}", f"2z{second}").tick(second + 0.5)
    assert table.out[-1] == Reopen(2)
    assert table.at(12.0, "2y").tick(12.5).out == []
    table.matcher.ended(1, 13.0)
    assert table.at(13.1, "2w").out == []


def test_line_that_owes_a_forgotten_message_is_reopened():
    """A line is rejected when it owes a message that the memory forgets."""
    table = two_joined(messages=3, tail=1).at(1.0, "1c", "1d", "1e", "1f")
    assert table.out == ["1c", "1d", "1e", "1f", Lost(2, "x", "behind"), Reopen(2)]


def test_forgotten_equal_message_does_not_reopen_a_line():
    """A line is not rejected when it owes a repeated message that the memory forgets."""
    table = two_joined(messages=3, tail=1).at(1.0, "1h", "1h", "1h", "1h", "1h")
    assert Reopen(2) not in table.out


def test_delivery_of_an_unsubscribed_channel_is_forgotten_quietly():
    """Remembered messages of a channel that was unsubscribed are forgotten without an outcome."""
    table = two_joined(messages=2, tail=1)
    for line in (1, 2):
        table.matcher.unsubscribed(line, "x")
    table.acknowledge(1.0, 1, channel="y").at(1.0, "1c", "1d", "1e", channel="y").acknowledge(1.1, 1)
    assert table.at(1.2, "1f", "1g").out[-2:] == ["1f", "1g"]


def test_held_messages_are_bounded():
    """While another line delivers, a line that holds more messages or bytes than the limit drops the oldest."""
    table = Table(Limits(messages=3, bytes=100)).acknowledge(0.0, 1, 2).at(0.1, "1a", "2b", "2c", "2d", "2e")
    ((_, seat),) = table.matcher._seats_of(2)
    assert [message.item for _, message in seat.held.items()] == ["2c", "2d", "2e"]
    table.at(0.2, "2f", size=100)
    assert seat.held.size == 102
    assert table.matcher.is_full(2)
    assert not table.matcher.is_full(1)
    assert table.matcher.is_holding


# The end of a line


def test_joined_line_continues_without_a_gap_when_it_owes_nothing():
    """When a line ends, a joined line that owes nothing keeps delivering, without a gap."""
    table = two_joined()
    table.matcher.ended(1, 1.0)
    assert table.at(1.1, "2c").out == ["2c"]


def test_joined_line_waits_for_what_it_owes():
    """A line that owes messages of the ended line holds its new messages until the missing copies have arrived."""
    table = two_joined().at(1.0, "1c", "1d")
    table.matcher.ended(1, 1.1)
    assert table.at(1.2, "2c").out == ["1c", "1d"]
    assert table.at(1.3, "2e").out == []
    assert table.at(1.4, "2d", "2f").out == ["2e", "2f"]


def test_waiting_line_drops_what_another_line_delivers_first():
    """While line 2 waits for missing copies, line 3 delivers, and copies of these messages on line 2 are dropped."""
    table = two_joined().acknowledge(0.7, 3).at(0.8, "1c", "2c", "3c").tick(1.3)
    table.at(1.4, "1d", "3d")
    table.matcher.ended(1, 1.5)
    assert table.at(1.6, "2e", "3e", "2d", "2f").out == ["1c", Joined(3, "x"), "1d", "3e", "2f"]


def test_end_of_a_line_that_was_not_joined_changes_nothing():
    """When a line that was not joined ends, its held messages are dropped, and the other line keeps delivering."""
    table = Table().acknowledge(0.0, 1, 2).at(0.1, "1a", "2b")
    table.matcher.ended(2, 0.2)
    assert table.at(0.3, "1c").out == ["1a", "1c"]
    assert not table.matcher.is_holding


def test_matcher_is_not_settled_while_a_line_owes_something():
    """The matcher is not settled while a joined line owes a message, because the copy may still arrive."""
    table = two_joined().at(1.0, "1c")
    assert not table.matcher.is_settled(9.0)
    assert table.at(1.1, "2c").matcher.is_settled(9.0)


def test_gap_precedes_the_held_messages_when_the_owed_do_not_arrive():
    """If the owed messages have not arrived ``reach`` seconds later, a gap precedes the held messages."""
    table = two_joined().at(1.0, "1c")
    table.matcher.ended(1, 1.1)
    table.at(1.3, "2e").tick(3.0)
    assert table.out == ["1c"]
    assert table.tick(3.1).out == [GapFound(1.0, 3.1, ("x",)), "2e"]


def test_owed_message_that_was_overtaken_is_waited_for_no_longer():
    """A line stops waiting for an owed message when a copy of a much newer message arrives, and there is no gap."""
    table = two_joined().at(1.0, "1c").at(1.6, "1d")
    table.matcher.ended(1, 1.7)
    assert table.at(1.75, "2d", "2e").tick(1.8).out == ["1c", "1d", "2e"]


def test_silent_line_waits_until_a_message_arrives_on_it():
    """Copies are recognized even if they arrive on a line that was silent for longer than ``reach``."""
    table = two_joined().at(1.0, "1c")
    table.matcher.ended(1, 1.1)
    assert table.tick(3.1, 4.0).at(4.5, "2c", "2d").out == ["1c", "2d"]


def test_silent_line_that_skipped_an_owed_message_delivers_after_a_gap():
    """If a newer message arrives after ``reach`` seconds in place of the owed one, a gap precedes the newer message."""
    table = two_joined().at(1.0, "1c")
    table.matcher.ended(1, 1.1)
    assert table.tick(3.1).at(4.5, "2d").tick(4.52).out == ["1c", GapFound(1.0, 4.52, ("x",)), "2d"]


def test_waiting_line_delivers_after_a_gap_when_it_is_full():
    """A line that holds too many messages stops waiting for the owed ones, and a gap precedes the held messages."""
    table = two_joined(messages=4).at(1.0, "1c")
    table.matcher.ended(1, 1.1)
    table.at(1.2, "2d", "2e", "2f", "2g", "2h")
    assert table.out == ["1c", GapFound(1.0, 1.2, ("x",)), "2d", "2e", "2f", "2g", "2h"]


def test_waiting_line_delivers_after_a_gap_when_an_owed_message_is_forgotten():
    """If the memory forgets an owed message that a line waits for, a gap precedes the messages that the line holds."""
    table = two_joined(messages=3, tail=0).at(1.0, "1c")
    table.matcher.ended(1, 1.1)
    table.acknowledge(1.2, 2, channel="y").at(1.3, "2d").at(1.3, "2p", "2q", "2r", channel="y")
    assert table.out[-2:] == [GapFound(1.0, 1.3, ("x",)), "2d"]


def test_held_line_takes_over_at_once_when_it_had_messages_recently():
    """When the only joined line ends, a line with recent messages takes over at once, and a gap precedes them."""
    table = Table().acknowledge(0.0, 1, 2).at(0.1, "1a", "2a", "2b").acknowledge(0.1, 3).at(0.1, "3z")
    table.matcher.ended(1, 0.3)
    assert table.out == ["1a", GapFound(0.1, 0.3, ("x",)), "2b"]


def test_first_line_with_a_message_takes_over():
    """Without recent messages on any line, the line on which a message arrives first takes over, after a gap."""
    table = Table().acknowledge(0.0, 1, 2).at(0.1, "1a", "2a")
    table.matcher.ended(1, 0.3)
    assert table.at(1.0, "2b").out[-2:] == [GapFound(0.1, 1.0, ("x",)), "2b"]


def test_line_that_never_agreed_is_reopened_instead_of_taking_over():
    """A line that has held messages for ``settle`` seconds without a copy among them is reopened, not used."""
    table = Table().acknowledge(0.0, 1, 2).at(0.1, "1a", "2y").at(0.8, "2z")
    table.matcher.ended(1, 0.9)
    assert table.out[-1] == Reopen(2)


def test_one_gap_names_all_channels_without_a_line():
    """One gap names all channels without a joined line; a channel is named again only after it has delivered."""
    table = Table()
    table.matcher.begin(1, ["x", "y"], 0.0)
    table.at(0.1, "1a").at(0.2, "1b", channel="y")
    table.matcher.ended(1, 0.5)
    table.acknowledge(1.0, 2).acknowledge(1.1, 2, channel="y")
    assert table.out == ["1a", "1b", GapFound(0.2, 1.0, ("x", "y"))]


def test_channel_is_named_again_when_its_acknowledgement_is_late():
    """A channel that is acknowledged long after the common gap has its own gap."""
    table = Table()
    table.matcher.begin(1, ["x", "y"], 0.0)
    table.matcher.ended(1, 0.5)
    table.acknowledge(1.0, 2).acknowledge(2.0, 2, channel="y")
    assert table.out == [GapFound(0.0, 1.0, ("x", "y")), GapFound(0.0, 2.0, ("y",))]


def test_unsubscribed_channel_is_forgotten():
    """A channel that is unsubscribed on all lines is forgotten, and an unknown channel is ignored."""
    table = Table().acknowledge(0.0, 1, 2)
    table.matcher.unsubscribed(1, "nothing")
    table.matcher.unsubscribed(1, "x")
    assert not table.matcher.is_joined(2)
    table.matcher.unsubscribed(2, "x")
    assert table.matcher.is_joined(2)
    assert not table.matcher.is_holding


# Rotation


def agreeing() -> Table:
    """Return a rotation in which the reserved line agrees at 0.7 and holds ``c``."""
    table = rotation().at(0.1, "1a", "2a").at(0.6, "1b", "2b", "2c").tick(0.7)
    assert table.matcher.agrees(2, 0.7)
    return table


def test_reserved_line_does_not_deliver_before_it_replaces():
    """A reserved line that agrees still holds its messages."""
    assert agreeing().out == ["1a", "1b"]


def test_reserved_line_that_agrees_follows_without_a_gap():
    """A reserved line that agrees replaces the old line without a gap, even if the old line was lost."""
    table = agreeing()
    table.matcher.ended(1, 0.8)
    table.matcher.replace(2, 0.8, is_complete=False)
    assert table.out == ["1a", "1b", Joined(2, "x"), "2c"]
    assert table.matcher.is_settled(0.8)


def test_lines_agree_in_no_channel_that_one_of_them_lacks():
    """Lines do not agree while one channel of the old line is missing on the new one or has no copy there."""
    table = agreeing()
    table.acknowledge(0.7, 2, channel="new")
    assert table.matcher.agrees(2, 0.7)
    table.matcher.begin(1, ["y"], 0.7)
    assert not table.matcher.agrees(2, 0.7)
    table.acknowledge(0.7, 2, channel="y")
    assert not table.matcher.agrees(2, 0.8)


def test_lines_do_not_agree_when_no_message_arrived():
    """In a rotation lines without messages do not agree, however long they are silent."""
    assert not rotation().matcher.agrees(2, 5.0)


def test_channel_without_order_and_copies_does_not_prevent_the_agreement():
    """Messages without a channel are mostly answers to requests, and need no copies for an agreement."""
    table = rotation(channels=("x", None), unordered=(None,))
    table.at(0.1, "1a", "2a").at(0.6, "1b", "2b").at(0.6, "1q", channel=None).tick(0.7)
    assert table.matcher.agrees(2, 0.7)
    table.matcher.ended(1, 0.8)
    table.matcher.replace(2, 0.8, is_complete=True)
    assert table.at(0.9, "2r", channel=None).out[-1] == "2r"


def test_reserved_line_follows_without_agreement_when_the_old_line_is_complete():
    """If the old line was read to its end, one copy is enough, and the copies that follow are dropped."""
    table = rotation().at(0.1, "1a", "1b", "2a", "2c")
    table.matcher.ended(1, 0.2)
    table.matcher.replace(2, 0.2, is_complete=True)
    assert table.out == ["1a", "1b", Joined(2, "x"), "2c"]
    assert table.at(0.3, "2d", "2b", "2e").out == ["2d", "2e"]


def test_reserved_line_follows_in_a_quiet_channel_when_the_old_line_is_complete():
    """If the old line was read to its end, a channel without messages needs no copy."""
    table = rotation(channels=("x", "quiet")).at(0.1, "1a", "2a")
    table.matcher.ended(1, 0.2)
    table.matcher.replace(2, 0.2, is_complete=True)
    assert table.out == ["1a", Joined(2, "x"), Joined(2, "quiet")]


def test_gap_precedes_the_reserved_line_when_the_old_line_was_cut():
    """If the old line was cut before the lines agreed, a gap precedes the held messages."""
    table = rotation().at(0.1, "1a", "1b", "2a", "2c")
    table.matcher.ended(1, 0.2)
    table.matcher.replace(2, 0.2, is_complete=False)
    assert table.out == ["1a", "1b", GapFound(0.1, 0.2, ("x",)), "2c"]
    # A copy of ``b`` may still arrive.
    assert not table.matcher.is_settled(2.1)
    assert table.matcher.is_settled(2.3)


def test_gap_precedes_the_reserved_line_when_the_old_line_was_mute():
    """If the old line delivered nothing while messages arrived on the new one, a gap precedes the held messages."""
    table = rotation().at(0.1, "2a", "2b").at(0.5, "2c").tick(0.7)
    table.matcher.ended(1, 1.5)
    table.matcher.replace(2, 1.5, is_complete=True)
    assert table.out == [GapFound(0.0, 1.5, ("x",)), "2a", "2b", "2c"]


@pytest.mark.parametrize("is_complete", [True, False])
def test_gap_precedes_a_reserved_line_that_was_subscribed_too_late(is_complete):
    """A channel that the server acknowledges on the new line after the old line's end has a gap."""
    table = rotation(channels=())
    table.matcher.begin(1, ["x"], 0.0)
    table.at(0.1, "1a")
    table.matcher.ended(1, 1.2)
    table.acknowledge(1.3, 2)
    table.matcher.replace(2, 1.4, is_complete=is_complete)
    assert table.out == ["1a", GapFound(0.1, 1.4, ("x",))]


def late_channel(acknowledged_at: float, *, left_at: float) -> Table:
    """Return a matcher in which line 2 replaces line 1, after it subscribed a channel that line 1 just delivered."""
    table = rotation(channels=())
    table.matcher.begin(1, ["x"], 0.0)
    table.at(0.35, "1b", "1c").acknowledge(acknowledged_at, 2).at(0.8, "2a")
    table.matcher.ended(1, 0.9)
    table.matcher.replace(2, 0.9, is_complete=True, left_at=left_at)
    assert table.out == ["1b", "1c"]
    return table


@pytest.mark.parametrize("left_at", [0.4, 0.9])
def test_held_messages_that_precede_a_later_copy_are_older(left_at):
    """If copies of the last deliveries may still arrive, their order is awaited, and needs no further proof."""
    table = late_channel(0.5, left_at=left_at).at(0.95, "2b").tick(1.0)
    assert table.out == [Joined(2, "x")]
    assert table.matcher.older == 1
    assert table.at(1.1, "2c", "2d").out == ["2d"]


def test_held_messages_are_delivered_when_no_copy_has_arrived_in_time():
    """If the line was subscribed before the other one was left, no copy is needed."""
    assert late_channel(0.5, left_at=0.6).at(1.0, "2d").tick(1.3).out == []
    assert late_channel(0.5, left_at=0.6).at(1.0, "2d").tick(1.4).out == [Joined(2, "x"), "2a", "2d"]


def test_gap_precedes_the_messages_of_a_channel_that_was_acknowledged_after_the_old_line_was_left():
    """The server may have subscribed it after it closed the other line. Only a copy shows that it has not."""
    table = late_channel(0.5, left_at=0.4).at(1.0, "2d").tick(1.4)
    assert table.out == [GapFound(0.35, 1.4, ("x",)), "2a", "2d"]


def test_line_that_continues_alone_waits_for_copies_of_a_channel_that_the_ended_line_delivered():
    """Messages that the remaining line brings late precede those that the lost one delivered, and are older."""
    table = rotation(channels=()).acknowledge(0.1, 2).at(0.2, "2b", "2c")
    table.matcher.ended(2, 0.3)
    table.matcher.await_copies(1, ["x", "unknown"], 0.3)
    assert table.at(1.5, "1a").tick(1.6).out == ["2b", "2c"]
    assert table.at(1.7, "1b").tick(1.8).at(1.9, "1c", "1d").out == [Joined(1, "x"), "1d"]
    assert table.matcher.older == 1


def test_line_that_continues_alone_delivers_after_a_gap_if_no_copy_arrives():
    """It waits for ``reach`` and ``settle`` after the last message of the lost line."""
    table = rotation(channels=()).acknowledge(0.1, 2).at(0.2, "2b")
    table.matcher.ended(2, 0.3)
    table.matcher.await_copies(1, ["x"], 0.3)
    assert table.at(1.5, "1d").tick(2.6).out == ["2b"]
    assert table.tick(2.8).out == [GapFound(0.2, 2.8, ("x",)), "1d"]


def test_held_messages_can_be_released_at_once():
    """If no further copy can be awaited, a line delivers what it holds, after a gap if it has no proof."""
    table = late_channel(0.5, left_at=0.6)
    table.matcher.release_all(2, 1.0)
    assert table.out == [Joined(2, "x"), "2a"]
    table = agreeing().at(0.75, "1d")
    table.matcher.ended(1, 0.8)
    table.matcher.replace(2, 0.8, is_complete=True)
    table.at(0.85, "2e").matcher.release_all(2, 0.9)
    assert table.out[-2:] == [GapFound(0.75, 0.9, ("x",)), "2e"]


def test_channel_that_is_acknowledged_after_the_replacement_has_a_gap():
    """While the new line lacks a channel, the matcher is not settled; a late acknowledgement leaves a gap."""
    table = agreeing()
    table.matcher.begin(1, ["y"], 0.7)
    table.at(0.75, "1p", channel="y")
    table.matcher.ended(1, 0.8)
    table.matcher.replace(2, 0.8, is_complete=True)
    assert table.out[-1] == "2c"
    assert not table.matcher.is_settled(0.9)
    table.acknowledge(0.9, 2, channel="y")
    assert table.at(1.0, "2p", "2q", channel="y").out == [GapFound(0.75, 0.9, ("y",)), "2q"]


def test_rejected_reserved_line_delivers_when_no_other_is_left():
    """A reserved line that was rejected still replaces the old line, after a gap, when there is no other line."""
    table = rotation(messages=2, tail=1).at(0.1, "1a", "1b", "1c", "1d")
    table.matcher.ended(1, 0.2)
    table.matcher.replace(2, 0.2, is_complete=False)
    assert table.at(0.3, "2e").out == ["1a", "1b", "1c", Reopen(2), "1d", GapFound(0.1, 0.2, ("x",)), "2e"]


def test_matcher_is_not_settled_while_a_channel_lacks_its_line():
    """For ``reach`` seconds after its last message, a channel without a line keeps the matcher unsettled."""
    table = Table()
    table.matcher.begin(1, ["x"], 0.0)
    table.at(0.1, "1a")
    table.matcher.ended(1, 0.2)
    assert not table.matcher.is_settled(2.0)
    assert table.matcher.is_settled(2.2)


# States


@pytest.mark.parametrize("before", SeatState)
@pytest.mark.parametrize("after", SeatState)
def test_state_changes_only_along_the_table(before, after):
    """A change of state that is not in the table of transitions raises AssertionError."""
    seat: Seat[str] = Seat(1, 0.0)
    seat.state = before
    if after is before or after in TRANSITIONS[before]:
        seat.enter(after)
        assert seat.state is after
    else:
        with pytest.raises(AssertionError, match="no transition"):
            seat.enter(after)


def test_first_of_equal_held_messages_is_taken_first():
    """Equal messages are taken in the order in which they arrived."""
    held = Seat(1, 0.0).held
    for arrival in (3, 4):
        held.add(arrival, HeldMessage("h", "item", 1, float(arrival)))
    assert [held.take("h"), held.first_time, held.take("h"), held.take("h"), held.size] == [3, 4.0, 4, None, 0]


def test_empty_holding_has_no_times():
    """Without held messages the first time is infinite, and the last time is minus infinity."""
    held = Seat(1, 0.0).held
    assert (held.first_time, held.last_time, len(held)) == (math.inf, -math.inf, 0)


def test_no_gap_when_a_channel_is_unsubscribed_first_on_the_line_that_delivers():
    """A message that arrives after its channel was unsubscribed is delivered without a gap."""
    matcher = Matcher[str]()
    matcher.begin(1, ["trades"], now=0.0)
    matcher.arrived(1, "trades", "a", "message a", 9, now=0.1)
    matcher.reserve(2)
    matcher.acknowledged(2, "trades", now=0.2)
    matcher.unsubscribed(1, "trades")
    matcher.arrived(1, "trades", "b", "message b", 9, now=0.3)
    assert matcher.out == [("message a",), ("message b",)]


def test_messages_of_no_channel_prove_nothing_when_the_line_agrees_in_a_channel():
    """Messages without a channel arrive on one line only, so their missing copies make no gap."""
    matcher = Matcher[str](is_ordered=lambda channel: channel is not None)
    matcher.begin(1, ["trades", None], now=0.0)
    matcher.reserve(2)
    for channel in ("trades", None):
        matcher.acknowledged(2, channel, now=0.0)
    for n in range(20):
        for line in (1, 2):
            matcher.arrived(line, "trades", n, f"trade {n}", 9, now=n / 10)
            matcher.arrived(line, None, (line, n), f"answer {n} on {line}", 9, now=n / 10)
    matcher.ended(1, now=2.0)
    matcher.replace(2, now=2.0, is_complete=False)
    assert not [each for each in matcher.out if isinstance(each, GapFound)]


def test_old_debts_are_forgotten_when_the_line_ends_long_after_it_was_decided():
    """The rules that depend on time are applied again when the line is replaced, so a late copy counts as missing."""
    matcher = Matcher[str]()
    matcher.begin(1, ["trades"], now=0.0)
    matcher.reserve(2)
    matcher.acknowledged(2, "trades", now=0.0)
    matcher.arrived(1, "trades", "old", "older than the subscription", 9, now=0.1)
    for n in range(10):
        for line in (1, 2):
            matcher.arrived(line, "trades", n, f"trade {n}", 9, now=1 + n / 5)
    matcher.ended(1, now=3.0)
    matcher.replace(2, now=3.0, is_complete=False)
    assert not [each for each in matcher.out if isinstance(each, GapFound)]


def test_messages_before_an_early_copy_are_older_when_the_line_takes_over_after_a_gap():
    """A copy before the acknowledgement is not evidence of agreement, but shows which held messages are older."""
    matcher = Matcher[str]()
    matcher.begin(1, ["trades"], now=0.0)
    matcher.reserve(2)
    matcher.arrived(2, "trades", "snapshot", "old snapshot", 9, now=0.1)
    for line in (1, 2):
        matcher.arrived(line, "trades", "a", "message a", 9, now=0.2)
    matcher.acknowledged(2, "trades", now=0.3)
    matcher.arrived(1, "trades", "b", "message b", 9, now=0.4)
    matcher.arrived(2, "trades", "c", "message c", 9, now=0.5)
    matcher.ended(1, now=0.6)
    matcher.replace(2, now=0.6, is_complete=False)
    assert [each for each in matcher.out if isinstance(each, tuple) and not isinstance(each, GapFound)] == [
        ("message a",),
        ("message b",),
        ("message c",),
    ]
    assert matcher.older == 1


# Resuming


def resuming(proof, *delivered, channel="A"):
    """Return a matcher whose only line has delivered these messages, and has ended."""
    matcher = Matcher(Limits(), proof=proof)
    matcher.acknowledged(1, channel, 0.0)
    for place, key in enumerate(delivered):
        matcher.arrived(1, channel, key, key, 1, 0.1 * place)
    matcher.ended(1, 5.0)
    matcher.out.clear()
    return matcher


def outcomes(matcher):
    """Return the results of a matcher without the ``Joined`` outcomes."""
    return [each for each in matcher.out if not isinstance(each, Joined)]


def test_line_resumes_when_everything_since_the_first_copy_has_arrived_again():
    """A line resumes without a gap when copies of all messages since its first copy have arrived on it."""
    matcher = resuming(Proof.COPIES, "a", "b", "c")
    matcher.acknowledged(2, "A", 6.0)
    for key in ("b", "x", "c"):
        assert matcher.out == []
        matcher.arrived(2, "A", key, key, 1, 6.1)
    matcher.arrived(2, "A", "d", "d", 1, 6.2)
    assert outcomes(matcher) == [Resumed(2, ("A",)), ("x",), ("d",)]
    assert matcher.copies == 2


def test_gap_precedes_the_held_messages_when_there_is_no_proof_in_time():
    """Without a copy for ``settle`` seconds, a gap that starts at the last delivery precedes the held messages."""
    matcher = resuming(Proof.COPIES, "a", "b")
    matcher.acknowledged(2, "A", 6.0)
    matcher.arrived(2, "A", "x", "x", 1, 6.1)
    matcher.tick(6.45)
    assert matcher.out == []
    matcher.tick(6.5)
    assert matcher.out == [GapFound(pytest.approx(0.1), 6.5, ("A",)), ("x",)]


def test_copies_give_more_time_to_prove():
    """Each copy restarts the time for the proof, because a long replay takes longer than ``settle``."""
    matcher = resuming(Proof.COPIES, "a", "b", "c")
    matcher.acknowledged(2, "A", 6.0)
    for place, key in enumerate("abc"):
        now = 6.4 + 0.4 * place
        matcher.arrived(2, "A", key, key, 1, now)
        matcher.tick(now + 0.05)
    assert outcomes(matcher) == [Resumed(2, ("A",))]


def test_copies_prove_nothing_where_only_a_statement_does():
    """With ``Proof.STATEMENT`` copies prove nothing, because a server may first send the last values again."""
    matcher = resuming(Proof.STATEMENT, "a", "b")
    matcher.acknowledged(2, "A", 6.0)
    matcher.arrived(2, "A", "b", "b", 1, 6.1)
    matcher.arrived(2, "A", "c", "c", 1, 6.2)
    assert matcher.out == []
    matcher.stated(2, 6.3, is_resumed=True)
    assert outcomes(matcher) == [Resumed(2, ("A",)), ("c",)]


@pytest.mark.parametrize("is_resumed", [True, False])
def test_statement_is_about_one_channel(is_resumed):
    """A statement about one channel proves nothing about other channels."""
    matcher = resuming(Proof.STATEMENT, "a")
    other = Matcher(Limits(), proof=Proof.STATEMENT)
    for channel in ("A", "B"):
        other.acknowledged(1, channel, 0.0)
        other.arrived(1, channel, channel, channel, 1, 0.1)
    other.ended(1, 5.0)
    other.out.clear()
    for channel in ("A", "B"):
        other.acknowledged(2, channel, 6.0)
        other.arrived(2, channel, f"{channel}2", f"{channel}2", 1, 6.1)
    other.stated(2, 6.2, is_resumed=is_resumed, name="A")
    assert other.out[-1] == ("A2",)
    assert ("B2",) not in other.out
    other.tick(6.7)
    assert other.out[-1] == ("B2",)
    assert sum(isinstance(each, GapFound) for each in other.out) == 1
    assert matcher.out == []


def test_line_that_ends_without_a_proof_does_not_move_the_gap():
    """Messages held by a line that ends without a proof are dropped, and the gap still starts at the last delivery."""
    matcher = resuming(Proof.COPIES, "a")
    matcher.acknowledged(2, "A", 6.0)
    matcher.arrived(2, "A", "x", "x", 1, 6.1)
    matcher.ended(2, 6.2)
    matcher.acknowledged(3, "A", 7.0)
    matcher.arrived(3, "A", "y", "y", 1, 7.1)
    matcher.tick(7.6)
    assert matcher.out == [GapFound(0.0, 7.6, ("A",)), ("y",)]


def test_too_many_held_messages_end_the_wait_for_a_proof():
    """A line that holds more messages than the limit stops waiting for a proof, and a gap precedes the messages."""
    matcher = resuming(Proof.COPIES, "a")
    matcher.acknowledged(2, "A", 6.0)
    for number in range(10_001):
        matcher.arrived(2, "A", number, number, 1, 6.1)
    assert isinstance(matcher.out[0], GapFound)
    assert len(matcher.out) == 10_002


@pytest.mark.parametrize(("delay", "is_copy"), [(9.0, True), (11.0, False)])
def test_replay_may_begin_late_because_of_a_slow_consumer(delay, is_copy):
    """The first message of a channel is a copy up to ``farthest`` seconds after the decision, later ones for less."""
    matcher = resuming(Proof.STATEMENT, "a", "b")
    matcher.acknowledged(2, "A", 6.0)
    matcher.stated(2, 6.1, is_resumed=True)
    matcher.out.clear()
    matcher.arrived(2, "A", "a", "a", 1, 6.1 + delay)
    matcher.arrived(2, "A", "c", "c", 1, 6.2 + delay)
    matcher.arrived(2, "A", "b", "b", 1, 8.3 + delay)
    assert matcher.out == [*([] if is_copy else [("a",)]), ("c",), ("b",)]


def test_time_in_which_the_loop_was_blocked_is_not_a_missing_proof():
    """A line has ``settle`` seconds for its proof after the event loop was blocked, because nothing was read then."""
    matcher = resuming(Proof.COPIES, "a")
    matcher.acknowledged(2, "A", 6.0)
    matcher.arrived(2, "A", "x", "x", 1, 6.1)
    matcher.was_blocked(9.0)
    matcher.tick(9.0)
    assert matcher.out == []
    matcher.tick(9.5)
    assert isinstance(matcher.out[0], GapFound)


def test_remembered_message_is_a_copy_and_moves_no_gap():
    """A message that was delivered before ``begin`` is recognized, and the gap starts at the line's last delivery."""
    matcher = Matcher(Limits(), proof=Proof.STATEMENT)
    matcher.begin(1, ["A"], 5.0, 2.0)
    for key in ("a", INCOMPARABLE):
        matcher.remember(1, "A", key, 1, 5.0)
    matcher.ended(1, 5.1)
    matcher.acknowledged(2, "A", 6.0)
    for key in ("a", "b"):
        matcher.arrived(2, "A", key, key, 1, 6.1)
    matcher.stated(2, 6.2, is_resumed=False)
    assert outcomes(matcher) == [GapFound(2.0, 6.2, ("A",)), ("b",)]


def test_line_without_memory_of_deliveries_begins_at_once():
    """If no message was delivered before, a line delivers its first message at once."""
    matcher = Matcher(Limits(), proof=Proof.COPIES)
    matcher.acknowledged(1, "A", 0.0)
    matcher.arrived(1, "A", "a", "a", 1, 0.1)
    assert matcher.out == [("a",)]


def test_line_that_resumes_releases_nothing_before_the_decision():
    """A line without a proof awaits the messages that are sent again, so a gap of the server decides nothing."""
    matcher = Matcher[str](Limits(), proof=Proof.STATEMENT)
    matcher.begin(1, ["x"], 0.0)
    matcher.arrived(1, "x", "a", "a", 1, 0.1)
    matcher.ended(1, 0.2)
    matcher.acknowledged(2, "x", 0.3)
    matcher.arrived(2, "x", "b", "b", 1, 0.3)
    matcher.release_all(2, 0.4)
    assert matcher.out == [("a",)]
    matcher.stated(2, 0.5, is_resumed=True)
    assert matcher.out[-2:] == [Joined(2, "x"), ("b",)]


# A rotation away from a silent line, and of new channels


def test_gap_precedes_the_reserved_line_when_both_lines_fell_silent_in_the_end():
    """Silence of both lines is not agreement if earlier messages arrived on the new line only."""
    table = rotation().at(0.1, "2a").at(0.4, "2b").tick(0.6, 1.2)
    table.matcher.ended(1, 2.0)
    table.matcher.replace(2, 2.0, is_complete=False)
    assert table.out == [GapFound(0.0, 2.0, ("x",)), "2a", "2b"]


def test_one_message_of_the_reserved_line_may_have_arrived_with_the_subscription():
    """One message on the new line, such as a snapshot at the start, does not show that the old line is mute."""
    table = rotation().at(0.1, "2s").tick(0.7)
    table.matcher.ended(1, 1.0)
    table.matcher.replace(2, 1.0, is_complete=False)
    assert table.out == [Joined(2, "x"), "2s"]


def test_reserved_line_is_alone_when_only_it_has_new_messages_for_settle_seconds():
    """Until then it is unknown whether the other line is mute. A message of that line shows that it is not."""
    table = rotation()
    assert table.matcher.is_alone(2, 0.1) is False
    assert table.at(0.1, "2s").tick(0.2).matcher.is_alone(2, 0.2) is None
    assert table.tick(0.65).matcher.is_alone(2, 0.65) is False
    assert table.at(0.7, "2a").tick(0.8).matcher.is_alone(2, 0.8) is None
    assert table.tick(1.3).matcher.is_alone(2, 1.3) is True
    assert table.at(1.4, "1a").tick(1.5).matcher.is_alone(2, 1.5) is False


def test_reserved_line_is_not_alone_when_only_answers_arrived_on_it():
    """In an unordered channel, messages in the first ``settle`` seconds may be answers, and decide nothing."""
    table = rotation(unordered=("x",)).at(0.1, "2a", "2b").at(0.4, "2c")
    assert table.tick(0.8).matcher.is_alone(2, 0.8) is None
    assert table.tick(1.0).matcher.is_alone(2, 1.0) is False
    assert table.at(1.1, "2d").tick(1.2).matcher.is_alone(2, 1.2) is None
    assert table.tick(1.7).matcher.is_alone(2, 1.7) is True


def test_silence_in_which_the_loop_was_blocked_is_not_agreement():
    """After the event loop was blocked, lines must be silent for ``settle`` seconds again to agree."""
    table = rotation()
    table.matcher.was_blocked(1.0)
    table.tick(1.1)
    table.matcher.ended(1, 1.2)
    table.matcher.replace(2, 1.2, is_complete=False)
    assert table.out == [GapFound(0.0, 1.2, ("x",))]


def test_line_that_delivered_an_earlier_subscription_must_agree_after_the_acknowledgement():
    """A line with messages of an earlier subscription owes nothing from before the acknowledgement of the next one."""
    table = rotation()
    for line in (1, 2):
        table.matcher.unsubscribed(line, "x")
    # These are the last messages of the earlier subscription of line 2.
    table.at(0.1, "2a", "1a").at(0.2, "2b", "1b").acknowledge(0.2, 1).at(0.5, "1c").tick(0.8).at(0.9, "1d")
    table.acknowledge(1.0, 2).at(1.1, "1e", "2e").tick(1.7)
    table.matcher.ended(1, 1.8)
    table.matcher.replace(2, 1.8, is_complete=True)
    assert not any(isinstance(each, GapFound) for each in table.at(2.0, "2f").tick(5.0).out)


def test_reserved_line_owes_nothing_from_before_its_first_copy():
    """The new line does not owe late messages of the old line that were sent before the new line had subscribed."""
    table = rotation().at(0.1, "1a", "1b", "2c", "2d").at(0.2, "1c").at(0.3, "1d").tick(0.7)
    table.matcher.ended(1, 0.8)
    table.matcher.replace(2, 0.8, is_complete=True)
    assert table.at(0.9, "2e").out == ["1a", "1b", "1c", "1d", Joined(2, "x"), "2e"]


def test_reserved_line_that_lags_is_given_the_time_of_its_lag():
    """Copies before the acknowledgement show the lag of a line, so copies with the same lag are recognized later."""
    table = Table(Limits(reach=1.0))
    table.matcher.begin(1, ["x"], 0.0, -1.0)
    table.matcher.reserve(2)
    table.at(0.1, "1a").at(0.2, "1b").acknowledge(0.3, 2).at(2.1, "2a").at(2.2, "2b", "1c")
    table.matcher.ended(1, 2.3)
    table.matcher.replace(2, 2.3, is_complete=True)
    assert table.tick(3.5).at(4.2, "2c", "2d").out == ["1a", "1b", "1c", Joined(2, "x"), "2d"]


def test_new_channel_is_delivered_from_the_reserved_line_when_its_message_is_first():
    """A channel that is subscribed in a rotation is delivered from the line on which its first message arrives."""
    table = rotation(channels=()).acknowledge(0.1, 2).at(0.2, "2a").at(0.3, "2b").acknowledge(0.3, 1)
    assert table.at(0.4, "1b", "1c", "2c").out == ["2a", "2b", "2c"]
    assert table.matcher.owner("x") == 2
    table.matcher.ended(1, 0.5)
    table.matcher.replace(2, 0.5, is_complete=True)
    assert table.at(0.6, "2d").out == ["2d"]


def test_new_channel_is_delivered_from_the_old_line_when_its_message_is_first():
    """An acknowledgement does not decide which line delivers a new channel; only the first message does."""
    table = rotation(channels=()).acknowledge(0.1, 2).acknowledge(0.2, 1).at(0.3, "1a").at(0.4, "2b")
    assert table.at(0.5, "1b", "1c").out == ["1a", "1b", "1c"]
    assert table.matcher.owner("x") == 1


def test_old_line_delivers_after_a_gap_when_the_reserved_line_of_a_channel_ends():
    """A message that the reserved line delivered is not delivered again when it arrives on the old line."""
    table = rotation(channels=()).acknowledge(0.1, 2).at(0.2, "2a", "2b")
    table.matcher.ended(2, 0.3)
    table.at(0.4, "1a", "1b").at(0.5, "1c")
    assert table.out == ["2a", "2b", GapFound(0.2, 0.4, ("x",)), "1c"]


def test_channel_that_only_the_ended_reserved_line_had_has_a_gap_at_the_end():
    """The old line may get the channel only after the matcher has finished, so ``finish`` reports the gap."""
    table = rotation(channels=()).acknowledge(0.1, 2).at(0.2, "2a")
    table.matcher.ended(2, 0.3)
    table.matcher.finish(2.5)
    table.matcher.finish(2.6)
    assert table.out == ["2a", GapFound(0.2, 2.5, ("x",))]


def test_no_gap_when_a_channel_is_unsubscribed_on_the_new_line_while_the_old_one_closes():
    """A channel that was unsubscribed on the new line has no gap, although the old line still delivers it."""
    table = rotation().at(0.1, "1a", "2a")
    table.matcher.unsubscribed(2, "x")
    table.at(0.2, "1b")
    table.matcher.ended(1, 0.3)
    table.matcher.replace(2, 0.3, is_complete=True)
    assert table.acknowledge(0.4, 2).at(0.5, "2c").out == ["1a", "1b", "2c"]


def test_new_channel_is_delivered_from_the_reserved_line_before_the_answer_to_its_subscription():
    """The first message of a new channel is delivered before the server's answer, which may arrive late or never."""
    table = rotation(channels=()).at(0.1, "2a").acknowledge(0.2, 1).at(0.3, "1a", "1b", "2b")
    assert table.out == ["2a", "2b"]


def test_held_messages_of_a_channel_are_dropped_when_it_is_unsubscribed_on_the_other_line():
    """When a channel is unsubscribed on one line and subscribed again, the other line drops its held messages."""
    table = rotation().at(0.1, "2a")
    table.matcher.unsubscribed(1, "x")
    table.acknowledge(0.2, 1).at(0.3, "1b", "2b", "2c")
    table.matcher.ended(1, 0.4)
    table.matcher.replace(2, 0.4, is_complete=True)
    assert table.out == ["1b", Joined(2, "x"), "2c"]


def test_messages_of_no_channel_prove_nothing_when_the_reserved_line_delivers_a_channel():
    """Messages without a channel that only the old line had are not a loss if the new line agrees in a channel."""
    table = rotation(channels=(None,), unordered=(None,)).at(0.1, "1?", "1z", channel=None)
    table.acknowledge(0.2, 2).at(0.3, "2a").acknowledge(0.4, 1).at(0.5, "1a").tick(0.6)
    assert table.matcher.agrees(2, 0.6)
    table.matcher.ended(1, 0.7)
    table.matcher.replace(2, 0.7, is_complete=False)
    assert table.out == ["1?", "1z", "2a", Joined(2, None)]
