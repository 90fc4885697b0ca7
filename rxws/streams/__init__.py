"""The receivers of messages: streams and handlers, and what they are combined with."""

from .availability import STEADY, Flow
from .handlers import CoroutineHandler
from .resync import Resynced
from .sequence import Snapshot
from .stream import Stream

__all__ = [
    "STEADY",
    "CoroutineHandler",
    "Flow",
    "Resynced",
    "Snapshot",
    "Stream",
]
