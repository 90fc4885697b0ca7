"""Users' functions: their kinds and their names."""

from __future__ import annotations

import functools
from unittest.mock import AsyncMock, Mock

import pytest
from reactivex.observer import AutoDetachObserver

from rxws.callables import is_coroutine_function, is_generator_function, name_of, resolve


def plain(message=None):
    return message


async def coroutine(message=None):
    return message


def generator(message=None):
    yield message


async def asynchronous_generator(message=None):
    yield message


class Plain:
    def __call__(self, message=None):
        return message

    def method(self, message=None):
        return message

    async def coroutine(self, message=None):
        return message


class Coroutine:
    async def __call__(self, message=None):
        return message


class Generator:
    def __call__(self, message=None):
        yield message


@pytest.mark.parametrize(
    "function",
    [
        coroutine,
        Plain().coroutine,
        Coroutine(),
        functools.partial(coroutine),
        functools.partial(functools.partial(Coroutine())),
        functools.partial(Plain().coroutine),
        AsyncMock(),
    ],
)
def test_is_coroutine_function_when_a_call_returns_a_coroutine(function):
    """All forms of coroutine functions are recognized: methods, partials, callable objects, mocks."""
    assert is_coroutine_function(function)


@pytest.mark.parametrize(
    "function",
    [plain, Plain(), Plain().method, Coroutine, print, functools.partial(plain), Mock(), generator, None, 5, "text"],
)
def test_is_coroutine_function_when_a_call_returns_none(function):
    """Plain functions, classes of callable objects and objects that are not callable are not coroutine functions."""
    assert not is_coroutine_function(function)


@pytest.mark.parametrize(
    "function", [generator, asynchronous_generator, Generator(), functools.partial(asynchronous_generator)]
)
def test_is_generator_function_when_a_call_runs_no_code(function):
    """Generator functions are recognized, asynchronous or not."""
    assert is_generator_function(function)


@pytest.mark.parametrize("function", [plain, coroutine, Plain(), Generator, print, None, Mock()])
def test_is_generator_function_when_a_call_runs_the_code(function):
    """Other functions are not generator functions."""
    assert not is_generator_function(function)


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (plain, "plain"),
        (Plain().method, "Plain.method"),
        (Plain(), "Plain"),
        (Plain, "Plain"),
        (functools.partial(functools.partial(plain, 1)), "plain"),
        (functools.partial(Plain()), "Plain"),
        ([].append, "list.append"),
        (print, "print"),
        (5, "int"),
        ("a subscription", "a subscription"),
        (AutoDetachObserver(plain).on_next, "plain"),
        (AutoDetachObserver(AutoDetachObserver(plain).on_next).on_next, "plain"),
        (AutoDetachObserver(print, on_error=plain).on_error, "plain"),
        (AutoDetachObserver(print, on_completed=plain).on_completed, "plain"),
    ],
)
def test_name_when_a_function_is_wrapped(function, name):
    """The name is the qualified name, also through partials and reactivex's observers."""
    assert name_of(function) == name


def test_name_when_an_observer_has_a_member_of_the_hidden_name():
    """The name of a user's observer method is its own name, even if the observer has a member ``_on_next``."""

    class Observer:
        def on_next(self, item):
            self._on_next(item)

        def _on_next(self, item):
            pass

    assert name_of(Observer().on_next).endswith("Observer.on_next")
    assert name_of(AutoDetachObserver(Observer().on_next).on_next).endswith("Observer.on_next")


@pytest.mark.parametrize("value", [plain, coroutine, Plain(), Coroutine(), functools.partial(coroutine)])
async def test_resolve_when_a_function(value):
    """A function is called each time, and its result is awaited if needed."""
    value = functools.partial(value, "now")
    assert await resolve(value) == "now"
    assert await resolve(value) == "now"


@pytest.mark.parametrize("value", ["url", None, 0, {"a": 1}])
async def test_resolve_when_no_function(value):
    """A value that is not callable is returned unchanged."""
    assert await resolve(value) is value
