"""Decides which web pages may use a server, by the headers ``Origin`` and ``Host``.

Any web page can open a websocket to the machine on which it is shown, and a page whose host name resolves to 127.0.0.1
(DNS rebinding) can even read answers over HTTP. Browsers send both headers, and pages cannot change them: RFC 6455
§10.2.
"""

from __future__ import annotations

import argparse
import ipaddress
import re
from collections.abc import Collection

from websockets.datastructures import Headers

from ..reporting import printable

__all__ = ["Access", "add_access_options"]

_LONGEST = 200
"""The number of characters of a header that the text of a refusal quotes."""

_HOST = re.compile(r"(?:\[(?P<address>[^]]*)\]|(?P<name>[^:]*))(?::[0-9]*)?")


class Access:
    """The origins and host names that a server accepts.

    Args:
        origins: the accepted values of ``Origin``; ``"*"`` accepts every origin. If there are none, every request with
            an ``Origin`` is refused, because normally only browsers send one.
        hosts: the names or addresses accepted in ``Host``, in addition to those of loopback, the address that the
            server listens on and the address that the client has reached; ``"*"`` accepts every host.

    Raises:
        TypeError: an argument is a str instead of a collection of str.
    """

    def __init__(self, origins: Collection[str] = (), hosts: Collection[str] = ()) -> None:
        for name, given in (("allow_origins", origins), ("allow_hosts", hosts)):
            if isinstance(given, str):
                raise TypeError(f"{name}: expected a collection of str, such as [{given!r}], got a str")
        self._origins = {origin.lower().rstrip("/") for origin in origins}
        self._hosts = {host if host == "*" else _name_of(host) for host in hosts}

    def refusal(self, headers: Headers, *bound: str) -> str | None:
        """Return why a request is refused, as a text for the client, or None if it is accepted.

        Args:
            headers: the headers of the request.
            bound: the addresses at which the server can be reached.
        """
        for origin in headers.get_all("Origin"):
            if not self._origins & {"*", origin.lower()}:
                return _text("Origin", origin, "--allow-origin", "allow_origins")
        # A request without Host does not come from a browser.
        for value in headers.get_all("Host"):
            # picows includes the user and the password of the URL. Browsers never do.
            host = value.rpartition("@")[2]
            name = _name_of(host)
            if not (self._hosts & {"*", name} or _is_loopback(name) or name in map(_name_of, bound)):
                return _text("Host", host, "--allow-host", "allow_hosts")
        return None


def add_access_options(parser: argparse.ArgumentParser) -> None:
    """Declare ``--allow-origin`` and ``--allow-host``. Their values are lists, ``allow_origin`` and ``allow_host``."""
    parser.add_argument(
        "--allow-origin",
        metavar="URL",
        action="append",
        default=[],
        help="accept requests of web pages of this origin, * for all; repeatable",
    )
    parser.add_argument(
        "--allow-host",
        metavar="NAME",
        action="append",
        default=[],
        help="accept requests to this host name, * for all; repeatable",
    )


def _text(header: str, value: str, option: str, argument: str) -> str:
    shown = printable(value[:_LONGEST])
    return f"{header} {shown!r} is not accepted; {option} (in Python: {argument}) accepts it\n"


def _name_of(host: str) -> str:
    """Return the name or address in ``host``, normalized, without port and brackets. A malformed one is unchanged."""
    name = host.strip().lower()
    if match := _HOST.fullmatch(name):
        name = match["address"] or match["name"]
    return name.removesuffix(".")


def _is_loopback(name: str) -> bool:
    # RFC 6761 §6.3: names under localhost always resolve to loopback.
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
