"""Lazy decoding: a message that no consumer wants is not decoded, and one that waits is decoded when it is taken.

The keys that the index looks at are read first, which takes a quarter of the time of decoding the whole message. The
index matches them in place of the message. Only a message that a receiver wants is decoded, when it is needed: at once
by a function, and by an ``async for`` when it takes the message. Until then the frame waits in its place, so that a
message that is dropped is never decoded.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Iterable
from typing import Any, Final, TypedDict

import msgspec

from ..codec import decode
from ..observables.deferred import Deferred
from ..reporting.cancellation import FAILURES
from .dispatcher import FrameDispatcher
from .frames import Frame
from .inbound import Inbound

__all__ = ["LARGE", "Lazy", "lazily", "reader_of_keys"]

#: The size of a frame, in bytes, from which on it is decoded lazily. To decode a shorter one takes no longer than to
#: read its keys and defer the rest.
LARGE: Final = 512

#: The largest number of keys that are read first. With more keys it takes as long as decoding everything.
_MOST_KEYS: Final = 32

_NO_TOKEN: Final = object()


def lazily(
    parse: Callable[[Frame], Any], inbound: Inbound, dispatcher: FrameDispatcher
) -> Callable[[Frame], Any] | None:
    """Return a parse hook for large frames that decodes them lazily while no consumer wants every message.

    It returns None unless ``parse`` is the default decoder, and nothing else looks into each message.
    """
    hooks, latency = dispatcher.hooks, dispatcher.router.latency
    if parse is not decode or not hooks.is_parser_shared:
        return None
    if any(each is not None for each in (dispatcher.recent, latency, hooks.identity, hooks.per_connection)):
        return None
    return Lazy(dispatcher, inbound).parse


class Lazy:
    """Reads the keys of a connection's frames, and decodes the messages later.

    Every message is decoded at once while ``messages`` or ``frames`` has a subscriber, a filter is a function or passes
    everything, a reply is awaited, or the server may end a subscription with a message.

    A frame of which the keys cannot be read so, because it is no JSON object or a path leads into something else, is
    decoded at once. A frame that no consumer wants, and that is invalid JSON elsewhere, is not noticed.

    Args:
        dispatcher: delivers the messages and reports the frames that cannot be decoded.
        inbound: the receiving side of the connection.
    """

    def __init__(self, dispatcher: FrameDispatcher, inbound: Inbound) -> None:
        self._dispatcher = dispatcher
        self._index = dispatcher.router.index
        self._token: object = _NO_TOKEN
        self._read: Callable[[Frame], Any] | None = None
        # These dicts are never replaced. Each is empty while it does not need whole messages.
        self._watching = dispatcher.frames.subscriptions
        self._everything = dispatcher.router.messages.subscriptions
        self._expected = inbound.pending_replies
        self._ends = inbound.names.ends

    def parse(self, frame: Frame) -> Any:
        """Return the message of a frame, or a Deferred that decodes it later."""
        if self._token is not self._index.token:
            self._look_again()
        read = self._read
        if read is None or self._watching or self._everything or self._expected or self._ends:
            return decode(frame)
        try:
            keys = read(frame)
        except FAILURES:
            return decode(frame)
        return Deferred(self, frame, keys, self._token)

    def _look_again(self) -> None:
        """Find out which keys are read now, because the filters of the index have changed."""
        self._token = self._index.token
        keys = self._index.keys()
        self._read = None if keys is None or len(keys) > _MOST_KEYS else reader_of_keys(keys)

    def make(self, source: Frame) -> Any:
        """Return the message of a frame."""
        return decode(source)

    def failed(self, source: Frame, error: BaseException) -> None:
        """Report a frame that cannot be decoded."""
        self._dispatcher.reject(source, error)


@functools.lru_cache(maxsize=128)
def reader_of_keys(keys: frozenset[Hashable]) -> Callable[[Frame], dict[str, Any]] | None:
    """Return a function that decodes only the values of these keys and paths of a JSON object.

    It returns a dict that has the same values as the decoded object under these keys. It raises if the frame is no
    JSON object, or if a path leads into something that is no object.

    Returns:
        The function; None if a key cannot be read so.
    """
    try:
        wanted = _object_with([key if isinstance(key, tuple) else (key,) for key in keys])
    except TypeError:
        return None
    return msgspec.json.Decoder(wanted).decode


def _object_with(paths: Iterable[tuple[Any, ...]]) -> Any:
    """Return the type of a JSON object of which only these paths are decoded."""
    below: dict[str, list[tuple[Any, ...]]] = {}
    for first, *rest in paths:
        if type(first) is str and first.isascii():
            below.setdefault(first, []).append(tuple(rest))
        elif isinstance(first, str):
            # A key of another class may be equal to other strings. msgspec finds no keys that are not ASCII in a
            # TypedDict: it takes them for empty ones.
            raise TypeError(f"the key {first!r} cannot be read before the message")
    # Other keys, such as positions in lists, are in no object.
    fields = {
        first: _object_with(rests) if all(rest and type(rest[0]) is str for rest in rests) else Any
        for first, rests in below.items()
    }
    return TypedDict("Keys", fields, total=False)  # type: ignore[operator]
