"""Publishes an outbox in order on one connection to the broker, and handles the acknowledgements."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, cast

import msgspec

from .broker import ApiError, Broker, BrokerError
from .client import Headers
from .control import CLOSED, CONTROL, JOINING, Control, Peers, control_subject, read_control
from .outbox import Held, Hole, Mark, Outbox

__all__ = ["Identity", "Publisher", "Timing"]

_encode: Final = msgspec.json.encode

#: A message that is older than this part of the duplicate window must not be published before the relay knows whether
#: another relay has stored it.
OLD: Final = 0.5

#: The number of a statement for which no entry is in flight.
UNTRACKED: Final = -1


@dataclass(frozen=True, slots=True)
class Timing:
    """The times of a relay, in seconds; see :func:`rxws.nats.relay`."""

    ack_timeout: float
    watermark_interval: float
    settle: float
    patience: float


@dataclass(slots=True)
class Identity:
    """The names of a relay, and the interval in which it has published all messages.

    Attributes:
        feed: the name of the captured feed.
        relay: the relay's name.
        boot: an id that differs at each start.
        is_shared: whether other relays publish the same messages with the same ids.
        since: the start of the interval that is being published; None before it begins.
        skip_before: messages that were received before this time are not published, because they would be out of order.
        skips_stale: whether another relay has stored the messages from before the process was suspended.
        joining_since: when the relay began to wait for its turn, on the monotonic clock; None if it does not wait.
        announced_at: when it last stated that it waits.
    """

    feed: str
    relay: str
    boot: str
    is_shared: bool
    since: float | None = None
    skip_before: float = 0.0
    skips_stale: bool = False
    joining_since: float | None = None
    announced_at: float = 0.0
    stale_until: float | None = None

    def rewind(self, hole: Hole) -> None:
        """Return to the interval before a hole, because entries before the hole are published again."""
        self.since = hole.before
        self.skip_before, self.skips_stale = 0.0, False

    def state(self, event: Any, since: float, until: float, **more: Any) -> Control:
        """Return a statement of this relay."""
        since = min(since, until)
        return Control(event=event, feed=self.feed, relay=self.relay, boot=self.boot, since=since, time=until, **more)


@dataclass(slots=True)
class Counts:
    """The number of published messages, and the number of those that the broker already had."""

    published: int = 0
    duplicates: int = 0


@dataclass(slots=True, eq=False)
class Publisher:
    """Publishes until an error occurs, or until the outbox is empty and the relay is ending.

    Args:
        broker: the connection.
        outbox: the messages to publish.
        identity: the relay that publishes.
        peers: the statements of other relays.
        timing: the times of the relay.
        counts: the counters of the relay.
        is_ending: returns whether no more messages will be added.
        refused: called with the error of a message that cannot be published.
        begins: called before entries are published.

    Attributes:
        max_payload: the largest number of bytes of a message.
        window: seconds within which the broker drops copies.
        knows_peers: whether the statements of other relays were read from the stream.
    """

    broker: Broker
    outbox: Outbox
    identity: Identity
    peers: Peers
    timing: Timing
    counts: Counts
    is_ending: Callable[[], bool]
    refused: Callable[[Exception], None]
    begins: Callable[[], object]
    max_payload: int = 0
    window: float = 0.0
    knows_peers: bool = False
    _now: Callable[[], float] = field(default_factory=lambda: asyncio.get_running_loop().time)
    _is_awake: bool = False
    _waiter: asyncio.Future[None] | None = None
    # Publications for which the library has no buffer: subject, reply subject, payload and headers.
    _unsent: list[tuple[str, str, bytes, str]] = field(default_factory=list)
    _failure: Exception | None = None
    # The hole that this connection stated last.
    _told: Hole | None = None
    _prefix: str = ""
    _origin: str = ""
    _old_before: int = 0
    _has_progress: bool = False
    _progress_at: float = 0.0

    async def start(self) -> None:
        """Listen for acknowledgements and for other relays."""
        client = self.broker.client
        self._prefix = client.new_inbox() + "."
        self._origin = control_subject(self.identity.relay).partition(".")[2]
        self.max_payload = min(self.max_payload or client.max_payload, client.max_payload)
        self.broker.lost.add_done_callback(lambda _: self.wake())
        self.identity.joining_since = None
        await client.receive(f"{self._prefix}*", self._on_ack)
        if self.identity.is_shared:
            await client.receive(CONTROL, self._on_control)
        self.tick()

    def wake(self) -> None:
        """Check again for entries to publish."""
        self._is_awake = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def tick(self) -> None:
        """Check that acknowledgements arrive in time. Called at each watermark interval."""
        now = self._now()
        self._old_before = time.time_ns() - int(self.window * OLD * 1e9) if self.identity.is_shared else 0
        if self._has_progress or not self.outbox.in_flight:
            self._has_progress, self._progress_at = False, now
        elif now - self._progress_at > self.timing.ack_timeout:
            self._failure = BrokerError(f"the broker acknowledged nothing for {self.timing.ack_timeout:g} s")
        self.wake()

    # Messages from the broker

    def _on_ack(self, subject: str, _reply: str, data: bytes, _headers: Headers) -> None:
        number = int(subject[len(self._prefix) :])
        if b'"seq"' not in data or b'"error"' in data:
            error = _refusal(data)
            if isinstance(error, ApiError) and error.err_code == _TOO_LARGE and self.outbox.refused(number):
                self.refused(error)
            else:
                self._failure = self._failure or error
            self.wake()
            return
        self._has_progress = True
        if type(self.outbox.acknowledged(number)) is Held:
            self.counts.published += 1
            if b'"duplicate"' in data:
                self.counts.duplicates += 1
        if self._waiter is not None and (self.outbox.head is not None or self.is_ending()):
            self.wake()

    def _on_control(self, _subject: str, _reply: str, data: bytes, _headers: Headers) -> None:
        control = read_control(data)
        if control is not None:
            self.peers.heard(control, self._now())
            self.wake()

    # Publishing

    async def run(self) -> None:
        """Publish until the outbox is empty and the relay is ending.

        Raises:
            BrokerError: the connection was lost, or the broker refused a message or acknowledged none in time.
        """
        outbox = self.outbox
        while True:
            self.broker.check()
            if self._failure is not None:
                raise self._failure
            self._is_awake = False
            has_advanced = self._advance()
            if self._unsent:
                await self._send_unsent()
            if has_advanced:
                # Other tasks run between two batches.
                await asyncio.sleep(0)
            elif outbox.is_empty and self.is_ending():
                return
            else:
                await self._wait()

    async def _wait(self) -> None:
        """Wait until :meth:`wake` is called. No timeout is needed, because the relay's ticks call it."""
        if not self._is_awake:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def _advance(self) -> bool:
        """Process entries of the outbox. Return False if the next one must wait, or if there is none."""
        self.begins()
        outbox = self.outbox
        for _ in range(BATCH):
            entry = outbox.head
            if entry is None or not outbox.has_room:
                return False
            if type(entry) is Held:
                has_advanced = self._publish_held(entry)
            elif isinstance(entry, Mark):
                has_advanced = self._pass_mark(entry)
            else:
                has_advanced = self._pass_hole(cast("Hole", entry))
            if not has_advanced:
                return False
        return True

    def _publish_held(self, held: Held) -> bool:
        identity = self.identity
        if held.received < self._old_before or held.received < identity.skip_before * 1e9 or identity.skips_stale:
            decided = self._decide_on_old(held)
            if decided is not None:
                return decided
        if len(held.payload) + _HEADERS > self.max_payload:
            self.outbox.reject()
            self.refused(BrokerError(f"a message of {len(held.payload)} bytes exceeds {self.max_payload}, the largest"))
            return True
        kind = _BINARY if held.is_binary else ""
        headers = f"Nats-Msg-Id: {held.identity}\r\nRxws-From: {self._origin} {held.number} {held.received}\r\n{kind}"
        self._send(self.outbox.take(), held.subject, held.payload, headers)
        return True

    def _decide_on_old(self, held: Held) -> bool | None:
        """Return True if a message is skipped, False if it must wait, and None if it is published."""
        identity, seconds = self.identity, held.received / 1e9
        if seconds < identity.skip_before or identity.skips_stale:
            self.outbox.skip()
            self.counts.duplicates += identity.skips_stale
            return True
        if held.received < self._old_before and self.peers.is_alive(self._now()):
            if self.peers.covers(seconds, seconds):
                # The broker may have forgotten the other relay's copy.
                self.outbox.skip()
                self.counts.duplicates += 1
                return True
            if self.peers.may_cover(seconds):
                return False
        return None

    def _send(self, number: int, subject: str, payload: bytes, headers: str) -> None:
        reply = f"{self._prefix}{number}"
        if self._unsent or not self.broker.client.put(subject, reply, payload, headers):
            self._unsent.append((subject, reply, payload, headers))

    async def _send_unsent(self) -> None:
        unsent, self._unsent = self._unsent, []
        for subject, reply, payload, lines in unsent:
            headers = dict(line.split(": ", 1) for line in lines.splitlines())
            await self.broker.client.publish(subject, payload, reply=reply, headers=headers)

    def _say(self, control: Control, number: int = UNTRACKED) -> None:
        """Publish a statement, for the entry in flight with this number."""
        self._send(number, control_subject(control.relay), _encode(control), f"Nats-Msg-Id: {_id_of(control)}\r\n")

    def _pass_mark(self, mark: Mark) -> bool:
        # A mark states that all entries before it are stored, so it waits for their acknowledgements.
        if self.outbox.in_flight:
            return False
        since = self.identity.since
        if since is not None and mark.time > since:
            self._say(self.identity.state("Alive", since, mark.time), self.outbox.take())
        else:
            self.outbox.skip()
        return True

    # Holes

    def _pass_hole(self, hole: Hole) -> bool:
        identity = self.identity
        if hole.reason == CLOSED:
            self._close(hole)
            return True
        self._tell(hole)
        following = self.outbox.next_held
        since = hole.since
        if since is None:
            since = time.time() if following is None else following.received / 1e9
        if hole.is_ordered or not identity.is_shared:
            return self._begin(since)
        if hole.stale_since is not None:
            return self._pass_standstill(hole.stale_since)
        return self._join(since)

    def _tell(self, hole: Hole) -> None:
        """State that messages are missing, once on each connection for a hole that ends an interval."""
        if self._told is hole:
            return
        self._told = hole
        identity = self.identity
        if hole.before is None:
            hole.before = identity.since
        if hole.before is not None and hole.until is not None:
            event = "Overflowed" if hole.reason in ("overflow", "refused") else "Disconnected"
            until = max(hole.before, hole.until)
            self._say(identity.state(event, hole.before, until, reason=hole.reason, dropped=hole.dropped))
        identity.since, identity.joining_since = None, None
        identity.skips_stale = False
        identity.stale_until = None

    def _close(self, hole: Hole) -> None:
        since, until = self.identity.since, cast("float", hole.until)
        if since is None:
            self.outbox.skip()
        else:
            self._say(self.identity.state("Disconnected", since, until, reason=CLOSED), self.outbox.take())

    def _join(self, since: float) -> bool:
        """Begin at ``since`` if that keeps the order: after another relay, or as the first of the waiting relays."""
        identity, timing = self.identity, self.timing
        now = self._now()
        first = self.peers.first_after(since)
        if first is not None:
            return self._begin(first, skip_before=first if first > since else 0.0)
        if identity.joining_since is None:
            identity.joining_since = now
            identity.announced_at = -timing.watermark_interval
        if now - identity.announced_at >= timing.watermark_interval:
            identity.announced_at = now
            self._say(identity.state("Disconnected", since, since, reason=JOINING))
        wait = timing.settle if self.knows_peers else timing.patience
        if self.peers.is_alive(now) or now - identity.joining_since < wait or not self.peers.goes_first(since, now):
            return False
        return self._begin(since)

    def _begin(self, since: float, skip_before: float = 0.0) -> bool:
        identity = self.identity
        identity.since, identity.skip_before = since, skip_before
        identity.joining_since = None
        self._say(identity.state("Connected", since, since), self.outbox.take())
        return True

    def _pass_standstill(self, stale_since: float) -> bool:
        """Decide whether the messages that follow, which may be older than the duplicate window, are already stored."""
        identity, now = self.identity, self._now()
        if identity.stale_until is None:
            identity.stale_until = time.time()
            identity.joining_since = now
        covered = self.peers.covers(stale_since, identity.stale_until)
        waited = now - (identity.joining_since or now) >= self.timing.patience
        if not covered and not waited:
            return False
        identity.skips_stale = covered
        identity.skip_before = 0.0
        self.outbox.skip()
        return True


#: The number of JetStream's error "message size exceeds maximum allowed".
_TOO_LARGE: Final = 10054

#: The number of entries that are published before other tasks run.
BATCH: Final = 100

_BINARY: Final = "Rxws-Kind: b\r\n"

#: The largest number of bytes of a message's headers, with an id of 512 bytes.
_HEADERS: Final = 1024


def _id_of(control: Control) -> str:
    return f"{control.boot}:{control.event}:{control.since}:{control.time}:{control.reason}"


def _refusal(data: bytes) -> Exception:
    if not data:
        return BrokerError("no stream takes the messages: it does not exist, or has other subjects")
    try:
        return ApiError("the broker refuses a message", json.loads(data).get("error") or {})
    except (ValueError, AttributeError):
        return BrokerError("the broker's acknowledgement cannot be read")
