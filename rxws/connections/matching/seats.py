"""A *seat*: the state of one line in one channel, with the messages that the line holds there. No I/O."""

from __future__ import annotations

import enum
import math
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from .memory import Delivery
from .outcomes import INCOMPARABLE

__all__ = ["TRANSITIONS", "Channel", "HeldMessage", "Holding", "Seat", "SeatState"]

T = TypeVar("T")


class SeatState(enum.Enum):
    """The state of a line in a channel."""

    #: The channel is not acknowledged. Its messages are held, and are not evidence.
    EARLY = "early"
    #: The line holds its messages until it agrees.
    HELD = "held"
    #: Messages that arrive first on this line are delivered.
    JOINED = "joined"
    #: The line cannot be compared with the others. Its messages are dropped.
    REJECTED = "rejected"


#: The states that may follow each state.
TRANSITIONS: Final[Mapping[SeatState, frozenset[SeatState]]] = {
    SeatState.EARLY: frozenset({SeatState.HELD, SeatState.JOINED}),
    SeatState.HELD: frozenset({SeatState.JOINED, SeatState.REJECTED}),
    SeatState.JOINED: frozenset({SeatState.HELD}),
    SeatState.REJECTED: frozenset({SeatState.JOINED}),
}


@dataclass(slots=True)
class HeldMessage(Generic[T]):
    """A message that is held until its line delivers.

    Attributes:
        key: its identity.
        item: the item to deliver.
        size: its bytes.
        time: when it arrived.
    """

    key: Hashable
    item: T
    size: int
    time: float


class Holding(Generic[T]):
    """The messages that a line holds in a channel, in the order of arrival.

    Attributes:
        size: the bytes of all messages.
    """

    __slots__ = ("_by_key", "_messages", "size")

    def __init__(self) -> None:
        self._messages: dict[int, HeldMessage[T]] = {}
        self._by_key: dict[Hashable, list[int]] = {}
        self.size = 0

    def __len__(self) -> int:
        return len(self._messages)

    def __reversed__(self) -> Iterator[HeldMessage[T]]:
        """Iterate over the messages, the newest first."""
        return reversed(self._messages.values())

    def items(self) -> Iterable[tuple[int, HeldMessage[T]]]:
        """Return the messages with their arrival numbers."""
        return self._messages.items()

    def add(self, arrival: int, message: HeldMessage[T]) -> None:
        """Hold a message."""
        self._messages[arrival] = message
        self._by_key.setdefault(message.key, []).append(arrival)
        self.size += message.size

    def count(self, key: Hashable) -> int:
        """Return the number of messages with this identity."""
        return len(self._by_key.get(key, ()))

    def take(self, key: Hashable) -> int | None:
        """Remove the first message with this identity. Return its arrival number, or None if there is none."""
        arrivals = self._by_key.get(key)
        return None if arrivals is None else self._remove(arrivals[0])

    def drop_oldest(self) -> None:
        """Remove the message that arrived first."""
        self._remove(next(iter(self._messages)))

    def drop_older(self, arrival: int) -> int:
        """Remove the messages up to an arrival number, except incomparable ones. Return how many there were."""
        older = [place for place, each in self._messages.items() if place <= arrival and each.key is not INCOMPARABLE]
        for place in older:
            self._remove(place)
        return len(older)

    def _remove(self, arrival: int) -> int:
        message = self._messages.pop(arrival)
        self.size -= message.size
        arrivals = self._by_key[message.key]
        arrivals.remove(arrival)
        if not arrivals:
            del self._by_key[message.key]
        return arrival

    @property
    def first_time(self) -> float:
        """When the first message arrived; infinity without messages."""
        return next((each.time for each in self._messages.values()), math.inf)

    @property
    def last_time(self) -> float:
        """When the last message arrived; minus infinity without messages."""
        return next((each.time for each in reversed(self)), -math.inf)


