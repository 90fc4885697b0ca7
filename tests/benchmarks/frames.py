"""The messages, as frames, and the order with which a client requests them."""

from __future__ import annotations

import json
from typing import Final

SYMBOLS: Final = 1_000
TRADE_SIZE: Final = 150
DEPTH_SIZE: Final = 2_000


def symbol(number: int) -> str:
    """Return the symbol of the message with this number."""
    return f"S{number % SYMBOLS:04}USDT"


def trade(number: int) -> str:
    """Return a trade: 150 bytes of JSON."""
    return _padded(
        {"e": "trade", "s": symbol(number), "t": number, "p": "27123.45", "q": "0.01830", "T": 1790000000000 + number},
        TRADE_SIZE,
    )


def array(number: int) -> str:
    """Return a trade as an array of its values, as Kraken and Bitfinex send them: 150 bytes of JSON."""
    values = ["trade", symbol(number), number, "27123.45", "0.01830", 1790000000000 + number]
    text = json.dumps(values, separators=(",", ":"))
    return text[:-1] + ',"' + "-" * (TRADE_SIZE - len(text) - len(',""')) + '"]'


def depth(number: int) -> str:
    """Return an update of an order book: 2,000 bytes of JSON, 38 levels on each side."""
    bids, asks = ([[f"{27123 + side * level}.45", f"{level}.01830"] for level in range(38)] for side in (-1, 1))
    last = 10 * number
    return _padded(
        {"e": "depthUpdate", "E": 1790000000000, "s": symbol(number), "U": last - 9, "u": last, "b": bids, "a": asks},
        DEPTH_SIZE,
    )


def _padded(message: dict[str, object], size: int) -> str:
    text = json.dumps(message, separators=(",", ":"))
    return text[:-1] + ',"x":"' + "-" * (size - len(text) - len(',"x":""')) + '"}'


def frame(payload: bytes) -> bytes:
    """Return an unmasked text frame (RFC 6455 §5.2) of a payload of 126 to 65,535 bytes."""
    return b"\x81\x7e" + len(payload).to_bytes(2, "big") + payload


def order(count: int, kind: str = "trade", rate: float = 0, first: int | None = None) -> str:
    """Return the message that requests ``count`` frames: ``rate`` a second, or (0) as fast as possible.

    With ``first``, the number of the first frame, all frames differ. Otherwise they are the same again and again.
    """
    return json.dumps({"count": count, "kind": kind, "rate": rate, "first": first})
