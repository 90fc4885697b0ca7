"""The type checkers report no error in users' code. One run of each checks all samples."""

from __future__ import annotations

from pathlib import Path

import pytest

from .support.checkers import needs_pyright, run_mypy, run_pyright
from .support.guide import blocks

pytestmark = pytest.mark.slow

SUPPORT = Path(__file__).parent / "support"

SAMPLES = [str(SUPPORT / "fluent_types.py"), str(SUPPORT / "operator_types.py"), str(SUPPORT / "filter_types.py")]
"""Files with fluent and piped operators and filters, and the types that the checkers must infer."""

MYPY = """
[mypy]
strict = True
explicit_package_bases = True

# The functions in the guide have no annotations, as in a reader's script, but their bodies are checked.
[mypy-{blocks}]
disallow_untyped_defs = False
disallow_incomplete_defs = False
disallow_untyped_calls = False
"""


@pytest.fixture
def readme(tmp_path: Path) -> list[str]:
    """Return the files with the guide's Python blocks that use rxws."""
    files = []
    for number, block in enumerate(block for block in blocks("python") if block.kind != "other"):
        file = tmp_path / f"block_{number}.py"
        file.write_text(block.text)
        files.append(str(file))
    return files


def test_mypy_reports_no_error(readme: list[str], tmp_path: Path) -> None:
    """mypy infers the item types of fluent and piped operators, and reports no error in the guide's programs."""
    config = tmp_path / "mypy.ini"
    config.write_text(MYPY.format(blocks=",".join(Path(file).stem for file in readme)))
    run_mypy(*SAMPLES, *readme, config=config, cache=tmp_path / "cache")


@needs_pyright
def test_pyright_reports_no_error(readme: list[str]) -> None:
    """pyright infers the same types, and reports no error in the guide's programs."""
    run_pyright(*SAMPLES, *readme)
