"""Whole lives by seed."""

from __future__ import annotations

from .dialect import Dialect, Numbered, Request
from .ingredients import INGREDIENTS, KNOWN, compose
from .playing import Endpoint, play
from .report import LifeFailed, Problem, Report
from .schedule import Act, Schedule, Settings
from .shrinking import shorter, shrink

__all__ = [
    "INGREDIENTS",
    "KNOWN",
    "Act",
    "Dialect",
    "Endpoint",
    "LifeFailed",
    "Numbered",
    "Problem",
    "Report",
    "Request",
    "Schedule",
    "Settings",
    "compose",
    "play",
    "shorter",
    "shrink",
]
