"""The overlap of two connections: when the old one may be closed, and which messages of the new one are copies."""

from __future__ import annotations

import gc
import heapq
import itertools
import math
import operator
import random
import weakref
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

from rxws.connections.handover import Handover, Verdict

SETTLE = 0.5
TIMEOUT = 5.0


def overlap(**options) -> Handover:
    """Return an overlap whose new connection is subscribed at 0 s."""
    handover = Handover(**{"settle": SETTLE, "timeout": TIMEOUT} | options)
    handover.subscribed(0.0)
    return handover


def both(handover: Handover, identity, old: float, new: float) -> None:
    """Pass in a message of both connections, in the order of the times."""
    calls = [(old, handover.old_delivered, (identity,)), (new, handover.hold, (identity, identity))]
    for now, call, arguments in sorted(calls, key=lambda entry: entry[0]):
        call(*arguments, now)


def is_proven(handover):
    """Return whether the overlap was proven. Call it after the old connection's end, when time changes nothing."""
    return handover.verdict(math.inf) is Verdict.PROVEN


# When may the old connection be closed?


def test_verdict_when_a_whole_stretch_of_settle_seconds_came_on_the_new_one():
    """The overlap is proven when all messages that the old one delivered for `settle` seconds came on the new one."""
    handover = overlap()
    both(handover, "a", 0.1, 0.12)
    assert handover.verdict(0.49) is Verdict.WAIT
    assert handover.verdict(0.5) is Verdict.PROVEN


def test_verdict_when_the_new_one_is_ahead():
    """A message may come first on either connection."""
    handover = overlap()
    both(handover, "a", old=0.4, new=0.1)
    assert handover.verdict(0.5) is Verdict.PROVEN


def test_verdict_when_the_old_one_delivered_nothing():
    """Silence is not a proof: the old one is closed at the timeout, which begins when the new one is subscribed."""
    handover = Handover(settle=SETTLE, timeout=TIMEOUT)
    assert handover.verdict(100.0) is Verdict.WAIT
    handover.subscribed(100.0)
    handover.hold("a", "a", 101.0)
    assert handover.verdict(104.9) is Verdict.WAIT
    assert handover.verdict(105.0) is Verdict.TIMEOUT


def test_verdict_before_the_new_one_is_subscribed():
    """The old one is not closed before the new one is subscribed, even if messages matched or the limit is held."""
    handover = Handover(settle=SETTLE, timeout=TIMEOUT, limit=1)
    both(handover, "a", 0.0, 0.1)
    both(handover, "b", 0.2, 0.3)
    assert handover.verdict(1.0) is Verdict.WAIT


def test_verdict_when_only_messages_from_before_the_subscription_matched():
    """The stretch begins after the subscription, so that silent channels have `settle` seconds to be subscribed too."""
    handover = Handover(settle=SETTLE, timeout=TIMEOUT)
    both(handover, "a", 0.0, 0.1)
    handover.subscribed(0.2)
    assert handover.verdict(2.0) is Verdict.WAIT


def test_verdict_when_the_last_moments_are_not_matched_yet():
    """If the new connection lags, the messages before those that it lacks prove the overlap."""
    handover = overlap()
    both(handover, "a", 0.1, 0.2)
    handover.old_delivered("b", 0.4)
    handover.old_delivered("c", 0.55)
    assert handover.verdict(0.6) is Verdict.WAIT
    handover.hold("b", "b", 0.6)
    assert handover.verdict(0.6) is Verdict.PROVEN


def test_verdict_when_a_channel_is_subscribed_late():
    """A message that the new connection missed, because its channel was not yet subscribed, is not in the stretch."""
    handover = overlap()
    both(handover, ("x", 1), 0.05, 0.06)
    handover.old_delivered(("y", 1), 0.25)
    for number in range(2, 20):
        both(handover, ("x", number), number * 0.05, number * 0.05)
    assert handover.verdict(0.74) is Verdict.WAIT, "y 1 may still come"
    assert handover.verdict(0.76) is Verdict.PROVEN, "from y 1, which does not come any more, to now"


def test_verdict_when_the_stretch_ends_with_an_unmatched_delivery():
    """A stretch between two messages that never come on the new connection proves the overlap too."""
    handover = overlap()
    handover.old_delivered("lost", 0.1)
    both(handover, "a", 0.3, 0.3)
    assert handover.verdict(0.55) is Verdict.WAIT
    handover.old_delivered("lost too", 0.65)
    assert handover.verdict(0.65) is Verdict.PROVEN


