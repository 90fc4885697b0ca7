"""Resuming: after a loss the server sends the missed messages again, and the feed delivers each once without a gap."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import time

import pytest

import rxws
from rxws import Connected, Gap, Resumed
from rxws.connections.resumption import Resumption

from ..support.replays import ReplayingServer, ids

pytestmark = pytest.mark.usefixtures("virtual_time", "assert_no_leaks")


class Life:
    """A feed of a replaying server, with the messages and events that it delivered."""

    def __init__(self, ws):
        self.ws = ws
        self.items, self.events = [], []

    @property
    def ids(self):
        """The ids of the delivered messages, with ``"gap"`` in place of gaps."""
        return ids(self.items)

    def of(self, kind):
        """Return the events of a kind."""
        return [each for each in self.events if isinstance(each, kind)]

    @property
    def verdicts(self):
        """The events that report how each loss ended."""
        return [type(each).__name__ for each in self.events if isinstance(each, Resumed | Gap)]


@contextlib.asynccontextmanager
async def living(server, url=None, filters=None, **options):
    """Connect a feed to a server, with a stream that has its gaps."""
    options = {"resume": True, "cursor": "id", **options}
    async with rxws.ReactiveWebSocket(url or server.at, **options) as ws:
        life = Life(ws)
        ws.stream_filter(filters, gaps=True).subscribe(life.items.append)
        ws.events.subscribe(life.events.append)
        await ws.wait_connected()
        yield life


async def cut(server, *, before=5, missed=5, after=5):
    """Publish messages, cut all connections, publish the missed messages, and publish more after the decision."""
    server.publish(before)
    await asyncio.sleep(1)
    server.reset()
    server.publish(missed)
    await asyncio.sleep(4)
    server.publish(after)
    await asyncio.sleep(3)


@pytest.mark.parametrize("begins", [0, -3])
async def test_replay_proves_that_nothing_is_missing(begins):
    """A replay from the cursor's message, or from before it, is delivered once and without a gap."""
    async with ReplayingServer() as server:
        server.begins = begins
        async with living(server) as life:
            await cut(server)
            await cut(server)
    assert life.ids == list(range(1, 31))
    assert life.verdicts == ["Resumed", "Resumed"]
    assert [each.replayed for each in life.of(Resumed)] == [1 - begins, 1 - begins]
    assert server.cursors == [None, 5, 20]


async def test_memory_of_a_loss_is_freed():
    """The memory of a loss is freed when the next loss is resumed, or earlier."""
    async with ReplayingServer() as server, living(server) as life:
        for _ in range(4):
            await cut(server)
        gc.collect()
        assert sum(type(each) is Resumption for each in gc.get_objects()) <= 1
    assert life.verdicts == ["Resumed"] * 4


async def test_reconnect_is_counted_without_a_gap():
    """A loss that is resumed counts as a reconnect, and as no gap."""
    async with ReplayingServer() as server, living(server) as life:
        await cut(server)
        statistics = life.ws.statistics()
        assert dict(statistics.reconnects) == {"network": 1}
        assert (statistics.gaps, statistics.duplicates, statistics.messages) == (0, 1, 15)


@pytest.mark.parametrize("greets", [False, True])
async def test_server_that_forgot_is_a_gap_in_place(greets):
    """If the server has forgotten its messages, one gap precedes the new ones, even if the server greets first."""
    async with ReplayingServer() as server:
        server.greets, server.has_forgotten = greets, True
        async with living(server) as life:
            await cut(server)
    assert life.ids == [1, 2, 3, 4, 5, "gap", 11, 12, 13, 14, 15]
    assert life.verdicts == ["Gap"]
    (gap,) = life.of(Gap)
    assert gap.last_message["id"] == 5
    assert gap.start < gap.end


async def test_greeting_with_a_changing_id_disturbs_no_proof():
    """A greeting that differs on each connection is delivered, and the replay after it is proven."""
    async with ReplayingServer() as server:
        server.greets = True
        async with living(server) as life:
            await cut(server)
    assert life.ids == list(range(1, 16))
    assert [each["hello"] for each in life.items if "hello" in each] == [0, 1]
    assert life.verdicts == ["Resumed"]


async def test_statement_decides():
    """If the replay begins after the cursor's own message, the server's statement proves that none is missing."""
    async with ReplayingServer() as server:
        server.begins, server.states = 1, True
        async with living(server, resume=[{"recovered": True}]) as life:
            await cut(server)
            server.has_forgotten = True
            await cut(server)
    assert life.ids == [*range(1, 21), "gap", *range(26, 31)]
    assert life.verdicts == ["Resumed", "Gap"]


