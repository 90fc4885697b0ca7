"""Every block of README.rst is run."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import docutils.core
import docutils.utils
import pytest

from .benchmarks.rows import ROWS

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.rst"


def blocks(language: str) -> list[str]:
    """Return the code blocks of a language."""
    found = re.findall(rf"^\.\. code-block:: {language}\n\n((?:    .*\n|\n)+)", README.read_text(), re.MULTILINE)
    return [textwrap.dedent(block).strip() + "\n" for block in found]


def named(name: str) -> str:
    """Return the code block that is a file of this name."""
    [found] = re.findall(rf"^    :name: {re.escape(name)}\n\n((?:    .*\n|\n)+)", README.read_text(), re.MULTILINE)
    return textwrap.dedent(found).strip() + "\n"


def title(block: str) -> str:
    return next(line for line in block.splitlines() if re.search(r"rxws\.\w+\(|ws\.\w+|class ", line)).strip()[:60]


SERVICE = next(block for block in blocks("python") if "SIGTERM" in block)
"""The program that runs until a signal ends it."""

PROGRAMS = [block for block in blocks("python") if block != SERVICE]


@pytest.mark.slow
@pytest.mark.parametrize("block", PROGRAMS, ids=title)
def test_python_block_runs_unchanged(block: str, tmp_path: Path) -> None:
    """Each Python block is a program that ends by itself and writes nothing to standard error."""
    program = tmp_path / "block.py"
    program.write_text(block)
    done = subprocess.run(
        [sys.executable, "-W", "error", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert done.stderr == ""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_service_ends_cleanly_after_a_signal(number: signal.Signals, tmp_path: Path) -> None:
    """The service logs, sends its statistics on a port, and ends with 0 soon after SIGTERM or Ctrl-C."""
    program = tmp_path / "service.py"
    program.write_text(SERVICE)
    with subprocess.Popen(
        [sys.executable, "-W", "error", program], cwd=ROOT, stderr=subprocess.PIPE, text=True
    ) as service:
        try:
            assert service.stderr is not None
            lines = []
            # The lines come in any order, and messages may come shortly before their connection counts as open.
            while not ("statistics on port" in "".join(lines) and "trades: connection 1 is open" in "".join(lines)):
                lines.append(service.stderr.readline())
                assert lines[-1], lines
            [port] = [line.split()[-1] for line in lines if "statistics on port" in line]
            while not (statistics := json.loads(ask(int(port))))["messages"]:
                pass
            assert statistics["opened"] == 1
            service.send_signal(number)
            _, rest = service.communicate(timeout=15)
        finally:
            service.kill()
    assert service.returncode == 0, rest
    assert "Traceback" not in rest
    assert "service ended: Statistics(" in rest.splitlines()[-1]


@pytest.mark.slow
def test_file_of_a_users_tests_passes_unchanged(tmp_path: Path) -> None:
    """The test file passes in an empty folder, with the fixtures of rxws and with warnings as errors."""
    (tmp_path / "test_feed.py").write_text(named("test_feed.py"))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-W", "error", "-o", "asyncio_default_fixture_loop_scope=function"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "22 passed" in done.stdout
    assert done.stderr == ""


def ask(port: int) -> str:
    """Return the text that a port sends."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        return connection.makefile().read()


def test_shell_blocks_are_the_two_commands() -> None:
    """Two commands suffice: one runs the demo, one runs the tests. ``.ci/run`` runs them unchanged."""
    demo, tests = blocks("sh")[:2]
    assert demo.strip().endswith("rxws demo")
    assert tests.strip().endswith("python -m pytest -n logical")
    [pattern] = re.findall(r"grep -m 1 -E '(.+)' README\.rst", (ROOT / ".ci" / "run").read_text())
    assert re.findall(pattern, README.read_text(), re.MULTILINE) == [f"    {tests.strip()}"]


def test_table_of_speed_has_every_row() -> None:
    """The README contains the output of ``python -m tests.benchmarks --readme``, with a figure in each row."""
    _, _, table = README.read_text().partition(".. benchmarks: begin")
    table, _, _ = table.partition(".. benchmarks: end")
    measured = re.findall(r"^   \* - (.+)\n     - (.+)\n     - (.+)\n     - (.+)$", table, re.MULTILINE)[1:]
    assert [(what, against) for what, against, _, _ in measured] == [(row.what, row.against or "—") for row in ROWS]
    assert all(re.search(r"\d", figure) for *_, figure in measured)


def test_readme_is_valid_restructured_text() -> None:
    """The README renders without warnings."""
    docutils.core.publish_doctree(
        README.read_text(), settings_overrides={"report_level": 2, "halt_level": 2, "syntax_highlight": "none"}
    )
