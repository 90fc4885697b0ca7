"""The proxy applies its toxics to open connections, in each direction."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
import websockets
from websockets.exceptions import ConnectionClosed

from rxws.testing import FeedServer, assert_no_leaks
from tests.support.proxy import FaultProxy


class WhatProxiesDo:
    """Tests of the proxy for every loop; the subclasses choose the loop."""

    late = 5.0
    """Allowed delay in seconds, because a busy machine is late."""

    @pytest.fixture
    async def server(self):
        async def echo(connection):
            async for message in connection:
                await connection.send(message)

        async with assert_no_leaks(), FeedServer(echo) as server:
            yield server

    @pytest.fixture
    async def proxy(self, server):
        async with assert_no_leaks(), FaultProxy(server.url) as proxy:
            yield proxy

    @pytest.fixture
    async def client(self, server, proxy):
        options = {"compression": None, "proxy": None, "ping_interval": None, "close_timeout": 0.05}
        async with websockets.connect(proxy.url, **options) as client:
            yield client

    @pytest.fixture
    def clock(self):
        return asyncio.get_running_loop().time

    async def trip(self, client, message="hello"):
        """Send a message and wait for its echo; return the duration in seconds."""
        clock = asyncio.get_running_loop().time
        began = clock()
        await client.send(message)
        assert await client.recv() == message
        return clock() - began

    async def end(self, client):
        """Read until the end; return the close code."""
        with contextlib.suppress(ConnectionClosed):
            async with asyncio.timeout(5):
                async for _ in client:
                    pass
        return client.close_code

    async def test_a_healthy_proxy_passes_everything_on(self, client, proxy):
        """Without toxics, bytes and the closing handshake pass unchanged in both directions."""
        assert proxy.connections == 1
        assert await self.trip(client, "x" * 500_000) < 0.01 + self.late
        await client.close(4000)
        assert client.close_code == 4000
        await asyncio.sleep(0.05)
        assert proxy.connections == 0

    @pytest.mark.parametrize("name", ["upstream", "downstream"])
    async def test_latency_delays_one_direction_of_open_connections(self, client, proxy, name):
        """Latency applies as soon as it is set, and ends as soon as it is cleared."""
        direction = getattr(proxy, name)
        assert await self.trip(client) < 0.01 + self.late
        direction.set(latency=0.15)
        assert 0.14 < await self.trip(client) < 0.16 + self.late
        direction.clear("latency")
        assert await self.trip(client) < 0.01 + self.late

    async def test_latency_does_not_throttle(self, client, proxy):
        """Delayed messages travel concurrently: a hundred take one latency, not a hundred."""
        proxy.upstream.set(latency=0.1, jitter=0.02)
        began = asyncio.get_running_loop().time()
        for n in range(100):
            await client.send(str(n))
        assert [await client.recv() for _ in range(100)] == [str(n) for n in range(100)]
        assert 0.09 < asyncio.get_running_loop().time() - began < 0.13 + self.late

    async def test_bandwidth_limits_the_bytes_a_second(self, client, proxy):
        """20,000 bytes at 100,000 bytes per second take a fifth of a second."""
        proxy.downstream.set(bandwidth=100_000)
        assert 0.18 < await self.trip(client, "x" * 20_000) < 0.25 + self.late

    async def test_slicer_cuts_into_slices(self, client, proxy):
        """A message in one-byte slices with pauses arrives complete, after the sum of the pauses."""
        proxy.downstream.set(slicer=1, slicer_delay=0.002)
        assert 0.18 < await self.trip(client, "x" * 90) < 0.25 + self.late

    async def test_slow_close_holds_the_end_back(self, client, proxy, server):
        """The server's close reaches the client after the delay."""
        proxy.downstream.set(slow_close=0.2)
        began = asyncio.get_running_loop().time()
        (connection,) = server.connections
        connection.websocket.transport.close()
        assert await self.end(client) == 1006
        assert 0.18 < asyncio.get_running_loop().time() - began < 0.25 + self.late

    async def test_timeout_swallows_and_then_closes(self, client, proxy):
        """No byte passes, and after the timeout the connection is closed, whether it is idle or not."""
        proxy.downstream.set(timeout=0.2)
        began = asyncio.get_running_loop().time()
        await client.send("swallowed")
        assert await self.end(client) == 1006
        assert 0.18 < asyncio.get_running_loop().time() - began < 0.25 + self.late

    async def test_timeout_counts_from_the_moment_that_it_is_set(self, client, proxy):
        """Setting other toxics does not restart the timeout."""
        proxy.downstream.set(timeout=0.2)
        began = asyncio.get_running_loop().time()
        await asyncio.sleep(0.15)
        proxy.downstream.set(jitter=0.01)
        assert await self.end(client) == 1006
        assert 0.18 < asyncio.get_running_loop().time() - began < 0.25 + self.late

    async def test_timeout_of_zero_swallows_for_good_until_cleared(self, client, proxy, server):
        """With 0 the connection stays open and silent. Swallowed bytes are lost; bytes after ``clear`` pass."""
        proxy.upstream.set(timeout=0)
        await client.send("swallowed")
        with pytest.raises(TimeoutError):
            await server.expect(timeout=0.1)
        proxy.upstream.clear()
        await self.trip(client)
        assert server.received == ["hello"]

    async def test_reset_peer_resets_after_its_time(self, client, proxy, server):
        """Both sides lose the connection without a close frame."""
        proxy.upstream.set(reset_peer=0.1)
        began = asyncio.get_running_loop().time()
        assert await self.end(client) == 1006
        assert 0.09 < asyncio.get_running_loop().time() - began < 0.15 + self.late
        await server.disconnected()

    async def test_limit_data_closes_in_mid_frame(self, client, proxy):
        """The connection ends after exactly this number of bytes, including the handshake."""
        await self.trip(client)
        passed = []
        receive = client.data_received
        client.transport.get_protocol().data_received = lambda octets: (passed.append(len(octets)), receive(octets))
        proxy.downstream.set(limit_data=1000)
        await client.send("x" * 2000)
        assert await self.end(client) == 1006
        handshake_and_echo = 1000 - sum(passed)
        assert 100 < handshake_and_echo < 300

    async def test_down_cuts_and_refuses_until_up(self, client, proxy):
        """``down`` resets open connections and refuses new ones; ``up`` listens on the same port again."""
        url = proxy.url
        await proxy.down()
        assert await self.end(client) == 1006
        with pytest.raises(ConnectionRefusedError):
            await websockets.connect(url, proxy=None, process_exception=lambda error: error)
        await proxy.up()
        assert proxy.url == url
        async with websockets.connect(url, proxy=None) as again:
            await self.trip(again)

    async def test_a_reset_by_the_server_is_passed_on(self, client, server):
        """If the server resets its connection, the proxy resets the client's connection."""
        server.reset()
        assert await self.end(client) == 1006

    async def test_a_target_that_refuses_is_a_reset(self, server, proxy):
        """If the target does not listen, the client's connection is reset."""
        await server.stop()
        with pytest.raises((OSError, EOFError, websockets.InvalidMessage)):
            await websockets.connect(proxy.url, proxy=None, process_exception=lambda error: error)

    async def test_leaving_the_block_is_quick_with_any_toxics(self, server):
        """A proxy that delays everything for an hour closes at once."""
        async with FaultProxy(server.url) as proxy:
            client = await websockets.connect(proxy.url, proxy=None, close_timeout=0.05, ping_interval=None)
            proxy.downstream.set(latency=3600, slow_close=3600)
            proxy.upstream.set(bandwidth=1)
            await client.send("x" * 100)
            began = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - began < 0.1 + self.late
        await client.close()


class TestFaultProxy(WhatProxiesDo):
    """On real sockets."""


class TestFaultProxyInVirtualTime(WhatProxiesDo):
    """On sockets in memory."""

    pytestmark = pytest.mark.usefixtures("virtual_time")
    late = 0.0


async def test_reset_peer_is_a_reset_on_the_wire():
    """On real sockets the client gets ECONNRESET."""
    async with (
        FeedServer() as server,
        FaultProxy(server.url) as proxy,
        websockets.connect(proxy.url, proxy=None) as client,
    ):
        proxy.downstream.set(reset_peer=0)
        with pytest.raises(ConnectionClosed) as caught:
            await client.recv()
    assert isinstance(caught.value.__cause__, ConnectionResetError)
