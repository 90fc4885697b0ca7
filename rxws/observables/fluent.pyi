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

_A = TypeVar("_A")
_B = TypeVar("_B")
_C = TypeVar("_C")
_D = TypeVar("_D")
_E = TypeVar("_E")
_F = TypeVar("_F")
_G = TypeVar("_G")
_H = TypeVar("_H")
_R = TypeVar("_R")
_T2 = TypeVar("_T2")
_TKey = TypeVar("_TKey")
_Result1 = TypeVar("_Result1", default=Any)
_Result2 = TypeVar("_Result2", default=_Result1)
_Result3 = TypeVar("_Result3", default=_Result2)
_Result4 = TypeVar("_Result4", default=_Result3)
_Result5 = TypeVar("_Result5", default=_Result4)
_Result6 = TypeVar("_Result6", default=_Result5)
_Result7 = TypeVar("_Result7", default=_Result6)
_Result8 = TypeVar("_Result8", default=_Result7)
_Result9 = TypeVar("_Result9", default=_Result8)
_Ts = TypeVarTuple("_Ts")
_T_co = TypeVar("_T_co", covariant=True)

class FluentOperators(Observable[_T_co]):
    def _bind(self, result: Any) -> Any: ...
    def run(self, scheduler: abc.SchedulerBase | None = None) -> NoReturn: ...
    def __await__(self) -> Generator[Any, None, _T_co]: ...
    def __add__(self, other: Observable[_A]) -> AsyncObservable[_T_co | _A]: ...
    def __iadd__(self, other: Observable[_A]) -> AsyncObservable[_T_co | _A]: ...
    def __getitem__(self, key: slice | int) -> AsyncObservable[_T_co]: ...
    if MYPY:
        def pipe(
            self,
            op1: Callable[[ConnectableObservable[_T_co]], Observable[_Result1]] = ...,
            op2: Callable[[ConnectableObservable[_Result1]], Observable[_Result2]] = ...,
            op3: Callable[[ConnectableObservable[_Result2]], Observable[_Result3]] = ...,
            op4: Callable[[ConnectableObservable[_Result3]], Observable[_Result4]] = ...,
            op5: Callable[[ConnectableObservable[_Result4]], Observable[_Result5]] = ...,
            op6: Callable[[ConnectableObservable[_Result5]], Observable[_Result6]] = ...,
            op7: Callable[[ConnectableObservable[_Result6]], Observable[_Result7]] = ...,
            op8: Callable[[ConnectableObservable[_Result7]], Observable[_Result8]] = ...,
            op9: Callable[[ConnectableObservable[_Result8]], Observable[_Result9]] = ...,
            /,
            *operators: Callable[[Any], Any],
        ) -> AsyncObservable[_Result9]: ...
    else:
        @overload
        def pipe(self) -> Self: ...
        @overload
        def pipe(
            self, op1: Callable[[Observable[_T_co]], ConnectableObservable[_R]], /
        ) -> AsyncConnectableObservable[_R]: ...
        @overload
        def pipe(self, op1: Callable[[Observable[_T_co]], Observable[_R]], /) -> AsyncObservable[_R]: ...
        @overload
        def pipe(self, op1: Callable[[Observable[_T_co]], list[Observable[_R]]], /) -> list[AsyncObservable[_R]]: ...
        @overload
        def pipe(self, op1: Callable[[Observable[_T_co]], _R], /) -> _R: ...
        @overload
        def pipe(
            self, op1: Callable[[Observable[_T_co]], _A], op2: Callable[[_A], ConnectableObservable[_R]], /
        ) -> AsyncConnectableObservable[_R]: ...
        @overload
        def pipe(
            self, op1: Callable[[Observable[_T_co]], _A], op2: Callable[[_A], Observable[_R]], /
        ) -> AsyncObservable[_R]: ...
        @overload
        def pipe(
            self, op1: Callable[[Observable[_T_co]], _A], op2: Callable[[_A], list[Observable[_R]]], /
        ) -> list[AsyncObservable[_R]]: ...
        @overload
        def pipe(self, op1: Callable[[Observable[_T_co]], _A], op2: Callable[[_A], _R], /) -> _R: ...
        @overload
        def pipe(
            self,
            op1: Callable[[Observable[_T_co]], _A],
            op2: Callable[[_A], _B],
            op3: Callable[[_B], ConnectableObservable[_R]],
            /,
        ) -> AsyncConnectableObservable[_R]: ...
        @overload
        def pipe(
            self,
            op1: Callable[[Observable[_T_co]], _A],
            op2: Callable[[_A], _B],
            op3: Callable[[_B], Observable[_R]],
            /,
        ) -> AsyncObservable[_R]: ...
        @overload
        def pipe(
            self,
            op1: Callable[[Observable[_T_co]], _A],
            op2: Callable[[_A], _B],
            op3: Callable[[_B], list[Observable[_R]]],
            /,
        ) -> list[AsyncObservable[_R]]: ...
        @overload
        def pipe(
            self, op1: Callable[[Observable[_T_co]], _A], op2: Callable[[_A], _B], op3: Callable[[_B], _R], /
        ) -> _R: ...
        @overload
        def pipe(
            self,
            op1: Callable[[Observable[_T_co]], _A],
            op2: Callable[[_A], _B],
            op3: Callable[[_B], _C],
            op4: Callable[[_C], ConnectableObservable[_R]],
            /,
        ) -> AsyncConnectableObservable[_R]: ...
        @overload
        def pipe(
            self,
            op1: Callable[[Observable[_T_co]], _A],
            op2: Callable[[_A], _B],
            op3: Callable[[_B], _C],
            op4: Callable[[_C], Observable[_R]],
            /,
        ) -> AsyncObservable[_R]: ...
        @overload
        def pipe(
            self,
            op1: Callable[[Observable[_T_co]], _A],
            op2: Callable[[_A], _B],
            op3: Callable[[_B], _C],
            op4: Callable[[_C], list[Observable[_R]]],
            /,
        ) -> list[AsyncObservable[_R]]: ...
        @overload
        def pipe(
            self,
            op1: Callable[[Observable[_T_co]], _A],
            op2: Callable[[_A], _B],
            op3: Callable[[_B], _C],
            op4: Callable[[_C], _R],
            /,
        ) -> _R: ...
        @overload
        def pipe(
            self,
            op1: Callable[[Observable[_T_co]], _A],
            op2: Callable[[_A], _B],
            op3: Callable[[_B], _C],
            op4: Callable[[_C], _D],
            op5: Callable[[_D], ConnectableObservable[_R]],
            /,
        ) -> AsyncConnectableObservable[_R]: ...
        @overload
        def pipe(
            self,
            op1: Callable[[Observable[_T_co]], _A],
            op2: Callable[[_A], _B],
            op3: Callable[[_B], _C],
            op4: Callable[[_C], _D],
            op5: Callable[[_D], Observable[_R]],
            /,
        ) -> AsyncObservable[_R]: ...
        @overload
        def pipe(
            self,
            op1: Callable[[Observable[_T_co]], _A],
            op2: Callable[[_A], _B],
            op3: Callable[[_B], _C],
            op4: Callable[[_C], _D],
            op5: Callable[[_D], list[Observable[_R]]],
            /,
        ) -> list[AsyncObservable[_R]]: ...
        @overload
        def pipe(
            self,
            op1: Callable[[Observable[_T_co]], _A],
            op2: Callable[[_A], _B],
            op3: Callable[[_B], _C],
            op4: Callable[[_C], _D],
            op5: Callable[[_D], _R],
            /,
        ) -> _R: ...
        @overload
        def pipe(
            self,
            op1: Callable[[Observable[_T_co]], _A],
            op2: Callable[[_A], _B],
            op3: Callable[[_B], _C],
            op4: Callable[[_C], _D],
            op5: Callable[[_D], _E],
            op6: Callable[[_E], ConnectableObservable[_R]],
            /,
        ) -> AsyncConnectableObservable[_R]: ...
        @overload
        def pipe(
            self,
            op1: Callable[[Observable[_T_co]], _A],
            op2: Callable[[_A], _B],
            op3: Callable[[_B], _C],
            op4: Callable[[_C], _D],
            op5: Callable[[_D], _E],
            op6: Callable[[_E], Observable[_R]],
            /,
        ) -> AsyncObservable[_R]: ...
        @overload
        def pipe(
            self,
            op1: Callable[[Observable[_T_co]], _A],
            op2: Callable[[_A], _B],
            op3: Callable[[_B], _C],
            op4: Callable[[_C], _D],
            op5: Callable[[_D], _E],
            op6: Callable[[_E], list[Observable[_R]]],
            /,
        ) -> list[AsyncObservable[_R]]: ...
        @overload
        def pipe(
            self,
            op1: Callable[[Observable[_T_co]], _A],
            op2: Callable[[_A], _B],
            op3: Callable[[_B], _C],
            op4: Callable[[_C], _D],
            op5: Callable[[_D], _E],
            op6: Callable[[_E], _R],
            /,
        ) -> _R: ...
        @overload
        def pipe(
            self,
            op1: Callable[[Observable[_T_co]], _A],
            op2: Callable[[_A], _B],
            op3: Callable[[_B], _C],
            op4: Callable[[_C], _D],
            op5: Callable[[_D], _E],
            op6: Callable[[_E], _F],
            op7: Callable[[_F], ConnectableObservable[_R]],
            /,
        ) -> AsyncConnectableObservable[_R]: ...
        @overload
        def pipe(
            self,
            op1: Callable[[Observable[_T_co]], _A],
            op2: Callable[[_A], _B],
            op3: Callable[[_B], _C],
            op4: Callable[[_C], _D],
            op5: Callable[[_D], _E],
            op6: Callable[[_E], _F],
            op7: Callable[[_F], Observable[_R]],
            /,
        ) -> AsyncObservable[_R]: ...
        @overload
        def pipe(
            self,
            op1: Callable[[Observable[_T_co]], _A],
            op2: Callable[[_A], _B],
            op3: Callable[[_B], _C],
            op4: Callable[[_C], _D],
            op5: Callable[[_D], _E],
            op6: Callable[[_E], _F],
            op7: Callable[[_F], list[Observable[_R]]],
            /,
        ) -> list[AsyncObservable[_R]]: ...
        @overload
        def pipe(
            self,
            op1: Callable[[Observable[_T_co]], _A],
            op2: Callable[[_A], _B],
            op3: Callable[[_B], _C],
            op4: Callable[[_C], _D],
            op5: Callable[[_D], _E],
            op6: Callable[[_E], _F],
            op7: Callable[[_F], _R],
            /,
        ) -> _R: ...
        @overload
        def pipe(
            self,
            op1: Callable[[Observable[_T_co]], _A],
            op2: Callable[[_A], _B],
            op3: Callable[[_B], _C],
            op4: Callable[[_C], _D],
            op5: Callable[[_D], _E],
            op6: Callable[[_E], _F],
            op7: Callable[[_F], _G],
            op8: Callable[[_G], ConnectableObservable[_R]],
            /,
        ) -> AsyncConnectableObservable[_R]: ...
        @overload
        def pipe(
            self,
            op1: Callable[[Observable[_T_co]], _A],
            op2: Callable[[_A], _B],
            op3: Callable[[_B], _C],
            op4: Callable[[_C], _D],
            op5: Callable[[_D], _E],
            op6: Callable[[_E], _F],
            op7: Callable[[_F], _G],
            op8: Callable[[_G], Observable[_R]],
            /,
        ) -> AsyncObservable[_R]: ...
        @overload
        def pipe(
            self,
            op1: Callable[[Observable[_T_co]], _A],
            op2: Callable[[_A], _B],
            op3: Callable[[_B], _C],
            op4: Callable[[_C], _D],
            op5: Callable[[_D], _E],
            op6: Callable[[_E], _F],
            op7: Callable[[_F], _G],
            op8: Callable[[_G], list[Observable[_R]]],
            /,
        ) -> list[AsyncObservable[_R]]: ...
        @overload
        def pipe(
            self,
            op1: Callable[[Observable[_T_co]], _A],
            op2: Callable[[_A], _B],
            op3: Callable[[_B], _C],
            op4: Callable[[_C], _D],
            op5: Callable[[_D], _E],
            op6: Callable[[_E], _F],
            op7: Callable[[_F], _G],
            op8: Callable[[_G], _R],
            /,
        ) -> _R: ...
        @overload
        def pipe(
            self,
            op1: Callable[[Observable[_T_co]], _A],
            op2: Callable[[_A], _B],
            op3: Callable[[_B], _C],
            op4: Callable[[_C], _D],
            op5: Callable[[_D], _E],
            op6: Callable[[_E], _F],
            op7: Callable[[_F], _G],
            op8: Callable[[_G], _H],
            op9: Callable[[_H], ConnectableObservable[_R]],
            /,
        ) -> AsyncConnectableObservable[_R]: ...
        @overload
        def pipe(
            self,
            op1: Callable[[Observable[_T_co]], _A],
            op2: Callable[[_A], _B],
            op3: Callable[[_B], _C],
            op4: Callable[[_C], _D],
            op5: Callable[[_D], _E],
            op6: Callable[[_E], _F],
            op7: Callable[[_F], _G],
            op8: Callable[[_G], _H],
            op9: Callable[[_H], Observable[_R]],
            /,
        ) -> AsyncObservable[_R]: ...
        @overload
        def pipe(
            self,
            op1: Callable[[Observable[_T_co]], _A],
            op2: Callable[[_A], _B],
            op3: Callable[[_B], _C],
            op4: Callable[[_C], _D],
            op5: Callable[[_D], _E],
            op6: Callable[[_E], _F],
            op7: Callable[[_F], _G],
            op8: Callable[[_G], _H],
            op9: Callable[[_H], list[Observable[_R]]],
            /,
        ) -> list[AsyncObservable[_R]]: ...
        @overload
        def pipe(
            self,
            op1: Callable[[Observable[_T_co]], _A],
            op2: Callable[[_A], _B],
            op3: Callable[[_B], _C],
            op4: Callable[[_C], _D],
            op5: Callable[[_D], _E],
            op6: Callable[[_E], _F],
            op7: Callable[[_F], _G],
            op8: Callable[[_G], _H],
            op9: Callable[[_H], _R],
            /,
        ) -> _R: ...
        @overload
        def pipe(
            self,
            op1: Callable[[Any], Any],
            op2: Callable[[Any], Any],
            op3: Callable[[Any], Any],
            op4: Callable[[Any], Any],
            op5: Callable[[Any], Any],
            op6: Callable[[Any], Any],
            op7: Callable[[Any], Any],
            op8: Callable[[Any], Any],
            op9: Callable[[Any], Any],
            op10: Callable[[Any], Any],
            /,
            *operators: Callable[[Any], Any],
        ) -> Any: ...

    def all(self, predicate: typing.Predicate[_T_co]) -> AsyncObservable[bool]: ...
    def amb(self, right_source: Observable[_T_co]) -> AsyncObservable[_T_co]: ...
    def as_observable(self) -> AsyncObservable[_T_co]: ...
    def average(self, key_mapper: typing.Mapper[Any, float] | None = None) -> AsyncObservable[float]: ...
    def buffer(self, boundaries: Observable[Any]) -> AsyncObservable[list[_T_co]]: ...
    def buffer_toggle(
        self, openings: Observable[Any], closing_mapper: Callable[[Any], Observable[Any]]
    ) -> AsyncObservable[list[_T_co]]: ...
    def buffer_when(self, closing_mapper: Callable[[], Observable[Any]]) -> AsyncObservable[list[_T_co]]: ...
    def buffer_with_count(self, count: int, skip: int | None = None) -> AsyncObservable[list[_T_co]]: ...
    def buffer_with_time(
        self, timespan: typing.RelativeTime, timeshift: typing.RelativeTime | None = None, scheduler: Any = None
    ) -> AsyncObservable[list[_T_co]]: ...
    def buffer_with_time_or_count(
        self, timespan: typing.RelativeTime, count: int, scheduler: Any = None
    ) -> AsyncObservable[list[_T_co]]: ...
    def catch(
        self, handler: Observable[_T_co] | Callable[[Exception, Observable[_T_co]], Observable[_T_co]]
    ) -> AsyncObservable[_T_co]: ...
    @overload
    def combine_latest(self, source: Observable[_A], /) -> AsyncObservable[tuple[_T_co, _A]]: ...
    @overload
    def combine_latest(self, *sources: Observable[Any]) -> AsyncObservable[tuple[Any, ...]]: ...
    def concat(self, *sources: Observable[_T_co]) -> AsyncObservable[_T_co]: ...
    def concat_all(self) -> AsyncObservable[Any]: ...
    def concat_map(self, project: typing.Mapper[_T_co, Observable[_B]]) -> AsyncObservable[_B]: ...
    def contains(self, value: Any, comparer: typing.Comparer[Any] | None = None) -> AsyncObservable[bool]: ...
    def count(self, predicate: typing.Predicate[_T_co] | None = None) -> AsyncObservable[int]: ...
    def debounce(
        self, duetime: typing.RelativeTime, scheduler: abc.SchedulerBase | None = None
    ) -> AsyncObservable[_T_co]: ...
    @overload
    def default_if_empty(self, default_value: _A) -> AsyncObservable[_T_co | _A]: ...
    @overload
    def default_if_empty(self) -> AsyncObservable[_T_co | None]: ...
    def delay(
        self, duetime: typing.RelativeTime, scheduler: abc.SchedulerBase | None = None
    ) -> AsyncObservable[_T_co]: ...
    def delay_subscription(
        self, duetime: typing.AbsoluteOrRelativeTime, scheduler: abc.SchedulerBase | None = None
    ) -> AsyncObservable[_T_co]: ...
    def delay_with_mapper(
        self,
        subscription_delay: Observable[Any] | typing.Mapper[Any, Observable[Any]] | None = None,
        delay_duration_mapper: typing.Mapper[_T_co, Observable[Any]] | None = None,
    ) -> AsyncObservable[_T_co]: ...
    def dematerialize(self) -> AsyncObservable[Any]: ...
    def distinct(
        self, key_mapper: typing.Mapper[_T_co, Any] | None = None, comparer: typing.Comparer[Any] | None = None
    ) -> AsyncObservable[_T_co]: ...
    def distinct_until_changed(
        self, key_mapper: typing.Mapper[_T_co, Any] | None = None, comparer: typing.Comparer[Any] | None = None
    ) -> AsyncObservable[_T_co]: ...
    def do(
        self,
        on_next: typing.OnNext[_T_co] | None = None,
        on_error: typing.OnError | None = None,
        on_completed: typing.OnCompleted | None = None,
    ) -> AsyncObservable[_T_co]: ...
    def do_action(
        self,
        on_next: typing.OnNext[_T_co] | None = None,
        on_error: typing.OnError | None = None,
        on_completed: typing.OnCompleted | None = None,
    ) -> AsyncObservable[_T_co]: ...
    def do_while(self, condition: typing.Predicate[Observable[_T_co]]) -> AsyncObservable[_T_co]: ...
    def element_at(self, index: int) -> AsyncObservable[_T_co]: ...
    def element_at_or_default(self, index: int, default_value: _T_co | None = None) -> AsyncObservable[_T_co]: ...
    def exclusive(self) -> AsyncObservable[Any]: ...
    def expand(self, mapper: typing.Mapper[_T_co, Observable[_T_co]]) -> AsyncObservable[_T_co]: ...
    def filter(self, predicate: typing.Predicate[_T_co]) -> AsyncObservable[_T_co]: ...
    def filter_indexed(self, predicate_indexed: typing.PredicateIndexed[_T_co]) -> AsyncObservable[_T_co]: ...
    def finally_action(self, action: typing.Action) -> AsyncObservable[_T_co]: ...
    def find(self, predicate: Callable[[_T_co, int, Observable[_T_co]], bool]) -> AsyncObservable[_T_co | None]: ...
    def find_index(self, predicate: Callable[[_T_co, int, Observable[_T_co]], bool]) -> AsyncObservable[int | None]: ...
    def first(self, predicate: typing.Predicate[_T_co] | None = None) -> AsyncObservable[_T_co]: ...
    def first_or_default(
        self, predicate: typing.Predicate[_T_co] | None = None, default_value: _T_co | None = None
    ) -> AsyncObservable[_T_co]: ...
    @overload
    def flat_map(self, mapper: typing.Mapper[_T_co, Observable[_B]]) -> AsyncObservable[_B]: ...
    @overload
    def flat_map(self, mapper: None = None) -> AsyncObservable[object]: ...
    def flat_map_indexed(
        self, mapper_indexed: typing.MapperIndexed[_T_co, Observable[_B]] | None = None
    ) -> AsyncObservable[_B]: ...
    def flat_map_latest(self, mapper: typing.Mapper[_T_co, Observable[_B]]) -> AsyncObservable[_B]: ...
    @overload
    def fork_join(self, source: Observable[_A], /) -> AsyncObservable[tuple[_T_co, _A]]: ...
    @overload
    def fork_join(self, *others: Observable[Any]) -> AsyncObservable[tuple[Any, ...]]: ...
    @overload
    def group_by(
        self,
        key_mapper: typing.Mapper[_T_co, _A],
        element_mapper: None = None,
        subject_mapper: Callable[[], Any] | None = None,
    ) -> AsyncObservable[GroupedObservable[_A, _T_co]]: ...
    @overload
    def group_by(
        self,
        key_mapper: typing.Mapper[_T_co, _A],
        element_mapper: typing.Mapper[_T_co, _B],
        subject_mapper: Callable[[], Any] | None = None,
    ) -> AsyncObservable[GroupedObservable[_A, _B]]: ...
    @overload
    def group_by_until(
        self,
        key_mapper: typing.Mapper[_T_co, _A],
        element_mapper: None,
        duration_mapper: Callable[[GroupedObservable[_A, _T_co]], Observable[Any]],
        subject_mapper: Callable[[], Any] | None = None,
    ) -> AsyncObservable[GroupedObservable[_A, _T_co]]: ...
    @overload
    def group_by_until(
        self,
        key_mapper: typing.Mapper[_T_co, _A],
        element_mapper: typing.Mapper[_T_co, _B],
        duration_mapper: Callable[[GroupedObservable[_A, _B]], Observable[Any]],
        subject_mapper: Callable[[], Any] | None = None,
    ) -> AsyncObservable[GroupedObservable[_A, _B]]: ...
    def group_join(
        self,
        right: Observable[_T2],
        left_duration_mapper: Callable[[_T_co], Observable[Any]],
        right_duration_mapper: Callable[[_T2], Observable[Any]],
    ) -> AsyncObservable[tuple[_T_co, Observable[_T2]]]: ...
    def ignore_elements(self) -> AsyncObservable[_T_co]: ...
    def is_empty(self) -> AsyncObservable[bool]: ...
    def join(
        self,
        right: Observable[_T2],
        left_duration_mapper: Callable[[_T_co], Observable[Any]],
        right_duration_mapper: Callable[[_T2], Observable[Any]],
    ) -> AsyncObservable[tuple[_T_co, _T2]]: ...
    def last(self, predicate: typing.Predicate[_T_co] | None = None) -> AsyncObservable[_T_co]: ...
    def last_or_default(
        self, default_value: Any = None, predicate: typing.Predicate[_T_co] | None = None
    ) -> AsyncObservable[Any]: ...
    def map(self, mapper: typing.Mapper[_T_co, _B]) -> AsyncObservable[_B]: ...
    def map_indexed(self, mapper_indexed: typing.MapperIndexed[_T_co, _B] | None = None) -> AsyncObservable[_B]: ...
    def materialize(self) -> AsyncObservable[Notification[_T_co]]: ...
    def max(self, comparer: typing.Comparer[_T_co] | None = None) -> AsyncObservable[_T_co]: ...
    def max_by(
        self, key_mapper: typing.Mapper[_T_co, _TKey], comparer: typing.Comparer[_TKey] | None = None
    ) -> AsyncObservable[list[_T_co]]: ...
    def merge(self, *sources: Observable[_T_co], max_concurrent: int | None = None) -> AsyncObservable[_T_co]: ...
    def merge_all(self) -> AsyncObservable[Any]: ...
    def min(self, comparer: typing.Comparer[_T_co] | None = None) -> AsyncObservable[_T_co]: ...
    def min_by(
        self, key_mapper: typing.Mapper[_T_co, _TKey], comparer: typing.Comparer[_TKey] | None = None
    ) -> AsyncObservable[list[_T_co]]: ...
    def multicast(self, subject: abc.SubjectBase[_T_co] | None = None) -> AsyncConnectableObservable[_T_co]: ...
    def observe_on(self, scheduler: abc.SchedulerBase) -> AsyncObservable[_T_co]: ...
    def on_error_resume_next(self, second: Observable[_T_co]) -> AsyncObservable[_T_co]: ...
    def pairwise(self) -> AsyncObservable[tuple[_T_co, _T_co]]: ...
    def partition(self, predicate: typing.Predicate[_T_co]) -> list[AsyncObservable[_T_co]]: ...
    def partition_indexed(self, predicate_indexed: typing.PredicateIndexed[_T_co]) -> list[AsyncObservable[_T_co]]: ...
    def pluck(self, key: str) -> AsyncObservable[Any]: ...
    def pluck_attr(self, attr: str) -> AsyncObservable[Any]: ...
    @overload
    def publish(self) -> AsyncConnectableObservable[_T_co]: ...
    @overload
    def publish(self, mapper: typing.Mapper[Observable[_T_co], Observable[_R]]) -> AsyncObservable[_R]: ...
    @overload
    def publish_value(self, initial_value: Any) -> AsyncConnectableObservable[Any]: ...
    @overload
    def publish_value(
        self, initial_value: Any, mapper: typing.Mapper[Observable[Any], Observable[_R]]
    ) -> AsyncObservable[_R]: ...
    @overload
    def reduce(self, accumulator: typing.Accumulator[_T_co, _T_co]) -> AsyncObservable[_T_co]: ...
    @overload
    def reduce(self, accumulator: typing.Accumulator[_A, _T_co], seed: _A) -> AsyncObservable[_A]: ...
    def ref_count(self) -> AsyncObservable[_T_co]: ...
    def repeat(self, repeat_count: int | None = None) -> AsyncObservable[_T_co]: ...
    @overload
    def replay(
        self,
        buffer_size: int | None = None,
        window: typing.RelativeTime | None = None,
        *,
        scheduler: abc.SchedulerBase | None = None,
    ) -> AsyncConnectableObservable[_T_co]: ...
    @overload
    def replay(
        self,
        buffer_size: int | None = None,
        window: typing.RelativeTime | None = None,
        *,
        mapper: typing.Mapper[Observable[_T_co], Observable[_R]],
        scheduler: abc.SchedulerBase | None = None,
    ) -> AsyncObservable[_R]: ...
    def retry(self, retry_count: int | None = None) -> AsyncObservable[_T_co]: ...
    def sample(
        self, sampler: typing.RelativeTime | Observable[Any], scheduler: abc.SchedulerBase | None = None
    ) -> AsyncObservable[_T_co]: ...
    @overload
    def scan(self, accumulator: typing.Accumulator[_T_co, _T_co]) -> AsyncObservable[_T_co]: ...
    @overload
    def scan(self, accumulator: typing.Accumulator[_A, _T_co], seed: _A) -> AsyncObservable[_A]: ...
    def sequence_equal(
        self, second: Observable[_T_co] | Iterable[_T_co], comparer: typing.Comparer[_T_co] | None = None
    ) -> AsyncObservable[bool]: ...
    def share(self) -> AsyncObservable[_T_co]: ...
    def single(self, predicate: typing.Predicate[_T_co] | None = None) -> AsyncObservable[_T_co]: ...
    def single_or_default(
        self, predicate: typing.Predicate[_T_co] | None = None, default_value: Any = None
    ) -> AsyncObservable[_T_co]: ...
    def single_or_default_async(
        self, has_default: bool = False, default_value: Any = None
    ) -> AsyncObservable[_T_co]: ...
    def skip(self, count: int) -> AsyncObservable[_T_co]: ...
    def skip_last(self, count: int) -> AsyncObservable[_T_co]: ...
    def skip_last_with_time(
        self, duration: typing.RelativeTime, scheduler: abc.SchedulerBase | None = None
    ) -> AsyncObservable[_T_co]: ...
    def skip_until(self, other: Observable[Any]) -> AsyncObservable[_T_co]: ...
    def skip_until_with_time(
        self, start_time: typing.AbsoluteOrRelativeTime, scheduler: abc.SchedulerBase | None = None
    ) -> AsyncObservable[_T_co]: ...
    def skip_while(self, predicate: typing.Predicate[_T_co]) -> AsyncObservable[_T_co]: ...
    def skip_while_indexed(self, predicate_indexed: typing.PredicateIndexed[_T_co]) -> AsyncObservable[_T_co]: ...
    def skip_with_time(
        self, duration: typing.RelativeTime, scheduler: abc.SchedulerBase | None = None
    ) -> AsyncObservable[_T_co]: ...
    def slice(
        self, start: int | None = None, stop: int | None = None, step: int | None = None
    ) -> AsyncObservable[_T_co]: ...
    def some(self, predicate: typing.Predicate[_T_co] | None = None) -> AsyncObservable[bool]: ...
    @overload
    def starmap(self: Observable[_T_co]) -> AsyncObservable[_T_co]: ...
    @overload
    def starmap(self: Observable[tuple[*_Ts]], mapper: Callable[[*_Ts], _B]) -> AsyncObservable[_B]: ...
    @overload
    def starmap_indexed(
        self: Observable[tuple[*_Ts,]], mapper_indexed: Callable[[*_Ts, int], _B]
    ) -> AsyncObservable[_B]: ...
    @overload
    def starmap_indexed(self, mapper_indexed: None = None) -> AsyncObservable[Any]: ...
    def start_with(self, *args: _A) -> AsyncObservable[_T_co | _A]: ...
    def subscribe_on(self, scheduler: abc.SchedulerBase) -> AsyncObservable[_T_co]: ...
    @overload
    def sum(self) -> AsyncObservable[float]: ...
    @overload
    def sum(self, key_mapper: typing.Mapper[_T_co, float]) -> AsyncObservable[float]: ...
    def switch_latest(self) -> AsyncObservable[Any]: ...
    def switch_map(self, project: typing.Mapper[_T_co, Observable[_B]]) -> AsyncObservable[_B]: ...
    def switch_map_indexed(
        self, mapper_indexed: typing.MapperIndexed[_T_co, Observable[_B]]
    ) -> AsyncObservable[_B]: ...
    def take(self, count: int) -> AsyncObservable[_T_co]: ...
    def take_last(self, count: int) -> AsyncObservable[_T_co]: ...
    def take_last_buffer(self, count: int) -> AsyncObservable[list[_T_co]]: ...
    def take_last_with_time(
        self, duration: typing.RelativeTime, scheduler: abc.SchedulerBase | None = None
    ) -> AsyncObservable[_T_co]: ...
    def take_until(self, other: Observable[Any]) -> AsyncObservable[_T_co]: ...
    def take_until_with_time(
        self, end_time: typing.AbsoluteOrRelativeTime, scheduler: abc.SchedulerBase | None = None
    ) -> AsyncObservable[_T_co]: ...
    def take_while(self, predicate: typing.Predicate[_T_co], inclusive: bool = False) -> AsyncObservable[_T_co]: ...
    def take_while_indexed(
        self, predicate_indexed: typing.PredicateIndexed[_T_co], inclusive: bool = False
    ) -> AsyncObservable[_T_co]: ...
    def take_with_time(
        self, duration: typing.RelativeTime, scheduler: abc.SchedulerBase | None = None
    ) -> AsyncObservable[_T_co]: ...
    def throttle_first(
        self, window_duration: typing.RelativeTime, scheduler: abc.SchedulerBase | None = None
    ) -> AsyncObservable[_T_co]: ...
    def throttle_with_mapper(
        self, throttle_duration_mapper: Callable[[Any], Observable[Any]]
    ) -> AsyncObservable[_T_co]: ...
    def throttle_with_timeout(
        self, duetime: typing.RelativeTime, scheduler: abc.SchedulerBase | None = None
    ) -> AsyncObservable[_T_co]: ...
    def time_interval(self, scheduler: abc.SchedulerBase | None = None) -> AsyncObservable[TimeInterval[_T_co]]: ...
    def timeout(
        self,
        duetime: typing.AbsoluteOrRelativeTime,
        other: Observable[_T_co] | None = None,
        scheduler: abc.SchedulerBase | None = None,
    ) -> AsyncObservable[_T_co]: ...
    def timeout_with_mapper(
        self,
        first_timeout: Observable[Any] | None = None,
        timeout_duration_mapper: typing.Mapper[_T_co, Observable[Any]] | None = None,
        other: Observable[_T_co] | None = None,
    ) -> AsyncObservable[_T_co]: ...
    def timestamp(self, scheduler: abc.SchedulerBase | None = None) -> AsyncObservable[Timestamp[_T_co]]: ...
    def to_dict(
        self, key_mapper: typing.Mapper[_T_co, Any], element_mapper: typing.Mapper[_T_co, Any] | None = None
    ) -> AsyncObservable[dict[Any, Any]]: ...
    def to_future(self, future_ctor: Any = None) -> Future[_T_co]: ...
    def to_iterable(self) -> AsyncObservable[list[_T_co]]: ...
    def to_list(self) -> AsyncObservable[list[_T_co]]: ...
    def to_marbles(
        self, timespan: typing.RelativeTime = 0.1, scheduler: abc.SchedulerBase | None = None
    ) -> AsyncObservable[str]: ...
    def to_set(self) -> AsyncObservable[set[_T_co]]: ...
    def while_do(self, condition: typing.Predicate[Observable[_T_co]]) -> AsyncObservable[_T_co]: ...
    def window(self, boundaries: Observable[Any]) -> AsyncObservable[Observable[_T_co]]: ...
    def window_toggle(
        self, openings: Observable[Any], closing_mapper: Callable[[Any], Observable[Any]]
    ) -> AsyncObservable[Observable[_T_co]]: ...
    def window_when(self, closing_mapper: Callable[[], Observable[Any]]) -> AsyncObservable[Observable[_T_co]]: ...
    def window_with_count(self, count: int, skip: int | None = None) -> AsyncObservable[Observable[_T_co]]: ...
    def window_with_time(
        self, timespan: typing.RelativeTime, timeshift: typing.RelativeTime | None = None, scheduler: Any = None
    ) -> AsyncObservable[Observable[_T_co]]: ...
    def window_with_time_or_count(
        self, timespan: typing.RelativeTime, count: int, scheduler: Any = None
    ) -> AsyncObservable[Observable[_T_co]]: ...
    @overload
    def with_latest_from(self, source: Observable[_A], /) -> AsyncObservable[tuple[_T_co, _A]]: ...
    @overload
    def with_latest_from(self, *sources: Observable[Any]) -> AsyncObservable[tuple[Any, ...]]: ...
    @overload
    def zip(self, source: Observable[_A], /) -> AsyncObservable[tuple[_T_co, _A]]: ...
    @overload
    def zip(self, *sources: Observable[Any]) -> AsyncObservable[tuple[Any, ...]]: ...
    def zip_latest(self, *sources: Observable[Any]) -> AsyncObservable[tuple[Any, ...]]: ...
    def zip_with_iterable(self, second: Iterable[_T2]) -> AsyncObservable[tuple[_T_co, _T2]]: ...
