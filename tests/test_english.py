"""Plain English: texts avoid words that hide who acts, and expressions that readers had to read twice."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from .support.guide import READMES, ROOT

FORBIDDEN: Final = (
    *("nobody", "whoever", "somebody", "anybody", "whom"),
    *("is told", "are told", "comes to its end", "is had", "are had"),
    *("turn of the loop", "turns of the loop", "stood still", "behind a gap", "stand for", "stands for"),
    *("taken for", "comes upon", "so many seconds", "likewise", "in doubt", "all the same"),
)
"""Words that hide who acts, and expressions that readers had to read twice."""

CHECKED: Final = ("rxws", "tests", "notebooks")
"""Folders, and patterns of files."""

SUFFIXES: Final = {".py", ".pyi", ".rst", ".ipynb"}

GAP: Final = r"""(?:[\s#_",]|\\n)+"""
"""Matches what separates two words: also the break of a line in a comment or a notebook, and ``_`` in a name."""

PATTERN: Final = re.compile(
    "(?<![a-z])(?:{})(?![a-z])".format("|".join(words.replace(" ", GAP) for words in FORBIDDEN)), re.IGNORECASE
)


def checked() -> list[Path]:
    """Return the checked files of ``CHECKED`` and all parts of the guide, except this file."""
    places = [place for pattern in CHECKED for place in ROOT.glob(pattern)]
    files = {file for place in places for file in (place.rglob("*") if place.is_dir() else [place])}
    return sorted(file for file in {*files, *READMES} - {Path(__file__)} if file.suffix in SUFFIXES)


def violations(text: str) -> list[tuple[int, str]]:
    """Return the line's number and the words of each use of forbidden words."""
    return [(text.count("\n", 0, match.start()) + 1, match[0]) for match in PATTERN.finditer(text)]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        *((f"Text.\nHere it says that the caller {words} now.", 2) for words in FORBIDDEN),
        ("Nobody reads.", 1),
        ("def test_nobody_is_waiting(): ...", 1),
        ("def test_caller_is_told(): ...", 1),
        ("one\n    # the caller is\n    # told", 2),
        ('    "the caller is\\n",\n    "told"', 1),
    ],
)
def test_violation_is_found_when_forbidden_words_are_used(text: str, line: int) -> None:
    """Forbidden words are found in sentences and names, in any case, and across a line break."""
    assert [number for number, _ in violations(text)] == [line]


@pytest.mark.parametrize("text", ["A busybody.", "This told them.", "The message is an old one.", "They had it."])
def test_no_violation_is_found_when_words_only_resemble_them(text: str) -> None:
    """Longer words and other forms are allowed."""
    assert violations(text) == []


def test_place_has_files_when_checked() -> None:
    """Each place in ``CHECKED`` exists, so a renamed folder does not silently leave the check."""
    assert [pattern for pattern in CHECKED if not list(ROOT.glob(pattern))] == []
    assert {file.suffix for file in checked()} == SUFFIXES


def test_texts_have_no_forbidden_words_when_checked() -> None:
    """No checked file uses a forbidden word; the failure names the file, the line and the words."""
    found = [
        f"{file.relative_to(ROOT)}:{number}: {words}"
        for file in checked()
        for number, words in violations(file.read_text(encoding="utf-8"))
    ]
    assert found == [], "\n".join(["rewrite these lines, see FORBIDDEN:", *found])
