"""The options of a feed's constructor, with their defaults and checks."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, TypedDict

from .callables import is_plain_function
from .checks import check_count, check_seconds
from .codec import encode
from .delays import default_delays
from .heartbeat import Heartbeat
from .rate_limit import Rate

__all__ = ["FeedOptions", "Options"]


class FeedOptions(TypedDict, total=False):
    """The keyword arguments of every feed's constructor; see :class:`~rxws.AsyncWebsocketStreamInterface`."""

    name: str | None
    open_timeout: float
    send_timeout: float
    close_timeout: float
    handover_timeout: float
    handover_settle: float
    reach: float
    idle_timeout: float | None
    reconnect_delays: Callable[[], Iterable[float]]
    should_retry: Callable[[BaseException], bool | None] | None
    encode: Callable[[Any], str | bytes]
    heartbeat: Heartbeat | tuple[Any, float] | None
    send_limit: tuple[int, float] | Rate | None
    connect_limit: tuple[int, float] | Rate | None
    resume: Literal[True] | Sequence[Mapping[Any, Any]] | Callable[[Any], bool] | None
    cursor: Hashable | Callable[[Any], Any] | None
    sequence: Hashable | list[Any] | Callable[[Any], Any] | None
    key: Hashable | Callable[[Any], Any] | None
    lines: int
    channels_per_connection: int | None
    sent_at: Hashable | Callable[[Any], Any] | None
    unit: Literal["s", "ms", "us", "ns"]
    max_latency: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The checked options of a feed.

    Raises:
        TypeError: an option has the wrong type.
        ValueError: a time is negative or not finite, or is zero where zero is not allowed.
    """

    name: str | None = None
    open_timeout: float = 10
    send_timeout: float = 10
    close_timeout: float = 5
    handover_timeout: float = 5
    handover_settle: float = 0.5
    reach: float = 2.0
    idle_timeout: float | None = None
    reconnect_delays: Callable[[], Iterable[float]] = default_delays
    should_retry: Callable[[BaseException], bool | None] | None = None
    encode: Callable[[Any], str | bytes] = encode
    heartbeat: Heartbeat | tuple[Any, float] | None = None
    send_limit: tuple[int, float] | Rate | None = None
    connect_limit: tuple[int, float] | Rate | None = None
    resume: Literal[True] | Sequence[Mapping[Any, Any]] | Callable[[Any], bool] | None = None
    cursor: Hashable | Callable[[Any], Any] | None = None
    sequence: Hashable | list[Any] | Callable[[Any], Any] | None = None
    key: Hashable | Callable[[Any], Any] | None = None
    lines: int = 1
    channels_per_connection: int | None = None
    sent_at: Hashable | Callable[[Any], Any] | None = None
    unit: Literal["s", "ms", "us", "ns"] = "ms"
    max_latency: float | None = None

    @classmethod
    def of(cls, kind: type, options: FeedOptions) -> Options:
        """Return the checked options of a call of the constructor of ``kind``.

        Raises:
            TypeError: an option is unknown; the text names the most similar one.
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
        delays, retry = self.reconnect_delays, self.should_retry
        # A generator function returns an iterator, so it is allowed here. An asynchronous generator function is not.
        gives_delays = is_plain_function(delays) or inspect.isgeneratorfunction(delays)
        for option, is_right, expected in (
            ("name", self.name is None or isinstance(self.name, str), "a str, or None for a name made from the class"),
            ("reconnect_delays", gives_delays, "a plain function that returns seconds to wait"),
            ("should_retry", retry is None or is_plain_function(retry), "a plain function of an exception, or None"),
            ("encode", is_plain_function(self.encode), "a plain function of a message"),
            ("heartbeat", _is_heartbeat(self.heartbeat), "a pair (message, seconds), an rxws.Heartbeat, or None"),
            ("send_limit", _is_limit(self.send_limit), "a pair (messages, seconds), an rxws.Rate, or None"),
            ("connect_limit", _is_limit(self.connect_limit), "a pair (handshakes, seconds), an rxws.Rate, or None"),
        ):
            if not is_right:
                raise TypeError(f"{option} must be {expected}, not {getattr(self, option)!r}")
        times = ["open_timeout", "send_timeout", "close_timeout", "handover_timeout", "handover_settle", "reach"]
        times += [option for option in ("idle_timeout", "max_latency") if getattr(self, option) is not None]
        for option in times:
            check_seconds(option, getattr(self, option), zero=option.startswith("handover"))
        if isinstance(self.heartbeat, tuple):
            check_seconds("the seconds of heartbeat", self.heartbeat[1], zero=False)
        for option, unit, limit in (
            ("send_limit", "messages", self.send_limit),
            ("connect_limit", "handshakes", self.connect_limit),
        ):
            if isinstance(limit, tuple):
                check_count(f"the {unit} of {option}", limit[0])
                check_seconds(f"the seconds of {option}", limit[1], zero=False)
        check_count("lines", self.lines)
        if self.channels_per_connection is not None:
            check_count("channels_per_connection", self.channels_per_connection)
        if self.lines > 1 and self.channels_per_connection is not None:
            raise ValueError("lines and channels_per_connection do not work together yet: choose one of them")
        for option, is_set in ("lines", self.lines > 1), ("channels_per_connection", self.channels_per_connection):
            if is_set and self.resume is not None:
                raise ValueError(f"resume does not work with {option} yet")
        pairs = ("cursor", "resume"), ("sequence", "resume"), ("key", "sequence"), ("max_latency", "sent_at")
        for option, needed in pairs:
            if getattr(self, option) is not None and getattr(self, needed) is None:
                raise ValueError(f"{option} has no effect without {needed}")


def _is_limit(value: object) -> bool:
    return isinstance(value, Rate) or _is_pair_or_none(value)


def _is_heartbeat(value: object) -> bool:
    return isinstance(value, Heartbeat) or _is_pair_or_none(value)


def _is_pair_or_none(value: object) -> bool:
    return value is None or (isinstance(value, tuple) and len(value) == 2)
