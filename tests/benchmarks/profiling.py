"""Samples where processor time is spent: the module of the innermost Python frame, at each millisecond of it."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

__all__ = ["Profile", "profile", "window"]

#: Seconds of processor time between two samples.
INTERVAL: Final = 0.001

_ROOT: Final = Path(__file__).resolve().parents[2]


class Profile:
    """The number of samples in each module. C code counts for the Python code that calls it.

    Attributes:
        samples: the number of samples by module: a package, or a module of rxws.
    """

    def __init__(self) -> None:
        self.samples: Counter[str] = Counter()
        self._names: dict[str, str] = {}

    def _sample(self, _signal: int, frame: FrameType | None) -> None:
        if frame is not None:
            path = frame.f_code.co_filename
            if path not in self._names:
                self._names[path] = _module_of(path)
            self.samples[self._names[path]] += 1

    def table(self, cost: float, unit: str) -> str:
        """Return the cost by module, the greatest first, as lines. Modules below 1 % are one line."""
        total = self.samples.total()
        if not total:
            return "  no samples"
        shares = {module: count / total for module, count in self.samples.most_common()}
        shown = {module: share for module, share in shares.items() if share >= 0.01}
        if len(shown) < len(shares):
            shown["others"] = 1 - sum(shown.values())
        return "\n".join(f"  {module:32} {share * cost:8.2f} {unit} {share:6.1%}" for module, share in shown.items())


def _module_of(path: str) -> str:
    """Return the module of rxws or of the tests that is in a file, or else the package."""
    parts = Path(path).with_suffix("").parts
    if Path(path).is_relative_to(_ROOT) and "site-packages" not in parts:
        return ".".join(Path(path).relative_to(_ROOT).with_suffix("").parts)
    if "site-packages" in parts:
        return parts[parts.index("site-packages") + 1]
    # A module of Python's library, such as asyncio/events.
    return parts[-2] if parts[-2:-1] and not parts[-2].startswith("python") else parts[-1]


_active: Profile | None = None


@contextmanager
def profile() -> Iterator[Profile]:
    """Collect the samples of all windows within the block."""
    global _active
    _active = Profile()
    try:
        yield _active
    finally:
        _active = None


@contextmanager
def window() -> Iterator[None]:
    """The measured part of a contender: outside of :func:`profile` it does nothing."""
    if _active is None:
        yield
        return
    before = signal.signal(signal.SIGPROF, _active._sample)
    signal.setitimer(signal.ITIMER_PROF, INTERVAL, INTERVAL)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
