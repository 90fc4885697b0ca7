"""Look at a live feed in a notebook: a table or a chart that updates itself while other cells run.

::

    live        the last few items, in a plain table
    plot        a line chart
    keep        what is to stay open from one cell to the next: a server, a feed
    callback    what a widget is to call: it may call from another thread

Needs the extra ``jupyter``. The chart is bqplot's.

Example::

    from rxws.jupyter import live

    ws = rxws.ReactiveWebSocket("ws://localhost:8765", name="ticker")
    live(ws.messages)
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import math
import warnings
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Hashable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Any, Final, ParamSpec, TypeVar

from reactivex import Observable

from . import on_loop
from .notebook import on_rerun
from .snapshot import mimebundle

try:
    with warnings.catch_warnings():
        # Of bqplot's scales, about traitlets: nothing that a user could do anything about.
        warnings.simplefilter("ignore", DeprecationWarning)
        import bqplot  # type: ignore[import-untyped]
    import ipywidgets  # type: ignore[import-untyped]
    import numpy
    from IPython.display import display
except ImportError as error:
    raise ImportError('rxws.jupyter needs the extra "jupyter": pip install "rxws[jupyter]"') from error

__all__ = ["View", "callback", "keep", "live", "plot"]

T = TypeVar("T")
P = ParamSpec("P")

Key = Hashable | Callable[[Any], Any]

_LOGGER: Final = logging.getLogger("rxws.jupyter")

_HEIGHT: Final = "360px"

_STILL_ROWS: Final = 5

_MOST_LINES: Final = 50


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
        if not 0.0 < hz < math.inf:
            raise ValueError(f"hz must be a positive number of updates a second, not {hz!r}")
        self._loop = asyncio.get_running_loop()
        self._interval = 1.0 / hz
        self._drawn_at = -math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._ended = self._loop.create_future()
        self._status = "live"
        self.count = 0
        self.draws = 0
        self._call_off = on_rerun(self.stop)
        # Last, because it may give items at once.
        self._subscription = on_loop(observable).subscribe(self._take, self._failed, self._completed)

    @property
    def is_live(self) -> bool:
        """Whether it goes on."""
        return not self._ended.done()

    def stop(self) -> None:
        """Update no more; what is shown stays. Idempotent, and callable from any thread."""
        if asyncio._get_running_loop() is self._loop:
            self._end("stopped")
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._end, "stopped")

    async def run(self, seconds: float | None = None) -> None:
        """Show it in this cell, wait for so many seconds, or with None for the sequence's end, and stop it.

        For notebooks that run without a browser: there, what is drawn after its cell has ended is lost. Cancelling
        stops it, too.
        """
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
    def _keep(self, item: Any) -> None:
        """Remember an item for the next drawing."""

    @abstractmethod
    def _draw(self) -> None:
        """Show what is remembered."""

    @abstractmethod
    def _still(self) -> dict[str, str]:
        """Return what is shown where widgets are not."""

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return {**self.widget._repr_mimebundle_(), **self._still()}

    def _title(self) -> str:
        return f"{self._status}, {self.count:,} items"

    def _take(self, item: Any) -> None:
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
        except BaseException:
            # Told by the loop's exception handler; ten times a second would be too often.
            self._dispose()
            raise

    def _failed(self, error: Exception) -> None:
        _LOGGER.error("the sequence that is shown failed", exc_info=error)
        self._end(f"failed: {error!r}")

    def _completed(self) -> None:
        self._end("ended")

    def _end(self, status: str) -> None:
        if self.is_live:
            self._status = status
            self._dispose()
            self._redraw()

    def _dispose(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._call_off()
        if not self._ended.done():
            self._ended.set_result(None)
        # Not there yet where the sequence ends while it is being subscribed.
        subscription = getattr(self, "_subscription", None)
        if subscription is not None:
            subscription.dispose()


class _Live(View):
    def __init__(self, observable: Observable[Any], rows: int, hz: float) -> None:
        if rows < 1:
            raise ValueError(f"rows must be at least 1, not {rows!r}")
        self._items: deque[Any] = deque(maxlen=rows)
        self._columns: dict[Hashable, None] = {}
        self._widget = ipywidgets.HTML()
        super().__init__(observable, hz)

    @property
    def widget(self) -> Any:
        return self._widget

    def _keep(self, item: Any) -> None:
        self._items.append(item)

    def _draw(self) -> None:
        self._widget.value = self._still()["text/html"]

    def _still(self) -> dict[str, str]:
        return mimebundle(self._title(), {}, reversed(self._items), self._columns)


class _Plot(View):
    def __init__(self, observable: Observable[Any], x: Key, y: Key, by: Key, window: int, hz: float) -> None:
        if window < 1:
            raise ValueError(f"window must be at least 1, not {window!r}")
        self._pick_x, self._pick_y, self._pick_by = _picker(x) if x is not None else _now, _picker(y), _picker(by)
        self._names = _name(x, "time" if x is None else "x"), _name(y, "y"), _name(by, "by")
        self._has_lines = by is not None
        self._window = window
        self._lines: dict[Hashable, _Line] = {}
        self._latest: deque[tuple[Any, ...]] = deque(maxlen=_STILL_ROWS)
        self._y_scale = bqplot.LinearScale()
        self._x_scale: Any = None
        self._widget = bqplot.Figure(
            fig_margin={"top": 40, "bottom": 50, "left": 80, "right": 30},
            legend_location="top-left",
            layout=ipywidgets.Layout(width="100%", height=_HEIGHT),
        )
        super().__init__(observable, hz)

    @property
    def widget(self) -> Any:
        return self._widget

    def _keep(self, item: Any) -> None:
        x, y = self._pick_x(item), self._pick_y(item)
        by = self._pick_by(item) if self._has_lines else None
        if x is None or y is None or (by is None and self._has_lines):
            return
        line = self._lines.get(by)
        if line is None:
            if len(self._lines) >= _MOST_LINES:
                raise ValueError(f"more than {_MOST_LINES} lines: {by!r} is not drawn")
            line = self._lines[by] = _Line(self._window)
        # Many an exchange sends its numbers as strings.
        line.xs.append(x.timestamp() * 1000.0 if isinstance(x, datetime) else float(x))
        line.ys.append(float(y))
        line.is_new = True
        self._latest.appendleft((x, y, by))
        if self._x_scale is None:
            self._x_scale = bqplot.DateScale() if isinstance(x, datetime) else bqplot.LinearScale()

    def _draw(self) -> None:
        figure, is_date = self._widget, isinstance(self._x_scale, bqplot.DateScale)
        for by, line in self._lines.items():
            if not line.is_new:
                continue
            line.is_new = False
            xs, ys = numpy.fromiter(line.xs, float), numpy.fromiter(line.ys, float)
            if is_date:
                xs = xs.astype("datetime64[ms]")
            if line.mark is not None:
                with line.mark.hold_sync():
                    line.mark.x, line.mark.y = xs, ys
                continue
            line.mark = bqplot.Lines(
                x=xs,
                y=ys,
                scales={"x": self._x_scale, "y": self._y_scale},
                colors=[bqplot.CATEGORY10[len(figure.marks) % 10]],
                stroke_width=1.5,
                labels=[str(by)],
                display_legend=self._has_lines,
            )
            figure.marks = [*figure.marks, line.mark]
        if self._x_scale is not None and not figure.axes:
            x_name, y_name, _ = self._names
            bottom = bqplot.Axis(scale=self._x_scale, label=x_name)
            left = bqplot.Axis(scale=self._y_scale, label=y_name, label_offset="60px", side="left")
            figure.axes = [bottom, left]
        figure.title = self._title()

    def _still(self) -> dict[str, str]:
        names = self._names if self._has_lines else self._names[:2]
        latest = [
            {name: _still_value(value) for name, value in zip(names, point, strict=False)} for point in self._latest
        ]
        return mimebundle(f"plot: {self._title()}", {}, latest)


class _Line:
    """One line of a plot: its points, and what draws them, from the first drawing on."""

    __slots__ = ("is_new", "mark", "xs", "ys")

    def __init__(self, window: int) -> None:
        self.xs: deque[float] = deque(maxlen=window)
        self.ys: deque[float] = deque(maxlen=window)
        self.is_new = True
        self.mark: Any = None


def live(observable: Observable[Any], rows: int = 20, hz: float = 10.0) -> View:
    """Show the last few items of an Observable in a table that updates itself, the newest first.

    Args:
        observable: ``ws.messages``, a stream, or whatever they are piped into.
        rows: how many items are shown.
        hz: how many times a second the table is updated at most.

    Returns:
        The view. As the last line of a cell it is shown there.

    Raises:
        ValueError: ``rows`` or ``hz`` is not positive.
        RuntimeError: outside a running event loop.

    Example::

        view = live(ws.stream_filter([{"e": "trade"}]))
        view
    """
    return _Live(observable, rows, hz)


def plot(
    observable: Observable[Any], x: Key, y: Key, by: Key = None, *, window: int = 10_000, hz: float = 10.0
) -> View:
    """Draw a line chart that updates itself.

    Items without ``x``, ``y`` or ``by`` are left out, and so are those whose value there is None.

    Args:
        observable: ``ws.messages``, a stream, or whatever they are piped into.
        x: a key of the items, or a tuple of keys, or a function of an item: a number (a string of one, too), or
            a ``datetime``. None for the time at which an item comes.
        y: the same; a number.
        by: the same: one line for each value, of which there may be 50. None for one line.
        window: how many points of each line are drawn, the latest.
        hz: how many times a second it is updated at most.

    Raises:
        ValueError: ``window`` or ``hz`` is not positive.
        RuntimeError: outside a running event loop.

    Example::

        plot(ws.stream_filter([{"e": "trade"}]), x=None, y="p", by="s")
    """
    return _Plot(observable, x, y, by, window, hz)


_LEAVING: Final[set[asyncio.Task[None]]] = set()
"""What :func:`keep` kept, and is being left."""


async def keep(context: AbstractAsyncContextManager[T]) -> T:
    """Enter ``async with context`` and stay in it, until the cell is run again or the kernel ends.

    A cell cannot be inside a block that another began; this is for what is to stay open from one cell to the next.
    When the cell is run again, what it kept is left before anything is entered anew.

    Args:
        context: a feed, a server, a stream: anything that ``async with`` takes.

    Returns:
        What ``async with context as …`` gives.

    Raises:
        BaseException: what entering raises.

    Example::

        exchange = await keep(rxws.demo.serve())
    """
    entered: asyncio.Future[T] = asyncio.get_running_loop().create_future()
    leave = asyncio.Event()

    async def stay() -> None:
        # All of it in one task, as some contexts need it.
        try:
            former = _LEAVING - {asyncio.current_task()}
            if former:
                await asyncio.wait(former)
            async with context as value:
                entered.set_result(value)
                await leave.wait()
        except BaseException as error:
            if entered.done() or not isinstance(error, Exception):
                entered.cancel()
                raise
            entered.set_exception(error)

    def end() -> None:
        _LEAVING.add(task)
        task.add_done_callback(_LEAVING.discard)
        leave.set()

    task = asyncio.create_task(stay(), name="rxws keep")
    call_off = on_rerun(end)
    task.add_done_callback(lambda _: call_off())
    try:
        return await asyncio.shield(entered)
    except asyncio.CancelledError:
        task.cancel()
        raise


def callback(function: Callable[P, object]) -> Callable[P, None]:
    """Make of a function, or a coroutine function, what a widget can call from any thread: it runs on this event loop.

    Kernels call back from another thread while a cell runs, and a feed belongs to its loop's thread. What the function
    raises is logged.

    Raises:
        RuntimeError: outside a running event loop.

    Example::

        button.on_click(callback(lambda button: ws.rotate()))
    """
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Future[Any]] = set()

    def call(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            result = function(*args, **kwargs)
        except Exception as error:
            _LOGGER.error("a callback raised", exc_info=error)
            return
        if inspect.isawaitable(result):
            task = asyncio.ensure_future(result)
            tasks.add(task)
            task.add_done_callback(ended)

    def ended(task: asyncio.Future[Any]) -> None:
        tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _LOGGER.error("a callback raised", exc_info=task.exception())

    @functools.wraps(function)
    def from_any_thread(*args: P.args, **kwargs: P.kwargs) -> None:
        loop.call_soon_threadsafe(lambda: call(*args, **kwargs))

    return from_any_thread


def _still_value(value: Any) -> Any:
    return value.isoformat(timespec="milliseconds") if isinstance(value, datetime) else value


def _now(item: Any) -> datetime:
    return datetime.now(UTC)


def _name(key: Key, default: str) -> str:
    if isinstance(key, tuple):
        return ".".join(map(str, key))
    return default if key is None or callable(key) else str(key)


def _picker(key: Key) -> Callable[[Any], Any]:
    if callable(key):
        return key
    path = key if isinstance(key, tuple) else (key,)

    def pick(item: Any) -> Any:
        for step in path:
            item = item.get(step) if isinstance(item, Mapping) else getattr(item, str(step), None)
        return item

    return pick
