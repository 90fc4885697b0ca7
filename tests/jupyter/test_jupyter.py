"""Views that update themselves, callbacks, contexts that stay open, and notebook cells that are run again."""

from __future__ import annotations

import asyncio
import builtins
import importlib
import threading
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import numpy
import pytest
import reactivex as rx
from reactivex.subject import Subject

import rxws
from rxws.jupyter import callback, keep, live, plot
from tests.support.kernels import FEED, Kernel

virtual = pytest.mark.usefixtures("virtual_time")


# live


@virtual
async def test_live_shows_the_last_items_when_items_arrive(virtual_time):
    """The table shows the number of items and the last items, the newest first."""
    source = Subject()
    view = live(source, rows=2)
    for n in range(5):
        source.on_next({"n": n})
    await asyncio.sleep(1.0)
    text = view._repr_mimebundle_()["text/plain"]
    assert [line.split() for line in text.splitlines()] == [["live,", "5", "items"], ["n"], ["4"], ["3"]]
    assert view.widget.value == view._repr_mimebundle_()["text/html"]
    assert "application/vnd.jupyter.widget-view+json" in view._repr_mimebundle_()
    view.stop()


@virtual
async def test_live_limits_its_updates_when_items_are_frequent(virtual_time):
    """A view updates at most ``hz`` times per second at any rate of items, and never without new items."""
    source = Subject()
    view = live(source, hz=10.0)
    for n in range(10_000):
        source.on_next(n)
        await asyncio.sleep(0.001)
    assert view.count == 10_000
    assert 95 <= view.draws <= 101
    draws = view.draws
    await asyncio.sleep(60.0)
    assert view.draws <= draws + 1
    # After a silence the next item is shown at once.
    source.on_next("news")
    await asyncio.sleep(0.001)
    assert "news" in view.widget.value
    view.stop()


@virtual
async def test_live_shows_html_as_text_when_items_contain_it(virtual_time):
    """HTML in a message is escaped, so the widget shows it as text."""
    source = Subject()
    view = live(source)
    source.on_next({"<b>": "<img src=x onerror=alert(1)>"})
    await asyncio.sleep(1.0)
    assert "<img" not in view.widget.value
    assert "<b>" not in view.widget.value
    assert "&lt;img" in view.widget.value
    view.stop()


@virtual
async def test_view_keeps_its_last_drawing_when_stopped(virtual_time):
    """After ``stop`` a view ignores items and draws nothing; its title says so, and the shown items stay."""
    source = Subject()
    view = live(source)
    source.on_next("first")
    view.stop()
    view.stop()
    assert not view.is_live
    assert not source.observers
    assert "stopped" in view.widget.value
    assert "first" in view.widget.value
    draws = view.draws
    source.on_next("second")
    await asyncio.sleep(10.0)
    assert view.draws == draws


async def test_view_ends_when_another_thread_stops_it():
    """A widget's callback may stop a view from any thread."""
    source = Subject()
    view = live(source)
    thread = threading.Thread(target=view.stop)
    thread.start()
    thread.join()
    await view.run(10.0)
    assert not view.is_live
    assert not source.observers


async def test_view_is_drawn_in_its_own_thread_when_items_arrive_in_another():
    """An Observable may emit items and end in any thread; the view is drawn in the thread of its loop."""
    source = Subject()
    view = live(source)
    drawn_in = set()
    view.widget.observe(lambda _: drawn_in.add(threading.current_thread()), "value")

    def feed():
        for n in range(100):
            source.on_next({"n": n})
        source.on_completed()

    await asyncio.to_thread(feed)
    await view.run(10.0)
    assert view.count == 100
    assert "ended, 100 items" in view.widget.value
    assert drawn_in == {threading.current_thread()}


async def test_item_from_another_thread_is_ignored_when_the_view_is_stopped():
    """An item that another thread emitted just before ``stop`` is not shown."""
    source = Subject()
    view = live(source)
    thread = threading.Thread(target=source.on_next, args=["late"])
    thread.start()
    thread.join()
    view.stop()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert view.count == 0
    assert "late" not in view.widget.value


