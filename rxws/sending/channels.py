"""What is subscribed, counted; and what to send on a connection for it. Pure."""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable
from dataclasses import KW_ONLY, InitVar, dataclass, field
from typing import Any, Final

from .. import codec
from ..callables import is_plain_function
from ..checks import check_seconds
from ..messages.filters import Filter

__all__ = ["Channel", "ChannelCommand", "ChannelRegistry", "identity_of"]


@dataclass(eq=False, slots=True)
class Channel:
    """One thing that is subscribed, however many streams want it, checked.

    Attributes:
        identity: what makes two of them equal.
        consent: what the server's answer passes, or None where none is awaited.
        refusal: what the server's refusal passes, or None where none is known.
        count: how many streams want it.

    Args:
        subscribe: the message that subscribes it, or an (async) function that gives one.
        unsubscribe: the message that ends it, or a function that gives one; None: none is sent.
        acknowledged: the filter of the server's answer; None: none is awaited.
        rejected: the filter of the server's refusal; None: none is known.
        timeout: seconds in which the answer must have come.
        combine: makes one message of several ``subscribe``; None: each is sent by itself.
        combine_max: how many are combined at most.
        encode: makes text of messages that are neither ``str`` nor bytes.

    Raises:
        TypeError: an argument is of the wrong kind.
        ValueError: ``timeout`` or ``combine_max`` is not positive, or a message holds what ``encode`` refuses.
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
    identity: Hashable = field(init=False)
    consent: Filter | None = field(init=False)
    refusal: Filter | None = field(init=False)
    count: int = field(init=False, default=0)

    def __post_init__(self, acknowledged: Any, rejected: Any, encode: Callable[[Any], str | bytes]) -> None:
        self.identity = identity_of(self.subscribe, encode)
        if self.unsubscribe is not None:
            identity_of(self.unsubscribe, encode)
        if acknowledged is None and rejected is not None:
            raise TypeError("rejected needs acknowledged: without it no answer is awaited")
        self.consent = None if acknowledged is None else Filter.parse(acknowledged, "acknowledged")
        self.refusal = None if rejected is None else Filter.parse(rejected, "rejected")
        check_seconds("timeout", self.timeout, zero=False)
        _check_combining(self.combine, self.combine_max)
        # Sent again and again: what is done to the arguments after the call changes nothing.
        if not callable(self.subscribe):
            self.subscribe = copy.deepcopy(self.subscribe)
        if not callable(self.unsubscribe):
            self.unsubscribe = copy.deepcopy(self.unsubscribe)


def _check_combining(combine: object, combine_max: object) -> None:
    if combine is not None and not is_plain_function(combine):
        raise TypeError(f"combine must be a plain function of a list of messages, or None, not {combine!r}")
    if isinstance(combine_max, bool) or not isinstance(combine_max, int):
        raise TypeError(f"combine_max must be a positive int, not {combine_max!r}")
    if combine_max < 1:
        raise ValueError(f"combine_max must be at least 1, not {combine_max}")


@dataclass(frozen=True, slots=True)
class ChannelCommand:
    """What is to be done next on a connection: subscribe these with one message, or unsubscribe one."""

    channels: tuple[Channel, ...]
    subscribes: bool


def identity_of(message: object, encode: Callable[[Any], str | bytes] = codec.encode) -> Hashable:
    """Return what makes two subscribe messages equal: what is sent, or the function that gives it.

    Raises:
        TypeError: it is None, or neither ``str``, nor bytes, nor what ``encode`` takes, nor a function that can be
            hashed.
        ValueError: it holds NaN or infinity.
    """
    if message is None:
        raise TypeError("subscribe must be a message, or a function that gives one, not None")
    if not callable(message):
        return codec.to_payload(_ordered(message), encode)
    hash(message)
    return message


def _ordered(message: Any) -> Any:
    """Return the same JSON with the keys in one order: a dict's order means nothing."""
    if type(message) is dict:
        return {key: _ordered(message[key]) for key in sorted(message, key=repr)}
    if type(message) is list or type(message) is tuple:
        return [_ordered(each) for each in message]
    return message


class ChannelRegistry(dict[Hashable, Channel]):
    """All that is wanted of a feed by its identity, in the order in which it was first wanted.

    Attributes:
        refused: what of it the server refused when it was last asked for, on whichever connection.
    """

    def __init__(self) -> None:
        super().__init__()
        self.refused: Final[set[Hashable]] = set()

    def add_reference(self, channel: Channel) -> Channel:
        """Count a stream that wants it; return the equal subscription that was wanted before, or else this one."""
        wanted = self.setdefault(channel.identity, channel)
        wanted.count += 1
        return wanted

    def remove_reference(self, channel: Channel) -> None:
        """Count a stream less; with the last one it is wanted no more."""
        channel.count -= 1
        if channel.count == 0:
            del self[channel.identity]
            self.refused.discard(channel.identity)
