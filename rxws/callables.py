"""Functions of the user's: what they are called, and whether they are coroutine functions."""

from __future__ import annotations

import functools
import inspect
from typing import Any

__all__ = ["current_value", "is_coroutine_function", "name_of"]


def is_coroutine_function(function: object) -> bool:
    """Return whether calling it gives a coroutine: an ``async def``, a partial of one, an object with such a call."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


async def current_value(value: Any) -> Any:
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
    while isinstance(function, functools.partial):
        function = function.func
    # reactivex hides a subscriber's function behind an observer's bound method.
    hidden = getattr(getattr(function, "__self__", None), "_on_next", None)
    if hidden is not None:
        return name_of(hidden)
    name = getattr(function, "__qualname__", None)
    return name if isinstance(name, str) else type(function).__name__