def test_verdict_when_it_was_not_asked_for_a_while():
    """A stretch is found also if its last message was given up long ago."""
    handover = overlap()
    both(handover, "a", 0.1, 0.1)
    handover.old_delivered("lost", 0.6)
    handover.old_delivered("lost too", 0.8)
    assert handover.verdict(4.0) is Verdict.PROVEN


def test_verdict_when_nothing_came_since_an_unmatched_delivery():
    """Matches before a missing message do not prove the overlap for the silence after it."""
    handover = overlap()
    both(handover, "a", 0.1, 0.1)
    handover.old_delivered("lost", 0.2)
    assert handover.verdict(0.8) is Verdict.WAIT
    assert handover.verdict(4.9) is Verdict.WAIT


def test_verdict_when_unmatched_deliveries_are_never_a_settle_apart():
    """There is no proof while every stretch has a missing message."""
    handover = overlap()
    for number in range(1, 50):
        now = number * 0.1
        both(handover, ("x", number), now, now)
        if number % 4 == 0:
            handover.old_delivered(("y", number), now)
        assert handover.verdict(now) is Verdict.WAIT
    assert handover.verdict(5.0) is Verdict.TIMEOUT


def test_verdict_when_the_new_one_lags_more_than_settle():
    """A copy later than `settle` is not a proof: after the old one's end such copies are no longer recognised."""
    handover = overlap()
    calls = [(n * 0.1, "old", n) for n in range(1, 40)] + [(n * 0.1 + 0.7, "new", n) for n in range(1, 40)]
    for now, which, number in sorted(calls):
        if which == "old":
            handover.old_delivered(number, now)
        else:
            handover.hold(number, number, now)
        assert handover.verdict(now) is Verdict.WAIT


def test_verdict_when_a_late_copy_came_before_it_was_asked_for():
    """A copy later than `settle` is not a proof, even if the verdict is asked for after it came."""
    handover = overlap()
    both(handover, "a", 0.1, 0.7)
    assert handover.verdict(0.7) is Verdict.WAIT


def test_verdict_when_asked_again():
    """A verdict is final: later messages do not change it."""
    handover = overlap()
    both(handover, "a", 0.1, 0.1)
    assert handover.verdict(0.5) is Verdict.PROVEN
    handover.old_delivered("lost", 0.6)
    assert handover.verdict(9.0) is Verdict.PROVEN


def test_verdict_after_the_old_one_ended_by_itself():
    """After the end of the old connection there is no proof any more."""
    handover = overlap()
    both(handover, "a", 0.1, 0.1)
    handover.old_ended(0.2)
    assert handover.verdict(9.0) is Verdict.WAIT


@pytest.mark.parametrize("times", [[(0.1, 0.1), (0.3, 0.3)], [(0.1, 0.1), (0.3, None)], [(0.1, 0.1), (None, 0.3)]])
def test_verdict_when_equal_messages_repeat(times):
    """A message that comes twice on one connection is not a proof, even if it was matched before it was repeated."""
    handover = overlap()
    for old, new in times:
        if old is not None:
            handover.old_delivered("heartbeat", old)
        if new is not None:
            handover.hold("heartbeat", "heartbeat", new)
        assert handover.verdict(0.31) is Verdict.WAIT
    assert handover.verdict(4.0) is Verdict.WAIT
    assert handover.verdict(5.0) is Verdict.TIMEOUT


def test_verdict_when_a_repeated_message_is_missing():
    """A repeated message does not prevent a proof, even if the new connection never brings it."""
    handover = overlap()
    for number in range(1, 7):
        handover.old_delivered("heartbeat", number * 0.1)
        both(handover, number, number * 0.1, number * 0.1)
    assert handover.verdict(0.6) is Verdict.PROVEN


def test_verdict_when_the_limit_is_held():
    """At `limit` held messages the verdict is FULL, and further messages are still held."""
    handover = overlap(limit=3)
    both(handover, "a", 0.1, 0.1)
    handover.hold("b", "b", 0.2)
    assert handover.verdict(0.3) is Verdict.WAIT
    handover.hold("c", "c", 0.4)
    assert handover.verdict(0.5) is Verdict.FULL
    handover.hold("d", "d", 0.6)
    assert handover.old_ended(0.7) == ["b", "c", "d"]
    assert handover.held == 4


