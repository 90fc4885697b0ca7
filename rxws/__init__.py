"""rxws: one websocket as one hot Observable, kept alive for weeks, that serves any number of streams.

The folders, from the ground up. Each folder imports only from folders above it in this list. Messages and streams do
not depend on sockets, and connections do not depend on streams::

    reporting       events, counters, the log, and the redaction of secrets in them
    observables     Observables on an event loop: scheduler, buffer, AsyncObservable, hot fan-out
    messages        the way of a message: frames, reader, dispatcher, router, index
    display         feeds and streams as notebook cells show them
    streams         the receivers of messages: streams, handlers, synchronized order books
    connections     one websocket, or two during a rotation: open, watch, reconnect, rotate, overlap
    sending         the other direction: sent messages and subscribed channels
    feed            the wiring of all parts, requests, the shutdown

The modules beside the folders are the two public classes of a feed, ``interface`` and ``websocket``; their
``options``; and modules that every folder may import: ``errors``, ``callables``, ``checks``, ``codec``, ``delays``. The
edges ``operators``, ``recording``, ``jupyter``, ``testing``, ``demo`` and ``cli`` import only what the folders export.
The core imports no edge.

The way of a message::

    messages.frames ─► messages.reader ─► messages.router ─► messages.index ─► streams.stream_receiver
                                                                                     │
                         async for, subscribe, pipe  ◄─ streams.stream ◄─ observables.buffer

Ten questions, each with the module and the name that answer it::

    Where does a frame enter?                       messages.frames: frames_of
    Where is it parsed?                             messages.reader: Reader
    Where is a message matched?                     messages.index: Index
    Who drops a message, and where is it counted?   observables.buffer: Buffer (a full stream), connections.overlap:
                                                    Overlap (a copy), messages.dispatcher: FrameDispatcher (a frame that
                                                    cannot be parsed), connections.rotation: HELD_MAX (a flood before
                                                    all is subscribed); counted in reporting.reporter: Counters
    What holds messages back in a rotation?         connections.overlap: Overlap, by the rules of connections.handover:
                                                    Handover; messages.backlog: Backlog releases them
    What makes a rotation start?                    connections.rotation: Signal
    Who decides that a connection is lost?          connections.connection: Connection (its reader ended),
                                                    connections.watchdog: Watchdog (silence); connections.failures:
                                                    diagnose says why
    Where does a Gap come from?                     connections.connection_reporter: ConnectionReporter
    In which order are messages sent?               connections.send_queue: Priority
    What happens at exit()?                         feed.shutdown: Shutdown
"""

import importlib
from typing import TYPE_CHECKING, Any

from .errors import ConnectFailed, FeedClosed, RxwsError, SendFailed, SendTimeout, StreamOverflow
from .interface import AsyncWebsocketStreamInterface
from .messages.filters import Filters
from .messages.hooks import Many
from .observables.hot import CurrentObservable
from .observables.observable import AsyncObservable, on_loop
from .reporting.events import (
    CallbackFailed,
    Connected,
    Disconnected,
    Event,
    Gap,
    HandlerFailed,
    Lagging,
    MessageRejected,
    NothingMatched,
    Overflowed,
    Quiet,
    RecordingFailed,
    Rotated,
    State,
    Statistics,
    SubscriptionFailed,
    Unacknowledged,
)
from .streams.resync import Resynced
from .streams.sequence import Snapshot
from .streams.stream import Stream
from .websocket import ReactiveWebSocket

__all__ = [
    "AsyncObservable",
    "AsyncWebsocketStreamInterface",
    "CallbackFailed",
    "ConnectFailed",
    "Connected",
    "CurrentObservable",
    "Disconnected",
    "Event",
    "FeedClosed",
    "Filters",
    "Gap",
    "HandlerFailed",
    "Lagging",
    "Many",
    "MessageRejected",
    "NothingMatched",
    "Overflowed",
    "Quiet",
    "ReactiveWebSocket",
    "RecordingFailed",
    "Resynced",
    "Rotated",
    "RxwsError",
    "SendFailed",
    "SendTimeout",
    "Snapshot",
    "State",
    "Statistics",
    "Stream",
    "StreamOverflow",
    "SubscriptionFailed",
    "Unacknowledged",
    "on_loop",
]

__version__ = "0.1.0"

_EDGES = frozenset({"demo", "jupyter", "operators", "recording", "testing"})
_OF_RECORDING = frozenset({"read", "record", "replay"})


if TYPE_CHECKING:
    # Without these imports a type checker would see ``Any``.
    from . import demo as demo
    from . import jupyter as jupyter
    from . import operators as operators
    from . import recording as recording
    from . import testing as testing
    from .recording import read as read
    from .recording import record as record
    from .recording import replay as replay
else:

    def __getattr__(name: str) -> Any:
        # An edge is imported at its first use, so that programs without it do not pay for it.
        if name in _EDGES:
            return importlib.import_module(f"{__name__}.{name}")
        if name in _OF_RECORDING:
            return getattr(importlib.import_module(f"{__name__}.recording"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_EDGES, *_OF_RECORDING})
