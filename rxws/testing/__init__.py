"""Tools to test feeds with: a server that misbehaves on command, and a check for leaks.

::

    messages      the messages of a client: recorded, awaited, compared
    access        which web pages may use a server, by Origin and Host
    http          HTTP endpoints on the port of the websocket server
    waiting       bounded waits for a condition
    connection    one client's connection, and all that a server can do to it
    clients       all clients: waits for them, and sends to all of them at once
    faults        faults of the websocket handshake: refused, slow, never answered
    server        FeedServer
    broadcast     numbered messages with lags
    process       a server in its own process
    leaks         assert_no_leaks
    lives         random sequences of faults, which a seed makes repeatable

Nothing here needs pytest. The fixtures are in :mod:`rxws.pytest_plugin`.
"""

from __future__ import annotations

from .broadcast import DelayedDelivery, NumberedBroadcast
from .clients import Handshake
from .connection import FeedConnection
from .http import HttpError, HttpHandler, HttpRequest, HttpResponse, get_json
from .leaks import assert_no_leaks
from .lives import Dialect, Endpoint, LifeFailed, Numbered, Request, life
from .process import ServerProcess, serve_in_process, serve_until_told
from .server import FeedServer, Script

__all__ = [
    "DelayedDelivery",
    "Dialect",
    "Endpoint",
    "FeedConnection",
    "FeedServer",
    "Handshake",
    "HttpError",
    "HttpHandler",
    "HttpRequest",
    "HttpResponse",
    "LifeFailed",
    "Numbered",
    "NumberedBroadcast",
    "Request",
    "Script",
    "ServerProcess",
    "assert_no_leaks",
    "get_json",
    "life",
    "serve_in_process",
    "serve_until_told",
]
