"""live: a plain table of the last items."""

from __future__ import annotations

from collections import deque
from typing import Any

import ipywidgets  # type: ignore[import-untyped]
from reactivex import Observable

from ..checks import check_count
from ..display import mimebundle
from .columns import Columns
from .view import View

__all__ = ["live"]


class _Live(View):
    def __init__(self, observable: Observable[Any], rows: int, hz: float) -> None:
        check_count("rows", rows)
        self._items: deque[Any] = deque(maxlen=rows)
        self._columns = Columns()
        self._widget = ipywidgets.HTML()
        super().__init__(observable, hz)

    @property
    def widget(self) -> Any:
        return self._widget

    def _keep(self, item: Any) -> None:
        self._items.append(item)

    def _draw(self) -> None:
        self._widget.value = self._still()["text/html"]

    def _show_title(self) -> None:
        self._widget.value = mimebundle(self._title(), {}, [])["text/html"]

    def _widgets(self) -> list[Any]:
        return [self._widget, self._widget.layout, self._widget.style]

    def _still(self) -> dict[str, str]:
        return mimebundle(self._title(), {}, reversed(self._items), self._columns.look)


def live(observable: Observable[Any], rows: int = 20, hz: float = 10.0) -> View:
    """Show the last items of an Observable in a table that updates itself, the newest first.

    Args:
        observable: ``ws.messages``, a stream, or another Observable.
        rows: maximum number of items in the table.
        hz: maximum number of updates per second.

    Returns:
        The view. A cell shows it if the view is the value of its last line.

    Raises:
        ValueError: ``rows`` or ``hz`` is not positive.
        TypeError: ``observable`` is not an Observable, or ``rows`` or ``hz`` is not a number.
        RuntimeError: there is no running event loop.

    Example::

        view = live(ws.stream_filter([{"e": "trade"}]))
        view
    """
    return _Live(observable, rows, hz)
