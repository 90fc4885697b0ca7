"""The columns of a table that is displayed repeatedly."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from itertools import islice
from typing import Final

from ..display import COLUMNS

__all__ = ["Columns"]

_UNUSED_LOOKS: Final = 20
"""A column is removed after this many displays without a value."""


class Columns:
    """Selects the columns of a table that is displayed repeatedly.

    A key keeps its column from one display to the next. It loses the column after several displays without a value, or
    when another key with a value needs the place.
    """

    def __init__(self) -> None:
        self._unused: dict[Hashable, int] = {}

    def look(self, present: Mapping[Hashable, None]) -> list[Hashable]:
        """Return the keys with a column in this display. ``present`` has the keys of the displayed messages."""
        looks = {key: 0 if key in present else unused + 1 for key, unused in self._unused.items()}
        kept = {key: unused for key, unused in looks.items() if unused < _UNUSED_LOOKS}
        new = list(islice((key for key in present if key not in kept), COLUMNS))
        # The sort is stable: of columns that are unused for equally long, the first ones are removed first.
        idle = sorted((key for key, unused in kept.items() if unused), key=kept.__getitem__, reverse=True)
        for key in idle[: max(0, len(kept) + len(new) - COLUMNS)]:
            del kept[key]
        self._unused = kept | dict.fromkeys(new[: COLUMNS - len(kept)], 0)
        return list(self._unused)
