"""The operators as methods, which return bound Observables."""

from __future__ import annotations

import ast
import asyncio
import functools
import inspect
import re
from typing import Any

import pytest
import reactivex as rx
from reactivex import ConnectableObservable, Observable, abc
from reactivex import operators as ops
from reactivex.internal.exceptions import SequenceContainsNoElementsError
from reactivex.scheduler import CurrentThreadScheduler, ImmediateScheduler
from reactivex.subject import Subject

from rxws.observables.fluent import FluentOperators

from ..support import fluent

OTHER: Observable[Any] = rx.of(1)
ARGUMENTS: dict[str, Any] = {
    "accumulator": lambda total, item: total + item,
    "action": lambda: None,
    "attr": "real",
    "boundaries": OTHER,
    "closing_mapper": lambda *_: OTHER,
    "condition": lambda _: False,
    "count": 2,
    "duetime": 1.0,
    "duration": 1.0,
    "duration_mapper": lambda _: OTHER,
    "element_mapper": None,
    "end_time": 1.0,
    "handler": OTHER,
    "index": 0,
    "initial_value": 0,
    "key": "key",
    "key_mapper": lambda item: item,
    "left_duration_mapper": lambda _: OTHER,
    "mapper": lambda _: OTHER,
    "mapper_indexed": lambda *_: OTHER,
    "openings": OTHER,
    "other": OTHER,
    "predicate": lambda *_: True,
    "predicate_indexed": lambda *_: True,
    "project": lambda _: OTHER,
    "right": OTHER,
    "right_duration_mapper": lambda _: OTHER,
    "right_source": OTHER,
    "sampler": 1.0,
    "scheduler": ImmediateScheduler.singleton(),
    "second": OTHER,
    "start_time": 1.0,
    "throttle_duration_mapper": lambda _: OTHER,
    "timespan": 1.0,
    "value": 1,
    "window_duration": 1.0,
}
"""Values for the required parameters of all operators, by the parameter's name."""


class Bound(FluentOperators[Any]):
    """An Observable that binds the results of its operators, as AsyncObservable does."""

    def __init__(self, source: Observable[Any]) -> None:
        super().__init__(lambda observer, scheduler=None: source.subscribe(observer, scheduler=scheduler))
        self.source = source

    def _bind(self, result: Any) -> Any:
        if isinstance(result, Observable) and not isinstance(result, Bound):
            return Bound(result)
        return result

    def connect(self, scheduler: abc.SchedulerBase | None = None) -> Any:
        return self.source.connect(scheduler)  # type: ignore[attr-defined]


def items_of(observable: Observable[Any]) -> list[Any]:
    """Return the items that an Observable emits during subscribe."""
    items: list[Any] = []
    observable.subscribe(items.append, scheduler=CurrentThreadScheduler.singleton())
    return items


def test_stub_when_reactivex_is_the_installed_one() -> None:
    """The stub equals the output of ``python -m tests.support.fluent`` for the installed reactivex."""
    assert fluent.STUB.read_text(encoding="utf-8") == fluent.stub()


@pytest.mark.parametrize("name", fluent.BETTER)
def test_better_signature_when_compared_with_reactivex(name: str) -> None:
    """A signature that is more exact than reactivex's has the same parameters."""
    (function,) = ast.parse(f"def f{fluent.BETTER[name][-1]}: ...").body
    assert isinstance(function, ast.FunctionDef)
    written = [argument.split(":")[0].split("=")[0].strip() for argument in fluent.split(function.args)]
    expected = inspect.signature(getattr(Observable, name)).parameters.values()
    assert [argument.lstrip("*") for argument in written] == [parameter.name for parameter in expected]


@pytest.mark.parametrize("name", sorted(set(fluent.operators()) - {"to_future"}))
def test_operator_when_called_as_method(name: str) -> None:
    """The result of each fluent operator is bound."""
    parameters = inspect.signature(getattr(Observable, name)).parameters.values()
    needed = [parameter for parameter in parameters if parameter.default is parameter.empty]
    given = [ARGUMENTS[each.name] for each in needed if each.name not in {"self", "sources", "others", "args"}]
    if name == "multicast":
        given = [Subject()]
    source = rx.of(1)
    if name == "ref_count":
        source = source.pipe(ops.publish())
    result = getattr(Bound(source), name)(*given)
    results = result if isinstance(result, list) else [result]
    assert results
    assert all(isinstance(each, Bound) for each in results)