def test_verdict_when_the_old_one_delivered_more_than_the_limit():
    """The verdict is also FULL if messages of the old connection since the subscription were forgotten."""
    handover = overlap(limit=2)
    for number in range(3):
        assert handover.verdict(0.1) is Verdict.WAIT
        handover.old_delivered(number, 0.1)
    assert handover.verdict(0.1) is Verdict.FULL


def test_verdict_when_opening_took_longer_than_the_limit():
    """Messages that are forgotten while the new connection is being opened do not affect the verdict."""
    handover = Handover(settle=SETTLE, timeout=TIMEOUT, limit=3)
    for number in range(100):
        handover.old_delivered(number, number * 0.1)
    handover.subscribed(10.0)
    both(handover, "a", 10.1, 10.1)
    assert handover.verdict(10.5) is Verdict.PROVEN


class Counted:
    """An identity that counts the look-ups of all of its kind."""

    lookups = 0

    def __init__(self, number: int) -> None:
        self.number = number

    def __hash__(self) -> int:
        Counted.lookups += 1
        return hash(self.number)


def test_verdict_costs_little_while_much_is_unmatched():
    """Each message is judged once, for any number of calls and of messages that wait for their copies."""
    Counted.lookups = 0
    handover = overlap()
    for tick in range(100):
        for number in range(50):
            handover.old_delivered(Counted(number), tick * 0.04)
        assert handover.verdict(tick * 0.04) is Verdict.WAIT
    deliveries, verdicts = 100 * 50, 100
    assert Counted.lookups < 8 * (deliveries + verdicts)


# Which messages are copies?


def test_old_ended_returns_the_messages_that_the_old_one_did_not_deliver():
    """The held messages are returned in the new one's order, without those that the old one delivered."""
    handover = overlap()
    for identity in ("x1", "x2", "y1", "y2"):
        handover.old_delivered(identity, 0.1)
    for identity in ("y1", "y2", "y3", "x1", "x2", "x3", "y4"):
        handover.hold(identity, identity.upper(), 0.2)
    assert handover.old_ended(0.3) == ["Y3", "X3", "Y4"]
    assert (handover.held, handover.duplicates) == (7, 4)


def test_old_ended_when_the_old_one_delivered_before_the_new_one_was_open():
    """A message that the old one delivered before the new one was open may have a copy."""
    handover = Handover(settle=SETTLE, timeout=TIMEOUT)
    handover.old_delivered("a", 0.9)
    handover.subscribed(1.0)
    handover.hold("a", "a", 1.1)
    assert handover.old_ended(1.2) == []


def test_old_ended_before_the_new_one_is_subscribed():
    """If the old connection ends while the new one is being opened, its latest messages may still have copies."""
    handover = Handover(settle=SETTLE, timeout=TIMEOUT)
    handover.old_delivered("a", 0.9)
    handover.hold("a", "a", 1.0)
    handover.hold("b", "b", 1.0)
    assert handover.old_ended(1.1) == ["b"]


@pytest.mark.parametrize(
    ("old", "new", "delivered"),
    [(1, 1, 0), (1, 2, 1), (1, 3, 2), (2, 1, 1), (2, 2, 2), (3, 2, 2), (0, 1, 1), (0, 2, 2)],
)
@pytest.mark.parametrize("held", [True, False])
def test_copies_when_equal_messages_repeat(old, new, delivered, held):
    """A single message of the old one has one copy; equal messages that the old one repeats have none."""
    handover = overlap()
    for _ in range(old):
        handover.old_delivered("heartbeat", 0.1)
    if held:
        for _ in range(new):
            handover.hold("heartbeat", "heartbeat", 0.2)
        assert handover.old_ended(0.3) == ["heartbeat"] * delivered
    else:
        handover.old_ended(0.3)
        assert [handover.is_copy("heartbeat", 0.4) for _ in range(new)].count(False) == delivered
    assert handover.duplicates == new - delivered


@pytest.mark.parametrize(("arrived", "copies"), [(2.4, 1), (2.6, 0)])
def test_copies_when_equal_messages_are_an_overlap_apart(arrived, copies):
    """Equal messages an overlap apart (less `settle`, for the lags) are both delivered, as heartbeats are."""
    handover = overlap()
    handover.old_delivered("heartbeat", 0.0)
    handover.hold("heartbeat", "heartbeat", arrived)
    assert len(handover.old_ended(3.0)) == 1 - copies


