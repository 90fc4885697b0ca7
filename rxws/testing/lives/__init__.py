"""Lives of feeds: random, repeatable sequences of faults, which find bugs that hand-written tests miss.

::

    ingredients   the kinds of faults, by name; their functions are in server_side, client_side and chances
    schedule      a life as plain data: its settings, and its acts with their times
    shrinking     finds the shortest life that still fails
    dialect       the messages of server and client
    record        the log of the server: what it sent and did, with times
    line, venue   the server: its end of each connection; its channels and faults
    transport     connections without a socket, with lags in each direction
    real, relay   connections on loopback sockets
    clock         the loop's clock, which can be advanced
    endpoint      the address and the options for a feed
    consumers     the consumers of the feed; audience holds all of them
    past          the history of a channel, and its consumer, which fetches the messages that the feed has missed
    evidence      the input of the judge
    oracle        the judge, which knows what the server sent on each connection, but does not know the rules of rxws
    feed_reports  the part of the judge that checks the Gaps of the feed and the results of rotate()
    report        the result of a life
    course        runs a life from beginning to end
    playing       runs a life, judges it, and looks for leaks
    life          the public function, for your class

Lives run in virtual time. All random decisions of a life come from :class:`random.Random` objects, seeded with strings
that contain the life's seed, so that a life is the same on every machine.
"""

from __future__ import annotations

from .dialect import Dialect, Numbered, Request
from .endpoint import Endpoint, Feed, MakeFeed
from .ingredients import INGREDIENTS, KNOWN, compose
from .life import life
from .playing import play
from .report import LifeFailed, Problem, Report
from .schedule import Act, Schedule, Settings
from .shrinking import shorter, shrink

__all__ = [
    "INGREDIENTS",
    "KNOWN",
    "Act",
    "Dialect",
    "Endpoint",
    "Feed",
    "LifeFailed",
    "MakeFeed",
    "Numbered",
    "Problem",
    "Report",
    "Request",
    "Schedule",
    "Settings",
    "compose",
    "life",
    "play",
    "shorter",
    "shrink",
]
