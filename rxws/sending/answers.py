"""Finds out which of the server's answers belong to which channels of a sent message. No I/O."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any, Final

from ..messages.filters import Filter
from .channels import Channel

__all__ = ["Answers"]

_CONSENT: Final = attrgetter("consent")
_REFUSAL: Final = attrgetter("refusal")


class Answers:
    """The answers to one message that subscribes channels.

    If the ``acknowledged`` filters of all channels are equal, the first answer counts for all channels. If they differ,
    the server may answer each channel; or it may answer the whole message once, with an answer that passes the filter
    of one channel. A second answer shows that the server answers each channel. So after the first answer the caller
    waits a little, and calls :meth:`conclude` if no second answer arrives.

    Args:
        channels: the channels of the message; at least one has an ``acknowledged`` filter.
        passes: returns whether a message passes a filter.
        accept: called with channels that the server has accepted, and its answer, before the next message is handled.

    Attributes:
        waiting: the channels whose answer is awaited.
        refusals: channels that were refused, with the answer. If there are several channels, the server refused one or
            more of them, and it is unknown which.
        heard: done when an answer has arrived; the caller replaces it before it waits for the next one.
    """

    def __init__(
        self,
        channels: Iterable[Channel],
        passes: Callable[[Filter, Any], bool],
        accept: Callable[[Sequence[Channel], Any], object],
    ) -> None:
        self._passes = passes
        self._accept = accept
        self._all = channels = list(channels)
        self.waiting: Final[dict[Channel, None]] = {each: None for each in channels if each.consent}
        # Channels without an ``acknowledged`` filter are accepted or refused together with the others.
        self._silent = [each for each in channels if not each.consent]
        self._is_single = len({each.consent for each in self.waiting}) <= 1
        self._count = 0
        self._latest: Any = None
        # Refusals, each with the channels of which it may refuse one.
        self._doubtful: list[tuple[list[Channel], Any]] = []
        self.refusals: Final[list[tuple[Sequence[Channel], Any]]] = []
        self.heard: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def is_complete(self) -> bool:
        """Whether all awaited answers have arrived."""
        return not self.waiting

    @property
    def is_doubtful(self) -> bool:
        """Whether the meaning of an answer depends on whether another one follows soon."""
        return bool(self.waiting) and (self._count == 1 or bool(self._doubtful))

    def take(self, message: Any) -> bool:
        """Return whether a message is an answer, and note it."""
        refused, accepted = self._refused_by(message), []
        if not refused:
            accepted = self._that_pass(message, self.waiting, _CONSENT)
            if not accepted:
                return False
        self._count += 1
        self._latest = message
        if self._is_single:
            self._settle_all(message if refused else None, is_refused=bool(refused))
        elif refused:
            self._doubtful.append((refused, message))
        else:
            self._have_accepted(accepted)
        if self._count > 1:
            self._attribute()
        if self.is_complete:
            self._have_accepted(self._silent)
        if not self.heard.done():
            self.heard.set_result(None)
        return True

    def conclude(self) -> None:
        """Interpret the answers so far, because no other answer has arrived for a while."""
        if not self.is_doubtful:
            return
        if self._count == 1:
            # There is only one answer, so it answers the whole message.
            message = self._doubtful[0][1] if self._doubtful else None
            self._settle_all(message, is_refused=bool(self._doubtful))
            return
        for channels, message in self._doubtful:
            self._refuse([each for each in channels if each in self.waiting], message)
        self._doubtful.clear()

    def _refused_by(self, message: Any) -> list[Channel]:
        """Return the channels that a message may refuse."""
        refused = self._that_pass(message, self.waiting, _REFUSAL)
        # If all channels have the same ``rejected`` filter, an id in the answer may show the channel, because the
        # answer then passes the ``acknowledged`` filter of that channel.
        return (len(refused) > 1 and self._that_pass(message, refused, _CONSENT)) or refused

    def _that_pass(
        self, message: Any, channels: Iterable[Channel], filter_of: Callable[[Channel], Filter | None]
    ) -> list[Channel]:
        """Return the channels whose filter a message passes. Each filter is called once."""
        filters = dict.fromkeys(map(filter_of, channels))
        passed = {each for each in filters if each is not None and self._passes(each, message)}
        return [each for each in channels if filter_of(each) in passed]

    def _attribute(self) -> None:
        """Find the channel of each refusal. The server answers each channel."""
        for channels, message in list(self._doubtful):
            possible = [each for each in channels if each in self.waiting]
            if len(possible) <= 1:
                self._doubtful.remove((channels, message))
                self._refuse(possible, message)
        possible = list({each: None for channels, _ in self._doubtful for each in channels if each in self.waiting})
        if len(possible) == len(self._doubtful):
            # There are as many refusals as channels, so each channel was refused.
            for each, (_, message) in zip(possible, self._doubtful, strict=True):
                self._refuse([each], message)
            self._doubtful.clear()

    def _settle_all(self, message: Any, *, is_refused: bool) -> None:
        channels = [each for each in self._all if each in self.waiting or each in self._silent]
        self._doubtful.clear()
        if is_refused:
            self._silent = []
            self._refuse(channels, message)
        else:
            self._have_accepted(channels)

    def _refuse(self, channels: Sequence[Channel], message: Any) -> None:
        if channels:
            self._forget(channels)
            self.refusals.append((channels, message))

    def _have_accepted(self, channels: Sequence[Channel]) -> None:
        if channels:
            self._forget(channels)
            self._accept(channels, self._latest)

    def _forget(self, channels: Sequence[Channel]) -> None:
        for each in channels:
            self.waiting.pop(each, None)
        self._silent = [each for each in self._silent if each not in channels]
