"""Feeds with several lines: what is delivered, when a gap is reported, and what happens to the lines."""

from __future__ import annotations

import asyncio
import json

import pytest

import rxws
from rxws import Connected, Disconnected, Gap, LineJoined, LineLost, Many, Rotated, State
from tests.line_lives import KINDS, Life
from tests.lines import play
from tests.support.life import ScriptedFeed, ScriptedWebsocket
from tests.support.opening import Followed, connecting, now, status

pytestmark = pytest.mark.usefixtures("virtual_time", "assert_no_leaks")


class Lines(ScriptedFeed):
    """A feed with several lines whose connections are opened at once."""

    def __init__(self, *outcomes, lines=2, **options):
        super().__init__(*outcomes, lines=lines, **options)
        self.sent = 0

    async def come(self, seconds=1.0, *, on=None, step=0.05):
        """Let the next numbers arrive, one every ``step`` seconds, on all open connections or on some of them."""
        for _ in range(round(seconds / step)):
            self.sent += 1
            for each in self.websockets if on is None else on:
                each.come(str(self.sent))
            await asyncio.sleep(step)

    async def joined(self, lines=2):
        """Let all lines connect and join."""
        await self.record.happened(Connected, lines)
        await self.come()
        await self.record.happened(LineJoined, lines - 1)

    async def replaced(self, place):
        """Let both lines join, end one of their connections, and wait for its replacement."""
        await self.joined()
        self.websockets[place].end()
        await self.record.happened(Connected, 3)

    @property
    def numbers(self):
        """The numbers that were delivered."""
        return [each for each in self.record.messages if isinstance(each, int)]

    def check(self):
        """Assert that all numbers arrived once and in order."""
        assert self.numbers == list(range(1, self.sent + 1))


async def test_each_message_is_delivered_once_from_the_line_on_which_it_arrives_first():
    """A message that arrives on both lines is delivered once, as soon as it arrives on one of them."""
    async with Lines() as feed:
        await feed.joined()
        first, second = feed.websockets
        first.come("a")
        await asyncio.sleep(0.01)
        second.come("a", "b")
        await asyncio.sleep(0.01)
        first.come("b")
        await asyncio.sleep(0.01)
        assert feed.record.messages == [*range(1, feed.sent + 1), "a", "b"]
        assert feed.statistics().duplicates == feed.sent + 2
        assert feed.statistics().messages == feed.sent + 2


@pytest.mark.parametrize("settle", [0.01, 0.09])
async def test_line_joins_when_settle_is_no_longer_than_the_interval_of_the_checks(settle):
    """The time between two checks of the lines is not treated as a blocked loop, so that a line joins."""
    async with Lines(handover_settle=settle) as feed:
        await feed.joined()
        feed.websockets[1].end()
        await feed.come(2, step=0.005)
        assert len(feed.websockets) == 3
        assert all(line.is_joined for line in feed.statistics().lines)


async def test_no_gap_is_reported_while_another_line_is_joined():
    """If a line is lost while another is joined, no message is missing and no gap is reported, whichever line it is."""
    async with Lines() as feed:
        await feed.joined()
        for number in range(4):
            feed.websockets[number].end()
            await feed.come(2)
        await asyncio.sleep(1)
        feed.check()
        assert feed.record.of(Gap) == []
        assert feed.statistics().reconnects == {"network": 4}
        assert State.CONNECTING not in feed.record.states[1:]


async def test_one_gap_is_reported_when_the_only_joined_line_is_lost():
    """If the only joined line is lost, there is one gap where messages may be missing, with the reason of the loss."""
    async with Lines() as feed:
        items = []
        feed.stream_filter(gaps=True).subscribe(items.append)
        await feed.joined()
        feed.websockets[0].end()
        feed.websockets[1].end()
        await feed.record.happened(Connected, 4)
        await feed.come(3)
        (gap,) = feed.record.of(Gap)
        assert (gap.reason, gap.last_message) == ("network", 20)
        assert items == [*range(1, 21), gap, *range(21, feed.sent + 1)]