@pytest.mark.parametrize("keys", ["A", "ABC"])
async def test_numbers_decide(keys):
    """If the replay begins after the cursor's own message, the next number (``sequence``) of each key is the proof."""
    async with ReplayingServer() as server:
        server.begins, server.keys = 1, tuple(keys)
        async with living(server, sequence="n", key="k") as life:
            await cut(server)
    assert life.ids == list(range(1, 16))
    assert life.verdicts == ["Resumed"]


async def test_message_without_a_number_is_not_a_failure():
    """A function for ``sequence`` returns None for messages without a number; they are delivered as they arrive."""
    async with ReplayingServer() as server:
        server.begins, server.greets = 1, True
        async with living(server, sequence=lambda message: message.get("n"), key=lambda message: message["k"]) as life:
            await cut(server)
    assert life.ids == list(range(1, 16))
    assert [each["hello"] for each in life.items if "hello" in each] == [0, 1]
    assert life.verdicts == ["Resumed"]
    assert life.of(rxws.CallbackFailed) == []


async def test_last_values_are_not_a_proof_with_numbers():
    """If the server has forgotten its messages and sends last values first, there is one gap and no duplicate."""
    async with ReplayingServer() as server:
        server.keys, server.shows_last, server.has_forgotten = ("A", "B", "C"), True, True
        server.publish(3)
        async with living(server, sequence="n", key="k") as life:
            await cut(server, before=6, missed=0, after=6)
            await cut(server, before=0, missed=6, after=6)
    numbers = [each for each in life.ids if each != "gap"]
    assert len(numbers) == len(set(numbers))
    assert life.ids[:15] == list(range(1, 16))
    assert life.ids[15] == "gap"
    assert life.verdicts.count("Gap") == 1


@pytest.mark.parametrize("missed", [0, 6])
async def test_last_values_before_a_replay_that_begins_early_are_delivered_once(missed):
    """If last values precede a replay of delivered messages, each number is delivered once."""
    async with ReplayingServer() as server:
        server.keys, server.shows_last, server.begins = ("A", "B"), True, -3
        server.publish(2)
        async with living(server, sequence="n", key="k") as life:
            await cut(server, before=4, missed=missed, after=0)
            await asyncio.sleep(20)
            server.publish(4)
            await asyncio.sleep(1)
    numbers = [(each["k"], each["n"]) for each in life.items if not isinstance(each, Gap)]
    assert len(numbers) == len({*numbers})
    assert life.verdicts == ["Gap" if missed else "Resumed"]


@pytest.mark.parametrize("number", [1, 2])
async def test_first_number_of_a_new_key_after_a_loss_should_be_1(number):
    """If a key had no message before the loss, its first number may be 1; otherwise messages may be missing: a gap."""
    async with ReplayingServer() as server:
        server.begins = 1
        async with living(server, sequence="n", key="k") as life:
            await cut(server)
            send(server.connections[-1], [number], "B")
            send(server.connections[-1], [number + 5], "C")
            # The first gap is about all keys that had no number yet.
            send(server.connections[-1], [9], "D")
            await asyncio.sleep(1)
    assert life.verdicts == ["Resumed", "Gap"]
    assert life.ids[15:] == ([1, "gap", 6, 9] if number == 1 else ["gap", 2, 7, 9])


async def test_hole_in_the_numbers_of_a_live_connection_is_a_gap():
    """If the server leaves out a number on a live connection, a gap is in its place, and splits the continuity."""
    async with ReplayingServer() as server, living(server, sequence="n", key="k", split=True, identity=repr) as life:
        connection = server.connections[-1]
        connection.send_nowait([{"id": 1, "k": "A", "n": 1}, {"id": 2, "k": "B", "n": 7}])
        await asyncio.sleep(1)
        connection.send_nowait([{"id": 3, "k": "A", "n": 2}, {"id": 4, "k": "A", "n": 4}, {"id": 5, "k": "B", "n": 8}])
        await asyncio.sleep(1)
        connection.send_nowait([{"id": 6, "k": "A", "n": 5}, {"id": 6, "k": "A", "n": 5}])
        await asyncio.sleep(1)
        continuity = life.ws.continuity()
        assert life.ws.statistics().complete_since == continuity.gaps[0].end
    assert life.ids == [1, 2, 3, "gap", 4, 5, 6, 6]
    (gap,) = life.of(Gap)
    assert (gap.reason, gap.last_message["id"]) == ("source", 3)
    assert gap.start <= gap.end
    assert continuity.gaps == (gap,)
    assert [each.proof for each in continuity.intervals] == ["connection", "source"]


