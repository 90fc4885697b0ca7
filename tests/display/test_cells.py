"""Cells that are run again, with a kernel that is only played. With a real one: test_jupyter."""

from __future__ import annotations

import asyncio
import sys
from types import SimpleNamespace

import pytest

import rxws
from rxws.display import cells as notebook
from rxws.display.cells import in_notebook, on_rerun

virtual = pytest.mark.usefixtures("virtual_time")


class PlayedKernel:
    """A kernel as IPython offers it; ``run`` says which cell runs from now on."""

    def __init__(self):
        self.parent = {}
        self.runs = 0
        self.callbacks = []

    def register(self, event, function):
        """Take a callback as IPython does: one that is there already is not added."""
        assert event == "pre_run_cell"
        if function not in self.callbacks:
            self.callbacks.append(function)

    def run(self, cell=None, code="pass"):
        self.runs += 1
        self.parent = {
            "header": {"msg_id": str(self.runs)},
            "metadata": {"cellId": cell} if cell else {},
            "content": {"code": code},
        }
        self.begin()

    def begin(self):
        """Tell, as IPython does, that code is about to be run: in a run within this run, too."""
        for function in self.callbacks:
            function(SimpleNamespace())

    def get_parent(self):
        return self.parent


@pytest.fixture
def kernel(monkeypatch):
    """Let the test run in a notebook."""
    kernel = PlayedKernel()
    shell = SimpleNamespace(kernel=kernel, events=kernel)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setattr(notebook, "_RUNS", {})
    kernel.run("first cell")
    return kernel


@pytest.mark.parametrize(
    "ipython",
    [
        None,
        SimpleNamespace(get_ipython=lambda: None),
        SimpleNamespace(get_ipython=lambda: SimpleNamespace()),
        SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=object())),
    ],
    ids=["no IPython", "IPython imported", "IPython in a terminal", "an unknown kernel"],
)
def test_outside_a_kernel_nothing_happens(monkeypatch, ipython):
    """In a program, or IPython in a terminal, there are no cells: nothing is registered."""
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    assert not in_notebook()
    on_rerun(lambda: pytest.fail("called"))()


def test_next_run_of_a_cell_takes_away_what_the_last_one_left(kernel):
    """What a run of a cell registers is called by the next run of it, the latest first, and only once."""
    told = []
    assert in_notebook()
    on_rerun(lambda: told.append(1))
    on_rerun(lambda: told.append(2))
    kernel.run("second cell")
    on_rerun(lambda: told.append("other"))
    assert told == []
    kernel.run("first cell", code="edited")
    assert told == [2, 1]
    on_rerun(lambda: told.append(3))
    assert told == [2, 1]
    kernel.run("first cell")
    on_rerun(lambda: None)
    assert told == [2, 1, 3]


def test_cell_that_leaves_nothing_any_more_takes_away_what_it_left(kernel):
    """A cell that is edited so that it registers nothing any more takes away what it had registered."""
    told = []
    on_rerun(lambda: told.append("taken away"))
    kernel.run("first cell", code="edited")
    assert told == ["taken away"]
    kernel.run("first cell", code="edited")
    assert told == ["taken away"]


def test_run_within_a_run_takes_nothing_away(kernel):
    """A notebook that a cell runs (``%run``) is a part of that run."""
    told = []
    on_rerun(lambda: told.append("taken away"))
    kernel.begin()
    assert told == []
    kernel.run("first cell")
    assert told == ["taken away"]


def test_cell_after_the_shell_is_gone_is_no_rerun(kernel, monkeypatch):
    """A callback that outlives its shell does nothing."""
    on_rerun(lambda: pytest.fail("called"))
    monkeypatch.setitem(sys.modules, "IPython", None)
    kernel.run("first cell")


def test_cell_without_a_name_is_known_by_its_code(kernel):
    """Where the editor does not name its cells, a cell is run again when the same code is."""
    told = []
    kernel.run(code="a")
    on_rerun(lambda: told.append("a"))
    kernel.run(code="b")
    on_rerun(lambda: told.append("b"))
    kernel.run(code="a")
    on_rerun(lambda: None)
    assert told == ["a"]


def test_what_is_called_off_is_not_called(kernel):
    """What was taken away already is not taken away again."""
    call_off = on_rerun(lambda: pytest.fail("called"))
    call_off()
    call_off()
    kernel.run("first cell")
    on_rerun(lambda: None)


def test_one_that_raises_does_not_keep_the_others(kernel):
    """What one raises is raised when all have been called, and the new one is registered."""
    told = []
    on_rerun(lambda: told.append("first"))
    on_rerun(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        kernel.run("first cell")
    on_rerun(lambda: told.append("new"))
    assert told == ["first"]
    kernel.run("first cell")
    assert told == ["first", "new"]


@virtual
async def test_feed_replaces_the_live_one_of_its_name(kernel, feed_server, caplog):
    """In a notebook a name belongs to one live feed: the next one closes it, says so, and then connects."""
    former = rxws.ReactiveWebSocket(feed_server.url, name="ticker")
    stream = former.stream_filter()
    await feed_server.connected()
    ws = rxws.ReactiveWebSocket(feed_server.url, name="ticker")
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("rxws", "WARNING")
    assert "replaces the live one of the same name, 'ticker'" in record.message
    await ws.wait_connected()
    assert former.state.value is rxws.State.CLOSED
    assert len(feed_server.connections) == 1
    assert [message async for message in stream] == []
    await ws.exit()
    again = rxws.ReactiveWebSocket(feed_server.url, name="ticker")
    unnamed = rxws.ReactiveWebSocket(feed_server.url), rxws.ReactiveWebSocket(feed_server.url)
    await feed_server.connected(3)
    assert caplog.records == [record]
    for feed in (again, *unnamed):
        await feed.exit()


@virtual
async def test_feed_remembers_messages_in_a_notebook(kernel, feed_server):
    """In a notebook the first look shows the last few messages, when it comes within a minute."""
    async with rxws.ReactiveWebSocket(feed_server.url) as ws:
        await ws.wait_connected()
        for n in range(7):
            await feed_server.send({"n": n})
        await asyncio.sleep(1.0)
        assert [line.strip() for line in ws._repr_mimebundle_()["text/plain"].splitlines()[-5:]] == list("65432")


@virtual
async def test_handlers_of_the_last_run_are_removed(kernel, feed_server):
    """A cell that is run again has its former handlers removed, but those of other cells and those disposed."""
    told = []
    async with rxws.ReactiveWebSocket(feed_server.url) as ws:
        await ws.wait_connected()
        for run in range(2):
            kernel.run("handlers")

            async def coroutine_handler(message, run=run):
                told.append(("coroutine", run))

            ws.add_handler(lambda message, run=run: told.append(("function", run)))
            ws.add_handler(coroutine_handler)
        kernel.run("another cell")
        ws.add_handler(lambda message: told.append("disposed")).dispose()
        ws.add_handler(lambda message: told.append("other"))
        # What is disposed is not remembered for the next run either.
        assert len(notebook._RUNS["another cell"].left) == 1
        await feed_server.send({"n": 1})
        await asyncio.sleep(1.0)
        assert sorted(told, key=str) == [("coroutine", 1), ("function", 1), "other"]
