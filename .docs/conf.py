"""The reference, made by Sphinx from the docstrings: ``python -m sphinx -n -W .docs build/docs``."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import rxws
from rxws import operators, recording, testing

project = "rxws"
author = "The rxws developers"
copyright = "The rxws developers"  # noqa: A001 - Sphinx's name
release = version = rxws.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["build"]
html_theme = "alabaster"
html_theme_options = {"description": "One websocket as one hot Observable", "page_width": "1100px"}
html_show_sphinx = False

add_module_names = False
autodoc_member_order = "groupwise"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_mock_imports = [
    name
    for name in ("IPython", "bqplot", "ipywidgets", "numpy", "prometheus_client", "pytest")
    if find_spec(name) is None
]
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

# Each reference to rxws must be found, except type variables and what is not public. Other projects are not
# linked, so that the build needs no network.
nitpick_ignore_regex = [
    (r"py:.*", r"(?!rxws\b).*"),
    (r"py:.*", r"rxws\.(\w+\.)+(T|S|N|T_co|FeedT)"),
    (r"py:class", r"rxws\.(\w+\.)+(BufferIterator|Clients|Consuming|FluentOperators|HandshakeFaults|HotObservable)"),
    (r"py:class", r"rxws\.streams\.(\w+\.)+(DerivedObservables|StreamReceiver|Synchronized)"),
    (r"py:class", r"rxws\.(\w+\.)+\w+Keywords"),
    (r"py:class", r"rxws\.testing\.lives\.report\.Report"),
]


def _public_names() -> dict[str, str]:
    """Return where each public class and function is documented, by the place of its definition."""
    found = {}
    for module in (testing, recording, operators, rxws):
        for name in module.__all__:
            value = getattr(module, name)
            found[f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', name)}"] = (
                f"{module.__name__}.{name}"
            )
    return found


def _resolve(app: Any, env: Any, node: Any, content: Any) -> Any:
    """Find what an annotation names by the module that defines it, such as ``rxws.streams.stream.Stream``."""
    target = _public_names().get(node.get("reftarget", ""))
    if target is None:
        return None
    domain = env.domains.python_domain
    return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", target, node, content)


def _keep_sentence(app: Any, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Keep napoleon from reading the words before a colon as the type of an attribute."""
    if what in ("attribute", "property") and lines:
        lines[0] = lines[0].replace(": ", " -- ")


def setup(app: Any) -> None:
    """Register the hooks: Sphinx calls this."""
    app.connect("missing-reference", _resolve)
    app.connect("autodoc-process-docstring", _keep_sentence, priority=100)  # before napoleon's
