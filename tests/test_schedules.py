"""A few of the random schedules of ``tests/schedules.py``."""

from __future__ import annotations

import pytest

from .schedules import KINDS, play

pytestmark = pytest.mark.usefixtures("virtual_time", "assert_no_leaks")


@pytest.mark.parametrize("number", range(12))
@pytest.mark.parametrize("kind", KINDS)
async def test_schedule_ends_as_it_should(kind: str, number: int) -> None:
    """Whatever happens, and when: the server has subscribed what is wanted; a book is right or says that it is not."""
    assert await play(kind, number) == []
