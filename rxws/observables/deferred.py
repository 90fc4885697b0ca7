"""Deferred: an item that is made when it is first needed, once for all that share it."""

from __future__ import annotations

from typing import Any, Final, Generic, Protocol, TypeVar

import msgspec

from ..reporting.cancellation import FAILURES

__all__ = ["SKIPPED", "Deferred", "Maker", "made"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

#: The result of :meth:`Deferred.get` if the item could not be made, so that it is skipped.
SKIPPED: Final[Any] = object()


class Maker(Protocol[T_co]):
    """Makes the items of Deferreds."""

    def make(self, source: Any) -> T_co:
        """Return the item of a source. Called in any thread."""

    def failed(self, source: Any, error: BaseException) -> None:
        """Report that the item of a source could not be made."""


class Deferred(msgspec.Struct, Generic[T], eq=False):
    """An item that is made when it is first needed, once for all that share it.

    It is a Struct, because there is one per message, and one is made in two thirds of the time.

    Attributes:
        part: a part of the item, which is made at once; None after it was used.
        token: says with which other parts this one can be compared.

    Args:
        maker: makes the item.
        source: what the item is made of.
        part: as above.
        token: as above.
    """

    _maker: Maker[T] | None
    _source: Any
    part: Any
    token: object
    _item: T = SKIPPED

    def get(self) -> T:
        """Return the item, or SKIPPED if it could not be made, which is then reported once."""
        maker = self._maker
        if maker is not None:
            source, self._maker = self._source, None
            try:
                self._item = maker.make(source)
            except FAILURES as error:
                maker.failed(source, error)
            self._source = self.part = self.token = None
        return self._item

    def peek(self) -> T | None:
        """Return the item without keeping it, or None if it cannot be made. May be called from any thread."""
        maker, source = self._maker, self._source
        if maker is None:
            return None if self._item is SKIPPED else self._item
        try:
            return maker.make(source)
        except FAILURES:
            # The loop's thread reports this when it makes the item, or has taken the source just now.
            return None


def made(item: Any) -> Any:
    """Return an item, or the item of a Deferred, which may be SKIPPED."""
    return item.get() if type(item) is Deferred else item
