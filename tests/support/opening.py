"""What opens connections in tests of the rotation, and how it fails."""

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
    """Return what a handshake raises that was answered with an HTTP status."""
    return InvalidStatus(Response(code, "", Headers(), b""))


def delays(*seconds):
    """Return a factory of these delays, the last one repeated."""
    return lambda: itertools.chain(seconds, itertools.repeat(seconds[-1]))


def now():
    """Return the loop's time, rounded to what matters."""
    return round(asyncio.get_running_loop().time(), 2)


class Followed(rxws.ReactiveWebSocket):
    """A feed from a URL, with a record."""

    def __init__(self, url, **options):
        super().__init__(url, **options)
        self.record = Record(self)


def connecting(*outcomes):
    """Return a ``connect`` that gives these connections, and then plain ones."""
    left = list(outcomes)

    async def connect(url):
        return left.pop(0) if left else ScriptedWebsocket()

    return connect


async def never():
    """Wait for ever, and heed the cancellation."""
    await asyncio.get_running_loop().create_future()


async def stubborn(until):
    """Wait for a future, and heed no cancellation."""
    while not until.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(until)
