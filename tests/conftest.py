"""What all tests share."""

from __future__ import annotations

import gc
from collections.abc import Generator

import pytest

pytest_plugins = ["rxws.pytest_plugin"]


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop() -> Generator[None, object, object]:
    """Exclude the objects that the imports made from garbage collections: the tests start hundreds of them."""
    gc.collect()
    gc.freeze()
    try:
        return (yield)
    finally:
        # Plugins that are imported at the end look for the referrers of objects, which a freeze hides.
        gc.unfreeze()


@pytest.fixture
def unscanned() -> None:
    """Exclude the objects that earlier tests left from garbage collections while this test runs, and after it."""
    # No unfreeze here: it would give the objects that the imports made back to the collector.
    gc.collect()
    gc.freeze()
