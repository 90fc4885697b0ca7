"""Leaves the answers to heartbeats out of the messages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import CoroutineType
from typing import Any, Final

from .filters import Filter
from .frames import Frame
from .hooks import Many
from .inbound import Inbound

__all__ = ["ANSWER", "parse_answer", "without_answers"]

#: The messages of a frame that contains only answers to heartbeats.
ANSWER: Final[Many[Any]] = Many()


def parse_answer(answer: object) -> Frame | Filter | None:
    """Return the answer of a heartbeat: a frame, or the filter for the decoded answer; None if none is awaited.

    Raises:
        TypeError: it is no filter.
        ValueError: every message passes it.
    """
    if answer is None or isinstance(answer, str | bytes):
        return answer
    wanted = Filter.parse(answer, "the answer of Heartbeat")
    if wanted.passes_everything:
        raise ValueError(f"the answer of Heartbeat must be a filter that only the answer passes, not {answer!r}")
    return wanted


def without_answers(parse: Callable[[Frame], Any], answer: Frame | Filter, inbound: Inbound) -> Callable[[Frame], Any]:
    """Return a parse hook that counts the answers to heartbeats on a connection, and gives ANSWER for their frames."""

    def parse_others(frame: Frame) -> Any:
        if frame == answer:
            inbound.heartbeat_answers += 1
            return ANSWER
        return parse(frame)

    def others(message: Any, wanted: Filter) -> Any:
        items = message if type(message) is Many else (message,)
        left = [item for item in items if not inbound.passes(wanted, item)]
        inbound.heartbeat_answers += len(items) - len(left)
        return message if len(left) == len(items) else Many(left) if left else ANSWER

    async def others_later(message: Awaitable[Any], wanted: Filter) -> Any:
        return others(await message, wanted)

    def parse_and_leave_out(frame: Frame) -> Any:
        assert isinstance(answer, Filter)
        message = parse(frame)
        return (others_later if type(message) is CoroutineType else others)(message, answer)

    return parse_and_leave_out if isinstance(answer, Filter) else parse_others
