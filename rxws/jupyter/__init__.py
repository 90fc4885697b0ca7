"""Look at a live feed in a notebook: a table or a chart that updates itself while other cells run.

::

    live        the last few items, in a plain table
    plot        a line chart
    keep        what is to stay open from one cell to the next: a server, a feed
    callback    what a widget is to call: it may call from another thread
    on_rerun    what is to be taken away when the cell is run again: a subscription

``view`` is what both views share: when to draw, and when to stop; ``items`` and ``chart`` draw; ``cells`` is for the
habits of notebooks.

Needs the extra ``jupyter``. The chart is bqplot's, which has no table. A table to sort and filter in is not offered: of
those that were tried, bokeh's and plotly's took too much of the loop, and Perspective's broke. What ``collect``
returns fits any table of a DataFrame.

Example::

    from rxws.jupyter import live

    ws = rxws.ReactiveWebSocket("ws://localhost:8765", name="ticker")
    live(ws.messages)
"""

from __future__ import annotations

import warnings

try:
    with warnings.catch_warnings():
        # Of bqplot's scales, about traitlets: nothing that a user could do anything about.
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
