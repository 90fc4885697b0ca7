"""The package's structure: exports, allowed imports, and edges that are imported only on use."""

from __future__ import annotations

import ast
import configparser
import importlib
import inspect
import re
import subprocess
import sys
import types
from importlib import metadata
from pathlib import Path

import pytest

import rxws

PACKAGE = Path(rxws.__file__).parent
ROOT = PACKAGE.parent

FOLDERS = {
    "reporting": set(),
    "observables": {"reporting"},
    "messages": {"observables", "reporting"},
    "display": {"reporting"},
    "streams": {"display", "messages", "observables", "reporting"},
    "connections": {"messages", "observables", "reporting"},
    "sending": {"connections", "messages", "reporting"},
    "feed": {"connections", "display", "messages", "observables", "reporting", "sending", "streams"},
}
"""The folders of the core, lowest first, with the folders that each may import. Messages and streams do not depend on
sockets, and connections do not depend on streams."""

FOUNDATION = ("errors", "callables", "checks", "codec", "delays", "heartbeat", "options", "rate_limit")
"""The modules beside the folders that every folder may import."""

FORMS = ("consuming", "interface", "websocket")
"""The modules of the public feed classes, which may import all folders."""

PURE = (
    *(
        "errors",
        "callables",
        "checks",
        "codec",
        "delays",
        "heartbeat",
        "options",
        "rate_limit",
        "reporting.redaction",
        "reporting.event",
        "reporting.connection_events",
        "reporting.events",
        "reporting.state",
    ),
    *(
        "reporting.quoting",
        "messages.conditions",
        "messages.fields",
        "messages.filters",
        "messages.shapes",
        "streams.holes",
        "streams.sequence",
        "display.snapshot",
    ),
    *(
        "connections.failures",
        "connections.backoff",
        "connections.coverage",
        "connections.ledger",
        *(
            f"connections.matching.{name}"
            for name in ("deliveries", "evidence", "matcher", "memory", "outcomes", "seats")
        ),
    ),
    *("sending.channels", "sending.subscriptions"),
)
"""The modules without an event loop and without a clock. Their callers pass the times."""

EDGES = (
    "operators",
    "books",
    "recording",
    "jupyter",
    "nats",
    "picows",
    "prometheus",
    "testing",
    "demo",
    "cli",
    "pytest_plugin",
    "__main__",
)
"""The edges around the core, which are imported only on use."""


def modules():
    """Return the syntax tree of each module, by its name below ``rxws`` ('' is the package itself)."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip(".")
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


MODULES = modules()


def is_package(name):
    """Return whether a module is a folder's ``__init__``."""
    return (PACKAGE / Path(*name.split(".")) / "__init__.py").exists() if name else True


def imports(name, tree):
    """Yield the imports from the package: pairs of module and name (None for the module itself)."""
    # Imports for type checkers in the package's root do not count: the edges are loaded on use.
    blocks = [each for each in ast.walk(tree) if isinstance(each, ast.If) and ast.unparse(each.test) == "TYPE_CHECKING"]
    checked = [node for each in blocks if name == "" for statement in each.body for node in ast.walk(statement)]
    for node in ast.walk(tree):
        if node in checked:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "rxws":
                    yield alias.name.partition(".")[2], None
        elif isinstance(node, ast.ImportFrom):
            base = (node.module or "").split(".") if node.module else []
            if node.level:
                here = ["rxws", *name.split(".")] if name else ["rxws"]
                here = here if is_package(name) else here[:-1]
                base = here[: len(here) - node.level + 1] + base
            if base[:1] != ["rxws"]:
                continue
            origin = ".".join(base[1:])
            for alias in node.names:
                inner = f"{origin}.{alias.name}".lstrip(".")
                if inner in MODULES:
                    yield inner, None
                else:
                    yield origin, alias.name


def edge_of(name):
    """Return the edge of a module, or None for a module of the core."""
    first = name.split(".")[0]
    return first if first in EDGES else None


CORE = [name for name in MODULES if name and not edge_of(name)]


def folder_of(name):
    """Return a module's folder in the core, or its own name if it is beside the folders."""
    return name.split(".")[0]


def test_every_module_has_its_place():
    """Each module of the core is in a folder of the table, or is one of the few modules beside them."""
    assert {folder_of(name) for name in CORE} == {*FOLDERS, *FOUNDATION, *FORMS}


