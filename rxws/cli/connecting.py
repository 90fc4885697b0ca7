"""What several commands take, and what they make of it: a feed from the command line, and which of its messages."""

from __future__ import annotations

import argparse
from typing import Any

from .. import ReactiveWebSocket
from .arguments import count, filter_case, header, seconds
from .lines import decode

__all__ = ["add_connection_options", "add_filter_options", "connect"]


def add_filter_options(parser: argparse.ArgumentParser) -> None:
    """Declare which messages are wanted, and how many."""
    parser.add_argument(
        *("--filter", "-f"),
        metavar="K=V",
        type=filter_case,
        action="append",
        help="K=V,K2=V2 wants both; repeat it for alternatives; a.b=1 is a path; a value is JSON if it can be, "
        "otherwise text",
    )
    parser.add_argument("--count", "-n", metavar="N", type=count, help="end after so many messages")


def add_connection_options(parser: argparse.ArgumentParser) -> None:
    """Declare how to connect to a feed."""
    option = parser.add_argument
    option("--send", "-s", metavar="TEXT", action="append", default=[], help="send on every new connection; repeatable")
    option("--rotate", metavar="SECONDS", type=seconds, help="have a new connection that often, without a gap")
    option("--header", metavar="K:V", type=header, action="append", help="of the handshake; repeatable")


def connect(options: argparse.Namespace) -> ReactiveWebSocket[Any]:
    """Make the feed."""
    return ReactiveWebSocket(
        options.url,
        connect_options={"additional_headers": options.header or []},
        on_open=options.send,
        decode=decode,
        rotate_every=options.rotate,
        # At the end nobody should have to wait for a peer that does not answer.
        close_timeout=1.0,
    )
