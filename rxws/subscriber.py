"""Subscribes on one connection what is wanted, and keeps it so."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable
from typing import Any, Final

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
        # Before the turn: a function that takes its time must not keep pongs waiting.
        messages = {each: await self._message_of(each, step.subscribes) for each in step.subscriptions}
        if any(message is not None for message in messages.values()):
            await self._connection.take_turn(LAST)
            try:
                # What was called off meanwhile is not sent.
                step = self._ledger.still_due(step)
                payload = self._payload_of([messages[each] for each in step.subscriptions], step)
            except BaseException:
                self._connection.give_turn_back()
                raise
            if payload is None:
                self._connection.give_turn_back()
            else:
                await self._send(step, payload)
        self._ledger.done(step)

    async def _message_of(self, subscription: Subscription, subscribes: bool) -> Any:
        message = subscription.subscribe if subscribes else subscription.unsubscribe
        if not callable(message):
            return message
        async with asyncio.timeout(self._send_timeout):
            return await current_value(message)

    def _payload_of(self, messages: list[Any], step: Step) -> str | bytes | None:
        messages = [message for message in messages if message is not None]
        if not messages:
            return None
        combine = step.subscriptions[0].combine
        message = messages[0] if len(messages) == 1 or combine is None else combine(messages)
        return to_payload(message, self._encode)

    async def _send(self, step: Step, payload: str | bytes) -> None:
        """Send in a turn that was taken; once more, if the answer does not come."""
        if await self._is_answered(step, payload):
            return
        self._tell_unacknowledged(payload, attempt=1)
        await self._connection.take_turn(LAST)
        if not await self._is_answered(step, payload):
            self._tell_unacknowledged(payload, attempt=2)

    async def _is_answered(self, step: Step, payload: str | bytes) -> bool:
        filters = [each.acknowledged for each in step.subscriptions if each.acknowledged] if step.subscribes else []
        answer = self._connection.expect(filters) if filters else None
        try:
            await self._connection.send(payload, self._send_timeout, None)
            if answer is None:
                return True
            await asyncio.wait({answer}, timeout=max(each.timeout for each in step.subscriptions))
            if answer.cancelled():
                raise SendFailed("the connection was lost before a subscription was acknowledged")
            return answer.done()
        finally:
            if answer is not None:
                answer.cancel()

    def _tell_unacknowledged(self, payload: str | bytes, attempt: int) -> None:
        reporter = self._reporter
        shown = redact(payload if isinstance(payload, str) else f"{len(payload)} bytes")[:SHOWN]
        reporter.log(logging.WARNING, "a subscription was not acknowledged: %s", shown)
        reporter.emit(Unacknowledged(name=reporter.name, time=reporter.now(), message=shown, attempt=attempt))
