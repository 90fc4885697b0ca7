"""The states and the statistics of a feed."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["TRANSITIONS", "Latency", "LineStatistics", "ShardStatistics", "State", "Statistics"]


class State(enum.Enum):
    """The state of a feed."""

    #: There is no connection, or not every shard has one, and one is being opened.
    CONNECTING = "connecting"
    #: Messages flow from one connection.
    CONNECTED = "connected"
    #: Messages flow from one connection while the next is being opened or overlaps with it.
    ROTATING = "rotating"
    #: There is no connection, or not every shard has one, and the feed waits before the next attempt.
    WAITING = "waiting"
    #: The feed was closed with ``exit()``. Final.
    CLOSED = "closed"
    #: The feed ended with a fatal error, which ``wait_closed`` raises. Final.
    FAILED = "failed"

    @property
    def is_live(self) -> bool:
        """Whether a connection is open."""
        return self in (State.CONNECTED, State.ROTATING)

    @property
    def is_final(self) -> bool:
        """Whether no other state can follow."""
        return not TRANSITIONS[self]


#: The states that may follow each state. A state without followers is final.
TRANSITIONS: Mapping[State, frozenset[State]] = {
    State.CONNECTING: frozenset({State.CONNECTED, State.WAITING, State.CLOSED, State.FAILED}),
    State.WAITING: frozenset({State.CONNECTING, State.CLOSED, State.FAILED}),
    State.CONNECTED: frozenset({State.ROTATING, State.CONNECTING, State.WAITING, State.CLOSED, State.FAILED}),
    State.ROTATING: frozenset({State.CONNECTED, State.CONNECTING, State.WAITING, State.CLOSED, State.FAILED}),
    State.CLOSED: frozenset(),
    State.FAILED: frozenset(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LineStatistics:
    """A snapshot of one line of a feed that has several.

    Attributes:
        state: its state. FAILED: it could not be opened, and opens no more connections.
        is_joined: whether it brings everything that is delivered.
        firsts: the number of frames that arrived on it first.
        lag: the median of the seconds by which its newest copies lag behind the line on which they arrived first. None:
            there were no copies on its connection.
    """

    state: State
    is_joined: bool
    firsts: int
    lag: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """The seconds from the sending of messages to their arrival, in the last minute.

    The server's clock gives the first time, this machine's clock the second. A negative latency shows that this clock
    is behind, by at least as much. The differences between latencies do not depend on that.

    Attributes:
        newest: of the newest message that was measured.
        lowest: the lowest.
        p50: the median.
        p99: the 99th percentile: 99 of 100 are not higher.
    """

    newest: float
    lowest: float
    p50: float
    p99: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardStatistics:
    """A snapshot of one shard: a connection with a part of the channels, and those that replace it.

    Attributes:
        state: its state.
        channels: the number of channels that it subscribes.
        last_message_age: seconds since its last message, or None before the first.
    """

    state: State
    channels: int
    last_message_age: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """A snapshot of a feed's counters, since the feed was made.

    Attributes:
        messages: messages delivered.
        bytes: bytes of the frames received (payload, decompressed), without the copies on other lines.
        opened: connections opened.
        rotations: planned rotations completed.
        reconnects: unplanned reconnections, by the reason why the previous connection was lost.
        gaps: gaps reported.
        rejected: frames that could not be parsed.
        duplicates: messages dropped because another connection had delivered them, in rotations and with ``lines``.
        discarded: messages dropped in rotations because they are per connection, and messages of a channel's ended
            subscription that arrived before its new one.
        failures: exceptions raised by handlers, subscribers, filters and hooks.
        unacknowledged: subscriptions that the server refused or did not answer in time.
        streams: streams that are open now.
        pending: messages that are in the buffers of streams and handlers now.
        pending_bytes: the size of the frames of these messages in bytes. A message that waits in several buffers counts
            in each.
        dropped: messages dropped by full streams and handlers.
        last_message_age: seconds since the last message, or None before the first. Its former name is ``age``.
        complete_since: the time since which no message is missing, in seconds since the epoch: the end of the last gap,
            or the opening of the first connection. None while there is no connection, and until it is known whether the
            connection follows the one before without a missing message.
        lines: the lines, the first one first. Empty if the feed has only one.
        shards: the shards, the first one first. Empty without ``channels_per_connection``.
        latency: the time from sending to arrival. None without the option ``sent_at``, and if no message of the last
            minute has that time.
    """

    messages: int
    bytes: int
    opened: int
    rotations: int
    reconnects: Mapping[str, int]
    gaps: int
    rejected: int
    duplicates: int
    discarded: int
    failures: int
    streams: int
    pending: int
    dropped: int
    last_message_age: float | None
    unacknowledged: int = 0
    pending_bytes: int = 0
    complete_since: float | None = None
    lines: tuple[LineStatistics, ...] = ()
    shards: tuple[ShardStatistics, ...] = ()
    latency: Latency | None = None

    @property
    def age(self) -> float | None:
        """The former name of ``last_message_age``."""
        return self.last_message_age
