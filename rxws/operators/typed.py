"""as_type: messages of a type that the type checker knows."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar, overload

import msgspec
from reactivex import Observable, abc

from ..callables import name_of
from ..reporting import FAILURES, Gap
from .sources import Reports

__all__ = ["as_type"]

T = TypeVar("T")


@overload
def as_type(type: type[T], *, strict: bool = True) -> Callable[[Observable[Any]], Observable[T]]: ...


@overload
def as_type(type: Any, *, strict: bool = True) -> Callable[[Observable[Any]], Observable[Any]]: ...


def as_type(type: Any, *, strict: bool = True) -> Callable[[Observable[Any]], Observable[Any]]:  # noqa: A002
    """Convert each message with ``msgspec.convert``; what does not fit is left out and reported.

    The ``Gap`` objects of a stream made with ``gaps=True`` are passed on as they are. (A type checker does not know of
    them behind it: ``isinstance`` tells them from messages.)

    Args:
        type: a ``msgspec.Struct``, dataclass, TypedDict, NamedTuple, or whatever else msgspec converts to: unions of
            tagged Structs, ``list[Trade]``. (A type checker sees a class; of a union it sees Any.)
        strict: with False, ``"1.5"`` is taken for a float and ``1`` for a bool, as msgspec's table of lax conversions
            has it: for feeds that send numbers as strings.

    Raises:
        TypeError: msgspec does not know the type.

    Example::

        >>> import msgspec, reactivex as rx
        >>> from rxws import operators as rxops
        >>> class Trade(msgspec.Struct):
        ...     symbol: str = msgspec.field(name="s")
        ...     price: float = msgspec.field(name="p")
        >>> messages = rx.of({"s": "BTC", "p": "1.5"}, {"result": None, "id": 1})
        >>> _ = messages.pipe(rxops.as_type(Trade, strict=False)).subscribe(print)
        Trade(symbol='BTC', price=1.5)

    On a feed::

        async for trade in ws.stream_filter([{"e": "trade"}]).pipe(rxops.as_type(Trade)):
            print(trade.symbol, trade.price)
    """
    # convert itself would raise for every message.
    msgspec.json.Decoder(type)
    name = f"as_type({name_of(type) if inspect.isclass(type) else type})"

    def operator(source: Observable[Any]) -> Observable[Any]:
        reports = Reports(source, name)

        def subscribe(
            observer: abc.ObserverBase[Any], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            def on_next(message: Any) -> None:
                if isinstance(message, Gap):
                    # No message, but what was asked for with gaps=True.
                    observer.on_next(message)
                    return
                try:
                    converted = msgspec.convert(message, type, strict=strict)
                except FAILURES as error:
                    reports.rejected(message, error)
                else:
                    observer.on_next(converted)

            return source.subscribe(on_next, observer.on_error, observer.on_completed, scheduler=scheduler)

        return Observable(subscribe)

    return operator
