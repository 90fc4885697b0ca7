"""The options that several commands share, and the feed that they describe."""

from __future__ import annotations

import argparse
from typing import Any

from .. import ReactiveWebSocket
from .arguments import count, filter_case, header, seconds
from .lines import decode

__all__ = ["add_connection_options", "add_filter_options", "connect"]


def add_filter_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options that select messages and limit their number."""
    parser.add_argument(
        *("--filter", "-f"),
        metavar="K=V",
        type=filter_case,
        action="append",
        help="K=V,K2=V2 requires both pairs; repeat the option for alternatives; a.b=1 is a path; a value is JSON if "
        "it is valid JSON, otherwise text",
    )
    parser.add_argument("--count", "-n", metavar="N", type=count, help="stop after N messages")


def add_connection_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the connection to a feed."""
    option = parser.add_argument
    option(
        "--send", "-s", metavar="TEXT", action="append", default=[], help="send TEXT on every connection; repeatable"
    )
    option("--rotate", metavar="SECONDS", type=seconds, help="rotate the connection at this interval, without a gap")
    option("--header", metavar="K:V", type=header, action="append", help="add a header to the handshake; repeatable")


def connect(options: argparse.Namespace) -> ReactiveWebSocket[Any]:
    """Return the feed that the options describe. It connects at once."""
    return ReactiveWebSocket(
        options.url,
        connect_options={"additional_headers": options.header or []},
        on_open=options.send,
        decode=decode,
        rotate_every=options.rotate,
        # A short timeout, so that the user does not wait long for a server that does not answer the close.
        close_timeout=1.0,
    )
