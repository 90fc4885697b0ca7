"""Tracebacks for the log: without secrets, with the names that a program calls things by."""

from __future__ import annotations

import traceback
from collections.abc import Iterator

from .redaction import redact

__all__ = ["redacted_traceback"]


def redacted_traceback(error: BaseException) -> str:
    """Return an exception with its traceback as text without the secrets in it, and without control characters."""
    errors = _related(error)
    kinds = tuple(f"{type(each).__module__}.{type(each).__qualname__}:" for each in errors)
    names = frozenset(name for each in errors for name in _names(each))
    lines = [line for part in traceback.format_exception(error) for line in part.splitlines()]
    return "\n".join(_shown_line(line, kinds, names) for line in lines)


def _shown_line(line: str, kinds: tuple[str, ...], names: frozenset[str]) -> str:
    # The name of an exception's class is no secret, and may look like one.
    kind = next((kind for kind in kinds if line.startswith(kind)), "")
    return kind + redact(line.removeprefix(kind), names)


def _related(error: BaseException) -> list[BaseException]:
    """Return an exception with those that its traceback tells of: before it, and in it where it is a group."""
    pending: list[BaseException | None] = [error]
    found: dict[int, BaseException] = {}
    while pending:
        each = pending.pop()
        if each is not None and id(each) not in found:
            found[id(each)] = each
            pending += each.__cause__, each.__context__
            if isinstance(each, BaseExceptionGroup):
                pending += each.exceptions
    return list(found.values())


def _names(error: BaseException) -> Iterator[str]:
    """Give what the code that an exception came through calls things by: what it has in quotes is not among that."""
    yield from f"{type(error).__module__}.{type(error).__qualname__}".split(".")
    for frame, _ in traceback.walk_tb(error.__traceback__):
        code = frame.f_code
        yield from (code.co_name, *code.co_names, *code.co_varnames, *code.co_cellvars, *code.co_freevars)
