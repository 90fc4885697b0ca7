"""The operators as methods. Each method returns an AsyncObservable, as ``pipe`` does.

The stub beside this file, ``fluent.pyi``, declares these return types for the type checkers.
``tests/support/fluent.py`` writes the stub from reactivex's signatures.
"""

from __future__ import annotations

import functools
import inspect
from abc import ABCMeta
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, Final, NoReturn, TypeVar

from reactivex import Observable, abc
from reactivex import operators as ops

from ..callables import USE_OF_COROUTINES, is_coroutine_function, name_of

__all__ = ["FluentOperators"]

T_co = TypeVar("T_co", covariant=True)


_OPERATORS: Final = frozenset(name for name in dir(Observable) if not name.startswith("_")) - {"pipe", "subscribe"}

#: The functions in reactivex that implement the operators which emit the results of the user's function. That function
#: may be a coroutine function, because a later operator may await the coroutines.
_PROJECTIONS: Final = frozenset({"map_", "map_indexed_", "starmap_", "starmap_indexed_"})


class _WithoutOperators(ABCMeta):
    """``dir`` of a class omits reactivex's operators, so that ``help(rxws)`` shows the names of rxws.

    ``dir`` of an instance lists them, so that a notebook completes them.
    """

    def __dir__(cls) -> Iterable[str]:
        return [name for name in super().__dir__() if name not in _OPERATORS]


class FluentOperators(Observable[T_co], metaclass=_WithoutOperators):
    """An Observable whose operators, piped or fluent, pass their results through :meth:`_bind`."""

    def _bind(self, result: Any) -> Any:
        """Return the result of an operator, bound to the context of this Observable. Subclasses define it."""
        raise NotImplementedError

    def pipe(self, *operators: Callable[[Any], Any]) -> Any:
        """Compose operators from left to right. Each Observable among the results is an AsyncObservable.

        Example::

            ws.messages.pipe(ops.map(lambda trade: float(trade["p"])), ops.buffer_with_time(1.0))

        Operators do not await. If an operator of reactivex was given a coroutine function, the sequence ends with
        TypeError at the first item. Use ``rxws.operators.map_async(function)``. Only ``ops.map`` may be given one, if a
        later operator awaits the coroutines: ``ops.map(function), ops.flat_map(asyncio.ensure_future)``.
        """
        result: Any = self
        for operator in operators:
            # Bind each result and not only the last one, so that an operator that subscribes to its source without a
            # scheduler gets the loop's scheduler.
            unusable = next(filter(is_coroutine_function, _arguments_of(operator)), None)
            if unusable is not None:
                result = self._bind(ops.map(functools.partial(_refuse, "an operator", unusable))(result))
            result = self._bind(operator(result))
        return result

    def run(self, scheduler: abc.SchedulerBase | None = None) -> NoReturn:
        """Raise RuntimeError, because a blocking wait would stop the event loop that must deliver the items."""
        raise RuntimeError("run() would block its own event loop: await the Observable, or iterate with 'async for'")

    @property
    def batches(self) -> NoReturn:
        """Raise AttributeError, because only a stream has ``batches()``."""
        instead = "only a stream has batches(): use pipe(ops.buffer_with_time_or_count(seconds, count))"
        raise AttributeError(f"{type(self).__name__!r} object has no attribute 'batches': {instead}")

    def __await__(self) -> Generator[Any, None, Any]:
        """Return the last item when the sequence ends. Cancelling ends the subscription.

        Raises:
            SequenceContainsNoElementsError: the sequence ended without an item.
        """
        # reactivex's own method passes a scheduler that uses the wall clock.
        return self.pipe(ops.to_future()).__await__()

    def __add__(self, other: Observable[Any]) -> Any:
        return self.pipe(ops.concat(other))

    __iadd__ = __add__

    def __getitem__(self, key: slice | int) -> Any:
        return self._bind(super().__getitem__(key))


def _arguments_of(operator: object) -> Iterator[object]:
    """Yield the arguments that an operator of reactivex was made with, except those of projections.

    Only the closures of reactivex's own functions are read, because an operator from elsewhere may await the results of
    the functions that it was given.
    """
    if not inspect.isfunction(operator) or not operator.__module__.startswith("reactivex."):
        yield operator
        return
    closure = inspect.getclosurevars(operator).nonlocals
    if getattr(closure.get("fun"), "__name__", None) in _PROJECTIONS:
        return
    for value in closure.values():
        # reactivex keeps positional arguments and composed operators in a tuple, and keyword arguments in a dict.
        # Search these, but not deeper: a user's own container may contain itself.
        held = value if isinstance(value, tuple) else value.values() if isinstance(value, dict) else (value,)
        for each in held:
            yield from _arguments_of(each)


def _refuse(operator: str, function: object, _item: object = None) -> NoReturn:
    raise TypeError(
        f"{operator} takes plain functions, but {name_of(function)} is a coroutine function: {USE_OF_COROUTINES}"
    )


def _fluent(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a fluent operator that binds its result, and raises TypeError if an argument is a coroutine function."""

    @functools.wraps(method)
    def operator(self: Any, *arguments: Any, **options: Any) -> Any:
        for each in (*arguments, *options.values()):
            if is_coroutine_function(each):
                _refuse(name, each)
        # Bind the result here, because some methods of reactivex do not call `pipe`.
        return self._bind(method(self, *arguments, **options))

    return operator


for _name in _OPERATORS:
    setattr(FluentOperators, _name, _fluent(_name, getattr(FluentOperators, _name)))
