"""Runs the rotation hook for each connection, and signals when its rotation is due."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import Final

import reactivex
from reactivex import Observable
from reactivex import operators as ops

from ..observables.loop_context import LoopContext
from ..reporting.cancellation import is_torn_down
from .connection import Connection
from .connection_reporter import ConnectionReporter
from .opener import RotationHost

__all__ = ["RotationHook"]

#: If a rotation hook ends within this many seconds, the rotation is delayed.
TOO_SOON: Final = 0.25

#: The delays of such a rotation in seconds: the first delay, which then doubles, and the longest delay.
TOO_SOON_DELAYS: Final = (0.5, 60.0)


@dataclass(eq=False, slots=True)
class RotationHook:
    """The rotation hook of a feed, which runs once for each connection.

    Attributes:
        context: the feed's event loop, scheduler and reporter.
        host: the feed.
        connection_reporter: reports that a rotation is delayed.
        is_stopped: whether the feed is closing. Then rxws itself has cancelled the hook.
    """

    context: LoopContext
    host: RotationHost
    connection_reporter: ConnectionReporter
    is_stopped: bool = field(default=False, init=False)
    _throttle_delay: float = field(default=0.0, init=False)

    async def start(self, connection: Connection) -> None:
        """Run the hook of a connection to its first suspension."""
        connection.rotation_task = connection.run(self._run(connection), f"rxws hook {connection.number}")
        await asyncio.sleep(0)

    async def _run(self, connection: Connection) -> float:
        """Run the hook, and return its duration in seconds."""
        started = self.context.loop.time()
        try:
            await self.host.wait_rotation_due()
        except GeneratorExit as error:
            if asyncio.current_task() is not connection.rotation_task:
                # The loop is gone, and this coroutine is being garbage-collected.
                raise
            self.context.reporter.failed("_when2create_new_ws", None, error)
        except asyncio.CancelledError:
            # A connection that is not live has ended, or was closed for its rotation. Then rxws itself has cancelled
            # the hook. The reader may still run, because a parse hook may ignore cancellation.
            if not connection.is_live or self.is_stopped or is_torn_down():
                raise
            # The program cancelled the task, or the hook raised CancelledError itself. Rotate, because no other signal
            # would start the rotation of this connection.
            self.context.reporter.log(logging.WARNING, "_when2create_new_ws was cancelled: the feed rotates")
        return self.context.loop.time() - started

    def due(self, connection: Connection) -> Observable[object]:
        """Emit when the hook of a connection has ended, and its delay is over.

        If the hook ended within 0.25 s, the rotation is delayed. Otherwise a hook that always ends at once would make
        the feed rotate all the time.
        """
        assert connection.rotation_task is not None
        # A cancelled hook emits nothing: it was cancelled because its connection ended.
        ended: Observable[float] = reactivex.from_future(connection.rotation_task).pipe(ops.catch(reactivex.empty()))
        return ended.pipe(ops.flat_map(self._delayed))

    def _delayed(self, lasted: float) -> Observable[object]:
        if lasted >= TOO_SOON:
            self.reset()
            return reactivex.just(None)
        first, longest = TOO_SOON_DELAYS
        self._throttle_delay = min(longest, self._throttle_delay * 2 or first)
        self.connection_reporter.rotated_too_soon(self._throttle_delay)
        return reactivex.timer(self._throttle_delay, scheduler=self.context.scheduler)

    def reset(self) -> None:
        """Start over with the first delay."""
        self._throttle_delay = 0.0
