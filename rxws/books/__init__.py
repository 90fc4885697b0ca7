"""Order books, kept from snapshots and changes.

``stream.resync`` and a venue's own snapshots say what to apply; an :class:`OrderBook` holds the levels in order.
"""

from .order_book import ChecksumMismatch, Levels, OrderBook
from .side import Side

__all__ = ["ChecksumMismatch", "Levels", "OrderBook", "Side"]
