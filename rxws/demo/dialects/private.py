"""A login with a signature, which the server may refuse, and which expires."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from ..market import Market

__all__ = ["KEY", "SECRET", "Private"]

KEY: Final = "demo key"
SECRET: Final = b"demo secret"

LONGEST: Final = 60.0
"""The longest time in seconds for which a login is valid."""


class _Message(msgspec.Struct):
    op: str
    channel: str = ""
    key: str = ""
    time: int = 0
    sign: str = ""
    expires_in: float = LONGEST


class Private:
    """One connection.

    The client logs in with ``{"op": "login", "key": "demo key", "time": 1700000000, "sign": …}``. ``sign`` is the
    HMAC-SHA256 of the digits of ``time`` with the secret ``b"demo secret"``, in hexadecimal digits. The answer is
    ``{"op": "login", "ok": true, "expires_in": 60.0}`` or ``{"op": "login", "ok": false, "error": …}``. A client may
    name a shorter ``expires_in``. ``{"op": "subscribe", "channel": "btcusdt@trade"}`` then subscribes, and the messages
    are ``{"channel": …, "data": …}``. When the login expires, the server sends ``{"op": "expired"}``, and no messages
    until the next login, after which the client must subscribe again.

    Args:
        market: the prices and books.
        number: the number of the connection, which is not used.
    """

    def __init__(self, market: Market, number: int) -> None:
        self._market = market
        self._channels: set[str] = set()
        self._valid_until = 0.0

    @property
    def _is_valid(self) -> bool:
        return asyncio.get_running_loop().time() < self._valid_until

    def answer(self, text: str | bytes) -> Iterator[Any]:
        """Yield the answer to a request."""
        try:
            request = msgspec.json.decode(text, type=_Message)
        except msgspec.DecodeError:
            yield {"op": "error", "ok": False, "error": "expected op, and what it needs"}
            return
        answer: dict[str, Any] = {"op": request.op}
        if request.channel:
            answer["channel"] = request.channel
        error = self._error_of(request)
        if error:
            yield {**answer, "ok": False, "error": error}
            return
        if request.op == "login":
            lifetime = max(0.0, min(request.expires_in, LONGEST))
            self._valid_until = asyncio.get_running_loop().time() + lifetime
            answer["expires_in"] = lifetime
        elif request.op == "subscribe":
            self._channels.add(request.channel)
        else:
            self._channels.discard(request.channel)
        yield {**answer, "ok": True}

    def _error_of(self, request: _Message) -> str:
        if request.op == "login":
            sign = hmac.new(SECRET, str(request.time).encode(), hashlib.sha256).hexdigest()
            return "" if request.key == KEY and hmac.compare_digest(sign, request.sign) else "wrong key or signature"
        if request.op not in ("subscribe", "unsubscribe"):
            return "no such op"
        if not self._is_valid:
            return "log in first"
        return "" if request.channel in self._market.channels else "no such channel"

    def publish(self, channel: str, message: dict[str, Any]) -> Any:
        """Return what the client gets for a message of a channel; None: nothing."""
        if channel not in self._channels:
            return None
        if self._is_valid:
            return {"channel": channel, "data": message}
        self._channels.clear()
        return {"op": "expired"}

    def end(self, channel: str) -> Any:
        """End the subscription of a channel. Return what the client gets; None: nothing."""
        if channel not in self._channels:
            return None
        self._channels.discard(channel)
        return {"op": "unsubscribed", "channel": channel}
