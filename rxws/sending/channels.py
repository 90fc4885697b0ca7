"""The channels that a feed subscribes, with their reference counts. No I/O."""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable
from dataclasses import KW_ONLY, InitVar, dataclass, field
from typing import Any, Final, Literal, Protocol

from .. import codec
from ..callables import asks_for, is_plain_function, name_of, takes
from ..checks import check_count, check_seconds
from ..messages.filters import Filter
from ..messages.index import Index, Registration
from ..messages.naming import filter_of
from ..messages.recent import RecentMessages
from ..reporting.quoting import quoted_repr

__all__ = ["Channel", "ChannelReceiver", "ChannelRegistry", "identity_of"]


class ChannelReceiver(Protocol):
    """The part of a stream that takes the messages of its channel."""

    def interrupt(self, since: float) -> None:
        """Announce a ``Gap`` before the next message. ``since`` is its start, in seconds since the epoch."""

    def resubscribed(self, since: float) -> None:
        """Announce a ``Gap`` now, because the channel was subscribed again. ``since`` is its start, as above."""

    def on_end(self, error: Exception | None, /) -> None:
        """End the stream."""


#: The number of former channels whose messages are recognized if the feed resumes.
FORMER_MAX: Final = 1_000


@dataclass(eq=False, slots=True)
class Channel:
    """A channel that is subscribed once, for any number of streams. The constructor checks the user's arguments.

    Attributes:
        identity: two channels with equal identities are the same channel.
        consent: the filter that the server's consent passes; None: no answer is awaited.
        refusal: the filter that the server's refusal passes; None: refusals are not recognized.
        count: the number of streams that want the channel.
        ended: the filter of the message by which the server ends the subscription; None: ends are not recognised.
        receivers: the receivers of its streams.

    Args:
        subscribe: the message that subscribes the channel, or an (async) function that returns it.
        unsubscribe: the message that unsubscribes it, or an (async) function that returns it; None: nothing is sent.
        acknowledged: the filter that the server's consent passes; None: no answer is awaited.
        rejected: the filter that the server's refusal passes; None: refusals are not recognized.
        timeout: seconds within which the answer must arrive.
        combine: makes one message of several ``subscribe`` messages; None: each is sent separately.
        combine_max: the largest number of messages that are combined.
        encode: encodes messages that are neither ``str`` nor bytes.
        filters_from: returns the filter for the channel's messages on a connection, from the answer there; None: the
            filters of the streams hold on all connections.
        unsubscribe_from: returns the message that unsubscribes the channel on a connection, from the answer there.
        ends_with: the filter of the message by which the server ends the subscription; None: ends are not recognised.
        on_ended: whether to subscribe again then, or to end the streams.

    Raises:
        TypeError: an argument has the wrong type, or needs or excludes another one.
        ValueError: ``timeout`` or ``combine_max`` is not positive, or ``encode`` refuses a message.
    """

    subscribe: Any
    unsubscribe: Any
    acknowledged: InitVar[Any]
    _: KW_ONLY
    rejected: InitVar[Any]
    timeout: float
    combine: Callable[[list[Any]], Any] | None
    combine_max: int
    encode: InitVar[Callable[[Any], str | bytes]] = codec.encode
    filters_from: Callable[[Any], Any] | None = None
    unsubscribe_from: Callable[[Any], Any] | None = None
    ends_with: InitVar[Any] = None
    on_ended: Literal["resubscribe", "complete"] = "resubscribe"
    identity: Hashable = field(init=False)
    consent: Filter | None = field(init=False)
    refusal: Filter | None = field(init=False)
    count: int = field(init=False, default=0)
    ended: Filter | None = field(init=False)
    receivers: list[ChannelReceiver] = field(init=False, default_factory=list)
    #: Whether ``subscribe`` takes the cursor of the channel.
    takes_cursor: bool = field(init=False)

    def __post_init__(
        self, acknowledged: Any, rejected: Any, encode: Callable[[Any], str | bytes], ends_with: Any
    ) -> None:
        self.identity = identity_of(self.subscribe, encode)
        self.takes_cursor = asks_for(1, self.subscribe)
        if self.unsubscribe is not None:
            identity_of(self.unsubscribe, encode)
        if acknowledged is None and rejected is not None:
            raise TypeError("rejected needs acknowledged: without it no answer is awaited")
        self.consent = None if acknowledged is None else Filter.parse(acknowledged, "acknowledged")
        self.refusal = None if rejected is None else Filter.parse(rejected, "rejected")
        if self.unsubscribe is not None and self.unsubscribe_from is not None:
            raise TypeError("unsubscribe and unsubscribe_from exclude each other")
        for name in ("filters_from", "unsubscribe_from"):
            function = getattr(self, name)
            if function is not None and not takes(1, function):
                raise TypeError(f"{name} must be a plain function of the server's answer, not {function!r}")
            if function is not None and acknowledged is None:
                raise TypeError(f"{name} needs acknowledged: without it no answer is awaited")
        self.ended = None if ends_with is None else Filter.parse(ends_with, "ended")
        if self.ended is not None and self.ended.passes_everything:
            raise ValueError("ended must be a filter that only the end of the subscription passes")
        if self.on_ended not in ("resubscribe", "complete"):
            raise ValueError(f'on_ended must be "resubscribe" or "complete", not {self.on_ended!r}')
        check_seconds("timeout", self.timeout, zero=False)
        if self.combine is not None and not is_plain_function(self.combine):
            raise TypeError(f"combine must be a plain function of a list of messages, or None, not {self.combine!r}")
        check_count("combine_max", self.combine_max)
        # Copy the messages, because they are sent again on every connection and the user may change the arguments.
        if not callable(self.subscribe):
            self.subscribe = copy.deepcopy(self.subscribe)
        if not callable(self.unsubscribe):
            self.unsubscribe = copy.deepcopy(self.unsubscribe)

    def describe(self) -> str:
        """Return the message that subscribes the channel, or the name of its function, for texts."""
        return name_of(self.subscribe) if callable(self.subscribe) else quoted_repr(self.subscribe)


