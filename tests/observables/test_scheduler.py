"""The scheduler of timed operators on the event loop's clock."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

import async_solipsism
import pytest
import reactivex as rx
from reactivex import Observable, abc
from reactivex import operators as ops
from reactivex.disposable import Disposable
from reactivex.subject import Subject

from rxws.observables.scheduler import LoopScheduler


def virtually(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine in a loop whose clock starts at 0 and jumps to the next timer."""
    with asyncio.Runner(loop_factory=async_solipsism.EventLoop) as runner:
        runner.run(main())


def unexpected(error: BaseException) -> None:
    """Fail: used as on_error in tests in which no action raises."""
    raise AssertionError("an action raised") from error


class Log:
    """The items of an Observable with the loop's time of each."""

    def __init__(self) -> None:
        self.entries: list[tuple[float, Any]] = []

    def add(self, item: Any) -> None:
        self.entries.append((round(asyncio.get_running_loop().time(), 6), item))

    def subscribe(self, observable: Observable[Any], scheduler: LoopScheduler) -> abc.DisposableBase:
        return observable.subscribe(self.add, self.add, lambda: self.add("end"), scheduler=scheduler)


def ticks(count: int) -> Observable[int]:
    """Emit 0, 1, 2 … at 1, 2, 3 … seconds, and end with the last one."""
    return rx.interval(1.0).pipe(ops.take(count))


def later(number: int) -> Observable[int]:
    """Emit a number after half a second."""
    return rx.timer(0.5).pipe(ops.map(lambda _: number))


