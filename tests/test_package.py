"""The house: what is exported, which module may import which, and that the edges cost nobody anything."""

from __future__ import annotations

import ast
import configparser
import importlib
import inspect
import re
import subprocess
import sys
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
"""The core, from the ground up: which folders each folder may import. Messages and streams know no socket; connections
know no stream."""

FOUNDATION = ("errors", "callables", "checks", "codec", "delays", "options")
"""The files beside the folders that any folder may import."""

FORMS = ("interface", "websocket")
"""The public forms of a feed, which stand on all folders."""

PURE = (
    *("errors", "callables", "checks", "codec", "delays", "options", "reporting.redaction", "reporting.events"),
    *("messages.filters", "streams.sequence", "display.snapshot"),
    *("connections.failures", "connections.backoff", "connections.handover", "connections.rate_limit"),
    *("sending.channels", "sending.channel_states"),
)
"""The modules that know no event loop: they get the time passed in."""

EDGES = ("operators", "recording", "jupyter", "testing", "demo", "cli", "pytest_plugin", "__main__")
"""What stands around the core, and is imported by whoever wants it."""


def modules():
    """Give each module of the package, by its name below ``rxws`` ('' is the package itself), with its syntax tree."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip(".")
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


MODULES = modules()


def is_package(name):
    """Tell whether a module is a folder's."""
    return (PACKAGE / Path(*name.split(".")) / "__init__.py").exists() if name else True


def imports(name, tree):
    """Give what of the package a module imports: pairs of the module and the name in it (None: the module itself)."""
    # What the type checker alone reads of the package's root is no import: the edges are loaded when asked for.
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
    """Give the edge that a module belongs to, or None for one of the core."""
    first = name.split(".")[0]
    return first if first in EDGES else None


CORE = [name for name in MODULES if name and not edge_of(name)]


def folder_of(name):
    """Give the folder of the core that a module stands in, or the module's own name where it stands beside them."""
    return name.split(".")[0]


def test_every_module_has_its_place_in_the_house():
    """Each module of the core stands in a folder of the table, or is one of the few files beside them."""
    assert {folder_of(name) for name in CORE} == {*FOLDERS, *FOUNDATION, *FORMS}


@pytest.mark.parametrize("name", CORE)
def test_core_module_imports_only_what_its_folder_may(name):
    """A module imports from its own folder, from the folders that the table allows it, and from the foundation."""
    folder = folder_of(name)
    found = {folder_of(module) for module, _ in imports(name, MODULES[name])} - {folder}
    if folder in FOLDERS:
        assert found <= FOLDERS[folder] | {*FOUNDATION}
    elif folder in FOUNDATION:
        assert found <= {*FOUNDATION}
    else:
        assert found <= {*FOLDERS, *FOUNDATION, *FORMS}


@pytest.mark.parametrize("name", CORE)
def test_core_module_takes_nothing_private(name):
    """What one module takes from another is not private to that one."""
    for module, taken in imports(name, MODULES[name]):
        assert taken is None or not taken.startswith("_"), (module, taken)


@pytest.mark.parametrize("name", [name for name in MODULES if edge_of(name)])
def test_edge_uses_public_names_only(name):
    """What an edge takes from a folder of the core, the folder exports; other edges give what they like."""
    for module, taken in imports(name, MODULES[name]):
        if taken is not None and not edge_of(module):
            assert "." not in module, (module, taken)
            origin = importlib.import_module(f"rxws.{module}" if module else "rxws")
            assert taken in origin.__all__, (module, taken)


def test_map_answers_ten_questions_with_names_that_exist():
    """The package's docstring answers ten questions, each with a module and a name in it."""
    _, _, table = rxws.__doc__.partition("Ten questions")
    rows = re.findall(r"^    (\S[^\n]*\?) +(.*?)(?=^    \S|\Z)", table, re.MULTILINE | re.DOTALL)
    assert len(rows) == 10
    for question, answer in rows:
        names = re.findall(r"(\w+\.\w+):\s+(\w+)", answer)
        assert names, question
        for module, name in names:
            assert hasattr(importlib.import_module(f"rxws.{module}"), name), (question, module, name)


def test_map_names_every_folder_and_module_that_it_speaks_of():
    """The package's docstring names each folder of the core in the order of the table, and only modules that exist."""
    folders = re.findall(r"^    (\w+)  +[a-zO]", rxws.__doc__.partition("Beside them")[0], re.MULTILINE)
    assert folders == [*FOLDERS]
    for module in re.findall(r"\b((?:%s)\.\w+)" % "|".join(FOLDERS), rxws.__doc__):
        assert module in MODULES


def test_there_is_one_fake_server():
    """Everything that acts as a feed, in the package, the tests and the notebooks, is built on FeedServer."""
    sources = [path for folder in ("rxws", "tests", "notebooks") for path in (ROOT / folder).rglob("*.py")]
    sources += (ROOT / "notebooks").rglob("*.ipynb")
    sources.append(ROOT / "README.rst")
    servers = re.compile(r"import [\w, ]*\bserve\b|websockets\.serve\(|aiohttp[\w.]*\.WebSocketResponse")
    assert [path.relative_to(ROOT).as_posix() for path in sources if serves(path, servers)] == [
        "rxws/testing/server.py"
    ]


