"""Looking at a live feed in a notebook: views that update themselves, and cells that are run again."""

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
async def test_live_shows_the_last_items(virtual_time):
    """The table has the last few items, the newest first, and their number."""
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
async def test_live_is_coalesced(virtual_time):
    """However fast the items come, there are never more than hz updates a second; without items there are none."""
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
async def test_live_shows_html_as_text(virtual_time):
    """What a feed sends is text in the widget, too."""
    source = Subject()
    view = live(source)
    source.on_next({"<b>": "<img src=x onerror=alert(1)>"})
    await asyncio.sleep(1.0)
    assert "<img" not in view.widget.value
    assert "<b>" not in view.widget.value
    assert "&lt;img" in view.widget.value
    view.stop()


@virtual
async def test_stop_ends_a_view(virtual_time):
    """After stop, a view takes nothing and draws nothing; it says so, and what it showed stays."""
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


async def test_stop_from_another_thread_ends_a_view():
    """A widget's callback may stop a view from whichever thread it runs in."""
    source = Subject()
    view = live(source)
    thread = threading.Thread(target=view.stop)
    thread.start()
    thread.join()
    await view.run(10.0)
    assert not view.is_live
    assert not source.observers


async def test_items_from_another_thread_are_shown():
    """An Observable may give its items, and its end, in any thread: the view is drawn in its own."""
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


async def test_what_comes_from_another_thread_after_the_stop_is_left():
    """What was on its way from another thread when a view was stopped is not shown any more."""
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


async def test_what_is_no_observable_is_refused():
    """A feed is not its messages: who forgot that is told."""
    with pytest.raises(TypeError, match=r"such as ws\.messages"):
        live(42)


def test_stop_after_the_loop_does_nothing():
    """A view whose loop is closed can be stopped all the same."""

    async def make():
        return live(Subject())

    asyncio.run(make()).stop()


@virtual
async def test_view_ends_with_its_sequence(virtual_time):
    """At the end of the sequence the last items are shown, and that it has ended."""
    view = live(rx.from_iterable([1, 2, 3]))
    assert not view.is_live
    assert "ended, 3 items" in view.widget.value
    await view.run()


@virtual
async def test_view_shows_the_error_of_its_sequence(virtual_time, caplog):
    """An error is shown in the view, and logged: it is not lost."""
    source = Subject()
    view = live(source)
    source.on_error(ValueError("<broken>"))
    assert "failed: ValueError(&#x27;&lt;broken&gt;&#x27;)" in view.widget.value
    assert "the sequence that is shown failed" in caplog.text


@virtual
async def test_view_that_cannot_draw_stops(virtual_time, monkeypatch):
    """What drawing raises is told once, and the view stops: not ten times a second."""
    told = []
    virtual_time.set_exception_handler(lambda _, context: told.append(context["exception"]))
    source = Subject()
    view = live(source)
    monkeypatch.setattr(view, "_draw", lambda: 1 / 0)
    source.on_next(1)
    await asyncio.sleep(10.0)
    assert [type(error) for error in told] == [ZeroDivisionError]
    assert not view.is_live
    assert not source.observers
    assert "failed: it cannot be drawn (ZeroDivisionError)" in view.widget.value


@virtual
async def test_plot_that_cannot_draw_says_so(virtual_time):
    """Also where that lies in what a message holds."""

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
async def test_view_whose_sequence_fails_with_what_has_no_repr_ends(virtual_time):
    """However odd the error is, the view is over, and says so."""

    class Odd(Exception):
        def __repr__(self):
            raise RuntimeError

    source = Subject()
    view = live(source)
    source.on_error(Odd())
    assert not view.is_live
    assert "failed: &lt;Odd whose repr raised RuntimeError&gt;" in view.widget.value


