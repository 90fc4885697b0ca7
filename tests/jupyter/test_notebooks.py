"""The notebooks run in a fresh kernel, and their stored outputs are up to date."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from tests.support.notebooks import NOTEBOOKS, WIDGETS, code_cells, digest, execute, read

pytestmark = pytest.mark.skipif(
    not find_spec("nbclient"), reason='nbclient is not installed: the extra "test" installs it'
)

RUN_AGAIN = "run python -m tests.support.notebooks"

MOST_BYTES = 60_000

notebooks = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def kinds(notebook):
    """Return the types of the outputs of each code cell."""
    return [[output.output_type for output in cell.outputs] for cell in code_cells(notebook)]


@pytest.mark.slow
@notebooks
def test_notebook_shows_its_stored_outputs_when_run(path):
    """Each notebook runs without an error or stderr, its asserts hold, and its outputs have the stored types."""
    notebook = execute(path)
    cells = code_cells(notebook)
    for cell in cells:
        for output in cell.outputs:
            assert output.get("name") != "stderr", output
    assert any("assert " in cell.source for cell in cells[-1:])
    assert kinds(notebook) == kinds(read(path))


@notebooks
def test_stored_outputs_are_current_and_small_when_committed(path):
    """The stored outputs are those of the present code, come from one run from top to bottom, and are small."""
    notebook = read(path)
    assert notebook.metadata["rxws"]["digest"] == digest(notebook), RUN_AGAIN
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1)), RUN_AGAIN
    assert any(cell.outputs for cell in cells), RUN_AGAIN
    assert path.stat().st_size < MOST_BYTES
    assert WIDGETS not in path.read_text(encoding="utf-8")


@notebooks
def test_notebook_has_title_and_texts_when_read(path):
    """Each notebook begins with a title and has at least three texts."""
    notebook = read(path)
    assert notebook.cells[0].source.startswith("# ")
    texts = [cell for cell in notebook.cells if cell.cell_type == "markdown"]
    assert len(texts) >= 3


def test_notebooks_are_numbered_when_listed():
    """The seven notebooks are numbered in the order in which to read them."""
    assert [path.name.split("_")[0] for path in NOTEBOOKS] == ["1", "2", "3", "4", "5", "6", "7"]
