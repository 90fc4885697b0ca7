"""The hooks that are called with a frame or its message, and the result of a parse hook for several messages."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from .frames import Frame

__all__ = ["Many", "ParseHooks"]

T = TypeVar("T")


class Many(tuple[T, ...], Generic[T]):
    """The result of a parse hook for a frame that holds several messages, or none: ``Many(items)``, ``Many()``.

    Each item is a separate message.

    Example::

        async def _parse_raw_data(self, raw_data):
            return rxws.Many(json.loads(raw_data))          # a JSON array of messages
    """

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class ParseHooks:
    """The hooks that are called with a frame or its message. A hook that is None is not called.

    Attributes:
        create_parser: returns the function that parses the frames of one connection.
        is_parser_shared: whether the meaning of a frame does not depend on its connection.
    """

    create_parser: Callable[[], Callable[[Frame], Any]]
    is_parser_shared: bool = field(default=False, kw_only=True)
    reply: Callable[[Frame], Any] | None
    identity: Callable[[Any], Hashable] | None
    per_connection: Callable[[Any], bool] | None
