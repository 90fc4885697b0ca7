"""The base class of views: it subscribes to an Observable, limits the rate of drawing, and stops."""

from __future__ import annotations

import asyncio
import logging
import math
from abc import ABC, abstractmethod
from functools import partial
from typing import Any, Final

from IPython.display import display
from reactivex import Observable

from .. import on_loop
from ..display import on_rerun, shown

__all__ = ["View"]

_LOGGER: Final = logging.getLogger("rxws.jupyter")


class View(ABC):
    """Shows an Observable and updates itself. :func:`live` and :func:`plot` return a view.

    A cell shows the view if the view is the value of its last line. The view continues while other cells run, until
    :meth:`stop`, the end of the Observable, or the next run of the cell that made it. It draws at most ``hz`` times per
    second, and only after new items.

    Attributes:
        count: number of received items.
        draws: number of drawings.
    """

    def __init__(self, observable: Observable[Any], hz: float) -> None:
        if isinstance(hz, bool) or not isinstance(hz, int | float):
            raise TypeError(f"hz must be a positive number of updates a second, not {hz!r}")
        if not 0.0 < hz < math.inf:
            raise ValueError(f"hz must be a positive number of updates a second, not {hz!r}")
        shown = on_loop(observable)
        self._context = shown._context
        self._loop = self._context.loop
        self._interval = 1.0 / hz
        self._drawn_at = -math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._ended = self._loop.create_future()
        self._status = "live"
        self.count = 0
        self.draws = 0
        # A stopped view is replaced, too, because it stays visible until its cell is run again.
        on_rerun(self._replaced)
        # Subscribe last, because items may arrive at once and in any thread.
        self._subscription = shown.subscribe(
            partial(self._context.call, self._take),
            partial(self._context.call, self._failed),
            partial(self._context.call, self._end, "ended"),
        )

    @property
    def is_live(self) -> bool:
        """Whether the view still updates itself."""
        return not self._ended.done()

    def stop(self) -> None:
        """Stop updating; the view stays visible. Idempotent, and callable from any thread."""
        self._context.call(self._end, "stopped")

    def _replaced(self) -> None:
        """Stop, and close the widgets: the new run of the cell has removed the output that showed them."""
        self.stop()
        self._context.call(self._close_widgets)

    def _close_widgets(self) -> None:
        for widget in self._widgets():
            widget.close()

    async def run(self, seconds: float | None = None) -> None:
        """Show the view in this cell, wait for ``seconds``, and stop the view.

        Use it in notebooks that run without a browser, where drawings after the end of the cell are lost. Cancelling
        stops the view, too.

        Args:
            seconds: how long to wait. None means until the Observable ends or :meth:`stop` is called.

        Raises:
            TypeError: ``seconds`` is not a number.
            ValueError: ``seconds`` is negative.
        """
        if seconds is not None:
            if isinstance(seconds, bool) or not isinstance(seconds, int | float):
                raise TypeError(f"seconds must be a number of seconds or None, not {seconds!r}")
            if not seconds >= 0.0:
                raise ValueError(f"seconds must not be negative: {seconds!r}")
        shown = display(self, display_id=True)  # type: ignore[no-untyped-call]
        try:
            await asyncio.wait({self._ended}, timeout=seconds)
        finally:
            self.stop()
            if shown is not None:
                # Display the view again, because the notebook's file does not store later changes of widgets.
                shown.update(self)

    @property
    @abstractmethod
    def widget(self) -> Any:
        """The widget that shows the view, for your own layouts."""

    @abstractmethod
    def _widgets(self) -> list[Any]:
        """Return all widgets that the view has made."""

    @abstractmethod
    def _keep(self, item: Any) -> None:
        """Store an item for the next drawing."""

    @abstractmethod
    def _draw(self) -> None:
        """Draw the stored items."""

    @abstractmethod
    def _show_title(self) -> None:
        """Show only the title."""

    @abstractmethod
    def _still(self) -> dict[str, str]:
        """Return the representation for frontends without widgets."""

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return {**self.widget._repr_mimebundle_(), **self._still()}

    def __repr__(self) -> str:
        return f"<{type(self).__name__.strip('_').lower()}: {self._title()}>"

    def _title(self) -> str:
        return f"{self._status}, {self.count:,} items"

    def _take(self, item: Any) -> None:
        if not self.is_live:
            # The item arrived from another thread, and the view was stopped before this callback ran.
            return
        self._keep(item)
        self.count += 1
        if self._timer is None:
            self._timer = self._loop.call_at(max(self._drawn_at + self._interval, self._loop.time()), self._redraw)

    def _redraw(self) -> None:
        self._timer = None
        self._drawn_at = self._loop.time()
        self.draws += 1
        try:
            self._draw()
        except BaseException as error:
            # The loop's exception handler reports the error. Stop the view, so that later drawings do not repeat it.
            self._status = f"failed: it cannot be drawn ({type(error).__name__})"
            self._dispose()
            self._show_title()
            raise

    def _failed(self, error: Exception) -> None:
        _LOGGER.error("the Observable of a view failed", exc_info=error)
        self._end(f"failed: {shown(error)}")

    def _end(self, status: str) -> None:
        if self.is_live:
            self._status = status
            self._dispose()
            self._redraw()

    def _dispose(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._ended.done():
            self._ended.set_result(None)
        # The attribute does not exist yet if the Observable ends inside subscribe().
        subscription = getattr(self, "_subscription", None)
        if subscription is not None:
            subscription.dispose()
