"""Requests information about the stream of JetStream that relays write and feeds read; makes or checks it."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from .broker import ApiError, Broker, UnsuitableError
from .control import CONTROL, Control, read_control
from .subjects import covers

__all__ = ["DEFAULT_WINDOW", "check_name", "ensure_stream", "last_statements", "seconds_of", "stream_info"]

#: Seconds within which the broker drops copies, unless the stream's configuration differs.
DEFAULT_WINDOW: Final = 120.0

#: The number of JetStream's error "stream not found".
_NO_STREAM: Final = 10059

#: The number of the error "no message found".
_NO_MESSAGE: Final = 10037

_DEFAULTS: Final[Mapping[str, Any]] = {
    "retention": "limits",
    "discard": "old",
    "max_age": 3600 * 10**9,
    "max_bytes": 8 * 2**30,
    "max_msgs_per_subject": -1,
    "storage": "file",
    "num_replicas": 1,
    "duplicate_window": int(DEFAULT_WINDOW * 10**9),
    "allow_direct": True,
}

#: The settings that are required, because with others the stream would silently lose messages.
_REQUIRED: Final[Mapping[str, Any]] = {"retention": "limits", "max_msgs_per_subject": -1, "discard": "old"}


def check_name(argument: str, name: object) -> str:
    """Check that a name is valid for JetStream, and return it.

    Raises:
        TypeError: it is not a str.
        ValueError: it is empty, or contains blanks, dots, wildcards or slashes.
    """
    if not isinstance(name, str):
        raise TypeError(f"{argument} must be a str, not {type(name).__name__}")
    if not name or re.search(r"[\s.*>/\\\x00-\x1f]", name):
        raise ValueError(f"{argument} must be a name without blanks, dots, wildcards and slashes, not {name!r}")
    return name


async def stream_info(broker: Broker, stream: str, request: Mapping[str, Any] | None = None) -> Any:
    """Return JetStream's information about a stream.

    Raises:
        ApiError: there is no such stream.
    """
    return await broker.api(f"STREAM.INFO.{stream}", request)


async def ensure_stream(broker: Broker, stream: str, root: str, wanted: Mapping[str, Any]) -> Any:
    """Make the stream if it is missing, or else check it. Return its configuration.

    Args:
        broker: the connection.
        stream: its name.
        root: the first token of the subjects of messages.
        wanted: settings that differ from the defaults.

    Raises:
        UnsuitableError: the stream exists, but its configuration loses messages or differs from ``wanted``.
        ApiError: the stream cannot be made.
    """
    subjects = [f"{root}.>", CONTROL]
    config = {"name": stream, "subjects": subjects, **_DEFAULTS, **wanted}
    try:
        found = (await stream_info(broker, stream))["config"]
    except ApiError as error:
        if error.err_code != _NO_STREAM:
            raise
        # Two relays that start together may both make it. With equal settings both get the same answer.
        found = (await broker.api(f"STREAM.CREATE.{stream}", config))["config"]
    for setting, expected in {**_REQUIRED, **wanted}.items():
        if setting != "subjects" and setting in found and found[setting] != expected:
            raise UnsuitableError(
                f"the stream {stream!r} has {setting} {found[setting]!r}, and {expected!r} was expected"
            )
    for subject in subjects:
        if not any(covers(each, subject) for each in found["subjects"]):
            raise UnsuitableError(
                f"the stream {stream!r} must take the subjects {subject!r}, but takes {found['subjects']!r}"
            )
    return found


async def last_statements(broker: Broker, stream: str) -> list[tuple[Control, float]]:
    """Return the last statement of each relay in a stream, each with its age in seconds."""
    info = await stream_info(broker, stream, {"subjects_filter": CONTROL})
    now = seconds_of(info["ts"])
    found = []
    for subject in info["state"].get("subjects") or {}:
        try:
            stored = (await broker.api(f"STREAM.MSG.GET.{stream}", {"last_by_subj": subject}))["message"]
        except ApiError as error:
            if error.err_code != _NO_MESSAGE:
                raise
            continue
        control = read_control(base64.b64decode(stored.get("data", "")))
        if control is not None:
            found.append((control, max(0.0, now - seconds_of(stored["time"]))))
    return found


def seconds_of(moment: str) -> float:
    """Return a time in Go's format, which has nanoseconds, as seconds since the epoch."""
    text, _, rest = moment.removesuffix("Z").partition(".")
    return datetime.fromisoformat(f"{text}+00:00").timestamp() + float(f"0.{rest or 0}")
