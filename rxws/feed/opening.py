"""How a feed opens connections: the hook, and the addresses, delays and limits that all lines of the feed share."""

from __future__ import annotations

import asyncio

from ..connections.backoff import Address, Backoff
from ..connections.send_queue import Priority, PrioritySendQueue
from ..connections.transport import check_websocket
from ..messages.frames import Websocket
from ..options import Options
from ..rate_limit import window_of
from ..reporting.reporter import Reporter
from .hooks import ADDRESS, Hooks

__all__ = ["Opening"]


class Opening:
    """Opens the websockets of a feed.

    Args:
        loop: the feed's event loop.
        reporter: reports exceptions of ``should_retry``.
        hooks: the hooks of the feed.
        options: the options of the feed.

    Attributes:
        name: the name of the user's opening hook, or the address, for the texts of failures.
        addresses: the addresses of the feed, whose delays all lines share.
        backoff: the backoff of the first line.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, reporter: Reporter, hooks: Hooks, options: Options) -> None:
        self.name = "_create_ws"
        self.addresses = [Address()]
        self._reporter = reporter
        self._hooks = hooks
        self._options = options
        limit = options.connect_limit
        self.backoff = self.make_backoff(1)
        self._handshakes = None if limit is None else PrioritySendQueue(loop, window_of(limit, loop))

    def make_backoff(self, line: int) -> Backoff:
        """Return the backoff of a line; 1 is the first."""
        return Backoff(self._options.reconnect_delays, self._should_retry, self.addresses, line - 1)

    async def wait_for_handshake(self) -> None:
        """Wait until ``connect_limit`` allows a handshake, and count it."""
        if self._handshakes is not None and await self._handshakes.acquire(Priority.NORMAL):
            self._handshakes.record()

    async def create(self, address: int) -> Websocket:
        """Run the opening hook for the address with this index, and return its websocket."""
        ADDRESS.set(address)
        return check_websocket(await self._hooks.create_ws(), "_create_ws")

    def stop(self) -> None:
        """Let nothing wait for a handshake any longer. Idempotent."""
        if self._handshakes is not None:
            self._handshakes.stop()

    def _should_retry(self, error: BaseException) -> bool | None:
        if self._options.should_retry is not None:
            with self._reporter.guard(self._options.should_retry):
                return self._options.should_retry(error)
        # If should_retry raises, the default rule decides.
        return None
