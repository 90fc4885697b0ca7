"""The index: finds the entries whose filters a message passes, without trying them one by one.

The dicts of all filters fall into *shapes*, the sets of keys they look at. A program writes few shapes
(``{"s": …}``, ``{"e": …, "s": …}``) and many values, so each shape has one table from the values of all its keys to
the entries that want just these, and a message costs one look-up per shape. A table per key, each dict under the one
pair that selects best, was rejected: it must guess which that will be, has to check the other pairs of everything it
finds, and finds too much when no single pair selects well (500 symbols, 15 intervals of each).
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar, cast

from ..reporting.cancellation import FAILURES
from .filters import ABSENT, Filter, has, look_up, mapping_of

__all__ = ["Index", "Registration"]

E = TypeVar("E")
K = TypeVar("K")
V = TypeVar("V")

_CONTAINERS = frozenset({list, dict, set})
"""What cannot be looked up in a table, and equals nothing plain: so no table of plain values need be gone through."""

# By their equality and not by their type: a member of an enum is as plain, if its class does not say otherwise.
_PLAIN = tuple(kind.__eq__ for kind in (str, int, float, bytes, tuple, object))


class _Roster(Generic[K, V]):
    """Members in order of adding, and the tuple of them: made when it is asked for, kept until the next change.

    So neither a message nor a change costs a copy, however many members there are.
    """

    __slots__ = ("listed", "members")

    def __init__(self) -> None:
        self.members: dict[K, V] = {}
        self.listed: tuple[V, ...] | None = None


class Registration(Generic[E]):
    """An entry's place in an :class:`Index`: what ``add`` returns and ``remove`` takes."""

    __slots__ = ("entry", "filter", "rosters")

    def __init__(self, entry: E, filter: Filter) -> None:  # noqa: A002
        self.entry = entry
        self.filter = filter
        self.rosters: tuple[_Roster[Registration[E], Any], ...] = ()


class _Bucket(_Roster[Registration[E], E]):
    """The entries that want just these values of a shape's keys."""

    __slots__ = ("shape", "values")

    def __init__(self, shape: _Shape[E], values: Hashable) -> None:
        super().__init__()
        self.shape = shape
        self.values = values


class _Shape(_Roster[Hashable, _Bucket[E]]):
    """A set of keys, and the table from their values to buckets.

    One key has its value in the table, several have the tuple of theirs.
    """

    __slots__ = ("find", "key", "keys", "non_plain", "read")

    def __init__(self, keys: Iterable[Hashable]) -> None:
        super().__init__()
        self.keys = tuple(keys)
        self.non_plain = 0  # how many buckets have a value that is not plain, and may equal anything
        self.find = self.members.get
        self.key: Hashable = None
        self.read: Callable[[Mapping[Any, Any]], Hashable] | None = None
        if len(self.keys) == 1 and not isinstance(self.keys[0], tuple):
            self.key = self.keys[0]  # read without a call of a function of Python's, by far the most frequent shape
        else:
            self.read = _reader(self.keys)

    def values_of(self, alternative: Mapping[Hashable, object]) -> Hashable:
        if len(self.keys) == 1:
            return alternative[self.keys[0]]
        return tuple(alternative[key] for key in self.keys)

    def by_key(self, bucket: _Bucket[E]) -> list[tuple[Hashable, Hashable]]:
        """Return the keys with the values that a bucket wants under them."""
        values = (bucket.values,) if len(self.keys) == 1 else cast("tuple[Hashable, ...]", bucket.values)
        return list(zip(self.keys, values, strict=True))

    def is_non_plain(self, bucket: _Bucket[E]) -> bool:
        return not all(type(value).__eq__ in _PLAIN for _, value in self.by_key(bucket))

    def excludes(self, message: object) -> bool:
        """Whether a message can be in no bucket because of a container that it has where all want something plain."""
        return not self.non_plain and any(type(look_up(message, key)) in _CONTAINERS for key in self.keys)


