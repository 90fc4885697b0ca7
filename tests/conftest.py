"""Fixtures and hooks for all tests."""

from __future__ import annotations

import gc
from collections.abc import Generator

import hypothesis
import pytest

# A deadline for each example measures the machine: on a busy one a test fails that has found nothing.
hypothesis.settings.register_profile("rxws", deadline=None)
hypothesis.settings.load_profile("rxws")

pytest_plugins = ["rxws.pytest_plugin"]


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop() -> Generator[None, object, object]:
    """Exclude the objects of the imports from garbage collections, because the tests start hundreds of them."""
    gc.collect()
    gc.freeze()
    try:
        return (yield)
    finally:
        # Plugins that are imported at the end look for referrers of objects, which a freeze hides.
        gc.unfreeze()


@pytest.fixture
def unscanned() -> None:
    """Exclude the objects of earlier tests from garbage collections, during this test and after it."""
    # No unfreeze here, because it would include the objects of the imports again.
    gc.collect()
    gc.freeze()
