"""rxws: one websocket as one hot Observable, kept alive for weeks, serving unlimited streams."""

from .delivery import Many
from .errors import ConnectFailed, FeedClosed, RxwsError, SendFailed, SendTimeout, StreamOverflow
from .events import (
    Connected,
    Disconnected,
    Event,
    Gap,
    HandlerFailed,
    Lagging,
    MessageRejected,
    Overflowed,
    Quiet,
    Rotated,
    State,
    Statistics,
)
from .interface import AsyncWebsocketStreamInterface
from .observable import AsyncObservable, on_loop
from .stream import Stream
from .websocket import ReactiveWebSocket

__all__ = [
    "AsyncObservable",
    "AsyncWebsocketStreamInterface",
    "ConnectFailed",
    "Connected",
    "Disconnected",
    "Event",
    "FeedClosed",
    "Gap",
    "HandlerFailed",
    "Lagging",
    "Many",
    "MessageRejected",
    "Overflowed",
    "Quiet",
    "ReactiveWebSocket",
    "Rotated",
    "RxwsError",
    "SendFailed",
    "SendTimeout",
    "State",
    "Statistics",
    "Stream",
    "StreamOverflow",
    "on_loop",
]

__version__ = "0.1.0"
