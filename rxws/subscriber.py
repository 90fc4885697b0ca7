"""Subscribes on one connection what is wanted, and keeps it so."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from .backoff import default_delays
from .callables import current_value
from .codec import to_payload
from .connection import Connection
from .errors import SendFailed, SendTimeout
from .events import Unacknowledged
from .redaction import redact
from .reporting import FAILURES, Reporter, is_being_cancelled
from .subscriptions import Step, Subscription, Subscriptions
from .turns import LAST

__all__ = ["Subscriber"]


class Subscriber:
    """Brings one connection to what is wanted, step by step; of two changes of one thing the second waits.

    Args:
        connection: where to subscribe.
        subscriptions: what is wanted.
        encode: makes the text of messages that are neither ``str`` nor bytes.
        send_timeout: seconds that the peer may take for one message.
        reporter: who is told.
    """

    def __init__(
        self,
        connection: Connection,
        subscriptions: Subscriptions,
        encode: Callable[[Any], str | bytes],
        send_timeout: float,
        reporter: Reporter,
    ) -> None:
        self._connection = connection
        self._subscriptions = subscriptions
        self._encode = encode
        self._send_timeout = send_timeout
        self._reporter = reporter
        # A dict for its order; what is in it has been asked of the server.
        self._active: dict[Subscription, None] = {}
        self._task: asyncio.Task[None] | None = None
        self._is_ready = False

    async def prepare(self) -> None:
        """Subscribe all that is wanted.

        Raises:
            Exception: what a message cannot be made for, or the end of the connection.
        """
        while (step := self._subscriptions.next_step(self._active)) is not None:
            await self._do(step)
        self._is_ready = True

    def wake(self) -> None:
        """Learn that something else is wanted."""
        if self._is_ready and (self._task is None or self._task.done()) and self._connection.is_live:
            self._task = asyncio.get_running_loop().create_task(self._follow(), name="rxws subscriber")
            self._connection.keep(self._task)

    async def _follow(self) -> None:
        delays = default_delays()
        while True:
            try:
                await self.prepare()
            except (SendFailed, SendTimeout):
                # The connection is at its end: all is subscribed on the next one.
                return
            except FAILURES as error:
                if is_being_cancelled(error):
                    raise
                self._reporter.failed("a subscription's message", None, error)
                await asyncio.sleep(next(delays))
            else:
                return

    async def _do(self, step: Step) -> None:
        messages = [
            await current_value(subscription.subscribe if step.subscribes else subscription.unsubscribe)
            for subscription in step.subscriptions
        ]
        first = step.subscriptions[0]
        message = messages[0] if len(messages) == 1 or first.combine is None else first.combine(messages)
        if message is not None:
            await self._send(step, to_payload(message, self._encode))
        for subscription in step.subscriptions:
            if step.subscribes:
                self._active[subscription] = None
            else:
                del self._active[subscription]

    async def _send(self, step: Step, payload: str | bytes) -> None:
        filters = [subscription.acknowledged for subscription in step.subscriptions if subscription.acknowledged]
        for attempt in (1, 2):
            answer = self._connection.expect(filters) if step.subscribes and filters else None
            try:
                await self._connection.send(payload, self._send_timeout, LAST)
                if answer is None:
                    return
                async with asyncio.timeout(step.subscriptions[0].timeout):
                    await answer
                    return
            except TimeoutError as error:
                if isinstance(error, SendTimeout):
                    raise
                self._tell_unacknowledged(payload, attempt)
            finally:
                if answer is not None:
                    answer.cancel()

    def _tell_unacknowledged(self, payload: str | bytes, attempt: int) -> None:
        reporter = self._reporter
        shown = redact(payload if isinstance(payload, str) else f"{len(payload)} bytes")[:200]
        reporter.log(logging.WARNING, "a subscription was not acknowledged: %s", shown)
        reporter.emit(Unacknowledged(name=reporter.name, time=reporter.now(), message=shown, attempt=attempt))