async def test_what_the_lost_line_delivered_is_awaited_on_the_other_before_later_messages():
    """A line that lags behind a lost one delivers nothing new before it has received what that one delivered."""
    async with Lines() as feed:
        await feed.joined()
        first, second = feed.websockets
        first.come("x", "y")
        await asyncio.sleep(0.01)
        first.end()
        await asyncio.sleep(0.01)
        second.come("z")
        await asyncio.sleep(0.01)
        assert feed.record.messages[-1] == "y"
        second.come("x", "y")
        await asyncio.sleep(0.01)
        assert feed.record.messages[-2:] == ["y", "z"]
        assert feed.record.of(Gap) == []


async def test_a_line_that_leaves_messages_out_is_lost_until_it_agrees_again():
    """A line on which a message is missing for longer than ``reach`` is reported, and joins again when it agrees."""
    async with Lines(reach=1.0) as feed:
        await feed.joined()
        await feed.come(0.2, on=feed.websockets[:1])
        await feed.come(2)
        assert [(event.line, event.reason) for event in feed.record.of(LineLost)] == [(2, "behind")]
        await feed.come(2)
        assert [event.line for event in feed.record.of(LineJoined)] == [2, 2]
        feed.websockets[0].end()
        await feed.come(2)
        feed.check()
        assert feed.record.of(Gap) == []


async def test_a_mute_line_is_given_up_with_a_gap_when_it_is_the_only_joined_one():
    """If the only joined line is silent while another has new messages for ``reach`` seconds, that one takes over."""
    async with Lines(reach=1.0) as feed:
        await feed.replaced(1)
        await feed.come(3, on=feed.websockets[2:])
        assert [(event.line, event.reason) for event in feed.record.of(LineLost)] == [(1, "mute")]
        (gap,) = feed.record.of(Gap)
        assert gap.last_message == 20
        feed.check()


async def test_messages_with_something_of_their_connection_are_never_delivered_twice(caplog):
    """If no messages of two lines are equal, one delivers, the other is opened again, and a warning names identity.

    Nothing is delivered twice.
    """
    async with Lines() as feed:
        await feed.record.happened(Connected, 2)
        for number in range(60):
            for place, websocket in enumerate(each for each in feed.websockets if each.is_open):
                websocket.come(f"{number} on {place}")
            await asyncio.sleep(0.5)
        assert [message.split()[0] for message in feed.record.messages] == [str(number) for number in range(60)]
        assert feed.record.reasons.count("line") == len(feed.record.reasons) > 1
        assert feed.record.of(Gap) == []
    assert sum("identity=" in line for line in caplog.messages) == 1


async def test_identity_compares_messages_that_differ_on_each_line():
    """With an identity, lines whose frames differ join, and the first arrival of each message is delivered."""

    class Named(Lines):
        def _message_identity(self, message):
            return message["n"]

    async with Named(parse=json.loads) as feed:
        await feed.record.happened(Connected, 2)
        for number in range(40):
            for place, websocket in enumerate(feed.websockets):
                websocket.come(json.dumps({"n": number, "connection": place}))
            await asyncio.sleep(0.05)
        await feed.record.happened(LineJoined)
        feed.websockets[0].end()
        await asyncio.sleep(0.1)
        feed.websockets[1].come('{"n": 40}')
        await asyncio.sleep(0.1)
        assert [message["n"] for message in feed.record.messages] == list(range(41))
        assert feed.record.of(Gap) == []


