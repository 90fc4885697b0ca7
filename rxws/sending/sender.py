"""What is sent, and on which connection: a user's messages, answers, heartbeats, and what each new connection needs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import Any, Final

from ..callables import current_value
from ..codec import to_payload
from ..connections.connection import Connection
from ..connections.rate_limit import SendLimit
from ..connections.turns import FIRST, NORMAL, Turns
from ..errors import SendFailed, SendTimeout
from ..options import Options
from ..reporting.reporter import FAILURES, Reporter, is_being_cancelled
from .channels import Subscription, Subscriptions
from .subscriber import Subscriber

__all__ = ["Sending"]

LOOK_INTERVAL: Final = 0.05
"""Seconds between two looks at whether a connection that is closing has ended."""


class Sending:
    """Sends on the connection that is live, and prepares each new one.

    Attributes:
        on_open: what is sent on every new connection before all else: messages, and (async) functions that give
            messages.
        subscriptions: what is subscribed as long as anybody wants it.
        told: set while there is a connection to send on, or the feed has ended: whoever waits for one waits for this.

    Args:
        reporter: who is told of what fails.
        options: the times, the limit, the heartbeat, and what makes text of messages.
        raise_if_ended: called before each wait; raises when there will be no connection any more.
    """

    def __init__(self, reporter: Reporter, options: Options, raise_if_ended: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._reporter = reporter
        self._options = options
        self._raise_if_ended = raise_if_ended
        self._live: Connection | None = None
        self._subscribers: dict[Connection, Subscriber] = {}
        self.on_open: tuple[Any, ...] = ()
        self.subscriptions: Final = Subscriptions()
        self.told: Final = asyncio.Event()

    # On which connection

    def use(self, connection: Connection | None) -> None:
        """Send on ``connection`` from now on."""
        self._live = connection
        if connection is None:
            self.told.clear()
        else:
            self.told.set()

    @property
    def present(self) -> Connection | None:
        """The connection that ``send`` means."""
        connection = self._live
        return connection if connection is not None and connection.is_live else None

    async def until_live(self) -> Connection:
        """Return the live connection, when there is one."""
        while True:
            self._raise_if_ended()
            await self.told.wait()
            connection = self.present
            if connection is not None:
                return connection
            if self._live is not None:
                # It is closing, which its reader has yet to learn.
                await asyncio.wait({self._live.reader}, timeout=LOOK_INTERVAL)

    # A user's messages

    @property
    def obstacle(self) -> str:
        """Why a message that waits was not sent."""
        connection = self.present
        is_limited = connection is not None and connection.turns is not None
        return "it was not the message's turn" if is_limited else "there was no live connection"

    async def send(self, message: Any, chosen: Callable[[Connection], object] | None = None) -> None:
        """Hand a message to a live connection; ``chosen`` is told before which one it is."""
        payload = to_payload(message, self._options.encode)
        timeout = self._options.send_timeout
        started = self._loop.time()
        try:
            async with asyncio.timeout(timeout):
                connection = await self._until_its_turn()
        except TimeoutError as error:
            raise SendTimeout(f"{self.obstacle} for {timeout:g} s: nothing was sent") from error
        rest = max(0.0, timeout - (self._loop.time() - started))
        if chosen is not None:
            chosen(connection)
        await connection.send(payload, rest, None, patience=timeout)

    async def _until_its_turn(self) -> Connection:
        """Return the live connection, when one more message may be sent on it."""
        while True:
            connection = await self.until_live()
            try:
                await connection.take_turn(NORMAL)
            except SendFailed:
                # Nothing was sent: it is for the next connection.
                continue
            if connection.is_live:
                return connection
            connection.give_turn_back()

    # What the feed sends by itself

    def answer(self, connection: Connection, answer: Any) -> None:
        """Send an answer on the connection where it was asked for, before all else."""
        connection.send_soon(to_payload(answer, self._options.encode), self._options.send_timeout, FIRST)

    async def _beat(self, connection: Connection, message: Any, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                async with asyncio.timeout(self._options.send_timeout):
                    payload = to_payload(await current_value(message), self._options.encode)
            except FAILURES as error:
                if is_being_cancelled(error):
                    raise
                self._reporter.failed("the heartbeat's message", None, error)
            else:
                await connection.take_turn(FIRST)
                await connection.send(payload, self._options.send_timeout, None)

    # What each new connection needs

    async def prepare(self, connection: Connection) -> None:
        """Send what is to be sent on ``connection`` before all else, and heartbeats as long as it lives."""
        if self._options.send_limit is not None:
            connection.turns = Turns(self._loop, SendLimit(*self._options.send_limit))
        if self._options.heartbeat is not None:
            message, seconds = self._options.heartbeat
            beating = self._loop.create_task(self._beat(connection, message, seconds), name="rxws heartbeat")
            connection.keep(beating)
        await self._greet(connection)
        subscriber = Subscriber(
            connection, self.subscriptions, self._options.encode, self._options.send_timeout, self._reporter
        )
        self._subscribers[connection] = subscriber
        connection.reader.add_done_callback(lambda _: self._forget_subscriber(connection))
        await subscriber.prepare()

    def _forget_subscriber(self, connection: Connection) -> None:
        self._subscribers.pop(connection).stop()

    async def _greet(self, connection: Connection) -> None:
        timeout = self._options.send_timeout
        for message in self.on_open:
            async with asyncio.timeout(timeout):
                current = await current_value(message)
            payload = to_payload(current, self._options.encode)
            await connection.take_turn(NORMAL)
            await connection.send(payload, timeout, None)

    # What is subscribed as long as anybody wants it

    @property
    def is_subscribed(self) -> bool:
        """Whether all that is wanted is subscribed on every connection."""
        return all(subscriber.is_settled for subscriber in self._subscribers.values())

    def has_subscribed(self, identity: Hashable) -> bool:
        """Whether the connection that is sent on has it subscribed; True where there is none, as in a replay."""
        subscriber = None if self._live is None else self._subscribers.get(self._live)
        return subscriber is None or subscriber.has_subscribed(identity)

    def want(self, subscription: Subscription) -> Subscription:
        """Count somebody more who wants it; return what is to be released."""
        wanted = self.subscriptions.want(subscription)
        self._tell_subscribers(wanted)
        return wanted

    def release(self, subscription: Subscription) -> None:
        """Count somebody less."""
        self.subscriptions.release(subscription)
        self._tell_subscribers(subscription)

    def _tell_subscribers(self, subscription: Subscription) -> None:
        # In an overlap there are two connections, and it is wanted on both.
        for subscriber in self._subscribers.values():
            subscriber.changed(subscription.identity)
