"""Every block of README.rst is run."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import docutils.core
import docutils.utils
import pytest

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.rst"


def blocks(language: str) -> list[str]:
    """Return the code blocks of a language."""
    found = re.findall(rf"^\.\. code-block:: {language}\n\n((?:    .*\n|\n)+)", README.read_text(), re.MULTILINE)
    return [textwrap.dedent(block).strip() + "\n" for block in found]


def title(block: str) -> str:
    return next(line for line in block.splitlines() if re.search(r"rxws\.\w+\(|ws\.\w+|class ", line)).strip()[:60]


@pytest.mark.parametrize("block", blocks("python"), ids=title)
def test_python_block_runs_as_it_stands(block: str, tmp_path: Path) -> None:
    """Each Python block is a program that ends by itself, without a word on standard error."""
    program = tmp_path / "block.py"
    program.write_text(block)
    done = subprocess.run(
        [sys.executable, "-W", "error", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert done.stderr == ""


def test_shell_blocks_are_the_two_commands() -> None:
    """Two commands do all the set-up: one runs the demo, one passes the tests. ``.ci/run`` runs them as they stand."""
    demo, tests = blocks("sh")[:2]
    assert demo.strip().endswith("rxws demo")
    assert tests.strip().endswith("python -m pytest")


def test_readme_is_valid_restructured_text() -> None:
    """The README renders without a complaint."""
    docutils.core.publish_doctree(
        README.read_text(), settings_overrides={"report_level": 2, "halt_level": 2, "syntax_highlight": "none"}
    )
