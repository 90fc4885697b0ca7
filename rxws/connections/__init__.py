"""The connections of a feed: opening, watching, backoff after a loss, rotation with an overlap."""

from .connection import Connection
from .coverage import Coverage, Hole, Interval, Proof
from .ledger import Continuity, Ledger

__all__ = ["Connection", "Continuity", "Coverage", "Hole", "Interval", "Ledger", "Proof"]
