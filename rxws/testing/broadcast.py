"""Numbered messages on channels, with lags, so that a test can prove every loss, copy and disorder."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Self

from .connection import FeedConnection
from .server import FeedServer
from .waiting import Changes

__all__ = ["DelayedDelivery", "NumberedBroadcast"]


class DelayedDelivery:
    """Delivers each message after its own lag, but in order on each channel of each connection."""

    def __init__(self) -> None:
        self._lines: dict[tuple[FeedConnection, Hashable], deque[tuple[float, Any, asyncio.TimerHandle]]] = {}
        self._changes = Changes()

    @property
    def pending(self) -> int:
        """How many messages are not delivered yet."""
        return sum(map(len, self._lines.values()))

    def deliver(self, connection: FeedConnection, channel: Hashable, message: Any, lag: float) -> None:
        """Send a message after ``lag`` seconds, or later if an earlier message of its channel is due later."""
        key = (connection, channel)
        line = self._lines.get(key)
        if line is None:
            if lag <= 0:
                connection.send_nowait(message)
                return
            line = self._lines[key] = deque()
        loop = asyncio.get_running_loop()
        due = max(loop.time() + lag, line[-1][0] if line else 0.0)
        # The timer sends the first waiting message, not this one: timers with equal due times fire in any order.
        line.append((due, message, loop.call_at(due, self._deliver_first, key)))

    async def delivered(self, *, timeout: float = 5.0) -> None:
        """Wait until all messages are delivered.

        Raises:
            TimeoutError: some were not delivered within ``timeout`` seconds; the message says how many.
        """
        await self._changes.until(
            lambda: None if self._lines else True,
            timeout=timeout,
            describe=lambda: f"{self.pending} messages are not delivered yet",
        )

    def clear(self) -> None:
        """Drop the messages that are not delivered yet."""
        for line in self._lines.values():
            for _, _, timer in line:
                timer.cancel()
        self._lines.clear()
        self._changes.notify()

    def _deliver_first(self, key: tuple[FeedConnection, Hashable]) -> None:
        line = self._lines[key]
        _, message, _ = line.popleft()
        if not line:
            del self._lines[key]
            self._changes.notify()
        key[0].send_nowait(message)


def _numbered(channel: str, n: int) -> Any:
    return {"channel": channel, "n": n}


class NumberedBroadcast:
    """Sends sequence-numbered messages on channels to every live connection of a server.

    Numbers are counted per channel and not per connection. Every connection that is subscribed when a number is
    published gets the number, after its own lag.

    Args:
        server: the server; all its connections get the messages.
        channels: the names of the channels.
        lag: function of the connection and the channel, called for each message: returns the seconds until the message
            is delivered. The order on one channel of one connection is kept. None: messages are delivered at once.
        subscribed_after: function of the connection and the channel: returns for how many seconds after its opening the
            connection gets nothing on the channel. None: it is subscribed at once.
        make: function of the channel and the number that returns the message; by default ``{"channel": …, "n": …}``.

    Leaving the block drops the messages that are not delivered yet::

        async with NumberedBroadcast(server, lag=lambda *_: random.uniform(0, 0.06)) as broadcast:
            await broadcast.run(rate=1000, seconds=5)
            await broadcast.delivered()
        assert collected == list(range(1, broadcast.sent["a"] + 1))
    """

    def __init__(
        self,
        server: FeedServer,
        *,
        channels: Sequence[str] = ("a",),
        lag: Callable[[FeedConnection, str], float] | None = None,
        subscribed_after: Callable[[FeedConnection, str], float] | None = None,
        make: Callable[[str, int], Any] = _numbered,
    ) -> None:
        if not channels:
            raise ValueError("channels: expected at least one name")
        self.server = server
        self.channels = tuple(channels)
        self.sent: Counter[str] = Counter()
        """The last number published on each channel; numbers begin at 1."""
        self._lag = lag
        self._subscribed_after = subscribed_after
        self._make = make
        self._dispatcher = DelayedDelivery()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *details: object) -> None:
        self._dispatcher.clear()

    @property
    def pending(self) -> int:
        """How many messages are not delivered yet."""
        return self._dispatcher.pending

    def publish(self, channel: str | None = None, count: int = 1) -> None:
        """Publish the next ``count`` numbers on a channel, or on each channel if ``channel`` is None."""
        now = asyncio.get_running_loop().time()
        for _ in range(count):
            for name in self.channels if channel is None else (channel,):
                self.sent[name] += 1
                message = self._make(name, self.sent[name])
                for connection in self.server.connections:
                    after = 0.0 if self._subscribed_after is None else self._subscribed_after(connection, name)
                    if now < connection.opened_at + after:
                        continue
                    lag = 0.0 if self._lag is None else self._lag(connection, name)
                    self._dispatcher.deliver(connection, name, message, lag)

    async def run(self, *, rate: float, seconds: float | None = None) -> None:
        """Publish on the channels in turn, ``rate`` messages a second in all. After a delay it catches up.

        Cancelling is safe.

        Args:
            rate: messages a second, all channels together.
            seconds: how long to publish; None: until it is cancelled.
        """
        loop = asyncio.get_running_loop()
        start, published = loop.time(), 0
        total = None if seconds is None else round(rate * seconds)
        while total is None or published < total:
            # Publish at most every 10 ms, because the loop's timers are accurate only to about a millisecond.
            await asyncio.sleep(max(0.01, start + (published + 1) / rate - loop.time()))
            due = int((loop.time() - start) * rate + 1e-6)
            for _ in range((due if total is None else min(due, total)) - published):
                self.publish(self.channels[published % len(self.channels)])
                published += 1

    async def delivered(self, *, timeout: float = 5.0) -> None:
        """Wait until all messages are delivered.

        Raises:
            TimeoutError: some were not delivered within ``timeout`` seconds; the message says how many.
        """
        await self._dispatcher.delivered(timeout=timeout)
