"""Plays lives by seed, and shows the shortest life that fails: ``python -m tests.lives --count 1000``.

A seed is the same life on every machine: ``--seed 17 --count 1`` plays one again. Without ``--seed`` the seeds are new
each time. ``--real`` plays the same lives on loopback sockets, in real time. Exit codes: 0 all passed; 1 some failed.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import functools
import logging
import multiprocessing
import os
import random
import sys
import time
from collections.abc import Collection, Iterator

from rxws.testing.lives import INGREDIENTS, KNOWN, Report, compose, shorter

from .work import play_one, play_some

CHUNK = 10
"""How many lives one task of the process pool runs."""

MOST_SHRUNK = 5
"""The command searches the shortest failing life for at most this many failures."""


def failures(options: argparse.Namespace, without: Collection[str]) -> Iterator[Report]:
    """Play all lives in processes, and yield the reports of those that failed, in the order of their seeds."""
    size = 1 if options.real else CHUNK
    seeds = range(options.seed, options.seed + options.count)
    chunks = [seeds[start : start + size] for start in range(0, len(seeds), size)]
    work = functools.partial(play_some, without=without, only=options.only, is_real=options.real)
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(options.jobs, context) as pool:
        for reports in pool.map(work, chunks):
            yield from reports


def main() -> int:
    """Parse the command line, play, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.lives", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=100, help="how many lives (default: 100)")
    parser.add_argument("--seed", type=int, help="the seed of the first life; the others follow (default: random)")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="use exactly these ingredients")
    parser.add_argument("--without", nargs="*", default=[], metavar="NAME", help="leave these ingredients out")
    parser.add_argument("--known", action="store_true", help="also use ingredients that rxws does not survive yet")
    parser.add_argument("--list", action="store_true", help="list all ingredients, and exit")
    parser.add_argument("--real", action="store_true", help="play on loopback sockets, in real time")
    parser.add_argument("--jobs", type=int, help="how many processes (default: one per core; with --real 12)")
    options = parser.parse_args()
    if options.list:
        for name, (ingredient, _) in INGREDIENTS.items():
            known = f" KNOWN: {KNOWN[name]}" if name in KNOWN else ""
            print(f"{name}: {(ingredient.__doc__ or '').strip()}{known}")
        return 0
    if options.count < 1:
        parser.error("--count must be at least 1")
    if options.jobs is not None and options.jobs < 1:
        parser.error("--jobs must be at least 1")
    try:
        compose(0, options.without, options.only)
    except ValueError as error:
        parser.error(str(error))
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(10**9)
    options.jobs = options.jobs or (12 if options.real else os.cpu_count() or 1)
    without = [*options.without, *(() if options.known or options.only else KNOWN)]
    logging.disable(logging.CRITICAL)
    print(f"lives of the seeds from {options.seed} on: --seed {options.seed} plays them again", flush=True)
    began, failed = time.monotonic(), 0
    for report in failures(options, without):
        failed += 1
        if failed <= MOST_SHRUNK and not options.real:
            print("shortest life that fails:", shorter(report, play_one), sep="\n", end="\n\n", flush=True)
        else:
            print(report, end="\n\n", flush=True)
    print(f"{options.count} lives, {failed} failed, {time.monotonic() - began:.0f} s")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
