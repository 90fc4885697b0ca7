"""Random lives of lines and of rotations for the matcher. An oracle that knows only what the server sent judges them.

::

    python -m tests.connections.matching.simulation --count 2000 [--seed 0] [--kind KIND]

A life has one server, three channels, and lines (connections), each with its own lag. The oracle knows when the server
sent each message, and which lines were alive and able to deliver. It knows none of the matcher's rules.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import math
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from rxws.connections.matching import GapFound, Limits, Matcher, Proof, Reopen

CHANNELS = ("A", "B", "C")
END = 7.5
"""The oracle judges the messages that the server sent in this many seconds from the start."""

REST = 3.0
"""Seconds without a disturbance after ``END``, in which the matcher must deliver everything that it holds."""

TICK = 0.02
SETTLED = 1.5
"""Seconds after which a subscribed and undisturbed line must be able to take over without a gap."""

RECOVERY = 3.5
"""Seconds after a disturbance of a line during which a gap is allowed, because the line may have to agree again."""


@dataclass(frozen=True)
class Sent:
    """A message that the server sent; ``number`` counts the messages of its channel."""

    time: float
    channel: str
    number: int
    key: str
    is_unique: bool


@dataclass(frozen=True)
class Kind:
    """The faults and the options of a life."""

    driver: str = "lines"
    kills: bool = False
    rotates: bool = False
    skew: float = 0.0
    repeats: float = 0.0
    late: float = 0.0
    early: float = 0.0
    mute: bool = False
    stalls: bool = False
    both: bool = False
    memory: int = 10_000
    far: float = 0.0
    resumes: str = ""


KINDS = {
    "kills": Kind(kills=True),
    "kills, skewed": Kind(kills=True, skew=0.06),
    "kills, repeats": Kind(kills=True, repeats=0.3),
    "kills, repeats, skewed": Kind(kills=True, repeats=0.3, skew=0.06),
    "kills, late channel": Kind(kills=True, late=2.0),
    "kills, early messages": Kind(kills=True, early=0.3),
    "kills, stalls": Kind(kills=True, stalls=True),
    "kills of all": Kind(kills=True, both=True),
    "mute line": Kind(mute=True),
    "line far behind": Kind(kills=True, far=5.0),
    "little memory": Kind(kills=True, far=5.0, memory=150),
    "rotations of lines": Kind(rotates=True, kills=True, skew=0.03),
    "rotations": Kind("rotation", skew=0.03),
    "rotations, repeats": Kind("rotation", repeats=0.3),
    "rotations, late channel": Kind("rotation", late=1.0, skew=0.06),
    "rotations, early messages": Kind("rotation", early=0.4),
    "rotations, kills": Kind("rotation", kills=True, skew=0.03),
    "rotations, mute line": Kind("rotation", mute=True),
    "resumes": Kind("resume", resumes="inclusive"),
    "resumes, rewound": Kind("resume", resumes="rewound"),
    "resumes, rewound, repeats": Kind("resume", resumes="rewound", repeats=0.3),
    "resumes, stated": Kind("resume", resumes="stated"),
    "resumes, greeted": Kind("resume", resumes="greeted"),
    "resumes, before memory": Kind("resume", resumes="before memory", memory=150),
    "resumes, forgotten": Kind("resume", resumes="forgotten"),
    "resumes, forgotten, greeted": Kind("resume", resumes="forgotten greeted"),
    "resumes, cut again": Kind("resume", resumes="cut again"),
}


@dataclass(eq=False)
class Line:
    """One connection to the server."""

    number: int
    slot: int
    begun: dict[str, float]
    lag: float
    skew: dict[str, float]
    acknowledged: dict[str, float] = field(default_factory=dict)
    is_alive: bool = True
    stopped_at: float = math.inf
    muted_at: float = math.inf
    stall: tuple[float, float] = (math.inf, math.inf)
    last: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def is_sound(self, now: float) -> bool:
        """Return whether this line must be able to take over without a gap, provided that it could agree before."""
        is_subscribed = all(now - self.acknowledged.get(channel, math.inf) > SETTLED for channel in CHANNELS)
        return self.is_alive and is_subscribed and now < self.muted_at and self.lag < 0.1 and self.stopped_at > now


class World:
    """The server and its lines. Subclasses open and end the lines."""

    def __init__(self, kind: Kind, seed: str) -> None:
        self.kind = kind
        self.rng = random.Random(seed)
        # A stall delays copies. The matcher then waits for copies four times as long, at most ``farthest`` seconds.
        self.limits = Limits(messages=kind.memory, farthest=3.0 if kind.stalls else 10.0)
        self.matcher: Matcher[Sent] = Matcher(self.limits)
        self.now = 0.0
        self.lines: list[Line] = []
        self.out: list[tuple[float, Sent | GapFound]] = []
        # The times in which a gap is allowed: start and end.
        self.excuses: list[tuple[float, float]] = []
        self.first_arrival: dict[Sent, float] = {}
        self.kills = 0
        self._heap: list[tuple[float, int, Callable[[], object]]] = []
        self._order = 0
        self.log = list(self._send())
        self.by_channel = {channel: [each for each in self.log if each.channel == channel] for channel in CHANNELS}

    def _send(self):
        numbers = Counter()
        time = self.rng.expovariate(60.0)
        while time < END + REST:
            channel = self.rng.choice(CHANNELS)
            numbers[channel] += 1
            is_unique = self.rng.random() >= self.kind.repeats
            key = f"{channel}{numbers[channel]}" if is_unique else f"{channel} {self.rng.choice('xyz')}"
            yield Sent(time, channel, numbers[channel], key, is_unique)
            time += self.rng.expovariate(60.0)

    def at(self, time: float, call: Callable[[], object]) -> None:
        """Call a function at a time of the simulation."""
        self._order += 1
        heapq.heappush(self._heap, (time, self._order, call))

    def has_sound_line(self) -> bool:
        """Return whether a live line must be able to take over without a gap."""
        is_stalled = any(line.stall[0] <= self.now < line.stall[1] + RECOVERY for line in self.lines)
        return not is_stalled and any(line.is_sound(self.now) for line in self.alive)

    def excuse(self, seconds: float = 2.7) -> None:
        """Allow gaps for this many seconds from now."""
        self.excuses.append((self.now, self.now + seconds))

    def run(self) -> World:
        """Run the whole life and return this world."""
        self.start()
        for step in range(int((END + REST) / TICK)):
            self.at(step * TICK, self.tick)
        while self._heap and self._heap[0][0] <= END + REST:
            self.now, _, call = heapq.heappop(self._heap)
            call()
            self.collect()
        return self

    def start(self) -> None:
        """Open the first lines and schedule the faults."""
        raise NotImplementedError

    def tick(self) -> None:
        """Tell the matcher the time, as its owner does regularly."""
        self.matcher.tick(self.now)

    def collect(self) -> None:
        """Take the results of the matcher, and open a line again if the matcher asks for that."""
        out, self.matcher.out = self.matcher.out, []
        for each in out:
            if isinstance(each, tuple):
                self.out.append((self.now, each[0]))
            elif isinstance(each, GapFound):
                self.out.append((self.now, each))
            elif isinstance(each, Reopen):
                self.reopen(each.line)

    def reopen(self, number: int) -> None:
        """Called for a line that the matcher rejected. A subclass with several lines replaces the line."""

    def open(self, slot: int, lag: float | None = None) -> Line:
        """Open a line. The server begins to send each channel after a delay, and acknowledges the channel."""
        rng, kind = self.rng, self.kind
        wait = {channel: rng.uniform(0, 0.02) for channel in CHANNELS}
        wait["C"] += rng.uniform(0, kind.late) if self.lines else 0.0
        line = Line(
            len(self.lines) + 1,
            slot,
            {channel: self.now + wait[channel] for channel in CHANNELS},
            rng.uniform(0, 0.06) if lag is None else lag,
            {channel: rng.uniform(0, kind.skew) for channel in CHANNELS},
        )
        self.lines.append(line)
        for channel in CHANNELS:
            begun = line.last[channel] = line.begun[channel] + line.lag + line.skew[channel]
            self.at(begun + rng.uniform(0, kind.early), lambda channel=channel: self._acknowledge(line, channel))
            self._bring(line, channel, 0)
        return line

    def _acknowledge(self, line: Line, channel: str) -> None:
        if line.is_alive:
            line.acknowledged[channel] = self.now
            self.acknowledged(line, channel)

    def _bring(self, line: Line, channel: str, index: int) -> None:
        log = self.by_channel[channel]
        while index < len(log) and log[index].time < line.begun[channel]:
            index += 1
        if index < len(log):
            sent = log[index]
            when = sent.time + line.lag + line.skew[channel] + self.rng.uniform(0, 0.004)
            if line.stall[0] <= when < line.stall[1]:
                when = line.stall[1]
            line.last[channel] = when = max(line.last[channel], when)
            self.at(when, lambda: self._arrive(line, sent, index))

    def _arrive(self, line: Line, sent: Sent, index: int) -> None:
        if not line.is_alive or sent.time >= line.stopped_at:
            return
        self._bring(line, sent.channel, index + 1)
        if sent.time < line.muted_at:
            self.first_arrival.setdefault(sent, self.now)
            self.arrived(line, sent)

    def acknowledged(self, line: Line, channel: str) -> None:
        """Tell the matcher of an acknowledgement."""
        self.matcher.acknowledged(line.number, channel, self.now)

    def arrived(self, line: Line, sent: Sent) -> None:
        """Tell the matcher of a message."""
        self.matcher.arrived(line.number, sent.channel, sent.key, sent, 100, self.now)

    @property
    def alive(self) -> list[Line]:
        """The open lines."""
        return [line for line in self.lines if line.is_alive]


class LinesLife(World):
    """Two lines with the same messages. A line that has ended is opened again."""

    def start(self) -> None:
        rng, kind = self.rng, self.kind
        self.open(0)
        self.open(1, lag=kind.far or None)
        time = 2.8
        while kind.kills and time < END - 1.5:
            self.at(time, self._kill_one)
            time += rng.uniform(0.9, 2.2)
        if kind.both:
            self.at(rng.uniform(3, 5), self._kill_all)
        if kind.mute:
            line, muted_at = self.lines[rng.randrange(2)], rng.uniform(3, 4)
            line.muted_at = muted_at
            self.at(muted_at + rng.uniform(0.1, 3), lambda: self.kill(rng.choice(self.alive)))
            self.at(7.0, lambda: self.kill(line))
        if kind.stalls:
            for line in self.lines:
                begin = rng.uniform(3, 6)
                line.stall = begin, begin + rng.choice((rng.uniform(0.05, 1.0), rng.uniform(1.0, 3.0)))
                # The matcher gives up a line that is silent for longer than ``reach``.
                self.at(begin, lambda line=line: self.excuse(line.stall[1] - line.stall[0] + RECOVERY))
        if kind.rotates:
            for round_ in range(3):
                self.at(1.8 + 2.2 * round_ + rng.random(), lambda: self._rotate(rng.choice(self.alive)))

    def kill(self, line: Line, back: float | None = None) -> None:
        """End a line, and open another line in its slot."""
        if not line.is_alive:
            return
        line.is_alive = False
        self.kills += 1
        # With little memory the matcher forgets messages before they arrive on a line that is far behind.
        is_unlike = self.kind.memory < 1000 and line.lag > 1
        if is_unlike or not self.has_sound_line():
            self.excuse()
        self.matcher.ended(line.number, self.now)
        back = self.rng.uniform(0.05, 0.5) if back is None else back
        far = (self.kind.far or None) if line.slot == 1 else None
        self.at(self.now + back, lambda: self.open(line.slot, far))

    def reopen(self, number: int) -> None:
        self.kill(self.lines[number - 1], 0.1)

    def _kill_one(self) -> None:
        if self.alive:
            self.kill(self.rng.choice(self.alive))

    def _kill_all(self) -> None:
        for line in self.rng.sample(self.alive, len(self.alive)):
            delay = self.rng.uniform(0, 0.01)
            self.at(self.now + delay, lambda line=line: self.kill(line))

    def _rotate(self, old: Line) -> None:
        new = self.open(old.slot)

        def look() -> None:
            if old.is_alive and new.is_alive and self.now < END:
                if len(new.acknowledged) == len(CHANNELS) and self.matcher.is_joined(new.number):
                    old.stopped_at = self.now + 0.01
                    self.at(self.now + 0.15, end)
                else:
                    self.at(self.now + TICK, look)

        def end() -> None:
            if old.is_alive:
                old.is_alive = False
                self.matcher.ended(old.number, self.now)

        self.at(self.now + 0.1, look)


class RotationLife(World):
    """One line that is replaced repeatedly. Each replacement has a new matcher, as each overlap of a feed has."""

    def start(self) -> None:
        self.old = self.open(0)
        self.new: Line | None = None
        self.is_ended = self.is_replaced = self.is_complete = False
        self.last_new = 0.0
        self.agreed_at = math.inf
        if self.kind.mute:
            self.old.muted_at = self.rng.uniform(1.2, 2.5)
            self.at(self.old.muted_at + self.rng.uniform(0.6, 1.5), lambda: self._end_old(is_complete=False))
        self.at(1.0, self._rotate)

    def _rotate(self) -> None:
        """Begin an overlap of the present line and a new line."""
        self.collect()
        self.matcher = Matcher(self.limits)
        self.matcher.begin(self.old.number, CHANNELS, self.now, self.last_new)
        self.is_ended = self.is_replaced = self.is_complete = False
        self.agreed_at = math.inf
        self.new = self.open(0)
        self.deadline = self.now + 5.0
        self.matcher.reserve(self.new.number)
        if self.kind.kills and self.rng.random() < 0.7:
            self.at(self.now + self.rng.uniform(0.1, 1.5), lambda old=self.old: self._kill(old))

    def _kill(self, line: Line) -> None:
        if line.is_alive and line is self.old and not self.is_ended:
            self.kills += 1
            self._end_old(is_complete=False)

    def _end_old(self, *, is_complete: bool) -> None:
        if self.is_ended or not self.old.is_alive:
            return
        assert self.new is not None
        self.old.is_alive = False
        self.is_ended, self.is_complete = True, is_complete
        if math.isinf(self.agreed_at):
            self.excuse(3.5)
        self.at(self.now + self.rng.uniform(0, 0.05), self._replace)

    def _replace(self) -> None:
        assert self.new is not None
        self._note_end()
        self.matcher.replace(self.new.number, self.now, is_complete=self.is_complete)
        self.is_replaced = True

    def _note_end(self) -> None:
        if self.is_ended and self.old.number:
            self.matcher.ended(self.old.number, self.now)

    def arrived(self, line: Line, sent: Sent) -> None:
        if self.new is None or (line is self.old and self.is_replaced):
            self.out.append((self.now, sent))
            self.last_new = self.now
            return
        if line is self.new and not self.is_replaced:
            self._note_end()
        super().arrived(line, sent)

    def acknowledged(self, line: Line, channel: str) -> None:
        if self.new is not None:
            super().acknowledged(line, channel)

    def tick(self) -> None:
        if self.new is None:
            return
        super().tick()
        is_subscribed = len(self.new.acknowledged) == len(CHANNELS)
        if not self.is_ended and is_subscribed and math.isinf(self.old.stopped_at):
            if self.matcher.agrees(self.new.number, self.now):
                self.agreed_at = self.now
            elif self.now < self.deadline:
                return
            # Until it closes the line, the server keeps sending. These messages still arrive on the line.
            self.old.stopped_at = self.now + 0.01
            self.at(self.now + 0.2, lambda: self._end_old(is_complete=True))
        elif self.is_replaced and self.now < END - 2 and self.matcher.is_settled(self.now):
            self.collect()
            self.old, self.new = self.new, None
            self.last_new = max((time for time, each in self.out if isinstance(each, Sent)), default=0.0)
            self.at(self.now + self.rng.uniform(0.05, 0.5), self._rotate)


class ResumeLife(World):
    """One line that is cut repeatedly. On the next line the server sends all messages from a cursor on again."""

    def __init__(self, kind: Kind, seed: str) -> None:
        super().__init__(kind, seed)
        proof = Proof.STATEMENT if kind.resumes == "stated" else Proof.COPIES
        self.matcher = Matcher(self.limits, proof=proof)

    def start(self) -> None:
        self.connect(0)
        self.at(self.rng.uniform(2.0, 3.0), self.cut)

    def connect(self, first: int, live: int | None = None) -> None:
        """Open a line on which the server sends the log from index ``first`` on.

        The messages before index ``live`` are a replay and arrive at once. Later ones arrive as the server sends them.
        """
        rng, live = self.rng, first if live is None else live
        line = Line(len(self.lines) + 1, 0, {}, rng.uniform(0, 0.06), {})
        self.lines.append(line)
        for channel in CHANNELS:
            self.acknowledged(line, channel)
        when = self.now
        if "greeted" in self.kind.resumes:
            greeting = Sent(self.now, "greeting", len(self.lines), f"hello {len(self.lines)}", True)
            self.at(when, lambda: self.greet(line, greeting))
        if self.kind.resumes == "stated" and line.number > 1:
            # The statement may arrive before, during or after the replay.
            self.at(when + rng.uniform(0.0, 0.3), lambda: self.state(line))
        for place in range(first, len(self.log)):
            sent = self.log[place]
            when = max(when + rng.uniform(0, 0.0005), sent.time + line.lag if place >= live else 0.0)
            self.at(when, lambda sent=sent: self.bring(line, sent))

    def greet(self, line: Line, greeting: Sent) -> None:
        """Let a greeting arrive, which the server sends again on each connection."""
        if line.is_alive:
            if line.number == 1:
                self.matcher.acknowledged(line.number, "greeting", self.now)
            self.matcher.arrived(line.number, "greeting", greeting.key, greeting, 20, self.now)

    def state(self, line: Line) -> None:
        """Deliver the server's statement that the line resumes without a loss."""
        if line.is_alive:
            self.matcher.stated(line.number, self.now, is_resumed=True)

    def bring(self, line: Line, sent: Sent) -> None:
        """Let a message arrive on a line."""
        if line.is_alive:
            self.first_arrival.setdefault(sent, self.now)
            self.arrived(line, sent)

    def cut(self) -> None:
        """End the line, and open the next one. The kind of the life decides at which message the next one begins."""
        rng, how = self.rng, self.kind.resumes
        line = self.lines[-1]
        line.is_alive = False
        self.kills += 1
        self.matcher.ended(line.number, self.now)
        last = [each for _, each in self.out if isinstance(each, Sent) and each.channel in CHANNELS][-1]
        cursor = self.log.index(last)
        back = self.now + rng.uniform(0.05, 0.5)
        live = next(place for place, each in enumerate(self.log) if each.time > back)
        first = {
            "rewound": max(0, cursor - rng.randrange(1, 40)),
            "stated": cursor + 1,
            "before memory": max(0, cursor - 200),
            "forgotten": live,
            "forgotten greeted": live,
        }.get(how, cursor)
        if first == live or (self.kind.repeats and not last.is_unique):
            # Either the server has forgotten the cursor, so messages are lost. Or the message at the cursor is not
            # unique and proves nothing, so a short replay may not prove anything either.
            self.excuse(1.5 if first == live else 4.0)
        self.at(back, lambda: self.connect(first, live))
        if how == "cut again" and self.kills == 1:
            # Cut the next line before it has proven anything, or during its replay.
            self.at(back + rng.uniform(0, 0.02), self.cut)
        elif self.now < 4.5:
            self.at(back + rng.uniform(1.2, 2.0), self.cut)