@pytest.mark.parametrize("name", CORE)
def test_core_module_imports_only_from_allowed_folders(name):
    """A module imports only from its own folder, the folders that the table allows, and the foundation."""
    folder = folder_of(name)
    found = {folder_of(module) for module, _ in imports(name, MODULES[name])} - {folder}
    if folder in FOLDERS:
        assert found <= FOLDERS[folder] | {*FOUNDATION}
    elif folder in FOUNDATION:
        assert found <= {*FOUNDATION}
    else:
        assert found <= {*FOLDERS, *FOUNDATION, *FORMS}


@pytest.mark.parametrize("name", CORE)
def test_core_module_imports_no_private_name(name):
    """No module imports a private name of another module."""
    for module, taken in imports(name, MODULES[name]):
        assert taken is None or not taken.startswith("_"), (module, taken)


@pytest.mark.parametrize("name", [name for name in MODULES if edge_of(name)])
def test_edge_uses_public_names_only(name):
    """An edge imports only exported names of the core's folders; imports between edges are free."""
    for module, taken in imports(name, MODULES[name]):
        if taken is not None and not edge_of(module):
            assert "." not in module, (module, taken)
            origin = importlib.import_module(f"rxws.{module}" if module else "rxws")
            assert taken in origin.__all__, (module, taken)


def test_map_answers_ten_questions_with_names_that_exist():
    """The package's docstring answers ten questions, each with a module and a name in that module."""
    _, _, table = rxws.__doc__.partition("Ten questions")
    rows = re.findall(r"^    (\S[^\n]*\?) +(.*?)(?=^    \S|\Z)", table, re.MULTILINE | re.DOTALL)
    assert len(rows) == 10
    for question, answer in rows:
        names = re.findall(r"(\w+\.\w+):\s+(\w+)", answer)
        assert names, question
        for module, name in names:
            assert hasattr(importlib.import_module(f"rxws.{module}"), name), (question, module, name)


def test_map_names_every_folder_and_only_existing_modules():
    """The package's docstring names the folders in the order of the table, and only existing modules."""
    folders = re.findall(r"^    (\w+)  +[a-zO]", rxws.__doc__.partition("Beside them")[0], re.MULTILINE)
    assert folders == [*FOLDERS]
    for module in re.findall(rf"\b((?:{'|'.join(FOLDERS)})\.\w+)", rxws.__doc__):
        assert module in MODULES


def test_there_is_one_fake_server():
    """All servers in the package, the tests and the notebooks are built on FeedServer."""
    sources = [path for folder in ("rxws", "tests", "notebooks") for path in (ROOT / folder).rglob("*.py")]
    sources += (ROOT / "notebooks").rglob("*.ipynb")
    sources.append(ROOT / "README.rst")
    servers = re.compile(r"import [\w, ]*\bserve\b|websockets\.serve\(|aiohttp[\w.]*\.WebSocketResponse")
    assert [path.relative_to(ROOT).as_posix() for path in sources if serves(path, servers)] == [
        "rxws/testing/server.py"
    ]