def test_copies_when_the_signal_comes_on_the_new_one_seconds_later():
    """A signal that the old one delivered before the overlap is not a copy when the new one brings it seconds later."""
    signal = '{"e":"listenKeyExpired"}'
    handover = Handover(settle=SETTLE, timeout=TIMEOUT)
    handover.old_delivered(signal, 0.0)
    handover.subscribed(0.1)
    both(handover, "a", 0.2, 0.3)
    assert handover.verdict(0.6) is Verdict.PROVEN
    handover.old_ended(0.7)
    assert not handover.is_copy(signal, 3.0)


def test_is_copy_after_the_old_one_ended():
    """Copies that lag are recognised for `settle` seconds, one for each message of the old connection."""
    handover = overlap()
    for identity in ("a", "b", "c"):
        handover.old_delivered(identity, 0.8)
    handover.old_ended(0.8)
    assert handover.is_copy("a", 0.9)
    assert not handover.is_copy("a", 0.9)
    assert not handover.is_copy("other", 0.9)
    assert handover.is_copy("b", 1.29)
    assert not handover.is_copy("c", 1.3)
    assert handover.duplicates == 2


def test_is_over_when_settle_seconds_have_passed():
    """The overlap is over `settle` seconds after the old one's end."""
    handover = overlap()
    assert not handover.is_over(100.0)
    handover.old_delivered("a", 100.0)
    handover.old_ended(100.1)
    assert not handover.is_over(100.5)
    assert handover.is_over(100.6)


def test_is_over_when_every_message_has_its_copy():
    """The overlap is over at once when every remembered message has had its copy."""
    handover = overlap()
    handover.old_delivered("a", 0.1)
    handover.old_ended(0.2)
    assert not handover.is_over(0.3)
    assert handover.is_copy("a", 0.3)
    assert handover.is_over(0.3)


class Identity:
    """An identity whose living instances can be counted."""


def test_memory_when_more_than_the_limit_is_delivered():
    """The limit bounds the remembered messages of the old one; the end of the overlap frees them all."""
    alive: weakref.WeakSet[Identity] = weakref.WeakSet()

    def identity() -> Identity:
        made = Identity()
        alive.add(made)
        return made

    handover = Handover(settle=SETTLE, timeout=TIMEOUT, limit=10)
    for _ in range(1000):
        handover.old_delivered(identity(), 0.0)
    gc.collect()
    assert len(alive) == 10
    handover.subscribed(1.0)
    for tick in range(1000):
        handover.old_delivered(identity(), 1.0)
        handover.hold(identity(), None, 1.0)
        if tick % 10 == 0:
            handover.verdict(1.0)
    gc.collect()
    assert len(alive) == 1010, "the new one's messages are never refused"
    handover.old_ended(1.1)
    gc.collect()
    assert len(alive) == 10
    assert handover.is_over(1.6)
    gc.collect()
    assert not alive


def test_hold_after_the_old_one_ended():
    """Holding a message that would never be released raises."""
    handover = overlap()
    handover.old_ended(1.0)
    with pytest.raises(RuntimeError, match="is_copy"):
        handover.hold("a", "a", 1.1)


# Simulations: a server, two connections with their lags, and a consumer.

TICK = 0.03  # how often a verdict is asked for
DRAIN = 1.0  # for how long at most an old connection that was closed is read on
HEARTBEAT = "heartbeat"
first = operator.itemgetter(0)


@dataclass
class Channel:
    """The messages of one channel, and when each connection is subscribed to it."""

    name: str
    times: list[float]
    late: float = 0.0

    def identity(self, number: int) -> object:
        return HEARTBEAT if self.name == HEARTBEAT else (self.name, number)


