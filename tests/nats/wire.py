"""A wire between a client and a server, which can be cut while both stay connected, or changes a line."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Self

__all__ = ["Wire"]


class Wire:
    """Forwards connections to a port of this machine.

    Args:
        port: of the server.
        change: changes the first bytes that the server sends on each connection.
    """

    def __init__(self, port: int, change: Callable[[bytes], bytes] = bytes) -> None:
        self._port = port
        self._change = change
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_cut = False
        self.url = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.url = f"nats://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()

    def cut(self) -> None:
        """Forward nothing more, on present and new connections; both sides stay connected."""
        self._is_cut = True

    def mend(self) -> None:
        """Forward new connections again. Connections from the time of the cut are lost."""
        self._is_cut = False
        for task in list(self._tasks):
            task.cancel()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._port)
            try:
                await asyncio.gather(self._forward(reader, back, bytes), self._forward(there, writer, self._change))
            finally:
                back.close()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            with contextlib.suppress(OSError):
                writer.close()

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, change: Callable[[bytes], bytes]
    ) -> None:
        data = change(await reader.read(2**16))
        while data:
            while self._is_cut:
                await asyncio.sleep(0.05)
            writer.write(data)
            await writer.drain()
            data = await reader.read(2**16)
        raise ConnectionResetError