def test_pipe_when_an_operator_composes_others() -> None:
    """Each operator of a pipe gets a bound source, and its result is bound."""
    sources: list[Any] = []

    def spy(source: Any) -> Any:
        sources.append(source)
        return rx.of(len(sources))

    assert items_of(Bound(rx.of(0)).pipe(spy, spy, ops.map(lambda item: -item))) == [-2]
    assert all(isinstance(source, Bound) for source in sources)


def test_pipe_when_an_operator_returns_no_observable() -> None:
    """A result that is not an Observable is returned unchanged, and an empty pipe returns its source."""
    source = Bound(rx.of(1))
    assert source.pipe(lambda _: "anything") == "anything"
    assert source.pipe() is source


def test_bind_when_not_defined() -> None:
    """Without ``_bind`` in a subclass, an operator raises NotImplementedError."""
    with pytest.raises(NotImplementedError):
        FluentOperators[int]().pipe(ops.take(1))


def test_methods_when_subscribed() -> None:
    """The methods that replace reactivex's own do the same as the operators of these names."""
    numbers = Bound(rx.of(3, 4, 5))
    assert items_of(numbers.sum()) == [12]
    assert items_of(numbers.sum(lambda item: item * 2)) == [24]
    assert items_of(Bound(rx.of({"a": 1}, {"a": 2})).pluck("a")) == [1, 2]
    assert items_of(Bound(rx.of(rx.of(1), rx.of(2))).switch_latest()) == [2]
    assert items_of(Bound(rx.of(rx.of(1), rx.never())).exclusive()) == [1]
    assert items_of(numbers.materialize().dematerialize()) == [3, 4, 5]


def test_partition_indexed_when_subscribed() -> None:
    """The predicate of ``partition_indexed`` gets the item and its index, and divides the items."""
    subject: Subject[str] = Subject()
    first, others = Bound(subject).partition_indexed(lambda _, index: index == 0)
    items: list[tuple[str, str]] = []
    first.subscribe(lambda item: items.append(("first", item)))
    others.subscribe(lambda item: items.append(("others", item)))
    for item in "abc":
        subject.on_next(item)
    assert items == [("first", "a"), ("others", "b"), ("others", "c")]


def test_ref_count_when_published() -> None:
    """A published Observable with ref_count is connected while there is a subscriber."""
    subject: Subject[int] = Subject()
    items: list[int] = []
    shared = Bound(subject).publish().ref_count()
    assert not subject.observers
    subscription = shared.subscribe(items.append)
    subject.on_next(1)
    subscription.dispose()
    assert not subject.observers
    assert items == [1]


def test_arithmetic_when_observables_are_added_and_sliced() -> None:
    """``+``, ``+=`` and ``[]`` return bound Observables."""
    both = Bound(rx.of(1)) + rx.of(2)
    both += rx.of(3)
    assert isinstance(both, Bound)
    assert items_of(both) == [1, 2, 3]
    assert isinstance(both[1:], Bound)
    assert items_of(both[1:]) == [2, 3]
    assert items_of(both[0:3:2]) == [1, 3]
    assert items_of(both[1]) == [2]


def test_run_when_called() -> None:
    """run() would block, so it raises a RuntimeError that names the alternatives."""
    with pytest.raises(RuntimeError, match="await"):
        Bound(rx.of(1)).run()


async def test_await_when_the_sequence_ends() -> None:
    """await returns the last item, raises the error of the sequence, or raises if there was no item."""
    assert await Bound(rx.of(1, 2)) == 2
    assert await Bound(rx.of(1, 2)).to_future() == 2
    with pytest.raises(ZeroDivisionError):
        await Bound(rx.throw(ZeroDivisionError()))
    with pytest.raises(SequenceContainsNoElementsError):
        await Bound(rx.empty())


async def test_await_when_cancelled() -> None:
    """Cancelling an await ends its subscription."""
    subject: Subject[int] = Subject()

    async def wait() -> Any:
        return await Bound(subject)

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    assert subject.observers
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)
    assert not subject.observers


# Coroutine functions


async def answer(*_: Any) -> bool:
    return True


class Answering:
    """An object whose call is a coroutine function."""

    async def __call__(self, *_: Any) -> bool:
        return True


COROUTINE_FUNCTIONS = [answer, functools.partial(answer, 1), Answering()]

PROJECTIONS = {"map", "map_indexed", "starmap", "starmap_indexed"}

