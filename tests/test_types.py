"""The type checkers accept users' code: one run of each checks all samples."""

from __future__ import annotations

from pathlib import Path

import pytest

from .support.checkers import needs_pyright, run_mypy, run_pyright
from .test_readme import blocks

pytestmark = pytest.mark.slow

SUPPORT = Path(__file__).parent / "support"

SAMPLES = [str(SUPPORT / "fluent_types.py"), str(SUPPORT / "operator_types.py"), str(SUPPORT / "filter_types.py")]
"""Samples of fluent operators, piped operators and filters, with the types that the checkers must infer."""

MYPY = """
[mypy]
strict = True
explicit_package_bases = True

# The functions of the README's blocks are checked although they have no annotations.
[mypy-{blocks}]
disallow_untyped_defs = False
disallow_incomplete_defs = False
disallow_untyped_calls = False
"""


@pytest.fixture
def readme(tmp_path: Path) -> list[str]:
    """All Python blocks of README.rst, as files."""
    files = []
    for number, block in enumerate(blocks("python")):
        file = tmp_path / f"block_{number}.py"
        file.write_text(block)
        files.append(str(file))
    return files


def test_mypy_finds_nothing(readme: list[str], tmp_path: Path) -> None:
    """mypy infers the items' types in the samples, and finds no error in the README's Python blocks."""
    config = tmp_path / "mypy.ini"
    config.write_text(MYPY.format(blocks=",".join(Path(file).stem for file in readme)))
    run_mypy(*SAMPLES, *readme, config=config, cache=tmp_path / "cache")


@needs_pyright
def test_pyright_finds_nothing(readme: list[str]) -> None:
    """pyright infers the same types and finds no error."""
    run_pyright(*SAMPLES, *readme)
