"""The subscriptions of all channels on one connection: the life of each, and the next command. No I/O."""

from __future__ import annotations

import enum
import itertools
import math
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Final

from ..delays import default_delays
from .channels import Channel, ChannelRegistry

__all__ = ["HEALTHY", "LINGER", "TRANSITIONS", "Command", "Subscription", "SubscriptionState", "Subscriptions"]

#: Seconds for which messages of a channel may still arrive after it was unsubscribed.
LINGER: Final = 30.0

#: Seconds after which a subscription counts as healthy: if the server ends it then, the delays start over.
HEALTHY: Final = 60.0


class SubscriptionState(enum.Enum):
    """The state of a channel on one connection.

    Attributes:
        ABSENT: the channel is neither wanted nor subscribed.
        PENDING: it is wanted, and no command that subscribes it was taken yet.
        SUBSCRIBING: the command that subscribes it is under way.
        OVERDUE: the same, but its answer is late or may be a refusal. A connection opens without it.
        SUBSCRIBED: it is subscribed and wanted.
        EXPIRED: it is subscribed and no longer wanted, and no command that unsubscribes it was taken yet.
        UNSUBSCRIBING: the command that unsubscribes it is under way.
        POSTPONED: its command failed, or the server ended it. Its command is taken again later.
        REFUSED: the server refused it, or ended it for good. As long as it is wanted, it is not requested again on this
            connection.
    """

    ABSENT = enum.auto()
    PENDING = enum.auto()
    SUBSCRIBING = enum.auto()
    OVERDUE = enum.auto()
    SUBSCRIBED = enum.auto()
    EXPIRED = enum.auto()
    UNSUBSCRIBING = enum.auto()
    POSTPONED = enum.auto()
    REFUSED = enum.auto()


_State = SubscriptionState

#: The states of a channel without a command.
_RESTING: Final = frozenset({_State.ABSENT, _State.PENDING, _State.SUBSCRIBED, _State.EXPIRED})

#: The states that may follow each state.
TRANSITIONS: Mapping[SubscriptionState, AbstractSet[SubscriptionState]] = {
    _State.ABSENT: {_State.PENDING},
    _State.PENDING: {_State.ABSENT, _State.SUBSCRIBING, _State.OVERDUE},
    _State.SUBSCRIBING: {*_RESTING, _State.OVERDUE, _State.POSTPONED, _State.REFUSED},
    _State.OVERDUE: {*_RESTING, _State.POSTPONED, _State.REFUSED},
    _State.SUBSCRIBED: {_State.EXPIRED, _State.POSTPONED, _State.REFUSED},
    _State.EXPIRED: {_State.UNSUBSCRIBING, _State.ABSENT, _State.PENDING},
    _State.UNSUBSCRIBING: {_State.ABSENT, _State.PENDING, _State.EXPIRED, _State.POSTPONED},
    _State.POSTPONED: {_State.ABSENT, _State.PENDING, _State.EXPIRED},
    _State.REFUSED: {_State.ABSENT, _State.PENDING},
}

#: The states of a channel whose command is under way.
_IN_FLIGHT: Final = frozenset({_State.SUBSCRIBING, _State.OVERDUE, _State.UNSUBSCRIBING})

#: The states of a channel whose subscription is not decided yet.
_UNDECIDED: Final = frozenset({_State.PENDING, _State.SUBSCRIBING, _State.OVERDUE, _State.POSTPONED})

#: The states in which a command is under way or due.
_UNSETTLED: Final = _IN_FLIGHT | {_State.PENDING, _State.EXPIRED}


@dataclass(eq=False, slots=True)
class Subscription:
    """A channel on one connection.

    Attributes:
        channel: the channel of its last command. After a change it may differ from the wanted one of equal identity.
        state: its state; only :class:`Subscriptions` changes it.
        is_present: whether the server has the subscription: the command was sent and not refused.
        is_asked: whether the subscription was sent and neither refused nor unsubscribed. Its messages may arrive.
        is_answered: whether the server has accepted it, or no answer was awaited.
        is_left: whether it was unsubscribed, and since then neither the server's end of it nor an answer to a new
            subscription has arrived.
        left_at: when it was last unsubscribed, as long as it is not subscribed again; otherwise -inf.
        group: until they are subscribed, the channels of a group are combined only with each other.
        delays: the seconds to wait after each failure of its command; None: there was none since it succeeded.
        since: when it was subscribed.
        pauses: the seconds until it is subscribed again, for each time that the server ends it soon; None: the server
            did not.
        early_end: the message by which the server ended it before it was decided whether it is subscribed, and when
            that message arrived, in seconds since the epoch.
        unsubscribe: the message that unsubscribes it on this connection, if the server's answer has named it.
        on_decided: functions that are called once it is decided whether it is subscribed, or no longer wanted.
    """

    channel: Channel
    state: SubscriptionState = _State.ABSENT
    is_present: bool = False
    is_asked: bool = False
    is_answered: bool = False
    is_left: bool = False
    left_at: float = -math.inf
    group: object | None = None
    delays: Iterator[float] | None = None
    since: float = -math.inf
    pauses: Iterator[float] | None = None
    early_end: tuple[Any, float] | None = None
    unsubscribe: Any = None
    on_decided: tuple[Callable[[], None], ...] = ()


