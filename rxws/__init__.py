"""rxws: one websocket as one hot Observable, kept alive for weeks, serving unlimited streams.

The way of a message::

    frames          one open websocket gives its frames: they are pushed, or asked for
    reader          takes each frame, has it parsed, hands it on: the hot path, in one loop
    delivery        what a frame meets besides: answers, rejections, those who watch
    router          messages find who wants them (filters: what a filter means; index: who wants it; unmatched: nobody)
    stream          a filter and a buffer: async for, subscribe, pipe (resync, changes: after a snapshot; flow: whether
                    messages can come; snapshot: in a notebook's cell)
    handlers        functions and coroutine functions

What keeps it flowing::

    rotation        the Observable of live connections: which one comes, and when
    opener          opens one and watches it (connection: its life; watchdog: silence; journal: what is told of it)
    overlap         two at once: hold, match, release (handover: when it is proven, what is a copy)
    backoff         how long to wait (failures: why a connection ended; which are worth a retry)

What goes the other way::

    sending         on which connection, in whose turn (turns, limit), and what each new one needs
    subscriber      what is subscribed on one connection (subscriptions: what is wanted)

What it is built on::

    observable      AsyncObservable: an Observable at home on an event loop (scheduler, fluent, buffer); hot: fan-out
    events          the states, the events, the statistics; errors: the exceptions
    reporting       the log, the counters, the events (redaction: no secrets in them)
    options         what the constructors take (seconds, callables: whether it can be that; codec: text of what is sent)
    notebook        whether this runs in one, and what to do when a cell is run again

What users hold: ``feed`` wires all that, ``closing`` ends it, ``interface`` and ``websocket`` are its two public forms.
The edges (``rxws.demo``, ``rxws.testing``, ``rxws.operators``, ``rxws.recording``, ``rxws.jupyter``, the command line)
use what these modules offer one another; the core uses none of them.
"""

import importlib
from typing import TYPE_CHECKING, Any

from .errors import ConnectFailed, FeedClosed, RxwsError, SendFailed, SendTimeout, StreamOverflow
from .interface import AsyncWebsocketStreamInterface
from .messages.dispatcher import Many
from .messages.filters import Filters
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
    # What a type checker does not know it would take for anything at all.
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
        # The edges are loaded when they are asked for: a program pays for what it uses.
        if name in _EDGES:
            return importlib.import_module(f"{__name__}.{name}")
        if name in _OF_RECORDING:
            return getattr(importlib.import_module(f"{__name__}.recording"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_EDGES, *_OF_RECORDING})
