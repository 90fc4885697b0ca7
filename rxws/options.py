"""The constructor's options, checked."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Any, TypedDict

from .callables import is_plain_function
from .checks import check_seconds
from .codec import encode
from .delays import default_delays

__all__ = ["FeedOptions", "Options"]


class FeedOptions(TypedDict, total=False):
    """What every feed's constructor takes, as keywords; see :class:`~rxws.AsyncWebsocketStreamInterface`."""

    name: str | None
    open_timeout: float
    send_timeout: float
    close_timeout: float
    handover_timeout: float
    handover_settle: float
    idle_timeout: float | None
    reconnect_delays: Callable[[], Iterable[float]]
    should_retry: Callable[[BaseException], bool | None] | None
    encode: Callable[[Any], str | bytes]
    heartbeat: tuple[Any, float] | None
    send_limit: tuple[int, float] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The same with its defaults.

    Raises:
        TypeError: an option is of the wrong kind.
        ValueError: a time is negative, not finite, or zero where that makes no sense.
    """

    name: str | None = None
    open_timeout: float = 10
    send_timeout: float = 10
    close_timeout: float = 5
    handover_timeout: float = 5
    handover_settle: float = 0.5
    idle_timeout: float | None = None
    reconnect_delays: Callable[[], Iterable[float]] = default_delays
    should_retry: Callable[[BaseException], bool | None] | None = None
    encode: Callable[[Any], str | bytes] = encode
    heartbeat: tuple[Any, float] | None = None
    send_limit: tuple[int, float] | None = None

    @classmethod
    def of(cls, kind: type, options: FeedOptions) -> Options:
        """Make them of what the constructor of ``kind`` was given.

        Raises:
            TypeError: there is no such option; the message names the nearest one.
        """
        known = {field.name for field in fields(cls)}
        for option in options:
            if option not in known:
                parameters = inspect.signature(kind).parameters.values()
                named = [each.name for each in parameters if each.kind is not inspect.Parameter.VAR_KEYWORD]
                near = difflib.get_close_matches(option, [*known, *named], 1)
                hint = f": did you mean {near[0]!r}?" if near else ""
                raise TypeError(f"{kind.__name__}() has no option {option!r}{hint}")
        return cls(**options)

    def __post_init__(self) -> None:
        if self.name is not None and not isinstance(self.name, str):
            raise TypeError(f"name must be a str, or None for one made from the class, not {self.name!r}")
        for option in ("open_timeout", "send_timeout", "close_timeout"):
            check_seconds(option, getattr(self, option), zero=False)
        check_seconds("handover_timeout", self.handover_timeout, zero=True)
        check_seconds("handover_settle", self.handover_settle, zero=True)
        if self.idle_timeout is not None:
            check_seconds("idle_timeout", self.idle_timeout, zero=False)
        # A generator function is one of the forms it may have, an asynchronous one is not.
        if not is_plain_function(self.reconnect_delays) and not inspect.isgeneratorfunction(self.reconnect_delays):
            raise TypeError(
                f"reconnect_delays must be a plain function that returns seconds to wait, not {self.reconnect_delays!r}"
            )
        if self.should_retry is not None and not is_plain_function(self.should_retry):
            raise TypeError(
                f"should_retry must be a plain function of an exception, or None, not {self.should_retry!r}"
            )
        if not is_plain_function(self.encode):
            raise TypeError(f"encode must be a plain function of a message, not {self.encode!r}")
        if self.heartbeat is not None:
            if not isinstance(self.heartbeat, tuple) or len(self.heartbeat) != 2:
                raise TypeError(f"heartbeat must be a pair (message, seconds), or None, not {self.heartbeat!r}")
            check_seconds("the seconds of heartbeat", self.heartbeat[1], zero=False)
        if self.send_limit is not None:
            if not isinstance(self.send_limit, tuple) or len(self.send_limit) != 2:
                raise TypeError(f"send_limit must be a pair (messages, seconds), or None, not {self.send_limit!r}")
            messages, seconds = self.send_limit
            expected = f"the messages of send_limit must be an int of at least 1, not {messages!r}"
            if isinstance(messages, bool) or not isinstance(messages, int):
                raise TypeError(expected)
            if messages < 1:
                raise ValueError(expected)
            check_seconds("the seconds of send_limit", seconds, zero=False)
