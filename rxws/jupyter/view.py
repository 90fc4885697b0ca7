"""A view: shows an Observable, is drawn anew so often and no oftener, and stops."""

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

__all__ = ["View", "check_count"]

_LOGGER: Final = logging.getLogger("rxws.jupyter")


class View(ABC):
    """Something that shows an Observable and updates itself: what :func:`live` and :func:`plot` return.

    It is shown by the cell whose last line it is, and goes on while other cells run, until :meth:`stop`, the end of the
    sequence, or the next run of the cell that made it. It never draws more than ``hz`` times a second, nor when nothing
    came.

    Attributes:
        count: how many items came.
        draws: how many times it was drawn.
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
        # Also once it has stopped: what is shown stays until then.
        on_rerun(self._replaced)
        # Last, because it may give items at once; and it may give them in any thread.
        self._subscription = shown.subscribe(
            partial(self._context.call, self._take),
            partial(self._context.call, self._failed),
            partial(self._context.call, self._end, "ended"),
        )

    @property
    def is_live(self) -> bool:
        """Whether it goes on."""
        return not self._ended.done()

    def stop(self) -> None:
        """Update no more; what is shown stays. Idempotent, and callable from any thread."""
        self._context.call(self._end, "stopped")

    def _replaced(self) -> None:
        """Stop, and free what shows it: the output that it stood in is gone with the former run of its cell."""
        self.stop()
        self._context.call(self._close_widgets)

    def _close_widgets(self) -> None:
        for widget in self._widgets():
            widget.close()

    async def run(self, seconds: float | None = None) -> None:
        """Show it in this cell, wait for so many seconds, or with None for the sequence's end, and stop it.

        For notebooks that run without a browser: there, what is drawn after its cell has ended is lost. Cancelling
        stops it, too.

        Raises:
            TypeError: ``seconds`` is no number.
            ValueError: it is negative.
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
                # Once more, for the notebook's file: it keeps what was displayed, and not what widgets were told since.
                shown.update(self)

    @property
    @abstractmethod
    def widget(self) -> Any:
        """The widget that shows it, for layouts of your own."""

    @abstractmethod
    def _widgets(self) -> list[Any]:
        """Return all widgets that it has made."""

    @abstractmethod
    def _keep(self, item: Any) -> None:
        """Remember an item for the next drawing."""

    @abstractmethod
    def _draw(self) -> None:
        """Show what is remembered."""

    @abstractmethod
    def _show_title(self) -> None:
        """Show what it is, and nothing else."""

    @abstractmethod
    def _still(self) -> dict[str, str]:
        """Return what is shown where widgets are not."""

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return {**self.widget._repr_mimebundle_(), **self._still()}

    def __repr__(self) -> str:
        return f"<{type(self).__name__.strip('_').lower()}: {self._title()}>"

    def _title(self) -> str:
        return f"{self._status}, {self.count:,} items"

    def _take(self, item: Any) -> None:
        if not self.is_live:
            # It was on its way from another thread.
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
            # Told by the loop's exception handler; ten times a second would be too often.
            self._status = f"failed: it cannot be drawn ({type(error).__name__})"
            self._dispose()
            self._show_title()
            raise

    def _failed(self, error: Exception) -> None:
        _LOGGER.error("the sequence that is shown failed", exc_info=error)
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
        # Not there yet where the sequence ends while it is being subscribed.
        subscription = getattr(self, "_subscription", None)
        if subscription is not None:
            subscription.dispose()


def check_count(name: str, value: object) -> None:
    """Raise unless ``value`` is a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number, not {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, not {value!r}")
