"""Random secrets of common shapes, and whether a text shows one."""

from __future__ import annotations

import base64
import random
import string
import uuid
from collections.abc import Callable, Iterator
from typing import Final

ALPHANUMERIC: Final = string.ascii_letters + string.digits
UPPER_AND_DIGITS: Final = string.ascii_uppercase + string.digits


def random_text(source: random.Random, alphabet: str, length: int) -> str:
    """Return random characters of an alphabet."""
    return "".join(source.choices(alphabet, k=length))


def base64_of(source: random.Random, size: int) -> str:
    """Return random bytes in base64, with its padding."""
    return base64.b64encode(source.randbytes(size)).decode()


def urlsafe_of(content: bytes) -> str:
    """Return bytes in the URL-safe alphabet of base64, without padding."""
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def jwt(source: random.Random) -> str:
    """Return a text in the form of a JSON web token."""
    payload = b'{"sub":"%d","iat":%d}' % (source.randrange(10**6), source.randrange(10**9))
    return ".".join(map(urlsafe_of, (b'{"alg":"HS256","typ":"JWT"}', payload, source.randbytes(32))))


#: The shapes that are recognized wherever they stand.
TOKENS: Final[dict[str, Callable[[random.Random], str]]] = {
    "hexadecimal of 16 bytes": lambda source: source.randbytes(16).hex(),
    "hexadecimal of 32 bytes": lambda source: source.randbytes(32).hex().upper(),
    "base64 of 16 bytes": lambda source: base64_of(source, 16),
    "base64 of 24 bytes": lambda source: base64_of(source, 24),
    "base64 of 32 bytes": lambda source: base64_of(source, 32),
    "base64 of 64 bytes": lambda source: base64_of(source, 64),
    "URL-safe base64 of 32 bytes": lambda source: urlsafe_of(source.randbytes(32)),
    "base32 of 20 bytes": lambda source: base64.b32encode(source.randbytes(20)).decode(),
    "JSON web token": jwt,
    "UUID": lambda source: str(uuid.UUID(int=source.getrandbits(128), version=4)),
    "listen key": lambda source: random_text(source, ALPHANUMERIC, 64),
    "API key": lambda source: random_text(source, ALPHANUMERIC, 32),
    "key of a cloud": lambda source: "AKIA" + random_text(source, UPPER_AND_DIGITS, 16),
    "key with a prefix": lambda source: "sk_live_" + random_text(source, ALPHANUMERIC, 24),
}

#: The shapes that are secrets only by their place: after a name, in a header, or in a URL.
PASSWORDS: Final[dict[str, Callable[[random.Random], str]]] = {
    "password": lambda source: random_text(source, ALPHANUMERIC, 10),
    "password with signs": lambda source: random_text(source, ALPHANUMERIC + "!$%*+,-.;^_~", 12),
    "two words": lambda source: " ".join(random_text(source, string.ascii_lowercase, 8) for _ in range(2)),
    "number": lambda source: random_text(source, string.digits, 8),
}


def samples(shapes: dict[str, Callable[[random.Random], str]], count: int) -> Iterator[str]:
    """Yield ``count`` secrets of each shape, the same at each call."""
    for name, make in shapes.items():
        source = random.Random(name)
        yield from (make(source) for _ in range(count))


def is_shown(secret: str, text: str) -> bool:
    """Return whether a text shows 8 adjacent characters of a secret."""
    return any(secret[at : at + 8] in text for at in range(max(1, len(secret) - 7)))
