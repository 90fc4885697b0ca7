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
"""The one that runs until it is told to end."""

PROGRAMS = [block for block in blocks("python") if block != SERVICE]


@pytest.mark.slow
@pytest.mark.parametrize("block", PROGRAMS, ids=title)
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


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_service_ends_cleanly_when_it_is_told_to(number: signal.Signals, tmp_path: Path) -> None:
    """The service logs, tells its statistics to whoever asks, and on SIGTERM or Ctrl-C ends with 0 within seconds."""
    program = tmp_path / "service.py"
    program.write_text(SERVICE)
    with subprocess.Popen(
        [sys.executable, "-W", "error", program], cwd=ROOT, stderr=subprocess.PIPE, text=True
    ) as service:
        try:
            assert service.stderr is not None
            lines = []
            # In either order; and messages may come a moment before their connection counts as open.
            while not ("statistics on port" in "".join(lines) and "trades: connection 1 is open" in "".join(lines)):
                lines.append(service.stderr.readline())
                assert lines[-1], lines
            [port] = [line.split()[-1] for line in lines if "statistics on port" in line]
            while not (told := json.loads(ask(int(port))))["messages"]:
                pass
            assert told["opened"] == 1
            service.send_signal(number)
            _, rest = service.communicate(timeout=15)
        finally:
            service.kill()
    assert service.returncode == 0, rest
    assert "Traceback" not in rest
    assert "service ended: Statistics(" in rest.splitlines()[-1]


@pytest.mark.slow
def test_file_of_a_users_tests_passes_as_it_stands(tmp_path: Path) -> None:
    """In an empty folder, pytest passes the test file, with the fixtures that rxws registers and warnings as errors."""
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
    """Return what is told on a port."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        return connection.makefile().read()


def test_shell_blocks_are_the_two_commands() -> None:
    """Two commands do all the set-up: one runs the demo, one passes the tests. ``.ci/run`` runs them as they stand."""
    demo, tests = blocks("sh")[:2]
    assert demo.strip().endswith("rxws demo")
    assert tests.strip().endswith("python -m pytest -n logical")
    [pattern] = re.findall(r"grep -m 1 -E '(.+)' README\.rst", (ROOT / ".ci" / "run").read_text())
    assert re.findall(pattern, README.read_text(), re.MULTILINE) == [f"    {tests.strip()}"]


def test_table_of_speed_has_every_row() -> None:
    """What ``python -m tests.benchmarks --readme`` writes stands in the README, each row with what was measured."""
    _, _, table = README.read_text().partition(".. benchmarks: begin")
    table, _, _ = table.partition(".. benchmarks: end")
    measured = re.findall(r"^   \* - (.+)\n     - (.+)\n     - (.+)\n     - (.+)$", table, re.MULTILINE)[1:]
    assert [(what, against) for what, against, _, _ in measured] == [(row.what, row.against or "—") for row in ROWS]
    assert all(re.search(r"\d", figure) for *_, figure in measured)


def test_readme_is_valid_restructured_text() -> None:
    """The README renders without a complaint."""
    docutils.core.publish_doctree(
        README.read_text(), settings_overrides={"report_level": 2, "halt_level": 2, "syntax_highlight": "none"}
    )
