"""A demo exchange to try feeds with: a websocket server on loopback with the messages and the faults of an exchange.

::

    market        prices, order books and numbered messages (no I/O)
    history       the last minute of messages, which are sent again from a cursor on (no I/O)
    trades        the history of trades over HTTP, with its faults
    dialects      what some venues do differently: encodings, ids, logins, subscriptions that end
    listen_keys   keys that expire, and their connections
    exchange      serve() and its result, a DemoExchange: the URL, and methods that control the exchange

In a program or a notebook::

    async with rxws.demo.serve() as exchange, rxws.ReactiveWebSocket(exchange) as feed:
        ...

From the command line, ``python -m rxws.demo --port 8765``.
"""

from __future__ import annotations

from .exchange import DemoExchange, serve
from .market import KINDS, SYMBOLS, Market, channel_of

__all__ = ["KINDS", "SYMBOLS", "DemoExchange", "Market", "channel_of", "serve"]
