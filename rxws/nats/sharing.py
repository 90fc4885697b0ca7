"""The partitions of a stream, and the share of one worker in them. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

__all__ = ["Partitions", "check_share", "partitioned"]

_PARTITION: Final = re.compile(r"\{\{\s*partition\(\s*(\d+)\s*(?:,[^)]*)?\)\s*\}\}", re.IGNORECASE)


def check_share(share: object) -> tuple[int, int] | None:
    """Return ``share`` if it is a pair ``(k, n)`` with ``0 <= k < n``, or None.

    Raises:
        TypeError: it is not a pair of ints.
        ValueError: the numbers are out of range.
    """
    if share is None:
        return None
    if not isinstance(share, tuple) or len(share) != 2 or not all(type(each) is int for each in share):
        raise TypeError(f"share must be a pair (k, n) of ints, or None, not {share!r}")
    worker, workers = share
    if not 0 <= worker < workers:
        raise ValueError(f"share must be (k, n) with 0 <= k < n, not {share!r}")
    return worker, workers


def partitioned(pattern: str, count: int) -> dict[str, str]:
    """Return the ``subject_transform`` of a stream that puts the partition, by the last field, behind the first token.

    Args:
        pattern: the pattern of the subjects; each ``*`` is a field.
        count: the number of partitions.

    Raises:
        ValueError: the subjects have no field.

    Example::

        assert partitioned("rx.*.*", 4) == {
            "src": "rx.*.*",
            "dest": "rx.{{partition(4,2)}}.{{wildcard(1)}}.{{wildcard(2)}}",
        }
    """
    root, *tokens = pattern.split(".")
    fields = tokens.count("*")
    if not fields:
        raise ValueError(f"partitions need a field in the subject, which {pattern!r} has not")
    numbers = iter(range(1, fields + 1))
    rest = [f"{{{{wildcard({next(numbers)})}}}}" if token == "*" else token for token in tokens]
    return {"src": pattern, "dest": ".".join([root, f"{{{{partition({count},{fields})}}}}", *rest])}


class Partitions:
    """The place of the partition in the subjects of a stream, and the partitions that a worker reads.

    Args:
        place: the position of the token that is the partition.
        count: the number of partitions.
        share: the worker and the number of workers; None: all partitions are read.

    Example::

        partitions = Partitions(1, 4, (0, 2))
        assert partitions.expanded(["rx.trade.*"]) == ["rx.0.trade.*", "rx.2.trade.*"]
    """

    def __init__(self, place: int, count: int, share: tuple[int, int] | None) -> None:
        self.place = place
        self.count = count
        worker, workers = share or (0, 1)
        self.mine = [number for number in range(count) if number % workers == worker]
        self._is_shared = share is not None

    @classmethod
    def of(cls, config: Mapping[str, Any], share: tuple[int, int] | None) -> Partitions | None:
        """Return the partitions of a stream with this configuration; None: it has none."""
        destination = (config.get("subject_transform") or {}).get("dest") or ""
        # A token of a transformation may contain dots only within the braces.
        tokens = re.findall(r"\{\{.*?\}\}|[^.]+", destination)
        for place, token in enumerate(tokens):
            if found := _PARTITION.fullmatch(token):
                return cls(place, int(found[1]), share)
        return None

    def expanded(self, patterns: Iterable[str]) -> list[str]:
        """Return patterns with the partition in its place."""
        numbers = [str(number) for number in self.mine] if self._is_shared else ["*"]
        return [self._with(pattern, number) for pattern in patterns for number in numbers]

    def _with(self, pattern: str, number: str) -> str:
        tokens = pattern.split(".")
        return ".".join([*tokens[: self.place], number, *tokens[self.place :]])

    def stripped(self, subject: str) -> str | None:
        """Return a subject without its partition; None: the worker does not read this partition."""
        tokens = subject.split(".")
        if len(tokens) <= self.place or tokens[self.place] not in self._names:
            return None
        return ".".join([*tokens[: self.place], *tokens[self.place + 1 :]])

    @property
    def _names(self) -> list[str]:
        return [str(number) for number in self.mine]
