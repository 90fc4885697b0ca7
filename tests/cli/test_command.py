"""The first module of the installed command: Ctrl-C while rxws is imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.terminal import ENVIRONMENT, ROOT

PROGRAM = """
import sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "{name}":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupting())
sys.argv[1:] = ["--version"]
sys.path.insert(0, "rxws/cli")
from command import main
sys.exit(main())
"""


def run(name: str) -> tuple[int, str, str]:
    """Run the command, with Ctrl-C when a module is imported; return exit code, output and errors."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(name=name)],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        cwd=ROOT,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("name", ["rxws", "reactivex", "websockets", "msgspec", "rxws.cli.tail"])
def test_command_prints_no_traceback_when_interrupted_while_importing(name: str) -> None:
    """Ctrl-C while rxws or a library is imported ends the command with 130, and nothing is printed."""
    assert run(name) == (130, "", "")


def test_command_runs_when_nothing_interrupts_it() -> None:
    """Otherwise the command runs as it does with ``python -m rxws``."""
    code, out, err = run("no_such_module")
    assert (code, err) == (0, "")
    assert out.startswith("rxws ")
