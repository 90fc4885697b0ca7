"""The demo exchange's history of trades over HTTP, with the faults of real ones on request."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Collection
from itertools import islice
from typing import Any, Final

from ..testing import HttpRequest, HttpResponse

__all__ = ["Trades"]

_KEPT: Final = 5_000
"""The number of trades of each symbol that are kept."""

_PAGE: Final = 1_000
"""The largest number of trades in one answer."""

_NUMBERED: Final = {"number": "n", "time": "T"}
"""What ``by`` may be, and the key of a trade that it means."""


class Trades:
    """Answers ``/trades?symbol=BTCUSDT&after=17&before=42&limit=100``: the trades between two numbers, oldest first.

    Without ``after``, the answer has the newest trades before ``before``; without ``before``, those up to now. It has
    at most ``limit`` trades, and at most 1,000. With ``by=time``, ``after`` and ``before`` are times in milliseconds,
    ``T``, and the answer includes both. By default they are numbers, ``n``, and it includes neither.

    Attributes:
        delay: seconds until a request is answered, with the trades at the end of that time.
        page: the largest number of trades in one answer.
        behind: the number of trades of each symbol by which the history is behind the feed.
        kept: the number of trades of each symbol that the history has: older ones are missing.
        takes_before: whether ``before`` counts. Many exchanges have no such parameter.
    """

    def __init__(self, symbols: Collection[str]) -> None:
        self.delay = 0.0
        self.page = _PAGE
        self.behind = 0
        self.kept = _KEPT
        self.takes_before = True
        self._symbols = symbols
        self._failures: deque[int] = deque()
        self._missing: set[tuple[str, int]] = set()
        self._trades: defaultdict[str, deque[dict[str, Any]]] = defaultdict(lambda: deque(maxlen=_KEPT))

    def add(self, message: dict[str, Any]) -> None:
        """Keep a message if it is a trade."""
        if message["e"] == "trade":
            self._trades[message["s"]].append(message)

    def fail(self, count: int = 1, *, status: int = 503) -> None:
        """Answer the next ``count`` requests with an HTTP status."""
        self._failures.extend([status] * count)

    def omit(self, symbol: str, *numbers: int) -> None:
        """Leave the trades with these numbers out of every answer."""
        self._missing.update((symbol, number) for number in numbers)

    async def answer(self, request: HttpRequest) -> Any:
        """Answer a request."""
        await asyncio.sleep(self.delay)
        if self._failures:
            return HttpResponse("try again\n", self._failures.popleft())
        symbol, asked = request.query.get("symbol", ""), request.query
        if symbol not in self._symbols:
            return HttpResponse({"msg": "no such symbol"}, 400)
        key = _NUMBERED.get(asked.get("by", "number"))
        numbers = {name: asked[name] for name in ("after", "before", "limit") if asked.get(name, "")}
        if key is None or not all(each.isascii() and each.isdigit() for each in numbers.values()):
            return HttpResponse({"msg": "expected numbers as after, before and limit, and by=number or by=time"}, 400)
        return self._page(symbol, key, {name: int(each) for name, each in numbers.items()})

    def _page(self, symbol: str, key: str, asked: dict[str, int]) -> list[dict[str, Any]]:
        trades = self._trades[symbol]
        known = [*islice(trades, max(0, len(trades) - self.kept), max(0, len(trades) - self.behind))]
        if self._missing:
            known = [each for each in known if (symbol, each["n"]) not in self._missing]
        inclusive = key == "T"
        if "after" in asked:
            known = [each for each in known if each[key] >= asked["after"] + (not inclusive)]
        if "before" in asked and self.takes_before:
            known = [each for each in known if each[key] <= asked["before"] - (not inclusive)]
        limit = min(asked.get("limit", self.page), self.page)
        return known[:limit] if "after" in asked else known[max(0, len(known) - limit) :]