async def test_numbers_of_a_channel_that_is_subscribed_again_start_over():
    """Messages that a channel missed while it was not subscribed cause no gap."""
    async with ReplayingServer() as server:
        server.keys = ("A", "B")
        async with living(server, server.channels_url, sequence="n", key="k") as life:
            stream = {}
            for key in server.keys * 2:
                if key in stream:
                    await stream[key].close()
                    await asyncio.sleep(0.1)
                    server.publish(4)
                stream[key] = life.ws.multiplex(
                    {"subscribe": key}, {"unsubscribe": key}, filters=[{"k": key}], acknowledged=[{"subscribed": key}]
                )
                await asyncio.sleep(0.1)
                server.publish(4)
                await asyncio.sleep(0.1)
    assert "gap" not in life.ids


async def test_log_says_why_numbers_are_missing(caplog):
    """If numbers are missing after a loss because nothing asks for the cursor, a warning says so."""
    caplog.set_level(logging.WARNING, "rxws")
    async with ReplayingServer() as server, living(server, server.url, sequence="n") as life:
        await cut(server)
    assert life.verdicts == ["Gap"]
    assert caplog.text.count("nothing asks for the cursor") == 1


async def test_numbers_that_start_over_are_a_gap():
    """If the server restarts its count, a gap precedes its messages, and these are delivered."""
    async with ReplayingServer() as server, living(server, sequence="n", key="k") as life:
        server.publish(50)
        await asyncio.sleep(1)
        server.reset()
        server.log.clear()
        server.epoch = 2
        await asyncio.sleep(1)
        server.publish(3)
        await asyncio.sleep(3)
        server.publish(3)
        await asyncio.sleep(1)
    assert life.ids == [*range(1, 51), "gap", 1, 2, 3, 4, 5, 6]


async def test_number_of_a_quiet_key_may_arrive_much_later():
    """If a key has no message for a minute after the loss, its next message decides whether there is a gap."""
    async with ReplayingServer() as server:
        server.begins, server.keys = 1, ("A", "B")
        async with living(server, sequence="n", key="k") as life:
            server.publish(4)
            await asyncio.sleep(1)
            server.reset()
            await asyncio.sleep(2)
            server.keys = ("A",)
            server.publish(4)
            await asyncio.sleep(60)
            # A message of the quiet key was lost on the way.
            server.log.append({"id": 9, "k": "B", "n": 3})
            server.keys = ("B",)
            server.publish(2)
            await asyncio.sleep(1)
    assert life.ids == [1, 2, 3, 4, 5, 6, 7, 8, "gap", 10, 11]


async def test_each_channel_has_a_cursor_and_a_statement():
    """With ``multiplex`` each subscription gets its own cursor, and the answer states whether it was recovered."""
    async with ReplayingServer() as server:
        server.begins, server.keys = 1, ("A", "B")
        async with living(server, server.channels_url, resume=[{"recovered": True}]) as life:
            for key in server.keys:
                stream = life.ws.multiplex(
                    lambda cursor, key=key: {"subscribe": key, "cursor": cursor},
                    filters=[{"k": key}],
                    acknowledged=[{"subscribed": key}],
                )
                stream.subscribe(lambda _: None)
            await asyncio.sleep(1)
            await cut(server)
            server.has_forgotten = True
            await cut(server)
    assert server.cursors == [None, None, 5, 4, 19, 20]
    assert life.ids[20:] == ["gap", 26, 27, 28, 29, 30]
    for parity in (0, 1):
        mine = [each for each in life.ids[:20] if each % 2 == parity]
        assert mine == [each for each in range(1, 21) if each % 2 == parity]
    assert life.verdicts == ["Resumed", "Gap"]


@pytest.mark.parametrize("recovered", [True, False])
async def test_channel_without_an_answer_is_resumed_like_the_others(recovered):
    """If a connection is lost before a subscription is answered, its delivered messages are still remembered."""

    async def script(connection):
        number = server.count = server.count + 1
        async for _ in connection:
            if number == 1:
                send(connection, [1, 2])
                await asyncio.sleep(7)
                connection.reset()
                return
            connection.send_nowait({"subscribed": "A", "recovered": recovered})
            send(connection, [2, 3] if recovered else [7, 8])

    async with ReplayingServer() as server:
        server.script, server.count = script, 0
        async with rxws.ReactiveWebSocket(server.url, resume=[{"recovered": True}], cursor="id") as ws:
            life = Life(ws)
            ws.events.subscribe(life.events.append)
            ws.multiplex(
                lambda cursor: {"subscribe": "A", "cursor": cursor},
                filters=[{"k": "A"}],
                acknowledged=[{"subscribed": "A"}],
                timeout=5.0,
                gaps=True,
            ).subscribe(life.items.append)
            await asyncio.sleep(20)
    assert life.ids == ([1, 2, 3] if recovered else [1, 2, "gap", 7, 8])
    assert life.verdicts == ["Resumed" if recovered else "Gap"]


