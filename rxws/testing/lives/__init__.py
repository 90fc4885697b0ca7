"""Whole lives of feeds, from a seed: what finds that tests by example do not.

::

    ingredients   what lives are made of, by name; in server_side and client_side, with chances that they share
    schedule      a life as plain data: settings, and what happens when
    shrinking     the shortest life that still fails
    dialect       what server and client say to each other
    record        what the server did, and when
    line, venue   the server: its end of a connection; numbered channels, and what it does to connections
    transport     connections without a socket, with lags in each direction
    real, relay   the same on loopback sockets
    clock         the loop's clock, which can be set on
    endpoint      where a feed connects to
    consumers     who looks at what the feed delivers; audience is all of them
    oracle        the judge: knows what each connection was sent, and nothing of rxws's rules
    report        what became of a life
    course        from the beginning to the end
    playing       the same, judged, with what is left behind
    life          all of it for a class of yours

A life is played in virtual time. Its seed decides all that is left to chance, with :class:`random.Random` and strings
alone, so that it goes the same way on every machine.
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