@dataclass
class Scenario:
    """One rotation: opening starts at 0 s, and all messages that are sent until `until` have arrived at the end."""

    channels: list[Channel]
    old_lag: tuple[float, float]
    new_lag: tuple[float, float]
    subscribed: float
    settle: float = SETTLE
    timeout: float = TIMEOUT
    old_dies: float = math.inf
    new_dies: float = math.inf
    seed: int = 0
    delivered: list[object] = field(default_factory=list)
    old_stays: bool = False

    def arrivals(self, lag: tuple[float, float], beginning: dict[str, float], rng: random.Random):
        """The messages of one connection: (arrival, sent, identity), each with its lag, in order for each channel."""
        found = []
        for channel in self.channels:
            arrival, rank = 0.0, rng.random()
            for number, sent in enumerate(channel.times):
                if sent > beginning.get(channel.name, -math.inf):
                    arrival = max(arrival, sent + rng.uniform(*lag))
                    found.append((arrival, rank, number, sent, channel.identity(number)))
        return [
            (arrival, sent, identity) for arrival, _, _, sent, identity in sorted(found, key=lambda entry: entry[:3])
        ]

    def run(self, rule=Handover) -> Handover:
        """Play the rotation with a rule and return its final state; `delivered` has the consumer's messages."""
        rng = random.Random(self.seed)
        beginning = {c.name: self.subscribed - rng.uniform(0, 0.03) + c.late for c in self.channels}
        snapshots = [(self.subscribed + 0.001 * number, 0.0, f"snapshot {number}") for number in range(3)]
        ticks = [(self.subscribed + TICK * number, 0.0, None) for number in range(400)]
        calls = heapq.merge(
            [(self.subscribed, 0.0, None, "subscribed")],
            ((*entry, "old") for entry in self.arrivals(self.old_lag, {}, rng)),
            ((*entry, "new") for entry in sorted(snapshots + self.arrivals(self.new_lag, beginning, rng), key=first)),
            ((*entry, "tick") for entry in ticks),
            key=first,
        )
        handover = rule(settle=self.settle, timeout=self.timeout)
        closed = math.inf  # from when on the server sends nothing on the old one
        ended = self.old_dies
        over = False
        for now, sent, identity, what in calls:
            # If the new one ends in the overlap, the held messages are dropped, and the old one stays.
            self.old_stays = self.old_stays or (now >= self.new_dies and closed == math.inf and not over)
            if now >= ended and not over and not self.old_stays:
                over = True
                self.delivered += handover.old_ended(ended)
            if what == "old":
                if now < ended and sent <= closed:
                    self.delivered.append(identity)
                    handover.old_delivered(identity, now)
            elif self.old_stays:
                continue
            elif what == "subscribed":
                handover.subscribed(now)
            elif what == "tick":
                if closed == math.inf and not over and handover.verdict(now) is not Verdict.WAIT:
                    closed = now + rng.uniform(0, 0.05)
                    ended = min(self.read_to_end(closed, now), self.old_dies)
            elif str(identity).startswith("snapshot"):
                continue  # a per-connection message, which is not passed to the overlap
            elif not over:
                handover.hold(identity, identity, now)
            elif not handover.is_copy(identity, now):
                self.delivered.append(identity)
        return handover

    def read_to_end(self, closed: float, now: float) -> float:
        """When the old one ends: when all messages from before the close have arrived, at most a second later."""
        return min(closed + self.old_lag[1], now + DRAIN)

    def received(self, channel: Channel) -> list[int]:
        return [identity[1] for identity in self.delivered if identity[0] == channel.name]

    def is_exact(self) -> bool:
        """Whether each numbered channel reached the consumer once and in order."""
        numbered = [channel for channel in self.channels if channel.name != HEARTBEAT]
        return all(self.received(channel) == list(range(len(channel.times))) for channel in numbered)

    def is_ordered(self) -> bool:
        """Whether each numbered channel reached the consumer without a repetition and in order."""
        numbered = [channel for channel in self.channels if channel.name != HEARTBEAT]
        return all(numbers == sorted(set(numbers)) for numbers in map(self.received, numbered))

    def heartbeats(self) -> tuple[int, int]:
        """How many heartbeats were sent, and how many delivered."""
        sent = sum(len(channel.times) for channel in self.channels if channel.name == HEARTBEAT)
        return sent, self.delivered.count(HEARTBEAT)


def periodic(period: float, phase: float, until: float) -> list[float]:
    """Return the times of a channel that sends one message at a time."""
    return [phase + period * n for n in range(max(0, math.ceil((until - phase) / period)))]


def bursts(period: float, phase: float, until: float, size: int) -> list[float]:
    """Return the times of a channel that sends several messages at a time."""
    return [time + 0.0001 * n for time in periodic(period, phase, until) for n in range(size)]


seconds = st.floats
seeds = st.integers(0, 2**32)