async def test_live_raises_type_error_when_its_argument_is_not_an_observable():
    """If the argument is not an Observable, the error names ``ws.messages`` as an example."""
    with pytest.raises(TypeError, match=r"such as ws\.messages"):
        live(42)


def test_stop_does_nothing_when_the_loop_is_closed():
    """Stopping a view after its event loop is closed raises nothing."""

    async def make():
        return live(Subject())

    asyncio.run(make()).stop()


@virtual
async def test_view_ends_when_its_observable_ends(virtual_time):
    """When the Observable ends, the view shows the last items and the word 'ended'."""
    view = live(rx.from_iterable([1, 2, 3]))
    assert not view.is_live
    assert "ended, 3 items" in view.widget.value
    await view.run()


@virtual
async def test_view_shows_the_error_when_its_observable_fails(virtual_time, caplog):
    """The error of an Observable is shown in the view, and logged."""
    source = Subject()
    view = live(source)
    source.on_error(ValueError("<broken>"))
    assert "failed: ValueError(&#x27;&lt;broken&gt;&#x27;)" in view.widget.value
    assert "the Observable of a view failed" in caplog.text


@virtual
async def test_view_stops_when_drawing_raises(virtual_time, monkeypatch):
    """An exception while drawing is reported once, and stops the view."""
    calls = []
    virtual_time.set_exception_handler(lambda _, context: calls.append(context["exception"]))
    source = Subject()
    view = live(source)
    monkeypatch.setattr(view, "_draw", lambda: 1 / 0)
    source.on_next(1)
    await asyncio.sleep(10.0)
    assert [type(error) for error in calls] == [ZeroDivisionError]
    assert not view.is_live
    assert not source.observers
    assert "failed: it cannot be drawn (ZeroDivisionError)" in view.widget.value


@virtual
async def test_plot_shows_the_error_when_drawing_raises(virtual_time):
    """If a value in a message cannot be drawn, the title of the plot names the error."""

    class Unprintable:
        def __str__(self):
            raise RuntimeError

    virtual_time.set_exception_handler(lambda *_: None)
    source = Subject()
    view = plot(source, None, "y", by="s")
    source.on_next({"y": 1, "s": Unprintable()})
    await asyncio.sleep(1.0)
    assert not view.is_live
    assert "failed: it cannot be drawn (RuntimeError)" in view.widget.title


@virtual
async def test_view_ends_when_the_repr_of_the_error_raises(virtual_time):
    """If the repr of the Observable's error raises, the view still ends, and shows that the repr raised."""

    class Odd(Exception):
        def __repr__(self):
            raise RuntimeError

    source = Subject()
    view = live(source)
    source.on_error(Odd())
    assert not view.is_live
    assert "failed: &lt;Odd whose repr raised RuntimeError&gt;" in view.widget.value


