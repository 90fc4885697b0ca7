"""Operators for feeds that reactivex does not have. Use them in ``pipe`` of any reactivex Observable.

::

    from rxws import operators as rxops

    conflate            the newest message of each key, for a consumer that is slower than the feed
    as_type             messages as Structs, dataclasses or TypedDicts, which type checkers know
    map_async           the results of a coroutine function, with a limit for calls and for waiting messages
    windows             messages grouped by the time in them: a candle per minute and symbol
    detect_gaps         gaps in sequence numbers
    stale_after         keys that are silent while others are not
    to_async_iterator   an async iterator with its own buffer limit

Common rules:

- The operators read a *key*, a *time* or a *sequence number* from a message as a filter does: by a key of the message,
  by a path (a tuple of keys, ``("data", "s")``), or by a plain function of the message
  (``operator.attrgetter("symbol")`` for messages that are not dicts).
- One unexpected message does not end a feed. An operator leaves out a message that lacks a value, or for which the
  function raises. It logs this (at most once a second), counts the message as rejected, and emits
  :class:`~rxws.MessageRejected` on the ``events`` of the feed that the Observable belongs to. Filter first to avoid
  this. The ``Gap`` objects of a stream made with ``gaps=True`` have no keys and are rejected too, except by
  ``as_type`` and ``map_async``, which pass them on. ``detect_gaps`` leaves nothing out. An Observable that is not an
  AsyncObservable belongs to no feed; then the operator only logs.
- When the source ends or fails, an operator first delivers what it holds.
- Time passes on the scheduler that ``subscribe`` is given; by default, this is the loop's clock. Outside an event loop,
  operators that wait need a scheduler.
"""

from .asynchronous import map_async
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
    "map_async",
    "stale_after",
    "to_async_iterator",
    "windows",
]
