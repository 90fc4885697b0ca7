"""Clean-up when a notebook cell is run again: the objects of its last run are disposed.

Outside an IPython kernel these functions do nothing.
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
    """One run of a cell, and the functions that dispose its objects."""

    number: str
    left: dict[object, Callable[[], object]] = field(default_factory=dict)


#: The last run of each cell that has registered a function.
_RUNS: Final[dict[str, _Run]] = {}


def in_notebook() -> bool:
    """Return whether this runs in an IPython kernel."""
    return _shell() is not None


def on_rerun(dispose: Callable[[], object]) -> Callable[[], None]:
    """Call ``dispose`` when the running notebook cell is run again. Outside a notebook it is never called.

    A cell that is run again makes its objects a second time, so the objects of its last run must be disposed. rxws does
    this for the handlers that a cell adds, for views, and for the objects of :func:`rxws.jupyter.keep`, but not for
    subscriptions: register their ``dispose`` here. The functions are called in reverse order, before the next run of
    the cell starts.

    JupyterLab, Notebook 7 and VS Code identify the cell that they run. Other front ends (nbconvert, a console) send
    only its code. With these, an edited cell is a new cell, and the objects of its last run stay; cells with equal code
    are one cell, and each disposes the objects of the other. Objects that a feed's handler makes belong to the cell
    that made the feed.

    Args:
        dispose: a plain function. An exception is shown above the cell after all other functions were called.

    Returns:
        A function that cancels the registration. Idempotent.

    Example::

        subscription = ws.messages.subscribe(print)
        on_rerun(subscription.dispose)
    """
    shell = _shell()
    if shell is None:
        return lambda: None
    # IPython registers the same function only once.
    shell.events.register("pre_run_cell", _take_away)
    cell, number = _running(shell)
    # Tasks of a former run register here too. The next run disposes their objects with the others.
    run = _RUNS.setdefault(cell, _Run(number))
    key = object()
    run.left[key] = dispose
    return lambda: run.left.pop(key, None) and None


def _take_away(_: object) -> None:
    """Dispose the objects of the cell's last run. IPython calls it before each run of a cell."""
    shell = _shell()
    if shell is None:
        return
    cell, number = _running(shell)
    former = _RUNS.get(cell)
    # ``%run`` of a notebook inside a cell is part of the same run.
    if former is not None and former.number != number:
        del _RUNS[cell]
        with contextlib.ExitStack() as stack:
            for each in former.left.values():
                stack.callback(each)


def _running(shell: Any) -> tuple[str, str]:
    """Return the identifiers of the running cell and of this run."""
    parent = shell.kernel.get_parent()
    # A cell without an identifier is identified by its code.
    cell = parent.get("metadata", {}).get("cellId") or parent.get("content", {}).get("code", "")
    return cell, parent.get("header", {}).get("msg_id", "")


def _shell() -> Any:
    # IPython is not imported here, because a kernel has imported it already and other programs do not need it.
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell if hasattr(getattr(shell, "kernel", None), "get_parent") else None
