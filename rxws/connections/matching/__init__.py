"""One ordered sequence per channel from several lines: agreement, copies and gaps. Pure.

::

    memory      the deliveries that are remembered
    outcomes    the limits, and what the caller learns besides the items
    seats       what is known of one line in one channel
    evidence    what the messages of a line prove
    replay      what a line has brought again that began after the end of another
    deliveries  which line delivers, what the others hold, and what they owe
    matcher     the rules
"""

from .matcher import Matcher
from .outcomes import INCOMPARABLE, GapFound, Joined, Limits, Lost, Outcome, Reopen, Resumed
from .replay import Proof

__all__ = ["INCOMPARABLE", "GapFound", "Joined", "Limits", "Lost", "Matcher", "Outcome", "Proof", "Reopen", "Resumed"]