# The oracle


def judge(world: World) -> Counter[str]:
    """Return the number of faults of each kind. Names that begin with ``#`` are figures and not faults."""
    found: Counter[str] = Counter()
    gaps = [(time, each) for time, each in world.out if isinstance(each, GapFound)]
    found["# gaps"], found["# kills"], found["# lives"] = len(gaps), world.kills, 1
    for time, _ in gaps:
        if not any(start <= time <= end for start, end in world.excuses):
            found["gap while a joined line lived"] += 1
    for channel in CHANNELS:
        _judge_channel(world, channel, found)
    return found


def _judge_channel(world: World, channel: str, found: Counter[str]) -> None:
    sent = world.by_channel[channel]
    # The numbers of the messages since the last gap, and of those before it.
    seen: set[int] = set()
    before: set[int] = set()
    last = newest = 0
    gaps_behind: dict[int, list[GapFound]] = defaultdict(list)
    repeats: dict[int, Counter[str]] = defaultdict(Counter)
    for _, each in world.out:
        if isinstance(each, GapFound):
            if channel in each.channels:
                gaps_behind[last].append(each)
                before |= seen
                seen, newest = set(), 0
        elif each.channel == channel and not each.is_unique:
            repeats[last][each.key] += 1
        elif each.channel == channel:
            found["twice"] += each.number in seen
            found["out of order"] += each.number < newest
            # With little memory a message may be delivered twice, as the matcher forgets it before a late line has it.
            found["# twice, forgotten" if world.kind.memory < 1000 else "twice, after a gap"] += each.number in before
            seen.add(each.number)
            last = newest = max(newest, each.number)
    seen |= before
    previous = None
    for each in sent:
        if each.number in seen:
            previous = each.number
        elif each.is_unique and previous is not None and each.time < END - world.kind.far:
            _judge_missing(world, each, gaps_behind[previous], found)
    found["# messages"] += len(seen)
    ordered = sorted(seen)
    for first, second in itertools.pairwise(ordered):
        between = sent[first : second - 1]
        if not gaps_behind[first] and not any(each.is_unique for each in between):
            true = Counter(each.key for each in between)
            found["# repeats"] += true.total()
            found["# repeats wrong"] += (true - repeats[first]).total() + (repeats[first] - true).total()


