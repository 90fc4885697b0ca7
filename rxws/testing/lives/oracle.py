"""The judge of a life: compares what the server sent with what consumers received, by its own rules. No I/O."""

from __future__ import annotations

import math
from bisect import bisect
from collections import Counter, defaultdict
from collections.abc import Iterator

from rxws import Gap

from .consumers import Seen
from .continuity import Loss, judge_claims
from .evidence import CLOSE_TIMEOUT, Evidence
from .feed_reports import FeedReports, is_silent
from .record import LineRecord, Sent
from .report import Problem

__all__ = ["judge"]


def judge(evidence: Evidence) -> list[Problem]:
    """Return all problems."""
    judgement = _Judgement(evidence)
    found = [*evidence.problems, *(Problem("bad request", text) for text in evidence.record.problems)]
    for seen in evidence.seen:
        found += judgement.of_order(seen) if seen.channel is None else judgement.of_channel(seen)
    if evidence.past is not None:
        found += judgement.of_past(evidence.past)
    found += judgement.reports.of_gaps()
    found += judge_claims(evidence.claims, judgement.losses, evidence.tolerance)
    if evidence.claims.gaps != evidence.gaps:
        found.append(Problem("gaps of the continuity", f"{len(evidence.claims.gaps)}, not {len(evidence.gaps)}"))
    found += judgement.reports.of_starts()
    found += judgement.reports.of_rotate_calls()
    found += judgement.of_deaf_lines()
    found += judgement.of_repeats()
    if evidence.quiet_from is not None:
        found += judgement.of_subscriptions()
    return found


