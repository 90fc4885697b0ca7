"""A simulated month, faults in any order, cancellation at any step: no silent loss and no leaks."""

from __future__ import annotations

import asyncio
import functools
import gc
import itertools
import os
import types
import weakref
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import rxws
from rxws import Connected, Gap, Rotated, State
from rxws.pytest_plugin import virtual_loop
from rxws.testing import FeedServer, NumberedBroadcast, assert_no_leaks
from tests.soak import main as soak_main
from tests.soak import soak
from tests.support.life import Ledger, ScriptedFeed, ScriptedWebsocket

HOUR = 3600.0
DAY = 24 * HOUR

in_virtual_time = pytest.mark.usefixtures("virtual_time", "assert_no_leaks")


# A month


class Month:
    """Publishes ``burst`` messages each ``pause`` seconds, and records the feed's resources each day."""

    def __init__(self, feed, publish: Callable[[int], object], *, burst: int = 1, pause: float = 1) -> None:
        self.feed = feed
        self.ledger = Ledger()
        self.published = 0
        self.quiet: list[tuple[int, int, int]] = []
        self._publish = publish
        self._burst, self._pause = burst, pause
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(pause, self._tick)
        feed.stream_filter(gaps=True).subscribe(self.ledger.take)

    def _tick(self) -> None:
        for _ in range(self._burst):
            self.published += 1
            self._publish(self.published)
        self._timer = self._loop.call_at(self._timer.when() + self._pause, self._tick)

    def stop(self) -> None:
        self._timer.cancel()

    def measure(self) -> None:
        """Record the numbers of tasks, timers and connections."""
        timers = sum(not timer.cancelled() for timer in self._loop._scheduled)
        sockets = len(self._loop._selector.get_map())
        self.quiet.append((len(asyncio.all_tasks()), timers, sockets))


async def rotation_due():
    await asyncio.sleep(20 * HOUR)


def without_sockets(loop) -> None:
    """Replace the loop's ``select``, because a month of iterations is faster without system calls."""
    clock = loop._selector.clock

    def select(timeout):
        if timeout:
            clock.advance(max(timeout, clock.resolution))
        return []

    loop._selector.select = select


@pytest.mark.slow
@in_virtual_time
async def test_thirty_days_with_rotations_cuts_and_stalls(virtual_time, unscanned):
    """Every message arrives once or was sent during a reported gap; tasks, timers and memory do not grow.

    There is a rotation every 20 hours, a cut every third day, and a stall with an open connection every week. Five
    messages are sent every half minute: more of them would make the test slow and show nothing more.
    """
    without_sockets(virtual_time)
    stalled = set()

    def publish(n):
        frame = str(n)
        for websocket in feed.websockets[-2:]:
            if websocket not in stalled:
                websocket.come(frame)

    def forget(event):
        if isinstance(event, Connected):
            alive.append(weakref.ref(feed.websocket))
            del feed.websockets[:-2]
            stalled.intersection_update(feed.websockets)

    alive = []
    # A long close_timeout, because each quarter of it is an iteration of the loop.
    options = {"idle_timeout": 60, "close_timeout": 60, "recorded": False, "wait_rotation_due": rotation_due}
    async with ScriptedFeed(**options) as feed:
        feed.events.subscribe(forget)
        month = Month(feed, publish, burst=5, pause=30)
        # Measure at other times than full hours, and than full hours after a cut: timers of the feed fire then.
        await asyncio.sleep(HOUR + 0.3)
        month.measure()
        for day in range(1, 31):
            await asyncio.sleep(DAY - HOUR - 0.1)
            if day % 3 == 0:
                feed.websocket.end()
            await asyncio.sleep(60)
            if day % 7 == 0:
                stalled.update(feed.websockets)
            await asyncio.sleep(HOUR - 60 + 0.1)
            month.measure()
        month.stop()
        await asyncio.sleep(0.5)
        statistics = feed.statistics()
        month.ledger.check()
        assert len(set(month.quiet)) == 1
        assert dict(statistics.reconnects) == {"network": 10, "idle": 4}
        assert statistics.rotations >= 25
        assert month.ledger.gaps == statistics.gaps == 14
        # All missing messages were sent before the feed noticed the stall.
        assert month.ledger.missed <= 14 * 3 * 5
        assert month.ledger.count + month.ledger.missed == month.published
        assert month.published == pytest.approx((30 * DAY + HOUR) / 6, abs=5)
        gc.collect()
        assert sum(reference() is not None for reference in alive) <= 3


