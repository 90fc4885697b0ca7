"""An invented market: random-walk prices, numbered messages, order books. No clock, no network."""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["HISTORY", "KINDS", "SYMBOLS", "Market", "channel_of"]

KINDS = ("trade", "bookTicker", "depth")
"""The kinds of channels that each symbol has: ``btcusdt@trade``, ``btcusdt@bookTicker``, ``btcusdt@depth``."""

HISTORY = 1_000
"""The number of old states of each book that are kept, for snapshots that are older than the feed."""

# By symbol: the first price in ticks, and the decimal places of a tick.
_START: dict[str, tuple[int, int]] = {
    "BTCUSDT": (6_400_000, 2),
    "ETHUSDT": (310_000, 2),
    "BNBUSDT": (58_000, 2),
    "SOLUSDT": (14_500, 2),
    "XRPUSDT": (5_200, 4),
    "ADAUSDT": (3_900, 4),
    "DOGEUSDT": (12_300, 5),
    "TRXUSDT": (15_100, 5),
    "AVAXUSDT": (2_710, 2),
    "LINKUSDT": (11_400, 3),
    "DOTUSDT": (4_320, 3),
    "POLUSDT": (3_780, 4),
    "LTCUSDT": (6_720, 2),
    "BCHUSDT": (35_500, 2),
    "UNIUSDT": (7_640, 3),
    "ATOMUSDT": (4_510, 3),
    "XLMUSDT": (9_410, 5),
    "ETCUSDT": (1_890, 2),
    "FILUSDT": (3_690, 3),
    "APTUSDT": (8_230, 3),
}

SYMBOLS = tuple(_START)
"""The twenty symbols that are traded."""

_NEAR, _FAR = 10, 30
"""Distances from the middle price, in ticks. New orders are at most _NEAR away; orders beyond _FAR are removed."""


def channel_of(symbol: str, kind: str) -> str:
    """Return the name of a channel: ``channel_of("BTCUSDT", "trade")`` is ``"btcusdt@trade"``."""
    return f"{symbol.lower()}@{kind}"


@dataclass(slots=True)
class _Book:
    middle: int
    decimals: int
    updates: int = 0
    bids: dict[int, float] = field(default_factory=dict)
    asks: dict[int, float] = field(default_factory=dict)
    history: deque[tuple[int, dict[int, float], dict[int, float]]] = field(
        default_factory=lambda: deque(maxlen=HISTORY)
    )

    def price(self, ticks: int) -> float:
        return ticks / float(10**self.decimals)

    def levels(self, side: dict[int, float], *, best_first: bool) -> list[list[float]]:
        return [[self.price(ticks), side[ticks]] for ticks in sorted(side, reverse=best_first)]


class Market:
    """Prices, order books and the messages about them; the same seed gives the same messages.

    Args:
        symbols: the traded symbols. Symbols that are not in :data:`SYMBOLS` begin at 100.00.
        seed: the seed of the random numbers.
    """

    def __init__(self, symbols: Sequence[str] = SYMBOLS, *, seed: int = 0) -> None:
        if not symbols:
            raise ValueError("symbols: expected at least one")
        self.symbols = tuple(symbols)
        self.numbers: Counter[str] = Counter()
        """The last number of each channel."""
        self._random = random.Random(seed)
        self._books = {symbol: _Book(*_START.get(symbol, (10_000, 2))) for symbol in self.symbols}
        for symbol in self.symbols:
            for _ in range(20):
                self._change_book(symbol)

    @property
    def channels(self) -> list[str]:
        """The names of all channels."""
        return [channel_of(symbol, kind) for symbol in self.symbols for kind in KINDS]

    def next(self, time: float) -> tuple[str, dict[str, Any]]:
        """Make the next message. Half of the messages are trades; the others are best prices and changes of books.

        Args:
            time: seconds since the epoch, for the trade's ``T``.

        Returns:
            The channel and the message.
        """
        symbol = self._random.choice(self.symbols)
        chance = self._random.random()
        if chance < 0.5:
            kind, message = "trade", self._trade(symbol, time)
        elif chance < 0.75:
            kind, message = "bookTicker", self._book_ticker(symbol)
        else:
            kind, message = "depth", self._change_book(symbol)
        channel = channel_of(symbol, kind)
        self.numbers[channel] += 1
        message["n"] = self.numbers[channel]
        return channel, message

    def book(self, symbol: str, *, behind: int = 0) -> dict[str, Any]:
        """Return the whole true order book: ``{"lastUpdateId": …, "bids": [[price, quantity], …], "asks": …}``.

        Best prices come first.

        Args:
            symbol: the symbol.
            behind: return the book of this many changes ago (at most 1,000, or all that there were).

        Raises:
            KeyError: the symbol is not traded.
        """
        book = self._books[symbol]
        updates, bids, asks = book.updates, book.bids, book.asks
        if behind > 0 and book.history:
            updates, bids, asks = book.history[-min(behind, len(book.history))]
        return {
            "lastUpdateId": updates,
            "bids": book.levels(bids, best_first=True),
            "asks": book.levels(asks, best_first=False),
        }

    def snapshot(self, symbol: str) -> dict[str, Any]:
        """Return the whole true order book as a message of the feed."""
        book = self.book(symbol)
        levels = {"b": book["bids"], "a": book["asks"]}
        return {"e": "depthUpdate", "s": symbol, "snapshot": True, "u": book["lastUpdateId"], **levels}

    def _quantity(self) -> float:
        return self._random.randint(1, 50_000) / 1_000

    def _trade(self, symbol: str, time: float) -> dict[str, Any]:
        book = self._books[symbol]
        book.middle = max(2 * _FAR, book.middle + self._random.randint(-2, 2))
        return {"e": "trade", "s": symbol, "p": book.price(book.middle), "q": self._quantity(), "T": int(time * 1000)}

    def _book_ticker(self, symbol: str) -> dict[str, Any]:
        book = self._books[symbol]
        return {
            "e": "bookTicker",
            "s": symbol,
            "b": book.price(book.middle - self._random.randint(1, 3)),
            "B": self._quantity(),
            "a": book.price(book.middle + self._random.randint(1, 3)),
            "A": self._quantity(),
        }

    def _change_book(self, symbol: str) -> dict[str, Any]:
        book = self._books[symbol]
        book.history.append((book.updates, dict(book.bids), dict(book.asks)))
        changes: dict[str, list[list[float]]] = {}
        for name, side, sign in (("b", book.bids, -1), ("a", book.asks, 1)):
            # The middle price has moved. Remove orders that it has passed, which would be matched, and orders far away.
            changed = {ticks: 0.0 for ticks in side if not 0 < (ticks - book.middle) * sign <= _FAR}
            for _ in range(self._random.randint(1, 2)):
                ticks = book.middle + sign * self._random.randint(1, _NEAR)
                changed[ticks] = 0.0 if ticks in side and self._random.random() < 0.3 else self._quantity()
            for ticks, quantity in changed.items():
                if quantity:
                    side[ticks] = quantity
                else:
                    del side[ticks]
            changes[name] = [[book.price(ticks), quantity] for ticks, quantity in changed.items()]
        first = book.updates + 1
        book.updates += sum(map(len, changes.values()))
        return {"e": "depthUpdate", "s": symbol, "U": first, "u": book.updates, **changes}
