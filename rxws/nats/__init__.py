"""A relay and a feed over NATS JetStream, for feeds that several processes or machines consume.

::

    subjects    subjects of messages, and patterns of filters (no I/O)
    control     the statements of relays, and what a relay knows of the others (no I/O)
    outbox      the messages that a relay has still to publish (no I/O)
    sharing     the partitions of a stream, and a worker's share of them (no I/O)
    client      the library's client, with a shorter way for each message
    broker      one connection to the broker
    stream      the stream: made or checked
    capture     takes the messages of a feed into an outbox
    publishing  publishes an outbox
    place       the place of a feed in a stream
    frames      frames with their place in the stream
    positions   the place of each message
    merging     the messages of several consumers, in the order of the stream (no I/O)
    watermarks  the time until which no message is missing (no I/O)
    consumer    one pull consumer
    look_back   the statements before the place of a feed
    subscription  the connection of a feed
    feed        NatsFeed
    relay_options  the arguments of a relay, its ids and subjects
    relaying    relay(), which publishes a feed
"""

from __future__ import annotations

from .feed import NatsFeed
from .relaying import Relay, relay

__all__ = ["NatsFeed", "Relay", "relay"]