@virtual
async def test_view_is_stopped_when_its_last_drawing_raises(virtual_time, monkeypatch):
    """``stop`` raises the exception of the last drawing, after it has stopped the view."""
    source = Subject()
    view = live(source)
    monkeypatch.setattr(view, "_draw", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        view.stop()
    assert not view.is_live
    assert not source.observers


@virtual
async def test_run_updates_the_stored_output_when_it_ends(virtual_time, monkeypatch):
    """At its end ``run`` updates the displayed output, which the notebook's file stores."""
    shown = []

    class Handle:
        def update(self, view):
            shown.append(view._repr_mimebundle_()["text/plain"])

    monkeypatch.setattr("rxws.jupyter.view.display", lambda view, display_id: Handle())
    view = live(Subject())
    await view.run(1.0)
    assert shown == ["stopped, 0 items"]


@virtual
async def test_run_stops_the_view_when_the_time_is_over(virtual_time, capsys):
    """``run(5)`` shows a view for five seconds, then stops it."""
    source = Subject()
    view = live(source)
    virtual_time.call_later(1.0, source.on_next, "an item")
    started = virtual_time.time()
    await view.run(5.0)
    assert virtual_time.time() - started == pytest.approx(5.0)
    assert not view.is_live
    assert "an item" in view.widget.value


@virtual
async def test_run_stops_the_view_when_cancelled(virtual_time, capsys):
    """Cancelling ``run``, as an interrupted cell does, stops the view."""
    view = live(Subject())
    running = asyncio.ensure_future(view.run())
    await asyncio.sleep(1.0)
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    assert not view.is_live


@virtual
@pytest.mark.parametrize("wrong", [{"hz": 0.0}, {"hz": -1.0}, {"hz": float("inf")}, {"hz": float("nan")}])
async def test_view_raises_value_error_when_a_number_is_not_positive(virtual_time, wrong):
    """``hz``, ``rows`` and ``window`` must be positive and finite, otherwise ValueError is raised."""
    with pytest.raises(ValueError, match="hz must be"):
        live(Subject(), **wrong)
    with pytest.raises(ValueError, match="rows must be"):
        live(Subject(), rows=0)
    with pytest.raises(ValueError, match="window must be"):
        plot(Subject(), None, "y", window=0)


@virtual
async def test_live_shows_waiting_messages_when_given_a_stream(feed_server):
    """A view of a stream takes all messages, including those that wait in it."""
    async with rxws.ReactiveWebSocket(feed_server.url) as ws:
        stream = ws.stream_filter()
        await ws.wait_connected()
        await feed_server.send({"n": 1})
        await asyncio.sleep(1.0)
        view = live(stream)
        assert view.count == 1
        assert stream.pending == 0
        await feed_server.send({"n": 2})
        await asyncio.sleep(1.0)
        assert view.count == 2
        view.stop()


# plot


def points(view):
    """Return the points of each line of a plot."""
    return {mark.labels[0]: (list(mark.x), list(mark.y)) for mark in view.widget.marks}


@virtual
async def test_plot_draws_a_line_for_each_value_when_by_is_given(virtual_time):
    """Each value of ``by`` has its own line, with a legend and its own colour."""
    source = Subject()
    view = plot(source, "x", "y", "s")
    for n in range(3):
        source.on_next({"x": n, "y": 10.0 + n, "s": "A"})
        source.on_next({"x": n, "y": f"{20.0 + n}", "s": "B"})
    await asyncio.sleep(1.0)
    assert points(view) == {"A": ([0, 1, 2], [10, 11, 12]), "B": ([0, 1, 2], [20, 21, 22])}
    first, second = view.widget.marks
    assert first.display_legend
    assert first.colors != second.colors
    assert [axis.label for axis in view.widget.axes] == ["x", "y"]
    # A line without new points is not changed; other lines are updated, not made again.
    source.on_next({"x": 3, "y": 13.0, "s": "A"})
    await asyncio.sleep(1.0)
    assert view.widget.marks == [first, second]
    assert list(first.y) == [10, 11, 12, 13]
    view.stop()


@virtual
async def test_plot_keeps_the_latest_points_when_the_window_is_full(virtual_time):
    """Each line keeps the latest ``window`` points."""
    view = plot(rx.from_iterable({"x": n, "y": n} for n in range(100)), "x", "y", window=3)
    assert points(view) == {"None": ([97, 98, 99], [97, 98, 99])}
    assert not view.widget.marks[0].display_legend


@virtual
async def test_plot_accepts_keys_paths_and_functions_when_made(virtual_time):
    """``x``, ``y`` and ``by`` are keys, paths of keys, or functions; a key may be an attribute, too."""
    source = Subject()
    view = plot(source, lambda item: item["t"], ("d", "p"), by=("d", "real"))
    source.on_next({"t": 1, "d": {"p": 2.0, "real": "A"}})
    source.on_next({"t": 1, "d": 5})
    source.on_next({"t": 1})
    await asyncio.sleep(1.0)
    assert points(view) == {"A": ([1], [2])}
    assert [axis.label for axis in view.widget.axes] == ["x", "d.p"]
    assert "plot: live, 3 items" in view._repr_mimebundle_()["text/plain"]
    view.stop()


@virtual
async def test_plot_leaves_out_an_item_when_its_value_is_not_a_number(virtual_time, caplog):
    """Items whose values are not numbers are counted in the title and logged once; later points are drawn."""
    source = Subject()
    view = plot(source, "x", "y")
    source.on_next({"x": 1, "y": "10"})
    for _ in range(3):
        source.on_next({"x": 2, "y": "n/a"})
    source.on_next({"x": 3, "y": "30"})
    await asyncio.sleep(1.0)
    assert points(view) == {"None": ([1, 3], [10, 30])}
    assert "3 left out (not a number: could not convert" in view.widget.title
    assert caplog.text.count("not a number: could not convert") == 1
    view.stop()


@virtual
async def test_plot_names_a_key_when_no_item_has_it(virtual_time, caplog):
    """The title names a key that no item has, so that the user notices a misspelled key."""
    source = Subject()
    view = plot(source, None, "prize", by="s")
    for _ in range(3):
        source.on_next({"price": 1, "s": "A"})
    await asyncio.sleep(1.0)
    assert view.widget.title == "live, 3 items, 3 left out (no 'prize')"
    assert repr(view) == "<plot: live, 3 items, 3 left out (no 'prize')>"
    assert len(caplog.records) == 1
    view.stop()


@virtual
async def test_plot_shows_no_exponents_when_numbers_are_large(virtual_time):
    """The axis shows large prices without exponents."""
    view = plot(rx.of({"x": 1, "y": 65_000_000.0}), "x", "y")
    assert view.widget.axes[1].tick_format == ",.12~r"


@virtual
async def test_view_raises_type_error_when_an_argument_is_not_a_number(virtual_time):
    """A string in place of a number raises TypeError, which names the argument."""
    with pytest.raises(TypeError, match="hz must be a positive number of updates a second, not '9'"):
        live(Subject(), hz="9")
    with pytest.raises(TypeError, match="rows must be an int of at least 1, not '5'"):
        live(Subject(), rows="5")
    view = live(Subject())
    with pytest.raises(TypeError, match="seconds must be a number of seconds or None, not '3'"):
        await view.run("3")
    with pytest.raises(ValueError, match="seconds must not be negative"):
        await view.run(-1)
    assert view.is_live
    assert repr(view) == "<live: live, 0 items>"
    view.stop()


@virtual
@pytest.mark.parametrize("y", [None, (), ["p"]])
async def test_plot_raises_type_error_when_a_key_is_invalid(virtual_time, y):
    """A list, an empty tuple or None is not a key for ``y``, because it would never find a value."""
    with pytest.raises(TypeError, match="y must be a key, a tuple of keys or a function of an item, not"):
        plot(Subject(), None, y)


@virtual
async def test_plot_draws_times_when_x_is_a_datetime_or_none(virtual_time):
    """The x axis shows times if ``x`` is a datetime; if ``x`` is None, it shows when the items arrived."""
    noon = datetime(2024, 1, 2, 12, tzinfo=UTC)
    view = plot(rx.of({"t": noon, "y": 1}), "t", "y")
    assert points(view) == {"None": ([numpy.datetime64("2024-01-02T12:00:00.000")], [1])}
    now = plot(rx.of({"y": 1}), None, "y")
    ((xs, _),) = points(now).values()
    assert abs(xs[0] - numpy.datetime64(datetime.now(UTC).replace(tzinfo=None))) < numpy.timedelta64(60, "s")
    assert now.widget.axes[0].label == "time"
    assert view._repr_mimebundle_()["text/plain"].split()[-4:] == ["t", "y", "2024-01-02T12:00:00.000+00:00", "1"]
    empty = plot(rx.empty(), None, "y")
    assert empty.widget.marks == []


@virtual
async def test_plot_draws_fifty_lines_when_there_are_more_values(feed_server, caplog):
    """A plot draws at most 50 lines, logs this once, and its title counts the items that it leaves out."""
    async with rxws.ReactiveWebSocket(feed_server.url) as ws:
        view = plot(ws.messages, None, "y", by="s")
        await ws.wait_connected()
        for n in range(52):
            await feed_server.send({"y": 1, "s": n})
        await asyncio.sleep(1.0)
        assert len(view.widget.marks) == 50
        assert ws.statistics().failures == 0
        assert "more than 50 lines" in view._title()
        assert caplog.text.count("more than 50 lines") == 1
        view.stop()


# callback


async def test_callback_runs_on_the_loop_when_called_from_another_thread():
    """Functions and coroutine functions run in the loop's thread, with the arguments of the call."""
    done = asyncio.Queue()

    def function(argument):
        done.put_nowait((argument, threading.current_thread()))

    async def coroutine_function(argument):
        await asyncio.sleep(0)
        function(argument)

    wrapped = callback(function)
    assert wrapped.__name__ == "function"
    thread = threading.Thread(target=lambda: (wrapped(1), callback_of_coroutine(argument=2)))
    callback_of_coroutine = callback(coroutine_function)
    thread.start()
    assert [await done.get(), await done.get()] == [(1, threading.main_thread()), (2, threading.main_thread())]
    thread.join()


async def test_callback_logs_the_exception_when_its_function_raises(caplog):
    """An exception of the function is logged. A cancellation is not an error."""

    async def fail():
        raise ValueError("in a coroutine")

    async def cancelled():
        raise asyncio.CancelledError

    callback(lambda: 1 / 0)()
    callback(fail)()
    callback(cancelled)()
    for _ in range(5):
        await asyncio.sleep(0)
    assert "ZeroDivisionError" in caplog.text
    assert "in a coroutine" in caplog.text
    assert len(caplog.records) == 2


# keep


async def test_keep_stays_inside_when_the_context_is_entered():
    """``keep`` returns the value of the context and stays inside; it raises the exception if entering fails."""
    calls = []

    @asynccontextmanager
    async def context(error=None):
        calls.append("entered")
        if error:
            raise error
        yield "value"

    assert await keep(context()) == "value"
    with pytest.raises(ValueError, match="cannot enter"):
        await keep(context(ValueError("cannot enter")))
    assert calls == ["entered", "entered"]


@pytest.mark.parametrize("wrong", [rxws.demo.serve, None, "url"])
async def test_keep_raises_type_error_when_its_argument_is_not_a_context(wrong):
    """``keep`` refuses arguments without ``__aenter__``; for a function, the error asks for parentheses."""
    with pytest.raises(TypeError, match="keep takes what 'async with' takes") as caught:
        await keep(wrong)
    assert ("parentheses" in str(caught.value)) is callable(wrong)


async def test_callback_raises_type_error_when_its_argument_is_not_callable():
    """``callback`` refuses a wrong argument at once, not only when the widget calls."""
    with pytest.raises(TypeError, match="callback takes a function, not 5"):
        callback(5)


async def test_keep_leaves_the_context_when_cancelled():
    """Cancelling ``keep`` while it enters the context cancels entering."""
    left = asyncio.Event()

    @asynccontextmanager
    async def context():
        try:
            await asyncio.Event().wait()
            yield
        finally:
            left.set()

    keeping = asyncio.ensure_future(keep(context()))
    for _ in range(3):
        await asyncio.sleep(0)
    keeping.cancel()
    await asyncio.wait([keeping])
    assert keeping.cancelled()
    await left.wait()


# The extra


def test_import_names_the_extra_when_it_is_missing(monkeypatch):
    """Without the extra, the ImportError says how to install it."""
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("bqplot"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"rxws\[jupyter\]"):
        importlib.reload(rxws.jupyter)


def test_on_rerun_does_nothing_when_outside_a_notebook():
    """A program has no cells: ``on_rerun`` registers nothing, and cancelling the registration is safe."""
    from rxws.display.cells import in_notebook, on_rerun

    assert not in_notebook()
    on_rerun(lambda: pytest.fail("called"))()


@virtual
async def test_feeds_with_one_name_are_independent_when_outside_a_notebook(feed_server):
    """Outside a notebook two live feeds may have the same name."""
    async with (
        rxws.ReactiveWebSocket(feed_server.url, name="twin") as one,
        rxws.ReactiveWebSocket(feed_server.url, name="twin") as two,
    ):
        await feed_server.connected(2)
        await asyncio.sleep(1.0)
        assert one.state.value is two.state.value is rxws.State.CONNECTED


# In a kernel


@pytest.fixture(scope="module")
def kernel():
    """Yield a kernel in which a demo exchange runs."""
    with Kernel() as started:
        ran = started.run(
            "import asyncio, rxws, threading\nfrom rxws.jupyter import callback, keep, live, on_rerun, plot", "imports"
        )
        assert ran.error is None
        ran = started.run("exchange = await keep(rxws.demo.serve(rate=200))", "exchange")
        assert ran.error is None
        yield started


@pytest.mark.slow
def test_feed_replaces_a_live_feed_when_it_has_its_name(kernel):
    """A cell that makes a feed and is run twice leaves one connection, and a warning names the replaced feed."""
    code = """
former = globals().get("ws")
ws = rxws.ReactiveWebSocket(exchange, name="demo")
calls = []
ws.add_handler(calls.append)
await ws.wait_connected()
(former and former.state.value, exchange.connections, ws.state.value)
"""
    first = kernel.run(code, "feed")
    assert first.stderr == ""
    assert first.result == "(None, 1, <State.CONNECTED: 'connected'>)"
    second = kernel.run(code, "feed")
    assert "replaces the live one of the same name, 'demo'" in second.stderr
    assert second.result == "(<State.CLOSED: 'closed'>, 1, <State.CONNECTED: 'connected'>)"
    # A feed that another cell made is replaced too, because only the name matters.
    third = kernel.run(code, "another feed")
    assert "replaces" in third.stderr
    assert third.result == "(<State.CLOSED: 'closed'>, 1, <State.CONNECTED: 'connected'>)"
    assert kernel.run("await ws.exit(); ws = rxws.ReactiveWebSocket(exchange, name='demo')").stderr == ""
    unnamed = "other = rxws.ReactiveWebSocket(exchange); await other.wait_connected(); exchange.connections"
    assert kernel.run(unnamed).result == "2"
    assert kernel.run("await other.exit(); await ws.wait_connected(); exchange.connections").result == "1"


@pytest.mark.slow
def test_handler_is_removed_when_its_cell_is_run_again(kernel):
    """Only the handlers of a cell's last run remain, even if the cell was edited."""
    kernel.run("ws = rxws.ReactiveWebSocket(exchange, name='demo'); calls = []", "feed for handlers")
    code = "for n in range(2): ws.add_handler(lambda message, n=n: calls.append((n, {})))"
    for run in ("'a'", "'a'", "'b'"):
        assert kernel.run(code.format(run), "handlers").error is None
    kernel.run("disposed = ws.add_handler(lambda message: calls.append('c')); disposed.dispose()", "other handler")
    assert kernel.run("calls.clear(); await asyncio.sleep(0.3); sorted(set(calls))").result == "[(0, 'b'), (1, 'b')]"


@pytest.mark.slow
def test_view_is_stopped_when_its_cell_is_run_again(kernel):
    """The view of a cell's last run is live while other cells run, and the view of the run before is stopped."""
    kernel.run("ws = rxws.ReactiveWebSocket(exchange, name='demo'); views = []", "feed for views")
    for _ in range(2):
        assert kernel.run("views.append(live(ws.messages)); views[-1]", "view").error is None
    assert kernel.run("await asyncio.sleep(0.5); [view.is_live for view in views]").result == "[False, True]"
    assert kernel.run("views[1].count > 20, views[1].draws > 2").result == "(True, True)"
    # The same holds in an editor that does not identify its cells.
    for _ in range(2):
        assert kernel.run("unnamed = globals().get('unnamed', []) + [live(ws.messages)]").error is None
    assert kernel.run("[view.is_live for view in unnamed]").result == "[False, True]"
    kernel.run("views[1].stop(); unnamed[1].stop()")


@pytest.mark.slow
def test_objects_of_the_former_run_are_removed_when_the_edited_cell_makes_none(kernel):
    """An edited cell that makes no view and no handler still removes those of its last run."""
    kernel.run("ws = rxws.ReactiveWebSocket(exchange, name='demo'); calls = []", "feed for edited")
    code = """
former = live(ws.messages)
ws.add_handler(calls.append)
on_rerun(ws.messages.subscribe(calls.append).dispose)
"""
    assert kernel.run(code, "edited").error is None
    assert kernel.run("await asyncio.sleep(0.2); former.is_live, len(calls) > 2").result == "(True, True)"
    assert kernel.run("1 + 1", "edited").stderr == ""
    assert kernel.run("calls.clear(); await asyncio.sleep(0.2); former.is_live, calls").result == "(False, [])"


@pytest.mark.slow
def test_context_is_left_before_it_is_entered_again_when_its_cell_is_run_again(kernel):
    """``keep`` leaves the former context of a cell before it enters the new one."""
    code = """
import contextlib
order = globals().get("order", [])

@contextlib.asynccontextmanager
async def context():
    order.append("enter")
    yield
    await asyncio.sleep(0.1)
    order.append("leave")

await keep(context())
order
"""
    assert kernel.run(code, "context").result == "['enter']"
    assert kernel.run(code, "context").result == "['enter', 'leave', 'enter']"


@pytest.mark.slow
def test_feed_stays_live_when_a_cell_is_interrupted(kernel):
    """Interrupting a waiting cell ends its own subscription; the feed stays live, and no message is lost."""
    kernel.run("ws = rxws.ReactiveWebSocket(exchange, name='demo'); stream = ws.stream_filter(); seen = []", "feed i")
    number = kernel.start("async for message in ws.messages.pipe():\n    seen.append(message)", "endless")
    time.sleep(1.0)
    kernel.manager.interrupt_kernel()
    ran = kernel.finish(number)
    assert ran.error is not None
    collecting = kernel.start("await stream.collect()", "collecting")
    time.sleep(0.5)
    kernel.manager.interrupt_kernel()
    assert kernel.finish(collecting).error is not None
    # The loop still runs, and the interrupted cell receives nothing more.
    assert kernel.run(
        "n = len(seen); await asyncio.sleep(0.3); ws.state.value.is_live, len(seen) == n > 20"
    ).result == ("(True, True)")
    numbers = "[m['n'] for m in await stream.collect(seconds=0) if (m['e'], m['s']) == ('trade', 'BTCUSDT')]"
    assert kernel.run(f"numbers = {numbers}; numbers == list(range(numbers[0], numbers[0] + len(numbers)))").result == (
        "True"
    )


@pytest.mark.slow
def test_exception_is_shown_when_raised_in_the_background(kernel):
    """An exception of a handler or a task after the end of its cell is shown on standard error."""
    kernel.run("ws = rxws.ReactiveWebSocket(exchange, name='demo')", "feed e")
    ran = kernel.run("handler = ws.add_handler(lambda message: 1 / 0)", "failing handler")
    assert "ZeroDivisionError" in ran.stderr + kernel.listen(2.0).stderr
    kernel.run("handler.dispose()")
    code = "async def fail():\n    raise ValueError('in a task')\n\ntask = asyncio.create_task(fail()); del task"
    ran = kernel.run(code)
    assert "in a task" in ran.stderr + kernel.run("import gc; gc.collect(); await asyncio.sleep(0.1)").stderr


@pytest.mark.slow
def test_feed_is_rotated_when_a_widget_calls_from_another_thread(kernel):
    """A callback that rotates the feed works from another thread."""
    kernel.run("ws = rxws.ReactiveWebSocket(exchange, name='demo'); await ws.wait_connected()", "feed c")
    kernel.run("threading.Thread(target=callback(lambda: ws.rotate())).start(); await asyncio.sleep(2)")
    assert kernel.run("ws.statistics().rotations").result == "1"


@pytest.mark.slow
def test_handler_of_a_callback_is_removed_when_the_cell_of_the_callback_is_run_again(kernel):
    """Handlers that a callback adds stay until the cell that made the callback is run again."""
    kernel.run("ws = rxws.ReactiveWebSocket(exchange, name='demo'); calls = []", "feed cb")
    code = "call = callback(lambda name: ws.add_handler(lambda message: calls.append(name)))"
    kernel.run(code, "cb")
    kernel.run("call('a'); await asyncio.sleep(0.1)", "a")
    kernel.run("call('b'); await asyncio.sleep(0.1)", "b")
    assert kernel.run("calls.clear(); await asyncio.sleep(0.3); sorted(set(calls))").result == "['a', 'b']"
    kernel.run("1", "a")
    assert kernel.run("calls.clear(); await asyncio.sleep(0.3); sorted(set(calls))").result == "['a', 'b']"
    kernel.run(code, "cb")
    assert kernel.run("calls.clear(); await asyncio.sleep(0.3); sorted(set(calls))").result == "[]"


@pytest.mark.slow
def test_widgets_are_closed_when_their_view_is_replaced(kernel):
    """Running a cell again and again leaves no widgets of its former views, live or stopped."""
    kernel.run("ws = rxws.ReactiveWebSocket(exchange, name='demo'); import ipywidgets", "feed w")
    code = """
view = live(ws.messages)
stopped = plot(ws.messages.filter(lambda m: 'p' in m), None, 'p')
display(view, stopped)
await asyncio.sleep(0.5)
stopped.stop()
len(ipywidgets.widgets.widget._instances)
"""
    first = kernel.run(code, "widgets")
    assert first.error is None
    assert int(first.result) > 0
    assert [kernel.run(code, "widgets").result for _ in range(3)] == [first.result] * 3


@pytest.mark.slow
def test_next_context_is_entered_when_leaving_the_former_hangs(kernel):
    """If leaving the former context takes too long, ``keep`` logs a warning and enters the next context."""
    code = """
import contextlib, rxws.jupyter.cells
rxws.jupyter.cells.LEAVE_TIMEOUT = 0.2

@contextlib.asynccontextmanager
async def context():
    yield "entered"
    await asyncio.sleep(1000)

await keep(context())
"""
    assert kernel.run(code, "hanging").result == "'entered'"
    ran = kernel.run(code, "hanging")
    assert ran.result == "'entered'"
    assert "has not been left within 0.2 s" in ran.stderr


@pytest.mark.slow
def test_error_is_shown_at_once_when_leaving_a_context_raises(kernel):
    """An exception raised on leaving the former context is shown, even if the cell keeps a new context."""
    code = """
import contextlib, gc

@contextlib.asynccontextmanager
async def context():
    yield
    raise ValueError("on leaving")

await keep(context())
gc.collect()
"""
    kernel.run(code, "leaving")
    shown = kernel.run(code, "leaving").stderr + kernel.run("gc.collect(); await asyncio.sleep(0.1)").stderr
    assert "on leaving" in shown


@pytest.mark.slow
def test_feed_is_gone_when_the_kernel_is_restarted():
    """A feed starts no process, so nothing of it is left after a restart of the kernel."""
    with Kernel() as started:
        assert started.run(FEED.format(rate=100) + "live(ws.messages)").error is None
        process = started.process
        assert process.children(recursive=True) == []
        started.manager.restart_kernel(now=False)
        assert not process.is_running()
        started.client.wait_for_ready(timeout=60.0)
        assert started.run("import rxws\nws = rxws.ReactiveWebSocket('ws://127.0.0.1:1')\nws").error is None
