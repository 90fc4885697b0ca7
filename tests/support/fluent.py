"""Writes ``rxws/observables/fluent.pyi``: reactivex's fluent operators, but returning AsyncObservables.

Run ``python -m tests.support.fluent`` after an update of reactivex; a test fails while the stub is out of date.

It reads the operators and their parameters from the source of reactivex's mixins, and changes return types from
Observable to AsyncObservable. :data:`KEEPS_ITEMS` and :data:`BETTER` give the item type of operators for which
reactivex declares Any although the type is known.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from string import ascii_uppercase

from reactivex.observable import mixins

STUB = Path(__file__).parents[2] / "rxws" / "observables" / "fluent.pyi"

LINE_LENGTH = 120

PIPE_LENGTH = 9
"""The largest number of operators for which ``pipe`` has types."""

STEPS = [f"_{letter}" for letter in ascii_uppercase[: PIPE_LENGTH - 1]]
"""The type variables for the results of the operators of a pipe, except the last one."""

RESULTS = [f"_Result{number}" for number in range(1, PIPE_LENGTH + 1)]
"""The type variables for mypy, for all operators: the default of each is the variable before it."""

RETURNS = {"Observable": "AsyncObservable", "ConnectableObservable": "AsyncConnectableObservable"}
"""Maps return types of reactivex to those of the stub."""

KEEPS_ITEMS = frozenset(
    {
        "distinct",
        "distinct_until_changed",
        "element_at",
        "filter",
        "filter_indexed",
        "first",
        "last",
        "skip",
        "skip_last",
        "skip_until",
        "skip_while",
        "skip_while_indexed",
        "take",
        "take_last",
        "take_until",
        "take_while",
        "take_while_indexed",
    }
)
"""Operators that do not change items, although reactivex declares them as ``Observable[Any]``."""

PAIRS = [
    "(self, source: Observable[_A], /) -> AsyncObservable[tuple[_T_co, _A]]",
    "(self, *sources: Observable[Any]) -> AsyncObservable[tuple[Any, ...]]",
]

BETTER = {
    "combine_latest": PAIRS,
    "exclusive": ["(self) -> AsyncObservable[Any]"],
    "fork_join": [PAIRS[0], PAIRS[1].replace("sources", "others")],
    "group_by": [
        "(self, key_mapper: typing.Mapper[_T_co, _A], element_mapper: None = None, "
        "subject_mapper: Callable[[], Any] | None = None) -> AsyncObservable[GroupedObservable[_A, _T_co]]",
        "(self, key_mapper: typing.Mapper[_T_co, _A], element_mapper: typing.Mapper[_T_co, _B], "
        "subject_mapper: Callable[[], Any] | None = None) -> AsyncObservable[GroupedObservable[_A, _B]]",
    ],
    "group_by_until": [
        "(self, key_mapper: typing.Mapper[_T_co, _A], element_mapper: None, "
        "duration_mapper: Callable[[GroupedObservable[_A, _T_co]], Observable[Any]], "
        "subject_mapper: Callable[[], Any] | None = None) -> AsyncObservable[GroupedObservable[_A, _T_co]]",
        "(self, key_mapper: typing.Mapper[_T_co, _A], element_mapper: typing.Mapper[_T_co, _B], "
        "duration_mapper: Callable[[GroupedObservable[_A, _B]], Observable[Any]], "
        "subject_mapper: Callable[[], Any] | None = None) -> AsyncObservable[GroupedObservable[_A, _B]]",
    ],
    "materialize": ["(self) -> AsyncObservable[Notification[_T_co]]"],
    "multicast": ["(self, subject: abc.SubjectBase[_T_co] | None = None) -> AsyncConnectableObservable[_T_co]"],
    "start_with": ["(self, *args: _A) -> AsyncObservable[_T_co | _A]"],
    "time_interval": ["(self, scheduler: abc.SchedulerBase | None = None) -> AsyncObservable[TimeInterval[_T_co]]"],
    "timestamp": ["(self, scheduler: abc.SchedulerBase | None = None) -> AsyncObservable[Timestamp[_T_co]]"],
    "to_future": ["(self, future_ctor: Any = None) -> Future[_T_co]"],
    "with_latest_from": PAIRS,
    "zip": PAIRS,
}
"""Signatures with more exact types than those of reactivex."""

HEADER = """\
# Written by tests/support/fluent.py from the signatures of reactivex; do not edit.

