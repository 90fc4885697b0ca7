"""Makes the picture of ``rxws demo`` that README.rst shows, from what the demo really prints on a terminal.

``python -m tests.demo_picture`` writes ``.github/demo.svg``: the screens of one run, one after the other, as an
animated SVG. The last one stays longest, and is the one that a viewer without animation shows.
"""

from __future__ import annotations

import html
import itertools
import os
import pty
import select
import subprocess
import sys
import termios
import time
from typing import Final, NamedTuple

import pyte

from .support.terminal import ENVIRONMENT, ROOT

PICTURE: Final = ROOT / ".github" / "demo.svg"

COLUMNS: Final = 84
"""Columns of the terminal."""
ROWS: Final = 28
"""Lines of the terminal."""

INTERVAL: Final = 0.5
"""Seconds between two screens."""

HOLD: Final = 8.0
"""Seconds for which the last screen is shown."""

WIDTH: Final = 8.4
"""Width of a character in pixels."""
HEIGHT: Final = 17.0
"""Height of a line in pixels."""
MARGIN: Final = 14.0
"""Margin in pixels."""

COLOURS: Final = {"default": "#d4d4d4", "green": "#4ec96f", "red": "#ff6b68", "brown": "#e5c07b", "dim": "#8a8f98"}
"""Colours by the names of pyte, which calls yellow brown."""

Line = tuple[tuple[str, str, bool], ...]
"""The runs of a line: text, colour, and whether it is bold."""


class Screen(NamedTuple):
    """What a terminal shows, from a time on."""

    start: float
    lines: tuple[Line, ...]

    @property
    def text(self) -> str:
        """The lines without colours."""
        return "\n".join("".join(text for text, _, _ in line).rstrip() for line in self.lines)


def watch(*arguments: str, columns: int = COLUMNS, rows: int = ROWS) -> list[Screen]:
    """Run ``rxws ARGUMENTS`` on a terminal, and return its screens.

    Raises:
        subprocess.CalledProcessError: the command failed.
    """
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (rows, columns))
    environment = ENVIRONMENT | {"TERM": "xterm-256color"}
    command = [sys.executable, "-m", "rxws", *arguments]
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environment, cwd=ROOT)
    os.close(slave)
    screen = pyte.Screen(columns, rows)
    stream = pyte.ByteStream(screen)
    shown: list[Screen] = []
    began = time.monotonic()
    try:
        for due in itertools.count(1):
            is_open = _feed(stream, master, began + due * INTERVAL)
            lines = tuple(_line(screen, row, columns) for row in range(rows))
            if not shown or shown[-1].lines != lines:
                shown.append(Screen(time.monotonic() - began, lines))
            if not is_open:
                break
    finally:
        os.close(master)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return shown


def _feed(stream: pyte.ByteStream, master: int, until: float) -> bool:
    """Feed the screen until a time; return whether the program still has the terminal open."""
    while (left := until - time.monotonic()) > 0:
        if select.select([master], [], [], left)[0]:
            try:
                stream.feed(os.read(master, 65536))
            except OSError:  # On Linux, reading raises an error at the end of the output.
                return False
    return True


def _line(screen: pyte.Screen, row: int, columns: int) -> Line:
    cells = [screen.buffer[row][column] for column in range(columns)]
    runs = itertools.groupby(cells, lambda cell: (cell.fg, cell.bold))
    return tuple(("".join(cell.data for cell in run), fg, bold) for (fg, bold), run in runs)


def drawn(screens: list[Screen]) -> str:
    """Return the screens as an animated SVG."""
    # Empty lines at the bottom of all screens are left out.
    rows = max(len(screen.text.rstrip("\n").splitlines()) for screen in screens)
    began, seconds = screens[0].start, screens[-1].start - screens[0].start + HOLD
    width, height = COLUMNS * WIDTH + 2 * MARGIN, rows * HEIGHT + 2 * MARGIN
    rules, groups = [], []
    for number, screen in enumerate(screens):
        end = screens[number + 1].start - began if number + 1 < len(screens) else seconds
        start, end = (screen.start - began) / seconds * 100, end / seconds * 100
        # Without animation only the last screen is visible.
        is_last = number + 1 == len(screens)
        rules.append(
            f"@keyframes s{number}{{0%,{start:.2f}%{{opacity:0}}{start:.2f}%,{end:.2f}%{{opacity:1}}"
            f"{end:.2f}%,100%{{opacity:{int(is_last)}}}}}"
            f"#s{number}{{opacity:{int(is_last)};animation:s{number} {seconds:.1f}s step-end infinite}}"
        )
        lines = "".join(_drawn_line(line, row) for row, line in enumerate(screen.lines[:rows]))
        groups.append(f'<g id="s{number}">{lines}</g>\n')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" role="img">\n<title>rxws demo</title>\n<style>'
        "text{font:14px ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace;white-space:pre}"
        f"{''.join(rules)}</style>\n"
        f'<rect width="100%" height="100%" rx="8" fill="#16181d"/>\n{"".join(groups)}</svg>\n'
    )


def _drawn_line(line: Line, row: int) -> str:
    parts, column = [], 0
    for text, colour, is_bold in line:
        if text.strip():
            start = column + len(text) - len(text.lstrip())
            shown = text.strip()
            length = f"{len(shown) * WIDTH:.1f}"
            fill = COLOURS.get(colour, COLOURS["default"])
            weight = ' font-weight="bold"' if is_bold else ""
            # Without a length, a font whose box drawings have another width would displace the rest.
            parts.append(
                f'<text x="{MARGIN + start * WIDTH:.1f}" y="{MARGIN + (row + 0.8) * HEIGHT:.1f}" '
                f'textLength="{length}" xml:space="preserve" fill="{fill}"{weight}>{html.escape(shown)}</text>'
            )
        column += len(text)
    return "".join(parts)


def main() -> None:
    """Write the picture."""
    screens = watch("demo")
    PICTURE.write_text(drawn(screens), encoding="utf-8")
    print(f"{PICTURE.relative_to(ROOT)}: {len(screens)} screens, {PICTURE.stat().st_size:,} bytes")
    print(screens[-1].text)


if __name__ == "__main__":
    main()
