"""Tracks the states of all channels on one connection, and chooses the next command to send there. No I/O."""

from __future__ import annotations

import enum
import itertools
import math
from collections.abc import Hashable, Mapping
from collections.abc import Set as AbstractSet
from typing import Final

from .channels import Channel, ChannelCommand, ChannelRegistry

__all__ = ["TRANSITIONS", "ChannelState", "ChannelStates"]


class ChannelState(enum.Enum):
    """The state of a channel on one connection.

    Attributes:
        ABSENT: the channel is neither wanted nor subscribed.
        PENDING_SUBSCRIBE: it is wanted, and the command that subscribes it was not taken yet.
        SUBSCRIBING: the command that subscribes it is in flight or postponed.
        SUBSCRIBED: it is wanted and subscribed.
        PENDING_UNSUBSCRIBE: it is no longer wanted, and the command that unsubscribes it was not taken yet.
        UNSUBSCRIBING: the command that unsubscribes it is in flight or postponed.
        REFUSED: the server refused it. As long as it is wanted, it is not requested again on this connection.
    """

    ABSENT = enum.auto()
    PENDING_SUBSCRIBE = enum.auto()
    SUBSCRIBING = enum.auto()
    SUBSCRIBED = enum.auto()
    PENDING_UNSUBSCRIBE = enum.auto()
    UNSUBSCRIBING = enum.auto()
    REFUSED = enum.auto()


#: The state of a channel without a command in flight, by whether the channel is subscribed and whether it is wanted.
_RESTING: Final[Mapping[tuple[bool, bool], ChannelState]] = {
    (False, False): ChannelState.ABSENT,
    (False, True): ChannelState.PENDING_SUBSCRIBE,
    (True, False): ChannelState.PENDING_UNSUBSCRIBE,
    (True, True): ChannelState.SUBSCRIBED,
}

#: The states that may follow each state.
TRANSITIONS: Mapping[ChannelState, AbstractSet[ChannelState]] = {
    ChannelState.ABSENT: {ChannelState.PENDING_SUBSCRIBE},
    ChannelState.PENDING_SUBSCRIBE: {ChannelState.ABSENT, ChannelState.SUBSCRIBING},
    ChannelState.SUBSCRIBING: {*_RESTING.values(), ChannelState.REFUSED},
    ChannelState.SUBSCRIBED: {ChannelState.PENDING_UNSUBSCRIBE},
    ChannelState.PENDING_UNSUBSCRIBE: {ChannelState.SUBSCRIBED, ChannelState.UNSUBSCRIBING},
    ChannelState.UNSUBSCRIBING: {*_RESTING.values()},
    ChannelState.REFUSED: {ChannelState.ABSENT},
}

_IN_FLIGHT: Final = frozenset({ChannelState.SUBSCRIBING, ChannelState.UNSUBSCRIBING})
_UNSETTLED: Final = _IN_FLIGHT | {ChannelState.PENDING_SUBSCRIBE, ChannelState.PENDING_UNSUBSCRIBE}
_IS_SUBSCRIBED: Final = frozenset(
    {ChannelState.SUBSCRIBED, ChannelState.PENDING_UNSUBSCRIBE, ChannelState.UNSUBSCRIBING}
)


