"""Measures the cost of one row in its own process, with the rxws of any checkout."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from .contenders import Run
from .rows import ROWS, TIMEOUT

ROOT = Path(__file__).resolve().parents[2]

# Both checkouts have a package `tests`. The program imports rxws first, from PYTHONPATH, so its submodules come from
# the same folder. Then it adds the folder of these benchmarks. The option -P excludes the current folder.
_PROGRAM = "import sys, rxws; sys.path.insert(0, sys.argv[1]); from tests.benchmarks.cost import main; main()"


async def cost_of(checkout: Path, name: str, run: Run) -> float:
    """Return the cost of a row with the rxws of ``checkout``, measured in a new process.

    Raises:
        RuntimeError: the process failed; the message contains its error output.
        TimeoutError: it took longer than :data:`tests.benchmarks.rows.TIMEOUT`; the process is killed.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-c", _PROGRAM, str(ROOT), str(checkout), name, run.url, str(run.scale)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(checkout), os.environ.get("PYTHONPATH")]))},
    )
    try:
        async with asyncio.timeout(TIMEOUT):
            output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise RuntimeError(f"{name} with the rxws of {checkout} failed:\n{errors.decode()}")
    return float(json.loads(output))


def main() -> None:
    """Print the cost of one row."""
    import rxws

    _, _, checkout, name, url, scale = sys.argv
    if not Path(rxws.__file__).is_relative_to(checkout):
        raise SystemExit(f"rxws was imported from {rxws.__file__}, not from {checkout}")
    [row] = [row for row in ROWS if row.name == name]
    print(json.dumps(asyncio.run(row.ours(Run(url, float(scale))))))
