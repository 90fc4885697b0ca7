"""The index: finds the entries whose filters a message passes, without trying each filter.

The dicts of all filters are grouped by *shape*: the set of keys that a dict reads. A program uses few shapes
(``{"s": …}``, ``{"e": …, "s": …}``) and many values. So each shape has one table. It maps the values of all its keys to
the entries that want exactly these values. A message costs one look-up per shape.

Rejected design: one table per key, where each dict is filed under its most selective pair. That design must guess which
pair is the most selective, must check the other pairs of every entry that it finds, and finds too many entries if no
single pair is selective (500 symbols with 15 intervals each).
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from ..observables.deferred import SKIPPED, Deferred
from ..reporting.cancellation import FAILURES
from .filters import Filter, has
from .shapes import ABSENT, Read, look_up, reader_for, reader_of_mappings

__all__ = ["Index", "Registration"]

E = TypeVar("E")
K = TypeVar("K")
V = TypeVar("V")

#: Types whose values cannot be hashed and never equal a plain value. So a table of plain values need not be searched
#: for them.
_CONTAINERS = frozenset({list, dict, set})

#: The largest number of filters with conditions for which the keys are read before the message.
_MOST_TRIED: Final = 100

#: The largest number of types of messages whose readers a shape remembers.
_MOST_TYPES = 1_000

# A value is plain if the __eq__ of its type is one of these. So a member of an enum is plain, unless its class has its
# own __eq__.
_PLAIN = tuple(kind.__eq__ for kind in (str, int, float, bytes, tuple, object))


class _Roster(Generic[K, V]):
    """Members in order of adding, and a tuple of them, which is made on demand and kept until the next change.

    So a series of messages without a change copies the members only once, and a series of changes copies nothing.
    """

    __slots__ = ("listed", "members")

    def __init__(self) -> None:
        self.members: dict[K, V] = {}
        self.listed: tuple[V, ...] | None = None

    def put(self, key: K, value: V) -> None:
        self.members[key] = value
        self.listed = None

    def drop(self, key: K) -> None:
        del self.members[key]
        self.listed = None

    def as_tuple(self) -> tuple[V, ...]:
        """Return the members, and keep the tuple until the next change."""
        # Any allocation may run a finalizer that removes a member, so copy with a star, which first copies the members
        # into a list in one step. If a finalizer removes a member after that step, the tuple contains it until the next
        # change. That does no harm, because a removed receiver ignores messages.
        listed = self.listed = (*self.members.values(),)
        return listed


@dataclass(slots=True, eq=False)
class Registration(Generic[E]):
    """An entry's place in an :class:`Index`: ``add`` returns it and ``remove`` takes it."""

    entry: E
    filter: Filter
    rosters: tuple[_Roster[Registration[E], Any], ...] = ()


class _Bucket(_Roster[Registration[E], E]):
    """The entries that want exactly these values of a shape's keys."""

    __slots__ = ("alternative", "is_plain", "shape")

    def __init__(self, shape: _Shape[E], alternative: Mapping[Hashable, object]) -> None:
        super().__init__()
        self.shape = shape
        self.alternative = alternative
        self.is_plain = all(type(value).__eq__ in _PLAIN for value in alternative.values())


class _Shape(_Roster[Hashable, _Bucket[E]]):
    """A set of keys, and the table from their values to buckets.

    The table's key is the value if the shape has one key, and the tuple of values if it has several.
    """

    __slots__ = ("find", "key", "keys", "non_plain", "read", "readers")

    def __init__(self, keys: Iterable[Hashable]) -> None:
        super().__init__()
        self.keys = tuple(keys)
        self.non_plain = 0  # the number of buckets with a value that is not plain, and may equal anything
        self.find = self.members.get
        self.key = self.keys[0]
        is_one_key = len(self.keys) == 1 and not isinstance(self.key, tuple)
        # Reads messages that are dicts; None for one plain key, which `match` reads itself. `readers` are for other
        # types.
        self.read = None if is_one_key else reader_of_mappings(self.keys)
        self.readers: dict[type, Read | None] = {}

    def reader_for(self, kind: type) -> Read | None:
        """Make the function that reads messages of a type, and remember it."""
        if len(self.readers) >= _MOST_TYPES:  # the program creates types at run time
            self.readers.clear()
        read = self.readers[kind] = reader_for(kind, self.keys)
        return read

    def values_of(self, alternative: Mapping[Hashable, object]) -> Hashable:
        values = tuple([alternative[key] for key in self.keys])
        return values[0] if len(values) == 1 else values


