"""Operators for feeds, that reactivex does not have: each is used in ``pipe``, of any reactivex Observable.

::

    from rxws import operators as rxops

    conflate            for a consumer that is slower than the feed: the newest message of each key
    as_type             messages as Structs, dataclasses or TypedDicts, that the type checker knows
    windows             messages by the time that stands in them: a candle per minute and symbol
    detect_gaps         holes in sequence numbers
    stale_after         a symbol that is silent while others are not
    to_async_iterator   an async iterator with a bound of its own

What they have in common:

- A *key*, a *time* and a *sequence* are read from a message as a filter does it: by a key of the message, by a path (a
  tuple of keys, ``("data", "s")``), or by a plain function of the message (``operator.attrgetter("symbol")`` for
  messages that are no dicts).
- A feed does not end because one message is unlike the others. A message that lacks what an operator reads, or whose
  function raises, is left out: logged (at most once a second), counted as rejected, and emitted as
  :class:`~rxws.MessageRejected` on the ``events`` of the feed that the Observable comes from. So filter first; the
  ``Gap`` objects of a stream made with ``gaps=True`` have no keys either. (``detect_gaps`` leaves nothing out, and
  ``as_type`` passes them on.) Where
  the Observable does not know its feed, as one that is no AsyncObservable, it is logged alone.
- The end of the source, and its error, come after what an operator still holds.
- Time passes on the scheduler that ``subscribe`` is given: on the loop's clock by default. Outside an event loop those
  that wait need a scheduler.
"""

from .conflation import Conflated, conflate
from .iteration import to_async_iterator
from .sequences import SequenceGap, detect_gaps
from .silence import Recovered, Stale, stale_after
from .typed import as_type
from .windowing import Window, windows

__all__ = [
    "Conflated",
    "Recovered",
    "SequenceGap",
    "Stale",
    "Window",
    "as_type",
    "conflate",
    "detect_gaps",
    "stale_after",
    "to_async_iterator",
    "windows",
]
