"""Failures, cancellations and exits."""

from __future__ import annotations

import asyncio

import pytest

from rxws.reporting.cancellation import EXITS, FAILURES, is_being_cancelled, is_torn_down


async def test_is_being_cancelled_when_the_task_is():
    """A CancelledError that cancels the running task is recognized."""
    outcomes = []

    async def run():
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError as error:
            outcomes.append(is_being_cancelled(error))
            raise

    task = asyncio.create_task(run())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    assert outcomes == [True]


async def test_is_being_cancelled_when_something_else_is():
    """The CancelledError of a cancelled future's result does not cancel the running task."""
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        future.result()
    assert not is_being_cancelled(caught.value)
    assert not is_being_cancelled(ZeroDivisionError())


async def test_is_being_cancelled_when_no_task_runs():
    """In a callback of the loop there is no task, so a CancelledError counts as a cancellation."""
    outcome = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(lambda: outcome.set_result(is_being_cancelled(asyncio.CancelledError())))
    assert await outcome


async def test_is_torn_down_when_all_tasks_are_cancelled():
    """A loop counts as torn down if all its tasks are being cancelled, and not if only one of them is."""
    outcomes = []

    async def run():
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            outcomes.append(is_torn_down())
            raise

    for victims in (asyncio.all_tasks, set):
        task = asyncio.create_task(run())
        await asyncio.sleep(0)
        cancelled = victims() | {task}
        for each in cancelled:
            each.cancel()
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            asyncio.current_task().uncancel()
        await asyncio.wait({task})
    assert outcomes == [True, False]


def test_failures_and_exits_share_no_exception():
    """Exits are not failures, and the CancelledError of a future is a failure."""
    assert issubclass(asyncio.CancelledError, FAILURES)
    assert not any(issubclass(each, FAILURES) for each in EXITS)