async def test_refused_channel_begins_anew_after_a_gap():
    """A channel that the server refused after a loss is later subscribed without a cursor, and a gap precedes it."""
    asked = []

    def subscribe(cursor):
        asked.append(cursor)
        return {"subscribe": "A"}

    async def script(connection):
        number = server.count = server.count + 1
        async for _ in connection:
            if number == 2:
                connection.send_nowait({"id": 50, "k": "B"})
                connection.reset()
                return
            connection.send_nowait({"refused" if number == 3 else "subscribed": "A", "recovered": False})
            send(connection, [1, 2] if number == 1 else [3, 4] if number == 4 else [])
            await asyncio.sleep(5)
            connection.reset()
            return

    async with ReplayingServer() as server:
        server.script, server.count = script, 0
        async with rxws.ReactiveWebSocket(
            server.url, resume=[{"recovered": True}], cursor="id", reconnect_delays=lambda: iter([0.5] * 99)
        ) as ws:
            items = []
            stream = ws.multiplex(
                subscribe,
                filters=[{"k": "A"}],
                acknowledged=[{"subscribed": "A"}],
                rejected=[{"refused": "A"}],
                gaps=True,
            )
            stream.subscribe(items.append)
            await ws.wait_connected()
            lost = time.time() + 5
            await asyncio.sleep(14)
    assert asked[:4] == [None, 2, 2, None]
    assert ids(items)[:5] == [1, 2, "gap", 3, 4]
    # The message of the second connection, which ended before all was subscribed, was not delivered.
    assert items[2].start <= lost + 0.1


async def test_gap_of_a_rotation_starts_at_the_last_message_of_a_silent_connection():
    """If a rotation replaces a silent connection, the messages that are remembered of it do not move the gap."""

    async def script(connection):
        server.count += 1
        for number in [1, 2, 3] if server.count == 1 else range(7, 37):
            send(connection, [number])
            await asyncio.sleep(0.2)
        async for _ in connection:
            pass

    async with ReplayingServer() as server:
        server.script, server.count = script, 0
        async with living(server, handover_timeout=3) as life:
            await asyncio.sleep(5)
            await life.ws.rotate()
            await asyncio.sleep(5)
    assert life.ids == [1, 2, 3, "gap", *range(7, 37)]
    (gap,) = life.of(Gap)
    assert gap.end - gap.start == pytest.approx(4.6 + 3.0, abs=0.3)


async def test_function_in_on_open_gets_the_cursor():
    """A function in ``on_open``, ``connect_options``, and ``on_open(connection, cursor)`` get the cursor."""
    asked = []

    def options(cursor):
        asked.append(("options", cursor))
        return {}

    def first(cursor):
        asked.append(("message", cursor))
        return {"cursor": cursor}

    async def opened(connection, cursor):
        asked.append(("connection", cursor))

    async with ReplayingServer() as server:
        async with living(server, connect_options=options, on_open=[first]):
            await cut(server)
        async with living(server, on_open=opened):
            await cut(server)
    assert asked[:4] == [("options", None), ("message", None), ("options", 5), ("message", 5)]
    assert [each for each in asked if each[0] == "connection"] == [("connection", None), ("connection", 20)]


async def test_functions_without_a_required_parameter_are_called_without_the_cursor():
    """A function without a required positional parameter is called without the cursor."""
    async with ReplayingServer() as server:
        calls = []

        def url(cursor="none", *rest, **more):
            calls.append((cursor, rest, more))
            return server.url

        async with living(server, url):
            await cut(server)
    assert calls == [("none", (), {})] * 2


async def test_subclass_has_the_cursor():
    """``_create_ws`` can read ``self.cursor``, and a subclass may set an attribute of that name."""
    async with ReplayingServer() as server:

        class Feed(rxws.AsyncWebsocketStreamInterface):
            async def _create_ws(self):
                import websockets

                return await websockets.connect(server.at(self.cursor))

            async def _when2create_new_ws(self):
                await asyncio.Event().wait()

            def _parse_raw_data(self, raw_data):
                return json.loads(raw_data)

        async with Feed(resume=True, cursor="id") as ws:
            items = []
            ws.stream_filter(gaps=True).subscribe(items.append)
            await ws.wait_connected()
            await cut(server)
            assert ws.cursor == 15
            ws.cursor = "mine"
            assert ws.cursor == "mine"
    assert ids(items) == list(range(1, 16))


