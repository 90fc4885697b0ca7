"""Replaying a recording: a feed like any other, whose time is the recording's."""

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
    """A recording as a feed; what :func:`replay` returns."""

    def __init__(self, reading: Reading, decode: Callable[[str | bytes], T | Awaitable[T]], split: bool) -> None:
        self.__reading = reading
        super().__init__(os.fspath(reading.path), decode=decode, split=split)

    @property
    def bad_lines(self) -> tuple[int, ...]:
        """The numbers of the lines that could not be read, so far; see :class:`~rxws.recording.Reading`."""
        return tuple(self.__reading.bad_lines)

    @property
    def shown_url(self) -> str:
        """The file."""
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
    """Play a recording as if it were a feed: the same streams, operators, handlers, events, states and statistics.

    **When.** It begins at the first ``await`` of the block, so that what is subscribed before misses nothing; streams
    end with the file, and so does ``wait_closed()``. ``exit()`` ends it sooner. ``send``, ``request`` and ``rotate``
    raise :exc:`~rxws.RxwsError`, ``present_ws`` is None.

    **Time.** Timed operators run on the recording's clock: ``buffer_with_time(1.0)`` gives the same buffers at every
    speed. (Those of the live feed may differ at their edges, by as much as its timers were late.) What is due at the
    very time of a frame has its turn before that frame. ``scheduler.now``, ``timestamp()`` and the ``time`` of events
    are the recording's; ``asyncio.sleep``, and operators made with ``rxws.on_loop``, are of the loop's time. What
    operators still wait for at the file's end comes after it, at the same speed, but at most a thousand times as fast.

    **What.** Frames are parsed anew, so that messages are equal to those of the live feed, and what cannot be parsed
    is rejected, as there; a parse hook may take its time (ten seconds, as there): the recording waits. Frames that a
    rotation held come when they were delivered, less those of their messages that it dropped. Recorded states come in
    their place, and so do the events ``Connected``, ``Disconnected``, ``Rotated``, ``Gap``, ``Quiet`` and
    ``SubscriptionFailed``; the others (``CallbackFailed``, ``Lagging`` …) tell of this program, not of the one that
    recorded. Between two sessions of one file there is a ``Gap`` with the reason ``"recording"``, told once there is a
    connection again, as in a live feed. Bad lines are left out, and told of in the log.

    **Consumers.** Unlike a live feed, a recording can wait: while 1,000 messages wait in a stream that has an ``async
    for`` (or in an ``async for`` over an Observable, or in a coroutine handler), or a stream with a small ``maxsize``
    is about to be full, it does not go on, at any speed. It waits for nobody who takes nothing for 5 seconds, until
    that one has caught up; and never for a stream that nobody has begun to iterate over: that fills as a live one
    does. A stream that is done with is best closed.

    Args:
        path: the file.
        speed: how many times as fast as it was recorded; ``math.inf`` is as fast as possible.
        decode: makes a message of a frame, as in :class:`~rxws.ReactiveWebSocket`. By default JSON.
        split: whether a frame whose message is a list holds one message per item.
        feed: a class of yours that inherits from :class:`~rxws.AsyncWebsocketStreamInterface`, or any function without
            arguments that makes a feed: the replay is that feed, which parses as it always does, and opens, rotates
            and answers no connection. None makes a :class:`~rxws.recording.Replay`.
        max_line_size: the bytes that a line may have after decompression, as in :func:`read`. By default 16 MiB.

    Returns:
        A feed; see above.

    Raises:
        OSError: the file cannot be opened. One that cannot be read on ends streams and ``wait_closed()`` so.
        RxwsError: it is no recording, or a later version of rxws wrote it.
        ImportError: ``.zst`` needs ``pip install 'rxws[zstd]'`` before Python 3.14.
        TypeError: ``speed`` is no number, or ``feed`` makes no feed, or not without arguments, or is
            given with ``decode`` or ``split``.
        ValueError: ``speed`` is not positive.
        RuntimeError: outside a running event loop.

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
            raise TypeError("decode and split are for a replay without feed: a feed parses as it always does")
    # An integer may be larger than any float.
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
