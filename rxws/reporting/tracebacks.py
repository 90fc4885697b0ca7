"""Makes tracebacks for the log, without secrets but with the names of the program's classes and functions."""

from __future__ import annotations

import traceback
from collections.abc import Iterator

from .redaction import redact

__all__ = ["redacted_traceback"]


def redacted_traceback(error: BaseException) -> str:
    """Return an exception with its traceback as text, without secrets and control characters."""
    errors = _related(error)
    kinds = tuple(f"{type(each).__module__}.{type(each).__qualname__}:" for each in errors)
    names = frozenset(name for each in errors for name in _names(each))
    lines = [line for part in traceback.format_exception(error) for line in _lines(part)]
    return "\n".join(_shown_line(line, kinds, names) for line in lines)


def _lines(part: str) -> list[str]:
    """Return the lines of a frame, or an exception's text as one line, which can neither forge nor hide others."""
    is_frame = part.lstrip(" |+-").startswith(('File "', "Traceback (", "Exception Group Traceback ("))
    return part.splitlines() if is_frame or part.isspace() else [part.strip("\n")]


def _shown_line(line: str, kinds: tuple[str, ...], names: frozenset[str]) -> str:
    # The name of an exception's class is not a secret, but may look like one.
    kind = next((kind for kind in kinds if line.startswith(kind)), "")
    return kind + redact(line.removeprefix(kind), names)


def _related(error: BaseException) -> list[BaseException]:
    """Return an exception with all exceptions in its traceback: causes, contexts and the members of groups."""
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
    """Yield the names in the code that an exception passed through. String literals are not among them."""
    yield from f"{type(error).__module__}.{type(error).__qualname__}".split(".")
    for frame, _ in traceback.walk_tb(error.__traceback__):
        code = frame.f_code
        yield from (code.co_name, *code.co_names, *code.co_varnames, *code.co_cellvars, *code.co_freevars)