@dataclass(eq=False, slots=True)
class Seat(Generic[T]):
    """The state of one line in one channel.

    Attributes:
        line: the number of the line.
        since: when the channel was acknowledged; before that, when the line was first mentioned for it.
    """

    line: int
    since: float
    state: SeatState = field(default=SeatState.EARLY, init=False)
    # Until this time, a unique message that another line has delivered counts as a copy even if it is not owed.
    replay_until: float = field(default=-math.inf, init=False)
    # Every message that was delivered after this time has arrived on this line, except the owed ones.
    complete_since: float = field(init=False)
    # Another line delivers, so held messages before the first copy are older than the delivered ones.
    is_overlapped: bool = field(default=False, init=False)
    # A unique message was delivered since the acknowledgement, so the line could have agreed.
    could_agree: bool = field(default=False, init=False)
    # When the first held message arrived that no other line has.
    ahead_since: float = field(default=math.inf, init=False)
    # The server has acknowledged the channel on the line.
    is_acknowledged: bool = field(default=False, init=False)
    # The line was joined before.
    was_joined: bool = field(default=False, init=False)
    # The line would be joined if it were not reserved.
    is_ready: bool = field(default=False, init=False)
    # The deliveries that this line owes, by number.
    owed: dict[int, Delivery] = field(default_factory=dict, init=False)
    # The numbers of the owed deliveries of an ended line. Until they have arrived, this line holds its messages.
    awaited: set[int] = field(default_factory=set, init=False)
    held: Holding[T] = field(default_factory=Holding, init=False)
    arrivals: int = field(default=0, init=False)
    # The number of the last arrival before the acknowledgement. Arrivals up to it are not evidence of agreement.
    early_arrivals: int = field(default=0, init=False)
    # The first copy up to there. It is not evidence, but the messages before it are older than the delivered ones.
    early_copy: int = field(default=-1, init=False)
    first_copies: list[tuple[int, Delivery]] = field(default_factory=list, init=False)
    # The number of the last arrival before the first copy on a line that resumes.
    before_replay: int = field(default=0, init=False)
    newest_copy: Delivery | None = field(default=None, init=False)
    newest_arrival: int = field(default=-1, init=False)

    def __post_init__(self) -> None:
        self.complete_since = self.since

    def enter(self, state: SeatState) -> None:
        """Change the state."""
        if state is not self.state:
            if state not in TRANSITIONS[self.state]:
                raise AssertionError(f"no transition from {self.state} to {state}")
            self.state = state

    @property
    def is_joined(self) -> bool:
        """Whether the line is joined."""
        return self.state is SeatState.JOINED

    @property
    def has_copies(self) -> bool:
        """Whether a unique message of another line has ever arrived on this line."""
        return self.newest_copy is not None or self.early_copy >= 0

    @property
    def delivers(self) -> bool:
        """Whether the line delivers new messages at once."""
        return self.is_joined and not self.awaited


@dataclass(eq=False, slots=True)
class Channel(Generic[T]):
    """A channel and its lines.

    Attributes:
        name: the name that the caller uses.
        is_ordered: whether its order is the same on every line.
        seats: the state of each line in the channel.
    """

    name: Hashable
    is_ordered: bool
    seats: dict[int, Seat[T]] = field(default_factory=dict, init=False)
    # The line that delivered the first message of the channel, or the first after its last gap.
    owner: int | None = field(default=None, init=False)
    # Every message up to this time has arrived on a line that was joined.
    complete_until: float = field(default=0.0, init=False)
    last_new: float = field(default=-math.inf, init=False)
    # The number of the last delivery, of any channel, before a line took over here.
    number_at_gap: int = field(default=0, init=False)
    # The channel was not unsubscribed on any line since its last acknowledgement.
    is_wanted: bool = field(default=True, init=False)
    # A message was delivered since the last gap of this channel.
    has_delivered: bool = field(default=False, init=False)
    # When the last gap that names this channel was reported, until the channel is acknowledged again.
    early_gap_at: float = field(default=math.inf, init=False)
    # When the last joined line of the channel ended; None after the reserved line has replaced that line.
    orphaned_at: float | None = field(default=None, init=False)
    # Whether the reserved line continues without a gap, and the time until which it waits for a copy.
    is_continued: bool = field(default=False, init=False)
    continued_at: float = field(default=math.inf, init=False)

    def held(self) -> Iterator[HeldMessage[T]]:
        """Return the messages that all lines hold."""
        return (message for seat in self.seats.values() for _, message in seat.held.items())

    def joined(self) -> list[Seat[T]]:
        """Return the joined lines."""
        return [seat for seat in self.seats.values() if seat.is_joined]
