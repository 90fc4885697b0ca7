"""The connection of a NatsFeed. It reads a stream of JetStream, and has the API of a websocket."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NoReturn, Self

from nats.errors import Error as NatsError

from .broker import CLOSE_TIMEOUT, Broker, BrokerError, UnsuitableError
from .consumer import MISSED_HEARTBEATS, Consumer, Message, start_at, stored_at
from .control import CONTROL
from .frames import BinaryFrame, MissingFrame, TextFrame, make_frame
from .look_back import look_back
from .merging import Merge
from .place import Place
from .sharing import Partitions
from .stream import seconds_of, stream_info
from .subjects import Template, merged

__all__ = ["Subscription"]

#: Seconds to wait for further changes of the wanted subjects, so that a thousand new streams cause one change.
DEBOUNCE: Final = 0.02

#: Seconds after which consumers for subjects that are no longer wanted are replaced.
NARROWING_DELAY: Final = 1.0


class Subscription:
    """Reads the stream on one connection, in order, beginning at a place.

    Args:
        broker: the connection.
        stream: the stream's name.
        place: the place where it begins, which advances with each frame that is taken.
        template: the form of subjects.
        batch: the number of messages that are requested at a time.
        idle_heartbeat: seconds between the heartbeats of an idle consumer.

    Attributes:
        is_resumed: whether it begins where the last connection ended, with no message missing in between.
        is_begun: whether :meth:`begin` was called.
        changes: the number of times that the consumers were replaced, because other subjects were wanted.
    """

    def __init__(
        self, broker: Broker, stream: str, place: Place, template: Template, batch: int, idle_heartbeat: float
    ) -> None:
        self.is_resumed = False
        self.is_begun = False
        self.changes = 0
        self._broker = broker
        self._stream = stream
        self._place = place
        self._batch = batch
        self._idle_heartbeat = idle_heartbeat
        self._accepts = template.accepts()
        self._everything = template.everything
        self._partitions: Partitions | None = None
        self._known: dict[str, bool] = {}
        self._loop = asyncio.get_running_loop()
        self._consumers: list[Consumer] = []
        self._merge: Merge[Message] = Merge(0, 1)
        self._ready: deque[tuple[int, Message]] = deque()
        # The number of the last message that was taken. It is known to be delivered when the next one is taken.
        self._taken = 0
        # The number up to which it was verified that the stream lost no unread messages, and the stream's first number
        # at that time.
        self._verified = self._horizon = 0
        self._waiter: asyncio.Future[None] | None = None
        self._error: Exception | None = None
        self._first_time = 0.0
        self._patterns: tuple[str, ...] | None = ()
        self._wanted: Callable[[], tuple[str, ...] | None] = lambda: ()
        self._making: asyncio.TimerHandle | None = None
        self._lock = asyncio.Lock()
        self._probing = False
        self._is_throttled = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._checking = self._loop.call_later(idle_heartbeat, self._check, self._loop.time() + idle_heartbeat)
        broker.lost.add_done_callback(self._on_lost)

    # Opening

    async def open(self) -> None:
        """Find out whether the stream still has the messages after the place.

        Raises:
            ApiError: there is no such stream.
            UnsuitableError: the feed has a share, and the stream has no partitions, or fewer than workers.
        """
        info = await stream_info(self._broker, self._stream)
        place, state = self._place, info["state"]
        self._partitions = Partitions.of(info["config"], place.share)
        if place.share is not None and self._partitions is None:
            raise UnsuitableError(
                f"share needs partitions: stream {self._stream!r} has no subject_transform with {{{{partition(n)}}}}"
            )
        if self._partitions is not None and not self._partitions.mine:
            raise UnsuitableError(
                f"share={place.share} has no partition: stream {self._stream!r} has {self._partitions.count}, which is "
                "the largest number of workers"
            )
        first, last = state["first_seq"], state["last_seq"]
        self._first_time = max(0.0, seconds_of(state["first_ts"]))
        is_same = place.created in (None, info["created"])
        place.created = info["created"]
        if place.following is None:
            if place.start.get("deliver_policy") == "new":
                place.following = last + 1
            self.is_resumed = True
        elif is_same and place.following <= last + 1 and first <= place.following:
            self.is_resumed = True
        elif not is_same or place.following > last + 1:
            # It is another stream with that name. Read it from its beginning, because all its messages are new.
            place.following = max(first, 1)
            place.has_looked_back = True
            place.watermarks.forget()
        else:
            place.following = first

    def begin(self, wanted: Callable[[], tuple[str, ...] | None], is_first: bool) -> None:
        """Begin to read. Before this, no frame arrives.

        Args:
            wanted: returns the patterns of the wanted subjects; None for all subjects.
            is_first: whether no connection has delivered before, so that this one reports missing messages.
        """
        self.is_begun = True
        self._wanted = wanted
        if is_first and not self.is_resumed:
            # The length of the gap is unknown, because the place has no time.
            self._place.missing.append(MissingFrame.between(self._first_time, self._first_time))
            self._wake()
        self._make_soon(0.0)

    # The wanted subjects

    def changed(self, *, is_less: bool) -> None:
        """Check the wanted subjects again: soon, or in a second if any are no longer wanted."""
        if self.is_begun and self._error is None:
            self._make_soon(NARROWING_DELAY if is_less else DEBOUNCE)

    def _make_soon(self, delay: float) -> None:
        due = self._loop.time() + delay
        if self._making is None or self._making.when() > due:
            if self._making is not None:
                self._making.cancel()
            self._making = self._loop.call_at(due, lambda: self._start(self._make_consumers()))

    async def _make_consumers(self) -> None:
        """Replace the consumers by those for the subjects that are wanted now."""
        self._making = None
        async with self._lock:
            patterns = self._stored(self._wanted())
            if patterns == self._patterns and self._consumers:
                return
            former, self._consumers = self._consumers, []
            self._patterns = patterns
            self.changes += bool(former)
            for consumer in former:
                await consumer.close()
            if not self._place.has_looked_back:
                await look_back(self._broker, self._stream, self._place)
            await self._make(patterns)

    def _stored(self, patterns: tuple[str, ...] | None) -> tuple[str, ...] | None:
        """Return patterns of subjects as the stream stores them: with the partition, if it has partitions."""
        if self._partitions is None or (patterns is None and self._place.share is None):
            return patterns
        return merged(self._partitions.expanded((self._everything,) if patterns is None else patterns))

    async def _make(self, patterns: tuple[str, ...] | None) -> None:
        following = self._place.following
        if self._taken:
            following = max(following or 0, self._taken + 1)
        start = self._place.start if following is None else start_at(following)
        subjects: list[str | None] = [None] if patterns is None else [CONTROL, *patterns]
        if start["deliver_policy"] == "last_per_subject" and patterns is None:
            subjects = [">"]
        # Discard messages of the former consumers that were not taken, because the new ones deliver them again.
        self._ready.clear()
        merge = self._merge = Merge(len(subjects), following or 1)
        self._consumers = [self._consumer(number, pattern, merge) for number, pattern in enumerate(subjects)]
        for consumer in self._consumers:
            await consumer.create(start)
        # Messages of the first consumers may have waited for the last consumer.
        self._give()

    def _consumer(self, number: int, pattern: str | None, merge: Merge[Message]) -> Consumer:
        # Messages of a single consumer need no merging.
        is_alone = merge.consumers == 1
        return Consumer(
            *(self._broker, self._stream, pattern, self._batch, self._idle_heartbeat),
            partial(self._pushed, merge) if is_alone else partial(self._merged, merge, number),
            partial(self._passed, merge, number),
            self._fail,
            partial(self._has_room, merge, number),
            self._loop.time,
        )

    def _has_room(self, merge: Merge[Message], number: int) -> bool:
        """Return whether a consumer may request more messages. If not, all try again when few messages are left."""
        has_room = len(self._ready) + merge.held(number) < self._batch
        self._is_throttled = self._is_throttled or not has_room
        return has_room

    # Arriving messages

    def _pushed(self, merge: Merge[Message], sequence: int, message: Message) -> None:
        if merge is self._merge:
            self._ready.append((sequence, message))
            self._wake()

    def _merged(self, merge: Merge[Message], number: int, sequence: int, message: Message) -> None:
        if merge is self._merge:
            merge.add(number, sequence, message)
            self._give()

    def _passed(self, merge: Merge[Message], number: int, sequence: int) -> None:
        if merge is not self._merge:
            return
        merge.passed(number, sequence)
        self._give()
        if number < len(self._consumers) and self._has_room(merge, number):
            self._start(self._consumers[number].ask())

    def _give(self) -> None:
        """Make messages available in the order of the stream, and probe the consumers that they wait for."""
        merge = self._merge
        while (found := merge.take()) is not None:
            self._ready.append(found)
        if self._ready:
            self._wake()
        waits_for = merge.waits_for
        if waits_for and not self._probing:
            self._probing = True
            # Probe in a later callback, because the other consumers' messages may have arrived in the same read.
            self._loop.call_soon(self._probe)

    def _probe(self) -> None:
        self._probing = False
        merge = self._merge
        newest = merge.newest
        for number in merge.waits_for:
            if number < len(self._consumers):
                self._start(self._consumers[number].probe(newest))

    def _start(self, coroutine: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = self._loop.create_task(coroutine, name="rxws nats")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error if isinstance(error, Exception) else BrokerError(repr(error)))

    # Failures

    def _on_lost(self, lost: asyncio.Future[None]) -> None:
        error = lost.exception()
        self._fail(error if isinstance(error, Exception) else BrokerError("the connection to NATS was closed"))

    def _fail(self, error: Exception) -> None:
        self._error = self._error or error
        self._wake()

    def _check(self, due: float) -> None:
        now = self._loop.time()
        if now - due > self._idle_heartbeat:
            # The event loop was blocked, so messages that arrived meanwhile were not read yet.
            for consumer in self._consumers:
                consumer.heard_at = now
        for consumer in self._consumers:
            consumer.check(now)
        pause = self._idle_heartbeat * MISSED_HEARTBEATS / 5
        self._checking = self._loop.call_later(pause, self._check, now + pause)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # The API of a websocket

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> TextFrame | BinaryFrame | MissingFrame:
        """Wait for the next frame. Cancelling loses no frame."""
        place, ready = self._place, self._ready
        if self._taken:
            # The reader asks for another frame only after it has delivered the last one.
            self._advance(self._taken)
            self._taken = 0
        while True:
            if place.missing:
                return place.missing.popleft()
            if not ready:
                if self._error is not None:
                    raise self._error
                await self._wait()
                continue
            if ready[0][0] > self._verified and self._is_behind():
                await self._verify()
                continue
            sequence, message = ready.popleft()
            if self._is_throttled and len(ready) <= self._batch // 2:
                self._is_throttled = False
                self._start(self._ask_all())
            if place.following is not None and place.following < sequence and place.following < self._horizon:
                # The stream lost the messages at this place before they were read.
                now = stored_at(message[1])
                place.missing.append(MissingFrame.between(now, now))
                place.following = sequence
                ready.appendleft((sequence, message))
                continue
            frame = self._frame_of(sequence, message)
            if frame is not None:
                self._taken = sequence
                return frame
            self._advance(sequence)

    def _is_behind(self) -> bool:
        return any(consumer.is_behind for consumer in self._consumers)

    def _advance(self, sequence: int) -> None:
        """Move the place past a message. A late message does not move it back."""
        following = self._place.following
        if following is None or following <= sequence:
            self._place.following = sequence + 1

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    async def _verify(self) -> None:
        """Ask the stream for its first number, after all available messages were taken."""
        newest = self._ready[-1][0]
        info = await stream_info(self._broker, self._stream)
        self._verified, self._horizon = newest, info["state"]["first_seq"]

    async def _ask_all(self) -> None:
        for consumer in self._consumers:
            await consumer.ask()

    def _frame_of(self, sequence: int, message: Message) -> TextFrame | BinaryFrame | None:
        subject, _reply, data, headers = message
        is_data = self._known.get(subject)
        if is_data is None:
            is_data = self._is_data(subject)
        if is_data:
            return make_frame(data, sequence, subject, headers)
        if subject.startswith(_CONTROL_ROOT):
            for start, end in self._place.take(data):
                self._place.missing.append(MissingFrame.between(start, end))
        return None

    def _is_data(self, subject: str) -> bool:
        if len(self._known) > _MOST_SUBJECTS:
            self._known.clear()
        plain = subject if self._partitions is None else self._partitions.stripped(subject)
        is_data = self._known[subject] = plain is not None and self._accepts(plain)
        return is_data

    async def send(self, _message: Any) -> NoReturn:
        """Raise TypeError: a feed from NATS only reads."""
        raise TypeError("a NatsFeed only reads")

    async def close(self) -> None:
        """Close the connection. The next one delivers the messages that were not taken."""
        self._checking.cancel()
        if self._making is not None:
            self._making.cancel()
        self._fail(BrokerError("the connection to NATS was closed"))
        for task in list(self._tasks):
            task.cancel()
        # If the connection is lost, the server deletes the consumers by itself after 30 s.
        with contextlib.suppress(NatsError, OSError, TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                for consumer in self._consumers:
                    await consumer.close()
        await self._broker.close()


_CONTROL_ROOT: Final = CONTROL.removesuffix(">")

#: The number of subjects that are remembered.
_MOST_SUBJECTS: Final = 100_000
