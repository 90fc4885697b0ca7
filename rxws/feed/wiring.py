"""The wiring of one feed. It connects rotation, dispatcher, router and sender, and implements the public interface."""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
from collections.abc import Callable
from typing import Any, Final
from weakref import proxy

from reactivex import abc

from ..checks import check_seconds
from ..connections.connection import Connection
from ..connections.ledger import Ledger, ShardLedger
from ..display.cells import in_notebook, on_rerun
from ..display.feed_view import FeedView, replace_namesake
from ..errors import ConnectFailed, FeedClosed, RxwsError, SendFailed
from ..messages.dispatcher import FrameDispatcher
from ..messages.filters import Filter
from ..messages.frames import Websocket
from ..messages.latency import make_meter
from ..messages.router import Router
from ..observables.hot import CurrentObservable, HotObservable
from ..observables.loop_context import LoopContext, running_loop
from ..options import Options
from ..reporting.cancellation import EXITS, is_torn_down
from ..reporting.events import Event
from ..reporting.redaction import redact
from ..reporting.reporter import Reporter
from ..reporting.state import TRANSITIONS, State, Statistics
from ..sending.channel_groups import make_channels
from ..sending.channels import Channel
from ..sending.sender import Sender
from ..streams.availability import Availability
from ..streams.handlers import CoroutineHandler, make_handler
from ..streams.stream import Stream
from ..streams.stream_options import StreamOptions
from ..streams.stream_receiver import StreamReceiver
from ..streams.unmatched import UnmatchedFilters
from .hooks import Hooks, close_with_hook, running_hook
from .line_factory import LineFactory
from .membership import Membership
from .opening import Opening
from .requests import exchange
from .resuming import keep_recent
from .shutdown import Shutdown
from .source import FrameSource

__all__ = ["Feed"]

#: If a feed does not open another connection after a loss, it fails within this many seconds.
FAILURE_DELAY: Final = 0.01

_NUMBERS = itertools.count(1)


