"""Order books, kept from snapshots and changes.

An :class:`OrderBook` keeps the levels in order. It applies the items of ``stream.resync``, or a venue's own snapshots.
"""

from .order_book import ChecksumMismatch, Levels, OrderBook
from .side import Side

__all__ = ["ChecksumMismatch", "Levels", "OrderBook", "Side"]
