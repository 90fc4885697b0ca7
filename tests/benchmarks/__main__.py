"""``python -m tests.benchmarks``: measure the rows, and show which targets are reached."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from rxws.testing import serve_in_process

from . import compare
from .contenders import Run
from .profiling import profile
from .rows import PAIRS, ROWS, Result, Row

README = Path(__file__).resolve().parents[1] / "README.rst"

GROUPS = ("nats",)
"""The groups of rows: the beginnings of their names."""

LIFETIME = 4 * 3600.0
"""Seconds after which the server ends by itself."""


def shown(row: Row, figure: float) -> str:
    return f"{figure:,.0f}{row.unit}" if row.unit and figure >= 100 else f"{figure:.2f}{row.unit}"


def to_reach(row: Row) -> str:
    return "" if row.target is None else f"{'≤' if row.at_most else '≥'} {shown(row, row.target)}"


def line(row: Row, result: Result) -> str:
    mark = "" if row.target is None else "reached" if row.is_reached(result.value) else "NOT REACHED"
    low, high = result.spread
    costs = "" if result.theirs is None else f"  {result.ours:,.2f} : {result.theirs:,.2f} {row.cost_unit}"
    return (
        f"{row.name:20} {shown(row, result.value):>14}   {to_reach(row):14} {mark:12}"
        f" ({shown(row, low)} to {shown(row, high)}){costs}"
    )


def table(results: dict[str, Result]) -> str:
    """Return the README's table, in reStructuredText."""
    lines = [".. list-table::", "   :header-rows: 1", "   :widths: 46 34 10 10", ""]
    cells = [("what", "against", "to reach", "measured")]
    cells += [
        (row.what, row.against or "—", to_reach(row) or "—", shown(row, results[row.name].value))
        for row in ROWS
        if row.name in results
    ]
    for cell in cells:
        lines += [f"   {'*' if number == 0 else ' '} - {text}" for number, text in enumerate(cell)]
    return "\n".join(lines) + "\n"


def write_readme(results: dict[str, Result]) -> None:
    start, end = ".. benchmarks: begin", ".. benchmarks: end"
    before, _, rest = README.read_text().partition(start)
    _, _, after = rest.partition(end)
    README.write_text(f"{before}{start}\n\n{table(results)}\n{end}{after}")


async def measure(rows: Sequence[Row], arguments: argparse.Namespace) -> int:
    """Measure the rows; return the exit code: 0 when all targets are reached."""
    results = {}
    async with serve_in_process(module="tests.benchmarks.server", lifetime=LIFETIME) as server:
        for row in rows:
            try:
                with profile() if arguments.profile else nullcontext() as taken:
                    results[row.name] = await row.measure(Run(server.url, arguments.scale), arguments.pairs)
            except ModuleNotFoundError as error:
                print(f"{row.name}: not measured without rxws[benchmarks]: {error}", file=sys.stderr, flush=True)
                continue
            if not arguments.json:
                print(line(row, results[row.name]), flush=True)
            if taken is not None and taken.samples:
                print(taken.table(results[row.name].value, row.cost_unit), flush=True)
    if arguments.json:
        figures = {
            name: {"value": r.value, "spread": r.spread, "ours": r.ours, "theirs": r.theirs}
            for name, r in results.items()
        }
        json.dump(figures, sys.stdout, indent=2)
    is_complete = len(results) == len(rows)
    if arguments.readme and is_complete:
        write_readme(results)
    return 0 if is_complete and all(row.is_reached(results[row.name].value) for row in rows) else 1


async def compare_with(rows: Sequence[Row], arguments: argparse.Namespace) -> int:
    """Compare the rows with another checkout; return the exit code: 0 when none is worse."""
    if not arguments.json:
        print(f"{'':20} {'old':>10} {'new':>10} {'':5} old/new  (middle half of the pairs)")
    comparisons = []
    async with serve_in_process(module="tests.benchmarks.server", lifetime=LIFETIME) as server:
        for row in compare.distinct(rows):
            run = Run(server.url, arguments.scale)
            comparisons.append(await compare.compare(arguments.compare, row, run, arguments.pairs))
            if not arguments.json:
                print(comparisons[-1], flush=True)
    if arguments.json:
        figures = {c.row.name: {"old": c.old, "new": c.new, "ratio": c.ratio, "worse": c.is_worse} for c in comparisons}
        json.dump(figures, sys.stdout, indent=2)
    return 1 if any(comparison.is_worse for comparison in comparisons) else 0


def checkout(text: str) -> Path:
    path = Path(text).resolve()
    if not (path / "rxws" / "__init__.py").is_file():
        raise argparse.ArgumentTypeError(f"{text}: expected a folder with the package rxws in it")
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, measure, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    names = [row.name for row in ROWS]
    parser.add_argument(
        "--only",
        action="append",
        choices=[*names, *GROUPS],
        metavar="NAME",
        help=f"measure one row, or the rows of a group ({', '.join(GROUPS)}); may be given several times: "
        + ", ".join(names),
    )
    parser.add_argument(
        "--profile", action="store_true", help="show which modules take the time; only rows of NATS are profiled"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--readme", action="store_true", help="write the table into tests/README.rst")
    parser.add_argument(
        "--compare",
        type=checkout,
        metavar="PATH",
        help="measure only rxws, alternately with the rxws of another checkout (a git worktree, for example); prints "
        f"old cost / new cost, and exits with 1 if a row is worse by more than {compare.TOLERANCE:.0%}".replace(
            "%", "%%"
        ),
    )
    parser.add_argument(
        "--pairs", type=int, help=f"rounds of each row (default: mostly {PAIRS}; with --compare {compare.PAIRS})"
    )
    parser.add_argument("--scale", type=float, default=1.0, help="factor for the numbers of messages (default: 1)")
    parsed = parser.parse_args(arguments)
    if parsed.readme and (parsed.only or parsed.compare):
        parser.error("--readme takes neither --only nor --compare: the table has all rows")
    only = parsed.only or []
    rows = [row for row in ROWS if not only or row.name in only or row.name.partition("-")[0] in {*only} & {*GROUPS}]
    logger = logging.getLogger("rxws")
    level = logger.level
    try:
        # Consumers lag in a burst, as expected. Show no warnings about this between the rows.
        logger.setLevel(logging.ERROR)
        return asyncio.run((compare_with if parsed.compare else measure)(rows, parsed))
    finally:
        logger.setLevel(level)


if __name__ == "__main__":
    raise SystemExit(main())
