"""What happened: events, the reporter that counts, logs and emits them, redaction of secrets."""

from .events import (
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
    Unacknowledged,
)
from .redaction import printable, redact, redact_url
from .reporter import FAILURES, Reporter

__all__ = [
    "FAILURES",
    "Connected",
    "Disconnected",
    "Event",
    "Gap",
    "HandlerFailed",
    "Lagging",
    "MessageRejected",
    "NothingMatched",
    "Overflowed",
    "Quiet",
    "RecordingFailed",
    "Reporter",
    "Rotated",
    "State",
    "Statistics",
    "Unacknowledged",
    "printable",
    "redact",
    "redact_url",
]
