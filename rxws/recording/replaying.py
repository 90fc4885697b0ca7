"""Replays a recording as a feed, on the recording's clock."""

from __future__ import annotations

import itertools
import math
import os
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, TypeVar, overload

from .. import codec
from ..interface import AsyncWebsocketStreamInterface, T
from ..websocket import ReactiveWebSocket
from .entries import SessionStart
from .lines import LONGEST
from .moments import moments
from .playback import Script, check_feed, play
from .reading import Reading

__all__ = ["Replay", "replay"]

FeedT = TypeVar("FeedT", bound=AsyncWebsocketStreamInterface[Any])


class Replay(ReactiveWebSocket[T]):
    """A recording as a feed; :func:`replay` returns it."""

    def __init__(self, reading: Reading, decode: Callable[[str | bytes], T | Awaitable[T]], split: bool) -> None:
        self.__reading = reading
        super().__init__(os.fspath(reading.path), decode=decode, split=split)

    @property
    def bad_lines(self) -> tuple[int, ...]:
        """The numbers of the lines that could not be read so far; see :class:`~rxws.recording.Reading`."""
        return tuple(self.__reading.bad_lines)

    @property
    def shown_url(self) -> str:
        """The path of the file."""
        return os.fspath(self.__reading.path)


@overload
def replay(
    path: str | os.PathLike[str],
    speed: float = 1.0,
    *,
    decode: Callable[[str | bytes], T | Awaitable[T]] = codec.decode,
    split: bool = False,
    max_line_size: int | None = LONGEST,
) -> Replay[T]: ...


@overload
def replay(
    path: str | os.PathLike[str], speed: float = 1.0, *, feed: Callable[[], FeedT], max_line_size: int | None = LONGEST
) -> FeedT: ...


def replay(
    path: str | os.PathLike[str],
    speed: float = 1.0,
    *,
    decode: Callable[[str | bytes], Any] = codec.decode,
    split: bool = False,
    feed: Callable[[], AsyncWebsocketStreamInterface[Any]] | None = None,
    max_line_size: int | None = LONGEST,
) -> AsyncWebsocketStreamInterface[Any]:
    """Replay a recording as a feed, with the same streams, operators, handlers, events, states and statistics.

    **Start and end.** The replay starts at the first ``await`` of the block, so earlier subscriptions miss nothing.
    Streams and ``wait_closed()`` end with the file; ``exit()`` ends the replay sooner. ``send``, ``request`` and
    ``rotate`` raise :exc:`~rxws.RxwsError`, and ``present_ws`` is None.

    **Time.** Timed operators use the recording's clock: ``buffer_with_time(1.0)`` gives the same buffers at every
    speed. (The live feed's buffers may differ at their edges, because its timers were late.) A timer that is due at
    exactly the time of a frame fires before the frame. ``scheduler.now``, ``timestamp()`` and the ``time`` of events
    are times of the recording. ``asyncio.sleep``, and operators made with ``rxws.on_loop``, use the loop's time. Timers
    that are still due at the end of the file fire after it, at the same speed, but at most 1,000 times as fast.

    **Content.** Frames are parsed again, so messages are equal to those of the live feed. Frames that cannot be parsed
    are rejected. A parse hook may take up to ten seconds, as in a live feed; the replay waits for it. Frames that a
    rotation held are replayed at the time of their delivery, without the messages that the rotation dropped. States
    are replayed, and the events ``Connected``, ``Disconnected``, ``Rotated``, ``Gap``, ``Quiet`` and
    ``SubscriptionFailed``. Other events, such as ``CallbackFailed`` and ``Lagging``, come from the replaying program.
    Between two sessions of a file there is a ``Gap`` with the reason ``"recording"``; as in a live feed, it is emitted
    when there is a connection again. Bad lines are left out and reported in the log. A line is also bad if its time
    jumps by more than a second and the lines after it contradict the jump.

    **Consumers.** Unlike a live feed, a replay can wait for consumers, at any speed. It pauses while 1,000 messages
    wait in a stream that is iterated over (or in an ``async for`` over an Observable, or in a coroutine handler), and
    before a stream with a small ``maxsize`` is full. It stops waiting for a consumer that takes no message for 5
    seconds, until this consumer has caught up. It never waits for a stream without an iteration, which fills as in a
    live feed. Close streams that you no longer need.

    Args:
        path: the file, or a folder that ``record`` with ``roll`` wrote.
        speed: the speed, as a factor; ``math.inf`` is as fast as possible. 1 by default.
        decode: makes a message of a frame, as in :class:`~rxws.ReactiveWebSocket`. By default JSON.
        split: whether a frame whose message is a list holds one message per item. False by default.
        feed: a subclass of :class:`~rxws.AsyncWebsocketStreamInterface`, or a function without arguments that makes a
            feed. The replay is this feed: it parses frames as always, and opens, rotates and answers no connection.
            None (the default) makes a :class:`~rxws.recording.Replay`.
        max_line_size: the bytes that a line may have after decompression, as in :func:`read`. By default 16 MiB.

    Returns:
        The feed.

    Raises:
        OSError: the file cannot be opened. If reading fails later, streams and ``wait_closed()`` raise the error.
        RxwsError: the file is not a recording, or a later version of rxws wrote it. If another program wrote lines to
            it too, or more than 100,000 lines cannot be read, streams and ``wait_closed()`` raise this error.
        ImportError: ``.zst`` needs ``pip install 'rxws[zstd]'`` before Python 3.14.
        TypeError: ``speed`` is not a number; ``feed`` does not make a feed, needs arguments, or is given with
            ``decode`` or ``split``; or ``max_line_size`` is not an int or None.
        ValueError: ``speed`` or ``max_line_size`` is not positive.
        RuntimeError: it is called outside a running event loop.

    Example::

        async with rxws.replay("feed.jsonl.gz", speed=math.inf) as ws:
            async for second in ws.messages.pipe(ops.buffer_with_time(1.0)):
                ...
    """
    if isinstance(speed, bool) or not isinstance(speed, int | float):
        raise TypeError(f"speed must be a number (math.inf: as fast as possible), not {speed!r}")
    if not speed > 0:
        raise ValueError(f"speed must be greater than 0, not {speed!r}")
    if feed is not None:
        check_feed(feed)
        if split or decode is not codec.decode:
            raise TypeError("decode and split are for a replay without feed: a feed parses frames itself")
    # An int may be larger than any float.
    speed = math.inf if speed > sys.float_info.max else float(speed)
    reading = Reading(path, max_line_size)
    try:
        first = next(reading, None)
        start = first if isinstance(first, SessionStart) else None
        script = Script(
            name=start.name if start else reading.path.name,
            epoch=datetime.fromtimestamp(start.wall / 1e9 if start else 0, UTC),
            moments=moments(itertools.chain([] if first is None else [first], reading)),
            close=reading.close,
        )
        if feed is None:
            return play(script, speed, lambda: Replay(reading, decode, split))
        return play(script, speed, feed)
    except BaseException:
        reading.close()
        raise
