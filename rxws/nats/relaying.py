"""The relay. It publishes a feed's messages to a JetStream stream, and states up to what time they are complete."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

from nats.errors import Error as NatsError
from reactivex import abc

from ..interface import AsyncWebsocketStreamInterface, feed_of
from ..messages import Filter, Filters
from ..observables import LAG_MARKS
from ..reporting import RelayFailed
from .broker import CLOSE_TIMEOUT as BROKER_CLOSE_TIMEOUT
from .broker import Broker, BrokerError, UnsuitableError, broker_delays, check_connect_options, check_servers
from .capture import Capture
from .control import CLOSED, Peers
from .outbox import Hole, Outbox
from .publishing import Counts, Identity, Publisher, Timing
from .relay_options import RelayOptions, checked_subject, numbered_ids, shared_ids
from .stream import DEFAULT_WINDOW, ensure_stream, last_statements
from .subjects import Template

__all__ = ["Relay", "relay"]

#: Seconds to wait for the last acknowledgement at the end of the block.
CLOSE_TIMEOUT: Final = 10.0

#: The iterations of the event loop in which messages that have arrived are read and delivered.
READING: Final = 5

#: If the process was suspended for longer than this part of the duplicate window, its connections are aborted.
STANDSTILL: Final = 0.25


class Relay(abc.DisposableBase):
    """A running relay; :func:`relay` returns it. Use it as ``async with``, or dispose of it.

    Attributes:
        name: the relay's name.
        error: the exception of the last attempt to reach the broker; None while the relay is connected.
    """

    def __init__(self, ws: AsyncWebsocketStreamInterface[Any], options: RelayOptions) -> None:
        if not isinstance(ws, AsyncWebsocketStreamInterface):
            raise TypeError(
                f"ws must be a feed (the first argument of relay), not an object of type {type(ws).__name__}"
            )
        feed = feed_of(ws)
        feed.check_open()
        self.name: Final = options.name or f"{socket.gethostname()}-{os.getpid()}"
        self.error: Exception | None = None
        self._options = options
        self._context = feed.context
        self._loop = feed.loop
        self._template = Template(options.subject) if isinstance(options.subject, str) else None
        self._outbox = Outbox(options.max_in_flight, options.maxsize, options.maxbytes)
        self._counts = Counts()
        feed_name = options.feed_name or feed.reporter.name
        boot = secrets.token_hex(6)
        self._identity = Identity(feed_name, self.name, boot, is_shared=options.identity is not None)
        self._peers = Peers(feed_name, boot, options.patience, options.settle)
        self._publisher: Publisher | None = None
        self._is_closing = False
        self._window = DEFAULT_WINDOW
        subject_of = self._template.render if self._template is not None else checked_subject(options.subject)
        identity_of = numbered_ids(boot) if options.identity is None else shared_ids(feed_name, options.identity)
        self._capture = Capture(feed, self._outbox, f"relay {self.name}", subject_of, identity_of, self._wake)
        self._capture.notice = self._notice_suspension
        self._subscriptions = self._capture.start(Filter.parse(options.filters, "filters"))
        self._ticked_at = time.time()
        self._ticking = self._loop.call_later(options.watermark_interval, self._tick)
        self._task = self._loop.create_task(self._run(), name=f"rxws relay {self.name}")
        self._task.add_done_callback(self._ended)

    # Inspection

    @property
    def published(self) -> int:
        """The number of messages that the broker has acknowledged."""
        return self._counts.published

    @property
    def duplicates(self) -> int:
        """The number of these messages that the broker already had, or another relay has stored."""
        return self._counts.duplicates

    @property
    def dropped(self) -> int:
        """The number of messages that were dropped because too many waited, or were too large for the broker."""
        return self._outbox.dropped

    @property
    def pending(self) -> int:
        """The number of messages that the broker has not acknowledged yet."""
        return self._outbox.pending

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection to the broker."""
        return self._publisher is not None

    def __repr__(self) -> str:
        state = "connected" if self.is_connected else "ended" if self._task.done() else "not connected"
        return f"<Relay {self.name!r} {state}: {self.published} published, {self.pending} pending>"

    # The life of the relay

    def _wake(self) -> None:
        if self._capture.has_ended:
            self._begin_to_close()
        if self._publisher is not None:
            self._publisher.wake()

    def _tick(self) -> None:
        """Mark that all messages until now were received, and notice that this process was suspended."""
        interval = self._options.watermark_interval
        self._ticking = self._loop.call_later(interval, self._tick)
        if not self._notice_suspension():
            self._mark(self._ticked_at, READING)
        if self._publisher is not None:
            self._publisher.tick()
        if self._outbox.pending < LAG_MARKS[0] // 2:
            self._capture.caught_up()

    def _notice_suspension(self) -> bool:
        """Replace the feed's connections if this process was suspended since the last call; return whether it was.

        It is called before messages are taken and before they are published, because after a suspension the loop may do
        both before it calls the timers that are due.
        """
        now, before = time.time(), self._ticked_at
        self._ticked_at = now
        if not self._identity.is_shared:
            return False
        longest = self._options.watermark_interval + STANDSTILL * self._window
        self._capture.notice_after = (now + longest) * 1e9
        if now - before <= longest:
            return False
        line = "%s: the process was suspended for %.1f s, so its connections are replaced"
        self._context.reporter.log(logging.WARNING, line, self.name, now - before)
        self._capture.was_suspended(before)
        return True

    def _mark(self, until: float, rounds: int) -> None:
        """Mark that all messages until ``until`` were received, after some iterations of the event loop.

        If the loop was blocked or the process delayed, messages that have already arrived are read in these iterations.
        """
        if rounds:
            self._loop.call_soon(self._mark, until, rounds - 1)
        elif self._capture.is_complete and not self._is_closing:
            self._outbox.mark(until)
            self._wake()

    async def _run(self) -> None:
        """Publish, on one connection to the broker after another."""
        delays = broker_delays()
        while True:
            published = self._counts.published
            try:
                await self._publish()
                return
            except Exception as error:
                self._publisher = None
                hole = self._outbox.restore()
                if hole is not None:
                    self._identity.rewind(hole)
                if self._counts.published > published:
                    delays = broker_delays()
                delay = next(delays)
                self._report(error, delay)
                await asyncio.sleep(delay)

    async def _publish(self) -> None:
        options = self._options
        connect = {"skip_subject_validation": True, **check_connect_options(options.connect_options)}
        broker = await Broker.connect(check_servers(options.servers), connect, f"rxws relay {self.name}")
        try:
            publisher = Publisher(
                broker,
                self._outbox,
                self._identity,
                self._peers,
                self._timing,
                self._counts,
                self._is_over,
                self._refused,
                self._notice_suspension,
            )
            if options.create is not False:
                await self._check_stream(broker, publisher)
            publisher.window = self._window
            await publisher.start()
            if options.create is not False and self._identity.is_shared:
                # Read the last statements only after listening has begun, so that no statement is missed.
                now = self._loop.time()
                for control, age in await last_statements(broker, options.stream):
                    self._peers.heard(control, now - age)
                publisher.knows_peers = True
            self._publisher = publisher
            self.error = None
            await publisher.run()
        except NatsError as error:
            # The library noticed that the connection was closed before it reported that.
            raise BrokerError(f"the connection to NATS was lost: {error}") from None
        finally:
            self._publisher = None
            await broker.close()

    @property
    def _timing(self) -> Timing:
        options = self._options
        return Timing(options.ack_timeout, options.watermark_interval, options.settle, options.patience)

    async def _check_stream(self, broker: Broker, publisher: Publisher) -> None:
        """Make the stream or check it."""
        options = self._options
        wanted = options.create if isinstance(options.create, Mapping) else {}
        root = self._template.root if self._template is not None else "rx"
        config = await ensure_stream(broker, options.stream, root, wanted)
        self._window = config["duplicate_window"] / 1e9
        longest = 4 * (options.watermark_interval + options.settle)
        if self._identity.is_shared and self._window < longest:
            raise UnsuitableError(
                f"the stream {options.stream!r} drops copies only within {self._window:g} s, but needs at least "
                f"{longest:g} s (duplicate_window)"
            )
        publisher.max_payload = max(0, config.get("max_msg_size", -1))

    def _report(self, error: Exception, delay: float) -> None:
        self.error = error
        reporter, pending = self._context.reporter, self._outbox.pending
        line = "relay %s: %s; %d messages wait; next attempt in %.1f s"
        reporter.log(logging.WARNING, line, self.name, error, pending, delay, about=self.name)
        reporter.emit(RelayFailed, relay=self.name, error=error, pending=pending, delay=delay)

    def _refused(self, error: Exception) -> None:
        """Report a message that cannot be published."""
        reporter = self._context.reporter
        reporter.log(logging.ERROR, "relay %s: %s", self.name, error, about=self.name)
        reporter.emit(RelayFailed, relay=self.name, error=error, pending=self._outbox.pending)

    # The end

    def _is_over(self) -> bool:
        return self._is_closing

    def _begin_to_close(self) -> None:
        """Take no more messages, and end when all are acknowledged, or after 10 s. Idempotent."""
        if self._is_closing:
            return
        self._is_closing = True
        self._capture.stop()
        for subscription in self._subscriptions:
            subscription.dispose()
        now = time.time()
        if self._capture.is_complete:
            self._outbox.mark(now)
        self._outbox.add_hole(Hole(now, None, CLOSED))
        self._loop.call_later(CLOSE_TIMEOUT, self._task.cancel)
        if self._publisher is not None:
            self._publisher.wake()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._ticking.cancel()
        self._begin_to_close()
        pending = self._outbox.pending
        error = None if task.cancelled() else task.exception()
        if pending or error is not None:
            line = "relay %s ended with %d messages that the broker has not acknowledged%s"
            why = f": {error!r}" if error is not None else ""
            self._context.reporter.log(logging.ERROR, line, self.name, pending, why, about=self.name)

    def dispose(self) -> None:
        """Take no more messages. Waiting messages are published in the background for at most 10 s. Idempotent.

        It may be called from any thread.
        """
        self._context.call(self._begin_to_close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._begin_to_close()
        await asyncio.wait({self._task}, timeout=CLOSE_TIMEOUT + 2 * BROKER_CLOSE_TIMEOUT)


def relay(
    ws: AsyncWebsocketStreamInterface[Any],
    servers: str | Sequence[str] = "nats://127.0.0.1:4222",
    *,
    # The destination
    stream: str = "rxws",
    subject: str | Callable[[Any], str] = "rx.{e}.{s}",
    create: bool | Mapping[str, Any] = True,
    connect_options: Mapping[str, Any] | None = None,
    # What
    filters: Filters = None,
    identity: Callable[[Any], str | int] | None = None,
    # Who
    feed_name: str | None = None,
    name: str | None = None,
    # Limits
    max_in_flight: int = 1000,
    maxsize: int = 100_000,
    maxbytes: int = 64 * 2**20,
    # Seconds
    ack_timeout: float = 5.0,
    watermark_interval: float = 0.5,
    settle: float = 0.3,
    patience: float = 2.5,
) -> Relay:
    """Publish the messages of a feed to a stream of NATS JetStream, from now on.

    The relay is one more subscriber of the feed with a bounded queue, so a slow or dead broker does not delay the local
    streams. Each message is published as its frame; if a frame contains several messages, each is encoded by the feed's
    ``encode``. The relay publishes until it is disposed, until the end of the block, or until the feed ends; then it
    waits at most 10 s for the last acknowledgement.

    Messages without an acknowledgement are published again, with the same id and in order, on the next connection. The
    broker drops copies of an id within its duplicate window, so each message is stored at least once, and only once
    within that window. Two relays of one feed with the same ``identity`` can replace one another. If messages are
    missing, a :class:`~rxws.nats.NatsFeed` gets a ``Gap`` in their place.

    Args:
        ws: the feed.
        servers: the address of a server, or a list of addresses of one cluster.
        stream: the name of the stream.
        subject: the template of the subjects (see the guide), in which ``{field}`` is the value of a message under that
            key, and ``{data.s}`` is a path; or a plain function of a message that returns a subject that begins with
            ``rx.``.
        create: whether the relay makes the stream if it is missing. A mapping contains settings that differ from the
            defaults. With False the relay needs no permission for JetStream's API.
        connect_options: arguments of ``nats.connect``: ``tls``, ``user_credentials``, ``nkeys_seed``, ``token``.
        filters: the filter of the messages that are relayed, as in ``stream_filter``. None relays all.
        identity: a plain function that returns the id of a message, a str or an int. It must be equal on every relay of
            this feed, and unique within the duplicate window. With None, ids are used only for retries, and the relay
            does not wait for other relays.
        feed_name: the name of the captured feed. Relays with the same name can replace one another. None takes the
            feed's own name.
        name: the name of the relay, unique among relays. None takes the host's name and the process's id.
        max_in_flight: the number of messages that may be published and not acknowledged.
        maxsize: the largest number of messages that the relay holds. Beyond it, the relay drops the oldest, and counts
            and reports them.
        maxbytes: the largest number of bytes of their frames, with the same effect.
        ack_timeout: seconds without an acknowledgement after which the connection is replaced.
        watermark_interval: seconds between two statements of the relay that all messages so far are stored.
        settle: seconds by which the clocks of two relays may differ, and also by which a message may reach one of them
            later than the other.
        patience: seconds without a statement after which another relay counts as dead.

    Returns:
        A Disposable that is also an asynchronous context manager.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: a number is not positive, or ``subject`` is not a template.
        FeedClosed: the feed is closed.
        RuntimeError: it is called outside the loop's thread.

    Example::

        async with rxws.nats.relay(ws, "nats://127.0.0.1:4222", identity=lambda message: message["t"]):
            await asyncio.sleep(3600)
    """
    options = {key: value for key, value in locals().items() if key != "ws"}
    return Relay(ws, RelayOptions(**options))
