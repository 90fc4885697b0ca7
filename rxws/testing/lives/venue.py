"""The server of a life: numbered channels, faults of connections, and a log of its actions."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from random import Random
from typing import Any, Final

from .dialect import LEVELS, Dialect, Request
from .line import Line
from .record import LineRecord, Repeat, VenueRecord
from .schedule import Act, Schedule

__all__ = ["BOOK", "PAST", "Venue", "book_at", "channel_names", "cursor_of"]

ANSWER_PAUSE: Final = 1.0
"""Seconds after which a client treats a single answer as the answer to all channels of its message."""

BOOK: Final = "book"
"""The name of the channel of the order book."""

PAST: Final = "past"
"""The name of the channel whose missed messages the client fetches."""


def channel_names(schedule: Schedule) -> list[str]:
    """Return the names of a life's channels, except those of the book and of the past."""
    return [f"c{number}" for number in range(schedule.settings.channels)]


class Venue:
    """A server with numbered channels.

    Args:
        schedule: the life.
        dialect: the messages of server and client.

    Attributes:
        record: its log.
        lines: its connections, oldest first.
        delivered: for each channel, the last number that the client has delivered.
        deliveries: the messages that the client has delivered, in the order of delivery.
    """

    def __init__(self, schedule: Schedule, dialect: Dialect) -> None:
        self.schedule = schedule
        self.settings = schedule.settings
        self.dialect = dialect
        self.record: Final = VenueRecord()
        self.lines: list[Line] = []
        self.delivered: dict[str, int] = {}
        self.deliveries: list[tuple[str, int]] = []
        self._loop = asyncio.get_running_loop()
        self._rng = Random(f"{schedule.seed}/network")
        self._timers: dict[str, asyncio.TimerHandle] = {}
        # For each channel, the time of the next message, and the random generator that determines it.
        self._next: dict[str, float] = {}
        self._chances: dict[str, Random] = {}
        self._handshakes: deque[tuple[str, float]] = deque()
        self._answers: deque[tuple[str, float]] = deque()
        self._snapshots: deque[tuple[str, float]] = deque()
        self._banned: set[str] = set()
        # All published messages in order, and the index of the first one that the server still remembers.
        self._log: list[tuple[str, int]] = []
        self._remembered_from = 0
        # The channels of which the server remembers nothing.
        self._forgotten: set[str] = set()
        # For each channel, the number before the first one of its last subscription that continued no earlier one.
        self._begun: dict[str, int] = {}
        self._missing = 0
        self._is_calm = False
        # When the outage began in which all messages are left out; None while messages are sent.
        self._out_since: float | None = None
        self._begins_anew = False

    # Publishing

    def numbered(self) -> list[dict[Any, Any]]:
        """Return a filter that all numbered messages pass."""
        return [each for name in (BOOK, PAST, *channel_names(self.schedule)) for each in self.dialect.belongs(name)]

    def everything(self) -> list[dict[Any, Any]] | None:
        """Return a filter that all messages pass. If frames are padded, it does not end lazy decoding."""
        return [*self.numbered(), *self.dialect.kinds()] if self.settings.padding else None

    def start(self) -> None:
        """Start publishing."""
        special = [*([BOOK] if self.settings.book else []), *([PAST] if self.settings.past else [])]
        for name in [*channel_names(self.schedule), *special]:
            self.record.published[name] = []
            self._chances[name] = Random(f"{self.schedule.seed}/channel {name}")
            self._next[name] = self._loop.time()
            self._advance(name)
        if self.settings.heartbeat and self.dialect.heartbeat() is not None:
            self._beat()
        self.pass_time()

    def stop(self) -> None:
        """Stop publishing."""
        self._next.clear()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def pass_time(self) -> None:
        """Publish and deliver all messages that are due.

        A timer calls this. It is also called after the loop was blocked, because a real server would have published
        meanwhile.
        """
        self.catch_up()
        for line in self.lines:
            line.bring()

    def catch_up(self) -> None:
        """Publish all messages that are due, for example before a fault ends connections."""
        now = self._loop.time() + 1e-6
        while self._next:
            channel = min(self._next, key=self._next.__getitem__)
            if self._next[channel] > now:
                if "next" in self._timers:
                    self._timers["next"].cancel()
                self._timers["next"] = self._loop.call_at(self._next[channel], self.pass_time)
                break
            at = self._next[channel]
            self._advance(channel)
            self._publish(channel, at)

    def _advance(self, channel: str) -> None:
        self._next[channel] += self._chances[channel].uniform(0.2, 1.8) / self.settings.rate

    def _publish(self, channel: str, at: float) -> None:
        times = self.record.published[channel]
        times.append(at)
        if channel == BOOK and self._missing:
            self._missing -= 1
            self.record.omitted.add(len(times))
            return
        if self._out_since is not None:
            return
        frame = self.dialect.change(channel, len(times))
        self._log.append((channel, len(times)))
        for line in self.lines:
            if line.is_open and (self.settings.pushed or channel in line.channels):
                line.publish(channel, len(times), frame, at)

    def _beat(self) -> None:
        for line in self.lines:
            if not line.is_mute:
                line.say(self.dialect.heartbeat())
        self._timers["heartbeat"] = self._loop.call_later(self.settings.heartbeat, self._beat)

    # Connections

    def lags(self) -> tuple[float, float]:
        """Return the lags of a new connection: to the server and from it."""
        return self._rng.uniform(0.0, self.settings.up), self._rng.uniform(0.0, self.settings.lag)

    def next_handshake(self) -> tuple[str, float]:
        """Return the fault of the next handshake: its name and a number. The name "" means no fault."""
        word, value = self._handshakes.popleft() if self._handshakes else ("", 0.0)
        if word:
            self.record.refusals.append((self._loop.time(), word))
        return word, value

    def open(self, lag: float, cursor: tuple[str, int] | None = None) -> Line:
        """Accept a connection, and send the messages from the cursor on again."""
        # Publish due messages now, so that none is sent both as a new one and in the replay.
        self.catch_up()
        line = Line(self, LineRecord(len(self.lines) + 1, self._loop.time()), lag)
        self.lines.append(line)
        self.record.lines.append(line.record)
        if self.settings.greets:
            line.say(self.dialect.greeting(line.record.number))
        if self.settings.resumes and self.settings.pushed:
            is_known = self._replay(line, None if cursor is None else self._missed(cursor), self.record.published)
            line.record.replayed[""] = is_known
            if cursor is not None and self.settings.replays == "statement":
                line.say(self.dialect.statement(is_known))
        return line

    def note_delivery(self, channel: str, n: int) -> None:
        """Note that the client has delivered a message."""
        self.delivered[channel] = max(n, self.delivered.get(channel, 0))
        self.deliveries.append((channel, n))

    def resume(self, line: Line) -> None:
        """Send on a new connection the messages that the client has not delivered, unless the server forgot them.

        In a rotation the other connection still delivers, so nothing is sent again.
        """
        is_sole = not any(each.is_open for each in self.lines if each is not line)
        line.record.is_resumed, self._begins_anew = bool(self.delivered) and is_sole and not self._begins_anew, False
        if line.record.is_resumed:
            now = self._loop.time()
            for channel, times in self.record.published.items():
                for n in range(self.delivered.get(channel, len(times)) + 1, len(times) + 1):
                    line.publish(channel, n, self.dialect.change(channel, n), now)

    def _missed(self, cursor: tuple[str, int]) -> set[tuple[str, int]]:
        """Return the messages that follow a cursor.

        A cursor is a position in the order in which the client has delivered. So the messages that the client delivered
        from there on follow it, and all that the client has not delivered.
        """
        place = len(self.deliveries) - 1 - self.deliveries[::-1].index(cursor)
        first = max(0, place + (self.settings.replays != "copies") - self.settings.early)
        return {
            *self.deliveries[first:],
            *((channel, n) for channel, n in self._log if n > self.delivered.get(channel, 0)),
        }

    def _missed_of(self, channel: str, cursor: int) -> set[tuple[str, int]]:
        """Return the messages of a channel that follow its cursor, which is a number.

        A replay that begins before the cursor does not begin before the first message that the client could get.
        """
        first = min(cursor, max(cursor - self.settings.early, self._begun.get(channel, 0)))
        return {(name, n) for name, n in self._log if name == channel and n > first}

    def _remembers(self, messages: set[tuple[str, int]]) -> bool:
        """Return whether the server remembers all of these messages."""
        return not any(
            each in messages and (place < self._remembered_from or each[0] in self._forgotten)
            for place, each in enumerate(self._log)
        )

    def _replay(self, line: Line, missed: set[tuple[str, int]] | None, channels: Iterable[str]) -> bool:
        """Send the missed messages of these channels again. Return whether the server remembers all of them.

        If it does not, or if there is no statement, the last values are sent first.
        """
        is_known = missed is not None and self._remembers(missed)
        if self.settings.snapshots == "last" and not (is_known and self.settings.replays == "statement"):
            for channel in channels:
                self._send_snapshot(line, channel)
        for channel, n in self._log if is_known else ():
            if missed is not None and (channel, n) in missed:
                line.publish(channel, n, self.dialect.change(channel, n), self._loop.time())
        return is_known

    # Subscriptions

    def asked(self, line: Line, request: Request) -> None:
        """Subscribe or unsubscribe, and answer."""
        self.catch_up()
        if not request.subscribes:
            named = [channel for channel, number in line.ids.items() if number in request.ids]
            if len(named) < len(request.ids) and not line.ended:
                self.record.problems.append(f"the ids {request.ids} were unsubscribed, but {line.ids} are subscribed")
            for channel in (*request.channels, *named):
                line.answered.pop(channel, None)
                if channel in line.channels:
                    line.leave(channel)
                elif channel in line.deferred:
                    line.deferred.remove(channel)
                elif channel not in line.ended:
                    self.record.problems.append(f"{channel} was unsubscribed, but was not subscribed")
            return
        for channel in request.channels:
            if channel in line.answered:
                self.record.repeats.append(Repeat(self._loop.time(), channel, line.answered[channel]))
        is_new = any(channel not in line.channels for channel in request.channels)
        word, value = self._answers.popleft() if self._answers and is_new else ("", 0.0)
        if self.settings.gives_ids and word != "refused":
            # No client can recognize a message, or end a subscription, before the answer with its id.
            word = ""
        if not self._banned.isdisjoint(request.channels):
            self._refuse(line, request)
        elif word == "deferred":
            line.deferred.update(request.channels)
            line.record.deferrals.append((self._loop.time(), self._loop.time() + value))
            timer = self._loop.call_later(value, self._take_effect, line, request)
            self._timers[f"effect {len(self.record.effects)} {len(line.record.deferrals)}"] = timer
        elif word == "refused":
            self._refuse(line, request)
        else:
            self._subscribe(line, request, word in ("", "single"), word == "single" or self.settings.gives_ids)
            if word:
                # The feed may have waited for the answer in vain.
                line.record.replayed |= dict.fromkeys(request.channels, False)
            if word == "late":
                self._loop.call_later(value, self._consent, line, request)

    def _consent(self, line: Line, request: Request) -> None:
        answer = self.dialect.answer(request, False)
        if self.settings.gives_ids and answer is not None:
            channel, *others = request.channels
            if others:
                self._consent(line, request._replace(channels=tuple(others)))
                request = request._replace(channels=(channel,))
            if channel not in line.ids:
                # It was unsubscribed meanwhile.
                return
            answer = self.dialect.with_id(self.dialect.answer(request, False) or answer, line.ids[channel])
        if self.settings.channel_cursors:
            channel, is_sole = request.channels[0], len(request.channels) == 1
            is_recovered = all(line.positions[each][1] for each in request.channels)
            answer = self.dialect.recovered(channel, line.positions[channel][0] if is_sole else None, is_recovered)
        # Messages of the subscription that had the id before precede the answer, and those of the new one follow it.
        is_named = self.settings.gives_ids
        due = line.say(answer, [*self.record.published] if is_named else request.channels, request.channels * is_named)
        if due is not None:
            # After one answer to a message with several channels, the client waits for further answers.
            pause = ANSWER_PAUSE if len(request.channels) > 1 else 0.0
            line.answered |= dict.fromkeys(request.channels, due + pause)
            line.record.answers += [(due + pause, channel) for channel in request.channels]

    def _refuse(self, line: Line, request: Request) -> None:
        now = self._loop.time()
        line.record.refused += [each for each in request.channels if each not in line.record.refused]
        self.record.effects += [(now, each, True) for each in request.channels]
        line.say(self.dialect.answer(request, True))

    def _take_effect(self, line: Line, request: Request) -> None:
        """Subscribe the deferred channels, except those that have been unsubscribed since."""
        left = tuple(each for each in request.channels if each in line.deferred or each in line.channels)
        if left:
            self._subscribe(line, request._replace(channels=left), True)
            # The feed may have waited for the answer in vain.
            line.record.replayed |= dict.fromkeys(left, False)

    def _subscribe(self, line: Line, request: Request, is_answered: bool, is_single: bool = False) -> None:
        if not line.is_open:
            return
        missed: dict[str, set[tuple[str, int]] | None] = {}
        for channel in request.channels:
            cursor = request.cursors.get(channel)
            missed[channel] = mine = None if cursor is None else self._missed_of(channel, cursor)
            is_known = mine is not None and self._remembers(mine)
            position = cursor if cursor is not None and is_known else len(self.record.published.get(channel, ()))
            line.positions[channel] = position, is_known
            if not (is_known or channel in line.channels):
                self._begun[channel] = position
        limit = self.settings.channels_per_connection
        if limit and len({*line.channels, *request.channels}) > limit:
            self.record.problems.append(f"{request.channels} are too many beside {list(line.channels)}")
        new = [channel for channel in request.channels if channel not in line.channels]
        for channel in new:
            line.begin(channel)
        if is_answered:
            answered = [Request(True, (each,)) for each in request.channels] if is_single else [request]
            for each in answered:
                self._consent(line, each)
        now = self._loop.time()
        for channel in request.channels:
            if channel in line.record.refused:
                line.record.refused.remove(channel)
            line.deferred.discard(channel)
            if channel in new:
                self.record.effects.append((now, channel, False))
                if self.settings.channel_cursors:
                    line.record.replayed[channel] = self._replay(line, missed[channel], [channel])
                else:
                    self._send_snapshot(line, channel)

    def _send_snapshot(self, line: Line, channel: str) -> None:
        n = len(self.record.published.get(channel, ()))
        if channel == BOOK:
            if self.settings.sends_book:
                frame = self.dialect.snapshot(channel, n)
                line.publish(channel, n, frame, self._loop.time(), is_snapshot=True)
            return
        is_last = self.settings.snapshots == "last"
        frame = self.dialect.change(channel, n) if is_last else self.dialect.snapshot(channel, n)
        # A snapshot has the number of another message, which no sequence of messages has.
        is_sent = self.settings.resumes if is_last else bool(self.settings.snapshots) and channel != PAST
        if frame is not None and n and is_sent:
            line.publish(channel, n, frame, self._loop.time(), is_snapshot=not is_last)

    # Books

    async def snapshot(self) -> dict[str, Any]:
        """Return the current book. The next fault in the queue of snapshot faults is applied first."""
        word, value = self._snapshots.popleft() if self._snapshots else ("", 0.0)
        n = len(self.record.published.get(BOOK, ()))
        if word == "fail":
            raise ConnectionError("there is no snapshot now")
        if word == "hang":
            await asyncio.sleep(1000.0)
        if word == "late":
            await asyncio.sleep(value)
        if word == "stale":
            n = max(0, n - int(value))
        return {"last": n, "levels": book_at(n)}

    # Faults

    def act(self, act: Act) -> None:
        """Carry out an act of the schedule."""
        self.catch_up()
        if self._is_calm:
            return
        if act.kind == "refuse":
            self._handshakes.extend([(act.word, 0.0)] * int(act.value))
        elif act.kind == "handshake":
            self._handshakes.append((act.word, act.value))
        elif act.kind == "answer":
            self._answers.append((act.word, act.value))
        elif act.kind == "ban":
            self._banned.add(act.word)
        elif act.kind == "snapshot":
            self._snapshots.append((act.word, act.value))
        elif act.kind == "hole":
            self._missing += int(act.value)
        elif act.kind == "forget":
            if act.word:
                self._forgotten.add(act.word)
            else:
                self._remembered_from = len(self._log)
        elif act.kind == "signal":
            self._signal()
        elif act.kind == "outage":
            # A server that sends missed messages again has no outages: it would have to send their reports again, too.
            sends_again = self.settings.replays or self.settings.is_resumed
            if self.settings.tells and not sends_again and self._out_since is None:
                self._out_since = self._loop.time()
                self._timers["outage"] = self._loop.call_later(act.value, self._end_outage)
        elif act.kind == "end":
            for line in self._chosen(act.value) if self.settings.ends_channels else ():
                line.end_channel(act.word)
        elif act.kind == "begin anew":
            self._begins_anew = True
        elif act.kind == "hiccup":
            for line in self._chosen(0.0 if act.word == "newest" else 1.0):
                line.postpone(act.value)
        else:
            for line in self._chosen(act.value):
                self._damage(line, act)

    def calm(self) -> None:
        """Stop all faults."""
        self._is_calm = True
        self._begins_anew = False
        self._end_outage()
        self._handshakes.clear()
        self._answers.clear()
        self._snapshots.clear()
        self._missing = 0

    def _end_outage(self) -> None:
        """Stop leaving messages out, and report the outage to the clients."""
        self.catch_up()
        if self._out_since is not None:
            since, until = self._out_since, self._loop.time()
            self._out_since = None
            self.record.outages.append((since, until))
            for line in self.lines:
                line.tell(self.dialect.gap(since, until))

    def _signal(self) -> None:
        if self._out_since is not None:
            # During an outage nothing may be sent: the signal would count as the last message before the Gap.
            return
        for line in [each for each in self.lines if each.is_open][-1:]:
            line.say(self.dialect.signal())

    def _chosen(self, which: float) -> list[Line]:
        lines = [line for line in self.lines if line.is_open]
        return lines if which == 2 else lines[:1] if which == 1 else lines[-1:]

    def _damage(self, line: Line, act: Act) -> None:
        if act.kind == "mute":
            if not self.settings.idle_timeout:
                return
            line.damage("mute")
            line.mute()
            return
        if act.kind == "half-open" and line.record.damages:
            # Do not add this fault to a connection that has a fault already, because the connection may be closing.
            return
        if act.kind == "protocol" and (line.is_dead or line.is_late):
            # The client would never receive the fault.
            return
        line.damage(f"{act.kind} {act.word}".rstrip())
        if act.kind == "half-open":
            line.die()
        elif act.kind == "protocol":
            line.break_protocol(is_answered=act.word != "unanswered")
        elif act.word == "rst":
            line.reset()
        elif act.word == "fin":
            line.end_silently()
        else:
            line.end_with_code(int(act.word))


def book_at(n: int) -> dict[str, int]:
    """Return the book after ``n`` changes: for each level, the number of its last change."""
    return {str(k % LEVELS * 7 % LEVELS): k for k in range(max(1, n - LEVELS + 1), n + 1)}


def cursor_of(url: str) -> tuple[str, int] | None:
    """Return the cursor in a URL, which is a channel and a number; None if there is none."""
    _, found, cursor = url.partition("?cursor=")
    channel, _, n = cursor.rpartition(":")
    return (channel, int(n)) if found else None
