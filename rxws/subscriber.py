"""Subscribes on one connection what is wanted, and keeps it so."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable
from typing import Any

from .backoff import default_delays
from .callables import current_value
from .codec import to_payload
from .connection import Connection
from .errors import SendFailed
from .events import Unacknowledged
from .redaction import redact
from .reporting import FAILURES, Reporter, is_being_cancelled
from .subscriptions import Ledger, Step, Subscription, Subscriptions
from .turns import LAST

__all__ = ["Subscriber"]

SHOWN: Final = 200
"""How much of a message is shown."""

ATTEMPTS: Final = 2
"""How often a message is sent that is not answered."""


class Subscriber:
    """Brings one connection to what is wanted, step by step; of two changes of one thing the second waits.

    Args:
        connection: where to subscribe.
        subscriptions: what is wanted.
        encode: makes the text of messages that are neither ``str`` nor bytes.
        send_timeout: seconds that the peer may take for one message, and that a function may take to give one.
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
        self._ledger = Ledger(subscriptions)
        self._encode = encode
        self._send_timeout = send_timeout
        self._reporter = reporter
        self._task: asyncio.Task[None] | None = None
        self._is_ready = False

    @property
    def is_settled(self) -> bool:
        """Whether all is subscribed that is wanted."""
        return self._ledger.is_settled

    async def prepare(self) -> None:
        """Subscribe all that is wanted, also what comes to be wanted meanwhile.

        Raises:
            Exception: what a message could not be made for, or the end of the connection.
        """
        while (step := self._ledger.next_step()) is not None:
            await self._do(step)
        self._is_ready = True

    def changed(self, identity: Hashable) -> None:
        """Learn that something is wanted now, or wanted no more."""
        self._ledger.changed(identity)
        is_busy = self._task is not None and not self._task.done()
        if self._is_ready and not is_busy and not self.is_settled and self._connection.is_live:
            self._task = asyncio.get_running_loop().create_task(self._follow(), name="rxws subscriber")
            self._connection.keep(self._task)

    async def _follow(self) -> None:
        delays = default_delays()
        while True:
            try:
                await self.prepare()
            except FAILURES as error:
                if is_being_cancelled(error):
                    raise
                if not self._connection.is_live:
                    # All is subscribed on the next one.
                    return
                self._reporter.failed("a subscription's message", None, error)
                await asyncio.sleep(next(delays))
            else:
                return

    async def _do(self, step: Step) -> None:
        messages = {subscription: await self._message(subscription, step) for subscription in step.subscriptions}
        payload = self._payload(step, messages)
        for attempt in range(1, ATTEMPTS + 1):
            if payload is None:
                break
            await self._connection.take_turn(LAST)
            # What was called off while it waited for its turn is not sent; what was sent once is sent again.
            due = self._ledger.still_due(step) if attempt == 1 else step
            while payload is not None and due != step:
                step = due
                payload = self._payload(step, messages)
        ...
