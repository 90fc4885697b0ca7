"""Functions that open connections, and their failures, for tests of the rotation."""

from __future__ import annotations

import asyncio
import contextlib
import itertools

from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus
from websockets.http11 import Response

import rxws
from tests.support.life import Record, ScriptedWebsocket

REFUSED = ConnectionRefusedError("refused")


def status(code):
    """Return the exception of a handshake that was answered with an HTTP status."""
    return InvalidStatus(Response(code, "", Headers(), b""))


def delays(*seconds):
    """Return a factory of these delays, the last one repeated."""
    return lambda: itertools.chain(seconds, itertools.repeat(seconds[-1]))


def now():
    """Return the loop's time, rounded for comparisons."""
    return round(asyncio.get_running_loop().time(), 2)


class Followed(rxws.ReactiveWebSocket):
    """A feed from a URL, with a record."""

    def __init__(self, url, **options):
        super().__init__(url, **options)
        self.record = Record(self)


def connecting(*outcomes):
    """Return a ``connect`` that returns these connections, and then plain ones."""
    left = list(outcomes)

    async def connect(url):
        return left.pop(0) if left else ScriptedWebsocket()

    return connect


async def never():
    """Wait until cancelled."""
    await asyncio.get_running_loop().create_future()


async def stubborn(until):
    """Wait for a future, and ignore cancellation."""
    while not until.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(until)
