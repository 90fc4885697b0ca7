"""Faults of handshakes: what a server can do to a client that opens a websocket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from websockets.asyncio.server import ServerConnection
from websockets.http11 import Response

from .http import HttpResponse

__all__ = ["HandshakeFaults"]

_Action = Callable[[ServerConnection], Awaitable[Response | None]]


@dataclass(slots=True)
class _Fault:
    action: _Action
    times: int | None


class HandshakeFaults:
    """A queue of faults: each handshake takes the first one, until the queue is empty."""

    def __init__(self) -> None:
        self._faults: list[_Fault] = []

    def refuse(
        self, status: int = 503, headers: Mapping[str, str] | None = None, *, body: str = "", times: int | None = 1
    ) -> None:
        """Answer the next handshakes with an HTTP status.

        Args:
            status: any status except 101.
            headers: the headers of the answer, ``{"Retry-After": "3"}`` for example.
            body: the body of the answer.
            times: the number of handshakes to refuse. None refuses all until :meth:`accept`.
        """
        response = HttpResponse(body, status, headers or {})

        async def action(websocket: ServerConnection) -> Response | None:
            return response.to_websockets()

        self._queue_fault(action, times)

    def slow_handshake(self, seconds: float, *, times: int | None = 1) -> None:
        """Accept the next handshakes, but only after this many seconds."""

        async def action(websocket: ServerConnection) -> Response | None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await websocket.wait_closed()
            return None

        self._queue_fault(action, times)

    def mute(self, *, times: int | None = 1) -> None:
        """Accept the next TCP connections and send nothing until the client gives up."""

        async def action(websocket: ServerConnection) -> Response | None:
            await websocket.wait_closed()
            return None

        self._queue_fault(action, times)

    def garbage(self, octets: bytes = b"220 mail.example ESMTP\r\n", *, times: int | None = 1) -> None:
        """Answer the next handshakes with bytes that are not HTTP, then close; ``b""`` only closes."""

        async def action(websocket: ServerConnection) -> Response | None:
            websocket.transport.write(octets)
            websocket.transport.close()
            await websocket.wait_closed()
            return None

        self._queue_fault(action, times)

    def accept(self) -> None:
        """Remove all faults from the queue: the next handshakes succeed."""
        self._faults.clear()

    def _queue_fault(self, action: _Action, times: int | None) -> None:
        if times is not None and times < 1:
            raise ValueError(f"times: expected a number of handshakes of at least 1, or None, got {times!r}")
        self._faults.append(_Fault(action, times))

    def _next_fault(self) -> _Action | None:
        if not self._faults:
            return None
        fault = self._faults[0]
        if fault.times is not None:
            fault.times -= 1
            if not fault.times:
                self._faults.pop(0)
        return fault.action