async def test_connection_that_ends_undecided_moves_nothing():
    """A connection that ends before the proof delivers nothing, and the next one begins with the same cursor."""
    async with ReplayingServer() as server, living(server) as life:
        server.publish(5)
        await asyncio.sleep(1)
        server.has_forgotten = True
        server.reset()
        server.publish(2)
        await server.connected(2)
        server.publish(2)
        await asyncio.sleep(0.2)
        server.has_forgotten = False
        server.reset()
        await asyncio.sleep(4)
        server.publish(1)
        await asyncio.sleep(2)
    assert life.ids == list(range(1, 11))
    assert server.cursors == [None, 5, 5]
    assert life.verdicts == ["Resumed"]


async def test_connection_that_ends_when_one_key_was_decided_loses_nothing():
    """If a connection ends when one of two keys is proven, the messages of the proven key are delivered."""
    async with ReplayingServer() as server:
        server.begins, server.keys = 1, ("A", "B")
        async with living(server, sequence="n", key="k") as life:
            server.publish(4)
            await asyncio.sleep(1)
            server.reset()
            server.publish(1)
            await server.connected(2)
            await asyncio.sleep(0.1)
            server.reset()
            server.publish(3)
            await asyncio.sleep(3)
            server.publish(2)
            await asyncio.sleep(1)
    assert life.ids == list(range(1, 11))
    assert "Gap" not in life.verdicts


def send(connection, numbers, key="A"):
    """Send messages whose id is their number."""
    for number in numbers:
        connection.send_nowait({"id": number, "k": key, "n": number})


@pytest.mark.parametrize(("first", "then"), [(True, True), (False, True), (False, False)])
async def test_answer_that_arrives_before_another_loss_no_longer_counts(first, then):
    """A statement, a gap and a cursor of an answer are void if the connection ends before all channels are answered."""
    cursors = []

    async def script(connection):
        number = server.count = server.count + 1
        async for request in connection:
            asked = json.loads(request)
            key, cursor = asked["subscribe"], asked["cursor"]
            cursors.append((number, key, cursor))
            recovered = [False, first, then][number - 1]
            connection.send_nowait({"subscribed": key, "recovered": recovered, "id": [0, 8, 12][number - 1]})
            if number == 2:
                await asyncio.sleep(0.1)
                connection.reset()
                return
            send(connection, range(cursor + 1 if recovered else number * 4 - 3, number * 4 + 1), key)

    async with ReplayingServer() as server:
        server.script, server.count = script, 0
        async with living(server, server.url, resume=[{"recovered": True}]) as life:
            for key in "AB":
                life.ws.multiplex(
                    lambda cursor, key=key: {"subscribe": key, "cursor": cursor},
                    filters=[{"k": key}],
                    acknowledged=[{"subscribed": key}],
                ).subscribe(lambda _: None)
            await asyncio.sleep(1)
            server.reset()
            await asyncio.sleep(4)
    assert cursors[2:] == [(2, "A", 4), (3, "A", 4), (3, "B", 4)]
    expected = [*range(1, 13)] if then else [1, 2, 3, 4, "gap", 9, 10, 11, 12]
    for key in "AB":
        assert ids([each for each in life.items if isinstance(each, Gap) or each.get("k") == key]) == expected
    assert life.verdicts == ["Resumed" if then else "Gap"]


async def test_log_says_why_messages_of_no_channel_are_not_proven(caplog):
    """If only messages without a channel lack a statement, the warning about the gap says what to do."""

    async def script(connection):
        async for request in connection:
            server.count += 1
            connection.send_nowait({"ping": server.count})
            connection.send_nowait({"subscribed": json.loads(request)["subscribe"], "recovered": True})

    async with ReplayingServer() as server:
        server.script, server.count = script, 0
        async with living(server, server.url, resume=[{"recovered": True}]) as life:
            stream = life.ws.multiplex({"subscribe": "A"}, filters=[{"k": "A"}], acknowledged=[{"subscribed": "A"}])
            stream.subscribe(lambda _: None)
            await asyncio.sleep(1)
            server.reset()
            await asyncio.sleep(3)
    assert life.verdicts == ["Gap"]
    assert caplog.text.count("the server's statements do not cover messages without a channel") == 1