async def test_a_reply_is_from_the_line_of_its_request_and_is_not_evidence():
    """The reply to a request arrives on the first line only, and both lines stay joined."""
    async with Lines() as feed:
        await feed.joined()
        requesting = asyncio.create_task(feed.request({"id": 7}, lambda message: message == "reply 7"))
        await asyncio.sleep(0.1)
        assert (len(feed.websockets[0].sent), len(feed.websockets[1].sent)) == (1, 0)
        feed.websockets[0].come("reply 7")
        assert await requesting == "reply 7"
        await feed.come(4)
        assert feed.record.of(LineLost) == []
        assert feed.record.messages.count("reply 7") == 1


async def test_messages_of_one_connection_are_taken_from_the_first_line():
    """A message that each connection has for itself is delivered from one line, and is not evidence."""

    class Greeting(Lines):
        def _is_per_connection(self, message):
            return isinstance(message, str)

    async with Greeting(ScriptedWebsocket("hello 1"), ScriptedWebsocket("hello 2")) as feed:
        await feed.joined()
        assert [each for each in feed.record.messages if isinstance(each, str)] == ["hello 1"]
        feed.websockets[0].end()
        await feed.record.happened(Connected, 3)
        feed.websockets[2].come("hello 3")
        feed.websockets[1].come("status")
        await feed.come(3)
        assert [each for each in feed.record.messages if isinstance(each, str)] == ["hello 1", "status"]
        assert feed.record.of(LineLost) == []


async def test_rotate_rotates_all_lines_one_after_the_other_without_a_gap():
    """``rotate()`` replaces the connection of each line; each old one is closed when the new one has joined."""
    async with Lines() as feed:
        await feed.joined()
        rotating = feed.rotate()
        most = 0
        while not rotating.done():
            await feed.come(0.05)
            most = max(most, sum(each.is_open for each in feed.websockets))
        assert await rotating is True
        assert most == 3
        assert [event.proven for event in feed.record.of(Rotated)] == [True, True]
        assert [each.is_open for each in feed.websockets] == [False, False, True, True]
        await feed.come(1)
        feed.check()
        assert feed.record.of(Gap) == []
        assert feed.statistics().reconnects == {}


async def test_rotations_that_are_due_at_the_same_time_are_staggered():
    """If the rotation hooks of all lines end at once, only one line rotates at a time."""

    async def due():
        await asyncio.sleep(5)

    async with Lines(wait_rotation_due=due) as feed:
        await feed.joined()
        while len(feed.record.of(Rotated)) < 2:
            await feed.come(0.05)
            assert sum(each.is_open for each in feed.websockets) <= 3
        feed.check()


async def test_a_rotation_without_an_overlap_leaves_no_gap_while_another_line_is_joined():
    """With ``handover_timeout=0`` a line closes its old connection first, and the other line delivers meanwhile."""
    async with Lines(handover_timeout=0) as feed:
        await feed.joined()
        rotating = feed.rotate()
        while not rotating.done():
            await feed.come(0.05)
            assert sum(each.is_open for each in feed.websockets) <= 2
        feed.check()
        assert len(feed.record.of(Rotated)) == 2


async def test_a_failed_rotation_keeps_the_old_connection_and_is_tried_again():
    """If the new connection cannot be opened, or ends before it joins, the line keeps the old one and tries again."""
    outcomes = ScriptedWebsocket(), ScriptedWebsocket(), OSError("unreachable")
    async with Lines(*outcomes) as feed:
        await feed.joined()
        rotating = feed.rotate()
        while not rotating.done():
            await feed.come(0.05)
        assert await rotating is False
        while len(feed.websockets) < 4:
            await feed.come(0.05)
        feed.websockets[-1].end()
        while len(feed.record.of(Rotated)) < 2:
            await feed.come(0.05)
        feed.check()
        assert feed.record.of(Gap) == []


