"""Events, the reporter that counts, logs and emits them, and the redaction of secrets."""

from .cancellation import EXITS, FAILURES, RAISED
from .events import (
    CallbackFailed,
    Connected,
    Disconnected,
    Event,
    Gap,
    Lagging,
    LatencyExceeded,
    LatencyRecovered,
    LineJoined,
    LineLost,
    MessageRejected,
    Overflowed,
    Quiet,
    RecordingFailed,
    RelayFailed,
    Resumed,
    Rotated,
    SubscriptionEnded,
    SubscriptionFailed,
)
from .quoting import quoted
from .redaction import printable, redact
from .reporter import Reporter
from .state import Latency, LineStatistics, ShardStatistics, State, Statistics

__all__ = [
    "EXITS",
    "FAILURES",
    "RAISED",
    "CallbackFailed",
    "Connected",
    "Disconnected",
    "Event",
    "Gap",
    "Lagging",
    "Latency",
    "LatencyExceeded",
    "LatencyRecovered",
    "LineJoined",
    "LineLost",
    "LineStatistics",
    "MessageRejected",
    "Overflowed",
    "Quiet",
    "RecordingFailed",
    "RelayFailed",
    "Reporter",
    "Resumed",
    "Rotated",
    "ShardStatistics",
    "State",
    "Statistics",
    "SubscriptionEnded",
    "SubscriptionFailed",
    "printable",
    "quoted",
    "redact",
]