async def test_message_without_a_usable_identity_belongs_to_its_own_channel():
    """If identities cannot be hashed, messages of a channel that is not recovered are still delivered after its gap."""

    async def script(connection):
        server.count += 1
        async for request in connection:
            key = json.loads(request)["subscribe"]
            if server.count == 1:
                connection.send_nowait({"subscribed": key})
                send(connection, range(1, 4), key)
            else:
                send(connection, range(4, 7) if key == "A" else range(5, 7), key)
                connection.send_nowait({"subscribed": key, "recovered": key == "A"})

    async with ReplayingServer() as server:
        server.script, server.count = script, 0
        options = {"resume": [{"recovered": True}], "identity": lambda message: [message.get("id")]}
        async with living(server, server.url, **options) as life:
            for key in "AB":
                stream = life.ws.multiplex({"subscribe": key}, filters=[{"k": key}], acknowledged=[{"subscribed": key}])
                stream.subscribe(lambda _: None)
            await asyncio.sleep(1)
            server.reset()
            await asyncio.sleep(3)
    assert ids([each for each in life.items if isinstance(each, Gap) or each.get("k") == "B"]) == [1, 2, 3, "gap", 5, 6]
    assert [each["id"] for each in life.items if isinstance(each, dict) and each.get("k") == "A"] == [*range(1, 7)]


async def test_answer_that_is_equal_on_each_connection_begins_no_replay():
    """An answer that is equal on each connection does not count as the first copy, so a replay before it is kept."""

    async def script(connection):
        server.count += 1
        if server.count == 1:
            await anext(aiter(connection))
            connection.send_nowait({"result": None})
            send(connection, range(1, 6))
        else:
            send(connection, range(6, 11))
            await anext(aiter(connection))
            connection.send_nowait({"result": None})
            connection.send_nowait({"recovered": True})

    async with ReplayingServer() as server:
        server.script, server.count = script, 0
        async with living(server, resume=[{"recovered": True}], on_open=[{"any": "message"}]) as life:
            await asyncio.sleep(1)
            server.reset()
            await asyncio.sleep(3)
    assert life.ids == list(range(1, 11))
    assert life.verdicts == ["Resumed"]


def fail(message):
    """Raise."""
    raise ValueError(message)


@pytest.mark.parametrize(
    "options",
    [
        {"sequence": "number"},
        {"sequence": "n", "key": "kind"},
        {"sequence": "n", "key": "list"},
        {"sequence": "n", "key": fail},
    ],
)
async def test_messages_without_a_number_prove_nothing(caplog, options):
    """If no message has a number and a usable key, there is a gap, and a warning says why."""

    async def script(connection):
        server.count += 1
        for number in range(1, 4) if server.count == 1 else range(6, 9):
            connection.send_nowait({"id": number, "n": number, "list": []})

    async with ReplayingServer() as server:
        server.script, server.count = script, 0
        async with living(server, **options) as life:
            await asyncio.sleep(1)
            server.reset()
            await asyncio.sleep(3)
            assert life.ws.state.value.is_live
    assert life.ids == [1, 2, 3, "gap", 6, 7, 8]
    assert life.verdicts == ["Gap"]
    assert caplog.text.count("no message has a number and a key") == 1


async def test_channel_without_numbers_is_not_proven_by_the_numbers_of_another():
    """If the messages of a channel have no numbers, a gap is reported, although another channel is proven."""

    async def script(connection):
        server.count += 1
        async for request in connection:
            key = json.loads(request)["subscribe"]
            connection.send_nowait({"subscribed": key})
            for number in range(1, 4) if server.count == 1 else range(4, 7):
                # The message 4 of B is lost.
                if (key, number) != ("B", 4):
                    connection.send_nowait({"id": number, "k": key, **({"n": number} if key == "A" else {})})

    async with ReplayingServer() as server:
        server.script, server.count = script, 0
        async with living(server, server.url, sequence="n") as life:
            for key in "AB":
                stream = life.ws.multiplex({"subscribe": key}, filters=[{"k": key}], acknowledged=[{"subscribed": key}])
                stream.subscribe(lambda _: None)
            await asyncio.sleep(1)
            server.reset()
            await asyncio.sleep(3)
    assert ids([each for each in life.items if isinstance(each, Gap) or each.get("k") == "B"]) == [1, 2, 3, "gap", 5, 6]
    assert life.verdicts.count("Gap") == 1


@pytest.mark.parametrize("rotates", [False, True])
@pytest.mark.parametrize("following", [6, 7, 1])
async def test_first_number_decides_however_late_it_arrives(rotates, following):
    """A number that arrives long after the loss, even on a later connection, decides whether the feed has resumed."""

    async def script(connection):
        server.count += 1
        if server.count == 1:
            send(connection, range(1, 6))

    async with ReplayingServer() as server:
        server.script, server.count = script, 0
        async with living(server, sequence="n") as life:
            await asyncio.sleep(1)
            server.reset()
            await asyncio.sleep(15)
            if rotates:
                assert await life.ws.rotate()
                await asyncio.sleep(12)
            assert life.ws.statistics().complete_since is None
            assert life.verdicts == []
            send(server.connections[-1], [following, following + 1])
            await asyncio.sleep(1)
            continuity, since = life.ws.continuity(), life.ws.statistics().complete_since
    follows = following == 6
    assert life.ids == [1, 2, 3, 4, 5, *([] if follows else ["gap"]), following, following + 1]
    assert life.verdicts == ["Resumed" if follows else "Gap"]
    assert len(continuity.gaps) == (not follows)
    assert since == (continuity.intervals[0].start if follows else continuity.gaps[0].end)