EXPECTED: dict[str, tuple[Callable[[], Observable[Any]], list[tuple[float, Any]]]] = {
    "buffer_with_time": (
        lambda: ticks(4).pipe(ops.buffer_with_time(2.5)),
        [(2.5, [0, 1]), (4.0, [2, 3]), (4.0, "end")],
    ),
    "buffer_with_time_or_count": (
        lambda: ticks(6).pipe(ops.buffer_with_time_or_count(2.5, 3)),
        [(2.5, [0, 1]), (5.0, [2, 3]), (6.0, [4, 5]), (6.0, "end")],
    ),
    "window_with_time": (
        lambda: ticks(4).pipe(ops.window_with_time(2.5), ops.flat_map(lambda window: window.pipe(ops.count()))),
        [(2.5, 2), (4.0, 2), (4.0, "end")],
    ),
    "debounce": (lambda: ticks(3).pipe(ops.debounce(0.5)), [(1.5, 0), (2.5, 1), (3.0, 2), (3.0, "end")]),
    "throttle_first": (lambda: ticks(5).pipe(ops.throttle_first(2.0)), [(1.0, 0), (3.0, 2), (5.0, 4), (5.0, "end")]),
    "sample": (lambda: ticks(4).pipe(ops.sample(1.6)), [(1.6, 0), (3.2, 2), (4.8, 3), (4.8, "end")]),
    "delay": (lambda: ticks(2).pipe(ops.delay(10.0)), [(11.0, 0), (12.0, 1), (12.0, "end")]),
    "timeout": (
        lambda: ticks(2).pipe(ops.concat(rx.never()), ops.timeout(1.5, rx.timer(0.25))),
        [(1.0, 0), (2.0, 1), (3.75, 0), (3.75, "end")],
    ),
    "time_interval": (
        lambda: ticks(2).pipe(ops.time_interval(), ops.map(lambda timed: timed.interval.total_seconds())),
        [(1.0, 1.0), (2.0, 1.0), (2.0, "end")],
    ),
    "take_until_with_time": (lambda: ticks(9).pipe(ops.take_until_with_time(2.5)), [(1.0, 0), (2.0, 1), (2.5, "end")]),
    "timer": (lambda: rx.timer(3.0), [(3.0, 0), (3.0, "end")]),
    "timer without a delay": (lambda: rx.timer(0), [(0.0, 0), (0.0, "end")]),
    "timer with a period": (lambda: rx.timer(3.0, 1.0).pipe(ops.take(3)), [(3.0, 0), (4.0, 1), (5.0, 2), (5.0, "end")]),
    "repeat": (lambda: rx.timer(1.0).pipe(ops.repeat(3)), [(1.0, 0), (2.0, 0), (3.0, 0), (3.0, "end")]),
    "retry": (
        lambda: rx.timer(1.0).pipe(ops.map(lambda _: 1 // 0), ops.retry(2), ops.catch(rx.of("given up"))),
        [(2.0, "given up"), (2.0, "end")],
    ),
    "expand": (
        lambda: rx.timer(1.0).pipe(ops.expand(lambda _: rx.timer(1.0)), ops.take(3)),
        [(1.0, 0), (2.0, 0), (3.0, 0), (3.0, "end")],
    ),
    "flat_map with a timer inside": (lambda: ticks(2).pipe(ops.flat_map(later)), [(1.5, 0), (2.5, 1), (2.5, "end")]),
    "generate_with_relative_time": (
        lambda: rx.generate_with_relative_time(0, lambda n: n < 2, lambda n: n + 1, lambda _: 1.0),
        [(1.0, 0), (2.0, 1), (2.0, "end")],
    ),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_timed_operator_when_the_time_is_virtual(name: str) -> None:
    """A timed operator emits on the loop's clock and not on the wall clock."""
    build, expected = EXPECTED[name]

    async def main() -> None:
        log = Log()
        scheduler = LoopScheduler(asyncio.get_running_loop(), log.add)
        log.subscribe(build(), scheduler)
        await asyncio.sleep(20.0)
        assert log.entries == expected

    virtually(main)


def test_now_when_the_loop_runs() -> None:
    """now starts with the wall clock's time in UTC, and then follows the loop's clock."""

    async def main() -> None:
        before = datetime.now(UTC)
        scheduler = LoopScheduler(asyncio.get_running_loop(), unexpected)
        start = scheduler.now
        assert before <= start + timedelta(microseconds=1)
        assert start <= datetime.now(UTC) + timedelta(microseconds=1)
        await asyncio.sleep(20 * 3600.0)
        assert scheduler.now - start == timedelta(hours=20)

    virtually(main)


def test_now_when_the_loop_is_an_ordinary_one() -> None:
    """In a loop with the machine's clock, now is the wall clock's time."""

    async def main() -> None:
        scheduler = LoopScheduler(asyncio.get_running_loop(), unexpected)
        assert abs(scheduler.now - datetime.now(UTC)) < timedelta(seconds=1)

    asyncio.run(main())


def test_absolute_time_when_the_time_is_virtual() -> None:
    """An action runs when now reaches its date; with a date in the past it runs at once."""

    async def main() -> None:
        log = Log()
        scheduler = LoopScheduler(asyncio.get_running_loop(), unexpected)
        await asyncio.sleep(1.0)
        log.subscribe(rx.timer(scheduler.now + timedelta(seconds=2)), scheduler)
        log.subscribe(rx.timer(scheduler.now - timedelta(seconds=2)).pipe(ops.map(str)), scheduler)
        scheduler.schedule_absolute(scheduler.now.timestamp() + 3, lambda *_: log.add("seconds"))
        await asyncio.sleep(5.0)
        assert log.entries == [(1.0, "0"), (1.0, "end"), (3.0, 0), (3.0, "end"), (4.0, "seconds")]

    virtually(main)


def test_start_with_when_the_source_is_hot() -> None:
    """Actions without a delay run before subscribe returns, so that no item of a hot source is lost."""

    async def main() -> None:
        subject: Subject[int] = Subject()
        items: list[int] = []
        scheduler = LoopScheduler(asyncio.get_running_loop(), unexpected)
        subject.pipe(ops.start_with(1, 2)).subscribe(items.append, scheduler=scheduler)
        subject.on_next(3)
        assert items == [1, 2, 3]

    virtually(main)


def test_schedule_when_nested() -> None:
    """An action that another action schedules without a delay runs after the other one, on the same scheduler."""

    async def main() -> None:
        scheduler = LoopScheduler(asyncio.get_running_loop(), unexpected)
        seen: list[Any] = []

        def outer(given: abc.SchedulerBase, state: str | None) -> None:
            given.schedule(lambda inner, _: seen.append(inner))
            seen.append(state)

        scheduler.schedule(outer, "outer")
        assert seen == ["outer", scheduler]

    virtually(main)


def test_order_when_actions_are_due_at_once() -> None:
    """Actions that are due at the same instant run in the order in which they were scheduled."""

    async def main() -> None:
        scheduler = LoopScheduler(asyncio.get_running_loop(), unexpected)
        seen: list[int] = []
        for number in range(20):
            scheduler.schedule_relative(1.0, lambda _, state: seen.append(state), number)
        await asyncio.sleep(2.0)
        assert seen == list(range(20))

    virtually(main)


def test_zero_delay_when_repeated() -> None:
    """An action that reschedules itself with a delay of 0 lets other callbacks of the loop run in between."""

    async def main() -> None:
        scheduler = LoopScheduler(asyncio.get_running_loop(), unexpected)
        runs = itertools.count()

        def again(given: abc.SchedulerBase, _: Any) -> None:
            next(runs)
            given.schedule_relative(-1.0, again)

        scheduler.schedule_relative(0, again)
        beats: list[int] = []
        subscription = rx.interval(0).subscribe(beats.append, scheduler=scheduler)
        for _ in range(10):
            await asyncio.sleep(0)
        assert 5 <= next(runs) <= 11
        assert 5 <= len(beats) <= 11
        subscription.dispose()

    virtually(main)


def test_periodic_when_something_blocks() -> None:
    """A late run of a periodic action does not shift later runs, and missed runs are skipped."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        log = Log()
        scheduler = LoopScheduler(loop, unexpected)
        shift = 0.0
        own_time = loop.time
        loop.time = lambda: own_time() + shift  # type: ignore[method-assign]

        def tick(count: int | None) -> int:
            nonlocal shift
            assert count is not None
            log.add(count)
            shift += {1: 0.3, 3: 2.5}.get(count, 0.0)
            return count + 1

        subscription = scheduler.schedule_periodic(timedelta(seconds=1), tick, 0)
        await asyncio.sleep(7.5)
        subscription.dispose()
        assert log.entries == [(1.0, 0), (2.0, 1), (3.0, 2), (4.0, 3), (7.0, 4)]
        await asyncio.sleep(2.0)
        assert len(log.entries) == 5

    virtually(main)


def test_periodic_when_the_action_raises() -> None:
    """A periodic action that raises is reported and does not run again."""

    async def main() -> None:
        errors: list[BaseException] = []
        scheduler = LoopScheduler(asyncio.get_running_loop(), errors.append)
        scheduler.schedule_periodic(1.0, lambda _: 1 // 0)
        await asyncio.sleep(5.0)
        assert [type(error) for error in errors] == [ZeroDivisionError]

    virtually(main)


def test_periodic_when_the_clock_is_coarse() -> None:
    """A periodic action does not run twice if its timer fires slightly early."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        scheduler = LoopScheduler(loop, unexpected)
        seen: list[int] = []
        own_time = loop.time
        early = 0.0
        loop.time = lambda: own_time() - early  # type: ignore[method-assign]

        def tick(_: None) -> None:
            nonlocal early
            seen.append(1)
            early = 0.001

        scheduler.schedule_periodic(1.0, tick)
        await asyncio.sleep(1.5)
        assert seen == [1]

    virtually(main)


def test_error_when_an_action_raises() -> None:
    """on_error gets the exception of an action, even a CancelledError, and the other actions still run."""

    async def main() -> None:
        errors: list[BaseException] = []
        seen: list[str] = []
        scheduler = LoopScheduler(asyncio.get_running_loop(), errors.append)

        def cancelled(*_: Any) -> None:
            raise asyncio.CancelledError

        scheduler.schedule(lambda *_: 1 // 0)
        scheduler.schedule_relative(1.0, cancelled)
        scheduler.schedule_relative(1.0, lambda *_: seen.append("after"))
        await asyncio.sleep(2.0)
        assert [type(error) for error in errors] == [ZeroDivisionError, asyncio.CancelledError]
        assert seen == ["after"]

    virtually(main)


def test_dispose_when_called_before_and_after_the_action() -> None:
    """dispose cancels an action, or disposes what it returned; no timer of the loop is left."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        scheduler = LoopScheduler(loop, unexpected)
        seen: list[str] = []

        def action(_: abc.SchedulerBase, state: str | None) -> abc.DisposableBase:
            seen.append(f"ran {state}")
            return Disposable(lambda: seen.append(f"disposed {state}"))

        first, second, third = [scheduler.schedule_relative(1.0, action, name) for name in "abc"]
        first.dispose()
        first.dispose()
        await asyncio.sleep(2.0)
        assert seen == ["ran b", "ran c"]
        second.dispose()
        assert seen == ["ran b", "ran c", "disposed b"]
        third.dispose()
        scheduler.schedule_relative(1.0, action, "d").dispose()
        assert all(handle.cancelled() for handle in loop._scheduled)  # type: ignore[attr-defined]

    virtually(main)


def test_dispose_when_called_by_an_action_of_the_same_instant() -> None:
    """An action does not run if another action of the same instant cancels it first."""

    async def main() -> None:
        scheduler = LoopScheduler(asyncio.get_running_loop(), unexpected)
        seen: list[str] = []
        scheduler.schedule_relative(1.0, lambda *_: second.dispose())
        second = scheduler.schedule_relative(1.0, lambda *_: seen.append("second"))
        await asyncio.sleep(2.0)
        assert seen == []

    virtually(main)


def test_dispose_when_called_in_another_thread() -> None:
    """An action that is disposed in another thread does not run, and the loop frees its timer."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        scheduler = LoopScheduler(loop, unexpected)
        seen: list[str] = []
        timer = scheduler.schedule_relative(0.05, lambda *_: seen.append("ran"))
        far = scheduler.schedule_relative(3600.0, lambda *_: seen.append("ran"))
        thread = threading.Thread(target=lambda: (timer.dispose(), far.dispose()))
        thread.start()
        thread.join()
        # The loop has not freed the timer yet. If it fired now, the action would not run.
        time.sleep(0.06)  # noqa: ASYNC251
        await asyncio.sleep(0.01)
        assert seen == []
        assert all(handle.cancelled() for handle in loop._scheduled)  # type: ignore[attr-defined]

    asyncio.run(main())


def test_dispose_when_the_loop_has_ended() -> None:
    """Actions that are left when the loop stops or closes can be disposed."""
    loop = asyncio.new_event_loop()
    scheduler = LoopScheduler(loop, unexpected)

    async def main() -> list[abc.DisposableBase]:
        return [scheduler.schedule_relative(hours * 3600.0, lambda *_: None) for hours in (1, 2)]

    stopped, closed = loop.run_until_complete(main())
    stopped.dispose()
    assert all(handle.cancelled() for handle in loop._scheduled[:1])  # type: ignore[attr-defined]
    loop.close()
    closed.dispose()


def test_schedule_when_outside_the_loop() -> None:
    """Scheduling outside the loop's thread raises a RuntimeError that says so."""
    loop = asyncio.new_event_loop()
    scheduler = LoopScheduler(loop, unexpected)
    for schedule in (
        lambda: scheduler.schedule(lambda *_: None),
        lambda: scheduler.schedule_relative(1.0, lambda *_: None),
        lambda: scheduler.schedule_absolute(scheduler.now, lambda *_: None),
        lambda: scheduler.schedule_periodic(1.0, lambda _: None),
    ):
        with pytest.raises(RuntimeError, match="event loop"):
            schedule()
    loop.close()
