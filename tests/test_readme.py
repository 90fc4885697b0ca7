"""The guide is correct: every program in it runs, every table is complete, every link has a target."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import itertools
import json
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import docutils.core
import docutils.nodes
import msgspec
import picows.websockets
import pytest
import websockets

import rxws
from rxws.options import Options
from rxws.testing import serve_in_process

from . import demo_picture
from .benchmarks.rows import ROWS
from .support.guide import README, READMES, ROOT, Block, blocks, named

RECIPES = ("login.py", "token.py", "rpc_book.py", "encodings.py", "graphql.py")
"""The names of the recipes, whose own tests are in tests/demo/test_recipes.py."""

PROGRAMS = [block for block in blocks("python") if (not block.name or block.name in RECIPES) and block.kind != "other"]

CONNECTIONS = ROOT / "rxws" / "connections" / "README.rst"
TESTS = ROOT / "tests" / "README.rst"


def title(block: Block) -> str:
    return block.title


def place(readme: Path) -> str:
    return readme.parent.relative_to(ROOT).as_posix()


@pytest.mark.slow
@pytest.mark.parametrize("block", PROGRAMS, ids=title)
def test_python_block_runs_unchanged(block: Block, tmp_path: Path) -> None:
    """Each Python block is a program that ends by itself, prints something, and writes nothing to standard error."""
    program = tmp_path / "block.py"
    program.write_text(block.text)
    command = [sys.executable, "-W", "error", str(program)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_is_short(name: str) -> None:
    """A recipe has at most 40 lines."""
    assert len(named(name).splitlines()) <= 40


@pytest.mark.slow
def test_database_has_every_trade_when_the_program_ends(tmp_path: Path) -> None:
    """When the program for a database ends, the database has every trade that passed the filter."""
    program = tmp_path / "database.py"
    program.write_text(named("database.py"))
    command = [sys.executable, "-W", "error", str(program)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    stored, matched = re.findall(r"\d+", done.stdout)
    assert int(stored) == int(matched) > 100


@pytest.mark.slow
async def test_program_for_a_url_runs_with_a_url(tmp_path: Path) -> None:
    """The first program of README.rst runs once its address is replaced by that of a feed."""
    block = named("own_url.py")
    assert len(block.splitlines()) <= 12
    assert block.count("wss://example.org/ws") == 1
    program = tmp_path / "own_url.py"
    async with serve_in_process(module="rxws.demo") as server:
        program.write_text(block.replace("wss://example.org/ws", server.url))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-u", "-W", "error", str(program)),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            assert process.stdout is not None
            async with asyncio.timeout(30):
                assert float(await process.stdout.readline()) > 0
        finally:
            process.kill()
            await process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_service_ends_cleanly_on_a_signal(number: signal.Signals, tmp_path: Path) -> None:
    """The service logs, serves its statistics, and on SIGTERM or Ctrl-C ends with exit code 0 within seconds."""
    program = tmp_path / "service.py"
    program.write_text(named("service.py"))
    with subprocess.Popen(
        [sys.executable, "-W", "error", program], cwd=ROOT, stderr=subprocess.PIPE, text=True
    ) as service:
        try:
            assert service.stderr is not None
            lines = []
            # The two lines appear in any order. Messages may arrive before their connection counts as open.
            while not ("statistics on port" in "".join(lines) and "trades: connection 1 is open" in "".join(lines)):
                lines.append(service.stderr.readline())
                assert lines[-1], lines
            [port] = [line.split()[-1] for line in lines if "statistics on port" in line]
            while not (answer := json.loads(read(int(port))))["messages"]:
                pass
            assert answer["opened"] == 1
            service.send_signal(number)
            _, rest = service.communicate(timeout=15)
        finally:
            service.kill()
    assert service.returncode == 0, rest
    assert "Traceback" not in rest
    assert "service ended: Statistics(" in rest.splitlines()[-1]


@pytest.mark.slow
def test_file_of_a_users_tests_passes_unchanged(tmp_path: Path) -> None:
    """In an empty folder the test file of the guide passes, with warnings as errors."""
    (tmp_path / "test_feed.py").write_text(named("test_feed.py"))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-W", "error", "-o", "asyncio_default_fixture_loop_scope=function"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "22 passed" in done.stdout
    assert done.stderr == ""


def read(port: int) -> str:
    """Return the text that a server on this machine sends before it closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        return connection.makefile().read()


def test_shell_blocks_are_the_commands_for_demo_and_tests() -> None:
    """README.rst has one command for the demo and one for the tests, which ``.ci/run`` takes from it."""
    demo, tests = (block.text for block in blocks("sh", README))
    assert demo.strip().endswith("rxws demo")
    assert tests.strip().endswith("python -m pytest -n logical")
    [pattern] = re.findall(r"grep -m 1 -E '(.+)' README\.rst", (ROOT / ".ci" / "run").read_text())
    assert re.findall(pattern, README.read_text(), re.MULTILINE) == [f"    {tests.strip()}"]


def test_first_page_has_at_most_200_lines() -> None:
    """README.rst stays a first page: longer texts belong in the guide's parts."""
    assert len(README.read_text().splitlines()) <= 200


def test_failure_table_of_the_first_page_has_six_rows() -> None:
    """The table shows six failures. (In a simple table, a second line in the first column would be another row.)"""
    document = docutils.core.publish_doctree(README.read_text(), settings_overrides={"syntax_highlight": "none"})
    [table] = document.findall(docutils.nodes.tbody)
    assert len(table.children) == 6


