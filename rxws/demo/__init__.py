"""An exchange to try feeds on: a websocket server on loopback that behaves like one, misbehaviour included.

::

    market        prices, order books and numbered messages; pure
    listen_keys   keys that expire, and their connections
    exchange      serve() and what it gives, a DemoExchange: the URL, and all that can be asked of it

In a program or a notebook::

    async with rxws.demo.serve() as exchange, rxws.ReactiveWebSocket(exchange) as feed:
        ...

From the command line, ``python -m rxws.demo --port 8765``.
"""

from __future__ import annotations

from .exchange import DemoExchange, serve
from .market import SYMBOLS, Market, channel_of

__all__ = ["SYMBOLS", "DemoExchange", "Market", "channel_of", "serve"]
