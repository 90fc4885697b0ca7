"""Functions of the user's: what they are called, and whether they are coroutine functions."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from reactivex.observer import AutoDetachObserver

F = TypeVar("F")
T = TypeVar("T")

__all__ = [
    "is_coroutine_function",
    "is_generator_function",
    "is_plain_function",
    "name_of",
    "reject_generator_function",
    "resolve",
    "shadowable",
]


def is_coroutine_function(function: object) -> bool:
    """Return whether calling it gives a coroutine: an ``async def``, a partial of one, an object with such a call."""
    return any(map(inspect.iscoroutinefunction, _called_with(function)))


def is_generator_function(function: object) -> bool:
    """Return whether calling it gives a generator, asynchronous or not: whose code does not run by that."""
    return any(inspect.isgeneratorfunction(each) or inspect.isasyncgenfunction(each) for each in _called_with(function))


def is_plain_function(function: object) -> bool:
    """Return whether calling it gives its answer: not a coroutine, nor a generator."""
    return callable(function) and not is_coroutine_function(function) and not is_generator_function(function)


def reject_generator_function(function: F, what: str) -> F:
    """Return ``function``.

    Raises:
        TypeError: naming it and ``what`` it is for, if it is a generator function.
    """
    if is_generator_function(function):
        raise TypeError(f"{what} must return what it gives, and {name_of(function)} is a generator function")
    return function


def _called_with(function: object) -> tuple[object, object]:
    """Return a function itself and what runs when an object of its class is called."""
    function = _unwrapped(function)
    return function, getattr(type(function), "__call__", None)  # noqa: B004 (whether it is callable is not the question)


def _unwrapped(function: object) -> object:
    while isinstance(function, functools.partial):
        function = function.func
    return function


class shadowable(Generic[T]):  # noqa: N801 (it is used as ``property`` is)
    """A read-only property that an instance may hide behind an attribute of its own: ``self.state = "mine"``."""

    def __init__(self, read: Callable[[Any], T]) -> None:
        self.fget = read
        self.__doc__ = read.__doc__

    def __get__(self, instance: Any, owner: type) -> T:
        # Of a class it is the property itself, as Python's own is; to a type checker that would be a second type.
        return self if instance is None else self.fget(instance)  # type: ignore[return-value]


async def resolve(value: Any) -> Any:
    """Return what a value is now: of an (async) function what it returns, of anything else itself."""
    if callable(value):
        value = value()
        if inspect.isawaitable(value):
            value = await value
    return value


def name_of(function: object) -> str:
    """Return the name under which a reader of the log knows a function: its qualified name where it has one."""
    if isinstance(function, str):
        return function
    function = _unwrapped(function)
    # reactivex hides a subscriber's function behind an observer's bound method.
    observer, name = getattr(function, "__self__", None), getattr(function, "__name__", None)
    if isinstance(observer, AutoDetachObserver):
        return name_of(getattr(observer, f"_{name}", observer._on_next))
    name = getattr(function, "__qualname__", None)
    return name if isinstance(name, str) else type(function).__name__