@virtual
async def test_view_that_cannot_draw_its_end_is_stopped(virtual_time, monkeypatch):
    """What drawing raises is raised by ``stop``, which has stopped the view all the same."""
    source = Subject()
    view = live(source)
    monkeypatch.setattr(view, "_draw", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        view.stop()
    assert not view.is_live
    assert not source.observers


@virtual
async def test_run_updates_what_is_stored(virtual_time, monkeypatch):
    """After its run, a view is displayed once more in its place: a notebook's file keeps what was displayed."""
    shown = []

    class Handle:
        def update(self, view):
            shown.append(view._repr_mimebundle_()["text/plain"])

    monkeypatch.setattr("rxws.jupyter.view.display", lambda view, display_id: Handle())
    view = live(Subject())
    await view.run(1.0)
    assert shown == ["stopped, 0 items"]


@virtual
async def test_run_waits_and_stops(virtual_time, capsys):
    """``run`` shows a view for so many seconds, then stops it."""
    source = Subject()
    view = live(source)
    virtual_time.call_later(1.0, source.on_next, "an item")
    started = virtual_time.time()
    await view.run(5.0)
    assert virtual_time.time() - started == pytest.approx(5.0)
    assert not view.is_live
    assert "an item" in view.widget.value


@virtual
async def test_run_that_is_cancelled_stops_the_view(virtual_time, capsys):
    """Interrupting the cell stops the view."""
    view = live(Subject())
    running = asyncio.ensure_future(view.run())
    await asyncio.sleep(1.0)
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    assert not view.is_live


@virtual
@pytest.mark.parametrize("wrong", [{"hz": 0.0}, {"hz": -1.0}, {"hz": float("inf")}, {"hz": float("nan")}])
async def test_views_refuse_a_nonsensical_rate(virtual_time, wrong):
    """A rate that is no positive number is a ValueError."""
    with pytest.raises(ValueError, match="hz must be"):
        live(Subject(), **wrong)
    with pytest.raises(ValueError, match="rows must be"):
        live(Subject(), rows=0)
    with pytest.raises(ValueError, match="window must be"):
        plot(Subject(), None, "y", window=0)


@virtual
async def test_live_of_a_stream_takes_what_it_holds(feed_server):
    """A stream is shown from its first message on, and holds nothing any more."""
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
    """Give the points of each line of a plot."""
    return {mark.labels[0]: (list(mark.x), list(mark.y)) for mark in view.widget.marks}


@virtual
async def test_plot_draws_a_line_for_each_value(virtual_time):
    """With ``by``, each value has a line of its own, with a legend and a colour."""
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
    # A line that has nothing new is left alone; the others go on as the same line.
    source.on_next({"x": 3, "y": 13.0, "s": "A"})
    await asyncio.sleep(1.0)
    assert view.widget.marks == [first, second]
    assert list(first.y) == [10, 11, 12, 13]
    view.stop()


@virtual
async def test_plot_keeps_a_window(virtual_time):
    """Of each line the latest points are kept, as many as the window says."""
    view = plot(rx.from_iterable({"x": n, "y": n} for n in range(100)), "x", "y", window=3)
    assert points(view) == {"None": ([97, 98, 99], [97, 98, 99])}
    assert not view.widget.marks[0].display_legend


@virtual
async def test_plot_takes_keys_paths_and_functions(virtual_time):
    """x, y and by are keys, paths of keys, or functions; attributes are taken, too."""
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
async def test_plot_leaves_out_a_point_that_is_no_number(virtual_time, caplog):
    """Values that are no numbers are counted in the title and told once; the points after them stay in place."""
    source = Subject()
    view = plot(source, "x", "y")
    source.on_next({"x": 1, "y": "10"})
    for _ in range(3):
        source.on_next({"x": 2, "y": "n/a"})
    source.on_next({"x": 3, "y": "30"})
    await asyncio.sleep(1.0)
    assert points(view) == {"None": ([1, 3], [10, 30])}
    assert "3 left out (no number: could not convert" in view.widget.title
    assert caplog.text.count("no number: could not convert") == 1
    view.stop()


@virtual
async def test_plot_with_a_misspelled_key_says_so(virtual_time, caplog):
    """A key that no item has is named in the view, which would be empty without a word."""
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
async def test_plot_writes_large_numbers_out(virtual_time):
    """Prices stand at the axis as numbers, and not with exponents."""
    view = plot(rx.of({"x": 1, "y": 65_000_000.0}), "x", "y")
    assert view.widget.axes[1].tick_format == ",.12~r"


@virtual
async def test_views_refuse_what_is_no_number(virtual_time):
    """A number that is a string is one clear error."""
    with pytest.raises(TypeError, match="hz must be a positive number of updates a second, not '9'"):
        live(Subject(), hz="9")
    with pytest.raises(TypeError, match="rows must be a whole number, not '5'"):
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
async def test_plot_refuses_what_is_no_key(virtual_time, y):
    """A list in place of a tuple, or nothing, would never find anything."""
    with pytest.raises(TypeError, match="y must be a key, a tuple of keys or a function of an item, not"):
        plot(Subject(), None, y)


@virtual
async def test_plot_over_time(virtual_time):
    """Times are drawn as times: those of the items, or with None those at which they come."""
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
async def test_plot_has_no_more_lines_than_can_be_seen(feed_server, caplog):
    """Lines beyond the fiftieth are not drawn: the log says so once, and the view how many items are left out."""
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


async def test_callback_reaches_the_loop_from_another_thread():
    """What a widget's thread calls runs in the loop's: functions and coroutine functions, with their arguments."""
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


async def test_callback_that_raises_is_logged(caplog):
    """What a callback raises is logged: nobody else would learn of it. Its cancellation is no error."""

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


async def test_keep_enters_and_stays():
    """``keep`` gives what entering gives, and stays inside; what entering raises, it raises."""
    told = []

    @asynccontextmanager
    async def context(error=None):
        told.append("entered")
        if error:
            raise error
        yield "value"

    assert await keep(context()) == "value"
    with pytest.raises(ValueError, match="cannot enter"):
        await keep(context(ValueError("cannot enter")))
    assert told == ["entered", "entered"]


@pytest.mark.parametrize("wrong", [rxws.demo.serve, None, "url"])
async def test_keep_refuses_what_cannot_be_entered(wrong):
    """What ``async with`` would not take is refused, with a hint where it was not called."""
    with pytest.raises(TypeError, match="keep takes what 'async with' takes") as caught:
        await keep(wrong)
    assert ("parentheses" in str(caught.value)) is callable(wrong)


async def test_callback_refuses_what_is_no_function():
    """And not only when the widget calls."""
    with pytest.raises(TypeError, match="callback takes a function, not 5"):
        callback(5)


async def test_keep_that_is_cancelled_does_not_stay():
    """Cancelled while it enters, ``keep`` leaves nothing behind."""
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


def test_import_without_the_extra_names_it(monkeypatch):
    """Without the extra, the import says how to install it."""
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("bqplot"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"rxws\[jupyter\]"):
        importlib.reload(rxws.jupyter)


def test_on_rerun_does_nothing_outside_a_notebook():
    """In a program, nothing is ever run again: what is registered is not kept, and calling it off is safe."""
    from rxws.display.cells import in_notebook, on_rerun

    assert not in_notebook()
    on_rerun(lambda: pytest.fail("called"))()


@virtual
async def test_feeds_of_one_name_live_side_by_side_in_a_program(feed_server):
    """Outside a notebook, a name is only a name: two feeds may have the same."""
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
    """Give a kernel in which a demo exchange runs."""
    with Kernel() as started:
        ran = started.run(
            "import asyncio, rxws, threading\nfrom rxws.jupyter import callback, keep, live, on_rerun, plot", "imports"
        )
        assert ran.error is None
        ran = started.run("exchange = await keep(rxws.demo.serve(rate=200))", "exchange")
        assert ran.error is None
        yield started


@pytest.mark.slow
def test_feed_with_the_name_of_a_live_one_replaces_it(kernel):
    """A cell that is run twice leaves one connection and one handler, and says that the feed was replaced."""
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
    # From another cell, too: the name decides.
    third = kernel.run(code, "another feed")
    assert "replaces" in third.stderr
    assert third.result == "(<State.CLOSED: 'closed'>, 1, <State.CONNECTED: 'connected'>)"
    assert kernel.run("await ws.exit(); ws = rxws.ReactiveWebSocket(exchange, name='demo')").stderr == ""
    unnamed = "other = rxws.ReactiveWebSocket(exchange); await other.wait_connected(); exchange.connections"
    assert kernel.run(unnamed).result == "2"
    assert kernel.run("await other.exit(); await ws.wait_connected(); exchange.connections").result == "1"


@pytest.mark.slow
def test_handler_of_a_cell_that_is_run_again_is_replaced(kernel):
    """A cell that adds handlers leaves those of its last run only, be they edited or not."""
    kernel.run("ws = rxws.ReactiveWebSocket(exchange, name='demo'); told = []", "feed for handlers")
    code = "for n in range(2): ws.add_handler(lambda message, n=n: told.append((n, {})))"
    for run in ("'a'", "'a'", "'b'"):
        assert kernel.run(code.format(run), "handlers").error is None
    kernel.run("disposed = ws.add_handler(lambda message: told.append('c')); disposed.dispose()", "other handler")
    assert kernel.run("told.clear(); await asyncio.sleep(0.3); sorted(set(told))").result == "[(0, 'b'), (1, 'b')]"


@pytest.mark.slow
def test_view_of_a_cell_that_is_run_again_is_replaced(kernel):
    """A cell that makes a view leaves one view, which is live while other cells run, and the former stopped."""
    kernel.run("ws = rxws.ReactiveWebSocket(exchange, name='demo'); views = []", "feed for views")
    for _ in range(2):
        assert kernel.run("views.append(live(ws.messages)); views[-1]", "view").error is None
    assert kernel.run("await asyncio.sleep(0.5); [view.is_live for view in views]").result == "[False, True]"
    assert kernel.run("views[1].count > 20, views[1].draws > 2").result == "(True, True)"
    # An editor that does not name its cells.
    for _ in range(2):
        assert kernel.run("unnamed = globals().get('unnamed', []) + [live(ws.messages)]").error is None
    assert kernel.run("[view.is_live for view in unnamed]").result == "[False, True]"
    kernel.run("views[1].stop(); unnamed[1].stop()")


@pytest.mark.slow
def test_cell_that_makes_no_view_any_more_takes_the_former_away(kernel):
    """A cell edited so that it makes no view and adds no handler has those of its last run taken away."""
    kernel.run("ws = rxws.ReactiveWebSocket(exchange, name='demo'); told = []", "feed for edited")
    code = (
        "former = live(ws.messages); ws.add_handler(told.append); on_rerun(ws.messages.subscribe(told.append).dispose)"
    )
    assert kernel.run(code, "edited").error is None
    assert kernel.run("await asyncio.sleep(0.2); former.is_live, len(told) > 2").result == "(True, True)"
    assert kernel.run("1 + 1", "edited").stderr == ""
    assert kernel.run("told.clear(); await asyncio.sleep(0.2); former.is_live, told").result == "(False, [])"


@pytest.mark.slow
def test_context_of_a_cell_that_is_run_again_is_left_first(kernel):
    """What a cell keeps open is left before it is entered anew."""
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
def test_interrupted_cell_leaves_the_feed_alive(kernel):
    """Interrupting a cell that waits ends its own subscription; the feed lives, and what else is there is bounded."""
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
    # The loop itself was not stopped, and it goes on where it was.
    assert kernel.run(
        "n = len(seen); await asyncio.sleep(0.3); ws.state.value.is_live, len(seen) == n > 20"
    ).result == ("(True, True)")
    numbers = "[m['n'] for m in await stream.collect(seconds=0) if (m['e'], m['s']) == ('trade', 'BTCUSDT')]"
    assert kernel.run(f"numbers = {numbers}; numbers == list(range(numbers[0], numbers[0] + len(numbers)))").result == (
        "True"
    )


@pytest.mark.slow
def test_exception_in_the_background_is_shown(kernel):
    """What a handler raises after its cell has ended is shown on standard error."""
    kernel.run("ws = rxws.ReactiveWebSocket(exchange, name='demo')", "feed e")
    ran = kernel.run("handler = ws.add_handler(lambda message: 1 / 0)", "failing handler")
    assert "ZeroDivisionError" in ran.stderr + kernel.listen(2.0).stderr
    kernel.run("handler.dispose()")
    code = "async def fail():\n    raise ValueError('in a task')\n\ntask = asyncio.create_task(fail()); del task"
    ran = kernel.run(code)
    assert "in a task" in ran.stderr + kernel.run("import gc; gc.collect(); await asyncio.sleep(0.1)").stderr


@pytest.mark.slow
def test_widget_callback_from_another_thread_reaches_the_feed(kernel):
    """A widget that calls from another thread gets its feed rotated."""
    kernel.run("ws = rxws.ReactiveWebSocket(exchange, name='demo'); await ws.wait_connected()", "feed c")
    kernel.run("threading.Thread(target=callback(lambda: ws.rotate())).start(); await asyncio.sleep(2)")
    assert kernel.run("ws.statistics().rotations").result == "1"


@pytest.mark.slow
def test_what_a_callback_makes_belongs_to_the_cell_that_made_the_callback(kernel):
    """One call takes nothing away that another made; the next run of the cell takes it all away."""
    kernel.run("ws = rxws.ReactiveWebSocket(exchange, name='demo'); told = []", "feed cb")
    code = "call = callback(lambda name: ws.add_handler(lambda message: told.append(name)))"
    kernel.run(code, "cb")
    kernel.run("call('a'); await asyncio.sleep(0.1)", "a")
    kernel.run("call('b'); await asyncio.sleep(0.1)", "b")
    assert kernel.run("told.clear(); await asyncio.sleep(0.3); sorted(set(told))").result == "['a', 'b']"
    kernel.run("1", "a")
    assert kernel.run("told.clear(); await asyncio.sleep(0.3); sorted(set(told))").result == "['a', 'b']"
    kernel.run(code, "cb")
    assert kernel.run("told.clear(); await asyncio.sleep(0.3); sorted(set(told))").result == "[]"


@pytest.mark.slow
def test_widgets_of_a_view_that_is_replaced_are_closed(kernel):
    """However often a cell is run, its views leave no widgets behind: neither live ones nor stopped ones."""
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
def test_context_that_does_not_leave_is_not_waited_for_for_ever(kernel):
    """What a cell kept is given its time, then the next is entered, which is said."""
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
    assert "has not been left for 0.2 s" in ran.stderr


@pytest.mark.slow
def test_error_of_leaving_is_shown_at_once(kernel):
    """What a context raises when it is left is shown, whatever the cell keeps now."""
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
def test_restart_leaves_no_process():
    """A feed is no process of its own: when the kernel is restarted, nothing of it is left."""
    with Kernel() as started:
        assert started.run(FEED.format(rate=100) + "live(ws.messages)").error is None
        process = started.process
        assert process.children(recursive=True) == []
        started.manager.restart_kernel(now=False)
        assert not process.is_running()
        started.client.wait_for_ready(timeout=60.0)
        assert started.run("import rxws\nws = rxws.ReactiveWebSocket('ws://127.0.0.1:1')\nws").error is None
