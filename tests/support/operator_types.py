"""Types that the type checkers must infer for piped operators; checked by tests/test_types.py, never run."""

from collections.abc import AsyncIterator
from typing import Any, TypedDict, assert_type

import msgspec
from reactivex import Observable
from reactivex import operators as ops

from rxws import AsyncObservable, Stream
from rxws import operators as rxops


class Trade(msgspec.Struct):
    s: str
    p: float


class Quote(TypedDict):
    s: str


async def price_of(trade: Trade) -> float:
    return trade.p


async def typed(messages: AsyncObservable[Any], trades: AsyncObservable[Trade], plain: Observable[Trade]) -> None:
    assert_type(messages.pipe(rxops.as_type(Trade)), AsyncObservable[Trade])
    assert_type(messages.pipe(rxops.as_type(Quote, strict=False)), AsyncObservable[Quote])
    assert_type(messages.pipe(rxops.as_type(Trade), ops.filter(lambda trade: trade.p > 1)), AsyncObservable[Trade])
    messages.pipe(rxops.as_type(Trade)).map(lambda trade: trade.price)  # type: ignore[attr-defined]  # pyright: ignore
    assert_type(trades.pipe(rxops.conflate(lambda trade: trade.s)), AsyncObservable[rxops.Conflated[Trade]])
    assert_type(trades.pipe(rxops.windows(60, time="T")), AsyncObservable[rxops.Window[Trade]])
    assert_type(trades.pipe(rxops.detect_gaps("u")), AsyncObservable[Trade | rxops.SequenceGap])
    assert_type(trades.pipe(rxops.stale_after(5)), AsyncObservable[rxops.Stale | rxops.Recovered])
    assert_type(trades.pipe(rxops.map_async(price_of, concurrency=5)), AsyncObservable[float])
    assert_type(plain.pipe(rxops.conflate()), Observable[rxops.Conflated[Trade]])
    async for trade in messages.pipe(rxops.as_type(Trade), rxops.to_async_iterator(100, "drop_oldest")):
        assert_type(trade, Trade)
    async for held in trades.pipe(ops.filter(lambda trade: trade.p > 1), rxops.to_async_iterator(maxsize=None)):
        assert_type(held, Trade)
    stream: Stream[Trade] = rxops.to_async_iterator()(trades)
    iterator: AsyncIterator[Trade] = stream
    assert_type(await anext(iterator), Trade)