def identity_of(message: object, encode: Callable[[Any], str | bytes] = codec.encode) -> Hashable:
    """Return the identity of a subscribe message: its payload, or the function that returns it.

    Raises:
        TypeError: the message is None, or ``encode`` does not accept it, or it is a function without a hash.
        ValueError: the message contains NaN or infinity.
    """
    if message is None:
        raise TypeError("subscribe must be a message, or a function that returns one, not None")
    if not callable(message):
        return codec.to_payload(_ordered(message), encode)
    hash(message)
    return message


def _ordered(message: Any) -> Any:
    """Return the same JSON with sorted keys, because the order of a dict has no meaning."""
    if type(message) is dict:
        return {key: _ordered(message[key]) for key in sorted(message, key=repr)}
    if type(message) is list or type(message) is tuple:
        return [_ordered(each) for each in message]
    return message


class ChannelRegistry(dict[Hashable, Channel]):
    """All channels that a feed wants, by identity, in the order in which they were first wanted.

    Attributes:
        refused: the identities of the channels that the server refused at the last attempt, on any connection.
        recent: knows the cursor of each channel; None if the feed does not resume.
    """

    def __init__(self) -> None:
        super().__init__()
        # Finds the channel of a message by the filters of its streams. (The router reports filters that raise.)
        self._index: Index[Hashable] = Index(lambda *_: None)
        self._registrations: dict[Hashable, tuple[Registration[Hashable], ...]] = {}
        # Channels that are no longer wanted, but whose messages are still recognized.
        self._former: dict[Hashable, None] = {}
        self.refused: Final[set[Hashable]] = set()
        self.recent: RecentMessages | None = None

    def add_reference(self, channel: Channel, wanted_messages: Filter | None = None) -> Channel:
        """Count one more stream that wants a channel. Return the equal channel that is already wanted, or this one.

        Args:
            channel: the channel.
            wanted_messages: the filter of the stream. Messages that pass it belong to the channel.
        """
        if self.recent is not None and channel.identity not in self:
            self.recent.forget(channel.identity)
        wanted = self.setdefault(channel.identity, channel)
        wanted.count += 1
        # A tuple, because most channels have one filter, and there may be thousands of channels.
        registrations = self._registrations.get(channel.identity, ())
        if wanted_messages is not None and all(each.filter != wanted_messages for each in registrations):
            registrations += (self._index.add(channel.identity, wanted_messages),)
        self._registrations[channel.identity] = registrations
        return wanted

    def filter_by_name(self, channel: Channel) -> Filter:
        """Return the filter of a stream whose channel is named by the server.

        Raises:
            ValueError: an equal channel is wanted, and the server's answers have not named it.
        """
        wanted = self.get(channel.identity)
        if wanted is not None and wanted.filters_from is None:
            raise ValueError("filters_from: this channel has a stream without it, so no answer has named the channel")
        return filter_of(channel.identity)

    def remove_reference(self, channel: Channel, *, is_remembered: bool = False) -> None:
        """Count one stream less. Without streams the channel is no longer wanted.

        Args:
            channel: the channel.
            is_remembered: whether its messages are still recognized, until the next channel becomes unwanted. If the
                feed resumes, those of many channels are, because their messages may be among those that are kept.
        """
        # It may have been renewed.
        channel = self[channel.identity]
        channel.count -= 1
        if channel.count == 0:
            del self[channel.identity]
            self.refused.discard(channel.identity)
            self._former.pop(channel.identity, None)
            self._former[channel.identity] = None
            if not is_remembered:
                self._forget(0 if self.recent is None else FORMER_MAX)

    def renew(self, channel: Channel) -> None:
        """Put an equal channel of the same streams in place of a wanted one: each connection subscribes it again."""
        self[channel.identity] = copy.copy(self[channel.identity])

    def _forget(self, left: int) -> None:
        """Recognize the messages of at most ``left`` former channels from now on."""
        while len(self._former) > left:
            identity = next(iter(self._former))
            del self._former[identity]
            for registration in () if identity in self else self._registrations.pop(identity):
                self._index.remove(registration)

    def subscribing(self, channel: Channel, *, is_anew: bool = False) -> Any:
        """Return the message that subscribes a channel or, if it is a function, its result.

        Args:
            channel: the channel.
            is_anew: whether the channel was unsubscribed or refused meanwhile, so that its last message is no cursor.
        """
        if not callable(channel.subscribe):
            return channel.subscribe
        if not channel.takes_cursor:
            return channel.subscribe()
        recent = None if is_anew else self.recent
        return channel.subscribe(None if recent is None else recent.cursor(channel.identity))

    def channel_of(self, message: Any) -> Hashable:
        """Return the identity of the channel that a message belongs to, or None if it belongs to none."""
        found = self._index.match(message) if self._registrations else ()
        return next((each for each in found if each in self), found[0] if found else None)
