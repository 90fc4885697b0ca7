"""Cells that are run again, with a simulated kernel; test_jupyter uses a real one."""

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
    """A simulation of IPython's kernel. ``run`` starts a run of a cell."""

    def __init__(self):
        self.parent = {}
        self.runs = 0
        self.callbacks = []

    def register(self, event, function):
        """Register a callback like IPython, which ignores a callback that is already registered."""
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
        """Call the callbacks like IPython before it runs code, also for a run within a run."""
        for function in self.callbacks:
            function(SimpleNamespace())

    def get_parent(self):
        return self.parent


@pytest.fixture
def kernel(monkeypatch):
    """Simulate a notebook for the test."""
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
    """Outside a kernel, as in a program or a terminal, nothing is registered."""
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    assert not in_notebook()
    on_rerun(lambda: pytest.fail("called"))()


def test_next_run_of_a_cell_disposes_the_objects_of_the_last(kernel):
    """The next run of a cell calls the registered functions once, in reverse order."""
    calls = []
    assert in_notebook()
    on_rerun(lambda: calls.append(1))
    on_rerun(lambda: calls.append(2))
    kernel.run("second cell")
    on_rerun(lambda: calls.append("other"))
    assert calls == []
    kernel.run("first cell", code="edited")
    assert calls == [2, 1]
    on_rerun(lambda: calls.append(3))
    assert calls == [2, 1]
    kernel.run("first cell")
    on_rerun(lambda: None)
    assert calls == [2, 1, 3]


def test_edited_cell_disposes_the_objects_of_its_last_run(kernel):
    """An edited cell that registers nothing still disposes the objects of its last run."""
    calls = []
    on_rerun(lambda: calls.append("disposed"))
    kernel.run("first cell", code="edited")
    assert calls == ["disposed"]
    kernel.run("first cell", code="edited")
    assert calls == ["disposed"]


def test_run_within_a_run_disposes_nothing(kernel):
    """A notebook that a cell runs with ``%run`` is part of the same run."""
    calls = []
    on_rerun(lambda: calls.append("disposed"))
    kernel.begin()
    assert calls == []
    kernel.run("first cell")
    assert calls == ["disposed"]


def test_callback_without_a_shell_does_nothing(kernel, monkeypatch):
    """A callback that is called after the end of its shell does nothing."""
    on_rerun(lambda: pytest.fail("called"))
    monkeypatch.setitem(sys.modules, "IPython", None)
    kernel.run("first cell")


def test_cell_without_an_identifier_is_identified_by_its_code(kernel):
    """A cell without an identifier is identified by its code."""
    calls = []
    kernel.run(code="a")
    on_rerun(lambda: calls.append("a"))
    kernel.run(code="b")
    on_rerun(lambda: calls.append("b"))
    kernel.run(code="a")
    on_rerun(lambda: None)
    assert calls == ["a"]


def test_cancelled_registration_is_not_called(kernel):
    """A cancelled registration is not called."""
    call_off = on_rerun(lambda: pytest.fail("called"))
    call_off()
    call_off()
    kernel.run("first cell")
    on_rerun(lambda: None)


def test_function_that_raises_does_not_prevent_the_others(kernel):
    """If a function raises, all others are still called, then its exception is raised; new functions are registered."""
    calls = []
    on_rerun(lambda: calls.append("first"))
    on_rerun(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        kernel.run("first cell")
    on_rerun(lambda: calls.append("new"))
    assert calls == ["first"]
    kernel.run("first cell")
    assert calls == ["first", "new"]


@virtual
async def test_feed_replaces_the_live_one_of_its_name(kernel, feed_server, caplog):
    """In a notebook a new feed closes the live feed of the same name, logs that, and then connects."""
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
    """In a notebook a feed keeps messages for its first minute, so the first display shows the last few of them."""
    async with rxws.ReactiveWebSocket(feed_server.url) as ws:
        await ws.wait_connected()
        for n in range(7):
            await feed_server.send({"n": n})
        await asyncio.sleep(1.0)
        assert [line.strip() for line in ws._repr_mimebundle_()["text/plain"].splitlines()[-5:]] == list("65432")


@virtual
async def test_handlers_of_the_last_run_are_removed(kernel, feed_server):
    """A new run of a cell removes the handlers of its last run, and no handlers of other cells."""
    calls = []
    async with rxws.ReactiveWebSocket(feed_server.url) as ws:
        await ws.wait_connected()
        for run in range(2):
            kernel.run("handlers")

            async def coroutine_handler(message, run=run):
                calls.append(("coroutine", run))

            ws.add_handler(lambda message, run=run: calls.append(("function", run)))
            ws.add_handler(coroutine_handler)
        kernel.run("another cell")
        ws.add_handler(lambda message: calls.append("disposed")).dispose()
        ws.add_handler(lambda message: calls.append("other"))
        # A disposed handler is not remembered for the next run.
        assert len(notebook._RUNS["another cell"].left) == 1
        await feed_server.send({"n": 1})
        await asyncio.sleep(1.0)
        assert sorted(calls, key=str) == [("coroutine", 1), ("function", 1), "other"]
