"""Makes one ordered sequence per channel from the messages of several lines, without I/O and without a clock.

::

    memory      the remembered deliveries
    outcomes    the limits, and the results besides the items
    seats       the state of one line in one channel
    evidence    whether a line agrees, lags, or leads
    replay      which earlier deliveries have arrived again on a line that began after the end of another
    deliveries  the changes of lines and channels: joining, losing, holding, delivering, forgetting
    deadlines   the rules that depend on time: lines have agreed, lag too much, or are silent for too long
    replacement the rules by which a line continues in place of one that has ended
    bypass      while all lines are joined, the caller drops copies by itself
    matcher     the rules for the events of lines, and what a caller may ask
"""

from .matcher import Matcher
from .memory import Delivery
from .outcomes import INCOMPARABLE, GapFound, Joined, Limits, Lost, Outcome, Reopen, Resumed
from .replay import Proof

__all__ = [
    "INCOMPARABLE",
    "Delivery",
    "GapFound",
    "Joined",
    "Limits",
    "Lost",
    "Matcher",
    "Outcome",
    "Proof",
    "Reopen",
    "Resumed",
]
