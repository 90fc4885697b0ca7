"""A real nats-server on a free loopback port, in a separate process: it can be killed, frozen and started again."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

__all__ = ["NatsServer", "free_port"]

STARTUP = 20.0
"""Seconds within which a server must be healthy."""


def free_port() -> int:
    """Return a port of the loopback interface that no program uses now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def executable() -> str:
    """Return the path of the server, which the extra ``test`` installs beside Python."""
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        raise FileNotFoundError("no nats-server: pip install 'rxws[test]'")
    return found


class NatsServer:
    """A server with JetStream, whose files are in ``folder``.

    Attributes:
        url: where to connect.
        port: its port, the same after each start.
    """

    def __init__(self, folder: Path, jetstream: str = "", more: str = "", scheme: str = "nats") -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.port = free_port()
        self.http = free_port()
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        self._config = folder / "nats.conf"
        self._config.write_text(
            f'listen: 127.0.0.1:{self.port}\nhttp: 127.0.0.1:{self.http}\nping_interval: "10s"\n'
            f'jetstream {{ store_dir: "{folder / "jetstream"}"\n{jetstream} }}\n{more}\n'
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it is healthy."""
        self.launch()
        self.wait_healthy()

    def launch(self) -> None:
        """Start it."""
        with (self.folder / "nats.log").open("ab") as log:
            self._process = subprocess.Popen([executable(), "-c", str(self._config)], stdout=log, stderr=log)

    def wait_healthy(self) -> None:
        """Wait until it is healthy. A server of a cluster is healthy when the cluster has a leader."""
        deadline = time.monotonic() + STARTUP
        while time.monotonic() < deadline and self.is_running:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/healthz", timeout=1) as answer:
                    if answer.status == 200:
                        return
            except (urllib.error.URLError, OSError):
                pass
            time.sleep(0.02)
        raise RuntimeError(f"the server did not start: {(self.folder / 'nats.log').read_text()[-2000:]}")

    @property
    def is_running(self) -> bool:
        """Whether its process runs."""
        return self._process is not None and self._process.poll() is None

    def signal(self, number: int) -> None:
        """Send it a signal: SIGSTOP freezes it, SIGCONT continues it."""
        assert self._process is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        """Kill it with SIGKILL, and wait for its end. Idempotent."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait(10)