class _Judgement:
    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._settings = evidence.settings
        self._record = evidence.record
        self._sent: dict[tuple[str, int], list[Sent]] = defaultdict(list)
        self.reports = FeedReports(evidence)
        self.losses: list[Loss] = []
        self._holdups = sorted([*evidence.standstills, *evidence.record.holdups])
        for line in evidence.record.lines:
            for sent in line.sent:
                if not sent.is_snapshot:
                    self._sent[sent.channel, sent.n].append(sent)

    # Consumers

    def of_order(self, seen: Seen) -> Iterator[Problem]:
        """Check a consumer of all channels: each number must arrive once and in order."""
        last: dict[str, int] = {}
        for look in seen.looks:
            if not isinstance(look.item, Gap) and not look.item.is_snapshot:
                channel, n, _ = look.item
                if n <= last.get(channel, 0):
                    yield Problem("twice or out of order", f"{seen.name}: {channel} {n} follows {last[channel]}")
                last[channel] = max(n, last.get(channel, 0))

    def of_channel(self, seen: Seen) -> Iterator[Problem]:
        """Check a consumer of one channel: each number must arrive once and in order, or be covered by a Gap."""
        yield from self._start(seen)
        numbers: set[int] = set()
        last, gaps = None, list[Gap]()
        for look in seen.looks:
            if isinstance(look.item, Gap):
                if look.item in gaps:
                    yield Problem("Gap twice", f"{seen.name}: the one from {look.item.start:.3f}")
                gaps.append(look.item)
                continue
            channel, n, is_snapshot = look.item
            where = f"{seen.name} at {look.time:.3f}: {n}"
            if channel != seen.channel:
                yield Problem("another channel", f"{where} belongs to {channel}")
                continue
            if last is not None and n <= last:
                if not is_snapshot:
                    yield Problem("twice" if n in numbers else "out of order", f"{where} follows {last}")
                elif n < last and not gaps:
                    # After a Gap this is allowed, because the feed cannot know that an undeclared snapshot is old.
                    yield Problem("old snapshot", f"{where} is a snapshot, and follows {last}")
                continue
            if last is not None:
                yield from self._missing(seen, range(last + 1, n), gaps)
            if not is_snapshot:
                numbers.add(n)
            last, gaps = n, []
        yield from self._rest(seen, last)

    def of_past(self, seen: Seen) -> Iterator[Problem]:
        """Check that no number is missing in a channel with a history, except a Gap for those that the history lacks.

        When the feed ends, a hole may not be filled yet. Then a Gap is in its place.
        """
        last, gaps = 0, list[Gap]()
        end = math.inf if seen.until is None else seen.until - self._evidence.tolerance
        for look in seen.looks:
            where = f"{seen.name} at {look.time:.3f}"
            if isinstance(look.item, Gap):
                if look.item.reason != "history" or gaps:
                    yield Problem("Gap in the past", f"{where}: {look.item.reason}, after {len(gaps)} others")
                gaps.append(look.item)
                continue
            n, is_end = look.item.n, look.time >= end
            missing = {*range(last + 1, n)}
            if n <= last:
                yield Problem("twice or out of order", f"{where}: {n} follows {last}")
            elif missing and last and not gaps:
                yield Problem("lost without a word", f"{where}: {min(missing)} to {n - 1}")
            elif not is_end and missing - self._evidence.lacking:
                yield Problem("not fetched", f"{where}: {sorted(missing - self._evidence.lacking)[:5]}")
            elif gaps and not is_end and not missing:
                yield Problem("Gap without a cause", f"{where}: {n} follows {last}")
            last, gaps = max(n, last), []
        yield from self._rest(seen, last)

    def _start(self, seen: Seen) -> Iterator[Problem]:
        """Check that the consumer did not miss an earlier number, which a connection without a fault had delivered."""
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
        copies = (sent.came_at for sent in self._sent[first.channel, first.n] if sent.at >= seen.since)
        first_came = min((at for at in copies if at is not None), default=seen.looks[0].time)
        # What arrived before the consumer came was delivered then, and is dropped when the server sends it again.
        before = {
            sent.n
            for line in self._record.lines
            for sent in line.sent
            if sent.channel == seen.channel and sent.came_at is not None and sent.came_at < seen.since
        }
        # While a handler is slow, messages that arrived sooner on another connection may be read later.
        slow = self._evidence.slow_times
        came = [(at, n) for at, n in came if n not in before and not any(since <= at <= until for since, until in slow)]
        lost = [n for at, n in came if n < first.n and at < first_came and not self._was_refused(first.channel, n)]
        if lost:
            yield Problem("lost at the start", f"{seen.name}: {min(lost)} arrived, but it saw {first.n} first")

    def _was_former(self, line: LineRecord, sent: Sent, seen: Seen) -> bool:
        """Return whether a message belongs to an earlier subscription of the channel, not to this consumer's."""
        until = math.inf if seen.until is None else seen.until
        return any(
            channel == sent.channel and sent.at <= at and seen.since <= at <= until for at, channel in line.unsubscribed
        )

    def _missing(self, seen: Seen, numbers: range, gaps: list[Gap]) -> Iterator[Problem]:
        channel = seen.channel
        assert channel is not None
        covering = {n: [gap for gap in gaps if self._covers(gap, channel, n)] for n in numbers}
        self.reports.explaining.update((gap.start, gap.end) for each in covering.values() for gap in each)
        missing = [n for n in numbers if not self._was_in_silence(channel, n)]
        for n in missing:
            latest = self._latest(channel, n)
            # Two kinds of Gaps contradict no claim of the feed: one of this channel alone, because the feed claims
            # nothing about channels without a subscription, and one that begins too late, because a silent connection
            # still answered.
            excused = (
                gap.reason in ("user", "subscription") or gap.start - self._evidence.tolerance > latest
                for gap in covering[n]
            )
            if not (any(excused) or self._was_hidden(channel, n)):
                since = self._record.published[channel][n - 1]
                self.losses.append(Loss(f"{seen.name}: {n}", since, latest))
        lost = [n for n in missing if not covering[n]]
        if lost:
            kind = "lost without a word" if not gaps else "lost outside the Gap"
            times = [f"{self._record.published[channel][n - 1]:.3f}" for n in (lost[0], lost[-1])]
            reported = "".join(f", Gap {gap.start:.3f} to {gap.end:.3f} ({gap.reason})" for gap in gaps)
            yield Problem(kind, f"{seen.name}: {lost[0]} to {lost[-1]}, published {' to '.join(times)}{reported}")

    def _covers(self, gap: Gap, channel: str, n: int) -> bool:
        """Return whether the number arrived, or would have arrived, within the Gap."""
        tolerance, published = self._evidence.tolerance, self._record.published[channel][n - 1]
        start = min([gap.start, *self.reports.silences(gap)])
        return start - tolerance <= self._latest(channel, n) and published <= gap.end + tolerance

    def _latest(self, channel: str, n: int) -> float:
        """Return the latest time at which the number arrived, or would have arrived."""
        published = self._record.published[channel][n - 1]
        latest = max([published + self._settings.reach, *(sent.due for sent in self._sent[channel, n])])
        for since, until in self._holdups:
            latest = until if since - self._evidence.tolerance <= latest <= until else latest
        return latest

    def _was_in_silence(self, channel: str, n: int) -> bool:
        """Return whether the number was published on a silent connection, which a Gap need not cover (``silence``)."""
        published = self._record.published[channel][n - 1]
        return not self._settings.silence and any(
            at - self._settings.reach <= published and (line.ended_at is None or published <= line.ended_at)
            for line in self._record.lines
            for at, what in line.damages
            if is_silent(what)
        )

    def _was_hidden(self, channel: str, n: int) -> bool:
        """Return whether a connection omitted this number but sent a later message, so the feed cannot notice that."""
        published = self._record.published[channel][n - 1]
        return any(
            at - self._settings.reach <= published <= (line.last_said or at)
            for line in self._record.lines
            for at, what in line.damages
            if is_silent(what)
        )

    def _was_refused(self, channel: str, n: int) -> bool:
        """Return whether the server refused the channel when it published the number."""
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
        has_left = seen.until is not None and seen is not evidence.past
        if evidence.quiet_from is None or has_left or channel is None:
            return
        published = bisect(self._record.published[channel], evidence.quiet_from)
        if published and (last or 0) < published and not self._was_refused(channel, published):
            yield Problem("never came", f"{seen.name}: it saw {last or 0} last, but {published} was published")

    # The server

    def of_deaf_lines(self) -> Iterator[Problem]:
        """Check that the client ends a broken connection in time, even if the server does not answer its close."""
        settings = self._settings
        # An early exit() waits for one more close.
        closings = 1 if self._evidence.quiet_from is not None else 2
        longest = closings * CLOSE_TIMEOUT + settings.reach + 2 * settings.up + 10 * self._evidence.tolerance + 0.5
        for line in self._record.lines:
            for at, what in line.damages:
                if what != "protocol unanswered" or line.ended_at is None:
                    continue
                holdups = [*self._holdups, *self._evidence.slow_times]
                stood = sum(until - since for since, until in holdups if at <= until and since <= line.ended_at)
                if line.ended_at - at > longest + stood:
                    yield Problem("stalled", f"connection {line.number} for {line.ended_at - at:.3f} s")

    def of_repeats(self) -> Iterator[Problem]:
        """Check that no subscription is sent again after its answer has arrived."""
        evidence = self._evidence
        latest = evidence.settings.up + 10 * evidence.tolerance
        for each in evidence.record.repeats:
            holdups = [*self._holdups, *evidence.slow_times]
            was_held_up = any(since <= each.at and each.answered_at - latest <= until for since, until in holdups)
            if each.at - latest > each.answered_at and not was_held_up:
                text = f"{each.channel} at {each.at:.3f}, answered at {each.answered_at:.3f}"
                yield Problem("subscribed again", text)

    def of_subscriptions(self) -> Iterator[Problem]:
        """Check that exactly the wanted channels, except refused ones, are subscribed, each on one connection.

        Without shards there is one connection. No shard has too many channels.
        """
        sound = [line for line in self._record.lines if not line.damages and line.subscribed_in_the_end is not None]
        limit = self._settings.channels_per_connection
        if not sound or (len(sound) > 1 and not limit):
            yield Problem("connections", f"{len(sound)} at the end: {[line.number for line in sound]}")
            return
        if self._settings.pushed:
            return
        wanted = set(self._evidence.wanted)
        subscribed = Counter(channel for line in sound for channel in line.subscribed_in_the_end or ())
        refused = {channel for line in sound for channel in line.refused}
        for channel in sorted(subscribed.keys() - wanted):
            yield Problem("subscriptions", f"{channel} is subscribed, but not wanted")
        for channel in sorted(wanted - subscribed.keys() - refused):
            yield Problem("subscriptions", f"{channel} is wanted, but not subscribed")
        for channel, count in subscribed.items():
            if count > 1 and not self._settings.rotate_every:
                yield Problem("subscriptions", f"{channel} is subscribed on {count} connections")
        for line in sound:
            if limit and len(line.subscribed_in_the_end or ()) > limit:
                yield Problem("crowded", f"connection {line.number}: {line.subscribed_in_the_end}")
