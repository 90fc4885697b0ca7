"""What happened: events, the reporter that counts, logs and emits them, redaction of secrets."""

from .cancellation import FAILURES
from .events import (
    CallbackFailed,
    Connected,
    Disconnected,
    Event,
    Gap,
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
)
from .redaction import printable, redact, redact_url
from .reporter import Reporter

__all__ = [
    "FAILURES",
    "CallbackFailed",
    "Connected",
    "Disconnected",
    "Event",
    "Gap",
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
    "SubscriptionFailed",
    "printable",
    "redact",
    "redact_url",
]
