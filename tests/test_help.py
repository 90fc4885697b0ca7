"""``pydoc rxws`` and ``help(rxws)``: they work without extras, and show the names of rxws first."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import rxws

ROOT = Path(__file__).resolve().parents[1]

EXTRAS = ("IPython", "bqplot", "ipywidgets", "numpy", "pandas", "pytest", "pytest_asyncio", "async_solipsism", "rich")
EXTRAS += ("nats", "picows", "prometheus_client")
"""Top-level packages that only the extras install."""

BARE = f"import sys; sys.modules.update(dict.fromkeys({EXTRAS!r})); "
"""Makes Python behave as if these packages were not installed."""


def printed(code: str) -> str:
    """Return what a program prints where no extra is installed."""
    command = [sys.executable, "-c", BARE + code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def groups(text: str) -> dict[str, list[str]]:
    """Return the public names by group, as the beginning of the package's docstring lists them."""
    table = re.sub(r"(?m)^    (?=    )", "", text.partition("The public names::\n\n")[2].partition("\n\n")[0])
    found: dict[str, list[str]] = {}
    for line in table.splitlines():
        if name := re.fullmatch(r" {8}(\w+) +\w.*|    (\w+)  +\w.*", line):
            found[[*found][-1]].append(name[1] or name[2])
        else:
            found[line.strip()] = []
    return found


@pytest.mark.parametrize("code", ["import pydoc; pydoc.cli()", "import rxws; help(rxws)"], ids=["pydoc", "help"])
def test_help_is_rendered_without_extras(code: str) -> None:
    """Both render the whole package in a bare environment: own names first, and no operator of reactivex."""
    text = printed(f"sys.argv[1:] = ['rxws']; {code}")
    description, _, rest = text.partition("\nPACKAGE CONTENTS\n")
    assert "The public names::" in "".join(description.splitlines(keepends=True)[:12])
    for name in ("Stream", "AsyncObservable", "ReactiveWebSocket", "Gap", "ConnectFailed"):
        assert re.search(rf"^    class {name}\(", rest, re.MULTILINE), name
    methods = {*re.findall(r"^     \|  (?:async )?(\w+)\(self", rest, re.MULTILINE)}
    assert {"pipe", "subscribe", "collect", "resync"} <= methods
    assert not methods & {"map", "buffer_with_time", "switch_latest", "ref_count"}


def test_every_public_name_has_a_line_in_a_group() -> None:
    """The package's docstring lists the exported names, the functions for recordings and the modules, each once."""
    found = groups(rxws.__doc__ or "")
    assert [*found] == ["Feeds", "Messages", "Recordings", "Events", "Errors", "Modules"]
    names = [name for group in found.values() for name in group]
    modules = {"books", "demo", "jupyter", "nats", "operators", "picows", "prometheus", "recording", "testing"}
    assert sorted(names) == sorted({*rxws.__all__, "read", "record", "replay", *modules})
    assert set(found["Modules"]) == modules


def test_reference_has_every_public_name() -> None:
    """The pages in ``.docs`` name what ``rxws`` exports, except aliases, and Sphinx fills them from the docstrings."""
    pages = "".join(path.read_text() for path in (ROOT / ".docs").glob("*.rst"))
    named = {*re.findall(r"^\.\. auto\w+:: rxws\.(\w+)$", pages, re.MULTILINE)}
    names = {name for name in rxws.__all__ if getattr(getattr(rxws, name), "__name__", name) == name}
    assert names | {"read", "record", "replay"} <= named


def test_dir_lists_only_names_that_can_be_loaded() -> None:
    """``dir(rxws)`` has the public names, and no module whose extra is missing: each name in it can be loaded."""
    code = "import rxws; [getattr(rxws, name) for name in dir(rxws)]; print(*dir(rxws))"
    public = {name for name in printed(code).split() if not name.startswith("_")}
    modules = {"books", "demo", "operators", "recording", "testing"}
    assert public == {*rxws.__all__, "read", "record", "replay", *modules}
    assert {"jupyter", "prometheus"} <= {*dir(rxws)}


async def test_observables_still_complete_operators() -> None:
    """``dir`` of an Observable lists the operators, for completion in notebooks; ``dir`` of its class does not."""
    async with rxws.demo.serve(rate=0) as exchange, rxws.ReactiveWebSocket(exchange) as ws:
        assert {"map", "buffer_with_time", "collect"} <= {*dir(ws.messages)}
        assert "map" not in dir(rxws.AsyncObservable)
        assert callable(rxws.AsyncObservable.map)
