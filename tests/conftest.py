"""Fixtures and hooks for all tests."""

from __future__ import annotations

import gc
import os
from collections.abc import Generator
from typing import TYPE_CHECKING

import hypothesis
import pytest

# Examples have no deadline: on a busy machine it would fail tests in which nothing is wrong.
hypothesis.settings.register_profile("rxws", deadline=None)
hypothesis.settings.load_profile("rxws")

pytest_plugins = ["rxws.pytest_plugin"]

if TYPE_CHECKING:
    from xdist.scheduler import WorkStealingScheduling


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """Start two workers per core, because the tests wait for more than half of their time."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    return 2 * (os.cpu_count() or 1)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> WorkStealingScheduling:
    """Let a worker that has no tests left take some of another one, because some tests wait and others compute."""
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop() -> Generator[None, object, object]:
    """Exclude imported objects from garbage collection, because the tests start hundreds of collections."""
    gc.collect()
    gc.freeze()
    try:
        return (yield)
    finally:
        # At the end of the run, plugins look for the referrers of objects. gc does not find them in frozen objects.
        gc.unfreeze()


@pytest.fixture
def unscanned() -> None:
    """Exclude the objects of earlier tests from garbage collection, during this test and after it."""
    # Do not unfreeze afterwards: the garbage collector would then examine the imported objects again.
    gc.collect()
    gc.freeze()
