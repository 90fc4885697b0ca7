"""Whole lives of feeds, from a seed: what finds that tests by example do not.

::

    ingredients   what lives are made of: faults, by name
    schedule      a life as plain data: settings, and what happens when
    shrinking     the shortest life that still fails
    dialect       what server and client say to each other
    record        what the server did, and when
    venue         the server: numbered channels, connections that it damages
    transport     connections without a socket, with lags in each direction
    real, relay   the same on loopback sockets
    clock         the loop's clock, which can be set on
    consumers     who looks at what the feed delivers
    oracle        the judge: knows what each connection was sent, and nothing of rxws's rules
    report        what became of a life
    playing       from the beginning to what is left
    life          all of it for a class of yours

A life is played in virtual time. Its seed decides all that is left to chance, with :class:`random.Random` and strings
alone, so that it goes the same way on every machine.
"""

from __future__ import annotations

from .dialect import Dialect, Numbered, Request
from .ingredients import INGREDIENTS, KNOWN, compose
from .life import life
from .playing import Endpoint, Feed, MakeFeed, play
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
