"""Observables on an event loop: scheduler, buffer, AsyncObservable, and hot Observables."""

from .buffer import DEFAULT_MAXBYTES, DEFAULT_MAXSIZE, DROP_REPORT_INTERVAL, LAG_MARKS, Buffer, Overflow
from .loop_context import LoopContext
from .observable import AsyncObservable, on_loop

__all__ = [
    "DEFAULT_MAXBYTES",
    "DEFAULT_MAXSIZE",
    "DROP_REPORT_INTERVAL",
    "LAG_MARKS",
    "AsyncObservable",
    "Buffer",
    "LoopContext",
    "Overflow",
    "on_loop",
]
