"""The judge of a life. It compares what the server sent with what consumers received, without rxws's rules. Pure."""

from __future__ import annotations

import math
from bisect import bisect
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from rxws import Gap

from .consumers import Seen
from .continuity import Claims, Loss, judge_claims
from .record import LineRecord, Sent, VenueRecord
from .report import Problem
from .schedule import Settings

__all__ = ["CLOSE_TIMEOUT", "Evidence", "RotateCall", "judge"]

CLOSE_TIMEOUT: Final = 1.0
"""The feed's ``close_timeout``, in seconds."""

SILENT: Final = ("mute", "half-open", "protocol")
"""Faults that the client notices only later."""


@dataclass(slots=True)
class RotateCall:
    """A call of ``rotate()``.

    Attributes:
        at: when it was called, on the loop's clock.
        flowing_on: the number of the only connection, if messages arrived on it; otherwise None.
        result: its result; None: it has not returned yet.
        newest: the number of the newest connection when it returned.
    """

    at: float
    flowing_on: int | None
    result: bool | None = None
    newest: int = 0


@dataclass(slots=True)
class Evidence:
    """The input of the judge.

    Attributes:
        settings: the settings of the life.
        record: the log of the server.
        seen: the items that each consumer received.
        gaps: the feed's ``Gap`` events, with times of the loop's clock.
        claims: what the feed claims to be complete.
        rotate_calls: the calls of ``rotate()``.
        standstills: the intervals in which the client's loop was blocked.
        slow_times: the intervals in which a slow handler delayed the client.
        wanted: the channels that must be subscribed at the end.
        quiet_from: messages published before this time must have arrived. None if the feed exited early.
        tolerance: seconds by which times may differ.
        problems: problems that were found outside the judge.
    """

    settings: Settings
    record: VenueRecord
    seen: list[Seen] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    claims: Claims = field(default_factory=Claims)
    rotate_calls: list[RotateCall] = field(default_factory=list)
    standstills: list[tuple[float, float]] = field(default_factory=list)
    slow_times: list[tuple[float, float]] = field(default_factory=list)
    wanted: list[str] = field(default_factory=list)
    quiet_from: float | None = None
    tolerance: float = 0.0
    problems: list[Problem] = field(default_factory=list)


def judge(evidence: Evidence) -> list[Problem]:
    """Return all problems."""
    judgement = _Judgement(evidence)
    found = [*evidence.problems, *(Problem("bad request", text) for text in evidence.record.problems)]
    for seen in evidence.seen:
        found += judgement.of_order(seen) if seen.channel is None else judgement.of_channel(seen)
    found += judgement.of_gaps()
    found += judge_claims(evidence.claims, judgement.losses, evidence.tolerance)
    if evidence.claims.gaps != evidence.gaps:
        found.append(Problem("gaps of the continuity", f"{len(evidence.claims.gaps)}, not {len(evidence.gaps)}"))
    found += judgement.of_rotate_calls()
    found += judgement.of_deaf_lines()
    if evidence.quiet_from is not None:
        found += judgement.of_subscriptions()
    return found


def _is_silent(what: str) -> bool:
    return what.partition(" ")[0] in SILENT