async def test_messages_per_connection_are_delivered_after_each_loss():
    """A greeting and a statement that are declared as per connection are delivered, and the statement decides."""
    async with ReplayingServer() as server:
        server.begins, server.greets, server.states = 1, True, True
        own = [{"hello": rxws.present}, {"recovered": rxws.present}]
        async with living(server, resume=[{"recovered": True}], per_connection=own) as life:
            await cut(server)
    assert life.ids == list(range(1, 16))
    assert [each["hello"] for each in life.items if "hello" in each] == [0, 1]
    assert [each for each in life.items if "recovered" in each] == [{"recovered": True}]
    assert life.verdicts == ["Resumed"]


async def test_missed_messages_after_the_last_values_keep_their_order():
    """If the last value of each key precedes the replay, there is a gap, and no older number follows a greater one."""
    async with ReplayingServer() as server:
        server.keys, server.shows_last, server.begins = ("A", "B"), True, 1
        server.publish(2)
        async with living(server, sequence="n", key="k") as life:
            await cut(server, before=4, missed=6, after=4)
    assert life.verdicts == ["Gap"]
    for key in server.keys:
        numbers = [each["n"] for each in life.items if not isinstance(each, Gap) and each["k"] == key]
        assert numbers == sorted({*numbers})
        assert numbers[-1] == 8


async def test_loss_of_both_connections_of_a_rotation_is_resumed():
    """If both connections are lost during a rotation, the next one resumes without a gap."""
    async with ReplayingServer() as server:
        # The held greeting has no copy.
        server.greets, server.begins = True, 1
        async with living(server, sequence="n") as life:
            server.publish(5)
            await asyncio.sleep(1)
            rotating = life.ws.rotate()
            await server.connected(2)
            await asyncio.sleep(0.1)
            server.publish(3)
            await asyncio.sleep(0.1)
            server.reset()
            server.publish(3)
            assert not await rotating
            await asyncio.sleep(3)
            server.publish(1)
            await asyncio.sleep(1)
    assert life.ids == list(range(1, 13))
    assert life.verdicts == ["Resumed"]


@pytest.mark.parametrize("seconds", [0, 0.001, 0.01, 0.1])
async def test_loss_at_the_start_of_a_rotation_is_resumed(seconds):
    """If the old connection is lost before the overlap is proven, another connection resumes without a gap."""
    async with ReplayingServer() as server, living(server) as life:
        server.publish(5)
        await asyncio.sleep(1)
        rotating = life.ws.rotate()
        await server.connected(2)
        await asyncio.sleep(seconds)
        server.connections[0].reset()
        server.publish(3)
        assert not await rotating
        await asyncio.sleep(3)
        server.publish(1)
        await asyncio.sleep(1)
    assert life.ids == list(range(1, 10))
    assert life.verdicts == ["Resumed"]


async def test_rotation_with_a_cursor_delivers_nothing_twice():
    """A planned rotation passes the cursor too; repeated messages are dropped, and no gap is reported."""
    async with ReplayingServer() as server, living(server, handover_settle=0.2) as life:
        server.publish(5)
        await asyncio.sleep(1)
        rotating = life.ws.rotate()
        for _ in range(50):
            await asyncio.sleep(0.05)
            server.publish(1)
        assert await rotating
        await asyncio.sleep(5)
        assert life.ids == list(range(1, 56))
        assert life.verdicts == []


async def test_break_before_make_resumes():
    """With ``handover_timeout=0`` a rotation resumes, and leaves no gap."""
    async with ReplayingServer() as server, living(server, handover_timeout=0) as life:
        server.publish(5)
        await asyncio.sleep(1)
        rotating = life.ws.rotate()
        await asyncio.sleep(0)
        server.publish(1)
        assert await rotating
        server.publish(3)
        await asyncio.sleep(2)
        assert life.ids == list(range(1, 10))
        assert life.verdicts == ["Resumed"]


async def test_state_is_live_only_when_it_is_decided():
    """While a replay is compared the feed is not connected; ``send`` works nevertheless."""
    async with ReplayingServer() as server, living(server) as life:
        server.publish(1)
        await asyncio.sleep(1)
        server.has_forgotten = True
        server.reset()
        await server.connected(2)
        await asyncio.sleep(0.3)
        assert not life.ws.state.value.is_live
        await life.ws.send({"any": "thing"})
        await asyncio.sleep(0.4)
        assert life.ws.state.value.is_live
        assert [each.number for each in life.of(Connected)] == [1, 2]


