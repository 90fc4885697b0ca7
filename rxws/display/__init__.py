"""What a notebook cell shows of a feed, and what its next run disposes."""

from .cells import on_rerun
from .snapshot import Columns, mimebundle, shown

__all__ = ["Columns", "mimebundle", "on_rerun", "shown"]
