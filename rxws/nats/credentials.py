"""Checks files with credentials before nats-py reads them. It would search a file without a token endlessly."""

from __future__ import annotations

from collections import UserString
from collections.abc import Mapping
from itertools import pairwise
from os import PathLike
from typing import Any, Final

__all__ = ["check_credentials"]

_TOKEN: Final = b"BEGIN NATS USER JWT"
_SEED: Final = b"BEGIN USER NKEY SEED"


def check_credentials(options: Mapping[str, Any]) -> None:
    """Check that the files that the options name contain what nats-py expects. No error shows a path or a secret.

    Args:
        options: the arguments of ``nats.connect``.

    Raises:
        ImportError: they need the package ``nkeys``, which is not installed.
        ValueError: a file cannot be read, or contains no token or no seed.
    """
    credentials, seed = options.get("user_credentials"), options.get("nkeys_seed")
    if credentials is None and seed is None:
        return
    import nkeys  # type: ignore[import-untyped]

    if isinstance(credentials, (str, PathLike, UserString)):
        lines = _read("user_credentials", credentials).splitlines()
        if not _after(_TOKEN, lines):
            raise ValueError("the file of user_credentials contains no user JWT")
        name, found = "user_credentials", _after(_SEED, lines)
    elif credentials is None:
        name, found = "nkeys_seed", _read("nkeys_seed", seed).strip()
    else:
        return
    try:
        nkeys.from_seed(bytearray(found)).wipe()
    except (nkeys.NkeysError, ValueError, IndexError):
        raise ValueError(f"the file of {name} contains no valid nkey seed") from None


def _read(name: str, source: Any) -> bytes:
    if isinstance(source, UserString):
        return source.data.encode()
    try:
        with open(source, "rb") as file:
            return file.read()
    except OSError as error:
        raise ValueError(f"the file of {name} cannot be read ({error.strerror})") from None


def _after(marker: bytes, lines: list[bytes]) -> bytes:
    """Return the line after the first one that contains the marker; empty if there is none."""
    return next((following for line, following in pairwise(lines) if marker in line), b"").strip()