@st.composite
def channels(draw, until: float, periods, late) -> list[Channel]:
    """Some numbered channels: dense, sparse (a message each 2 s) or in bursts."""
    found = []
    for number in range(draw(st.integers(1, 4))):
        period = draw(periods)
        times = bursts(
            period, draw(seconds(0, period)), until, draw(st.sampled_from([1, 1, 1, 30] if period > 0.5 else [1]))
        )
        found.append(Channel("abcd"[number], times, draw(late)))
    return found


@st.composite
def rotations(draw) -> Scenario:
    """Rotations under the conditions that the rule can cover.

    - A copy comes on the new one at most `settle` after the old one's delivery: the memory of the overlap ends
      `settle` after the old one's end, by design, so that a later copy must be delivered twice.
    - A late channel's delay and the old one's lag are at most `settle` together. A channel that is silent during the
      whole stretch takes no part in the proof; for it the rule rests on the overlap's least length, which is `settle`.
    - Heartbeats are further apart than `settle` and a lag, or closer than half of it. Between these, two heartbeats
      can be the only one on each connection and yet come within `settle`, exactly as two copies of a message do.
    """
    until = 8.0
    late = draw(st.sampled_from([0.0, 0.0, 0.3]))
    found = draw(channels(until, st.sampled_from([0.02, 0.05, 0.13, 0.4, 1.0, 2.0]), st.sampled_from([0.0, late])))
    if draw(st.booleans()):
        period = draw(st.one_of(seconds(0.05, 0.2), seconds(1.0, 3.0)))
        found.append(Channel(HEARTBEAT, periodic(period, draw(seconds(0, period)), until)))
    never = st.just(math.inf)
    return Scenario(
        found,
        old_lag=(0.0, draw(seconds(0, 0.19))),
        new_lag=(0.0, draw(seconds(0, 0.49))),
        subscribed=draw(seconds(0.05, 1.5)),
        timeout=draw(seconds(1.0, TIMEOUT)),
        old_dies=draw(st.one_of(never, never, seconds(0, 7))),
        new_dies=draw(st.one_of(never, never, seconds(0, 7))),
        seed=draw(seeds),
    )


simulated = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@simulated
@given(rotations())
def test_rotation_delivers_each_channel_once_and_in_order(scenario):
    """For any lags, channels and time of the switch, each message is delivered once and in order."""
    handover = scenario.run()
    event(f"proven: {is_proven(handover)}")
    assert scenario.is_ordered()
    if scenario.old_stays:
        assert scenario.is_exact() or scenario.old_dies < math.inf
    elif is_proven(handover) or scenario.old_dies == math.inf:
        # With a proof, no message is lost even if the old one breaks before its end. If it is read to its end,
        # no message is lost even without a proof.
        assert scenario.is_exact()
        sent, delivered = scenario.heartbeats()
        assert delivered >= sent


@simulated
@given(
    channels(8.0, st.sampled_from([0.02, 0.13, 0.4, 2.0]), st.just(0.0)), seconds(0, 3), seconds(0, 3), seconds(0.05, 1)
)
@example([Channel("a", periodic(0.13, 0.0, 8.0))], 0.0, SETTLE, 1.0)  # the same lag, rounded to either side of it
def test_rotation_when_one_connection_is_far_behind(found, old_lag, new_lag, subscribed):
    """For any constant lag of one connection, each message is delivered once, or there is no proof."""
    # Constant lags, because copies are missed if a lag grows beyond `settle` after the proof.
    scenario = Scenario(found, (old_lag, old_lag), (new_lag, new_lag), subscribed)
    handover = scenario.run()
    event(f"proven: {is_proven(handover)}")
    assert scenario.is_exact() or not is_proven(handover)


@simulated
@given(channels(8.0, seconds(0.02, 0.2), seconds(0, 4)), seconds(0, 0.2), seconds(0, 0.4), seconds(0.05, 1), seeds)
def test_rotation_when_channels_are_subscribed_at_any_time(found, old_lag, new_lag, subscribed, seed):
    """For any time of a channel's subscription on the new one, each message is delivered once, or there is no proof."""
    # Each channel sends within any stretch of `settle` seconds, because a stretch proves nothing for a silent channel.
    scenario = Scenario(found, (0, old_lag), (0, new_lag), subscribed, seed=seed)
    handover = scenario.run()
    event(f"proven: {is_proven(handover)}")
    assert scenario.is_exact() or not is_proven(handover)