def _judge_missing(world: World, sent: Sent, gaps: list[GapFound], found: Counter[str]) -> None:
    if not gaps:
        found["lost without a gap"] += 1
        return
    # A gap ends when the first channel is acknowledged. The other channels are acknowledged later, by their lag.
    ends = [gap.end + 0.03 + world.kind.late for gap in gaps]
    # A channel that is lost again before it has delivered anything is not named in a second gap.
    ends += [end for start, end in world.excuses if any(gap.end <= start + 0.2 for gap in gaps)]
    if not any(gap.start - 0.2 <= sent.time for gap in gaps) or sent.time > max(ends):
        found["lost outside the times of the gap"] += 1


def play(kind: str, seed: int) -> Counter[str]:
    """Run one life, and return the counts of :func:`judge`."""
    ingredients = KINDS[kind]
    life = {"lines": LinesLife, "rotation": RotationLife, "resume": ResumeLife}[ingredients.driver]
    return judge(life(ingredients, f"{kind} {seed}").run())


def faults(found: Counter[str]) -> dict[str, int]:
    """Return the faults without the figures."""
    return {name: count for name, count in found.items() if count and not name.startswith("#")}


def total_of(kind: str, seeds: Iterable[int]) -> tuple[Counter[str], dict[int, dict[str, int]]]:
    """Run lives of one kind; return all counts, and the faults by seed."""
    total: Counter[str] = Counter()
    faulty = {}
    for seed in seeds:
        found = play(kind, seed)
        total += found
        if faults(found):
            faulty[seed] = faults(found)
    return total, faulty


def main() -> int:
    """Run many lives, and print the faults by kind; return 1 if there are any."""
    parser = argparse.ArgumentParser(prog="python -m tests.connections.matching.simulation")
    parser.add_argument("--count", type=int, default=1000, help="how many lives in all (default: 1000)")
    parser.add_argument("--seed", type=int, default=0, help="the first seed (default: 0)")
    parser.add_argument("--kind", choices=KINDS, help="one kind of lives only")
    options = parser.parse_args()
    kinds = [options.kind] if options.kind else [*KINDS]
    is_faulty = False
    for kind in kinds:
        seeds = range(options.seed, options.seed + max(1, options.count // len(kinds)))
        total, faulty = total_of(kind, seeds)
        is_faulty = is_faulty or bool(faulty)
        for seed, found in faulty.items():
            print(f"  {kind}, seed {seed}: {found}")
        print(f"{kind}: {dict(total)}", flush=True)
    return is_faulty


if __name__ == "__main__":
    sys.exit(main())
