"""Runs the notebooks and stores what they show: ``python -m tests.support.notebooks``.

What is stored is small and shows without a kernel: tables as HTML, no widgets, no times of execution.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

CELL_TIMEOUT = 60
"""Seconds that a cell may take."""

WIDGETS = "application/vnd.jupyter.widget-view+json"


def read(path: Path) -> nbformat.NotebookNode:
    """Return a notebook as it is stored."""
    return nbformat.read(path, as_version=4)


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """Return the cells that are run."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def digest(notebook: nbformat.NotebookNode) -> str:
    """Return what changes whenever the code does: stored beside the outputs, it tells whether they are up to date."""
    return hashlib.sha256("\0".join(cell.source for cell in code_cells(notebook)).encode()).hexdigest()[:16]


def execute(path: Path) -> nbformat.NotebookNode:
    """Run a notebook in a fresh kernel, and return it with its outputs. Raises if a cell does, or takes too long."""
    notebook = read(path)
    # The checkout is imported, whatever is installed.
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
            # Without a kernel it would be shown as an error; what it showed is there as HTML, too.
            output.get("data", {}).pop(WIDGETS, None)
    notebook.metadata.pop("widgets", None)
    notebook.metadata["language_info"] = {"name": "python"}
    notebook.metadata["rxws"] = {"digest": digest(notebook)}
    return notebook


def main(names: list[str]) -> None:
    """Run the notebooks that are named, or all, and store them."""
    for path in NOTEBOOKS:
        if not names or path.name in names:
            nbformat.write(execute(path), path)
            print(path.name, path.stat().st_size, "bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
