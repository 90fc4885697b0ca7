"""Judges the reports of the feed itself: its Gaps, and the results of ``rotate()``. No I/O."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

from rxws import Gap

from .dialect import Numbered
from .evidence import Evidence, RotateCall
from .record import LineRecord, Sent
from .report import Problem

__all__ = ["FeedReports", "is_silent"]

SILENT: Final = ("mute", "half-open", "protocol")
"""Faults that the client notices only later."""


def is_silent(what: str) -> bool:
    """Return whether the client notices a fault only later."""
    return what.partition(" ")[0] in SILENT


class FeedReports:
    """Compares the reports of the feed with the record of the server.

    Args:
        evidence: the input of the judge.

    Attributes:
        explaining: the start and the end of each Gap at whose place numbers are missing. These are justified even
            without a known cause.
    """

    def __init__(self, evidence: Evidence) -> None:
        self.explaining: Final[set[tuple[float, float]]] = set()
        self._evidence = evidence
        self._settings = evidence.settings
        self._record = evidence.record

    def silences(self, gap: Gap) -> Iterator[float]:
        """Yield when a connection became silent, if this Gap reports its loss and need not cover the silence.

        A Gap begins at the connection's last message. A mute connection may still answer, and the feed counts the
        answer as that message.
        """
        for line in self._record.lines:
            for at, what in line.damages:
                is_excused = not self._settings.silence or (line.last_said or 0.0) > at
                if is_excused and is_silent(what) and self._is_cause(gap, line, at, what):
                    yield at

    def of_gaps(self) -> Iterator[Problem]:
        """Check that each Gap has plausible times and a cause, and that there are at most as many Gaps as losses."""
        latest = self._evidence.tolerance + 1e-6
        for gap in self._evidence.gaps:
            if gap.start > gap.end + latest or gap.end > gap.time + latest:
                yield Problem("Gap in the future", f"{gap.start:.3f} to {gap.end:.3f}, reported at {gap.time:.3f}")
            was_told = any(
                abs(gap.start - start) <= latest and abs(gap.end - end) <= latest for start, end in self._record.outages
            )
            # The numbers of a book have holes, which a feed that compares numbers reports, too.
            has_holes = self._settings.replays == "numbers" and self._settings.book
            is_explained = (gap.start, gap.end) in self.explaining
            if gap.reason == "source" and not (was_told or has_holes or is_explained):
                yield Problem("Gap without an outage", f"{gap.start:.3f} to {gap.end:.3f}")
        yield from self._of_resumptions()
        if not self._settings.handover_timeout:
            return
        excuses = (self._was_drain_cut, self._was_close_cut, self._was_alike, self._was_late, self._was_interrupted)
        gaps = [
            gap
            for gap in self._evidence.gaps
            if gap.reason != "source"
            # The excuses of a rotation's Gap do not know which connections belong together.
            and not (gap.reason == "rotation" and self._settings.channels_per_connection)
            and not self._was_silence_true(gap)
            and (gap.start, gap.end) not in self.explaining
            and not any(is_excuse(gap) for is_excuse in excuses)
        ]
        for gap in gaps:
            if self._was_replayed(gap):
                yield Problem("Gap of what was sent again", f"{gap.start:.3f} to {gap.end:.3f} ({gap.reason})")
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

    def _of_resumptions(self) -> Iterator[Problem]:
        """Check that there is no Gap before a connection that resumed.

        Lives with rotations are not checked, because the connection that remains may have delivered less.
        """
        if self._settings.is_resumed and not self._evidence.rotate_calls and not self._settings.rotate_every:
            gaps = [gap for gap in self._evidence.gaps if gap.reason not in ("source", "rotation")]
            anew = [line for line in self._record.lines[1:] if not line.is_resumed]
            if len(gaps) > len(anew):
                yield Problem("Gap although it resumed", f"{len(gaps)} Gaps, {len(anew)} connections began anew")

    def of_starts(self) -> Iterator[Problem]:
        """Check that no Gap begins before the last message that was delivered before the Gap."""
        evidence, tolerance = self._evidence, self._evidence.tolerance
        for gap, delivered in zip(evidence.gaps, evidence.deliveries, strict=True):
            last = self._came_at(delivered.last, gap.start)
            until = last + tolerance
            if any(since <= until and gap.start - tolerance <= ended for since, ended in evidence.standstills):
                # Messages that are read together count as received when the reading begins.
                continue
            if gap.reason == "source" or self._settings.channel_cursors:
                # The server gave the times of this Gap, or it concerns one channel only.
                continue
            after = self._settings.reach + self._settings.up + tolerance
            open_then = [
                line
                for line in self._record.lines
                if line.opened_at <= until and not self._was_over(line, gap.start - after)
            ]
            if len(open_then) != 1:
                # With two connections the Gap may concern one channel only.
                last = min((self._came_at(each, gap.start) for each in delivered.channels.values()), default=gap.start)
            if self._settings.channels_per_connection and gap.reason == "rotation":
                continue
            if self._settings.channels_per_connection:
                # The Gap concerns the channels of one connection, which has ended.
                lost = [line for line in self._record.lines if line.damages or line.ended_at is not None]
                last = min((self._last_came(line, gap.time) for line in lost), default=last)
            if last > gap.start + tolerance:
                text = f"{gap.start:.3f} to {gap.end:.3f} ({gap.reason}), but messages came until {last:.3f}"
                yield Problem("Gap too early", text)

    def _last_came(self, line: LineRecord, until: float) -> float:
        """Return when the last message of a connection reached the client before a time; the opening without one."""
        came = (sent.came_at for sent in line.sent if sent.came_at is not None and sent.came_at <= until)
        return max(came, default=line.opened_at)

    def _came_at(self, message: Numbered | None, default: float) -> float:
        """Return when a message first reached the client, or ``default`` if that is not known."""
        if message is None or message.is_snapshot:
            return default
        copies = (
            sent.came_at
            for line in self._record.lines
            for sent in line.sent
            if (sent.channel, sent.n, sent.is_snapshot) == message
        )
        return min((at for at in copies if at is not None), default=default)

    def _was_replayed(self, gap: Gap) -> bool:
        """Return whether the connection after a Gap delivered all missed messages again, so that none was missing."""
        settings, tolerance = self._settings, self._evidence.tolerance
        opened = [line for line in self._record.lines if line.opened_at <= gap.end + tolerance]
        if not opened or not all(self._was_noticed(line, opened[-1].opened_at) for line in opened[:-1]):
            # A rotation opened this connection beside another one, which was lost.
            return False
        # The feed may stop waiting before the repeated messages arrive. The server omits some numbers of a book, which
        # the feed counts as missing.
        is_slow = settings.reach + settings.up > settings.settle / 2
        has_holes = settings.book and settings.replays == "numbers"
        line, holdups = opened[-1], [*self._evidence.standstills, *self._record.holdups]
        is_disturbed = line.damages or any(until > line.opened_at and since < gap.end for since, until in holdups)
        was_silent = any(is_silent(what) for each in opened for _, what in each.damages)
        # Before the replay the last values show a hole; a greeting that is not declared has no copy.
        is_hidden = settings.snapshots == "last" and settings.replays == "numbers"
        is_replayed = bool(line.replayed) and all(line.replayed.values())
        return is_replayed and not (is_slow or has_holes or is_disturbed or was_silent or is_hidden)

    def _was_noticed(self, line: LineRecord, at: float) -> bool:
        """Return whether a connection had ended by this time, and the client knew that."""
        return line.ended_at is not None and max(line.ended_at, line.left_at or 0.0) <= at

    def _was_silence_true(self, gap: Gap) -> bool:
        """Return whether the server really sent nothing for ``idle_timeout``, for example for lack of subscriptions."""
        tolerance = self._evidence.tolerance

        def was_silent(line: LineRecord) -> bool:
            since = max(gap.start, line.opened_at) + tolerance
            until = since + self._settings.idle_timeout - 2 * tolerance
            was_open = until <= gap.end and not self._was_over(line, until)
            return was_open and not any(since < each.due <= until for each in line.sent)

        return gap.reason == "idle" and any(was_silent(line) for line in self._record.lines)

    def _was_drain_cut(self, gap: Gap) -> bool:
        """Return whether a rotation cut a connection that slow handlers delayed, so that messages were unread."""
        after = self._settings.reach + self._evidence.tolerance
        return gap.reason == "rotation" and any(
            since <= gap.end and gap.start <= until + after for since, until in self._evidence.slow_times
        )

    def _was_close_cut(self, gap: Gap) -> bool:
        """Return whether the client aborted a close that took too long, so that messages may have been unread."""
        tolerance = self._evidence.tolerance
        cuts = (line.cut_at for line in self._record.lines if line.cut_at is not None)
        return gap.reason == "rotation" and any(gap.start - tolerance <= at <= gap.end + tolerance for at in cuts)

    def _was_alike(self, gap: Gap) -> bool:
        """Return whether only heartbeats were sent around a rotation. Equal messages do not prove an overlap.

        Nothing proves it either if no channel is left, so that nothing arrived for a second after the last message.
        """
        since = gap.start - self._settings.lag - self._settings.up - self._settings.skew - 1.0
        sent = [each for line in self._record.lines for each in line.sent if self._was_consumed(each)]
        is_quiet = not any(since <= each.at <= gap.end for each in sent)
        start = gap.start + self._evidence.tolerance
        was_left = gap.end - start > 1.0 and not any(start < each.due <= gap.end for each in sent)
        return gap.reason == "rotation" and (is_quiet or was_left)

    def _was_consumed(self, sent: Sent) -> bool:
        """Return whether the channel of a message had a consumer when it was sent. The book always has one."""
        consumers = [seen for seen in self._evidence.seen if seen.channel == sent.channel]
        return not consumers or any(
            seen.since <= sent.at <= (math.inf if seen.until is None else seen.until) for seen in consumers
        )

    def _was_interrupted(self, gap: Gap) -> bool:
        """Return whether the server told of an outage on the new connection of a rotation, which must agree again."""
        told = [until for _, until in self._record.outages if until <= gap.end + self._settings.reach]
        return gap.reason == "rotation" and any(line.opened_at <= at for at in told for line in self._record.lines[1:])

    def _was_late(self, gap: Gap) -> bool:
        """Return whether a subscription took effect or was answered late on the new connection of a rotation.

        Then no other connection had copies of the earlier messages.
        """
        settings, until = self._settings, gap.end + self._evidence.tolerance
        opened = [line for line in self._record.lines if line.opened_at <= until]
        if gap.reason != "rotation" or not opened:
            return False
        ended = max((line.ended_at for line in opened[:-1] if line.ended_at is not None), default=math.inf)
        # The client closes a connection before the server notices that.
        closed = ended - settings.up - settings.close_lag - self._evidence.tolerance
        return bool(opened[-1].deferrals) or any(closed <= at <= until for at, _ in opened[-1].answers)

    def _was_over(self, line: LineRecord, at: float) -> bool:
        return line.ended_at is not None and line.ended_at < at

    def _is_cause(self, gap: Gap, line: LineRecord, at: float, what: str) -> bool:
        """Return whether a fault of a connection at that time caused this Gap."""
        settings, tolerance = self._settings, self._evidence.tolerance
        since = max(settings.idle_timeout, settings.keepalive) + settings.reach + settings.up + 2.0
        # A silent connection may still answer, so the feed may have kept it for longer than ``since``.
        was_kept = not settings.silence and is_silent(what) and gap.start <= (line.ended_at or gap.start) + tolerance
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
            elif call.result is False and call.flowing_on is not None and not self._was_disturbed(call):
                yield Problem("rotate() is False", f"called at {call.at:.3f}, without a fault until it returned")

    def _was_disturbed(self, call: RotateCall) -> bool:
        """Return whether a fault, a blocked loop or the feed's end may have made the rotation's first attempt fail."""
        settings, evidence = self._settings, self._evidence
        since = call.at - max(settings.idle_timeout, settings.keepalive) - settings.reach - settings.up - 2.0
        moments = [at for line in self._record.lines for at, _ in line.damages]
        moments += [at for at, _ in self._record.refusals]
        # The client also ends a silent new connection. The server notices that later.
        moments += [
            line.ended_at - settings.up - evidence.tolerance
            for line in self._record.lines
            if line.opened_at >= call.at and line.ended_at is not None
        ]
        intervals = [*evidence.standstills, *evidence.slow_times, *self._record.holdups, *((at, at) for at in moments)]
        return call.has_ended or any(began <= call.returned_at and since <= ended for began, ended in intervals)
