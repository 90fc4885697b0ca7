"""The programs of the guide run unchanged, against their own server."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from ..support.guide import ROOT, named
from .server import NatsServer


def run(name: str, server: NatsServer, folder: Path, *arguments: str) -> str:
    """Run a program of the guide, and return what it prints."""
    program = folder / name
    program.write_text(named(name).replace("nats://127.0.0.1:4222", server.url))
    command = [sys.executable, "-W", "error", str(program), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.mark.slow
def test_programs_of_the_guide_run(nats_server: NatsServer, tmp_path: Path) -> None:
    """One program captures, one reads, and a third one, started twice, has each message once in its table."""
    assert "trades are stored" in run("nats_capture.py", nats_server, tmp_path)
    assert "is message" in run("nats_read.py", nats_server, tmp_path)
    path = tmp_path / "trades.db"
    for count in (20, 40):
        assert "20 more trades" in run("nats_once.py", nats_server, tmp_path, str(path))
        table = sqlite3.connect(path)
        assert table.execute("SELECT count(*), count(DISTINCT position) FROM trades").fetchone() == (count, count)
        table.close()


@pytest.mark.slow
def test_program_with_two_relays_runs(nats_server: NatsServer, tmp_path: Path) -> None:
    """Two relays of one feed publish each trade once."""
    assert "each once" in run("nats_two_relays.py", nats_server, tmp_path)
