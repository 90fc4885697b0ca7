"""plot: a line chart of the latest items, with one line for each value of a key."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Hashable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import bqplot  # type: ignore[import-untyped]
import ipywidgets  # type: ignore[import-untyped]
import numpy
from reactivex import Observable

from ..checks import check_count
from ..display import mimebundle, shown
from ..messages import ABSENT, look_up
from .view import View

__all__ = ["plot"]

Key = Hashable | Callable[[Any], Any]

_LOGGER: Final = logging.getLogger("rxws.jupyter")

_HEIGHT: Final = "360px"

_PLAIN: Final = ",.12~r"
"""A d3 format that shows large prices without exponents. The default format of an axis uses exponents."""

_STILL_ROWS: Final = 5

_MOST_LINES: Final = 50


class _Plot(View):
    def __init__(self, observable: Observable[Any], x: Key, y: Key, by: Key, window: int, hz: float) -> None:
        check_count("window", window)
        for name, key, is_needed in (("x", x, False), ("y", y, True), ("by", by, False)):
            if not isinstance(key, Hashable) or key == () or (key is None and is_needed):
                raise TypeError(f"{name} must be a key, a tuple of keys or a function of an item, not {key!r}")
        self._pick_x, self._pick_y, self._pick_by = _picker(x) if x is not None else _now, _picker(y), _picker(by)
        self._names = _name(x, "time" if x is None else "x"), _name(y, "y"), _name(by, "by")
        self._has_lines = by is not None
        self._window = window
        self._lines: dict[Hashable, _Line] = {}
        self._left_out = 0
        self._why = ""
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
        for name, value in zip(self._names, (x, y, by if self._has_lines else ""), strict=True):
            if value is None:
                self._leave_out(f"no {name!r}")
                return
        try:
            # float() also converts strings, because many exchanges send numbers as strings.
            point = x.timestamp() * 1000.0 if isinstance(x, datetime) else float(x), float(y)
        except (TypeError, ValueError) as error:
            self._leave_out(f"not a number: {error}")
            return
        line = self._lines.get(by)
        if line is None:
            if len(self._lines) >= _MOST_LINES:
                self._leave_out(f"more than {_MOST_LINES} lines: {by!r} is not drawn")
                return
            line = self._lines[by] = _Line(self._window)
        # Append after both conversions succeeded, so that xs and ys have the same length.
        line.xs.append(point[0])
        line.ys.append(point[1])
        line.is_new = True
        self._latest.appendleft((x, y, by))
        if self._x_scale is None:
            self._x_scale = bqplot.DateScale() if isinstance(x, datetime) else bqplot.LinearScale()

    def _leave_out(self, why: str) -> None:
        # Log the first item only, because there may be thousands per second. The title shows their number.
        if not self._left_out:
            _LOGGER.warning("plot leaves out items: %s (logged once; the view counts them)", shown(why))
        self._left_out += 1
        self._why = why

    def _title(self) -> str:
        title = super()._title()
        return f"{title}, {self._left_out:,} left out ({shown(self._why)})" if self._left_out else title

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
            left = bqplot.Axis(scale=self._y_scale, label=y_name, label_offset="70px", side="left", tick_format=_PLAIN)
            figure.axes = [bottom, left]
        figure.title = self._title()

    def _show_title(self) -> None:
        self._widget.title = self._title()

    def _widgets(self) -> list[Any]:
        figure = self._widget
        scales = [figure.scale_x, figure.scale_y, self._x_scale, self._y_scale]
        made = [figure, figure.layout, *figure.marks, *figure.axes, *scales]
        return [widget for widget in made if widget is not None]

    def _still(self) -> dict[str, str]:
        names = self._names if self._has_lines else self._names[:2]
        latest = [
            {name: _still_value(value) for name, value in zip(names, point, strict=False)} for point in self._latest
        ]
        return mimebundle(f"plot: {self._title()}", {}, latest)


class _Line:
    """One line of a plot: its points, and the bqplot mark that draws them. The first drawing makes the mark."""

    __slots__ = ("is_new", "mark", "xs", "ys")

    def __init__(self, window: int) -> None:
        self.xs: deque[float] = deque(maxlen=window)
        self.ys: deque[float] = deque(maxlen=window)
        self.is_new = True
        self.mark: Any = None


def plot(
    observable: Observable[Any], x: Key, y: Key, by: Key = None, *, window: int = 10_000, hz: float = 10.0
) -> View:
    """Draw a line chart that updates itself.

    Items whose ``x``, ``y`` or ``by`` is missing or None are left out, and so are items whose ``x`` or ``y`` is not a
    number. The title shows how many items are left out, and why the last one is. Only the first one is logged.

    Args:
        observable: ``ws.messages``, a stream, or another Observable.
        x: a key of the items, a tuple of keys (a path), or a function of an item. The value is a number, a string that
            contains a number, or a ``datetime``. None means the time at which the item arrives.
        y: a key, a path or a function, as for ``x``. The value is a number or a string that contains a number.
        by: a key, a path or a function, as for ``x``. Each value gets its own line; at most 50 lines are drawn. None
            means one line for all items.
        window: number of points that are drawn per line; the latest are kept.
        hz: maximum number of updates per second.

    Returns:
        The view. A cell shows it if the view is the value of its last line.

    Raises:
        ValueError: ``window`` or ``hz`` is not positive.
        TypeError: ``observable`` is not an Observable, ``x``, ``y`` or ``by`` is not a key, or ``window`` or ``hz`` is
            not a number.
        RuntimeError: there is no running event loop.

    Example::

        plot(ws.stream_filter([{"e": "trade"}]), x=None, y="p", by="s")
    """
    return _Plot(observable, x, y, by, window, hz)


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
            if isinstance(item, Mapping):
                # Do not call `get`, because a class may be registered as a Mapping without it.
                found = look_up(item, (step,))
                item = None if found is ABSENT else found
            else:
                item = getattr(item, str(step), None)
        return item

    return pick
