"""OrderBook: the levels of a market, kept from snapshots and changes."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from decimal import Decimal
from math import inf, isfinite
from typing import Any, Generic, TypeAlias, TypeVar, overload

from ..callables import is_coroutine_function, is_plain_function, name_of
from ..errors import RxwsError
from ..messages import ABSENT, field_reader, look_up
from ..streams import Snapshot
from .side import Side

__all__ = ["ChecksumMismatch", "Levels", "OrderBook"]

N = TypeVar("N", Decimal, float)

#: The place of the levels in a message: the keys or paths of ``bids`` and ``asks``, and the key or position of
#: ``price`` (0 by default) and ``size`` (1) in a level. Or a function that returns the levels as
#: ``(side, price, size)``, with the side ``"bid"`` or ``"ask"``.
Levels: TypeAlias = Mapping[str, Hashable] | Callable[[Any], Iterable[tuple[str, Any, Any]]]

_Levels: TypeAlias = tuple[list[tuple[Any, Any]], list[tuple[Any, Any]]]


class ChecksumMismatch(RxwsError):
    """An order book differs from its venue's: the ``checksum`` function returned False. Get a new snapshot."""


class OrderBook(Generic[N]):
    """The bids and asks of one market, in order.

    It applies the items of ``stream.resync``, or messages of a venue. It does not read the numbers of messages, because
    ``resync`` decides which changes follow which snapshot.

    Args:
        changes: the place of the levels in a change: the keys or paths ``{"bids": "b", "asks": "a"}``, and optionally
            ``"price"`` and ``"size"``, the keys or positions in a level (0 and 1 by default). Or a function of a change
            that returns ``(side, price, size)`` for each level, with the side ``"bid"`` or ``"ask"``. A size of 0
            removes a level.
        snapshot: the same for a snapshot; None (the default) if it has the structure of a change.
        number: the type of prices and sizes: ``Decimal`` (the default), which is exact and keeps the digits for
            checksums, or ``float``, which takes less time.
        depth: keep only this many of the best levels of each side; None (the default) keeps all. Pass the subscribed
            depth if the venue does not remove levels beyond it (Kraken).
        checksum: a function of the book and the applied message (or the snapshot's data) that returns whether the book
            is correct; None (the default) checks nothing.

    Raises:
        TypeError: an argument has the wrong type, or ``checksum`` or a function for levels is a coroutine function.
        ValueError: a mapping has other keys than ``bids``, ``asks``, ``price`` and ``size``, or lacks ``bids`` or
            ``asks``; or ``depth`` is less than 1.

    Attributes:
        bids: the :class:`Side` of the bids, the highest price first.
        asks: the :class:`Side` of the asks, the lowest price first.

    Example::

        >>> import rxws
        >>> book = rxws.books.OrderBook({"bids": "b", "asks": "a"}, {"bids": "bids", "asks": "asks"})
        >>> book.apply(rxws.Snapshot({"bids": [["9.9", "1"], ["9.8", "2"]], "asks": [["10.1", "3"]]}, "start"))
        >>> book.apply({"b": [["9.9", "0"]], "a": [["10.0", "4"]]})
        >>> book.best
        (Decimal('9.8'), Decimal('10.0'))
        >>> book.asks.volume_to(Decimal("10.1"))
        Decimal('7')
    """

    @overload
    def __init__(
        self: OrderBook[Decimal],
        changes: Levels,
        snapshot: Levels | None = None,
        *,
        number: type[Decimal] = Decimal,
        depth: int | None = None,
        checksum: Callable[[OrderBook[Decimal], Any], bool] | None = None,
    ) -> None: ...

    @overload
    def __init__(
        self: OrderBook[float],
        changes: Levels,
        snapshot: Levels | None = None,
        *,
        number: type[float],
        depth: int | None = None,
        checksum: Callable[[OrderBook[float], Any], bool] | None = None,
    ) -> None: ...

    def __init__(
        self,
        changes: Levels,
        snapshot: Levels | None = None,
        *,
        number: type[Any] = Decimal,
        depth: int | None = None,
        checksum: Callable[[Any, Any], bool] | None = None,
    ) -> None:
        if number not in (Decimal, float):
            raise TypeError(f"number must be Decimal or float, not {number!r}")
        if depth is not None and (isinstance(depth, bool) or not isinstance(depth, int)):
            raise TypeError(f"depth must be an int, or None for all levels, not {depth!r}")
        if depth is not None and depth < 1:
            raise ValueError(f"depth must be at least 1, not {depth}")
        if checksum is not None and not is_plain_function(checksum):
            raise TypeError(f"checksum must be a plain function of the book and the message, not {checksum!r}")
        self._number: Callable[[Any], Any] = _exact if number is Decimal else float
        self._read_change = self._reader(changes, "changes")
        self._read_snapshot = self._read_change if snapshot is None else self._reader(snapshot, "snapshot")
        self._depth = depth
        self._checksum = checksum
        self.bids: Side[N] = Side(is_bid=True)
        self.asks: Side[N] = Side(is_bid=False)

    @property
    def best(self) -> tuple[N | None, N | None]:
        """The best bid and the best ask; None for a side without levels."""
        return self.bids.best, self.asks.best

    def depth(self, count: int) -> tuple[list[tuple[N, N]], list[tuple[N, N]]]:
        """Return the best ``count`` bids and asks, as pairs of price and size, the best first."""
        return self.bids[:count], self.asks[:count]

    def apply(self, item: Any) -> None:
        """Apply a change, or an :class:`rxws.Snapshot` in place of all levels.

        Args:
            item: an item of ``stream.resync``, or a message of the venue.

        Raises:
            KeyError: the message has neither bids nor asks, or a level lacks its price or size; the book is unchanged.
            ValueError: a price or a size is not a finite number, or a size is negative; the book is unchanged.
            ChecksumMismatch: ``checksum`` returned False; the message was applied.
            Exception: ``checksum`` raised it; the message was applied.
        """
        if isinstance(item, Snapshot):
            self.replace(item.data)
            return
        bids, asks = self._read_change(item)
        self.bids.apply(bids)
        self.asks.apply(asks)
        self._finish(item)

    def replace(self, snapshot: Any) -> None:
        """Set all levels from a snapshot, for venues that send it in the feed.

        Args:
            snapshot: the message, or the data of an :class:`rxws.Snapshot`.

        Raises:
            Exception: as :meth:`apply`.
        """
        bids, asks = self._read_snapshot(snapshot)
        self.bids.replace(bids)
        self.asks.replace(asks)
        self._finish(snapshot)

    def clear(self) -> None:
        """Remove all levels."""
        self.bids.replace(())
        self.asks.replace(())

    def _finish(self, message: Any) -> None:
        if self._depth is not None:
            self.bids.truncate(self._depth)
            self.asks.truncate(self._depth)
        if self._checksum is None:
            return
        try:
            is_right = self._checksum(self, message)
        except Exception as error:
            error.add_note(f"It was raised by {name_of(self._checksum)}, the checksum function of {self!r}.")
            raise
        if not is_right:
            raise ChecksumMismatch(f"{name_of(self._checksum)} returned {is_right!r} for {self!r}")

    def _reader(self, given: Levels, argument: str) -> Callable[[Any], _Levels]:
        """Return a function that reads the bids and the asks of a message, as numbers of the book's type."""
        if callable(given):
            return self._reader_by_function(given, argument)
        if not isinstance(given, Mapping):
            raise TypeError(f'{argument} must be a mapping, {{"bids": …, "asks": …}}, or a function, not {given!r}')
        if not {"bids", "asks"} <= given.keys() <= {"bids", "asks", "price", "size"}:
            raise ValueError(
                f"{argument} must have the keys 'bids' and 'asks', and may have 'price' and 'size', not {list(given)}"
            )
        bids, asks = given["bids"], given["asks"]
        read_bids, _ = field_reader(bids, f"{argument}['bids']"), field_reader(asks, f"{argument}['asks']")
        read_levels = _level_reader(given.get("price", 0), given.get("size", 1), argument, self._number)

        def read(message: Any) -> _Levels:
            found = look_up(message, bids), look_up(message, asks)
            if found == (ABSENT, ABSENT):
                read_bids(message)  # Raise the error that names the missing key. (One missing side is not an error.)
            return (
                read_levels(found[0]) if found[0] is not ABSENT and found[0] else [],
                read_levels(found[1]) if found[1] is not ABSENT and found[1] else [],
            )

        return read

    def _reader_by_function(self, function: Callable[[Any], Any], argument: str) -> Callable[[Any], _Levels]:
        if is_coroutine_function(function):
            raise TypeError(f"{argument} must be a plain function, and {name_of(function)} is a coroutine function")

        def read(message: Any) -> _Levels:
            sides: dict[str, list[tuple[Any, Any]]] = {"bid": [], "ask": []}
            for side, price, size in function(message):
                if side not in sides:
                    raise ValueError(f"{argument}: the side of a level must be 'bid' or 'ask', not {side!r}")
                sides[side].append(_checked(price, size, self._number))
            return sides["bid"], sides["ask"]

        return read

    def __repr__(self) -> str:
        bid, ask = self.best
        return f"<{type(self).__name__}: {len(self.bids)} bids, {len(self.asks)} asks, best {bid} / {ask}>"