def test_guide_has_a_part_for_each_folder_that_users_touch() -> None:
    """Each folder that users touch has a README.rst, and the first page links to it."""
    folders = [f"rxws/{name}" for name in ("streams", "connections", "sending", "operators", "recording", "testing")]
    folders += ["rxws/books", "rxws/nats", "rxws/jupyter", "rxws/cli", "notebooks", "tests"]
    assert {place(readme) for readme in READMES} == {".", *folders}
    for folder in folders:
        assert f"<{folder}/README.rst>" in README.read_text()


@pytest.mark.slow
def test_picture_of_the_demo_has_what_the_demo_prints() -> None:
    """``rxws demo`` prints what the picture and the lines in README.rst show, apart from the numbers."""
    screens = demo_picture.watch("demo", "--seconds", "2.5")
    lines = README.read_text().partition("At the end it says what happened::\n\n")[2].partition("\nTest it")[0]

    def labels(texts: list[str]) -> set[str]:
        """Return the first word of each line, and what the cut cost in words."""
        words = {re.sub(r"\d[\d,.:]*", "#", text.split()[0]) for text in texts if text.strip()}
        cost = re.search(r"the\s+cut\s+cost\s+\d+\s+message", " ".join(texts))
        return {word for word in words if re.fullmatch("[a-z]+", word)} | ({"cost"} if cost else set())

    def rows(picture: str) -> list[str]:
        """Return the lines of the last screen of a picture."""
        found: dict[str, str] = {}
        for height, text in re.findall(r' y="([\d.]+)".*?>([^<>]+)</text>', picture.rpartition("<g ")[2]):
            found[height] = f"{found.get(height, '')} {text}"
        return list(found.values())

    shown = labels(rows(demo_picture.drawn(screens)))
    assert len(screens) > 4
    assert {"received", "rotation", "cut", "connection", "your", "cost"} <= shown
    assert labels(lines.splitlines()) <= shown
    # The words at the beginning of a second line depend on the numbers in the first one.
    assert {"received", "streams", "handler", "rotation", "cut", "connections", "connection", "your", "cost"} <= labels(
        rows(demo_picture.PICTURE.read_text())
    )


@pytest.mark.parametrize("readme", READMES, ids=place)
def test_readme_is_valid_restructured_text(readme: Path) -> None:
    """Each part renders without a warning, and each file that it links to exists."""
    document = docutils.core.publish_doctree(
        readme.read_text(),
        source_path=str(readme),
        settings_overrides={"report_level": 2, "halt_level": 2, "syntax_highlight": "none"},
    )
    links = [node["refuri"] for node in document.findall(docutils.nodes.reference) if "refuri" in node]
    links += [node["uri"] for node in document.findall(docutils.nodes.image)]
    for link in links:
        if not re.match(r"\w+:", link):
            assert (readme.parent / link.partition("#")[0]).exists(), link


def test_table_of_speed_has_every_row() -> None:
    """tests/README.rst has the table that ``python -m tests.benchmarks --readme`` writes, with a figure in each row."""
    _, _, table = TESTS.read_text().partition(".. benchmarks: begin")
    table, _, _ = table.partition(".. benchmarks: end")
    measured = re.findall(r"^   \* - (.+)\n     - (.+)\n     - (.+)\n     - (.+)$", table, re.MULTILINE)[1:]
    assert [(what, against) for what, against, _, _ in measured] == [(row.what, row.against or "—") for row in ROWS]
    assert all(re.search(r"\d", figure) for *_, figure in measured)


# The table of options

NAMES = {
    "itertools": itertools,
    "json": json,
    "msgspec": msgspec,
    "picows": picows,
    "rxws": rxws,
    "websockets": websockets,
}
"""The names that examples in the table of options may use."""


def options() -> dict[str, Any]:
    """Return every option of ReactiveWebSocket with its default."""
    parameters = inspect.signature(rxws.ReactiveWebSocket).parameters.values()
    own = {each.name: each.default for each in parameters if each.kind is inspect.Parameter.KEYWORD_ONLY}
    return own | {field.name: field.default for field in dataclasses.fields(Options)}


def rows_of_options() -> list[tuple[str, str, str]]:
    """Return the table of options: name, default, example."""
    _, _, table = CONNECTIONS.read_text().partition(".. options: begin")
    table, _, _ = table.partition(".. options: end")
    return re.findall(r"^   \* - ``(\w+)``\n     - ``(.+)``\n     - ``(.+)``\n     - ", table, re.MULTILINE)


def test_table_of_options_has_every_option_with_its_default() -> None:
    """The table lists all options of ReactiveWebSocket with their defaults in the code."""
    assert {name: eval(default, NAMES) for name, default, _ in rows_of_options()} == options()


@pytest.mark.parametrize(("name", "default", "example"), rows_of_options())
async def test_example_of_an_option_is_accepted(name: str, default: str, example: str, feed_server: Any) -> None:
    """ReactiveWebSocket accepts each example in the table, and each example differs from the default."""
    arguments = eval(f"dict({example})", NAMES)
    # Some options need another one.
    assert name in arguments
    assert arguments[name] != eval(default, NAMES)
    async with rxws.ReactiveWebSocket[Any](feed_server.url, **arguments):
        pass


def test_table_of_events_has_every_event() -> None:
    """rxws/connections/README.rst explains each event."""
    _, _, table = CONNECTIONS.read_text().partition(".. events: begin")
    table, _, _ = table.partition(".. events: end")
    explained = re.findall(r"^``(\w+)``", table, re.MULTILINE)
    events = [getattr(rxws, name) for name in rxws.__all__]
    events = [each for each in events if inspect.isclass(each) and issubclass(each, rxws.Event)]
    assert sorted(explained) == sorted({each.__name__ for each in events} - {"Event"})
