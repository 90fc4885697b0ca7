"""The receivers of messages: streams and handlers, and what they are combined with."""

from .availability import ALWAYS_AVAILABLE, Availability
from .handlers import CoroutineHandler
from .resync import Resynced
from .sequence import Snapshot
from .stream import Stream
from .stream_options import StreamOptions

__all__ = ["ALWAYS_AVAILABLE", "Availability", "CoroutineHandler", "Resynced", "Snapshot", "Stream", "StreamOptions"]
