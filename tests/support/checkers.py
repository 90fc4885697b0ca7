"""The type checkers, as a user runs them."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

__all__ = ["needs_pyright", "run_mypy", "run_pyright"]

ROOT = Path(__file__).parents[2]

needs_pyright = pytest.mark.skipif(importlib.util.find_spec("pyright") is None, reason="pyright is not installed")


def run_mypy(*files: str, config: Path, cache: Path) -> None:
    """Run mypy with this configuration; fail with its output if it reports an error."""
    _run("mypy", "--config-file", str(config), "--cache-dir", str(cache), *files)


def run_pyright(*files: str) -> None:
    """Run pyright; fail with its output if it reports an error."""
    _run("pyright", "--pythonpath", sys.executable, *files)


def _run(*command: str) -> None:
    # The checkers do not find an editable installation.
    environment = {**os.environ, "MYPYPATH": str(ROOT), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
