"""What all tests share."""

from __future__ import annotations

import gc

import pytest

pytest_plugins = ["rxws.pytest_plugin"]


def pytest_collection_finish() -> None:
    """Exclude the objects that the imports made from later garbage collections: the tests start hundreds of them."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def unscanned() -> None:
    """Exclude the objects that earlier tests left from garbage collections while this test runs, and after it."""
    # No unfreeze: it would give the objects that the imports made back to the collector.
    gc.collect()
    gc.freeze()
