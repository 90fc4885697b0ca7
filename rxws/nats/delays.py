"""Delays between attempts to reach a broker. They are short, because users run their own brokers. No I/O."""

from __future__ import annotations

import random
from collections.abc import Iterator

__all__ = ["broker_delays"]


def broker_delays() -> Iterator[float]:
    """Yield the seconds to wait before each retry: 0, then uniform(0, min(2, 0.1·2ⁿ)) for n = 0, 1, 2 …"""
    yield 0.0
    ceiling = 0.1
    while True:
        yield random.uniform(0.0, ceiling)
        ceiling = min(2.0, 2 * ceiling)
