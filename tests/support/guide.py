"""The guide: README.rst at the top level and in each folder that users touch, and the code blocks in them."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import NamedTuple

__all__ = ["README", "READMES", "ROOT", "Block", "blocks", "named"]

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.rst"

READMES = [
    README,
    *sorted(path for folder in ("rxws", "notebooks", "tests") for path in (ROOT / folder).rglob("README.rst")),
]
"""Every part of the guide, the first page first."""

_BLOCK = re.compile(r"^\.\. code-block:: (\w+)\n((?:    :\w+: .*\n)*)\n((?:    .*\n|\n)+)", re.MULTILINE)


class Block(NamedTuple):
    """A code block of the guide.

    Attributes:
        readme: the file that holds it.
        text: the code.
        name: the option ``:name:``, or "": a block with a name has its own test.
        kind: the option ``:class:``, or "". ``other`` is code for another library, which no test runs or checks.
    """

    readme: Path
    text: str
    name: str
    kind: str

    @property
    def title(self) -> str:
        """The file and the first line that uses rxws, for the name of a test."""
        where = self.readme.parent.relative_to(ROOT).as_posix()
        lines = [line.strip() for line in self.text.splitlines()]
        line = next((line for line in lines if re.search(r"rxws\.\w+\(|ws\.\w+|class ", line)), lines[0])
        return f"{where}: {line[:60]}"


def blocks(language: str, *readmes: Path) -> list[Block]:
    """Return the code blocks of a language, from some parts of the guide or from all."""
    found = []
    for readme in readmes or READMES:
        for kind, options, text in _BLOCK.findall(readme.read_text(encoding="utf-8")):
            if kind == language:
                given = dict(re.findall(r":(\w+): (.*)", options))
                code = textwrap.dedent(text).strip() + "\n"
                found.append(Block(readme, code, given.get("name", ""), given.get("class", "")))
    return found


def named(name: str, *readmes: Path) -> str:
    """Return the Python code of the block with this name, from some parts of the guide or from all."""
    [found] = [block.text for block in blocks("python", *readmes) if block.name == name]
    return found