@pytest.mark.slow
@in_virtual_time
async def test_three_days_on_real_connections(virtual_time):
    """On in-memory sockets, with a loss every other hour, every message arrives once or during a reported gap."""
    options = {"rotate_every": 2 * HOUR, "idle_timeout": 60, "connect_options": {"ping_interval": None}}
    async with (
        FeedServer() as server,
        NumberedBroadcast(server) as broadcast,
        rxws.ReactiveWebSocket(server.url, decode=lambda frame: msgspec.json.decode(frame)["n"], **options) as feed,
    ):
        month = Month(feed, lambda n: broadcast.publish() if n % 10 == 0 else None)
        await asyncio.sleep(HOUR + 0.3)
        month.measure()
        for _ in range(18):
            server.reset()
            await asyncio.sleep(1.2 * HOUR)
            stalled = server.connections
            server.stall()
            await asyncio.sleep(2.8 * HOUR)
            for connection in stalled:
                # A stalled server does not notice that its client has gone.
                connection.reset()
            await asyncio.sleep(1)
            month.measure()
        month.stop()
        await asyncio.sleep(0.5)
        month.ledger.check()
        assert len(set(month.quiet)) == 1
        assert dict(feed.statistics().reconnects) == {"network": 18, "idle": 18}
        assert feed.statistics().rotations >= 18
        assert month.ledger.count + month.ledger.missed == broadcast.sent["a"]


# Faults in any order


class Consumer:
    """A task that reads a stream, can be cancelled, and continues with the same stream."""

    def __init__(self, feed) -> None:
        self.stream = feed.stream_filter(gaps=True)
        self.expected: list[object] = []
        self.got: list[object] = []
        # Made directly after the other stream, so that both get the same messages.
        self.witness = feed.stream_filter(gaps=True)
        self._subscription = self.witness.subscribe(self.expected.append)
        self.begin()

    def begin(self) -> None:
        self.task = asyncio.get_running_loop().create_task(self._read())

    async def _read(self) -> None:
        async for item in self.stream:
            self.got.append(item)

    async def cancel(self) -> None:
        self.task.cancel()
        await asyncio.wait({self.task})
        self.begin()

    async def remove(self) -> None:
        await self.stream.close()
        await self.witness.close()
        await asyncio.wait({self.task})
        self.check()

    def check(self) -> None:
        assert self.got == self.expected


class Account:
    """Records the numbers of a feed. A rotation without a proven overlap may lose some."""

    def __init__(self, feed) -> None:
        self.ledger = Ledger()
        feed.stream_filter(gaps=True).subscribe(self._take)
        feed.events.subscribe(self._note)

    def _take(self, item) -> None:
        self.ledger.take(item if isinstance(item, Gap) else item["n"])

    def _note(self, event) -> None:
        # The event is emitted after the held messages, so messages before it may be missing or doubled.
        if isinstance(event, Rotated) and not event.proven:
            self.ledger.lost.clear()


