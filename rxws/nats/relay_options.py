"""The arguments of a relay, checked, and the ids and subjects that it gives messages."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ..callables import is_plain_function
from ..checks import check_count, check_seconds
from ..messages import Filters
from .broker import check_connect_options, check_servers
from .stream import check_name
from .subjects import token_of

__all__ = ["RelayOptions", "checked_subject", "numbered_ids", "shared_ids"]

#: A longer id is replaced by its hash, because the broker keeps each id for the length of the duplicate window.
LONGEST_ID: Final = 256

#: The largest length of a subject. A server that gets a command line of more than 4,096 bytes closes the connection.
LONGEST_SUBJECT: Final = 1024

_SUBJECT: Final = re.compile(r"[^\s.*>\x00-\x20]+(\.[^\s.*>\x00-\x20]+)+")
_SAFE_ID: Final = re.compile(r"[!-~]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayOptions:
    """The checked arguments of :func:`relay`."""

    servers: str | Sequence[str]
    stream: str
    subject: str | Callable[[Any], str]
    filters: Filters
    identity: Callable[[Any], str | int] | None
    feed_name: str | None
    name: str | None
    create: bool | Mapping[str, Any]
    max_in_flight: int
    maxsize: int
    maxbytes: int
    ack_timeout: float
    watermark_interval: float
    settle: float
    patience: float
    connect_options: Mapping[str, Any] | None

    def __post_init__(self) -> None:
        check_servers(self.servers)
        check_connect_options(self.connect_options)
        check_name("stream", self.stream)
        for option in ("max_in_flight", "maxsize", "maxbytes"):
            check_count(option, getattr(self, option))
        for option in ("ack_timeout", "watermark_interval", "settle", "patience"):
            check_seconds(option, getattr(self, option), zero=option == "settle")
        if self.identity is not None and not is_plain_function(self.identity):
            raise TypeError(f"identity must be a plain function of a message, or None, not {self.identity!r}")
        if not isinstance(self.subject, str) and not is_plain_function(self.subject):
            raise TypeError(f"subject must be a template or a plain function of a message, not {self.subject!r}")
        for option in ("feed_name", "name"):
            given = getattr(self, option)
            if given is not None and not (isinstance(given, str) and given):
                raise TypeError(f"{option} must be a str that is not empty, or None, not {given!r}")
        if not isinstance(self.create, bool | Mapping):
            raise TypeError(f"create must be True, False or a mapping of settings, not {self.create!r}")


def numbered_ids(boot: str) -> Callable[[Any], str]:
    """Return a function that gives each message the next number: an id that no other relay uses."""
    numbers = itertools.count(1)
    return lambda _message: f"{boot}.{next(numbers)}"


def shared_ids(feed: str, identity: Callable[[Any], str | int]) -> Callable[[Any], str]:
    """Return a function that gives each message the id that all relays of its feed use."""
    prefix = f"{token_of(feed)}:"

    def identity_of(message: Any) -> str:
        value = identity(message)
        if type(value) is int:
            return f"{prefix}{value}"
        if not isinstance(value, str):
            raise TypeError(f"identity must return a str or an int, not {value!r}")
        # Hash this id, because a header must not contain line breaks, and the broker keeps each id for minutes.
        if not _SAFE_ID.fullmatch(value) or len(value) > LONGEST_ID:
            value = hashlib.sha256(value.encode(errors="surrogatepass")).hexdigest()
        return prefix + value

    return identity_of


def checked_subject(function: Any) -> Callable[[Any], str]:
    """Return a function that returns the subject of a message; it raises ValueError if that is invalid."""

    def subject_of(message: Any) -> str:
        subject = function(message)
        if not isinstance(subject, str) or not _SUBJECT.fullmatch(subject) or len(subject) > LONGEST_SUBJECT:
            raise ValueError(f"subject must return tokens with dots between them, not {subject!r}")
        return subject

    return subject_of