async def test_a_line_that_fails_for_good_leaves_the_others():
    """If one line can never be opened, the feed continues with the others, and fails when none is left."""

    async def refused():
        await asyncio.sleep(0.1)
        raise status(401)

    with pytest.raises(rxws.ConnectFailed):
        async with Lines(ScriptedWebsocket(), refused, refused, refused) as feed:
            await feed.record.happened(Disconnected, 3)
            await feed.come(1)
            assert [each.state for each in feed.statistics().lines] == [State.CONNECTED, State.FAILED]
            assert feed.state.value is State.CONNECTED
            feed.check()
            feed.outcomes.extend([status(401)] * 3)
            feed.websocket.end()
            await feed.wait_closed()


async def test_rotate_rotates_the_remaining_lines_when_one_has_failed():
    """``rotate()`` rotates the lines that are left, and does not wait for a line that has failed."""

    async def refused():
        await asyncio.sleep(0.1)
        raise status(401)

    async with Lines(ScriptedWebsocket(), refused, refused, refused) as feed, asyncio.timeout(60):
        await feed.record.happened(Disconnected, 3)
        await feed.come(1)
        rotating = feed.rotate()
        while not rotating.done():
            await feed.come(0.05)
        assert await rotating is True
        assert len(feed.record.of(Rotated)) == 1
        feed.check()


@pytest.mark.parametrize("turns", range(6))
async def test_rotate_ends_when_a_line_fails_meanwhile(turns):
    """A rotation does not wait for a line that fails before its part of the rotation has begun."""
    async with Lines(reconnect_delays=lambda: iter([0.0])) as feed, asyncio.timeout(60):
        await feed.replaced(0)
        feed.websockets[2].end()
        for _ in range(turns):
            await asyncio.sleep(0)
        assert await feed.rotate() in (True, False)


async def test_a_gap_of_the_parse_hook_on_one_of_two_lines_is_not_announced():
    """If one line says that it lost messages, another line has them. Only the gap of the last joined line counts."""
    told = rxws.Gap(1.0, 2.0)
    parse = {"gap": told, "two": Many(["one", told])}
    async with Lines(parse=lambda raw: parse.get(raw) or (int(raw) if raw.isdigit() else raw)) as feed:
        await feed.joined()
        feed.websockets[0].come("gap")
        await feed.come(0.1)
        assert feed.record.of(Gap) == []
        assert [event.line for event in feed.record.of(LineLost)] == [1]
        feed.websockets[1].come("gap")
        await feed.come(0.1)
        assert [gap.reason for gap in feed.record.of(Gap)] == ["source"]
        await feed.come(3)
        feed.check()


async def test_the_statistics_show_each_line_with_its_lag():
    """``statistics().lines`` has the state, the first arrivals and the median lag of each line."""
    async with Lines() as feed:
        await feed.joined()
        assert rxws.LineStatistics in {type(each) for each in feed.statistics().lines}
        first, second = feed.websockets
        for number in range(100, 140):
            first.come(str(number))
            await asyncio.sleep(0.03)
            second.come(str(number))
            await asyncio.sleep(0.02)
        one, two = feed.statistics().lines
        assert (one.state, one.is_joined, two.is_joined) == (State.CONNECTED, True, True)
        assert (one.firsts, two.firsts) == (60, 0)
        assert one.lag is None
        assert two.lag == pytest.approx(0.03, abs=0.001)
    async with ScriptedFeed() as feed:
        assert feed.statistics().lines == ()


async def test_a_line_that_is_behind_by_more_than_can_be_compared_is_not_waited_for():
    """A line that lags by several seconds does not join, and does not affect the other line."""
    async with Lines() as feed:
        await feed.record.happened(Connected, 2)
        loop = asyncio.get_running_loop()
        for number in range(1, 200):
            feed.sent = number
            first, second = [each for each in feed.websockets if each.is_open][:2]
            first.come(str(number))
            loop.call_later(5.0, second.come, str(number))
            await asyncio.sleep(0.05)
        feed.check()
        assert feed.record.of(Gap) == []
        await asyncio.sleep(6)