def _exact(value: Any) -> Decimal:
    # The repr of a float has the digits that the server sent.
    return Decimal(value) if type(value) is not float else Decimal(repr(value))


def _level_reader(
    price: Hashable, size: Hashable, argument: str, number: Callable[[Any], N]
) -> Callable[[Any], list[tuple[N, N]]]:
    """Return a function that reads the pairs of price and size of some levels, and checks them."""
    read_price, read_size = field_reader(price, f"{argument}['price']"), field_reader(size, f"{argument}['size']")

    def read(levels: Any) -> list[tuple[N, N]]:
        try:
            found = [(number(level[price]), number(level[size])) for level in levels]
            # Check all levels at once. A function call for each level would double the time.
            if not [price for price, size in found if not (isfinite(price) and 0 <= size < inf)]:
                return found
        except (ArithmeticError, LookupError, TypeError, ValueError):
            pass  # A level is neither a list nor a dict, or is wrong. The code below raises an error that names it.
        return [_checked(read_price(level), read_size(level), number) for level in levels]

    return read


def _checked(price: Any, size: Any, number: Callable[[Any], N]) -> tuple[N, N]:
    try:
        level = number(price), number(size)
        if isfinite(level[0]) and 0 <= level[1] < inf:
            return level
    except (ArithmeticError, TypeError, ValueError):
        pass  # The value is not a number.
    raise ValueError(f"a level needs a finite price, and a size that is not negative, not {price!r} and {size!r}")
