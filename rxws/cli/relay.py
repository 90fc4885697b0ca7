"""``rxws relay URL --nats SERVERS``: publish the messages of a feed to a stream of NATS JetStream."""

from __future__ import annotations

import argparse
import asyncio
import functools
from collections.abc import Callable
from typing import Any, Final

import rxws

from .. import Event, RxwsError
from ..messages import ABSENT, look_up
from .arguments import broker_url, count, seconds, url
from .connecting import add_broker_options, add_connection_options, add_filters, broker_options, check_broker, connect
from .filters import key
from .lines import event_line, is_news
from .output import Output
from .parser import Declare
from .running import DONE, FAILED

__all__ = ["add", "relay"]

_EPILOG: Final = """\
example:
  rxws relay wss://example.org/ws --nats nats://127.0.0.1:4222 -f e=trade --identity s --identity t

exit codes: 0 every message is stored; 1 no connection was ever open, or
messages were dropped or are not stored; 2 wrong arguments; 130 Ctrl-C;
143 SIGTERM (both wait up to 10 s for the broker)."""


def add(declare: Declare) -> None:
    """Declare the command ``relay``."""
    parser = declare(
        "relay",
        usage="rxws relay URL --nats SERVERS [options]",
        help="publish a feed to NATS JetStream",
        description="Publish a feed's messages to a stream of NATS JetStream, and print events on\n"
        "stderr. Lost connections on both sides are opened again. Run a second relay with\n"
        "the same --identity and --feed-name, so that one can replace the other.",
        epilog=_EPILOG,
    )
    parser.set_defaults(command=relay, prog=parser.prog, prints=False, check=functools.partial(_check, parser))
    parser.add_argument("url", metavar="URL", type=url, help="ws://... or wss://...")
    parser.add_argument(
        "--nats", metavar="SERVERS", type=broker_url, required=True, help="nats://... or tls://..., with commas between"
    )
    option = parser.add_argument
    option(
        "--identity",
        metavar="KEY",
        type=key,
        action="append",
        help="key whose value tells messages apart; with several, their values together; a.b is a path",
    )
    option("--feed-name", metavar="NAME", help="name of what is captured, equal for all its relays (default: the host)")
    option("--name", metavar="NAME", help="name of this relay (default: host and process)")
    option("--partitions", metavar="N", type=count, help="let up to N workers share the stream, by the last field")
    option("--no-create", action="store_true", help="do not make or check the stream, which needs fewer permissions")
    option("--seconds", metavar="N", type=seconds, help="stop after N seconds (default: at Ctrl-C)")
    add_filters(parser)
    add_connection_options(parser, of_broker=False)
    add_broker_options(parser)


def _check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if options.no_create and options.partitions:
        parser.error("--partitions makes the stream, so it does not go with --no-create")


async def relay(options: argparse.Namespace, output: Output) -> int:
    """Relay until ``--seconds`` have passed or the feed ends; return the exit code.

    Raises:
        rxws.RxwsError: no connection to the feed can be opened, or an option is wrong.
    """
    check_broker()
    feed = connect(options)
    running: Any = None
    try:
        async with feed:
            feed.events.subscribe(lambda event: _report(output, event), lambda _: None)
            try:
                running = rxws.nats.relay(feed, options.nats.split(","), **_options(options))
            except (TypeError, ValueError) as error:
                raise RxwsError(str(error)) from error
            async with running:
                await _wait(feed, options.seconds)
    finally:
        if running is not None:
            output.report(_summary(running))
    has_all = feed.statistics().opened and not (running.pending or running.dropped)
    return DONE if has_all else FAILED


def _report(output: Output, event: Event) -> None:
    if is_news(event):
        output.report(event_line(event))


async def _wait(feed: Any, limit: float | None) -> None:
    ended = asyncio.ensure_future(feed.wait_closed())
    try:
        await asyncio.wait({ended}, timeout=limit)
    finally:
        ended.cancel()


def _options(options: argparse.Namespace) -> dict[str, Any]:
    create: bool | dict[str, Any] = not options.no_create
    if options.partitions:
        template = rxws.nats.subjects.Template(options.subject or "rx.{e}.{s}")
        create = {"subject_transform": rxws.nats.sharing.partitioned(template.everything, options.partitions)}
    given = {
        "filters": options.filter,
        "identity": None if options.identity is None else identity_of(options.identity),
        "feed_name": options.feed_name or options.url.partition("://")[2].partition("/")[0].rpartition("@")[2],
        "name": options.name,
        "create": create,
    }
    return {**given, **broker_options(options)}


def identity_of(keys: list[str | tuple[str | int, ...]]) -> Callable[[Any], str]:
    """Return a function that returns the id of a message: the values of these keys.

    The function raises LookupError if the message lacks a key.
    """
    paths = [each if isinstance(each, tuple) else (each,) for each in keys]

    def identity(message: Any) -> str:
        values = [look_up(message, path) for path in paths]
        if ABSENT in values:
            missing = ".".join(map(str, paths[values.index(ABSENT)]))
            raise LookupError(f"the message has no key {missing!r}, which --identity names")
        return ":".join(map(str, values))

    return identity


def _summary(running: Any) -> str:
    said = f"relayed {running.published:,} messages, {running.duplicates:,} of which were already stored"
    if running.dropped:
        said += f"; {running.dropped:,} dropped"
    if running.pending:
        said += f"; {running.pending:,} not stored: {running.error or 'no acknowledgement'}"
    return said