async def test_continuity_continues_with_another_line():
    """The interval in which nothing is missing continues when a joined line takes over, with the proof ``"line"``."""
    async with Lines() as feed:
        await feed.joined()
        since = feed.statistics().complete_since
        feed.websockets[0].end()
        await feed.come(2)
        assert feed.statistics().complete_since == since
        assert [each.proof for each in feed.continuity().intervals] == ["connection", "line"]
        for each in feed.websockets:
            each.end()
        assert feed.continuity().gaps == ()
        await feed.record.happened(Connected, 5)
        await feed.come(2)
        assert len(feed.continuity().gaps) == 1
        assert feed.statistics().complete_since > since


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"lines": 0}, ValueError, "lines must be an int of at least 1, not 0"),
        ({"lines": 1.5}, TypeError, "lines must be an int"),
        ({"lines": 2, "resume": True}, ValueError, "resume does not work with lines yet"),
    ],
)
async def test_wrong_lines_are_refused(options, error, text):
    """A number of lines that makes no sense raises one error that names what was expected."""
    with pytest.raises(error, match=text):
        ScriptedFeed(**options)


async def test_each_line_begins_with_another_address_and_a_failure_moves_it_to_the_next():
    """With a list of addresses, line k begins with the k-th. After a failure the next one is used."""
    asked = []

    async def connect(url):
        asked.append((now(), url))
        if url == "ws://b" and now() == 0:
            raise OSError("unreachable")
        return ScriptedWebsocket()

    async with Followed(["ws://a", lambda: "ws://b", "ws://c"], connect=connect, lines=2) as feed:
        await feed.record.happened(Connected, 2)
        assert asked == [(0, "ws://a"), (0, "ws://b"), (0, "ws://c")]
        assert feed.shown_url == "ws://a"


async def test_the_first_address_is_used_again_when_its_delay_is_over():
    """After a loss another address is used at once; the next loss returns to the first one, whose delay is over."""
    first, second = ScriptedWebsocket(), ScriptedWebsocket()
    asked, give = [], connecting(first, second)

    async def connect(url):
        asked.append(url)
        return await give(url)

    async with Followed(["ws://a", "ws://b"], connect=connect) as feed:
        await feed.record.happened(Connected)
        first.end()
        await feed.record.happened(Connected, 2)
        second.end()
        await feed.record.happened(Connected, 3)
        assert asked == ["ws://a", "ws://b", "ws://a"]


async def test_a_rotation_returns_to_the_first_address_when_its_delay_is_over():
    """A feed that uses another address after a failure rotates back to the first one, whose delay is over."""
    asked = []

    async def connect(url):
        asked.append(url)
        if asked == ["ws://a"]:
            raise OSError("unreachable")
        return ScriptedWebsocket()

    async with Followed(["ws://a", "ws://b"], connect=connect, handover_timeout=0) as feed:
        await feed.record.happened(Connected)
        await feed.rotate()
        assert asked == ["ws://a", "ws://b", "ws://a"]


async def test_an_unusable_address_is_given_up_while_others_are_left():
    """The feed fails only when no address is left that is worth a retry."""
    asked = []

    async def connect(url):
        asked.append(url)
        raise status(404)

    async with asyncio.timeout(10):
        with pytest.raises(rxws.ConnectFailed):
            async with Followed(["ws://a", "ws://b"], connect=connect) as feed:
                await feed.wait_closed()
    assert asked == ["ws://a", "ws://b"]


async def test_an_empty_list_of_addresses_is_refused():
    """A list without an address raises an error that says what is expected."""
    with pytest.raises(ValueError, match="at least one"):
        rxws.ReactiveWebSocket([])


@pytest.mark.parametrize("alone", [False, True])
async def test_kills_lose_and_double_nothing(alone):
    """Kills of a line leave no gap while another is joined, and exactly one if it was the only one."""
    result = await play(6, seed=1, rate=1000, alone=alone)
    assert result.is_sound
    assert result.gaps == (6 if alone else 0)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
