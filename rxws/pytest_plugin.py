"""The pytest plugin of rxws: fixtures to test feeds with. They need the extra ``testing``.

Fixtures:

- ``feed_server``: a running :class:`rxws.testing.FeedServer`.
- ``virtual_time``: the test runs on an event loop whose time passes infinitely fast, with sockets in memory. Use it in
  one test, or in all tests of a class or module with ``pytestmark = pytest.mark.usefixtures("virtual_time")``.
- ``life``: :func:`rxws.testing.life` in virtual time. It takes your feed through the random faults of a seed.
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
except ImportError as error:  # Without the extra, tests that do not use these fixtures must still run.
    missing = error.name

    def refusing(name: str) -> Any:
        """Make a fixture that fails each test that uses it, with a text that names the missing package."""

        @pytest.fixture(name=name)
        def refuse() -> None:
            pytest.fail(f"{name} needs {missing}, which pip install 'rxws[testing]' installs", pytrace=False)

        return refuse

    feed_server, virtual_time, life_fixture, assert_no_leaks_fixture = map(
        refusing, ("feed_server", "virtual_time", "life", "assert_no_leaks")
    )
else:
    missing = None

    # rxws.testing is loaded only when a fixture needs it, because every start of pytest imports this plugin.

    @pytest_asyncio.fixture
    async def feed_server() -> AsyncIterator[FeedServer]:
        """Yield a running FeedServer that sends nothing by itself."""
        async with rxws.testing.FeedServer() as server:
            yield server

    @pytest_asyncio.fixture
    async def virtual_time() -> asyncio.AbstractEventLoop:
        """Run the test in virtual time. Return the event loop, whose ``time()`` begins at 0."""
        loop = asyncio.get_running_loop()
        is_virtual: bool = isinstance(loop, async_solipsism.EventLoop)
        if not is_virtual:
            pytest.fail("virtual_time: a conftest or another plugin chose the event loop")
        return loop

    @pytest.fixture(name="life")
    def life_fixture(virtual_time: asyncio.AbstractEventLoop) -> Callable[..., Awaitable[Report]]:
        """Return :func:`rxws.testing.life`, and run the test in virtual time."""
        return rxws.testing.life

    @pytest_asyncio.fixture(name="assert_no_leaks")
    async def assert_no_leaks_fixture() -> AsyncIterator[None]:
        """Fail the test if it leaves a task, file descriptor or timer behind."""
        async with rxws.testing.assert_no_leaks():
            yield


def virtual_loop() -> asyncio.AbstractEventLoop:
    """Make an event loop of async-solipsism with virtual time, in which a sleep may have any length.

    On async-solipsism's own loop, a sleep of a day or more raises ``SleepForeverError`` if no other timer is set, and a
    sleep of less than a microsecond never ends. A wait that never ends still raises ``SleepForeverError``.
    """
    loop: asyncio.AbstractEventLoop = async_solipsism.EventLoop()
    selector: Any = loop._selector  # type: ignore[attr-defined]
    select = selector.select

    def bounded_select(timeout: float | None = None) -> Any:
        # Wait for at most half a day. async-solipsism treats asyncio's longest wait, a day, as a wait that never ends.
        return select(min(max(timeout, selector.clock.resolution), 43_200.0) if timeout else timeout)

    selector.select = bounded_select
    return loop


@pytest.hookimpl(optionalhook=True, trylast=True)
def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Choose a test's event loop (a hook of pytest-asyncio 1.4). The same hook in a conftest takes precedence."""
    if missing is None and "virtual_time" in getattr(item, "fixturenames", ()):
        return {"virtual_time": virtual_loop}
    return {"asyncio": asyncio.new_event_loop}
