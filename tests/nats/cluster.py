"""A cluster of three servers on the loopback interface, whose leader can be killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from pathlib import Path
from typing import Any

import nats

from .server import STARTUP, NatsServer, free_port

__all__ = ["Cluster"]

SERVERS = 3


class Cluster:
    """Three servers with JetStream, each with a copy of the stream.

    Attributes:
        url: the addresses of the servers.
    """

    def __init__(self, folder: Path, stream: str = "rxws") -> None:
        self._stream = stream
        ports = [free_port() for _ in range(SERVERS)]
        routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports)
        self._servers = {
            f"s{number}": NatsServer(
                folder / f"s{number}",
                more=f"server_name: s{number}\n"
                f"cluster {{ name: rxws, listen: 127.0.0.1:{port}, routes: [{routes}], no_advertise: true }}",
            )
            for number, port in enumerate(ports)
        }
        self.url = [server.url for server in self._servers.values()]

    @property
    def is_running(self) -> bool:
        """Whether all servers run."""
        return all(server.is_running for server in self._servers.values())

    def start(self) -> None:
        """Start the servers that do not run, and wait until they have a leader."""
        stopped = [server for server in self._servers.values() if not server.is_running]
        for server in stopped:
            server.launch()
        for server in stopped:
            server.wait_healthy()

    def kill(self) -> None:
        """Kill all servers."""
        for server in self._servers.values():
            server.kill()

    async def leader(self) -> str:
        """Return the name of the server that leads the stream, once all copies are current."""
        deadline = time.monotonic() + STARTUP
        while time.monotonic() < deadline:
            with contextlib.suppress(nats.errors.Error, OSError, TimeoutError):
                cluster = (await self._info()).get("cluster") or {}
                replicas = cluster.get("replicas") or []
                if cluster.get("leader") and len(replicas) == SERVERS - 1 and all(each["current"] for each in replicas):
                    return str(cluster["leader"])
            await asyncio.sleep(0.1)
        raise TimeoutError(f"the stream {self._stream!r} has no leader with {SERVERS - 1} current copies")

    async def _info(self) -> Any:
        client = await nats.connect(self.url, connect_timeout=2, max_reconnect_attempts=3)
        try:
            answer = await client.request(f"$JS.API.STREAM.INFO.{self._stream}", b"", timeout=2)
            return json.loads(answer.data)
        finally:
            await client.close()

    async def kill_leader(self) -> str:
        """Kill the server that leads the stream. Return its name."""
        name = await self.leader()
        self._servers[name].kill()
        return name