# Each override has the parameters of reactivex's method and returns a subtype of its result. The checkers cannot see
# this if the result is a list (which is invariant) or a type variable of an overload.
# mypy: disable-error-code="override"
# pyright: reportIncompatibleMethodOverride=false, reportRedeclaration=false, reportInvalidTypeVarUse=false
# ruff: noqa: PYI002

from asyncio import Future
from collections.abc import Callable, Generator, Iterable
from typing import Any, NoReturn, Self, TypeVarTuple, overload

from reactivex import ConnectableObservable, GroupedObservable, Notification, Observable, abc, typing
from reactivex.operators._timeinterval import TimeInterval
from reactivex.operators._timestamp import Timestamp
from typing_extensions import TypeVar

from .observable import AsyncConnectableObservable, AsyncObservable

__all__ = ["FluentOperators"]

# mypy treats this name as true. For other checkers it is a bool, so they use the later of two declarations. mypy cannot
# infer the parameter of a lambda in a call of an overloaded function. So mypy gets one signature of pipe, in which each
# type variable has a default for an omitted operator. In that signature the result is always an Observable. Operators
# with another result are methods too: to_future, partition, publish.
MYPY: bool

{type_variables}

class FluentOperators(Observable[_T_co]):
    def _bind(self, result: Any) -> Any: ...
    def run(self, scheduler: abc.SchedulerBase | None = None) -> NoReturn: ...
    def __await__(self) -> Generator[Any, None, _T_co]: ...
    def __add__(self, other: Observable[_A]) -> AsyncObservable[_T_co | _A]: ...
    def __iadd__(self, other: Observable[_A]) -> AsyncObservable[_T_co | _A]: ...
    def __getitem__(self, key: slice | int) -> AsyncObservable[_T_co]: ...
"""


def declare(name: str, signatures: list[str], indent: str = "    ") -> Iterator[str]:
    """Yield the lines that declare an operator as ruff lays them out; overloaded where it has several signatures."""
    for signature in signatures:
        if len(signatures) > 1:
            yield f"{indent}@overload"
        line = f"{indent}def {name}{signature}: ..."
        if len(line) <= LINE_LENGTH:
            yield line
            continue
        (function,) = ast.parse(f"def {name}{signature}: ...").body
        assert isinstance(function, ast.FunctionDef)
        assert function.returns is not None
        parameters = list(split(function.args))
        joined = f"{indent}    {', '.join(parameters)}"
        yield f"{indent}def {name}("
        yield from [joined] if len(joined) <= LINE_LENGTH else [f"{indent}    {each}," for each in parameters]
        yield f"{indent}) -> {ast.unparse(function.returns)}: ..."


def split(arguments: ast.arguments) -> Iterator[str]:
    """Yield the parameters of a signature one by one."""
    positional = [*arguments.posonlyargs, *arguments.args]
    missing = [None] * (len(positional) - len(arguments.defaults))
    for number, (argument, default) in enumerate(zip(positional, [*missing, *arguments.defaults], strict=True), 1):
        yield parameter(argument, default)
        if number == len(arguments.posonlyargs):
            yield "/"
    if arguments.vararg:
        yield f"*{parameter(arguments.vararg, None)}"
    elif arguments.kwonlyargs:
        yield "*"
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        yield parameter(argument, default)


def parameter(argument: ast.arg, default: ast.expr | None) -> str:
    """Return the source text of one parameter."""
    if argument.annotation is None:
        return argument.arg
    annotated = f"{argument.arg}: {ast.unparse(argument.annotation)}"
    return annotated if default is None else f"{annotated} = {ast.unparse(default)}"


class Translation(ast.NodeTransformer):
    """Translates the names of reactivex's mixins to those of the stub."""

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if node.id.endswith("Mixin"):
            return ast.Name("Observable")
        return ast.Name("_T_co") if node.id == "_T" else node

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        if isinstance(node.value, ast.Name) and node.value.id == "Unpack":
            return ast.Starred(node.slice)
        self.generic_visit(node)
        if isinstance(node.slice, ast.Tuple) and len(node.slice.elts) == 1:
            # ``tuple[*Ts]`` is parsed as ``tuple[(*Ts,)]``, and would be written with the comma.
            node.slice = node.slice.elts[0]
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        # reactivex.typing does not export the Callable that its mixins take from it.
        return ast.Name("Callable") if ast.unparse(node) == "typing.Callable" else node


