"""The delays before retries. They grow, they are random, and they have an upper limit."""

from __future__ import annotations

import random
from collections.abc import Iterator

__all__ = ["default_delays"]


def default_delays(*, first: float = 0.5, longest: float = 60.0) -> Iterator[float]:
    """Yield the seconds to wait before each retry: 0, then uniform(0, min(longest, first·2ⁿ)) for n = 0, 1, 2 …

    The iterator is endless. These are the "full jitter" delays of "Exponential Backoff And Jitter" (AWS Architecture
    Blog, 2015). They prevent clients that lost the same server from reconnecting at the same time.

    Args:
        first: the upper limit of the second delay, in seconds.
        longest: the upper limit of all delays, in seconds.

    Example::

        delays = default_delays()
        assert next(delays) == 0
    """
    yield 0.0
    ceiling = first
    while True:
        yield random.uniform(0.0, ceiling)
        ceiling = min(longest, 2 * ceiling)
