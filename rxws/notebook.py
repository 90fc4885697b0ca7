"""The habits of notebooks: a cell is run again, and what its last run left behind is in the way.

Outside an IPython kernel nothing here does anything.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

__all__ = ["in_notebook", "on_rerun"]


@dataclass(slots=True)
class _Run:
    """One run of a cell, and how to take away what it left behind."""

    number: str
    left: dict[object, Callable[[], object]] = field(default_factory=dict)


_RUNS: Final[dict[str, _Run]] = {}
"""The last run of each cell that left something behind."""


def in_notebook() -> bool:
    """Return whether this runs in an IPython kernel."""
    return _kernel() is not None


def on_rerun(dispose: Callable[[], object]) -> Callable[[], None]:
    """Call ``dispose`` when the notebook's cell that runs now is run again. Outside a notebook it is never called.

    A cell that is run again makes anew what it made; this takes away what it made before. rxws does so with the
    handlers that a cell adds. It is called when the next run of the cell gets to any ``on_rerun``, the latest first.

    Args:
        dispose: a plain function; what it raises is raised there, when all others have been called.

    Returns:
        A function that calls this off: nothing is left to be taken away. Idempotent.

    Example::

        server = serve()
        on_rerun(server.close)
    """
    kernel = _kernel()
    if kernel is None:
        return lambda: None
    parent = kernel.get_parent()
    number = parent.get("header", {}).get("msg_id", "")
    # JupyterLab, VS Code and others name the cell; of others only its code is known.
    cell = parent.get("metadata", {}).get("cellId") or parent.get("content", {}).get("code", "")
    former = _RUNS.get(cell)
    run = _RUNS[cell] = former if former is not None and former.number == number else _Run(number)
    key = object()
    run.left[key] = dispose
    if former is not None and former is not run:
        with contextlib.ExitStack() as stack:
            for each in former.left.values():
                stack.callback(each)
    return lambda: run.left.pop(key, None) and None


def _kernel() -> Any:
    # Not imported: a program pays for what it uses, and a kernel has it.
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    kernel = getattr(shell, "kernel", None)
    return kernel if hasattr(kernel, "get_parent") else None
