"""The receivers of messages, streams and handlers, with resync, availability and the report of unmatched filters."""

from .availability import ALWAYS_AVAILABLE, Availability
from .backfill import Backfilled
from .handlers import CoroutineHandler
from .latest import LatestTable
from .resync import Resynced
from .sequence import Snapshot
from .stream import Stream
from .stream_options import StreamOptions

__all__ = [
    "ALWAYS_AVAILABLE",
    "Availability",
    "Backfilled",
    "CoroutineHandler",
    "LatestTable",
    "Resynced",
    "Snapshot",
    "Stream",
    "StreamOptions",
]
