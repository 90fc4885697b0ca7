"""The pytest plugin of rxws: fixtures to test feeds with. Without the ``testing`` extra, they say that it is missing.

Fixtures:

- ``feed_server``: a running :class:`rxws.testing.FeedServer`.
- ``virtual_time``: the test runs on an event loop whose time passes infinitely fast, with sockets in memory. Ask for it
  in one test, or in all of a class or module with ``pytestmark = pytest.mark.usefixtures("virtual_time")``.
- ``life``: :func:`rxws.testing.life`, in virtual time: a feed of yours lives through everything that a seed stands for.
- ``assert_no_leaks``: the test fails if it leaves a task, file descriptor or timer behind.

Example::

    @pytest.mark.asyncio
    async def test_survives_a_cut(feed_server, virtual_time, assert_no_leaks):
        async with MyFeed(feed_server.url) as feed:
            await feed_server.connected()
            feed_server.reset()
            await feed_server.connected(2)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import pytest

import rxws

if TYPE_CHECKING:
    from .testing import FeedServer
    from .testing.lives import Report

try:
    import async_solipsism  # type: ignore[import-untyped]
    import pytest_asyncio
except ImportError as error:  # rxws is installed beside pytest, but without its extra: other people's tests must go on
    missing = error.name

    def refusing(name: str) -> Any:
        """Make a fixture that says what its tests need."""

        @pytest.fixture(name=name)
        def refuse() -> None:
            pytest.fail(f"{name} needs {missing}, which pip install 'rxws[testing]' brings", pytrace=False)

        return refuse

    feed_server, virtual_time, life_fixture, assert_no_leaks_fixture = map(
        refusing, ("feed_server", "virtual_time", "life", "assert_no_leaks")
    )
else:
    missing = None

    # rxws.testing is loaded where it is asked for: a plugin is imported by each start of pytest.

    @pytest_asyncio.fixture
    async def feed_server() -> AsyncIterator[FeedServer]:
        """Yield a running FeedServer that sends nothing by itself."""
        async with rxws.testing.FeedServer() as server:
            yield server

    @pytest_asyncio.fixture
    async def virtual_time() -> asyncio.AbstractEventLoop:
        """Run the test in virtual time; gives the loop, whose ``time()`` began at 0."""
        loop = asyncio.get_running_loop()
        is_virtual: bool = isinstance(loop, async_solipsism.EventLoop)
        if not is_virtual:
            pytest.fail("virtual_time: a conftest or another plugin chose the event loop")
        return loop

    @pytest.fixture(name="life")
    def life_fixture(virtual_time: asyncio.AbstractEventLoop) -> Callable[..., Awaitable[Report]]:
        """Give the function that lets a feed live through what a seed stands for; the test runs in virtual time."""
        return rxws.testing.life

    @pytest_asyncio.fixture(name="assert_no_leaks")
    async def assert_no_leaks_fixture() -> AsyncIterator[None]:
        """Fail the test if it leaves a task, file descriptor or timer behind."""
        async with rxws.testing.assert_no_leaks():
            yield


def virtual_loop() -> asyncio.AbstractEventLoop:
    """Make an event loop with virtual time: async-solipsism's, whose sleeps may be as long and as short as you like.

    As it comes, a lone sleep of a day or more raises ``SleepForeverError`` and one of less than a microsecond never
    ends; a real wait without an end still raises that error.
    """
    loop: asyncio.AbstractEventLoop = async_solipsism.EventLoop()
    selector: Any = loop._selector  # type: ignore[attr-defined]
    select = selector.select

    def bounded_select(timeout: float | None = None) -> Any:
        # Half a day, well below asyncio's longest wait of a day, which async-solipsism takes for one without an end.
        return select(min(max(timeout, selector.clock.resolution), 43_200.0) if timeout else timeout)

    selector.select = bounded_select
    return loop


@pytest.hookimpl(optionalhook=True, trylast=True)
def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Choose a test's event loop (hook of pytest-asyncio 1.4); a conftest's own comes first."""
    if missing is None and "virtual_time" in getattr(item, "fixturenames", ()):
        return {"virtual_time": virtual_loop}
    return {"asyncio": asyncio.new_event_loop}