CALLED_OTHERWISE = {
    *[("catch", "handler"), ("do", "on_next"), ("finally_action", "action"), ("while_do", "condition")],
    *[(f"{kind}_{when}", "closing_mapper") for kind in ("buffer", "window") for when in ("toggle", "when")],
    *[(f"{side}join", f"{other}_duration_mapper") for side in ("", "group_") for other in ("left", "right")],
    *[(name, "mapper") for name in ("publish", "publish_value", "replay")],
    *[(f"group_by{until}", "subject_mapper") for until in ("", "_until")],
    *[(name, "project") for name in ("concat_map", "switch_map")],
    ("switch_map_indexed", "mapper_indexed"),
}
"""Parameters whose function is not called with each item, or returns an Observable for another operator."""

FUNCTIONS = [
    (name, parameter.name)
    for name in sorted(set(fluent.operators()) - {"to_future"})
    for parameter in inspect.signature(getattr(Observable, name)).parameters.values()
    if re.search("mapper|predicate|accumulator|comparer|action|on_next|handler|condition|project", parameter.name)
]
"""Each parameter of an operator that takes a function."""


def given(name: str, parameter: str, function: Any) -> list[Any]:
    """Return positional arguments for an operator, with ``function`` for the named parameter."""
    _self, *parameters = inspect.signature(getattr(Observable, name)).parameters.values()
    last = max(n for n, each in enumerate(parameters) if each.name == parameter or each.default is each.empty)
    return [function if each.name == parameter else ARGUMENTS.get(each.name) for each in parameters[: last + 1]]


@pytest.mark.parametrize(("name", "parameter"), FUNCTIONS)
def test_fluent_operator_when_given_a_coroutine_function(name: str, parameter: str) -> None:
    """A call of a fluent operator raises a TypeError that names the operator, the function, and the alternative."""
    with pytest.raises(TypeError, match=rf"^{name} .*answer is a coroutine function.*add_handler"):
        getattr(Bound(rx.of(1)), name)(*given(name, parameter, answer))


@pytest.mark.parametrize("function", COROUTINE_FUNCTIONS)
def test_fluent_operator_when_given_any_kind_of_coroutine_function(function: Any) -> None:
    """Partials and objects with an ``async def __call__`` are coroutine functions, even as keyword arguments."""
    with pytest.raises(TypeError, match="is a coroutine function"):
        Bound(rx.of(1)).filter(predicate=function)


@pytest.mark.parametrize(
    ("name", "parameter"), [each for each in FUNCTIONS if each[0] not in PROJECTIONS and each not in CALLED_OTHERWISE]
)
def test_pipe_when_an_operator_has_a_coroutine_function(name: str, parameter: str) -> None:
    """In a pipe the sequence ends with TypeError at the first item, and the coroutine function is not called."""
    results = Bound(rx.of(1, 2)).pipe(getattr(ops, name)(*given(name, parameter, answer)))
    for result in results if isinstance(results, list) else [results]:
        errors: list[Exception] = []
        result.subscribe(on_error=errors.append, scheduler=CurrentThreadScheduler.singleton())
        if isinstance(result, ConnectableObservable):
            result.connect()
        (error,) = errors
        assert isinstance(error, TypeError)
        assert "answer is a coroutine function" in str(error)


def test_pipe_when_a_coroutine_function_gets_no_item() -> None:
    """A pipe with a coroutine function and without an item ends without an error."""
    assert items_of(Bound(rx.empty()).pipe(ops.filter(answer))) == []


async def test_pipe_when_coroutines_are_awaited() -> None:
    """``map`` may have a coroutine function if a later operator makes futures of the coroutines."""

    async def double(item: int) -> int:
        await asyncio.sleep(0)
        return item * 2

    numbers = Bound(rx.of(1, 2, 3))
    assert await numbers.pipe(ops.map(double), ops.flat_map(asyncio.ensure_future), ops.to_list()) == [2, 4, 6]
    with_index = [ops.map_indexed(lambda item, _: double(item)), ops.flat_map(asyncio.ensure_future), ops.to_list()]
    assert await numbers.pipe(rx.compose(*with_index)) == [2, 4, 6]


def test_pipe_when_an_argument_contains_itself() -> None:
    """Containers in arguments are not searched for functions, so an argument may be a dict that contains itself."""
    item: dict[str, Any] = {}
    item["self"] = item
    assert items_of(Bound(rx.empty()).pipe(ops.default_if_empty(item)))[0] is item
    assert items_of(Bound(rx.empty()).pipe(ops.start_with(item, (item,))))[1][0] is item


async def test_pipe_when_an_operator_of_the_user_has_a_coroutine_function() -> None:
    """An operator that reactivex did not make may await a coroutine function."""

    def awaiting(function: Any) -> Any:
        return lambda source: source.pipe(ops.flat_map(lambda item: asyncio.ensure_future(function(item))))

    assert await Bound(rx.of(1)).pipe(awaiting(answer)) is True