@pytest.mark.parametrize(
    ("set_up", "options", "words"),
    [
        ({"begins": 1}, {}, "the server sent no message again: if the cursor excludes its own message"),
        ({"has_forgotten": True}, {"url": "plain"}, "nothing asks for the cursor"),
        ({}, {"cursor": "number"}, "cursor='number' matches no field"),
    ],
)
async def test_log_says_once_why_nothing_was_proven(caplog, set_up, options, words):
    """A warning names, once, the possible reason why the feed does not resume."""
    caplog.set_level(logging.WARNING, "rxws")
    async with ReplayingServer() as server:
        vars(server).update(set_up)
        if "url" in options:
            options = {"url": server.url}
        async with living(server, **options) as life:
            await cut(server)
            await cut(server)
    assert life.verdicts == ["Gap", "Gap"]
    assert sum(words in record.getMessage() for record in caplog.records) == 1


async def test_channels_need_a_statement_or_numbers(caplog):
    """With ``multiplex`` copies prove nothing. Without a statement or numbers there is a warning and a gap."""
    caplog.set_level(logging.WARNING, "rxws")
    async with ReplayingServer() as server, living(server, server.channels_url) as life:
        stream = life.ws.multiplex(
            lambda cursor: {"subscribe": "A", "cursor": cursor},
            filters=[{"k": "A"}],
            acknowledged=[{"subscribed": "A"}],
        )
        stream.subscribe(lambda _: None)
        await asyncio.sleep(1)
        await cut(server)
    assert life.verdicts == ["Gap"]
    assert "copies prove nothing in a channel" in caplog.text


async def test_cursor_function_that_raises_is_reported():
    """A cursor function that raises is reported, and the cursor of an older message is used."""

    def cursor(message):
        if message["id"] == 5:
            raise ValueError("no cursor today")
        return message["id"]

    async with ReplayingServer() as server, living(server, cursor=cursor) as life:
        await cut(server)
    assert server.cursors == [None, 4]
    assert life.ids == list(range(1, 16))
    assert len(life.of(rxws.CallbackFailed)) == 1


async def test_replay_that_never_stops_is_bounded():
    """If a server replays unknown messages without end, the feed delivers them after a while."""
    async with ReplayingServer() as server, living(server) as life:
        server.publish(5)
        await asyncio.sleep(1)
        server.has_forgotten = True
        server.reset()
        await server.connected(2)
        for _ in range(200):
            server.publish(1)
            await asyncio.sleep(0.01)
        assert life.verdicts == ["Gap"]
        assert life.ids[-1] > 150


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"resume": False}, TypeError, "resume must be"),
        ({"resume": "yes"}, TypeError, "resume must be"),
        ({"resume": [{"recovered": True}], "cursor": []}, TypeError, "cursor must be"),
        ({"resume": True, "sequence": []}, TypeError, "sequence must be"),
        ({"resume": True, "key": "k"}, ValueError, "key has no effect without sequence"),
        ({"cursor": "id"}, ValueError, "cursor has no effect without resume"),
        ({"resume": True, "split": True}, ValueError, "resume with split=True needs identity="),
    ],
)
async def test_wrong_options_are_named(options, error, words):
    """A wrong option raises at once an error that names the valid values."""
    with pytest.raises(error, match=words):
        rxws.ReactiveWebSocket(lambda: "ws://localhost", **options)


async def test_function_that_gets_the_cursor_is_named_in_errors():
    """An error text contains the name of the user's function."""

    def opened(connection, cursor):
        pass

    async with ReplayingServer() as server:
        with pytest.raises(rxws.ConnectFailed, match=r"not .*\.opened"):
            async with rxws.ReactiveWebSocket(
                server.url, resume=True, on_open=opened, should_retry=lambda _: False
            ) as ws:
                await ws.wait_connected()


async def test_cursor_parameter_without_resume_is_refused():
    """A function with a parameter for the cursor raises TypeError if the feed does not resume."""
    with pytest.raises(TypeError, match="a parameter for the cursor, which needs resume="):
        rxws.ReactiveWebSocket(lambda cursor: "ws://localhost")
    async with ReplayingServer() as server, rxws.ReactiveWebSocket(server.url) as ws:
        with pytest.raises(TypeError, match="needs the feed's option resume="):
            ws.multiplex(lambda cursor: {"subscribe": "A"}, filters=[{"k": "A"}])
