"""Which answers of the server belong to which channels of one message. Pure."""

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

    If the ``acknowledged`` filters of all channels are equal, the first answer counts for all channels. Where they
    differ, the server may answer each channel, or the message as a whole with an answer that passes the filter of one
    channel. The second answer shows which: so after a single one the caller waits a little and then calls
    :meth:`conclude`.

    Args:
        channels: the channels of the message; at least one has an ``acknowledged`` filter.
        passes: returns whether a message passes a filter.
        accept: called with channels that the server has accepted, and its answer, before the next message is read.

    Attributes:
        waiting: the channels whose answer is awaited.
        refusals: channels that were refused, with the answer. Of several channels it is not known which one was.
        heard: done when an answer has come; the caller replaces it before it waits for the next one.
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
        # These are accepted or refused with the others.
        self._silent = [each for each in channels if not each.consent]
        self._is_single = len({each.consent for each in self.waiting}) <= 1
        self._count = 0
        self._latest: Any = None
        # Refusals of which it is not known yet whom they concern.
        self._doubtful: list[tuple[list[Channel], Any]] = []
        self.refusals: Final[list[tuple[Sequence[Channel], Any]]] = []
        self.heard: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def is_complete(self) -> bool:
        """Whether no answer is awaited any more."""
        return not self.waiting

    @property
    def is_doubtful(self) -> bool:
        """Whether another answer, or none for a while, shows what an answer means that has come."""
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
        """Decide what is doubtful: no other answer has come for a while."""
        if not self.is_doubtful:
            return
        if self._count == 1:
            # The only answer is that to the message as a whole.
            message = self._doubtful[0][1] if self._doubtful else None
            self._settle_all(message, is_refused=bool(self._doubtful))
            return
        for channels, message in self._doubtful:
            self._refuse([each for each in channels if each in self.waiting], message)
        self._doubtful.clear()

    def _refused_by(self, message: Any) -> list[Channel]:
        """Return the channels that a message may refuse."""
        refused = self._that_pass(message, self.waiting, _REFUSAL)
        # Where all channels have the same filter of refusals, an id that the other filter wants may name the channel.
        return (len(refused) > 1 and self._that_pass(message, refused, _CONSENT)) or refused

    def _that_pass(
        self, message: Any, channels: Iterable[Channel], filter_of: Callable[[Channel], Filter | None]
    ) -> list[Channel]:
        """Return the channels whose filter a message passes. Each filter is called once."""
        filters = dict.fromkeys(map(filter_of, channels))
        passed = {each for each in filters if each is not None and self._passes(each, message)}
        return [each for each in channels if filter_of(each) in passed]

    def _attribute(self) -> None:
        """Find out whom refusals concern: the server answers one by one."""
        for channels, message in list(self._doubtful):
            possible = [each for each in channels if each in self.waiting]
            if len(possible) <= 1:
                self._doubtful.remove((channels, message))
                self._refuse(possible, message)
        possible = list({each: None for channels, _ in self._doubtful for each in channels if each in self.waiting})
        if len(possible) == len(self._doubtful):
            # As many refusals as channels that they may concern.
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