@dataclass(eq=False, slots=True)
class Command:
    """A command for a connection: subscribe these channels with one message, or unsubscribe one channel.

    Attributes:
        subscribes: whether it subscribes.
        messages: the channels that are not done yet, each with its message, once that is known.
        is_overdue: whether a connection opens without these channels.
    """

    subscribes: bool
    messages: dict[Channel, Any]
    is_overdue: bool = False


class Subscriptions(dict[Hashable, Subscription]):
    """The subscriptions on one connection, by the identities of their channels.

    The caller takes a command, and later reports each of its channels as done, refused, postponed or free. Until then
    it can take no other command for these channels, so the second of two changes of one channel waits for the first.
    The time for a change and for a command does not depend on the number of subscribed channels.

    Args:
        wanted: the channels that the feed wants.
        forgotten: called with each channel of which no message can arrive any more.
    """

    def __init__(self, wanted: ChannelRegistry, forgotten: Callable[[Hashable], None] = lambda _: None) -> None:
        super().__init__()
        self._forgotten = forgotten
        self._wanted = wanted
        # The channels in each state. They are in dicts, which keep the order.
        self._members: dict[SubscriptionState, dict[Hashable, None]] = {state: {} for state in SubscriptionState}
        # The channels for which the opening of the connection waits. It does not wait for channels that are added
        # later, because a program may add channels faster than they can be subscribed.
        self._awaited = set(wanted)
        # Channels that were refused before come last and alone, so that the others do not wait for them.
        for identity in sorted(wanted, key=wanted.refused.__contains__):
            self.changed(identity)
            if identity in wanted.refused:
                self[identity].group = object()

    @property
    def is_settled(self) -> bool:
        """Whether no command is under way or due."""
        return not any(self._members[state] for state in _UNSETTLED)

    @property
    def undecided_unwanted(self) -> int:
        """The number of channels whose subscription is under way although they are no longer wanted."""
        under_way = itertools.chain(self._members[_State.SUBSCRIBING], self._members[_State.OVERDUE])
        return sum(identity not in self._wanted for identity in under_way)

    def is_awaited(self, *, overdue: bool, postponed: bool) -> bool:
        """Whether an opening still waits for a channel that was wanted when it began.

        Args:
            overdue: whether it also waits for overdue answers.
            postponed: whether it also waits for postponed commands.
        """
        ignored = {_State.OVERDUE: not overdue, _State.POSTPONED: not postponed}
        return not all(ignored.get(self[identity].state) for identity in self._awaited)

    def has(self, identity: Hashable) -> bool:
        """Whether the server has the subscription of a channel."""
        return identity in self and self[identity].is_present

    def is_leaving(self, identity: Hashable, now: float) -> bool:
        """Whether a channel was unsubscribed and is not subscribed again. Then its last messages may still arrive."""
        return identity in self and now - self[identity].left_at < LINGER

    def is_decided(self, identity: Hashable) -> bool:
        """Whether a channel is subscribed or refused, or not wanted."""
        decided = (_State.ABSENT, _State.SUBSCRIBED, _State.REFUSED)
        return identity not in self._wanted or (identity in self and self[identity].state in decided)

    def is_expiring(self, identity: Hashable) -> bool:
        """Whether a channel is subscribed, and is to be unsubscribed."""
        return identity in self and self[identity].state in (_State.EXPIRED, _State.UNSUBSCRIBING)

    def _enter(self, subscription: Subscription, state: SubscriptionState) -> None:
        previous, identity = subscription.state, subscription.channel.identity
        if state is previous:
            return
        if state not in TRANSITIONS[previous]:
            raise AssertionError(f"no transition from {previous} to {state}")
        self._members[previous].pop(identity, None)
        self._members[state][identity] = None
        subscription.state = state
        if state not in _UNDECIDED:
            subscription.group = None
            self._awaited.discard(identity)
        if state is _State.ABSENT:
            self._forget_absent(subscription)

    def _forget_absent(self, newest: Subscription) -> None:
        """Forget absent channels of which no message can arrive any more: they never had one, or left long ago."""
        if newest.left_at == -math.inf:
            self._forget(newest.channel.identity)
            return
        while newest.left_at - self[oldest := next(iter(self._members[_State.ABSENT]))].left_at >= LINGER:
            self._forget(oldest)

    def _forget(self, identity: Hashable) -> None:
        del self[identity], self._members[_State.ABSENT][identity]
        self._forgotten(identity)

    def _rest(self, subscription: Subscription) -> None:
        wanted = self._wanted.get(subscription.channel.identity)
        if not subscription.is_present:
            self._enter(subscription, _State.ABSENT if wanted is None else _State.PENDING)
        else:
            # If the wanted channel is another object, this one was dropped meanwhile. It is unsubscribed, and the other
            # one is subscribed.
            self._enter(subscription, _State.SUBSCRIBED if wanted is subscription.channel else _State.EXPIRED)

    def changed(self, identity: Hashable) -> None:
        """Note that a channel is now wanted, or no longer wanted."""
        wanted, subscription = self._wanted.get(identity), self.get(identity)
        if subscription is None:
            if wanted is None:
                return
            subscription = self[identity] = Subscription(wanted)
        if wanted is None:
            subscription.group = None
        if subscription.state in _RESTING or (
            subscription.state is _State.REFUSED and wanted is not subscription.channel
        ):
            self._rest(subscription)

    # Commands

    def take_command(self) -> Command | None:
        """Take the next command, or return None if there is none.

        Unsubscribing comes first, so that a server that limits the number of subscriptions accepts the new ones.
        """
        for identity in self._members[_State.EXPIRED]:
            self._enter(self[identity], _State.UNSUBSCRIBING)
            return Command(False, {self[identity].channel: None})
        pending = (self._wanted[identity] for identity in self._members[_State.PENDING])
        first = next(pending, None)
        if first is None:
            return None
        group, combine = self[first.identity].group, first.combine
        same = (each for each in pending if each.combine == combine and self[each.identity].group is group)
        others = 0 if combine is None else first.combine_max - 1
        channels = [first, *itertools.islice(same, others)]
        # The server has refused all of them before, so it may refuse them again.
        is_overdue = all(each.identity in self._wanted.refused for each in channels)
        for each in channels:
            self[each.identity].channel = each
            self[each.identity].early_end = None
            self._enter(self[each.identity], _State.OVERDUE if is_overdue else _State.SUBSCRIBING)
        return Command(True, dict.fromkeys(channels), is_overdue)

    def is_due(self, channel: Channel, subscribes: bool) -> bool:
        """Whether the command of a channel, once taken, is still to be sent."""
        if not subscribes:
            return self[channel.identity].is_present
        return self._wanted.get(channel.identity) is channel

    def divide(self, channels: Collection[Channel], pieces: int) -> None:
        """Leave channels to this number of later commands, because they cannot be in one message."""
        size, group = math.ceil(len(channels) / pieces), object()
        for place, each in enumerate(channels):
            if place % size == 0:
                group = object()
            self[each.identity].group = group
            self.free(each)

    def overdue(self, channel: Channel) -> None:
        """Note that the answer to a channel's subscription is late."""
        self._enter(self[channel.identity], _State.OVERDUE)

    def leaving(self, channel: Channel, now: float) -> None:
        """Note that the message that unsubscribes a channel is now sent. Its last messages may still arrive."""
        subscription, wanted = self[channel.identity], self._wanted.get(channel.identity)
        subscription.is_asked, subscription.is_left = False, True
        # The streams of a renewed channel also want the last messages of the old subscription.
        if wanted is None or wanted.receivers is not channel.receivers:
            subscription.left_at = now

    def done(self, channel: Channel, subscribes: bool) -> None:
        """Note that the server has carried out the command for a channel."""
        subscription = self[channel.identity]
        subscription.delays = None
        subscription.is_present = subscribes
        if subscribes:
            # If the channel was dropped and is wanted again meanwhile, the server's answer is for the new one.
            subscription.channel = self._wanted.get(channel.identity, channel)
            self._wanted.refused.discard(channel.identity)
            subscription.is_left, subscription.left_at = False, -math.inf
        self._rest(subscription)

    def refuse(self, channel: Channel) -> None:
        """Note that the server refused to subscribe a channel."""
        subscription = self[channel.identity]
        subscription.is_asked = False
        if self.is_due(channel, True):
            self._wanted.refused.add(channel.identity)
            self._enter(subscription, _State.REFUSED)
        else:
            self._rest(subscription)

    def ended(self, channel: Channel, now: float) -> float | None:
        """Note that the server has ended the subscription of a channel.

        Returns:
            The seconds until the channel is to be freed, or infinity if it is not subscribed again on this connection.
            None: the channel was not subscribed, or is being unsubscribed.
        """
        subscription = self.get(channel.identity)
        if subscription is None or not subscription.is_present:
            return None
        subscription.is_present = subscription.is_asked = False
        if subscription.state is not _State.SUBSCRIBED:
            if subscription.state is _State.EXPIRED:
                self._rest(subscription)
            return None
        if channel.on_ended == "complete":
            self._enter(subscription, _State.REFUSED)
            return math.inf
        if now - subscription.since >= HEALTHY:
            subscription.pauses = None
        self._enter(subscription, _State.POSTPONED)
        subscription.pauses = subscription.pauses or default_delays()
        return next(subscription.pauses)

    def postpone(self, channel: Channel) -> float:
        """Note that the command for a channel has failed. Return the seconds after which to call :meth:`free`."""
        self._enter(self[channel.identity], _State.POSTPONED)
        subscription = self[channel.identity]
        subscription.delays = subscription.delays or default_delays()
        return next(subscription.delays)

    def free(self, channel: Channel) -> None:
        """Return a channel of a taken command, so that it can be taken again if it is still wanted."""
        self._rest(self[channel.identity])
