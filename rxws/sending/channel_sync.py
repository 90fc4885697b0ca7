"""Subscribes on one connection the channels that the feed wants, and follows changes of what it wants."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import logging
import math
from collections.abc import Awaitable, Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, Final

from ..codec import to_payload
from ..connections.connection import Connection
from ..connections.send_queue import Priority
from ..delays import default_delays
from ..errors import SendFailed
from ..options import Options
from ..reporting.cancellation import FAILURES, is_being_cancelled
from ..reporting.events import SubscriptionFailed
from ..reporting.quoting import quoted, quoted_repr
from ..reporting.reporter import Reporter
from .answers import Answers
from .channel_states import ChannelStates
from .channels import Channel, ChannelCommand, ChannelRegistry

__all__ = ["ChannelSync"]

#: The largest number of commands in flight, not counting late ones. The number is limited because each received message
#: is compared with the answers that all of these commands wait for.
MAX_COMMANDS: Final = 1_000

#: Seconds for which a held connection waits for channels that could not be subscribed at once.
PATIENCE: Final = 10.0

#: Seconds for which ``prepare`` also waits for channels that become wanted meanwhile. After that it ignores new ones,
#: because a program may add channels faster than they can be subscribed.
GATHERING: Final = 10.0

#: Seconds to wait for another answer to a combined message. After that the only answer counts for all its channels.
ANSWER_PAUSE: Final = 1.0

#: Seconds for which messages of a channel may still arrive after it was unsubscribed.
LINGER: Final = 30.0

#: Seconds between two checks whether postponed channels are subscribed, and whether the connection is still held.
POLL_INTERVAL: Final = 0.1


class ChannelSync:
    """Subscribes the wanted channels on one connection. The second of two changes of one channel waits for the first.

    Each command runs in its own task, so that an unanswered command, or a slow function that returns a message, does
    not block other commands. A command that fails is reported, postponed, and repeated with growing delays.

    Args:
        connection: the connection.
        channels: the channels that are wanted.
        options: ``encode`` and ``send_timeout``, which also limits functions that return a message.
        reporter: logs, counts and emits.
    """

    def __init__(self, connection: Connection, channels: ChannelRegistry, options: Options, reporter: Reporter) -> None:
        self._loop = asyncio.get_running_loop()
        self._connection = connection
        self._channels = channels
        self._states = ChannelStates(channels)
        self._options = options
        self._reporter = reporter
        self._commands: dict[asyncio.Task[None], ChannelCommand] = {}
        # The channels for which `prepare` still waits. It is None for the first `GATHERING` seconds, when it waits for
        # all.
        self._last_awaited: set[Hashable] | None = None
        # The tasks of commands that are sent for the second time or were refused before. The future is done when a task
        # is added.
        self._late: set[asyncio.Task[Any]] = set()
        self._late_added: asyncio.Future[None] = self._loop.create_future()
        # The next delays of channels whose command failed, and the timers of postponed commands.
        self._delays: dict[Hashable, Iterator[float]] = {}
        self._timers: dict[ChannelCommand, asyncio.TimerHandle] = {}
        # For channels that were unsubscribed and are not subscribed again: when that was, and the functions to call
        # when they are subscribed.
        self._left_at: dict[Hashable, float] = {}
        #: The channels whose subscription was sent and not refused. Their messages may arrive before the answers.
        self.asked: Final[dict[Hashable, None]] = {}
        self._on_subscribed: dict[Hashable, list[Callable[[bool], None]]] = {}
        # The number of tasks that were created and have not begun. Later messages must wait until these tasks have sent
        # theirs.
        self._unbegun = 0
        # The number of combined commands that wait for a slot. Meanwhile no command is taken, so the next one can
        # combine more channels.
        self._combining = 0

    @property
    def is_settled(self) -> bool:
        """Whether all wanted channels are subscribed, except postponed ones."""
        connection = self._connection
        if not connection.is_live and self.asked.keys() - connection.channels.keys():
            # No answer is awaited on a connection that is ending, but the reader may still find the channel's messages.
            return False
        return not (self._commands or self._states.is_due)

    def has_subscribed(self, identity: Hashable) -> bool:
        """Whether a channel is subscribed: its command was sent and not refused."""
        return identity in self._states

    def is_leaving(self, identity: Hashable) -> bool:
        """Whether a channel was unsubscribed and is not subscribed again. Then its last messages may still arrive."""
        return self._loop.time() - self._left_at.get(identity, -math.inf) < LINGER

    def when_subscribed(self, identity: Hashable, function: Callable[[bool], None]) -> None:
        """Call a function with True when a channel is subscribed, before its next message.

        It is called with False if the server refuses the channel, and when the connection ends.
        """
        self._on_subscribed.setdefault(identity, []).append(function)

    async def prepare(self) -> None:
        """Subscribe all wanted channels, including those that become wanted within ``GATHERING`` seconds.

        If the connection is held, its predecessor still delivers, so waiting loses no message. Then this also waits up
        to ``PATIENCE`` seconds for failed commands, and without a limit for commands that are sent for the second time.

        Raises:
            SendFailed: the connection was lost.
        """
        began = self._loop.time()
        self._launch()
        inbound = self._connection.inbound
        while (commands := self._awaited()) or (
            self._timers and inbound.is_held and self._loop.time() < began + PATIENCE
        ):
            self._late_added = self._loop.create_future()
            waiting: set[asyncio.Future[Any]] = {*commands, self._late_added, self._connection.reader}
            # Poll while the connection is held, because a postponed command has no task, and `is_held` has no future.
            timeout = POLL_INTERVAL if inbound.is_held else None
            await asyncio.wait(waiting, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if self._connection.reader.done():
                raise SendFailed("the connection was lost before everything was subscribed")
            if self._last_awaited is None and self._loop.time() - began >= GATHERING:
                self._last_awaited = self._states.unsettled

    def _awaited(self) -> set[asyncio.Task[None]]:
        # If no other connection delivers, do not wait for late commands, because their answer may never arrive.
        late = set() if self._connection.inbound.is_held else self._late
        if self._last_awaited is not None:
            self._last_awaited &= self._states.unsettled
            for task in late:
                self._stop_awaiting(self._commands[task])
            if not self._last_awaited:
                return set()
        return self._commands.keys() - late

    def _stop_awaiting(self, command: ChannelCommand) -> None:
        if self._last_awaited is not None:
            self._last_awaited.difference_update(each.identity for each in command.channels)

    def changed(self, identity: Hashable) -> None:
        """Note that a channel is now wanted, or no longer wanted."""
        self._states.changed(identity)
        # Launch in a later callback, so that channels that become wanted in one iteration of the loop are combined.
        self._loop.call_soon(self._launch)

    def launch(self) -> bool:
        """Create the tasks of all due commands. Return whether any of them begins in the next iteration of the loop."""
        self._launch()
        return self._unbegun > 0

    def stop(self) -> None:
        """Repeat no more commands, because the connection has ended."""
        for timer in self._timers.values():
            timer.cancel()
        for identity in list(self._on_subscribed):
            self._subscribed(identity, False)

    def _launch(self) -> None:
        while self._connection.is_live and not self._combining and len(self._commands) - len(self._late) < MAX_COMMANDS:
            command = self._states.take_command()
            if command is None:
                return
            self._unbegun += 1
            task = self._connection.run(self._carry_out(command), "rxws subscriber")
            self._commands[task] = command
            if self._states.is_doubtful(command):
                self._late.add(task)
            task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        # Stop awaiting it even after a failure, because `prepare` does not wait for later commands, and waits for
        # postponed ones by their timers.
        self._stop_awaiting(self._commands.pop(task))
        self._late.discard(task)
        self._launch()

    async def _carry_out(self, command: ChannelCommand) -> None:
        """Carry out a command; postpone the part that fails, unless the connection was lost.

        If sending is not limited, and no async function is called, this sends before its first suspension. So messages
        are sent in the order of the user's calls.
        """
        self._unbegun -= 1
        # The rest of the command. Channels are removed when they are done, refused, or left to later commands.
        left: dict[Channel, Any] = dict.fromkeys(command.channels)
        try:
            left = await self._messages_of(command)
            command = ChannelCommand(tuple(left), command.subscribes)
            await self._send_when_due(command, left)
            # Channels that are no longer wanted were not sent.
            self._states.free(ChannelCommand(tuple(left), command.subscribes))
        except FAILURES as error:
            if is_being_cancelled(error):
                raise
            self._postpone(ChannelCommand(tuple(left), command.subscribes), error)
        else:
            for channel in command.channels:
                self._delays.pop(channel.identity, None)

    def _postpone(self, command: ChannelCommand, error: BaseException) -> None:
        if not self._connection.is_live:
            # The next connection subscribes all channels.
            return
        self._reporter.failed("a subscription's message", None, error)
        delay = max(next(self._delays.setdefault(each.identity, default_delays())) for each in command.channels)
        self._timers[command] = self._loop.call_later(delay, self._repeat, command)

    def _repeat(self, command: ChannelCommand) -> None:
        del self._timers[command]
        self._states.free(command)
        self._launch()

    async def _messages_of(self, command: ChannelCommand) -> dict[Channel, Any]:
        """Return the messages of a command; postpone the channels whose function fails."""
        # Call the functions before a slot is acquired, so that a slow function does not delay pongs.
        messages = {each: self._message_of(each, command.subscribes) for each in command.channels}
        asking = {each: self._wait_for(given) for each, given in messages.items() if inspect.isawaitable(given)}
        if asking:
            answers = await asyncio.gather(*asking.values(), return_exceptions=True)
            messages.update(zip(asking, answers, strict=True))
        for each, message in list(messages.items()):
            if message is None and command.subscribes:
                message = TypeError("a function for subscribe must return a message, not None")
            if isinstance(message, BaseException):
                self._postpone(ChannelCommand((each,), command.subscribes), message)
                del messages[each]
        return messages

    async def _send_when_due(self, command: ChannelCommand, left: dict[Channel, Any]) -> None:
        """Acquire a slot, and send the part of a command that is still wanted then."""
        if all(message is None for message in left.values()):
            self._done(command, left)
            return
        is_combining = command.subscribes and command.channels[0].combine is not None
        self._combining += is_combining
        try:
            await self._connection.acquire_slot(Priority.LOW)
        finally:
            self._combining -= is_combining
        if is_combining:
            self._launch()
        due = self._states.still_due(command)
        if not due.channels:
            self._connection.release_slot()
            return
        try:
            payload = self._payload_of(due, left)
        except BaseException as error:
            self._connection.release_slot()
            if len(due.channels) == 1 or not isinstance(error, FAILURES):
                raise
            self._reporter.failed(due.channels[0].combine, None, error)
            self._divide(due.channels, len(due.channels), left)
            return
        if due.subscribes and any(each.consent for each in due.channels):
            await self._subscribe(due, payload, left)
        else:
            if not due.subscribes:
                self._note_leaving(due)
            await self._connection.send(payload, self._options.send_timeout, None)
            self._done(due, left)

    def _done(self, command: ChannelCommand, left: dict[Channel, Any], answer: Any = None) -> None:
        """Note that the server has carried out a command, or a part of it, with its answer if it is known."""
        self._states.done(command)
        for each in command.channels:
            left.pop(each, None)
            if self._channels.recent is not None and answer is not None:
                self._channels.recent.note(each.identity, answer)
            self._connection.change_channel(each.identity, command.subscribes, answer)
            if command.subscribes:
                self._subscribed(each.identity, True)

    def _subscribed(self, identity: Hashable, is_subscribed: bool) -> None:
        self._left_at.pop(identity, None)
        for function in self._on_subscribed.pop(identity, ()):
            function(is_subscribed)

    def _note_leaving(self, command: ChannelCommand) -> None:
        """Note that the unsubscribe message of a channel is now sent. The channel's last messages may still arrive."""
        now = self._loop.time()
        while self._left_at and now - next(iter(self._left_at.values())) >= LINGER:
            del self._left_at[next(iter(self._left_at))]
        for each in command.channels:
            self._left_at[each.identity] = now
            self.asked.pop(each.identity, None)

    def _divide(self, channels: Sequence[Channel], pieces: int, left: dict[Channel, Any]) -> None:
        """Leave channels to this number of later commands."""
        command = ChannelCommand(tuple(channels), subscribes=True)
        self._states.divide(command, pieces)
        for each in channels:
            left.pop(each, None)
        task = asyncio.current_task()
        assert task is not None
        # Update the command of this task, so that `prepare` waits for the later commands of these channels instead.
        self._commands[task] = ChannelCommand(tuple(left), subscribes=True)
        self._states.free(command)
        self._launch()

    def _message_of(self, channel: Channel, subscribes: bool) -> Any:
        """Return the message or, if it is a function, its result or the exception that it raises."""
        try:
            if subscribes:
                return self._channels.subscribing(channel)
            return channel.unsubscribe() if callable(channel.unsubscribe) else channel.unsubscribe
        except FAILURES as error:
            return error

    async def _wait_for(self, message: Awaitable[Any]) -> Any:
        async with asyncio.timeout(self._options.send_timeout):
            return await message

    def _payload_of(self, command: ChannelCommand, messages: Mapping[Channel, Any]) -> str | bytes:
        combine, parts = command.channels[0].combine, [messages[each] for each in command.channels]
        # Pass copies, because the messages are sent again on every connection and `combine` may change them.
        message = parts[0] if len(parts) == 1 or combine is None else combine(copy.deepcopy(parts))
        if message is None:
            raise TypeError("combine must return a message, not None")
        return to_payload(message, self._options.encode)

    async def _subscribe(self, due: ChannelCommand, payload: str | bytes, left: dict[Channel, Any]) -> None:
        """Send in the acquired slot. Send once more for channels without an answer; then they count as subscribed."""

        def accept(channels: Sequence[Channel], answer: Any) -> None:
            self._done(ChannelCommand(tuple(channels), subscribes=True), left, answer)
            # Some of them may no longer be wanted.
            self._loop.call_soon(self._launch)

        connection = self._connection
        for attempt in (1, 2):
            answers = Answers(due.channels, connection.inbound.passes, accept)
            refused = functools.partial(self._refused, attempt, left)
            expecting = connection.inbound.expect_replies(answers.take)
            try:
                await connection.send(payload, self._options.send_timeout, None)
                self.asked.update(dict.fromkeys(each.identity for each in answers.waiting))
                await self._hear(answers, max(each.timeout for each in answers.waiting), refused)
                if not answers.is_complete:
                    self._report(tuple(answers.waiting), left, attempt, None)
                    if attempt == 1:
                        await self._wait_to_repeat(answers, refused)
            finally:
                expecting.cancel()
            if answers.is_complete:
                return
            due = ChannelCommand(tuple(answers.waiting), subscribes=True)
            payload = self._payload_of(due, left)
        self._done(due, left)

    async def _wait_to_repeat(self, answers: Answers, refused: Callable[[Sequence[Channel], Any], None]) -> None:
        """Acquire a slot to send once more, unless all answers arrive meanwhile."""
        self._mark_late()
        await self._connection.acquire_slot(Priority.LOW)
        await self._hear(answers, ANSWER_PAUSE if answers.is_doubtful else 0.0, refused)
        if answers.is_complete:
            self._connection.release_slot()

    async def _hear(self, answers: Answers, seconds: float, refused: Callable[[Sequence[Channel], Any], None]) -> None:
        """Wait for the answers. Call ``refused`` with refused channels and the answer."""
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
                refused(*answers.refusals.pop(0))

    def _refused(self, attempt: int, left: dict[Channel, Any], channels: Sequence[Channel], answer: Any) -> None:
        """Report a refusal. Send a combined message again in two halves, which finds the refused channel soonest."""
        self._report(channels, left, attempt, quoted_repr(answer))
        if len(channels) > 1:
            self._divide(channels, 2, left)
        else:
            command = ChannelCommand(tuple(channels), subscribes=True)
            self._states.refuse(command)
            self.asked.pop(channels[0].identity, None)
            self._subscribed(channels[0].identity, False)
            self._states.free(command)
            left.pop(channels[0], None)

    def _mark_late(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._late.add(task)
        # Another command may be sent in its place, because the answer may never arrive.
        self._launch()
        if not self._late_added.done():
            self._late_added.set_result(None)

    def _report(
        self, channels: Sequence[Channel], messages: Mapping[Channel, Any], attempt: int, refusal: str | None
    ) -> None:
        reporter, combined = self._reporter, len(channels)
        reporter.counters.unacknowledged += 1
        payload = self._payload_of(ChannelCommand(tuple(channels), subscribes=True), messages)
        message = quoted(payload if isinstance(payload, str) else f"{len(payload)} bytes")
        event = reporter.emit(SubscriptionFailed, message=message, attempt=attempt, refusal=refusal, combined=combined)
        reporter.log(logging.WARNING, event, about=(message, refusal))
