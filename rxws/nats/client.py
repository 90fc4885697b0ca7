"""The library's client, with a shorter path for each message.

The library gives each subscription a queue and a task, makes an object of each message, and checks each header. That
takes most of the processor time of a relay and of a feed. Here a message goes from the parser to a plain function, and
a publication goes to the library's buffer. Both use private names of the library. With a version that lacks them, all
works through its public methods, but more slowly.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeAlias

from nats.aio.client import Client

__all__ = ["DirectClient", "Headers", "Receive", "header_of", "status_of"]

#: The headers of a message, as they were sent.
Headers: TypeAlias = bytes

#: Called with a message's subject, its reply subject, its data, and its headers.
Receive: TypeAlias = Callable[[str, str, bytes, Headers], None]

_VERSION: Final = "NATS/1.0"


class _Direct(partial[Any]):
    """The callback of a subscription whose messages go to a plain function, which is the first argument."""


class DirectClient(Client):
    """A client that calls plain functions.

    Args:
        failed: called with an exception of such a function.

    Attributes:
        has_buffer: whether this version of the library has the buffer that :meth:`put` needs.
    """

    def __init__(self, failed: Callable[[Exception], None]) -> None:
        super().__init__()
        self._failed = failed
        self.has_buffer = all(hasattr(self, name) for name in ("_pending", "_pending_data_size", "_flush_queue"))

    async def receive(self, subject: str, function: Receive) -> Any:
        """Subscribe to a subject, and call a plain function with each message, in order. No message is dropped.

        Args:
            subject: the subject, or a pattern.
            function: the function.
        """
        callback = _Direct(self._forward, function)
        return await self.subscribe(subject, cb=callback, pending_msgs_limit=0, pending_bytes_limit=0)

    async def _forward(self, function: Receive, message: Any) -> None:
        self._call(function, message.subject, message.reply, message.data, _encoded(message.headers or {}))

    def _call(self, function: Receive, subject: str, reply: str, data: bytes, headers: Headers) -> None:
        try:
            function(subject, reply, data, headers)
        except Exception as error:
            self._failed(error)

    def mark_encrypted(self) -> None:
        """Tell asyncio that the connection uses TLS. Otherwise it logs a warning whenever the server closes it."""
        writer: Any = getattr(getattr(self, "_transport", None), "_io_writer", None)
        if writer is not None and writer.get_extra_info("ssl_object") is not None:
            writer.transport.get_protocol()._over_ssl = True

    def abort(self) -> None:
        """Drop the connection and end its tasks. The library's own ``close`` waits for a peer that reads nothing."""
        for name in ("_reading_task", "_flusher_task", "_ping_interval_task"):
            task: asyncio.Task[Any] | None = getattr(self, name, None)
            if task is not None:
                task.cancel()
        writer: Any = getattr(getattr(self, "_transport", None), "_io_writer", None)
        if writer is not None:
            writer.transport.abort()

    # Called by the library

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None) -> None:
        subscription = self._subs.get(sid)
        callback = None if subscription is None else subscription._cb
        if type(callback) is _Direct:
            self._call(callback.args[0], subject.decode(), reply.decode(), data, headers or b"")
        else:
            await super()._process_msg(sid, subject, reply, data, headers)  # type: ignore[arg-type]

    def put(self, subject: str, reply: str, payload: bytes, headers: str) -> bool:
        """Publish a message without waiting and without checks. Return False if this version of the library cannot.

        The caller limits the number of messages in flight, so that the library's buffer stays small.

        Args:
            subject: the subject.
            reply: the subject of the acknowledgement.
            payload: the payload.
            headers: the lines of the headers, each with its end of line.
        """
        queue = self._flush_queue if self.has_buffer else None
        if queue is None:
            return False
        size = len(headers) + len(_VERSION) + 4
        command = f"HPUB {subject} {reply} {size} {size + len(payload)}\r\n{_VERSION}\r\n{headers}\r\n".encode()
        self._pending += (command, payload, b"\r\n")
        self._pending_data_size += len(command) + len(payload) + 2
        if queue.empty():
            queue.put_nowait(asyncio.get_running_loop().create_future())
        return True


def header_of(headers: Headers, name: bytes) -> str:
    """Return the value of a header; empty if it is missing."""
    _, _, rest = headers.partition(b"\r\n%b: " % name)
    return rest.partition(b"\r\n")[0].decode("utf-8", "replace")


def status_of(headers: Headers) -> tuple[str, str]:
    """Return the status that the server sends instead of a message, and its description; empty if there is none."""
    line = headers.partition(b"\r\n")[0].decode("utf-8", "replace")
    _, _, rest = line.partition(" ")
    status, _, description = rest.partition(" ")
    return status, description


def _encoded(headers: dict[str, str]) -> Headers:
    """Return headers as they are sent."""
    status, description = headers.get("Status", ""), headers.get("Description", "")
    first = " ".join(filter(None, (_VERSION, status, description)))
    lines = [f"{name}: {value}\r\n" for name, value in headers.items() if name not in _IN_FIRST_LINE]
    return "".join([first, "\r\n", *lines, "\r\n"]).encode()


#: The keys under which the library stores the parts of the first line.
_IN_FIRST_LINE: Final = frozenset({"Status", "Description"})