class Life(RuleBasedStateMachine):
    """A feed, a server, and random actions of both, in any order, in virtual time."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=virtual_loop)
        self.run(self.open())

    def run(self, coroutine):
        return self.runner.run(coroutine)

    async def open(self) -> None:
        # The server needs a timeout, because it does not notice an in-memory client that left before it was accepted.
        self.server = FeedServer(open_timeout=5)
        await self.server.start()
        self.broadcast = NumberedBroadcast(self.server)
        await self.make()

    async def make(self) -> None:
        self.before = (asyncio.all_tasks() - {asyncio.current_task()}, len(self.runner.get_loop()._selector.get_map()))
        self.feed = rxws.ReactiveWebSocket(
            self.server.url, idle_timeout=30, open_timeout=5, handover_timeout=3, close_timeout=2
        )
        self.handled: list[list[int]] = []
        self.handlers = []
        self.consumers: list[Consumer] = []
        self.account = Account(self.feed)
        await asyncio.sleep(0)

    @initialize()
    def connect(self) -> None:
        async def happen():
            # Before the first success a refusal is fatal; other tests cover that.
            self.server.accept()
            await self.feed.wait_connected()

        self.run(happen())

    @rule()
    def message(self) -> None:
        async def happen():
            self.broadcast.publish()
            await asyncio.sleep(0.01)

        self.run(happen())

    @rule(count=st.integers(2, 300))
    def burst(self, count) -> None:
        async def happen():
            self.broadcast.publish(count=count)

        self.run(happen())

    @rule(seconds=st.sampled_from([0.0, 0.001, 0.3, 1.0, 5.0, 40.0]), rate=st.sampled_from([0, 1, 20]))
    def wait(self, seconds, rate) -> None:
        async def happen():
            if rate and seconds:
                await self.broadcast.run(rate=rate, seconds=seconds)
            else:
                await asyncio.sleep(seconds)

        self.run(happen())

    @rule(code=st.sampled_from([1000, 1001, 1008, 1011, 1012, 1013, 3000, 4999]))
    def close(self, code) -> None:
        self.run(self.server.close(code, timeout=0.5))

    @rule(which=st.sampled_from(["all", "oldest", "newest"]))
    def abort(self, which) -> None:
        async def happen():
            connections = self.server.connections
            for connection in {"all": connections, "oldest": connections[:1], "newest": connections[-1:]}[which]:
                connection.reset()

        self.run(happen())

    @rule()
    def stall(self) -> None:
        async def happen():
            self.server.stall()

        self.run(happen())

    @rule(status=st.sampled_from([404, 429, 500, 503]), times=st.integers(1, 4))
    def refuse(self, status, times) -> None:
        async def happen():
            self.server.refuse(status, times=times)

        self.run(happen())

    @rule(fault=st.sampled_from(["mute", "garbage", "slow"]))
    def spoil(self, fault) -> None:
        async def happen():
            if fault == "slow":
                self.server.slow_handshake(1)
            else:
                getattr(self.server, fault)()

        self.run(happen())

    @rule()
    def rotate(self) -> None:
        async def happen():
            self.feed.rotate()

        self.run(happen())

    @precondition(lambda self: len(self.consumers) < 4)
    @rule()
    def add_stream(self) -> None:
        async def happen():
            self.consumers.append(Consumer(self.feed))

        self.run(happen())

    @precondition(lambda self: self.consumers)
    @rule(choice=st.integers(0, 3))
    def cancel_consumer(self, choice) -> None:
        self.run(self.consumers[choice % len(self.consumers)].cancel())

    @precondition(lambda self: self.consumers)
    @rule(choice=st.integers(0, 3))
    def remove_stream(self, choice) -> None:
        self.run(self.consumers.pop(choice % len(self.consumers)).remove())

    @precondition(lambda self: len(self.handlers) < 4)
    @rule(slow=st.booleans())
    def add_handler(self, slow) -> None:
        numbers: list[int] = []

        async def later(message):
            await asyncio.sleep(0.0001)
            numbers.append(message["n"])

        async def happen():
            handler = later if slow else lambda message: numbers.append(message["n"])
            self.handlers.append((numbers, self.feed.add_handler(handler)))

        self.run(happen())

    @precondition(lambda self: self.handlers)
    @rule()
    def remove_handler(self) -> None:
        async def happen():
            numbers, handler = self.handlers.pop()
            handler.dispose()
            await asyncio.sleep(0.001)
            assert numbers == sorted(set(numbers))

        self.run(happen())

    @rule()
    def exit(self) -> None:
        self.run(self._exit())
        self.run(self.make())
        self.connect()

    async def _exit(self) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        await self.feed.exit()
        assert loop.time() - started <= 4
        await asyncio.sleep(0.01)
        for consumer in self.consumers:
            assert consumer.task.done()
            consumer.check()
        for numbers, _ in self.handlers:
            assert numbers == sorted(set(numbers))
        self.check()
        assert self.feed.state.value is State.CLOSED
        # Stalled connections do not notice the end by themselves.
        self.server.reset()
        await asyncio.sleep(40)
        tasks, descriptors = self.before
        assert not asyncio.all_tasks() - tasks - {asyncio.current_task()}
        assert len(loop._selector.get_map()) <= descriptors

    @invariant()
    def check(self) -> None:
        self.account.ledger.check()
        assert self.feed.state.value is not State.FAILED

    def teardown(self) -> None:
        try:
            self.run(self._exit())
        finally:
            self.run(self.server.stop())
            self.runner.close()


TestLife = Life.TestCase
TestLife.settings = settings(
    # Always the same examples; EXAMPLES=1000 in the environment tries others.
    max_examples=int(os.environ.get("EXAMPLES", "40")),
    derandomize="EXAMPLES" not in os.environ,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestLife.__doc__ = "Numbers are contiguous or a gap is reported, no message is delivered twice, and no resource leaks."


# Cancellation


@types.coroutine
def cancelled_at(step, coroutine):
    """Run a coroutine, and cancel its task at the ``step``-th suspension, counted from 1."""
    resume = functools.partial(coroutine.send, None)
    for number in itertools.count(1):
        try:
            waits_for = resume()
        except StopIteration as finished:
            return finished.value
        if number == step:
            asyncio.current_task().cancel()
        try:
            yield waits_for
        except BaseException as error:
            resume = functools.partial(coroutine.throw, error)
        else:
            resume = functools.partial(coroutine.send, None)


async def with_cancellation_at(step, coroutine):
    """Wrap :func:`cancelled_at` in a coroutine, because a task needs one."""
    return await cancelled_at(step, coroutine)


async def entered(feed):
    async with feed:
        await feed.wait_connected()
        await feed.send("inside")


async def iterated(feed):
    async for message in feed.messages:
        if message == 3:
            return


async def batched(feed):
    async for messages in feed.stream_filter().batches():
        if 3 in messages:
            return


async def streamed(feed):
    async with feed.stream_filter() as stream:
        async for message in stream:
            if message == 3:
                return


async def rotated(feed):
    await feed.wait_connected()
    await feed.rotate()


async def closed(feed):
    asyncio.get_running_loop().call_later(0.2, lambda: asyncio.ensure_future(feed.exit()))
    await feed.wait_closed()


COROUTINES = {
    "send": lambda feed: feed.send("hello"),
    "request": lambda feed: feed.request("hello", lambda message: message == 3, timeout=5),
    "wait_connected": lambda feed: feed.wait_connected(),
    "wait_enter_handing_ws": lambda feed: feed.wait_enter_handing_ws(),
    "wait_closed": closed,
    "exit": lambda feed: feed.exit(),
    "rotate": rotated,
    "async with": entered,
    "async for": iterated,
    "batches": batched,
    "stream": streamed,
    "stream.close": lambda feed: feed.stream_filter().close(),
}


@in_virtual_time
@pytest.mark.parametrize("transport", [True, False], ids=["transport", "no transport"])
@pytest.mark.parametrize("wait", [0.0, 1.0], ids=["unconnected", "connected"])
@pytest.mark.parametrize("name", COROUTINES)
async def test_cancellation_of_every_coroutine_at_every_step(name, wait, transport):
    """A coroutine that is cancelled at any suspension raises and leaks nothing, and the feed continues."""

    async def opening():
        await asyncio.sleep(0.05)
        websocket = ScriptedWebsocket(transport=transport)
        websocket.on_send = lambda _: asyncio.sleep(0.01)
        return websocket

    async def publish(feed):
        for n in itertools.count():
            await asyncio.sleep(0.1)
            for websocket in feed.websockets:
                websocket.come(str(n % 10))

    for step in itertools.count(1):
        async with assert_no_leaks(timeout=3):
            feed = ScriptedFeed(*[opening] * 5, handover_timeout=0.3, handover_settle=0.1)
            publishing = asyncio.create_task(publish(feed))
            await asyncio.sleep(wait)
            task = asyncio.create_task(with_cancellation_at(step, COROUTINES[name](feed)))
            await asyncio.wait({task}, timeout=60)
            assert task.done()
            if name not in ("exit", "async with", "wait_closed"):
                await feed.wait_connected()
                await feed.send("lives")
                assert feed.websocket.sent[-1] == "lives"
            await feed.exit()
            publishing.cancel()
            await asyncio.wait({publishing})
            assert feed.state.value is State.CLOSED
            if not task.cancelled():
                # The coroutine ended before this step, so there are no more steps.
                assert task.exception() is None
                assert step <= 40
                break


@in_virtual_time
@pytest.mark.parametrize("hook", ["_create_ws", "_when2create_new_ws", "_parse_raw_data"])
async def test_cancellation_inside_a_hook_at_every_step(hook):
    """``exit`` at any suspension of a hook leaks nothing, and a CancelledError of a hook does not end the feed."""

    async def steps(raw=None):
        for _ in range(5):
            await asyncio.sleep(0.01)
        return raw if hook == "_parse_raw_data" else ScriptedWebsocket()

    for send_queue in range(40):
        async with assert_no_leaks(timeout=3):
            outcome = steps if hook == "_create_ws" else ScriptedWebsocket()
            feed = ScriptedFeed(
                outcome,
                wait_rotation_due=steps if hook == "_when2create_new_ws" else None,
                parse=steps if hook == "_parse_raw_data" else None,
                handover_timeout=0.1,
            )
            if hook == "_parse_raw_data":
                outcome.come("1", "2", "3")
            for _ in range(send_queue):
                await asyncio.sleep(0.002)
            await feed.exit()
            assert feed.state.value is State.CLOSED


# Soaking


@pytest.mark.slow
async def test_soak_for_a_moment(capsys):
    """Under real reconnections and rotations at full rate no message is lost or doubled, and nothing leaks.

    ``python tests/soak.py --minutes N`` runs longer.
    """
    report = await soak(reconnects=30, rotations=20, rate=2_000)
    report.check()
    assert (report.reconnects, report.rotations) == (30, 20)
    assert report.ledger.gaps == 30
    assert report.ledger.count > 2_000
    assert "0 lost outside a gap, 0 doubled" in str(report)


@pytest.mark.slow
def test_soak_from_the_command_line(capsys):
    """The command prints a summary of its measurements."""
    assert soak_main(["--reconnects", "3", "--rotations", "2", "--rate", "500"]) == 0
    assert "3 reconnections" in capsys.readouterr().out
