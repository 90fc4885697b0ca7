"""Subscribes on one connection the channels that the feed wants, and follows changes of what it wants."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import logging
import math
from collections.abc import Awaitable, Callable, Collection, Hashable, Iterable, Sequence
from typing import Any, Final

from ..codec import to_payload
from ..connections.connection import Connection
from ..connections.send_queue import Priority
from ..errors import SendFailed
from ..messages.filters import Filter
from ..options import Options
from ..reporting.cancellation import FAILURES, is_being_cancelled
from ..reporting.events import SubscriptionEnded, SubscriptionFailed
from ..reporting.quoting import quoted, quoted_repr
from ..reporting.reporter import Reporter
from .answers import Answers
from .channels import Channel, ChannelRegistry
from .subscriptions import Command, Subscriptions

__all__ = ["ChannelSync"]

#: The largest number of commands in flight, not counting overdue ones. The number is limited because each received
#: message is compared with the answers that all of these commands wait for.
MAX_COMMANDS: Final = 1_000

#: Seconds for which a held connection waits for channels that could not be subscribed at once.
PATIENCE: Final = 10.0

#: Seconds to wait for another answer to a combined message. After that the only answer counts for all its channels.
ANSWER_PAUSE: Final = 1.0

#: Seconds between two checks whether postponed channels are subscribed, and whether the connection is still held.
POLL_INTERVAL: Final = 0.1


class ChannelSync:
    """Subscribes the wanted channels on one connection. :class:`Subscriptions` decides what is to be sent next.

    Each command runs in its own task, so that an unanswered command, or a slow function that returns a message, does
    not block other commands. A command that fails is reported, postponed, and repeated with growing delays.

    Attributes:
        subscriptions: the subscriptions on this connection.

    Args:
        connection: the connection.
        channels: the channels that are wanted.
        options: ``encode`` and ``send_timeout``, which also limits functions that return a message.
        reporter: logs, counts and emits.
        on_ended: called after the message by which the server ended the subscription of a channel is delivered: with
            the channel, and when the message arrived, in seconds since the epoch.
    """

    def __init__(
        self,
        connection: Connection,
        channels: ChannelRegistry,
        options: Options,
        reporter: Reporter,
        on_ended: Callable[[Channel, float], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._connection = connection
        self._channels = channels
        self.subscriptions: Final = Subscriptions(channels, connection.inbound.names.withdraw)
        self._options = options
        self._reporter = reporter
        self._on_ended = on_ended
        # Done when a command is done or overdue.
        self._progress: asyncio.Future[None] = self._loop.create_future()
        self._in_flight = 0
        # The number of tasks that were created and have not begun. Later messages must wait until these tasks have sent
        # theirs.
        self._unbegun = 0
        # The number of combined commands that wait for a slot. Meanwhile no command is taken, so the next one can
        # combine more channels.
        self._combining = 0

    @property
    def is_settled(self) -> bool:
        """Whether no command is under way or due."""
        asked = [] if self._connection.is_live else self.asked
        # No answer is awaited on a connection that is ending, but the reader may still find the channel's messages.
        if any(not self.subscriptions.has(identity) for identity in asked):
            return False
        return self.subscriptions.is_settled

    def is_leaving(self, identity: Hashable) -> bool:
        """Whether a channel was unsubscribed and is not subscribed again. Then its last messages may still arrive."""
        return self.subscriptions.is_leaving(identity, self._loop.time())

    @property
    def asked(self) -> Iterable[Hashable]:
        """The channels whose subscription was sent and not refused. Their messages may arrive before the answers."""
        return [identity for identity, each in self.subscriptions.items() if each.is_asked]

    async def prepare(self) -> None:
        """Subscribe all channels that are wanted now. Those that become wanted meanwhile are subscribed, too.

        If the connection is held, its predecessor still delivers, so waiting loses no message. Then this also waits up
        to ``PATIENCE`` seconds for failed commands, and without a limit for commands that are sent for the second time.

        Raises:
            SendFailed: the connection was lost.
        """
        began = self._loop.time()
        self._launch()
        inbound, reader = self._connection.inbound, self._connection.reader
        while self.subscriptions.is_awaited(
            overdue=inbound.is_held, postponed=inbound.is_held and self._loop.time() < began + PATIENCE
        ):
            self._progress = self._loop.create_future()
            # Poll while the connection is held, because a postponed command has no task, and `is_held` has no future.
            timeout = POLL_INTERVAL if inbound.is_held else None
            waiting: set[asyncio.Future[Any]] = {self._progress, reader}
            await asyncio.wait(waiting, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if reader.done():
                raise SendFailed("the connection was lost before everything was subscribed")

    def changed(self, identity: Hashable) -> None:
        """Note that a channel is now wanted, or no longer wanted."""
        if identity not in self._channels:
            self._notify(identity)
        self.subscriptions.changed(identity)
        # Launch in a later callback, so that channels that become wanted in one iteration of the loop are combined.
        self._loop.call_soon(self._launch)

    def launch(self) -> bool:
        """Create the tasks of all due commands. Return whether any of them begins in the next iteration of the loop."""
        self._launch()
        return self._unbegun > 0

    def stop(self) -> None:
        """Tell the functions that wait for a subscription that the connection has ended."""
        for identity in list(self.subscriptions):
            self._notify(identity)

    def when_decided(self, identity: Hashable, function: Callable[[], None]) -> None:
        """Call ``function`` once it is decided whether a wanted channel is subscribed, or the connection has ended."""
        self.subscriptions[identity].on_decided += (function,)

    async def wait_decided(self, identity: Hashable) -> None:
        """Wait until a channel is subscribed or refused or no longer wanted, or the connection has ended."""
        while not (self.subscriptions.is_decided(identity) or self._connection.reader.done()):
            decided: asyncio.Future[None] = self._loop.create_future()
            self.when_decided(identity, functools.partial(_finish, decided))
            await decided

    def _launch(self) -> None:
        while self._connection.is_live and not self._combining and self._in_flight < MAX_COMMANDS:
            command = self.subscriptions.take_command()
            if command is None:
                return
            self._unbegun += 1
            self._in_flight += not command.is_overdue
            self._connection.run(self._carry_out(command), "rxws subscriber")

    def _proceed(self) -> None:
        """Take further commands after one is done or overdue, and let ``prepare`` look again."""
        self._launch()
        if not self._progress.done():
            self._progress.set_result(None)

    # A command

    async def _carry_out(self, command: Command) -> None:
        """Carry out a command; postpone the part that fails, unless the connection was lost.

        If sending is not limited, and no async function is called, this sends before its first suspension. So messages
        are sent in the order of the user's calls.
        """
        self._unbegun -= 1
        try:
            await self._make_messages(command)
            await self._send_when_due(command)
        except FAILURES as error:
            if is_being_cancelled(error):
                raise
            self._postpone(command, list(command.messages), error)
        finally:
            self._in_flight -= not command.is_overdue
            self._proceed()

    def _postpone(self, command: Command, channels: Collection[Channel], error: BaseException) -> None:
        """Report that the command for some channels has failed, and free them after a delay."""
        # If the connection is lost, the next one subscribes all channels.
        if self._connection.is_live:
            self._reporter.failed("a subscription's message", None, error)
        self._repeat_later(command, channels)

    def _repeat_later(self, command: Command, channels: Collection[Channel]) -> None:
        if channels and self._connection.is_live:
            delay = max((self.subscriptions.postpone(each) for each in channels), default=0.0)
            self._connection.run(self._free_later(channels, delay), "rxws subscriber")
        for each in channels:
            del command.messages[each]

    async def _free_later(self, channels: Iterable[Channel], delay: float) -> None:
        await asyncio.sleep(delay)
        for each in channels:
            self.subscriptions.free(each)
        self._proceed()

    async def _make_messages(self, command: Command) -> None:
        """Make the messages of a command; postpone the channels whose function fails."""
        # Call the functions before a slot is acquired, so that a slow function does not delay pongs.
        for each in command.messages:
            command.messages[each] = self._message_of(each, command.subscribes)
        asking = {each: self._wait_for(given) for each, given in command.messages.items() if inspect.isawaitable(given)}
        if asking:
            answers = await asyncio.gather(*asking.values(), return_exceptions=True)
            command.messages.update(zip(asking, answers, strict=True))
        for each, message in list(command.messages.items()):
            if message is None and command.subscribes:
                message = TypeError("a function for subscribe must return a message, not None")
            if isinstance(message, BaseException):
                self._postpone(command, [each], message)

    def _message_of(self, channel: Channel, subscribes: bool) -> Any:
        """Return the message or, if it is a function, its result or the exception that it raises."""
        try:
            if subscribes:
                # Streams got a Gap for the time without the channel, and messages of that time must not follow it.
                was_refused = channel.identity in self._channels.refused
                return self._channels.subscribing(channel, is_anew=was_refused or self.is_leaving(channel.identity))
            if channel.unsubscribe_from is not None:
                return self.subscriptions[channel.identity].unsubscribe
            return channel.unsubscribe() if callable(channel.unsubscribe) else channel.unsubscribe
        except FAILURES as error:
            return error

    async def _wait_for(self, message: Awaitable[Any]) -> Any:
        async with asyncio.timeout(self._options.send_timeout):
            return await message

    async def _send_when_due(self, command: Command) -> None:
        """Acquire a slot, and send the part of a command that is still wanted then."""
        if all(message is None for message in command.messages.values()):
            self._done(command, list(command.messages))
            return
        is_combining = command.subscribes and next(iter(command.messages)).combine is not None
        self._combining += is_combining
        try:
            await self._connection.acquire_slot(Priority.LOW)
        finally:
            self._combining -= is_combining
        if is_combining:
            self._launch()
        try:
            payload = self._due_payload(command)
        except BaseException:
            self._connection.release_slot()
            raise
        self._await_ends(command)
        if payload is None:
            self._connection.release_slot()
        elif command.subscribes and any(each.consent for each in command.messages):
            await self._subscribe(command, payload)
        else:
            if not command.subscribes:
                for each in command.messages:
                    self.subscriptions.leaving(each, self._loop.time())
            await self._connection.send(payload, self._options.send_timeout, None)
            self._done(command, list(command.messages))

    def _due_payload(self, command: Command) -> str | bytes | None:
        """Return the payload for the channels that are still wanted; None if there is nothing to send."""
        for each in [each for each in command.messages if not self.subscriptions.is_due(each, command.subscribes)]:
            self.subscriptions.free(each)
            del command.messages[each]
        if not command.messages:
            return None
        try:
            return self._payload_of(command, command.messages)
        except FAILURES as error:
            channels = list(command.messages)
            if len(channels) == 1:
                raise
            self._reporter.failed(channels[0].combine, None, error)
            self._divide(command, channels, len(channels))
            return None

    def _payload_of(self, command: Command, channels: Iterable[Channel]) -> str | bytes:
        channels = list(channels)
        combine, parts = channels[0].combine, [command.messages[each] for each in channels]
        # Pass copies, because the messages are sent again on every connection and `combine` may change them.
        message = parts[0] if len(parts) == 1 or combine is None else combine(copy.deepcopy(parts))
        if message is None:
            raise TypeError("combine must return a message, not None")
        return to_payload(message, self._options.encode)

    def _divide(self, command: Command, channels: Collection[Channel], pieces: int) -> None:
        """Leave channels to this number of later commands."""
        for each in channels:
            del command.messages[each]
        self.subscriptions.divide(channels, pieces)
        self._launch()

    def _done(self, command: Command, channels: Iterable[Channel], answer: Any = None) -> None:
        """Note that the server has carried out a command, or a part of it, with its answer if it is known."""
        for each in channels:
            command.messages.pop(each, None)
            if command.subscribes and not self._name(each, answer):
                self.subscriptions.refuse(each)
                self._notify(each.identity)
                continue
            recent = self._channels.recent
            if recent is not None and command.subscribes and self.is_leaving(each.identity):
                recent.forget(each.identity)
            if recent is not None and answer is not None:
                recent.note(self._connection.number, each.identity, answer)
            self.subscriptions.done(each, command.subscribes)
            if command.subscribes:
                self.subscriptions[each.identity].since = self._loop.time()
                self.subscriptions[each.identity].is_answered = answer is not None or each.consent is None
            self._connection.change_channel(each.identity, command.subscribes, answer)
            if command.subscribes:
                self._notify(each.identity)
                if (end := self._take_early_end(each)) is not None:
                    self._ended(each, *end)

    def _name(self, channel: Channel, answer: Any) -> bool:
        """Take from the server's answer what the channel needs on this connection. Return whether it succeeded."""
        if channel.unsubscribe_from is not None and answer is not None:
            with self._reporter.guard(channel.unsubscribe_from, answer):
                self.subscriptions[channel.identity].unsubscribe = channel.unsubscribe_from(answer)
        if channel.filters_from is None:
            return True
        with self._reporter.guard(channel.filters_from, answer):
            wanted = Filter.parse(channel.filters_from(answer), "the result of filters_from")
            if wanted.passes_everything:
                raise ValueError("the result of filters_from must not be empty: every message would pass")
            self._connection.inbound.names.assign(channel.identity, wanted)
            return True
        return False

    def _notify(self, identity: Hashable) -> None:
        """Call the functions that wait for the subscription of a channel."""
        if identity in self.subscriptions:
            functions = self.subscriptions[identity].on_decided
            self.subscriptions[identity].on_decided = ()
            for function in functions:
                function()

    def _await_ends(self, command: Command) -> None:
        """Await the ends of the subscriptions of a command, because one may arrive before its answer is understood."""
        names = self._connection.inbound.names
        for each in command.messages if command.subscribes else ():
            names.await_end(each.identity, each.ended, functools.partial(self._end_arrived, each))

    def _take_early_end(self, channel: Channel) -> tuple[Any, float] | None:
        subscription = self.subscriptions[channel.identity]
        end, subscription.early_end = subscription.early_end, None
        return end

    def _end_arrived(self, channel: Channel, message: Any) -> None:
        """End a subscription now or, if it is not decided yet whether it is subscribed, once that is decided."""
        subscription, since = self.subscriptions.get(channel.identity), self._reporter.now()
        if subscription is not None and subscription.is_left:
            # The message confirms the unsubscription before, as Phoenix does.
            subscription.is_left = False
        elif subscription is None or subscription.is_present or not subscription.is_asked:
            self._ended(channel, message, since)
        elif subscription.early_end is None:
            subscription.early_end = message, since

    def _ended(self, channel: Channel, message: Any, since: float) -> None:
        """Note that the server has ended the subscription of a channel, and subscribe it again later."""
        delay = self.subscriptions.ended(channel, self._loop.time())
        self._loop.call_soon(self._launch)
        if delay is None:
            return
        channel = self.subscriptions[channel.identity].channel
        if delay != math.inf:
            self._connection.run(self._free_later([channel], delay), "rxws subscriber")
        # Two connections need not miss the same messages, so later messages have no copies before the end.
        self._connection.change_channel(channel.identity, False)
        self._report_end(channel, message, since, delay)

    def _report_end(self, channel: Channel, message: Any, since: float, delay: float) -> None:
        """Report that the server has ended the subscription of a channel, and interrupt or end its streams."""
        again = None if delay == math.inf else delay
        subscribed = channel.describe()
        event = self._reporter.emit(SubscriptionEnded, message=subscribed, ending=quoted_repr(message), delay=again)
        self._reporter.log(logging.INFO if again is None else logging.WARNING, event, about=subscribed)
        inbound = self._connection.inbound
        ended = functools.partial(self._on_ended, channel, since)
        if again is not None and inbound.is_held:
            # The other connection delivers, so no stream is affected before this connection takes over.
            inbound.when_taken_over(ended)
        else:
            # Messages before the end may be held.
            inbound.when_delivered(functools.partial(self._loop.call_soon, ended))

    # The answers to a command

    async def _subscribe(self, command: Command, payload: str | bytes) -> None:
        """Send in the acquired slot. Send once more for channels without an answer; then they count as subscribed."""

        def accept(channels: Sequence[Channel], answer: Any) -> None:
            self._done(command, channels, answer)
            # Some of them may no longer be wanted.
            self._loop.call_soon(self._launch)

        waiting: Iterable[Channel] = command.messages
        for attempt in (1, 2):
            answers = Answers(waiting, self._connection.inbound.passes, accept)
            expecting = self._connection.inbound.expect_replies(answers.take)
            try:
                await self._connection.send(payload, self._options.send_timeout, None)
                for each in answers.waiting:
                    self.subscriptions[each.identity].is_asked = True
                await self._hear(command, answers, max(each.timeout for each in answers.waiting), attempt)
                if not answers.is_complete:
                    self._report(command, answers.waiting, attempt, None)
                    if attempt == 1:
                        await self._wait_to_repeat(command, answers)
            finally:
                expecting.cancel()
            if answers.is_complete:
                return
            waiting = list(answers.waiting)
            for each in waiting:
                # The repeated message subscribes the channel again.
                if (end := self._take_early_end(each)) is not None:
                    self._report_end(each, *end, math.inf if each.on_ended == "complete" else 0.0)
            payload = self._payload_of(command, waiting)
        # Without an answer the names are unknown, so subscribe again, after growing delays.
        self._repeat_later(command, [each for each in command.messages if each.filters_from is not None])
        self._done(command, list(command.messages))

    async def _wait_to_repeat(self, command: Command, answers: Answers) -> None:
        """Acquire a slot to send once more, unless all answers arrive meanwhile."""
        # Another command may be sent in its place, because the answer may never arrive.
        for each in answers.waiting:
            self.subscriptions.overdue(each)
        self._in_flight -= not command.is_overdue
        command.is_overdue = True
        self._proceed()
        await self._connection.acquire_slot(Priority.LOW)
        await self._hear(command, answers, ANSWER_PAUSE if answers.is_doubtful else 0.0, 1)
        if answers.is_complete:
            self._connection.release_slot()

    async def _hear(self, command: Command, answers: Answers, seconds: float, attempt: int) -> None:
        """Wait for the answers, and handle refusals."""
        deadline = self._loop.time() + seconds
        is_late = False
        while answers.refusals or not (answers.is_complete or is_late):
            until = min(deadline, self._loop.time() + ANSWER_PAUSE) if answers.is_doubtful else deadline
            await asyncio.wait({answers.heard}, timeout=until - self._loop.time())
            if not answers.heard.done():
                is_late = until == deadline
                answers.conclude()
            answers.heard = self._loop.create_future()
            while answers.refusals:
                self._refused(command, attempt, *answers.refusals.pop(0))

    def _refused(self, command: Command, attempt: int, channels: Sequence[Channel], answer: Any) -> None:
        """Report a refusal. Send a combined message again in two halves, which finds the refused channel soonest."""
        self._report(command, channels, attempt, quoted_repr(answer))
        if len(channels) > 1:
            self._divide(command, channels, 2)
        else:
            del command.messages[channels[0]]
            self.subscriptions.refuse(channels[0])
            self._notify(channels[0].identity)

    def _report(self, command: Command, channels: Collection[Channel], attempt: int, refusal: str | None) -> None:
        reporter = self._reporter
        reporter.counters.unacknowledged += 1
        payload = self._payload_of(command, channels)
        message = quoted(payload if isinstance(payload, str) else f"{len(payload)} bytes")
        event = reporter.emit(
            SubscriptionFailed, message=message, attempt=attempt, refusal=refusal, combined=len(channels)
        )
        reporter.log(logging.WARNING, event, about=(message, refusal))


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