# The simulations find wrong rules.


class FirstMessage(Handover):
    """Wrong: closes at the first message of the new connection."""

    def verdict(self, now):
        if self.held and self._subscribed <= now:
            self._verdict = Verdict.PROVEN
        return super().verdict(now)


class Position(Handover):
    """Wrong: matches by position, counted from the first match."""

    def old_delivered(self, identity, now):
        super().old_delivered(identity, now)
        self.sequence = [*getattr(self, "sequence", []), identity]

    def old_ended(self, now):
        held = [item for _, item, _ in self._held]
        super().old_ended(now)
        sequence = getattr(self, "sequence", [])
        start = next((n for n, identity in enumerate(sequence) if held and identity == held[0]), len(sequence))
        self.excess = max(0, len(sequence) - start - len(held))
        return held[len(sequence) - start :]

    def is_copy(self, identity, now):
        self.excess -= 1
        return self.excess >= 0


class Elephant(Handover):
    """Wrong: never forgets the overlap."""

    def is_over(self, now):
        return False

    def old_ended(self, now):
        held = super().old_ended(now)
        self._reach = math.inf
        return held


def interleaved(seed: int) -> Scenario:
    """Return a rotation with interleaving channels, a late subscription, and a signal that is repeated later."""
    found = [Channel(name, periodic(0.03, 0.01 * n, 4.0), 0.3 * (n == 1)) for n, name in enumerate("abc")]
    signal = Channel(HEARTBEAT, [0.01, 3.5])
    return Scenario([*found, signal], (0.0, 0.06), (0.0, 0.06), subscribed=0.2, seed=seed)


@pytest.mark.parametrize(("wrong", "what"), [(FirstMessage, "exact"), (Position, "exact"), (Elephant, "heartbeats")])
def test_simulation_finds_a_wrong_rule(wrong, what):
    """Closing at the first message, matching by position, and never forgetting each break a promise."""
    faults = {Handover: set(), wrong: set()}
    for rule, seed in itertools.product(faults, range(5)):
        scenario = interleaved(seed)
        assert is_proven(scenario.run(rule))
        sent, delivered = scenario.heartbeats()
        faults[rule] |= ({"exact"} if not scenario.is_exact() else set()) | (
            {"heartbeats"} if delivered < sent else set()
        )
    assert not faults[Handover]
    assert what in faults[wrong]


# While the new one is being subscribed


def test_held_when_subscribing_takes_long():
    """Messages from long before the end of subscribing are dropped: the old connection delivered them."""
    handover = Handover(settle=SETTLE, timeout=TIMEOUT)
    for second in range(100):
        both(handover, second, second, second + 0.01)
        assert len(handover._held) <= 2
        assert len(handover._arrived) <= 2
    assert handover.held <= 2
    handover.subscribed(100.0)
    handover.hold("new", "new", 100.1)
    assert handover.old_ended(100.2) == ["new"]


def test_held_when_an_equal_message_came_before_the_first_was_dropped():
    """Dropping a held message does not forget that an equal one came later."""
    handover = Handover(settle=SETTLE, timeout=TIMEOUT)
    handover.hold("a", "first", 0.0)
    handover.hold("a", "second", 0.9)
    handover.hold("b", "b", 1.5)
    assert [item for _, item, _ in handover._held] == ["second", "b"]
    assert handover._arrived["a"] == -math.inf


def test_held_when_the_old_one_is_lost_while_the_new_one_is_being_subscribed():
    """From then on all messages are kept: they come on no other connection."""
    handover = Handover(settle=SETTLE, timeout=TIMEOUT)
    for second in range(10):
        both(handover, second, second, second + 0.01)
    handover.old_lost()
    for second in range(10, 100):
        handover.hold(second, second, float(second))
    handover.subscribed(100.0)
    assert handover.old_ended(100.0) == list(range(10, 100))


def test_held_when_the_old_one_is_lost_and_more_comes_than_the_limit():
    """The limit holds also then; the oldest messages are dropped and counted as lost."""
    handover = Handover(settle=SETTLE, timeout=TIMEOUT, limit=10)
    handover.old_lost()
    for n in range(50):
        handover.hold(n, n, float(n))
    assert handover.held == len(handover._held) == 10
    assert handover.lost == 40
    handover.subscribed(50.0)
    assert handover.old_ended(50.0) == list(range(40, 50))