async def test_lives_lose_and_double_nothing(kind):
    """In random lives of lines nothing is lost, doubled or out of order, and each gap has a cause."""
    for seed in range(2):
        result = await Life(kind, seed).run()
        assert {rule: count for rule, count in result.items() if count and not rule.startswith("-")} == {}


async def test_copies_are_dropped_before_they_are_parsed():
    """Each frame is parsed once, unless the line expects a reply."""
    parsed = []

    def parse(raw):
        parsed.append(raw)
        return int(raw) if raw.isdigit() else raw

    async with Lines(parse=parse) as feed:
        await feed.joined()
        parsed.clear()
        await feed.come(1)
        assert len(parsed) == 20
        for websocket in feed.websockets:
            websocket.come("same")
        await asyncio.sleep(0.1)
        assert parsed[20:] == ["same"]
        requesting = asyncio.create_task(feed.request("ask", lambda message: message == "answer"))
        await asyncio.sleep(0.1)
        feed.websockets[1].come("while it waits")
        await asyncio.sleep(0.1)
        feed.websockets[0].come("while it waits", "answer")
        assert await requesting == "answer"
        assert parsed[21:] == ["while it waits", "while it waits", "answer"]


async def test_frames_are_parsed_on_every_line_if_parsing_depends_on_earlier_frames():
    """If each connection has its own parser, copies are parsed, too, and recognized afterwards."""
    parsed = []

    class Stateful(Lines):
        def _create_parser(self):
            return lambda raw: parsed.append(raw) or (int(raw) if raw.isdigit() else raw)

    async with Stateful() as feed:
        await feed.joined()
        parsed.clear()
        await feed.come(1)
        assert len(parsed) == 40
        feed.check()


async def test_frames_that_cannot_be_compared_are_delivered_from_the_lines_that_deliver():
    """A frame that cannot be hashed is never a copy. It is delivered from each joined line, and lost on none."""
    async with Lines(parse=lambda raw: raw if isinstance(raw, bytearray) else int(raw)) as feed:
        await feed.joined()
        for websocket in feed.websockets:
            websocket.come(bytearray(b"x"))
        await feed.come(4)
        assert feed.record.messages.count(bytearray(b"x")) == 2
        assert feed.statistics().rejected == 0
        assert feed.record.of(LineLost) == []


@pytest.mark.parametrize("has_identity", [False, True])
async def test_frames_have_all_copies_and_recordings_have_first_arrivals(has_identity, tmp_path):
    """``frames`` emits the frame of every line with its connection's number; a recording has each message once."""
    kind = type("Named", (Lines,), {"_message_identity": lambda self, message: message}) if has_identity else Lines
    async with kind() as feed:
        await feed.joined()
        frames = []
        feed.frames.subscribe(frames.append)
        with rxws.record(feed, tmp_path / "two.jsonl"):
            first, second = feed.websockets
            first.come("8", "9")
            await asyncio.sleep(0.01)
            second.come("8", "9")
            await asyncio.sleep(0.1)
    assert [(raw, number) for raw, _, number in frames] == [("8", 1), ("9", 1), ("8", 2), ("9", 2)]
    entries = [entry for entry in rxws.read(tmp_path / "two.jsonl") if hasattr(entry, "raw")]
    assert [(entry.raw, entry.connection) for entry in entries] == [("8", 1), ("9", 1)]


async def test_a_line_that_brings_only_copies_is_not_idle():
    """Copies count as heard: a line on which every message arrives later is not reconnected by ``idle_timeout``."""
    async with Lines(idle_timeout=2) as feed:
        await feed.joined()
        first, second = feed.websockets
        for number in range(100, 200):
            first.come(str(number))
            await asyncio.sleep(0.03)
            second.come(str(number))
            await asyncio.sleep(0.07)
        assert feed.record.reasons == []
        await feed.come(3, on=[first])
        assert feed.record.reasons == ["idle"]
