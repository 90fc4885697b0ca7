"""Runs cells in a Jupyter kernel over its sockets, as a notebook does.

``python -m tests.support.kernels`` measures how long a cell waits while a live table receives 1,000 messages per
second.
"""

from __future__ import annotations

import os
import queue
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import psutil
from jupyter_client import BlockingKernelClient, KernelManager

ROOT = Path(__file__).resolve().parents[2]

TIMEOUT = 60.0
"""Maximum duration of a cell in seconds."""


@dataclass
class Cell:
    """The outputs of a cell after its run."""

    stdout: str = ""
    stderr: str = ""
    error: str | None = None
    data: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def result(self) -> str:
        """The value of the last line as text."""
        assert self.error is None, self.error
        return self.data[-1]["text/plain"]


class Kernel:
    """A kernel in its own process; use it as a context manager."""

    def __enter__(self) -> Self:
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel(env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)})
        self.client: BlockingKernelClient = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=TIMEOUT)
        return self

    def __exit__(self, *exc: object) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel()

    @property
    def process(self) -> psutil.Process:
        """The kernel's process."""
        return psutil.Process(self.manager.provisioner.pid)

    def start(self, code: str, cell: str | None = None) -> str:
        """Request a run of a cell, and return the request's id. ``cell`` is the cell's id in JupyterLab."""
        content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False}
        metadata = {} if cell is None else {"cellId": cell}
        message = self.client.session.msg("execute_request", content, metadata=metadata)
        self.client.shell_channel.send(message)
        return message["header"]["msg_id"]

    def finish(self, number: str) -> Cell:
        """Wait until the requested run has ended, and return its outputs."""
        cell, started = Cell(), time.monotonic()
        while True:
            message = self.client.get_iopub_msg(timeout=TIMEOUT)
            self._note(cell, message)
            is_ours = message["parent_header"].get("msg_id") == number
            if is_ours and message["content"].get("execution_state") == "idle":
                cell.seconds = time.monotonic() - started
                return cell

    def run(self, code: str, cell: str | None = None) -> Cell:
        """Run a cell, and return its outputs."""
        return self.finish(self.start(code, cell))

    def listen(self, seconds: float) -> Cell:
        """Collect the later outputs of cells whose runs have ended."""
        cell, end = Cell(), time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            try:
                self._note(cell, self.client.get_iopub_msg(timeout=left))
            except queue.Empty:
                break
        return cell

    @staticmethod
    def _note(cell: Cell, message: dict[str, Any]) -> None:
        content = message["content"]
        match message["msg_type"]:
            case "stream" if content["name"] == "stdout":
                cell.stdout += content["text"]
            case "stream":
                cell.stderr += content["text"]
            case "error":
                cell.error = f"{content['ename']}: {content['evalue']}"
            case "execute_result" | "display_data":
                cell.data.append(content["data"])


FEED = """
import asyncio, rxws
from rxws.jupyter import callback, keep, live, plot
exchange = await keep(rxws.demo.serve(rate={rate}))
ws = rxws.ReactiveWebSocket(exchange, name="measured")
await ws.wait_connected()
"""


def measure(seconds: float = 10.0, rate: float = 1000.0) -> None:
    """Print the duration of cells and the kernel's CPU time while a live table shows ``rate`` messages per second."""
    with Kernel() as kernel:
        kernel.run(FEED.format(rate=rate))
        for name, code in (("nothing", ""), ("live", "view = live(ws.messages)\nview"), ("plot", PLOT)):
            cell = kernel.run(code)
            assert cell.error is None, cell.error
            times, end = [], time.monotonic() + seconds
            used = sum(kernel.process.cpu_times()[:2])
            started = time.monotonic()
            while time.monotonic() < end:
                times.append(1000 * kernel.run("1 + 1").seconds)
                time.sleep(0.1)
            cpu = (sum(kernel.process.cpu_times()[:2]) - used) / (time.monotonic() - started)
            print(
                f"{name:8} {len(times)} cells: median {statistics.median(times):.0f} ms, "
                f"longest {max(times):.0f} ms; the kernel takes {100 * cpu:.0f} % of a core"
            )
            kernel.run("if 'view' in globals(): view.stop()")


PLOT = 'view = plot(ws.stream_filter([{"e": "trade"}]), x=None, y="p", by="s", window=1000)\nview'


if __name__ == "__main__":
    measure()
