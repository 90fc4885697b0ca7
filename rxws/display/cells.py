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
    return _shell() is not None


def on_rerun(dispose: Callable[[], object]) -> Callable[[], None]:
    """Call ``dispose`` when the notebook's cell that runs now is run again. Outside a notebook it is never called.

    A cell that is run again makes anew what it made, or, edited, makes it no more; this takes away what it made before.
    rxws does so with the handlers that a cell adds, with views, and with what :func:`rxws.jupyter.keep` keeps.
    Subscriptions are the cell's own business: they need this. It is called before the next run of the cell begins, the
    latest first.

    JupyterLab, Notebook 7 and VS Code name the cell that they run. Of a cell of others (nbconvert, a console) only its
    code is known: once edited it is another cell, and what its last run left behind stays; and cells whose code is the
    same are one cell, of which each takes away what the other left. What a feed's handler makes in its turn belongs to
    the cell that made the feed.

    Args:
        dispose: a plain function; what it raises is shown above the cell, when all others have been called.

    Returns:
        A function that calls this off: nothing is left to be taken away. Idempotent.

    Example::

        subscription = ws.messages.subscribe(print)
        on_rerun(subscription.dispose)
    """
    shell = _shell()
    if shell is None:
        return lambda: None
    # Once, however often it is registered.
    shell.events.register("pre_run_cell", _take_away)
    cell, number = _running(shell)
    # What a task of a former run leaves behind goes with the rest, at the next run.
    run = _RUNS.setdefault(cell, _Run(number))
    key = object()
    run.left[key] = dispose
    return lambda: run.left.pop(key, None) and None


def _take_away(_: object) -> None:
    """Is called by IPython before a cell is run."""
    shell = _shell()
    if shell is None:
        return
    cell, number = _running(shell)
    former = _RUNS.get(cell)
    # A run within the same run is no other: ``%run`` of a notebook in a cell.
    if former is not None and former.number != number:
        del _RUNS[cell]
        with contextlib.ExitStack() as stack:
            for each in former.left.values():
                stack.callback(each)


def _running(shell: Any) -> tuple[str, str]:
    """Return which cell runs now, and which run of it this is."""
    parent = shell.kernel.get_parent()
    # Of a cell that is not named only its code is known.
    cell = parent.get("metadata", {}).get("cellId") or parent.get("content", {}).get("code", "")
    return cell, parent.get("header", {}).get("msg_id", "")


def _shell() -> Any:
    # Not imported: a program pays for what it uses, and a kernel has it.
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell if hasattr(getattr(shell, "kernel", None), "get_parent") else None