def serves(path, servers):
    """Return whether a file uses the server of a library, apart from the demo and the commands of rxws."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return any(servers.search(line) for line in lines if not re.search(r"from (\.|rxws)", line))


def test_no_module_imports_the_package_in_a_cycle():
    """No imports in the package form a cycle, including the edges."""
    arrows = {name: {module for module, _ in imports(name, tree)} - {name} for name, tree in MODULES.items()}
    while arrows:
        free = {name for name, wanted in arrows.items() if not wanted & arrows.keys()}
        assert free, f"a cycle among {sorted(arrows)}"
        arrows = {name: wanted for name, wanted in arrows.items() if name not in free}


@pytest.mark.parametrize("name", MODULES)
def test_no_function_imports_the_package(name):
    """No function contains an import of the package."""
    for function in ast.walk(MODULES[name]):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            assert list(imports(name, function)) == []


@pytest.mark.parametrize("name", [name for name in PURE if name in MODULES])
def test_pure_module_knows_no_event_loop(name):
    """The pure modules import neither asyncio nor sockets nor clocks."""
    roots = {
        alias.name.split(".")[0]
        for node in ast.walk(MODULES[name])
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    assert not roots & {"asyncio", "time", "socket"}


def test_all_lists_the_exported_names():
    """``rxws.__all__`` is sorted, and lists exactly the public names that the package defines."""
    exported = {
        name
        for name, value in vars(rxws).items()
        if not name.startswith("_")
        and (getattr(value, "__module__", "").startswith("rxws.") or isinstance(value, types.UnionType))
    }
    assert set(rxws.__all__) == exported
    assert rxws.__all__ == sorted(rxws.__all__)


def test_all_holds_the_names_of_the_contract():
    """Every public name of the contract is exported."""
    assert set(rxws.__all__) >= {
        *("AsyncWebsocketStreamInterface", "ReactiveWebSocket", "AsyncObservable", "Stream", "Many", "on_loop"),
        *("State", "Statistics"),
        *("Connected", "Disconnected", "Rotated", "Gap", "Quiet", "MessageRejected"),
        *("CallbackFailed", "Lagging", "Overflowed"),
        *("RxwsError", "ConnectFailed", "FeedClosed", "SendTimeout", "StreamOverflow"),
    }


@pytest.mark.parametrize("name", CORE)
def test_all_of_a_module_names_what_is_public_in_it(name):
    """``__all__`` of each core module lists its public classes and functions."""
    module = importlib.import_module(f"rxws.{name}")
    defined = {
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module.__name__
    }
    assert defined <= set(module.__all__)
    assert all(hasattr(module, name) for name in module.__all__)


@pytest.mark.parametrize("name", rxws.__all__)
def test_every_public_name_is_documented(name):
    """Every exported name has its own docstring."""
    value = getattr(rxws, name)
    assert value.__doc__
    assert value.__doc__ not in {base.__doc__ for base in getattr(value, "__mro__", ())[1:]}


def test_all_errors_have_one_root():
    """``except RxwsError`` catches all exceptions that rxws defines."""
    errors = [getattr(rxws, name) for name in rxws.__all__]
    errors = [error for error in errors if inspect.isclass(error) and issubclass(error, BaseException)]
    assert len(errors) > 1
    assert all(issubclass(error, rxws.RxwsError) for error in errors)


@pytest.mark.parametrize("name", ["", *CORE])
def test_core_module_imports_three_libraries_only(name):
    """The core imports only reactivex, websockets and msgspec, except in code for type checkers."""
    for_checkers = {
        node
        for block in ast.walk(MODULES[name])
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for statement in block.body
        for node in ast.walk(statement)
    }
    nodes = [node for node in ast.walk(MODULES[name]) if node not in for_checkers]
    found = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    found |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
    others = {module.split(".")[0] for module in found} - sys.stdlib_module_names
    assert others <= {"reactivex", "websockets", "msgspec"}


def test_import_loads_no_edge():
    """``import rxws`` imports the core, and neither the edges nor their dependencies."""
    code = "import rxws, sys; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, timeout=60)
    names = run.stdout.split()
    assert {name.partition(".")[2] for name in names if name.split(".")[0] == "rxws"} <= {"", *CORE}
    assert not {name.split(".")[0] for name in names} & {
        *("pytest", "pytest_asyncio", "async_solipsism", "rich", "IPython", "ipykernel", "jupyterlab", "picows"),
        *("prometheus_client", "nats"),
        *("argparse", "unittest"),
    }


@pytest.mark.parametrize("edge", ["demo", "testing"])
def test_edge_is_loaded_on_use(edge):
    """``rxws.demo`` and ``rxws.testing`` need no import; an unknown attribute raises AttributeError."""
    code = f"import rxws; print(rxws.{edge}.__name__)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, timeout=60)
    assert run.stdout == f"rxws.{edge}\n"
    with pytest.raises(AttributeError, match="module 'rxws' has no attribute 'nonsense'"):
        _ = rxws.nonsense


def test_types_are_shipped():
    """The package has ``py.typed`` and its stub."""
    assert (PACKAGE / "py.typed").exists()
    assert (PACKAGE / "observables" / "fluent.pyi").exists()


def test_version_equals_the_metadata():
    """``rxws.__version__`` equals the version in the metadata."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    assert rxws.__version__ == config["metadata"]["version"]


def test_needs_at_most_five_packages():
    """An installation needs at most five packages besides rxws, including indirect dependencies."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    wanted = config["options"]["install_requires"].split()
    needed = set()
    while wanted:
        name = "".join(character if character.isalnum() or character in "-_" else " " for character in wanted.pop())
        name = name.split()[0].lower()
        if name not in needed:
            needed.add(name)
            requirements = metadata.requires(name) or []
            wanted += [line for line in requirements if "extra ==" not in line]
    assert {"reactivex", "websockets", "msgspec"} <= needed
    assert len(needed) <= 5


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a checkout")
def test_top_folder_contains_only_listed_files():
    """The top folder of the repository contains only the listed files and hidden files."""
    listed = subprocess.run(
        ["git", "ls-files"], capture_output=True, text=True, check=True, cwd=ROOT, timeout=60
    ).stdout
    top = {line.split("/")[0] for line in listed.splitlines()}
    visible = {name for name in top if not name.startswith(".")}
    assert visible <= {"setup.cfg", "setup.py", "README.rst", "LICENSE", "rxws", "tests", "notebooks"}
