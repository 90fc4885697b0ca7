"""What the server says of channels on one connection: their names there, and their ends."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Final

from ..reporting.reporter import Reporter
from .filters import Filter
from .hooks import Many
from .index import Index, Registration

__all__ = ["CHANNEL", "ChannelNames", "filter_of", "is_of_channel"]


class _Key:
    """The key of filters that no message has."""

    def __repr__(self) -> str:
        return "channel"


#: The key in the filter of a stream whose channel the server names. Its value is the channel's identity.
CHANNEL: Final = _Key()


def filter_of(channel: Hashable) -> Filter:
    """Return the filter of a stream that gets the messages of a channel by its name on each connection."""
    return Filter.parse([{CHANNEL: channel}])


def is_of_channel(wanted: Filter) -> bool:
    """Return whether a filter was made by :func:`filter_of`."""
    return bool(wanted.alternatives) and CHANNEL in wanted.alternatives[0]


class ChannelNames:
    """The channels that have a name on one connection, and filters: for the messages under each name, and for its end.

    Attributes:
        ends: the channels of which the end is awaited.

    Args:
        reporter: reports filters that raise.
    """

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._index: Index[Hashable] = Index(self._failed)
        self._registrations: dict[Hashable, Registration[Hashable]] = {}
        self._owners: dict[Filter, Hashable] = {}

        self.ends: Final[dict[Hashable, Registration[Callable[[Any], None]]]] = {}
        self._end_index: Index[Callable[[Any], None]] = Index(self._failed)

    def _failed(self, wanted: Filter, message: Any, error: BaseException) -> None:
        self._reporter.failed(wanted.predicate or wanted, message, error)

    def __bool__(self) -> bool:
        return bool(self._registrations)

    def assign(self, channel: Hashable, wanted: Filter) -> None:
        """From now on, messages that pass ``wanted`` belong to the channel, and no longer to another channel."""
        self._forget_name(channel)
        # The server gives a name again when the subscription that had it has ended.
        self._forget_name(self._owners.get(wanted))
        self._owners[wanted] = channel
        self._registrations[channel] = self._index.add(channel, wanted)

    def withdraw(self, channel: Hashable) -> None:
        """Forget the name of a channel, if it has one, and no longer await its end."""
        self.await_end(channel, None, lambda _: None)
        self._forget_name(channel)

    def _forget_name(self, channel: Hashable) -> None:
        registration = self._registrations.pop(channel, None)
        if registration is not None:
            del self._owners[registration.filter]
            self._index.remove(registration)

    def await_end(self, channel: Hashable, wanted: Filter | None, ended: Callable[[Any], None]) -> None:
        """Call ``ended`` with each message that passes ``wanted``, when it arrives. None: call nothing any more."""
        registration = self.ends.pop(channel, None)
        if registration is not None:
            self._end_index.remove(registration)
        if wanted is not None:
            self.ends[channel] = self._end_index.add(ended, wanted)

    def note_end(self, message: Any) -> None:
        """Look up whether a message that has just arrived ends channels."""
        for ended in self._end_index.match(message):
            ended(message)

    def channels_of(self, message: Any) -> Sequence[Hashable]:
        """Return the channels of a message."""
        return self._index.match(message)

    def look_up(self, message: Any) -> Sequence[Sequence[Hashable]]:
        """Return the channels of each message of a frame that has just arrived; empty if no channel has a name.

        A name may belong to another channel when the message is delivered.
        """
        if not self:
            return ()
        return [self.channels_of(item) for item in (message if type(message) is Many else (message,))]
