"""One side of an order book: its levels in order. No I/O."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Generic, TypeVar, overload

__all__ = ["Side"]

N = TypeVar("N", Decimal, float)


class Side(Sequence[tuple[N, N]], Generic[N]):
    """The levels of one side, as a sequence of pairs of price and size, the best price first.

    It is a view, which always shows the present levels. A slice (``book.bids[:10]``) is a list. The time for ``len``,
    the first level and a change of a size does not depend on the number of levels.

    A dict contains the sizes, and a list the sorted prices. Inserting into a list moves memory, but for thousands of
    prices this takes less time than a SortedDict of sortedcontainers.
    """

    __slots__ = ("_is_bid", "_prices", "_sizes")

    def __init__(self, *, is_bid: bool) -> None:
        self._is_bid = is_bid
        self._sizes: dict[N, N] = {}
        # In ascending order, so the best bid is the last one.
        self._prices: list[N] = []

    @property
    def best(self) -> N | None:
        """The best price; None without a level."""
        return self._prices[-1 if self._is_bid else 0] if self._prices else None

    def size_at(self, price: N) -> N | None:
        """Return the size at a price; None if there is no such level."""
        return self._sizes.get(price)

    def volume_to(self, price: N) -> N | int:
        """Return the volume for an order with this limit: the sizes of all levels at this price or a better one.

        Args:
            price: the limit, as a number of the book's type.

        Returns:
            The volume; 0 if no level is as good.
        """
        if self._is_bid:
            prices = self._prices[bisect_left(self._prices, price) :]
        else:
            prices = self._prices[: bisect_right(self._prices, price)]
        return sum(map(self._sizes.__getitem__, prices))

    def apply(self, levels: Iterable[tuple[N, N]]) -> None:
        """Set the sizes at prices. A size of 0 removes the level, if there is one."""
        sizes, prices = self._sizes, self._prices
        for price, size in levels:
            if size:
                if price not in sizes:
                    insort(prices, price)
                sizes[price] = size
            elif sizes.pop(price, None) is not None:
                del prices[bisect_left(prices, price)]

    def replace(self, levels: Iterable[tuple[N, N]]) -> None:
        """Set all levels, without those of size 0. If prices are equal, the last one counts."""
        self._sizes.clear()
        self._sizes.update((price, size) for price, size in dict(levels).items() if size)
        self._prices[:] = sorted(self._sizes)

    def truncate(self, depth: int) -> None:
        """Remove the worst levels beyond a number of levels."""
        excess = len(self._prices) - depth
        if excess > 0:
            worst = slice(excess) if self._is_bid else slice(depth, None)
            for price in self._prices[worst]:
                del self._sizes[price]
            del self._prices[worst]

    def __len__(self) -> int:
        return len(self._prices)

    def __iter__(self) -> Iterator[tuple[N, N]]:
        return iter(self[:])

    @overload
    def __getitem__(self, index: int) -> tuple[N, N]: ...

    @overload
    def __getitem__(self, index: slice) -> list[tuple[N, N]]: ...

    def __getitem__(self, index: int | slice) -> tuple[N, N] | list[tuple[N, N]]:
        prices, sizes = self._prices, self._sizes
        if isinstance(index, slice):
            start, stop, step = index.indices(len(prices))
            if self._is_bid:
                # Index from the end, so that a few best levels cost no copy of all prices.
                return [(price, sizes[price]) for price in (prices[-1 - each] for each in range(start, stop, step))]
            return [(price, sizes[price]) for price in prices[index]]
        price = prices[~index if self._is_bid else index]
        return price, sizes[price]

    def __repr__(self) -> str:
        return f"<{len(self)} {'bids' if self._is_bid else 'asks'}, best {self.best}>"
