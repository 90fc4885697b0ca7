"""JSON-RPC, where the server gives each subscription an id, which differs between connections and is used again."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import msgspec

from ..market import Market

__all__ = ["Rpc"]


class _Request(msgspec.Struct):
    method: str
    params: list[str] = []
    id: int | str | None = None


class Rpc:
    """One connection. The methods are ``subscribe``, ``unsubscribe``, and ``book``, which returns an order book.

    Ids come from a pool that is as large as the number of channels, in an order that depends on the connection. So the
    same id means different channels on different connections, and after some time on the same connection, too.

    Args:
        market: the prices and books.
        number: the number of the connection.
    """

    def __init__(self, market: Market, number: int) -> None:
        self._market = market
        self._free = [f"0x{each:x}" for each in range(len(market.channels))]
        self._ids: dict[str, str] = {}
        random.Random(f"ids {number}").shuffle(self._free)

    def answer(self, text: str | bytes) -> Iterator[Any]:
        """Yield the answer to a request."""
        try:
            request = msgspec.json.decode(text, type=_Request)
        except msgspec.DecodeError:
            yield {"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": "expected a JSON-RPC request"}}
            return
        try:
            yield {"jsonrpc": "2.0", "id": request.id, "result": self._result(request.method, *request.params[:1])}
        except LookupError as error:
            yield {"jsonrpc": "2.0", "id": request.id, "error": {"code": -32602, "message": str(error.args[0])}}

    def _result(self, method: str, param: str = "") -> Any:
        if method == "subscribe":
            if param not in self._market.channels:
                raise LookupError("no such channel")
            if param in self._ids:
                raise LookupError("already subscribed")
            self._ids[param] = self._free.pop(0)
            return self._ids[param]
        if method == "unsubscribe":
            for channel, given in self._ids.items():
                if given == param:
                    del self._ids[channel]
                    # The next subscription gets this id.
                    self._free.insert(0, given)
                    return True
            raise LookupError("no such subscription")
        if method == "book":
            if param not in self._market.symbols:
                raise LookupError("no such symbol")
            return self._market.book(param)
        raise LookupError("no such method")

    def end(self, channel: str) -> Any:
        """End the subscription of a channel. Return what the client gets; None: nothing."""
        given = self._ids.pop(channel, None)
        if given is None:
            return None
        self._free.insert(0, given)
        return {"jsonrpc": "2.0", "method": "ended", "params": {"subscription": given, "channel": channel}}

    def publish(self, channel: str, message: dict[str, Any]) -> Any:
        """Return what the client gets for a message of a channel; None: nothing."""
        given = self._ids.get(channel)
        return given and {"jsonrpc": "2.0", "method": "update", "params": {"subscription": given, "result": message}}
