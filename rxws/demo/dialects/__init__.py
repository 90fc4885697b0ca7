"""The ways in which the websockets of some venues differ from others. Each dialect has its own module.

::

    encodings   one zlib stream per connection, MessagePack, lines of JSON
    graphql     GraphQL, where the server may end a subscription
    private     a signed login, which expires
    rpc         JSON-RPC, where the server gives each subscription an id
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from ..market import Market
from .graphql import GraphQL
from .private import Private
from .rpc import Rpc

__all__ = ["DIALECTS", "Dialect"]


class Dialect(Protocol):
    """One connection in a dialect."""

    def answer(self, text: str | bytes) -> Iterable[Any]:
        """Yield the answers to a message of the client."""

    def publish(self, channel: str, message: dict[str, Any]) -> Any:
        """Return what the client gets for a message of a channel; None: nothing."""

    def end(self, channel: str) -> Any:
        """End the subscription of a channel. Return what the client gets; None: nothing."""


#: The dialects by path. Each is called with the market and the number of the connection.
DIALECTS: Final[dict[str, Callable[[Market, int], Dialect]]] = {"/graphql": GraphQL, "/private": Private, "/rpc": Rpc}
