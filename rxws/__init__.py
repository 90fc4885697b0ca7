"""rxws: one websocket as one hot Observable, kept alive for weeks, that serves any number of streams.

The public names::

    Feeds
        ReactiveWebSocket               a feed made from a URL
        AsyncWebsocketStreamInterface   a feed made from a subclass with three hooks
        Latency                         a snapshot of the time from the sending of messages to their arrival
        LineStatistics                  a snapshot of one line of a feed that has several
        ShardStatistics                 a snapshot of one shard of a feed with ``channels_per_connection``
        Heartbeat                       a message that is sent regularly, and its answer
        Rate                            a rate limit that feeds share
        State                           whether a feed is connecting, connected, rotating, waiting, closed or failed
        Statistics                      a snapshot of a feed's counters
        Continuity                      the intervals in which nothing was missing, and the gaps
        Interval                        a time in which nothing was missing
    Messages
        Stream                          the messages that match a filter, kept until they are taken
        Filters                         the type of a filter
        one_of                          a value of a filter: several values
        starts_with                     a value of a filter: strings that start with a text
        between                         a value of a filter: numbers in a range
        present                         a value of a filter: any value
        AsyncObservable                 an Observable of reactivex, bound to the event loop, for pipe and async for
        CurrentObservable               an AsyncObservable that has a current value
        on_loop                         makes an AsyncObservable from any Observable
        Many                            several messages in one frame
        LatestTable                     the newest message of each key
        Backfilled                      the messages of a stream, with those that the feed has missed
        Resynced                        the changes of a stream, together with their snapshots
        Snapshot                        a snapshot among those changes
    Recordings
        record                          records a feed in a file
        replay                          plays a recording as a feed
        read                            iterates over the entries of a recording
    Events
        Event                           the base class of all events
        Connected                       a connection is open
        Disconnected                    a connection ended, or could not be opened
        Resumed                         a connection that replaced a lost one begins where that one ended
        Rotated                         a planned rotation is complete
        Gap                             messages may be missing
        Quiet                           the connection is open, but no message arrives
        MessageRejected                 a frame could not be parsed
        CallbackFailed                  a function of the user raised an exception
        Lagging                         many messages wait for a consumer
        LatencyExceeded                 a message arrived too long after it was sent
        LatencyRecovered                messages arrive in time again
        LineJoined                      a line brings the same messages as the others
        LineLost                        a line no longer brings the same messages as the others
        LoopBlocked                     a function kept the event loop from running anything else
        Overflowed                      a full buffer dropped messages, or ended its stream
        NothingMatched                  no message matched the filter of a stream
        SubscriptionEnded               the server ended a subscription
        SubscriptionFailed              the server refused or did not answer a subscription
        RecordingFailed                 a recording stopped
        RelayFailed                     a relay lost its broker, or could not relay a message
        HandlerFailed                   the former name of CallbackFailed
        Unacknowledged                  the former name of SubscriptionFailed
    Errors
        RxwsError                       the base class of all errors
        ConnectFailed                   the feed has failed
        FeedClosed                      the feed is closed
        SendFailed                      the connection was lost while a message was sent, or before its reply
        SendTimeout                     a message could not be sent in time
        StreamOverflow                  a consumer was too slow for its stream
    Modules
        operators                       operators for feeds that reactivex does not have
        books                           order books, kept from snapshots and changes
        recording                       the entries of recordings
        demo                            an exchange on this machine, for examples
        testing                         a server that fails on command
        jupyter                         live tables and charts, with the extra jupyter
        nats                            a relay and a feed over NATS JetStream, with the extra nats
        picows                          connections that picows receives in compiled code, with the extra picows
        prometheus                      metrics, with the extra prometheus

The folders, lowest layer first. Each folder imports only from folders above it in this list. Messages and streams do
not depend on sockets, and connections do not depend on streams::

    reporting       events, counters, the log, and the redaction of secrets in them
    observables     Observables on an event loop: scheduler, buffer, AsyncObservable, hot fan-out
    messages        the way of a message: frames, reader, dispatcher, router, index
    display         feeds and streams as notebook cells show them
    streams         the receivers of messages: streams, handlers, synchronized order books
    connections     a line: one websocket that is kept alive. Open, watch, reconnect, rotate, overlap
    sending         the other direction: sent messages and subscribed channels
    feed            the wiring of all parts, requests, the shutdown

The modules beside the folders are the two public classes of a feed, ``interface`` and ``websocket``; their base,
``consuming``, and their ``options``; and modules that every folder may import: ``errors``, ``callables``, ``checks``,
``codec``, ``delays``, ``heartbeat``, ``rate_limit``. The edges ``operators``, ``books``, ``recording``, ``jupyter``,
``nats``, ``picows``, ``prometheus``, ``testing``, ``demo`` and ``cli`` import only what the folders export. The core
imports no edge.

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
                                                    cannot be parsed), connections.overlap: HELD_MAX (a flood before
                                                    all is subscribed); counted in reporting.reporter: Counters
    What holds messages back in a rotation?         connections.overlap: Overlap, by the rules of connections.matching:
                                                    Matcher; messages.backlog: Backlog releases them
    What makes a rotation start?                    connections.line: Signal
    Who decides that a connection is lost?          connections.connection: Connection (its reader ended),
                                                    connections.watchdog: watch (silence); connections.failures:
                                                    diagnose says why
    Where does a Gap come from?                     connections.loss_reporter: LossReporter (a loss),
                                                    connections.overlap: Overlap (a rotation),
                                                    messages.dispatcher: FrameDispatcher (the parse hook)
    In which order are messages sent?               connections.send_queue: Priority
    What happens at exit()?                         feed.shutdown: Shutdown
"""