def returned(annotation: ast.expr, name: str) -> str:
    """Return the type that the stub's operator returns, from the type that reactivex's operator returns."""
    if isinstance(annotation, ast.Subscript) and isinstance(annotation.value, ast.Name):
        if annotation.value.id == "list":
            return f"list[{returned(annotation.slice, name)}]"
        if annotation.value.id in RETURNS:
            item = "_T_co" if name in KEEPS_ITEMS else ast.unparse(annotation.slice)
            return f"{RETURNS[annotation.value.id]}[{item}]"
    return ast.unparse(annotation)


def signature_of(function: ast.FunctionDef) -> str:
    """Return the signature of the stub's operator, from that of reactivex's operator."""
    function = Translation().visit(function)
    assert function.returns is not None
    parameters = ", ".join(split(function.args))
    if function.name in KEEPS_ITEMS:
        # A predicate takes items. A comparer takes keys, so it is not changed.
        parameters = re.sub(r"(Predicate|PredicateIndexed|Mapper)\[Any", r"\1[_T_co", parameters)
    return f"({parameters}) -> {returned(function.returns, function.name)}"


def operators() -> dict[str, list[str]]:
    """Return the signatures of reactivex's fluent operators, by name; several where one is overloaded."""
    found: dict[str, list[ast.FunctionDef]] = {}
    for name in mixins.__all__:
        mixin = getattr(mixins, name)
        (tree,) = ast.parse(inspect.getsource(mixin)).body
        assert isinstance(tree, ast.ClassDef)
        for function in tree.body:
            if isinstance(function, ast.FunctionDef) and not function.name.startswith("_"):
                found.setdefault(function.name, []).append(function)
    # The last of several is the implementation, which callers do not see.
    return {
        name: BETTER.get(name) or [signature_of(function) for function in functions[: len(functions) - 1 or 1]]
        for name, functions in sorted(found.items())
    }


def pipes() -> list[str]:
    """Return the signatures of ``pipe``, by the number of operators and the kind of result."""
    kinds = [
        ("ConnectableObservable[_R]", "AsyncConnectableObservable[_R]"),
        ("Observable[_R]", "AsyncObservable[_R]"),
        ("list[Observable[_R]]", "list[AsyncObservable[_R]]"),
        ("_R", "_R"),
    ]
    found = ["(self) -> Self"]
    for length in range(1, PIPE_LENGTH + 1):
        for last, result in kinds:
            types = pairwise(["Observable[_T_co]", *STEPS[: length - 1], last])
            steps = (f"op{number}: Callable[[{source}], {target}]" for number, (source, target) in enumerate(types, 1))
            found.append(f"(self, {', '.join(steps)}, /) -> {result}")
    steps = (f"op{number}: Callable[[Any], Any]" for number in range(1, PIPE_LENGTH + 2))
    return [*found, f"(self, {', '.join(steps)}, /, *operators: Callable[[Any], Any]) -> Any"]


def pipe_for_mypy() -> str:
    """Return the single signature of ``pipe`` for mypy: an omitted operator does not change the type.

    Some operators, such as ``ref_count``, need a ConnectableObservable, but the types here do not check that.
    """
    steps = (
        f"op{number}: Callable[[ConnectableObservable[{source}]], Observable[{target}]] = ..."
        for number, (source, target) in enumerate(pairwise(["_T_co", *RESULTS]), 1)
    )
    return f"(self, {', '.join(steps)}, /, *operators: Callable[[Any], Any]) -> AsyncObservable[{RESULTS[-1]}]"


def stub() -> str:
    """Return the text of the stub."""
    variables = [f'{name} = TypeVar("{name}")' for name in [*STEPS, "_R", "_T2", "_TKey"]]
    variables += [f'{name} = TypeVar("{name}", default={before})' for before, name in pairwise(["Any", *RESULTS])]
    variables += ['_Ts = TypeVarTuple("_Ts")', '_T_co = TypeVar("_T_co", covariant=True)']
    lines = [HEADER.format(type_variables="\n".join(variables)).rstrip("\n")]
    lines += ["    if MYPY:", *declare("pipe", [pipe_for_mypy()], indent=" " * 8)]
    lines += ["    else:", *declare("pipe", pipes(), indent=" " * 8), ""]
    for name, signatures in operators().items():
        lines += declare(name, signatures)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(f"{STUB}\n")
    STUB.write_text(stub(), encoding="utf-8")
