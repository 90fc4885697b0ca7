"""as_type: converts messages to a type that type checkers know."""

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
    """Convert each message with ``msgspec.convert``; a message that does not fit is left out and reported.

    The ``Gap`` objects of a stream made with ``gaps=True`` are passed on unchanged. (A type checker does not expect
    them in the result. Use ``isinstance`` to tell them from messages.)

    Args:
        type: a ``msgspec.Struct``, dataclass, TypedDict, NamedTuple, or any other type that msgspec converts to, such
            as unions of tagged Structs, or ``list[Trade]``. (For a union, type checkers see Any.)
        strict: False also converts ``"1.5"`` to a float and ``1`` to a bool, by msgspec's rules of lax conversion. Use
            it for feeds that send numbers as strings. True by default.

    Raises:
        TypeError: msgspec does not support the type.

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
    # Raise now for an unsupported type. Otherwise msgspec.convert would raise for every message.
    msgspec.json.Decoder(type)
    name = f"as_type({name_of(type) if inspect.isclass(type) else type})"

    def operator(source: Observable[Any]) -> Observable[Any]:
        reports = Reports(source, name)

        def subscribe(
            observer: abc.ObserverBase[Any], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            def on_next(message: Any) -> None:
                if isinstance(message, Gap):
                    # A Gap is not a message. The stream contains it because of gaps=True.
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