import importlib
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from .connections.coverage import Interval
from .connections.ledger import Continuity
from .errors import ConnectFailed, FeedClosed, RxwsError, SendFailed, SendTimeout, StreamOverflow
from .heartbeat import Heartbeat
from .interface import AsyncWebsocketStreamInterface
from .messages.conditions import between, one_of, present, starts_with
from .messages.filters import Filters
from .messages.hooks import Many
from .observables.hot import CurrentObservable
from .observables.observable import AsyncObservable, on_loop
from .rate_limit import Rate
from .reporting.events import (
    CallbackFailed,
    Connected,
    Disconnected,
    Event,
    Gap,
    HandlerFailed,
    Lagging,
    LatencyExceeded,
    LatencyRecovered,
    LineJoined,
    LineLost,
    LoopBlocked,
    MessageRejected,
    NothingMatched,
    Overflowed,
    Quiet,
    RecordingFailed,
    RelayFailed,
    Resumed,
    Rotated,
    SubscriptionEnded,
    SubscriptionFailed,
    Unacknowledged,
)
from .reporting.state import Latency, LineStatistics, ShardStatistics, State, Statistics
from .streams.backfill import Backfilled
from .streams.latest import LatestTable
from .streams.resync import Resynced
from .streams.sequence import Snapshot
from .streams.stream import Stream
from .websocket import ReactiveWebSocket

__all__ = [
    "AsyncObservable",
    "AsyncWebsocketStreamInterface",
    "Backfilled",
    "CallbackFailed",
    "ConnectFailed",
    "Connected",
    "Continuity",
    "CurrentObservable",
    "Disconnected",
    "Event",
    "FeedClosed",
    "Filters",
    "Gap",
    "HandlerFailed",
    "Heartbeat",
    "Interval",
    "Lagging",
    "Latency",
    "LatencyExceeded",
    "LatencyRecovered",
    "LatestTable",
    "LineJoined",
    "LineLost",
    "LineStatistics",
    "LoopBlocked",
    "Many",
    "MessageRejected",
    "NothingMatched",
    "Overflowed",
    "Quiet",
    "Rate",
    "ReactiveWebSocket",
    "RecordingFailed",
    "RelayFailed",
    "Resumed",
    "Resynced",
    "Rotated",
    "RxwsError",
    "SendFailed",
    "SendTimeout",
    "ShardStatistics",
    "Snapshot",
    "State",
    "Statistics",
    "Stream",
    "StreamOverflow",
    "SubscriptionEnded",
    "SubscriptionFailed",
    "Unacknowledged",
    "between",
    "on_loop",
    "one_of",
    "present",
    "starts_with",
]

__version__ = "0.1.0"

_EDGES = frozenset({"books", "demo", "jupyter", "nats", "operators", "picows", "prometheus", "recording", "testing"})
_OF_RECORDING = frozenset({"read", "record", "replay"})
_REQUIREMENTS = {
    "jupyter": ("IPython", "bqplot", "ipywidgets", "numpy"),
    "nats": ("nats",),
    "picows": ("picows",),
    "prometheus": ("prometheus_client",),
}


if TYPE_CHECKING:
    # Without these imports a type checker would see ``Any``.
    from . import books as books
    from . import demo as demo
    from . import jupyter as jupyter
    from . import nats as nats
    from . import operators as operators
    from . import picows as picows
    from . import prometheus as prometheus
    from . import recording as recording
    from . import testing as testing
    from .recording import read as read
    from .recording import record as record
    from .recording import replay as replay
else:

    def __getattr__(name: str) -> Any:
        # An edge is imported at its first use, so that programs that do not use it start faster.
        if name in _EDGES:
            return importlib.import_module(f"{__name__}.{name}")
        if name in _OF_RECORDING:
            return getattr(importlib.import_module(f"{__name__}.recording"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    # help() and pydoc load each listed name, so edges whose extra is not installed must not be listed.
    missing = {edge for edge, packages in _REQUIREMENTS.items() if not all(map(find_spec, packages))}
    own = {name for name in globals() if name.startswith("__")}
    return sorted({*own, *__all__, *_OF_RECORDING, *(_EDGES - missing)})
