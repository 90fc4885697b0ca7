"""The options that several commands share, and the feed that they describe."""

from __future__ import annotations

import argparse
import ssl
from typing import Any, Final

import rxws

from .. import AsyncWebsocketStreamInterface, ReactiveWebSocket, RxwsError
from ..reporting import printable
from .arguments import BROKER, count, header, seconds, start
from .filters import filter_case, keys
from .lines import decode

__all__ = [
    "BROKER_OPTIONS",
    "add_broker_options",
    "add_connection_options",
    "add_filter_options",
    "add_filters",
    "broker_options",
    "check_broker",
    "check_options",
    "connect",
]

BROKER_OPTIONS: Final = """\
nats:// takes --start new|all|last|N, --stream, --subject, --creds, --nkey, --ca
"""
"""The line of a command's help about the options for NATS, which ``rxws relay --help`` explains."""

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
        help="K=V,K2=V2 needs both; also != < <= > >=; repeat it for alternatives; a.b is a path; V is JSON or text",
    )


def add_filter_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options that select messages and what is shown of them, and limit their number."""
    add_filters(parser)
    parser.add_argument("--fields", metavar="K,K2", type=keys, help="show only these keys")
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
        # The help names them in its last lines, so that it fits a screen.
        option("--start", type=start, help=argparse.SUPPRESS)
        add_broker_options(parser, is_shown=False)


def add_broker_options(parser: argparse.ArgumentParser, *, is_shown: bool = True) -> None:
    """Declare the options of the stream and of the connection to NATS."""
    for option, metavar, text in (
        ("--stream", "NAME", "name of the stream (default: rxws)"),
        ("--subject", "TEMPLATE", "template of the subjects (default: rx.{e}.{s})"),
        ("--creds", "FILE", "credentials file of the user"),
        ("--nkey", "FILE", "file with the nkey seed of the user"),
        ("--ca", "FILE", "certificate of the servers' authority"),
    ):
        parser.add_argument(option, metavar=metavar, help=text if is_shown else argparse.SUPPRESS)


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
    latency: dict[str, Any] = {}
    if getattr(options, "sent_at", None) is not None:
        latency["sent_at"], latency["unit"] = options.sent_at
    if options.url.startswith(BROKER):
        check_broker()
        more = latency if options.start is None else {"start": options.start, **latency}
        try:
            feed: AsyncWebsocketStreamInterface[Any] = rxws.nats.NatsFeed(
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
        **latency,
    )


def check_broker() -> None:
    """Import ``rxws.nats``, which is imported at its first use, because the other commands need no nats-py.

    Raises:
        rxws.RxwsError: nats-py is not installed.
    """
    try:
        rxws.nats  # noqa: B018
    except ModuleNotFoundError as error:
        raise RxwsError(f"NATS needs nats-py: pip install nats-py ({error})") from error


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
