"""Runs the notebooks and stores their outputs: ``python -m tests.support.notebooks``.

The stored outputs are small and visible without a kernel: tables are HTML, without widgets and execution times.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

CELL_TIMEOUT = 60
"""Maximum duration of a cell in seconds."""

WIDGETS = "application/vnd.jupyter.widget-view+json"


def read(path: Path) -> NotebookNode:
    """Return the stored notebook."""
    # Importing nbformat takes seconds of each process that collects the tests.
    import nbformat

    return nbformat.read(path, as_version=4)


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """Return the code cells of a notebook."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def digest(notebook: NotebookNode) -> str:
    """Return a hash of the code. It is stored with the outputs, to detect outputs of other code."""
    return hashlib.sha256("\0".join(cell.source for cell in code_cells(notebook)).encode()).hexdigest()[:16]


def execute(path: Path) -> NotebookNode:
    """Run a notebook in a fresh kernel, and return it with its outputs. Raises if a cell raises or is too slow."""
    from nbclient import NotebookClient

    notebook = read(path)
    # Import this checkout, even if another version of rxws is installed.
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        record_timing=False,
        store_widget_state=False,
    )
    client.execute(env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)})
    for cell in code_cells(notebook):
        for output in cell.outputs:
            # Without a kernel, a widget is shown as an error. Its content is also stored as HTML.
            output.get("data", {}).pop(WIDGETS, None)
    notebook.metadata.pop("widgets", None)
    notebook.metadata["language_info"] = {"name": "python"}
    notebook.metadata["rxws"] = {"digest": digest(notebook)}
    return notebook


def main(names: list[str]) -> None:
    """Run and store the named notebooks, or all if there are no names."""
    import nbformat

    for path in NOTEBOOKS:
        if not names or path.name in names:
            nbformat.write(execute(path), path)
            print(path.name, path.stat().st_size, "bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
