"""Random schedules in virtual time: what a server has subscribed, and what a book holds, against what is true.

``python -m tests.schedules --count 1000`` plays so many of each kind, and names those that end otherwise; a schedule is
known by its number, so ``--first 17 --count 1`` plays one again. ``tests/test_schedules.py`` plays a few.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import itertools
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import Any

import rxws
from rxws import Snapshot, State
from rxws.pytest_plugin import virtual_loop
from tests.support.life import ScriptedFeed, ScriptedWebsocket

__all__ = ["KINDS", "play"]

CONNECTIONS = 1_000
"""How many may be opened at most in one schedule."""


class Venue:
    """A server in many connections, each of which knows what is subscribed there.

    Args:
        chance: decides what it does.
        answers: what it may do with a subscription: ``"ok"``, ``"no"``, or None for no answer.
        refusable: what it may refuse, with all that is subscribed together with it.
    """

    def __init__(self, chance: Random, answers: Sequence[str | None], refusable: set[str]) -> None:
        self.problems: list[str] = []
        self.connections: list[VenueConnection] = []
        self.chance = chance
        self.answers = answers
        self.refusable = refusable

    async def open(self) -> VenueConnection:
        """Open a connection."""
        self.connections.append(VenueConnection(self))
        return self.connections[-1]

    def live(self) -> list[VenueConnection]:
        """Return those that have not ended."""
        return [connection for connection in self.connections if connection.state == 1]

    def cut(self) -> None:
        """End them all without a word."""
        for connection in self.live():
            connection.end()


class VenueConnection(ScriptedWebsocket):
    """One connection; a message is ``+ a b`` or ``- a``."""

    def __init__(self, venue: Venue) -> None:
        super().__init__()
        self.venue = venue
        self.subscribed: set[str] = set()
        self.refused: set[str] = set()
        self.dropping = 0
        self.lag = venue.chance.choice([0, 0, 0.01, 0.2])
        self.on_send = self.take

    def take(self, message: str) -> None:
        """Subscribe or unsubscribe, and answer at once or a moment later: never later than one waits."""
        sign, *names = message.split()
        if sign == "-":
            self.venue.problems += [f"{name} was not subscribed" for name in names if name not in self.subscribed]
            self.subscribed.difference_update(names)
            return
        chance = self.venue.chance
        answer = chance.choice(self.venue.answers)
        # What is subscribed already is not refused.
        refusable = [name for name in names if name in self.venue.refusable and name not in self.subscribed]
        if answer == "no" and refusable:
            self.refused.update(names)
            told = {"no": refusable[0]}
        else:
            self.subscribed.update(names)
            self.refused.difference_update(names)
            told = {"ok": names[0]}
        if answer is not None:
            asyncio.get_running_loop().call_later(chance.choice([0, 0.05]), self.come, json.dumps(told))


def together(messages: list[str]) -> str:
    """Combine messages."""
    return "+ " + " ".join(message[2:] for message in messages)


async def message_of(name: str, chance: Random) -> str:
    """Give a message, now or later, unless something is broken."""
    await asyncio.sleep(chance.choice([0, 0.01, 2]))
    if chance.random() < 0.2:
        raise ValueError("no token")
    return f"+ {name}"


async def channels(chance: Random) -> list[str]:
    """Channels come and go through rotations and cuts; some are combined, refused, not answered or hard to get.

    In the end the server has subscribed what is wanted and was not refused, and nothing else; nothing was ended that
    had not begun.
    """
    venue = Venue(chance, ["ok", "ok", "ok", "no", None], {"1", "5", "9"})
    functions = {str(number): functools.partial(message_of, str(number), chance) for number in range(12, 16)}

    def subscribe(feed: ScriptedFeed, number: int) -> tuple[str, rxws.Stream[Any]]:
        name, options = str(number), dict[str, Any]()
        if number % 4 in (1, 2):
            options |= {"acknowledged": [{"ok": name}], "timeout": chance.choice([0.5, 2])}
        if number % 4 == 1:
            options["rejected"] = [{"no": name}]
        if number % 4 != 0 and name not in functions:
            options |= {"combine": together, "combine_max": 3}
        return name, feed.multiplex(functions.get(name, f"+ {name}"), f"- {name}", filters=[{"s": name}], **options)

    limit, delay = chance.choice([None, (5, 1), (1, 2)]), chance.choice([0, 0.1, 1])
    async with ScriptedFeed(
        *[venue.open] * CONNECTIONS,
        parse=json.loads,
        send_limit=limit,
        reconnect_delays=lambda: itertools.repeat(delay),
        handover_settle=0.2,
        handover_timeout=1,
    ) as feed:
        wanted: list[tuple[str, rxws.Stream[Any]]] = []
        for _ in range(120):
            what = chance.random()
            if what < 0.5:
                wanted.append(subscribe(feed, chance.randrange(16)))
            elif what < 0.85 and wanted:
                _, stream = wanted.pop(chance.randrange(len(wanted)))
                await stream.close()
            elif what < 0.93:
                feed.rotate()
            else:
                venue.cut()
            await asyncio.sleep(chance.choice([0, 0, 0.05, 0.5, 3]))
        await asyncio.sleep(120)
        if feed.state.value is not State.CONNECTED:
            venue.problems.append(f"it is {feed.state.value}")
        [connection] = venue.live()
        names = {name for name, _ in wanted}
        venue.problems += [f"{name} is not wanted" for name in sorted(connection.subscribed - names)]
        missing = names - connection.subscribed - connection.refused
        venue.problems += [f"{name} is not subscribed" for name in sorted(missing)]
    return venue.problems


class Market:
    """Publishes numbers to whoever has subscribed them, and gives snapshots that are late, old, hang or fail."""

    def __init__(self, venue: Venue) -> None:
        self.venue = venue
        self.number = 0

    async def publish(self) -> None:
        """Publish until cancelled."""
        loop, chance = asyncio.get_running_loop(), self.venue.chance
        while True:
            await asyncio.sleep(chance.choice([0.01, 0.1, 1]))
            self.number += 1
            for connection in self.venue.live():
                if not connection.subscribed:
                    continue
                if connection.dropping:
                    connection.dropping -= 1
                    continue
                loop.call_later(connection.lag, connection.come, json.dumps({"U": self.number, "u": self.number}))

    async def snapshot(self) -> dict[str, int]:
        """Give one."""
        chance = self.venue.chance
        what = chance.random()
        if what < 0.1:
            raise ConnectionError("no snapshot now")
        if what < 0.2:
            await asyncio.sleep(20)
        number = max(0, self.number - chance.choice([0, 0, 0, 3, 20]))
        await asyncio.sleep(chance.choice([0, 0.05, 0.5]))
        return {"last": number}


class Book:
    """What a subscriber of ``resync`` was given: it is right, or says that it is not."""

    def __init__(self, feed: ScriptedFeed, market: Market, timeout: float) -> None:
        self.last: int | None = None
        self.problems = market.venue.problems
        self.stream = feed.multiplex(
            "+ a",
            "- a",
            filters=lambda message: "u" in message,
            acknowledged=[{"ok": "a"}],
            rejected=[{"no": "a"}],
            timeout=timeout,
        )
        self.resynced = self.stream.resync(market.snapshot, sequence=("U", "u"), snapshot_sequence="last")
        self.subscription = self.resynced.subscribe(self.take)

    def take(self, item: Any) -> None:
        """Take a snapshot, or the change that follows."""
        if isinstance(item, Snapshot):
            self.last = item.data["last"]
            return
        if self.last is None or item["u"] != self.last + 1:
            self.problems.append(f"{item['u']} follows {self.last}")
        self.last = item["u"]

    async def close(self) -> None:
        """Want it no more."""
        self.subscription.dispose()
        await self.stream.close()


async def book(chance: Random) -> list[str]:
    """A book is kept through refusals, rotations, cuts, holes and snapshots of all kinds.

    It never says that it is right where nothing is subscribed, and in the end it is right where something is.
    """
    venue = Venue(chance, ["ok", "ok", "ok", "ok", "no", None], {"a"})
    market = Market(venue)
    delay = chance.choice([0, 0.5])
    async with ScriptedFeed(
        *[venue.open] * CONNECTIONS,
        parse=json.loads,
        reconnect_delays=lambda: itertools.repeat(delay),
        handover_settle=0.3,
        handover_timeout=1,
    ) as feed:
        publishing = asyncio.ensure_future(market.publish())
        kept = Book(feed, market, chance.choice([1, 3]))
        for _ in range(60):
            what = chance.random()
            if what < 0.15:
                feed.rotate()
            elif what < 0.3:
                venue.cut()
            elif what < 0.45:
                for connection in venue.live():
                    connection.dropping = chance.choice([0, 1, 2])
            elif what < 0.5:
                await kept.close()
                # Or an answer could be for either.
                await asyncio.sleep(7)
                kept = Book(feed, market, chance.choice([1, 3]))
            await asyncio.sleep(chance.choice([0.002, 0.1, 2, 10]))
            if kept.resynced.in_sync and not any(connection.subscribed for connection in venue.live()):
                venue.problems.append("it says that it is right, and nothing is subscribed")
        for connection in venue.live():
            connection.dropping = 0
        await asyncio.sleep(400)
        publishing.cancel()
        await asyncio.sleep(1)
        is_subscribed = any(connection.subscribed for connection in venue.live())
        if kept.resynced.in_sync is not is_subscribed:
            venue.problems.append(f"subscribed: {is_subscribed}, in sync: {kept.resynced.in_sync}")
        if kept.resynced.in_sync and kept.last != market.number:
            venue.problems.append(f"it ends at {kept.last}, and the market at {market.number}")
    return venue.problems


KINDS: dict[str, Callable[[Random], Awaitable[list[str]]]] = {"channels": channels, "book": book}
"""The kinds of schedules."""


async def play(kind: str, number: int) -> list[str]:
    """Play a schedule in a loop with virtual time; return what was wrong, and what is left of it."""
    problems = await KINDS[kind](Random(number))
    await asyncio.sleep(1)
    left = asyncio.all_tasks() - {asyncio.current_task()}
    return [*problems, *(f"{task.get_name()} is left" for task in left)]


def main() -> int:
    """Play as many as are asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.schedules", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=100, help="how many of each kind")
    parser.add_argument("--first", type=int, default=0, help="the number of the first one")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    failed = 0
    for kind, number in itertools.product(KINDS, range(arguments.first, arguments.first + arguments.count)):
        with asyncio.Runner(loop_factory=virtual_loop) as runner:
            problems = runner.run(play(kind, number))
        if problems:
            failed += 1
            print(kind, number, *problems[:5], sep="\n    ", flush=True)
    print(f"{arguments.count} schedules of each of {len(KINDS)} kinds, {failed} ended otherwise")
    return int(failed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