def _reader(keys: tuple[Hashable, ...]) -> Callable[[Mapping[Any, Any]], Hashable]:
    if len(keys) == 1:
        path = keys[0]
        return lambda message: look_up(message, path)
    if any(isinstance(key, tuple) for key in keys):
        return lambda message: tuple([look_up(message, key) for key in keys])
    if len(keys) == 2:
        first, second = keys

        def read_two(message: Mapping[Any, Any]) -> Hashable:  # 0.2 µs; the general way takes 0.5
            get = message.get
            return get(first, ABSENT), get(second, ABSENT)

        return read_two

    def read_all(message: Mapping[Any, Any]) -> Hashable:
        get = message.get
        return tuple([get(key, ABSENT) for key in keys])

    return read_all


class Index(Generic[E]):
    """Entries (any objects, which are only handed back) with filters, found by message.

    ``match`` costs one look-up per shape (see the module), one call per filter that cannot be looked up (a function,
    or values that cannot be hashed), and what it returns; not more for more entries, unless the message has something
    that cannot be hashed where an entry wants what has an equality of its own, unlike str, numbers, None and enums.
    ``add`` and ``remove`` cost the same however many there are.

    It belongs to one thread, and may be called from within itself: by a value's ``__eq__`` or ``__hash__``, and by a
    finalizer. A change that is asked for in the midst of another is made after it, before the outer call returns.
    ``match`` in the midst of a change may find what changes, or not.

    Args:
        on_error: called with the filter, the message and the exception when a predicate or an ``__eq__`` raises; the
            filter then rejects the message. What it raises itself leaves ``match``.

    ::

        index = Index(on_error=report)
        registration = index.add(stream, Filter.parse([{"s": "BTCUSDT"}]))
        for entry in index.match({"e": "trade", "s": "BTCUSDT"}):
            ...
        index.remove(registration)
    """

    # How `match` holds together in the midst of a change: it uses single look-ups and finished tuples only, and each
    # step of a change that touches a roster's members discards its tuple afterwards.

    def __init__(self, on_error: Callable[[Filter, object, BaseException], object]) -> None:
        self._on_error = on_error
        self._shapes: _Roster[frozenset[Hashable], _Shape[E]] = _Roster()
        self._unconditional: _Roster[Registration[E], E] = _Roster()
        self._tried: _Roster[Registration[E], Registration[E]] = _Roster()
        self._only: _Shape[E] | None = None  # the only shape of one key, if there is nothing else to look at
        self._several = 0  # how many registrations are in several buckets, so that a message may find them twice
        self._count = 0
        self._is_changing = False
        self._changes: deque[tuple[Callable[[Registration[E]], None], Registration[E]]] = deque()

    def __len__(self) -> int:
        return self._count

    def add(self, entry: E, filter: Filter) -> Registration[E]:  # noqa: A002
        """Add an entry: ``match`` returns it for each message that passes the filter, until it is removed.

        An entry that is added twice is returned twice.

        Raises:
            Exception: what a value's ``__hash__`` or ``__eq__`` raises; nothing is added.
        """
        registration = Registration(entry, filter)
        self._change(self._take_in, registration)
        return registration

    def remove(self, registration: Registration[E]) -> None:
        """Remove what this index's ``add`` added; done again, it does nothing.

        Raises:
            Exception: what a value's ``__hash__`` raises; the entry is removed all the same.
        """
        self._change(self._take_out, registration)

    def match(self, message: object) -> Sequence[E]:
        """Return every entry whose filter the message passes, once per registration.

        It is a snapshot: adding and removing do not change it. Entries with equal conditions are in order of adding.
        """
        only = self._only
        if only is not None and type(message) is dict:
            try:
                found = only.find(message.get(only.key, ABSENT))
            except FAILURES:
                return self._merge([*self._compare(only, message)])
            if found is None:
                return ()
            entries = found.listed
            return self._list(found) if entries is None else entries
        hits: list[_Roster[Registration[E], E]] = []
        if self._unconditional.members:
            hits.append(self._unconditional)
        source = message if type(message) is dict else mapping_of(message)
        if source is not None:
            get = source.get
            shapes = self._shapes.listed
            for shape in self._list(self._shapes) if shapes is None else shapes:
                read = shape.read
                try:
                    bucket = shape.find(get(shape.key, ABSENT) if read is None else read(source))
                except FAILURES:
                    hits += self._compare(shape, message)
                else:
                    if bucket is not None:
                        hits.append(bucket)
        if self._tried.members:
            return [*self._merge(hits), *self._try(message)]
        if len(hits) == 1:
            entries = hits[0].listed
            return self._list(hits[0]) if entries is None else entries
        return self._merge(hits) if hits else ()

    def _merge(self, hits: list[_Roster[Registration[E], E]]) -> list[E]:
        if not self._several:
            entries: list[E] = []
            for roster in hits:
                entries += roster.listed or self._list(roster)
            return entries
        found: dict[Registration[E], E] = {}
        for roster in hits:
            found.update(roster.members)
        return list(found.values())

    def _try(self, message: object) -> list[E]:
        found: list[E] = []
        for registration in self._tried.listed or self._list(self._tried):
            try:
                if registration.filter(message):
                    found.append(registration.entry)
            except FAILURES as error:
                self._on_error(registration.filter, message, error)
        return found

    def _compare(self, shape: _Shape[E], message: object) -> list[_Bucket[E]]:
        """Find a message's buckets where its values cannot be looked up: one that cannot be hashed, or raises."""
        found: list[_Bucket[E]] = []
        with contextlib.suppress(*FAILURES):  # which each bucket meets, too
            if shape.excludes(message):
                return found
        for bucket in self._list(shape):
            try:
                if has(message, shape.by_key(bucket)):
                    found.append(bucket)
            except FAILURES as error:
                for registration in list(bucket.members):
                    self._on_error(registration.filter, message, error)
        return found

    def _list(self, roster: _Roster[K, V]) -> tuple[V, ...]:
        """Return a roster's members, and keep the tuple."""
        # By way of a list, which is made in one step: a finalizer may remove a member at any allocation. The tuple may
        # hold that one until the next change; a receiver that was removed ignores what it is handed.
        listed = roster.listed = (*roster.members.values(),)
        return listed

    def _change(self, change: Callable[[Registration[E]], None], registration: Registration[E]) -> None:
        """Make a change now, or after the one that is under way, further down the stack."""
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
            if self._changes:  # this one raised: the others are made all the same
                self._make_changes()

    def _take_in(self, registration: Registration[E]) -> None:
        rosters = self._rosters_for(registration.filter)
        registration.rosters = rosters
        self._count += 1
        self._several += len(rosters) > 1
        for roster in rosters:
            roster.members[registration] = registration if roster is self._tried else registration.entry
            roster.listed = None

        self._see_what_is_only()

    def _see_what_is_only(self) -> None:
        shapes = self._shapes.members
        self._only = None
        if len(shapes) == 1 and not self._unconditional.members and not self._tried.members:
            (shape,) = shapes.values()
            if shape.read is None:
                self._only = shape

    def _take_out(self, registration: Registration[E]) -> None:
        rosters, registration.rosters = registration.rosters, ()
        for roster in rosters:
            del roster.members[registration]
            roster.listed = None
        self._several -= len(rosters) > 1
        self._count -= bool(rosters)
        for roster in rosters:
            if isinstance(roster, _Bucket):
                self._drop_if_empty(roster)
        self._see_what_is_only()

    def _rosters_for(self, wanted: Filter) -> tuple[_Roster[Registration[E], Any], ...]:
        if wanted.passes_everything:
            return (self._unconditional,)
        if not wanted.indexable:
            return (self._tried,)
        buckets: dict[_Bucket[E], None] = {}  # as a set in order: dicts may be equal ({"a": 1}, {"a": True})
        try:
            for alternative in wanted.alternatives:
                buckets[self._bucket_for(alternative)] = None
        except BaseException:  # a value's __hash__ or __eq__ raised: leave nothing behind
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
            bucket = shape.members[values] = _Bucket(shape, values)
            shape.listed = None
            shape.non_plain += shape.is_non_plain(bucket)
            if len(shape.members) == 1:
                self._shapes.members[keys] = shape
                self._shapes.listed = None
        return bucket

    def _drop_if_empty(self, bucket: _Bucket[E]) -> None:
        if bucket.members:
            return
        shape = bucket.shape
        del shape.members[bucket.values]
        shape.non_plain -= shape.is_non_plain(bucket)
        shape.listed = None
        if not shape.members:
            del self._shapes.members[frozenset(shape.keys)]
            self._shapes.listed = None
