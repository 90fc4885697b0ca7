"""Parses the command line, and names what was meant where a command or an option is misspelt."""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NoReturn

from ..reporting import redact

__all__ = ["Declare", "Parser"]

Declare = Callable[..., argparse.ArgumentParser]
"""The type of argparse's ``add_parser``, which declares a command."""

ALIKE: Final = 0.6
"""How similar a name must be to be suggested, from 0 to 1."""


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that prints errors as one line, and ignores a closed pipe when it prints the help.

    Attributes:
        commands: the parsers of the commands, by name; empty for the parser of a command.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **options)
        self.commands: Mapping[str, Any] = {}

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Parse the arguments. Unknown ones are an error of the command that they were given to, not of ``rxws``."""
        given: Sequence[str] = sys.argv[1:] if args is None else args
        # argparse itself would first complain about the value of a misspelt option, which it takes for a URL.
        self._check_names(given)
        options, unknown = super().parse_known_args(given, namespace)
        if unknown:
            filters = " (a filter is written --filter K=V)" * ("=" in unknown[0] and "--filter" in self._names)
            self.error(f"unexpected argument {unknown[0]!r}{filters}")
        return options, unknown

    def _check_names(self, arguments: Iterable[str]) -> None:
        for argument in arguments:
            name = argument.partition("=")[0]
            if argument == "--":
                return
            if name.startswith("--") and " " not in argument and name not in self._names:
                self.error(f"there is no option {name!r}{_meant(name, self._names)}")
            if self.commands and not argument.startswith("-"):
                if argument not in self.commands:
                    self.error(f"there is no command {argument!r}{_meant(argument, self.commands)}")
                return

    @property
    def _names(self) -> list[str]:
        return [name for name in self._option_string_actions if name.startswith("--")]

    def error(self, message: str) -> NoReturn:
        """Print the error, and exit with code 2."""
        self.exit(2, f"{self.prog}: error: {redact(message)} (see: {self.prog} --help)\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        super()._print_message(message, file)
        if file is sys.stdout and file is not None:
            try:
                file.flush()
            except BrokenPipeError:
                # Otherwise the interpreter flushes the closed pipe again when it exits, and prints an error.
                os.dup2(os.open(os.devnull, os.O_WRONLY), file.fileno())


def _meant(name: str, names: Iterable[str]) -> str:
    nearest = difflib.get_close_matches(name, list(names), 1, ALIKE)
    return f": did you mean {nearest[0]}?" if nearest else ""
