"""The docstrings: every public name has one, and every example in one is run."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import importlib
import inspect
import json
import math
import textwrap
import time
from pathlib import Path
from types import SimpleNamespace

import pandas
import pytest
import reactivex
import websockets
from reactivex import operators

import rxws
from rxws.interface import feed_of

PACKAGE = Path(rxws.__file__).parent


def documented():
    """Yield each docstring example that is not a doctest, with its module."""
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(("rxws", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
        if module.startswith("rxws.cli"):
            # A command runs its own event loop: test_cli runs these examples.
            continue
        text = path.read_text()
        for node in ast.walk(ast.parse(text)) if "Example::" in text else ():
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                _, found, example = (ast.get_docstring(node) or "").partition("Example::\n")
                if found and ">>>" not in example:
                    yield pytest.param(module, code_of(example), id=f"{module}.{getattr(node, 'name', '')}")


def code_of(example):
    """Return the indented lines at the start of an example."""
    lines = example.strip("\n").splitlines()
    code = [line for line in lines if not line.strip() or line.startswith("    ")]
    return textwrap.dedent("\n".join(lines[: lines.index(code[-1]) + 1]))


class Book:
    """An order book that a reader of the documentation might write."""

    def __init__(self, snapshot):
        self.snapshot = snapshot

    def apply(self, change):
        assert change["e"] == "depthUpdate"


@contextlib.asynccontextmanager
async def surroundings(module, folder):
    """Yield the names that an example may use: imports, a feed, and objects of the reader."""
    async with rxws.demo.serve(rate=500) as exchange, rxws.ReactiveWebSocket(exchange) as ws:
        await ws.wait_connected()
        with rxws.record(ws, folder / "feed.jsonl.gz"):
            await asyncio.sleep(0.05)

        class MyFeed(rxws.ReactiveWebSocket):
            pass

        yield {
            **vars(importlib.import_module(module)),
            "asyncio": asyncio,
            "json": json,
            "math": math,
            "time": time,
            "rxws": rxws,
            "pandas": pandas,
            "rx": reactivex,
            "ops": operators,
            "websockets": websockets,
            "pytest": pytest,
            "ReactiveWebSocket": rxws.ReactiveWebSocket,
            "ws": ws,
            "spot": ws,
            "futures": ws,
            "now": time.monotonic(),
            "MyFeed": MyFeed,
            "Feed": lambda: rxws.ReactiveWebSocket(exchange),
            "stream": ws.stream_filter(),
            "database": SimpleNamespace(insert=lambda rows: None),
            "button": SimpleNamespace(on_click=lambda function: None),
            "serve": lambda: SimpleNamespace(close=lambda: None),
            "Book": Book,
            "book": SimpleNamespace(apply=lambda item: None),
            "fetch": lambda: exchange.get_json("/depth?symbol=BTCUSDT"),
            "URL": exchange.url,
            "urls": [exchange.url],
            "reporter": feed_of(ws).reporter,
            "function": str,
            "message": {"e": "trade"},
        }


ENDLESS = ("async for", "sleep(3600)", "seconds=10")
"""Parts of examples that run endlessly. The test stops them after 0.2 seconds, a hundred messages."""


@pytest.mark.parametrize(("module", "code"), list(documented()))
async def test_example_runs(module, code, tmp_path, monkeypatch, capsys):
    """An example runs unchanged on the demo feed, to its end or until the test stops it."""
    monkeypatch.chdir(tmp_path)
    is_endless = any(each in code for each in ENDLESS)
    async with surroundings(module, tmp_path) as names:
        code = code.replace("ws://localhost:8765", names["URL"])
        exec(compile(f"async def example():\n{textwrap.indent(code, '    ')}", module, "exec"), names)
        try:
            async with asyncio.timeout(0.2 if is_endless else 20) as limit:
                await names["example"]()
        except TimeoutError:
            assert is_endless
            assert limit.expired()


@pytest.mark.parametrize("name", rxws.__all__)
def test_public_name_is_documented(name):
    """Every public name has a docstring, and so has each of its public members."""
    public = getattr(rxws, name)
    assert inspect.getdoc(public)
    if inspect.isclass(public):
        for member, value in vars(public).items():
            if not member.startswith("_") and (inspect.isroutine(value) or isinstance(value, property)):
                assert inspect.getdoc(value), f"{name}.{member}"
