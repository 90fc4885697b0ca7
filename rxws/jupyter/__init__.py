"""Shows a live feed in a notebook: tables and charts that update themselves while other cells run.

::

    live        shows the last items in a plain table
    plot        draws a line chart
    keep        enters an async context manager, such as a server or a feed, and keeps it open after the cell
    callback    lets a widget call a function on the event loop from any thread
    on_rerun    registers a function that is called when the cell is run again, such as a subscription's dispose

Module ``view`` decides when a view is drawn and when it stops; ``items`` and ``chart`` draw; ``cells`` contains
``keep`` and ``callback``.

This package needs the extra ``jupyter``. The chart uses bqplot. The table cannot be sorted or filtered, because bqplot
has no table, the tables of bokeh and plotly kept the event loop busy for too long, and Perspective's table failed. Pass
the list that ``collect`` returns to ``pandas.DataFrame`` instead.

Example::

    from rxws.jupyter import live

    ws = rxws.ReactiveWebSocket("ws://localhost:8765", name="ticker")
    live(ws.messages)
"""

from __future__ import annotations

import warnings

try:
    with warnings.catch_warnings():
        # The warning comes from bqplot's use of traitlets, so a user of rxws cannot fix it.
        warnings.simplefilter("ignore", DeprecationWarning)
        import bqplot  # type: ignore[import-untyped]  # noqa: F401
    import ipywidgets  # type: ignore[import-untyped]  # noqa: F401
    import numpy  # noqa: F401
    from IPython.display import display  # noqa: F401
except ImportError as error:
    raise ImportError('rxws.jupyter needs the extra "jupyter": pip install "rxws[jupyter]"') from error

from ..display import on_rerun
from .cells import callback, keep
from .chart import plot
from .items import live
from .view import View

__all__ = ["View", "callback", "keep", "live", "on_rerun", "plot"]
