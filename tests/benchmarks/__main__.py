"""``python -m tests.benchmarks``: measure, and say what is reached."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path

from rxws.testing import serve_in_process

from .rows import ROWS, Result, Row

README = Path(__file__).resolve().parents[2] / "README.rst"


def shown(row: Row, figure: float) -> str:
    return f"{figure:,.0f}{row.unit}" if row.unit and figure >= 100 else f"{figure:.2f}{row.unit}"


def to_reach(row: Row) -> str:
    return "" if row.target is None else f"{'≤' if row.at_most else '≥'} {shown(row, row.target)}"


async def measure(rows: list[Row], as_json: bool) -> dict[str, Result]:
    results = {}
    async with serve_in_process(module="tests.benchmarks.server", lifetime=3600) as server:
        for row in rows:
            result = results[row.name] = await row.measure(server.url)
            if as_json:
                continue
            mark = "" if row.target is None else "reached" if row.is_reached(result) else "NOT REACHED"
            low, high = result.spread
            print(
                f"{row.name:20} {shown(row, result.value):>14}   {to_reach(row):14} {mark:12}"
                f" ({shown(row, low)} to {shown(row, high)})  {result.rates}",
                flush=True,
            )
    return results


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


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    names = [row.name for row in ROWS]
    parser.add_argument(
        "--only",
        action="append",
        choices=names,
        metavar="NAME",
        help=f"measure one row; may be given several times: {', '.join(names)}",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--readme", action="store_true", help="write the table into README.rst")
    arguments = parser.parse_args()
    rows = [row for row in ROWS if not arguments.only or row.name in arguments.only]
    if arguments.only and arguments.readme:
        parser.error("--readme takes no --only: the table has all rows")
    results = asyncio.run(measure(rows, arguments.json))
    if arguments.json:
        json.dump(
            {name: {"value": r.value, "spread": r.spread, "rates": r.rates} for name, r in results.items()},
            sys.stdout,
            indent=2,
        )
    if arguments.readme:
        start, end = ".. benchmarks: begin", ".. benchmarks: end"
        before, _, rest = README.read_text().partition(start)
        _, _, after = rest.partition(end)
        README.write_text(f"{before}{start}\n\n{table(results)}\n{end}{after}")
    return 0 if all(row.is_reached(results[row.name]) for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
