"""One pull consumer of JetStream. It requests more messages in time, and notices when one is missing."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from .broker import Broker, BrokerError
from .client import Headers, header_of, status_of

__all__ = ["Consumer", "Message", "Start", "start_at", "stored_at"]

#: Seconds without a request after which the server deletes the consumer.
INACTIVE_THRESHOLD: Final = 30.0

#: Seconds after which an unanswered request ends and is repeated.
EXPIRES: Final = 60.0

#: The time without a heartbeat after which the consumer has failed, in intervals of the heartbeats.
MISSED_HEARTBEATS: Final = 2.5

_NANO: Final = 10**9

#: The place where a consumer begins, in the form of JetStream's API: ``{"deliver_policy": …}`` and its parameters.
Start: TypeAlias = Mapping[str, Any]

#: A message of a stream: its subject, the subject of its acknowledgement, its data, and its headers.
Message: TypeAlias = tuple[str, str, bytes, Headers]


class Consumer:
    """An ephemeral consumer without acknowledgements, in the server's memory.

    Args:
        broker: the connection.
        stream: the stream.
        pattern: the pattern of the subjects; None for all.
        batch: the number of messages that are requested at a time.
        idle_heartbeat: seconds between two heartbeats of a consumer that has no message to deliver.
        deliver: called with the sequence number of each message in the stream, and the message.
        passed: called with a sequence number up to which no message is left; see :meth:`probe`.
        failed: called with the error that ends the consumer.
        has_room: returns whether more messages may be requested.
        now: the clock of the loop.

    Attributes:
        outstanding: the number of requested messages that have not arrived.
        heard_at: when the last message or heartbeat arrived, on the clock of the loop.
        pending: the number of messages that the stream had after the last delivered one.
        is_behind: whether so many messages are waiting in the stream that it may drop the oldest before they are read.
    """

    def __init__(
        self,
        broker: Broker,
        stream: str,
        pattern: str | None,
        batch: int,
        idle_heartbeat: float,
        deliver: Callable[[int, Message], None],
        passed: Callable[[int], None],
        failed: Callable[[Exception], None],
        has_room: Callable[[], bool],
        now: Callable[[], float],
    ) -> None:
        self.outstanding = 0
        self.pending = 0
        self.is_behind = False
        self._broker = broker
        self._stream = stream
        self._pattern = pattern
        self._batch = batch
        self._idle_heartbeat = idle_heartbeat
        self._deliver = deliver
        self._passed = passed
        self._failed = failed
        self._has_room = has_room
        self._now = now
        self.heard_at = now()
        self._name = f"rxws-{secrets.token_hex(8)}"
        self._inbox = broker.client.new_inbox()
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{self._name}"
        self._count = 0
        self._subscription: Any = None
        self._asking: asyncio.Task[None] | None = None
        self._creating: asyncio.Task[Any] | None = None
        self._is_closed = False
        self._is_made = False
        # The number of the probe that waits for its answer, and the sequence number that it asks about.
        self._probes = 0
        self._probed: int | None = None

    async def create(self, start: Start) -> None:
        """Create the consumer at the server, and request the first messages.

        Raises:
            ApiError: the server refuses the consumer.
        """
        self._subscription = await self._broker.client.receive(f"{self._inbox}.*", self._on_message)
        config = {
            "name": self._name,
            "ack_policy": "none",
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": int(INACTIVE_THRESHOLD * _NANO),
            **start,
        }
        if self._pattern is not None:
            config["filter_subject"] = self._pattern
        subject = f"CONSUMER.CREATE.{self._stream}.{self._name}"
        # If there is one filter, the server checks the permission by the subject of the request.
        subject += "" if self._pattern is None else f".{self._pattern}"
        request = self._broker.api(subject, {"stream_name": self._stream, "config": config})
        # Its own task, because ``close`` needs the answer even if this is cancelled.
        self._creating = asyncio.create_task(request, name="rxws nats")
        await asyncio.shield(self._creating)
        self.heard_at = self._now()
        self._is_made = True
        await self.ask()

    async def ask(self) -> None:
        """Request more messages if few of the requested ones are outstanding."""
        if self._is_closed or self.outstanding > self._batch // 2:
            return
        count = self._batch - self.outstanding
        self.outstanding += count
        request = {"batch": count, "expires": int(EXPIRES * _NANO), "idle_heartbeat": int(self._idle_heartbeat * _NANO)}
        if not self._count:
            self.heard_at = self._now()
        await self._broker.client.publish(self._next, json.dumps(request).encode(), reply=f"{self._inbox}.0")

    async def probe(self, sequence: int) -> None:
        """Ask whether any message up to ``sequence`` (which is stored) is left. If none is, ``passed`` is called.

        An idle consumer does not report its place: the sequence number in its heartbeats does not change while messages
        of other subjects are stored (nats-server 2.15.1). A request that does not wait is answered at once.
        """
        if self._is_closed or not self._is_made or self._probed is not None:
            return
        self._probed = sequence
        self._probes += 1
        request = {"batch": 1, "no_wait": True}
        await self._broker.client.publish(
            self._next, json.dumps(request).encode(), reply=f"{self._inbox}.{self._probes}"
        )

    def _on_message(self, subject: str, reply: str, data: bytes, headers: Headers) -> None:
        if self._is_closed:
            return
        self.heard_at = self._now()
        if not reply.startswith("$JS.ACK."):
            self._on_status(subject, headers)
            return
        sequence, count, self.pending = _places(reply)
        self.outstanding -= self.outstanding > 0
        # The message may have been the answer to a probe. If another probe is needed, the caller sends it.
        self._probed = None
        if count != self._count + 1:
            self._fail(BrokerError(f"the consumer's message {self._count + 1} is missing"))
            return
        self._count = count
        half = self._batch // 2
        if self.pending > half:
            self.is_behind = True
        elif not self.pending:
            self.is_behind = False
        self._deliver(sequence, (subject, reply, data, headers))
        if self.outstanding <= half:
            if self._has_room():
                self._ask_soon()
            else:
                self.is_behind = True

    def _ask_soon(self) -> None:
        if self._asking is None:
            self._asking = asyncio.get_running_loop().create_task(self.ask(), name="rxws nats")
            self._asking.add_done_callback(self._asked)

    def _asked(self, task: asyncio.Task[None]) -> None:
        self._asking = None
        if not task.cancelled() and (error := task.exception()) is not None and not self._is_closed:
            self._fail(BrokerError(f"no more messages can be requested: {error!r}"))

    def _on_status(self, subject: str, headers: Headers) -> None:
        status, description = status_of(headers)
        probe = subject.rpartition(".")[2]
        if status == "100":
            last = header_of(headers, b"Nats-Last-Consumer")
            if last and int(last) != self._count:
                self._fail(BrokerError(f"the consumer's message {self._count + 1} is missing"))
        elif status == "404":
            if probe == str(self._probes) and self._probed is not None:
                sequence, self._probed = self._probed, None
                self._passed(sequence)
        elif status == "408":
            if probe == "0":
                self.outstanding = max(0, self.outstanding - int(header_of(headers, b"Nats-Pending-Messages") or 0))
                self._passed(0)
        else:
            description = description or "the consumer does not exist"
            self._fail(BrokerError(f"the consumer ended: {description} ({status or 'no status'})"))

    def check(self, now: float) -> None:
        """Fail if neither a message nor a heartbeat has arrived in time."""
        silence = now - self.heard_at
        if self.outstanding and silence > MISSED_HEARTBEATS * self._idle_heartbeat:
            self._fail(BrokerError(f"the broker sent nothing for {silence:.1f} s"))

    def _fail(self, error: Exception) -> None:
        self._is_closed = True
        self._failed(error)

    async def close(self) -> None:
        """Delete the consumer at the server, without waiting for the answer. Idempotent.

        If the server has not answered yet that it has created the consumer, this waits for that answer: the server
        handles requests in parallel, and a consumer that it creates after it was asked to delete it would stay.
        """
        self._is_closed = True
        if self._asking is not None:
            self._asking.cancel()
        creating, self._creating = self._creating, None
        if creating is not None:
            try:
                await asyncio.wait({creating})
            finally:
                creating.cancel()
            if not creating.cancelled():
                # ``create`` raises its error, unless it was cancelled: then asyncio would log it.
                creating.exception()
        subscription, self._subscription = self._subscription, None
        if subscription is not None and not self._broker.lost.done():
            await subscription.unsubscribe()
            await self._broker.client.publish(f"$JS.API.CONSUMER.DELETE.{self._stream}.{self._name}")


def _places(reply: str) -> tuple[int, int, int]:
    """Return a message's sequence numbers in the stream and in the consumer, and the number of messages after it.

    The subject has 9 tokens, or 11 and more with a domain and an account; see
    https://docs.nats.io/reference/reference-protocols/nats_api_reference#ack-reply-subject.
    """
    tokens = reply.split(".")
    first = 5 if len(tokens) == 9 else 7
    return int(tokens[first]), int(tokens[first + 1]), int(tokens[first + 3])


def stored_at(reply: str) -> float:
    """Return when a message was stored, in seconds since the epoch."""
    tokens = reply.split(".")
    return int(tokens[7 if len(tokens) == 9 else 9]) / 1e9


def start_at(sequence: int) -> Start:
    """Return the start of a consumer that begins with a number in the stream."""
    return {"deliver_policy": "by_start_sequence", "opt_start_seq": sequence}