class _Judgement:
    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._settings = evidence.settings
        self._record = evidence.record
        self._sent: dict[tuple[str, int], list[Sent]] = defaultdict(list)
        self._holdups = sorted(evidence.standstills)
        # The Gaps at whose place numbers are missing. They are justified even without a known cause.
        self._explaining: set[tuple[float, float]] = set()
        self.losses: list[Loss] = []
        for line in evidence.record.lines:
            self._holdups = sorted([*self._holdups, *line.holdups])
            for sent in line.sent:
                if not sent.is_snapshot:
                    self._sent[sent.channel, sent.n].append(sent)

    # Consumers

    def of_order(self, seen: Seen) -> Iterator[Problem]:
        """Check a consumer of all channels: each number must come once and in order."""
        last: dict[str, int] = {}
        for look in seen.looks:
            if not isinstance(look.item, Gap) and not look.item.is_snapshot:
                channel, n, _ = look.item
                if n <= last.get(channel, 0):
                    yield Problem("twice or out of order", f"{seen.name}: {channel} {n} follows {last[channel]}")
                last[channel] = max(n, last.get(channel, 0))

    def of_channel(self, seen: Seen) -> Iterator[Problem]:
        """Check a consumer of one channel: each number must come once and in order, or be covered by a Gap."""
        yield from self._start(seen)
        numbers: set[int] = set()
        last, gaps = None, list[Gap]()
        for look in seen.looks:
            if isinstance(look.item, Gap):
                if look.item in gaps:
                    yield Problem("Gap twice", f"{seen.name}: the one from {look.item.start:.3f}")
                gaps.append(look.item)
                continue
            _, n, is_snapshot = look.item
            where = f"{seen.name} at {look.time:.3f}: {n}"
            if last is not None and n <= last:
                if not is_snapshot:
                    yield Problem("twice" if n in numbers else "out of order", f"{where} follows {last}")
                elif n < last and not gaps:
                    # After a Gap the feed cannot know that an undeclared snapshot is older.
                    yield Problem("old snapshot", f"{where} is a snapshot, and follows {last}")
                continue
            if last is not None:
                yield from self._missing(seen, range(last + 1, n), gaps)
            if not is_snapshot:
                numbers.add(n)
            last, gaps = n, []
        yield from self._rest(seen, last)

    def _start(self, seen: Seen) -> Iterator[Problem]:
        """Check that no surviving connection brought an older number before the first number of the consumer."""
        first = seen.looks[0].item if seen.looks else None
        if first is None or isinstance(first, Gap) or first.is_snapshot:
            return
        came = [
            (sent.came_at, sent.n)
            for line in self._record.lines
            if not line.damages and (line.ended_at is None or line.ended_at > seen.looks[0].time)
            for sent in line.sent
            if sent.channel == seen.channel and sent.at >= seen.since and sent.came_at is not None
            if not sent.is_snapshot or self._settings.first_snapshot
            if not self._was_former(line, sent, seen)
        ]
        first_came = min((at for at, n in came if n == first.n), default=seen.looks[0].time)
        lost = [n for at, n in came if n < first.n and at < first_came and not self._was_refused(first.channel, n)]
        if lost:
            yield Problem("lost at the start", f"{seen.name}: {min(lost)} arrived, but it saw {first.n} first")

    def _was_former(self, line: LineRecord, sent: Sent, seen: Seen) -> bool:
        """Return whether a message belongs to the subscription before this consumer's."""
        until = math.inf if seen.until is None else seen.until
        return any(
            channel == sent.channel and sent.at <= at and seen.since <= at <= until for at, channel in line.unsubscribed
        )

    def _missing(self, seen: Seen, numbers: range, gaps: list[Gap]) -> Iterator[Problem]:
        channel = seen.channel
        assert channel is not None
        covering = {n: [gap for gap in gaps if self._covers(gap, channel, n)] for n in numbers}
        self._explaining.update((gap.start, gap.end) for each in covering.values() for gap in each)
        missing = [n for n in numbers if not self._was_in_silence(channel, n)]
        for n in missing:
            # A Gap of this channel alone: the feed claims nothing of channels without a subscription.
            if any(gap.reason in ("user", "subscription") for gap in covering[n]) or self._was_hidden(channel, n):
                continue
            loss = Loss(f"{seen.name}: {n}", self._record.published[channel][n - 1], self._latest(channel, n))
            self.losses.append(loss)
        lost = [n for n in missing if not covering[n]]
        if lost:
            kind = "lost without a word" if not gaps else "lost outside the Gap"
            times = [f"{self._record.published[channel][n - 1]:.3f}" for n in (lost[0], lost[-1])]
            reported = "".join(f", Gap {gap.start:.3f} to {gap.end:.3f} ({gap.reason})" for gap in gaps)
            yield Problem(kind, f"{seen.name}: {lost[0]} to {lost[-1]}, published {' to '.join(times)}{reported}")

    def _covers(self, gap: Gap, channel: str, n: int) -> bool:
        """Return whether the number arrived, or would have arrived, within the Gap."""
        tolerance, published = self._evidence.tolerance, self._record.published[channel][n - 1]
        start = min([gap.start, *self._silences(gap)])
        return start - tolerance <= self._latest(channel, n) and published <= gap.end + tolerance

    def _latest(self, channel: str, n: int) -> float:
        """Return the latest time at which the number arrived, or would have arrived."""
        published = self._record.published[channel][n - 1]
        latest = max([published + self._settings.reach, *(sent.due for sent in self._sent[channel, n])])
        for since, until in self._holdups:
            latest = until if since <= latest <= until else latest
        return latest

    def _silences(self, gap: Gap) -> Iterator[float]:
        """Yield the times when connections became silent whose loss this Gap reports, if it need not cover the silence.

        A mute connection may still answer. Then the feed counts the answer as its last message.
        """
        for line in self._record.lines:
            for at, what in line.damages:
                is_excused = not self._settings.silence or (line.last_said or 0.0) > at
                if is_excused and _is_silent(what) and self._is_cause(gap, line, at, what):
                    yield at

    def _was_in_silence(self, channel: str, n: int) -> bool:
        """Return whether a connection was silent at publication, if a Gap need not cover that (``silence``)."""
        published = self._record.published[channel][n - 1]
        return not self._settings.silence and any(
            at - self._settings.reach <= published and (line.ended_at is None or published <= line.ended_at)
            for line in self._record.lines
            for at, what in line.damages
            if _is_silent(what)
        )

    def _was_hidden(self, channel: str, n: int) -> bool:
        """Return whether a connection left this number out and said something later: the feed cannot see that."""
        published = self._record.published[channel][n - 1]
        return any(
            at - self._settings.reach <= published <= (line.last_said or at)
            for line in self._record.lines
            for at, what in line.damages
            if _is_silent(what)
        )

    def _was_refused(self, channel: str, n: int) -> bool:
        """Return whether the channel was refused at publication."""
        published = self._record.published[channel][n - 1]
        since = None
        for at, each, is_refused in self._record.effects:
            if each == channel and is_refused and since is None:
                since = at - self._settings.reach
            elif each == channel and not is_refused:
                if since is not None and since <= published <= at + self._settings.reach:
                    return True
                since = None
        return since is not None and since <= published

    def _rest(self, seen: Seen, last: int | None) -> Iterator[Problem]:
        evidence, channel = self._evidence, seen.channel
        if not seen.has_ended and seen.until is None:
            yield Problem("did not end", seen.name)
        if evidence.quiet_from is None or seen.until is not None or channel is None:
            return
        published = bisect(self._record.published[channel], evidence.quiet_from)
        if published and (last or 0) < published and not self._was_refused(channel, published):
            yield Problem("never came", f"{seen.name}: it saw {last or 0} last, but {published} was published")

    # Reports of the feed

    def of_gaps(self) -> Iterator[Problem]:
        """Check the times of each Gap, that it has a cause, and that there are at most as many Gaps as losses."""
        latest = self._evidence.tolerance + 1e-6
        for gap in self._evidence.gaps:
            if gap.start > gap.end + latest or gap.end > gap.time + latest:
                yield Problem("Gap in the future", f"{gap.start:.3f} to {gap.end:.3f}, reported at {gap.time:.3f}")
        if not self._settings.handover_timeout:
            return
        gaps = [
            gap
            for gap in self._evidence.gaps
            if not self._was_silence_true(gap) and (gap.start, gap.end) not in self._explaining
            if not (self._was_drain_cut(gap) or self._was_close_cut(gap) or self._was_alike(gap) or self._was_late(gap))
        ]
        damaged = [line for line in self._record.lines if line.damages]
        unbrought = [line for line in self._record.lines if any(sent.came_at is None for sent in line.sent)]
        for gap in gaps:
            if not any(self._is_cause(gap, line, *damage) for line in damaged for damage in line.damages) and not any(
                self._is_cause(gap, line, line.ended_at, "") for line in unbrought if line.ended_at is not None
            ):
                yield Problem("Gap without a cause", f"{gap.start:.3f} to {gap.end:.3f} ({gap.reason})")
        losses = {line.number for line in (*damaged, *unbrought)}
        if len(gaps) > len(losses):
            yield Problem("more Gaps than losses", f"{len(gaps)} Gaps, {len(losses)} losses")

    def _was_silence_true(self, gap: Gap) -> bool:
        """Return whether the server really sent nothing for ``idle_timeout``, for example for lack of subscriptions."""
        tolerance = self._evidence.tolerance
        since, until = gap.start + tolerance, gap.start + self._settings.idle_timeout - tolerance
        latest = since + self._settings.lag
        open_then = [line for line in self._record.lines if line.opened_at < latest and not self._was_over(line, since)]
        silent = [line for line in open_then if not any(since < each.due <= until for each in line.sent)]
        return gap.reason == "idle" and bool(silent)

    def _was_drain_cut(self, gap: Gap) -> bool:
        """Return whether a rotation cut a connection that slow handlers delayed, so that messages were unread."""
        return gap.reason == "rotation" and any(
            since <= gap.end and gap.start <= until + self._settings.reach for since, until in self._evidence.slow_times
        )

    def _was_close_cut(self, gap: Gap) -> bool:
        """Return whether a rotation aborted a close that took too long, so that messages may have been unread."""
        settings = self._settings
        return gap.reason == "rotation" and settings.close_lag + settings.lag + settings.up > CLOSE_TIMEOUT

    def _was_alike(self, gap: Gap) -> bool:
        """Return whether only heartbeats were sent around a rotation. They are equal, so they prove no overlap."""
        since = gap.start - self._settings.lag - self._settings.up - self._settings.skew - 1.0
        sent = (each.at for line in self._record.lines for each in line.sent)
        return gap.reason == "rotation" and not any(since <= at <= gap.end for at in sent)

    def _was_late(self, gap: Gap) -> bool:
        """Return whether the new connection of a rotation answered late: no other one brought a copy of that answer."""
        opened = [line for line in self._record.lines if line.opened_at <= gap.end + self._evidence.tolerance]
        return gap.reason == "rotation" and bool(opened) and bool(opened[-1].deferrals)

    def _was_over(self, line: LineRecord, at: float) -> bool:
        return line.ended_at is not None and line.ended_at < at

    def _is_cause(self, gap: Gap, line: LineRecord, at: float, what: str) -> bool:
        """Return whether a fault of a connection at that time caused this Gap."""
        settings, tolerance = self._settings, self._evidence.tolerance
        since = max(settings.idle_timeout, settings.keepalive) + settings.reach + settings.up + 2.0
        # A silent connection may still answer. The feed should not keep it because of that.
        was_kept = not settings.silence and _is_silent(what) and gap.start <= (line.ended_at or gap.start) + tolerance
        return at <= gap.end + tolerance and (gap.start - since <= at or was_kept)

    def of_rotate_calls(self) -> Iterator[Problem]:
        """Check that each rotation that returned True has a new connection."""
        for call in self._evidence.rotate_calls:
            if call.result is None:
                yield Problem("rotate() did not end", f"called at {call.at:.3f}")
            elif call.result and call.newest == call.flowing_on:
                yield Problem(
                    "rotated nothing", f"rotate() at {call.at:.3f} returned True: still connection {call.flowing_on}"
                )

    # The server

    def of_deaf_lines(self) -> Iterator[Problem]:
        """Check that the client ends a broken connection in time, even if the server does not answer its close."""
        settings = self._settings
        # If exit() was called early, it waits for a further close.
        closings = 1 if self._evidence.quiet_from is not None else 2
        longest = closings * CLOSE_TIMEOUT + settings.lag + 2 * settings.up + 10 * self._evidence.tolerance + 0.5
        for line in self._record.lines:
            for at, what in line.damages:
                if what != "protocol unanswered" or line.ended_at is None:
                    continue
                holdups = [*self._holdups, *self._evidence.slow_times]
                stood = sum(until - since for since, until in holdups if at <= until and since <= line.ended_at)
                if line.ended_at - at > longest + stood:
                    yield Problem("stood still", f"connection {line.number} for {line.ended_at - at:.3f} s")

    def of_subscriptions(self) -> Iterator[Problem]:
        """Check that there is one connection, with exactly the wanted channels, except refused ones."""
        sound = [line for line in self._record.lines if not line.damages and line.subscribed_in_the_end is not None]
        if len(sound) != 1:
            yield Problem("connections", f"{len(sound)} at the end: {[line.number for line in sound]}")
            return
        [line] = sound
        if self._settings.pushed or line.subscribed_in_the_end is None:
            return
        wanted, subscribed = set(self._evidence.wanted), set(line.subscribed_in_the_end)
        for channel in sorted(subscribed - wanted):
            yield Problem("subscriptions", f"{channel} is subscribed, but not wanted")
        for channel in sorted(wanted - subscribed - set(line.refused)):
            yield Problem("subscriptions", f"{channel} is wanted, but not subscribed")
