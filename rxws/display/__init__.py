"""Feeds and streams in notebooks: their display, and cleaning up when a cell is run again."""

from .cells import on_rerun
from .snapshot import COLUMNS, mimebundle, shown

__all__ = ["COLUMNS", "mimebundle", "on_rerun", "shown"]