class Feed:
    """One websocket as one hot Observable.

    ::

        rotation ── frames ──► dispatcher ── messages ──► router ──► streams ──► async for, operators, handlers
           │                      parse                    index      buffer
           └──► state, events, statistics                  send ──► the live connection

    A feed belongs to the event loop in which it is made. Call its methods on that loop's thread.

    Attributes:
        line: 1: the feed is the host of its first line.
        live_or_ended: an event that is set while the state is live, and after the end of the feed.
        opener: opens websockets, for all lines.
        report_gap: reports to all receivers that messages may be missing.
    """

    line = 1

    def __init__(self, hooks: Hooks, options: Options, kind: str) -> None:
        self.loop = running_loop(kind)
        self.options = options
        self.context = self._make_context(options.name or f"{kind}-{next(_NUMBERS)}")
        self.reporter = self.context.reporter
        self.error: Exception | None = None
        # Use a proxy, because streams refer to the reporter and must not keep the feed alive.
        self.reporter.exited = functools.partial(type(self).failed, proxy(self))
        # If a subscriber of the events raises, the exception is logged and counted, but not emitted as an event,
        # because the same subscriber would get it.
        self.events: HotObservable[Event] = HotObservable(self.context.without_events())
        self.ledger = Ledger() if options.channels_per_connection is None else ShardLedger()
        self.reporter.publish = self.ledger.before(self.events.on_next)
        self.state = CurrentObservable(self.context, State.CONNECTING)
        self.live_or_ended = asyncio.Event()
        self.router = Router(self.context, hooks.identity, make_meter(hooks, options, self.reporter))
        self.report_gap = self.router.report_gap
        self.sender = Sender(self.reporter, options, self.check_open)
        self.channels = make_channels(self.sender, options, self.reporter)
        self._availability = self._make_availability()
        self._unmatched = UnmatchedFilters(self.router, lambda: self.channels.is_subscribed)
        self.dispatcher = FrameDispatcher(self.context, self.router, hooks)
        self.dispatcher.recent = self.recent = keep_recent(hooks, options, self.reporter, self.router, self.channels)
        self.opener = Opening(self.loop, self.reporter, hooks, options)
        self.source = self._make_source()
        self._hooks = hooks
        self.handlers: set[CoroutineHandler] = set()
        self._closing = Shutdown(
            self.source, self.handlers, self._stop, self._finish, self.reporter, options.close_timeout
        )
        self._view = FeedView(self.loop, self.router.messages.subscribe, lambda: self.router.last_message)
        namesake = self._enter_notebook() if in_notebook() else None
        if namesake is None:
            # Start in a later callback, when the constructors of all subclasses have returned.
            self.loop.call_soon(self._start)
        else:
            # Start after the end of the feed with the same name, for servers that allow only one connection.
            namesake._closing.ended.add_done_callback(lambda _: self._start())

    def _make_context(self, name: str) -> LoopContext:
        return LoopContext(self.loop, Reporter(self.loop, name))

    @property
    def cursor(self) -> Any:
        """The newest cursor; None if no message has one, or the feed does not resume."""
        return None if self.recent is None else self.recent.cursor()

    def _make_source(self) -> FrameSource:
        factory = LineFactory(self.context, self, self.dispatcher, self.opener, self.options, self.ledger)
        return factory.make_source(self.channels)

    def _make_availability(self) -> Availability:
        # Availability does not refer to the feed, because a reference to a stream must not keep the feed alive.
        state, router, available = self.state, self.router, self.sender.connection_available
        if self.options.channels_per_connection is not None:
            # A stream does not wait for the connections of other channels.
            return Availability(lambda: available.is_set() and not router.is_holding(), available)
        return Availability(lambda: state.value.is_live and not router.is_holding(), self.live_or_ended)

    def _start(self) -> None:
        if not self.is_closing:
            self.reporter.watch_loop()
            self.source.start()

    def _enter_notebook(self) -> Feed | None:
        """Keep messages for the display. Close the live feed of the same name, if there is one, and return it."""
        self._view.keep_messages()
        name = self.options.name
        namesake: Feed | None = replace_namesake(name, self) if name else None
        if namesake is None or namesake.loop is not self.loop or namesake.is_closing:
            return None
        # Log a warning, because a notebook shows warnings without configuration.
        self.reporter.log(logging.WARNING, "replaces the live one of the same name, %r, which is being closed", name)
        namesake._closing.begin()
        return namesake

    # Consuming

    @property
    def is_closing(self) -> bool:
        """Whether the end has begun."""
        return self._closing.has_begun

    def stream(self, filters: object, options: StreamOptions, availability: Availability | None = None) -> Stream[Any]:
        """Make a stream. A stream that is made in a rotation hook is closed when the hook ends.

        Args:
            filters: the filter, as in ``stream_filter``.
            options: the options of the stream.
            availability: tells when its messages can arrive; None means while the feed has a connection.
        """
        parsed = Filter.parse(filters)
        self.context.check()
        stream: Stream[Any] = Stream(self.router, parsed, options, availability or self._availability)
        # Rotation hooks wait for rare messages, so do not warn if none passes the filter.
        if not (close_with_hook(stream) or self.is_closing):
            self._unmatched.watch(stream, parsed)
        return stream

    def multiplex(self, channel: Channel, filters: object, options: StreamOptions) -> Stream[Any]:
        """Make a stream of a channel, which stays subscribed as long as it has a stream."""
        self.context.check()
        if channel.takes_cursor and self.recent is None:
            raise TypeError("subscribe: a parameter for the cursor needs the feed's option resume=")
        member = Membership(self.channels, channel, self._closing)
        is_named = channel.filters_from is not None
        parsed = self.channels.filter_by_name(channel) if is_named else Filter.parse(filters)
        if channel.ended is not None or is_named:
            self.dispatcher.watch_arrivals(each.inbound for each in self.source.connections)
        availability = self._availability.limited_to(member)
        stream = self.stream(parsed, options, availability)
        if availability.is_available():
            stream.is_late = True
        if not self.is_closing:
            member.channel, member.receiver = self.channels.add_reference(channel, parsed), stream.receiver
            member.channel.receivers.append(stream.receiver)
            stream.when_ended(member.end)
            stream.member = member
            if member.channel.consent is not None:
                # Messages of the old subscription may still arrive, and messages between the subscriptions are missing.
                self.channels.when_subscribed_again(channel.identity, stream.hold_back)
        return stream

    def add_handler(
        self, function: Callable[[Any], object], filters: object, options: StreamOptions
    ) -> abc.DisposableBase:
        """Call ``function`` with each message that passes."""
        self.context.check()
        parsed = Filter.parse(filters)
        handler = make_handler(self.router, function, options)
        self.router.add(handler, parsed)
        if isinstance(handler, CoroutineHandler):
            self.handlers.add(handler)
            handler.task.add_done_callback(lambda _: self.handlers.discard(handler))
        call_off = on_rerun(handler.dispose)

        def dispose() -> None:
            call_off()
            handler.dispose()

        return self.context.disposable(dispose)

    # Sending

    async def request(self, message: Any, reply: object, timeout: float) -> Any:
        """Send a message and return the first one that passes the filter ``reply``."""
        check_seconds("timeout", timeout, zero=False)
        wanted = Filter.parse(reply, "reply")
        self.context.check()
        try:
            return await exchange(message, wanted, timeout, self.send, self.router, lambda: self.sender.obstacle)
        except SendFailed:
            # The feed may fail soon because of this loss. Then raise its fatal error, which contains the reason.
            await asyncio.sleep(FAILURE_DELAY)
            self.raise_if_failed()
            raise

    async def wait_connected(self) -> None:
        """Return when there is a live connection and its held messages are delivered."""
        while True:
            self.check_open()
            await self.live_or_ended.wait()
            await self.sender.wait_connected()
            if self.state.value.is_live:
                return

    async def send(self, message: Any, chosen: Callable[[Connection], object] | None = None) -> None:
        """Send a message on a live connection, and call ``chosen`` with that connection before."""
        self.context.check()
        await self.sender.send(message, chosen)

    # For the rotation

    @property
    def opening(self) -> str:
        """The name of the user's opening hook, or the address, for the texts of failures."""
        return self.opener.name

    async def wait_for_handshake(self) -> None:
        """Wait until ``connect_limit`` allows a handshake, and count it."""
        await self.opener.wait_for_handshake()

    async def create(self, address: int) -> Websocket:
        """Run the opening hook for the address with this index, and return its websocket."""
        return await self.opener.create(address)

    async def wait_rotation_due(self) -> None:
        """Run the rotation hook, and close the streams that it has made."""
        with running_hook(), self.reporter.guard(self._hooks.when2create_new_ws, awaits=True):
            await self._hooks.when2create_new_ws()

    def enter(self, state: State) -> None:
        """Set the state of the feed."""
        previous = self.state.value
        if state is previous:
            return
        if state not in TRANSITIONS[previous]:
            raise AssertionError(f"no way from {previous} to {state}")
        self.reporter.log(logging.DEBUG, "%s", state.value, about=state)
        if state.is_live:
            self._unmatched.wake()
        self._set_state(state)

    def _set_state(self, state: State) -> None:
        if state.is_live or state.is_final:
            self.live_or_ended.set()
        else:
            self.live_or_ended.clear()
        self.state.on_next(state)

    # The end

    def exit(self) -> asyncio.Future[None]:
        """Begin the shutdown, and return a future that is done when the feed has ended."""
        self.context.check()
        return self._closing.request()

    async def wait_closed(self) -> None:
        """Return when the feed has ended; raise the fatal error if there was one."""
        self.context.check()
        await asyncio.shield(self._closing.ended)
        self.raise_if_failed()

    def raise_if_failed(self) -> None:
        """Raise the fatal error, if there was one."""
        if self.error is not None:
            # Remove the traceback of an earlier raise, which would keep that caller's local variables alive.
            raise self.error.with_traceback(None)

    def check_open(self) -> None:
        """Raise RuntimeError outside the loop's thread, and the fatal error or FeedClosed after the end."""
        self.context.check()
        self.raise_if_failed()
        if self.is_closing:
            raise FeedClosed(f"{self.reporter.name} is closed")

    def failed(self, error: BaseException) -> None:
        """Called when the rotation has failed, or a reader or a task of the rotation was cancelled."""
        if self.is_closing:
            return
        is_cut_off = isinstance(error, (asyncio.CancelledError, *EXITS))
        if is_cut_off and (is_torn_down() or isinstance(error, (KeyboardInterrupt, SystemExit))):
            self.reporter.log(logging.INFO, "ended without being closed, because the program is ending")
        else:
            self.error = self._fatal(error)
            # Log the text only: a log record that is kept must not keep the feed alive.
            self.reporter.log(logging.ERROR, "failed: %s", str(self.error))
        # If the program cancels all tasks, as asyncio.run does at its end, it would not await a new task.
        (self._closing.abandon if is_cut_off else self._closing.begin)()

    def _fatal(self, error: BaseException) -> RxwsError:
        """Return the error that ends the feed."""
        if isinstance(error, RxwsError):
            return error
        if isinstance(error, asyncio.CancelledError):
            why = "other code cancelled a task of the feed"
        elif isinstance(error, GeneratorExit):
            why = "a handler raised GeneratorExit"
        else:
            # There is a bug in rxws, or reconnect_delays raised.
            why = redact(f"the rotation failed: {error!r}")
        fatal = ConnectFailed(None, why, self.opener.backoff.attempts)
        fatal.__cause__ = error
        return fatal

    def _stop(self) -> None:
        """Start nothing new, and discard messages from now on. Idempotent."""
        self.sender.stop()
        self.opener.stop()
        self.live_or_ended.set()
        self._unmatched.stop()
        self._view.close()
        self.source.stop()
        # End the router now, so that messages that arrive during the shutdown are discarded.
        self.router.end(self.error)
        self.dispatcher.frames.end(self.error)

    def _finish(self) -> None:
        """Enter the final state, and end the Observables."""
        self.reporter.close()
        self.enter(State.CLOSED if self.error is None else State.FAILED)
        for observable in (self.state, self.events):
            observable.end(self.error)

    # Inspection

    def __repr__(self) -> str:
        return f"<{redact(self.reporter.name)}: {self.state.value.value}, {self.reporter.counters.messages} messages>"

    def snapshot(self, title: str) -> dict[str, str]:
        """Return the feed's display in a notebook. May be called from any thread."""
        return self._view.show(title, self.state.value, self.statistics(), self.error)

    def statistics(self) -> Statistics:
        """Return a snapshot of the counters. May be called from any thread."""
        # A garbage-collected stream is registered until the next iteration of the event loop.
        held = [each for each in self.router.receivers if not (isinstance(each, StreamReceiver) and each.abandoned)]
        last = self.source.last_received_at
        return Statistics(
            **self.reporter.counters.read(),
            streams=sum(isinstance(receiver, StreamReceiver) for receiver in held),
            pending=sum(map(len, held)),
            pending_bytes=sum(each.pending_bytes for each in held),
            last_message_age=None if last is None else max(0.0, self.loop.time() - last),
            complete_since=self.ledger.complete_since,
            **self.source.statistics(),
            latency=None if self.router.latency is None else self.router.latency.read(),
        )
