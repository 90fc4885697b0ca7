"""Users' functions: their names, and whether they are plain, coroutine or generator functions."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from reactivex.observer import AutoDetachObserver

F = TypeVar("F")
T = TypeVar("T")

__all__ = [
    "USE_OF_COROUTINES",
    "asks_for",
    "is_coroutine_function",
    "is_generator_function",
    "is_plain_function",
    "name_of",
    "reject_generator_function",
    "resolve",
    "shadowable",
    "takes",
]

#: How coroutine functions are used with operators, for error texts.
USE_OF_COROUTINES: Final = "use rxws.operators.map_async(function) in pipe, or pass the function to add_handler"


def is_coroutine_function(function: object) -> bool:
    """Return whether a call returns a coroutine.

    True for an ``async def``, a partial of one, and an object whose ``__call__`` is one.
    """
    return any(map(inspect.iscoroutinefunction, _called_with(function)))


def is_generator_function(function: object) -> bool:
    """Return whether a call returns a generator (asynchronous or not) instead of running the code."""
    return any(inspect.isgeneratorfunction(each) or inspect.isasyncgenfunction(each) for each in _called_with(function))


def is_plain_function(function: object) -> bool:
    """Return whether a call returns the result itself, and neither a coroutine nor a generator."""
    return callable(function) and not is_coroutine_function(function) and not is_generator_function(function)


def reject_generator_function(function: F, what: str) -> F:
    """Return ``function``, unless it is a generator function.

    Args:
        function: any function.
        what: the function's purpose, for the error text.

    Raises:
        TypeError: ``function`` is a generator function.
    """
    if is_generator_function(function):
        raise TypeError(f"{what} must return its result, but {name_of(function)} is a generator function")
    return function


def _called_with(function: object) -> tuple[object, object]:
    """Return the function without partials, and the ``__call__`` of its class."""
    function = _unwrapped(function)
    return function, getattr(type(function), "__call__", None)  # noqa: B004 (the method itself is needed)


def _unwrapped(function: object) -> object:
    while isinstance(function, functools.partial):
        function = function.func
    return function


def asks_for(count: int, function: object) -> bool:
    """Return whether a function has at least ``count`` required positional parameters.

    A callable without a signature (some are written in C) counts as a function without parameters.
    """
    if not callable(function):
        return False
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(each.kind in positional and each.default is each.empty for each in parameters) >= count


def takes(count: int, function: object) -> bool:
    """Return whether this is a plain function that can be called with ``count`` arguments.

    A callable without a signature (some are written in C) takes any arguments.
    """
    if not is_plain_function(function):
        return False
    try:
        inspect.signature(function).bind(*[None] * count)  # type: ignore[arg-type]
    except TypeError:
        return False
    except ValueError:
        return True
    return True


class shadowable(Generic[T]):  # noqa: N801 (used like ``property``)
    """A read-only property that an instance can replace with its own attribute: ``self.state = "mine"``."""

    def __init__(self, read: Callable[[Any], T]) -> None:
        self.fget = read
        self.__doc__ = read.__doc__

    def __get__(self, instance: Any, owner: type) -> T:
        # Like `property`, this returns itself if it is read on the class. The declared type is that of the value,
        # because type checkers need only the type on an instance.
        return self if instance is None else self.fget(instance)  # type: ignore[return-value]


async def resolve(value: Any, *arguments: Any) -> Any:
    """Return the result of a function or a coroutine function, or any other value unchanged."""
    if callable(value):
        value = value(*arguments)
        if inspect.isawaitable(value):
            value = await value
    return value


def name_of(function: object) -> str:
    """Return a function's name for the log: its qualified name, or its class's name if it has none.

    A ``str`` is returned unchanged.
    """
    if isinstance(function, str):
        return function
    function = _unwrapped(function)
    # This may be a method of an observer in which reactivex has wrapped a subscriber's function: name that function.
    observer, name = getattr(function, "__self__", None), getattr(function, "__name__", None)
    if isinstance(observer, AutoDetachObserver):
        return name_of(getattr(observer, f"_{name}", observer._on_next))
    name = getattr(function, "__qualname__", None)
    return name if isinstance(name, str) else type(function).__name__