class ChannelStates:
    """The states of all channels on one connection.

    The caller takes a command, and later reports it as done or frees it. Until then it can take no other command for
    the same channels, so the second of two changes of one channel waits for the first. The time for a change and for a
    command does not depend on the number of subscribed channels.

    Args:
        wanted: the channels that the feed wants.
    """

    def __init__(self, wanted: ChannelRegistry) -> None:
        self._wanted = wanted
        self._states: dict[Hashable, ChannelState] = {}
        # The channels in each state. They are in dicts, which keep the order.
        self._members: dict[ChannelState, dict[Hashable, None]] = {state: {} for state in ChannelState}
        # The subscribed channels. The command that unsubscribes a channel needs it, and the feed no longer has it then.
        self._channels: dict[Hashable, Channel] = {}
        # The group of a channel. Until they are subscribed, the channels of a group are combined only with each other.
        self._groups: dict[Hashable, object] = {identity: object() for identity in wanted.refused}
        # Channels that were refused before come last, so that the others do not wait for them.
        for identity in sorted(wanted, key=wanted.refused.__contains__):
            self._enter(identity, ChannelState.PENDING_SUBSCRIBE)

    @property
    def is_due(self) -> bool:
        """Whether there is a command to take."""
        return bool(self._members[ChannelState.PENDING_UNSUBSCRIBE] or self._members[ChannelState.PENDING_SUBSCRIBE])

    @property
    def unsettled(self) -> set[Hashable]:
        """The channels for which a command is in flight or can be taken."""
        return {identity for state in _UNSETTLED for identity in self._members[state]}

    def __contains__(self, identity: Hashable) -> bool:
        return self._state_of(identity) in _IS_SUBSCRIBED

    def _state_of(self, identity: Hashable) -> ChannelState:
        return self._states.get(identity, ChannelState.ABSENT)

    def _enter(self, identity: Hashable, state: ChannelState) -> None:
        previous = self._state_of(identity)
        if state is previous:
            return
        if state not in TRANSITIONS[previous]:
            raise AssertionError(f"no transition from {previous} to {state}")
        self._members[previous].pop(identity, None)
        if state is ChannelState.ABSENT:
            del self._states[identity]
            self._channels.pop(identity, None)
        else:
            self._states[identity] = state
            self._members[state][identity] = None
        if state not in {ChannelState.PENDING_SUBSCRIBE, ChannelState.SUBSCRIBING}:
            self._groups.pop(identity, None)

    def is_doubtful(self, command: ChannelCommand) -> bool:
        """Whether the server has refused all channels of this command before. Then it may refuse them again."""
        return command.subscribes and all(each.identity in self._wanted.refused for each in command.channels)

    def changed(self, identity: Hashable) -> None:
        """Note that a channel is now wanted, or no longer wanted."""
        state, is_wanted = self._state_of(identity), identity in self._wanted
        if not is_wanted:
            self._groups.pop(identity, None)
        if state not in _IN_FLIGHT and not (state is ChannelState.REFUSED and is_wanted):
            self._rest(identity, state in _IS_SUBSCRIBED)

    def _rest(self, identity: Hashable, is_subscribed: bool) -> None:
        self._enter(identity, _RESTING[is_subscribed, identity in self._wanted])

    def take_command(self) -> ChannelCommand | None:
        """Take the next command, or return None if there is none.

        Unsubscribing comes first, so that a server that limits the number of subscriptions accepts the new ones.
        """
        command = self._next_command()
        if command is not None:
            taken = ChannelState.SUBSCRIBING if command.subscribes else ChannelState.UNSUBSCRIBING
            for channel in command.channels:
                self._enter(channel.identity, taken)
        return command

    def _next_command(self) -> ChannelCommand | None:
        for identity in self._members[ChannelState.PENDING_UNSUBSCRIBE]:
            return ChannelCommand((self._channels[identity],), subscribes=False)
        pending = (self._wanted[identity] for identity in self._members[ChannelState.PENDING_SUBSCRIBE])
        first = next(pending, None)
        if first is None:
            return None
        group, combine = self._groups.get(first.identity), first.combine
        same = (each for each in pending if each.combine == combine and self._groups.get(each.identity) is group)
        others = 0 if combine is None else first.combine_max - 1
        return ChannelCommand((first, *itertools.islice(same, others)), subscribes=True)

    def divide(self, command: ChannelCommand, pieces: int) -> None:
        """Divide a command into this number of later commands, because its channels cannot be in one message."""
        size = math.ceil(len(command.channels) / pieces)
        for start in range(0, len(command.channels), size):
            group = object()
            self._groups.update((each.identity, group) for each in command.channels[start : start + size])

    def still_due(self, command: ChannelCommand) -> ChannelCommand:
        """Return the part of a taken command that is still wanted."""
        due = (each for each in command.channels if (each.identity in self._wanted) is command.subscribes)
        return ChannelCommand(tuple(due), command.subscribes)

    def done(self, command: ChannelCommand) -> None:
        """Note that the server has carried out a command."""
        for channel in command.channels:
            if command.subscribes:
                self._channels[channel.identity] = channel
                self._wanted.refused.discard(channel.identity)
            self._rest(channel.identity, command.subscribes)

    def refuse(self, command: ChannelCommand) -> None:
        """Note that the server refused to subscribe these channels."""
        for channel in command.channels:
            if channel.identity in self._wanted:
                self._wanted.refused.add(channel.identity)
                self._enter(channel.identity, ChannelState.REFUSED)

    def free(self, command: ChannelCommand) -> None:
        """Return a taken command, so that its part that is still wanted can be taken again. Idempotent."""
        for channel in command.channels:
            state = self._state_of(channel.identity)
            if state in _IN_FLIGHT:
                self._rest(channel.identity, state is ChannelState.UNSUBSCRIBING)