def serves(path, servers):
    """Tell whether a file makes a server of a library's, and not the demo's or a command of ours."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return any(servers.search(line) for line in lines if not re.search(r"from (\.|rxws)", line))


def test_no_module_imports_the_package_in_a_cycle():
    """Nowhere in the package, the edges included, do imports go in a circle."""
    arrows = {name: {module for module, _ in imports(name, tree)} - {name} for name, tree in MODULES.items()}
    while arrows:
        free = {name for name, wanted in arrows.items() if not wanted & arrows.keys()}
        assert free, f"a cycle among {sorted(arrows)}"
        arrows = {name: wanted for name, wanted in arrows.items() if name not in free}


@pytest.mark.parametrize("name", MODULES)
def test_no_function_imports_the_package(name):
    """No import of the package hides inside a function."""
    for function in ast.walk(MODULES[name]):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            assert list(imports(name, function)) == []


@pytest.mark.parametrize("name", [name for name in PURE if name in MODULES])
def test_pure_module_knows_no_event_loop(name):
    """Decisions are pure: the modules that make them import neither asyncio nor sockets nor a clock."""
    roots = {
        alias.name.split(".")[0]
        for node in ast.walk(MODULES[name])
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    assert not roots & {"asyncio", "time", "socket"}


def test_all_is_what_is_exported():
    """``rxws.__all__`` is sorted, and equals the public names of the package that are of its own making."""
    exported = {
        name
        for name, value in vars(rxws).items()
        if not name.startswith("_") and getattr(value, "__module__", "").startswith("rxws.")
    }
    assert set(rxws.__all__) == exported
    assert rxws.__all__ == sorted(rxws.__all__)


def test_all_holds_the_names_of_the_contract():
    """Every public name that is promised is exported."""
    assert set(rxws.__all__) >= {
        *("AsyncWebsocketStreamInterface", "ReactiveWebSocket", "AsyncObservable", "Stream", "Many", "on_loop"),
        *("State", "Statistics"),
        *("Connected", "Disconnected", "Rotated", "Gap", "Quiet", "MessageRejected"),
        *("CallbackFailed", "Lagging", "Overflowed"),
        *("RxwsError", "ConnectFailed", "FeedClosed", "SendTimeout", "StreamOverflow"),
    }


@pytest.mark.parametrize("name", CORE)
def test_all_of_a_module_names_what_is_public_in_it(name):
    """Each module of the core lists in ``__all__`` the classes and functions that it defines for others."""
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
    """Whatever is exported has a docstring of its own."""
    value = getattr(rxws, name)
    assert value.__doc__
    assert value.__doc__ not in {base.__doc__ for base in getattr(value, "__mro__", ())[1:]}


def test_all_errors_have_one_root():
    """One ``except RxwsError`` catches all that rxws raises of its own."""
    errors = [getattr(rxws, name) for name in rxws.__all__]
    errors = [error for error in errors if inspect.isclass(error) and issubclass(error, BaseException)]
    assert len(errors) > 1
    assert all(issubclass(error, rxws.RxwsError) for error in errors)


@pytest.mark.parametrize("name", ["", *CORE])
def test_core_module_imports_three_libraries_only(name):
    """Of other people's packages the core imports reactivex, websockets and msgspec; a type checker brings its own."""
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


def test_import_brings_no_edge():
    """``import rxws`` imports the core and none of the edges, nor what only they need."""
    code = "import rxws, sys; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, timeout=60)
    names = run.stdout.split()
    assert {name.partition(".")[2] for name in names if name.split(".")[0] == "rxws"} <= {"", *CORE}
    assert not {name.split(".")[0] for name in names} & {
        *("pytest", "pytest_asyncio", "async_solipsism", "rich", "IPython", "ipykernel", "jupyterlab", "picows"),
        *("argparse", "unittest"),
    }


@pytest.mark.parametrize("edge", ["demo", "testing"])
def test_edge_is_there_when_it_is_asked_for(edge):
    """``rxws.demo`` and ``rxws.testing`` need no import of their own; what does not exist is an AttributeError."""
    code = f"import rxws; print(rxws.{edge}.__name__)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, timeout=60)
    assert run.stdout == f"rxws.{edge}\n"
    with pytest.raises(AttributeError, match="module 'rxws' has no attribute 'nonsense'"):
        _ = rxws.nonsense


def test_types_are_shipped():
    """The package tells type checkers that it is typed, and ships its stub."""
    assert (PACKAGE / "py.typed").exists()
    assert (PACKAGE / "observables" / "fluent.pyi").exists()


def test_version_is_that_of_the_metadata():
    """``rxws.__version__`` is what the metadata say."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    assert rxws.__version__ == config["metadata"]["version"]


def test_needs_at_most_five_packages():
    """Installing brings at most five packages: those that setup.cfg names, and those that they need."""
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
def test_top_level_holds_what_it_should():
    """At the top of the repository there is what the design lists, and beside that only hidden files."""
    listed = subprocess.run(
        ["git", "ls-files"], capture_output=True, text=True, check=True, cwd=ROOT, timeout=60
    ).stdout
    top = {line.split("/")[0] for line in listed.splitlines()}
    visible = {name for name in top if not name.startswith(".")}
    assert visible <= {"setup.cfg", "setup.py", "README.rst", "LICENSE", "rxws", "tests", "notebooks"}
