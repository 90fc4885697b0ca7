"""The hooks of a subclass, and the streams that a rotation hook makes: they are closed when it ends."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakSet

from ..messages.hooks import ParseHooks
from ..streams.stream import Stream

__all__ = ["ADDRESS", "Hooks", "close_with_hook", "running_hook"]

#: The index of the address to which the opening hook of this context connects.
ADDRESS: Final[ContextVar[int]] = ContextVar("rxws_address", default=0)

#: The streams that the rotation hook of this context has made; None outside a hook.
_STREAMS: ContextVar[WeakSet[Stream[Any]] | None] = ContextVar("rxws_hook_streams", default=None)


@dataclass(frozen=True, slots=True)
class Hooks(ParseHooks):
    """The hooks of a subclass: how to parse frames, how to connect, and when to rotate."""

    create_ws: Callable[[], Coroutine[Any, Any, object]]
    when2create_new_ws: Callable[[], Coroutine[Any, Any, object]]


@contextmanager
def running_hook() -> Iterator[None]:
    """Return a context manager in which a rotation hook runs. At its end the streams that the hook has made close."""
    streams: WeakSet[Stream[Any]] = WeakSet()
    _STREAMS.set(streams)
    try:
        yield
    finally:
        for stream in list(streams):
            stream.close_nowait()


def close_with_hook(stream: Stream[Any]) -> bool:
    """Close a new stream at the end of the rotation hook that has made it; return whether a hook has made it."""
    streams = _STREAMS.get()
    if streams is not None:
        streams.add(stream)
    return streams is not None
