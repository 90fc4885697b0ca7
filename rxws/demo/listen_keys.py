"""Listen keys: they give access to a feed until they expire, and then their connections are closed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from ..testing import FeedConnection

__all__ = ["ListenKeys"]


class ListenKeys:
    """The valid listen keys, each with its connections.

    Args:
        lifetime: seconds until a key expires.
        grace: seconds from the ``listenKeyExpired`` message until the connections are closed.
        seed: the same seed makes the same keys.
    """

    def __init__(self, *, lifetime: float, grace: float, seed: int) -> None:
        self.lifetime = lifetime
        self.grace = grace
        self._random = random.Random(f"keys {seed}")
        self._keys: dict[str, list[FeedConnection]] = {}
        self._timers: set[asyncio.TimerHandle] = set()
        self._closing: set[asyncio.Task[None]] = set()

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def make(self) -> str:
        """Make a key, which expires after its lifetime."""
        key = f"{self._random.getrandbits(256):064x}"
        self._keys[key] = []
        self._later(self.lifetime, lambda: self.expire(key))
        return key

    def join(self, key: str, connection: FeedConnection) -> bool:
        """Add a connection to a key; return False if the key is unknown or has expired."""
        if key not in self._keys:
            return False
        self._keys[key].append(connection)
        return True

    def leave(self, connection: FeedConnection) -> None:
        """Remove a connection from its key."""
        for connections in self._keys.values():
            if connection in connections:
                connections.remove(connection)

    def expire(self, key: str) -> None:
        """Let a key expire: send ``listenKeyExpired`` to its connections, and close them after the grace."""
        connections = self._keys.pop(key, [])
        for connection in connections:
            connection.send_nowait({"e": "listenKeyExpired", "listenKey": key})
        if connections:
            self._later(self.grace, lambda: self._close(connections))

    def expire_all(self) -> None:
        """Let all keys expire."""
        for key in list(self._keys):
            self.expire(key)

    async def end(self) -> None:
        """Cancel all timers and tasks."""
        for timer in self._timers:
            timer.cancel()
        for task in self._closing:
            task.cancel()
        if self._closing:
            await asyncio.wait(self._closing, timeout=5.0)

    def _close(self, connections: list[FeedConnection]) -> None:
        for connection in connections:
            task = asyncio.create_task(connection.close(1000, "listen key expired"))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    def _later(self, seconds: float, function: Callable[[], None]) -> None:
        def call() -> None:
            self._timers.discard(timer)
            function()

        timer = asyncio.get_running_loop().call_later(seconds, call)
        self._timers.add(timer)
