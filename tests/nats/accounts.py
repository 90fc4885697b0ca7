"""An operator, accounts and users whose rights are in signed tokens (JWT), as ``nsc`` makes them."""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Sequence
from typing import Any

import nkeys

__all__ = ["Key", "Operator"]

UNLIMITED = dict.fromkeys(
    (
        *("subs", "conn", "leaf", "imports", "exports", "data", "payload"),
        *("mem_storage", "disk_storage", "streams", "consumer"),
    ),
    -1,
)


class Key:
    """A pair of keys of an operator, an account or a user.

    Attributes:
        seed: the secret.
        public: the public key.
    """

    def __init__(self, kind: int) -> None:
        self._pair = nkeys.from_seed(nkeys.encode_seed(os.urandom(32), kind))
        self.seed: str = self._pair.seed.decode()
        self.public: str = self._pair.public_key.decode()

    def token(self, subject: str, claims: dict[str, Any], **more: Any) -> str:
        """Return a token about a key, which this key signs."""
        body = {"jti": os.urandom(8).hex(), "iat": int(time.time()), "iss": self.public, "sub": subject, **more}
        parts = [{"typ": "JWT", "alg": "ed25519-nkey"}, {**body, "nats": {"version": 2, **claims}}]
        text = ".".join(_encoded(json.dumps(part).encode()) for part in parts)
        return f"{text}.{_encoded(self._pair.sign(text.encode()))}"


class Operator:
    """An operator with a system account and one account, whose tokens are in the server's configuration."""

    def __init__(self) -> None:
        self._operator = Key(nkeys.PREFIX_BYTE_OPERATOR)
        self._system = Key(nkeys.PREFIX_BYTE_ACCOUNT)
        self._account = Key(nkeys.PREFIX_BYTE_ACCOUNT)
        # A running server accepts no other token of its operator.
        self._token = self._operator.token(self._operator.public, {"type": "operator"}, name="operator")

    def config(self, *revoked: Key) -> str:
        """Return the part of the server's configuration, with these users' tokens revoked."""
        revocations = {key.public: int(time.time()) + 1 for key in revoked}
        claims = {"type": "account", "limits": {**UNLIMITED, "wildcards": True}, "revocations": revocations}
        # The system account must not have the right to store messages.
        tokens = {
            self._system.public: self._operator.token(self._system.public, {"type": "account"}, name="system"),
            self._account.public: self._operator.token(self._account.public, claims, name="account"),
        }
        preloaded = ", ".join(f"{public}: {token}" for public, token in tokens.items())
        return (
            f"operator: {self._token}\nsystem_account: {self._system.public}\n"
            f"resolver: MEMORY\nresolver_preload: {{ {preloaded} }}\n"
        )

    def credentials(
        self, key: Key, publish: Sequence[str] = (), subscribe: Sequence[str] = (), expires: float = 0
    ) -> str:
        """Return the credentials file of a user: its token and its seed.

        Args:
            key: the user's.
            publish: the subjects that the user may publish; empty for all.
            subscribe: the subjects that the user may subscribe to; empty for all.
            expires: when the token expires, in seconds since the epoch; 0 for never.
        """
        rights = {
            name: {"allow": list(allowed)} if allowed else {}
            for name, allowed in (("pub", publish), ("sub", subscribe))
        }
        claims = {"type": "user", "subs": -1, "data": -1, "payload": -1, **rights}
        token = self._account.token(key.public, claims, **({"exp": int(expires)} if expires else {}))
        return (
            f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{key.seed}\n------END USER NKEY SEED------\n"
        )


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