class _Tried(_Roster[Registration[E], "Registration[Registration[E]]"]):
    """The registrations whose filters also have values that are not plain.

    A second index finds candidates by the plain values. Then the whole filter of each candidate is called. The members
    map each registration to its registration in the second index.
    """

    __slots__ = ("index", "on_error")

    def __init__(self, on_error: Callable[[Filter, object, BaseException], object]) -> None:
        super().__init__()
        self.on_error = on_error
        self.index: Index[Registration[E]]  # created with the first member, because each Index creates a _Tried

    def put(self, key: Registration[E], value: Any) -> None:
        if not self.members:
            self.index = Index(self.on_error)
        super().put(key, self.index.add(key, key.filter.plain_part()[0]))

    def drop(self, key: Registration[E]) -> None:
        registration = self.members[key]
        super().drop(key)
        self.index.remove(registration)

    def match(self, message: object) -> list[E]:
        """Return the entries whose whole filters a message passes."""
        found: list[E] = []
        for registration in self.index.match(message):
            try:
                if registration.filter(message):
                    found.append(registration.entry)
            except FAILURES as error:
                self.on_error(registration.filter, message, error)
        return found


class Index(Generic[E]):
    """Entries (any objects) with their filters. ``match`` finds the entries for a message.

    The cost of ``match`` grows with the number of shapes (see the module) and with the number of entries that it finds.
    It also calls each filter that has more than plain values (a function, a condition, a value that cannot be hashed)
    and whose plain values match. It does not grow with the number of other entries, with one exception: an entry wants
    a value with an ``__eq__`` of its own (so not a str, a number, None or an enum), and the message has a value that
    cannot be hashed under the same key. ``add`` and ``remove`` cost the same for any number of entries.

    A message may be Deferred. Then its part is compared in place of the message, if its token is the index's.

    Attributes:
        token: another object after each change.

    Use an index on one thread. A value's ``__eq__`` or ``__hash__`` and a finalizer may call its methods while another
    call is running. A change that is requested during another change is made after that one, before the outer call
    returns. A ``match`` during a change may or may not find the entry that changes.

    Args:
        on_error: called with the filter, the message and the exception when a predicate or an ``__eq__`` raises; the
            filter then rejects the message. Exceptions of ``on_error`` propagate out of ``match``.

    ::

        index = Index(on_error=report)
        registration = index.add(stream, Filter.parse([{"s": "BTCUSDT"}]))
        for entry in index.match({"e": "trade", "s": "BTCUSDT"}):
            ...
        index.remove(registration)
    """

    # `match` works during a change because it uses only single look-ups and finished tuples, and because each step of a
    # change that modifies a roster's members discards its tuple afterwards.

    def __init__(self, on_error: Callable[[Filter, object, BaseException], object]) -> None:
        self._on_error = on_error
        self._shapes: _Roster[frozenset[Hashable], _Shape[E]] = _Roster()
        self._unconditional: _Roster[Registration[E], E] = _Roster()
        self._tried: _Tried[E] = _Tried(on_error)
        self._only: _Shape[E] | None = None  # the only shape, if it has one plain key and nothing else is searched
        self._takes_everything = True  # whether every entry wants every message
        self.token: object = object()
        self._several = 0  # the number of registrations that are in several buckets, so a message may find them twice
        self._count = 0
        self._is_changing = False
        self._changes: deque[tuple[Callable[[Registration[E]], None], Registration[E]]] = deque()

    def __len__(self) -> int:
        return self._count

    def add(self, entry: E, filter: Filter) -> Registration[E]:  # noqa: A002
        """Add an entry. Until you remove it, ``match`` returns it for each message that passes the filter.

        An entry that was added twice is returned twice.

        Raises:
            Exception: a value's ``__hash__`` or ``__eq__`` raised it; nothing was added.
        """
        registration = Registration(entry, filter)
        self._change(self._take_in, registration)
        return registration

    def remove(self, registration: Registration[E]) -> None:
        """Remove an entry that ``add`` of this index added. Idempotent.

        Raises:
            Exception: a value's ``__hash__`` raised it; the entry was removed nevertheless.
        """
        self._change(self._take_out, registration)

    def match(self, message: object) -> Sequence[E]:
        """Return every entry whose filter the message passes, once per registration.

        The result is a snapshot: adding and removing do not change it. Entries with equal conditions are in the order
        in which they were added.
        """
        only = self._only
        if only is not None and type(message) is dict:
            try:
                found = only.find(message.get(only.key, ABSENT))
            except FAILURES:
                return self._merge([*self._compare(only, message)])
            return () if found is None else found.listed or found.as_tuple()
        if self._takes_everything:
            return self._unconditional.listed or self._unconditional.as_tuple()
        if type(message) is Deferred:
            seen = message.part
            if message.token is self.token:
                message.part = message.token = None
            else:
                # The keys were not read, or not for the present entries.
                seen = message.get()
            return () if seen is SKIPPED else self.match(seen)
        hits: list[_Roster[Registration[E], E]] = []
        if self._unconditional.members:
            hits.append(self._unconditional)
        if type(message) is not dict:
            hits += self._find(message)
        elif self._shapes.members:
            get = message.get
            for shape in self._shapes.listed or self._shapes.as_tuple():
                read = shape.read
                try:
                    bucket = shape.find(get(shape.key, ABSENT) if read is None else read(message))
                except FAILURES:
                    hits += self._compare(shape, message)
                else:
                    if bucket is not None:
                        hits.append(bucket)
        if self._tried.members:
            return [*self._merge(hits), *self._tried.match(message)]
        if len(hits) == 1:
            return hits[0].listed or hits[0].as_tuple()
        return self._merge(hits) if hits else ()

    def keys(self) -> frozenset[Hashable] | None:
        """Return the keys and paths that :meth:`match` reads; None if an entry needs the whole message."""
        tried = [registration.filter for registration in self._tried.members]
        if (
            self._unconditional.members
            or len(tried) > _MOST_TRIED
            or any(wanted.predicate is not None for wanted in tried)
            or any(shape.non_plain for shape in self._shapes.members.values())
        ):
            return None
        of_shapes = (key for shape in self._shapes.members.values() for key in shape.keys)
        return frozenset(of_shapes) | {key for wanted in tried for key in wanted.keys}

    def _find(self, message: object) -> list[_Bucket[E]]:
        """Find the buckets for a message that is not a dict. Each shape has one reader for each type of message."""
        found: list[_Bucket[E]] = []
        kind = type(message)
        for shape in self._shapes.listed or self._shapes.as_tuple():
            try:
                read = shape.readers[kind] if kind in shape.readers else shape.reader_for(kind)
                bucket = None if read is None else shape.find(read(message))
            except FAILURES:
                found += self._compare(shape, message)
            else:
                if bucket is not None:
                    found.append(bucket)
        return found

    def _merge(self, hits: list[_Roster[Registration[E], E]]) -> list[E]:
        if not self._several:
            entries: list[E] = []
            for roster in hits:
                entries += roster.listed or roster.as_tuple()
            return entries
        found: dict[Registration[E], E] = {}
        for roster in hits:
            found.update(roster.members)
        return list(found.values())

    def _compare(self, shape: _Shape[E], message: object) -> list[_Bucket[E]]:
        """Find the buckets for a message with an unhashable value, or with a value whose hash or equality raises."""
        found: list[_Bucket[E]] = []
        with contextlib.suppress(*FAILURES):  # the loop below meets the same exception and reports it
            if not shape.non_plain and any(type(look_up(message, key)) in _CONTAINERS for key in shape.keys):
                return found  # a container equals no plain value, so do not compare it with each bucket
        for bucket in shape.as_tuple():
            try:
                if has(message, bucket.alternative.items()):
                    found.append(bucket)
            except FAILURES as error:
                for registration in list(bucket.members):
                    self._on_error(registration.filter, message, error)
        return found

    def _change(self, change: Callable[[Registration[E]], None], registration: Registration[E]) -> None:
        """Make a change now, or after the change of an outer call on this stack."""
        self._changes.append((change, registration))
        if not self._is_changing:
            self._make_changes()

    def _make_changes(self) -> None:
        self._is_changing = True
        try:
            while self._changes:
                change, registration = self._changes.popleft()
                change(registration)
        finally:
            self._is_changing = False
            if self._changes:  # this change raised; still make the others
                self._make_changes()

    def _take_in(self, registration: Registration[E]) -> None:
        rosters = self._rosters_for(registration.filter)
        for roster in rosters:
            roster.put(registration, registration.entry)
        registration.rosters = rosters
        self._count += 1
        self._several += len(rosters) > 1
        self._find_only()

    def _find_only(self) -> None:
        self.token = object()
        self._only = None
        self._takes_everything = not (self._shapes.members or self._tried.members)
        if len(self._shapes.members) == 1 and not (self._unconditional.members or self._tried.members):
            (shape,) = self._shapes.members.values()
            self._only = shape if shape.read is None else None

    def _take_out(self, registration: Registration[E]) -> None:
        rosters, registration.rosters = registration.rosters, ()
        for roster in rosters:
            roster.drop(registration)
        self._several -= len(rosters) > 1
        self._count -= bool(rosters)
        for roster in rosters:
            if isinstance(roster, _Bucket):
                self._drop_if_empty(roster)
        self._find_only()

    def _rosters_for(self, wanted: Filter) -> tuple[_Roster[Registration[E], Any], ...]:
        if wanted.passes_everything:
            return (self._unconditional,)
        if not wanted.is_plain:
            wanted, is_same = wanted.plain_part()
            if not is_same:
                return (self._tried,)
        buckets: dict[_Bucket[E], None] = {}  # an ordered set: dicts may be equal ({"a": 1}, {"a": True})
        try:
            for alternative in wanted.alternatives:
                buckets[self._bucket_for(alternative)] = None
        except BaseException:  # a value's __hash__ or __eq__ raised: drop the new buckets
            for bucket in buckets:
                self._drop_if_empty(bucket)
            raise
        return tuple(buckets)

    def _bucket_for(self, alternative: Mapping[Hashable, object]) -> _Bucket[E]:
        keys = frozenset(alternative)
        shape = self._shapes.members.get(keys) or _Shape(alternative)
        values = shape.values_of(alternative)
        bucket = shape.find(values)
        if bucket is None:
            bucket = _Bucket(shape, alternative)
            shape.put(values, bucket)
            shape.non_plain += not bucket.is_plain
            if len(shape.members) == 1:
                self._shapes.put(keys, shape)
        return bucket

    def _drop_if_empty(self, bucket: _Bucket[E]) -> None:
        if bucket.members:
            return
        shape = bucket.shape
        shape.drop(shape.values_of(bucket.alternative))
        shape.non_plain -= not bucket.is_plain
        if not shape.members:
            self._shapes.drop(frozenset(shape.keys))
