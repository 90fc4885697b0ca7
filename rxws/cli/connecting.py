"""The options that several commands share, and the feed that they describe."""

from __future__ import annotations

import argparse
import ssl
from typing import TYPE_CHECKING, Any, Final

import rxws

from .. import AsyncWebsocketStreamInterface, ReactiveWebSocket, RxwsError
from ..reporting import printable
from .arguments import BROKER, count, filter_case, header, seconds, start
from .lines import decode

if TYPE_CHECKING:
    from types import ModuleType

__all__ = [
    "add_broker_options",
    "add_connection_options",
    "add_filter_options",
    "add_filters",
    "broker_module",
    "broker_options",
    "check_options",
    "connect",
]

#: The options that only websockets have, and the options that only NATS has, by the names of their values.
_OF_WEBSOCKETS: Final = {"send": "--send", "rotate": "--rotate", "header": "--header"}
_OF_NATS: Final = {
    "stream": "--stream",
    "subject": "--subject",
    "start": "--start",
    "creds": "--creds",
    "nkey": "--nkey",
    "ca": "--ca",
}


def add_filters(parser: argparse.ArgumentParser) -> None:
    """Declare the option that selects messages."""
    parser.add_argument(
        *("--filter", "-f"),
        metavar="K=V",
        type=filter_case,
        action="append",
        help="K=V,K2=V2 requires both pairs; repeat the option for alternatives; a.b=1 is a path; a value is JSON if "
        "it is valid JSON, otherwise text",
    )


def add_filter_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options that select messages and limit their number."""
    add_filters(parser)
    parser.add_argument("--count", "-n", metavar="N", type=count, help="stop after N messages")


def add_connection_options(parser: argparse.ArgumentParser, *, of_broker: bool = True) -> None:
    """Declare the options of the connection to a feed.

    Args:
        parser: the parser of the command.
        of_broker: whether the feed may also be read from NATS.
    """
    option = parser.add_argument
    option(
        *("--send", "-s"), metavar="TEXT", action="append", default=[], help="send TEXT on every connection; repeatable"
    )
    option("--rotate", metavar="SECONDS", type=seconds, help="rotate the connection at this interval, without a gap")
    option("--header", metavar="K:V", type=header, action="append", help="add a header to the handshake; repeatable")
    if of_broker:
        broker = parser.add_argument_group("options for nats://... and tls://...")
        broker.add_argument(
            "--start", metavar="PLACE", type=start, help="new (the default), all, last (of each subject), or a number"
        )
        add_broker_options(broker)


def add_broker_options(group: Any) -> None:
    """Declare the options of the stream and of the connection to NATS."""
    option = group.add_argument
    option("--stream", metavar="NAME", help="name of the stream (default: rxws)")
    option("--subject", metavar="TEMPLATE", help="template of the subjects (default: rx.{e}.{s})")
    option("--creds", metavar="FILE", help="credentials file of the user")
    option("--nkey", metavar="FILE", help="file with the nkey seed of the user")
    option("--ca", metavar="FILE", help="certificate of the authority that signed the servers' certificates")


def check_options(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End the program with an error about the arguments if an option does not suit the address of the feed."""
    is_broker = options.url.startswith(BROKER)
    unsuitable = _OF_WEBSOCKETS if is_broker else _OF_NATS
    for name, option in unsuitable.items():
        if getattr(options, name):
            parser.error(f"{option} is for {'websockets' if is_broker else 'nats:// and tls://'} only")


def connect(options: argparse.Namespace) -> AsyncWebsocketStreamInterface[Any]:
    """Return the feed that the options describe. It connects at once.

    Raises:
        rxws.RxwsError: the options of a NATS server are wrong, or nats-py is not installed.
    """
    if options.url.startswith(BROKER):
        more = {} if options.start is None else {"start": options.start}
        try:
            feed: AsyncWebsocketStreamInterface[Any] = broker_module().NatsFeed(
                options.url.split(","), decode=decode, close_timeout=1.0, **more, **broker_options(options)
            )
        except (TypeError, ValueError) as error:
            raise RxwsError(str(error)) from error
        return feed
    return ReactiveWebSocket(
        options.url,
        connect_options={"additional_headers": options.header or []},
        on_open=options.send,
        decode=decode,
        rotate_every=options.rotate,
        # A short timeout, so that the user does not wait long for a server that does not answer the close.
        close_timeout=1.0,
    )


def broker_module() -> ModuleType:
    """Return ``rxws.nats``.

    Raises:
        rxws.RxwsError: nats-py is not installed.
    """
    try:
        # The package imports this module at its first use, so that the other commands need no nats-py.
        return rxws.nats
    except ModuleNotFoundError as error:
        raise RxwsError(f"NATS needs nats-py: pip install 'rxws[nats]' ({error})") from error


def broker_options(options: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of ``relay`` and ``NatsFeed`` about the stream and the connection.

    Raises:
        rxws.RxwsError: a file cannot be read.
    """
    files = {"user_credentials": options.creds, "nkeys_seed": options.nkey}
    connecting: dict[str, Any] = {name: _readable(path) for name, path in files.items() if path is not None}
    if options.ca is not None:
        try:
            connecting["tls"] = ssl.create_default_context(cafile=_readable(options.ca))
        except ssl.SSLError as error:
            raise RxwsError(f"{printable(options.ca)} contains no certificate: {error.reason}") from error
    given = {"stream": options.stream, "subject": options.subject, "connect_options": connecting or None}
    return {name: value for name, value in given.items() if value is not None}


def _readable(path: str) -> str:
    try:
        with open(path, "rb"):
            return path
    except OSError as error:
        raise RxwsError(f"{printable(path)}: {error.strerror}") from error
