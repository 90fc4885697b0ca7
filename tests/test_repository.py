"""The files around the code: the changelog, the issue forms, the workflow and the pages for contributors."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import rxws

from .support.guide import ROOT

GITHUB = ROOT / ".github"


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def test_changelog_begins_with_unreleased_changes() -> None:
    """The changelog begins with "Unreleased", then the present version, and its groups are the usual ones."""
    changelog = (GITHUB / "CHANGELOG.md").read_text()
    sections = re.findall(r"^## (\S+)", changelog, re.MULTILINE)
    assert sections[:2] == ["Unreleased", rxws.__version__]
    groups = {*re.findall(r"^### (.+)$", changelog, re.MULTILINE)}
    assert groups <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_workflow_only_calls_the_script_of_the_repository() -> None:
    """The workflow only checks out, installs Python and runs ``.ci/run``, so it tests the same as a local run."""
    [job] = load(GITHUB / "workflows" / "ci.yml")["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == ["bash .ci/run"]


@pytest.mark.parametrize("form", sorted((GITHUB / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda path: path.name)
def test_form_for_an_issue_is_complete(form: Path) -> None:
    """Each form has a name, a description and fields with different ids, as GitHub requires."""
    content = load(form)
    if form.name == "config.yml":
        assert content == {"blank_issues_enabled": True}
        return
    assert content["name"]
    assert content["description"]
    ids = [field["id"] for field in content["body"]]
    assert len({*ids}) == len(ids)
    assert all(field["attributes"]["label"] for field in content["body"])


@pytest.mark.parametrize("page", sorted(GITHUB.glob("*.md")), ids=lambda path: path.name)
def test_links_have_targets(page: Path) -> None:
    """Each file that a page links to exists."""
    for link in re.findall(r"\]\(([^)#]+)", page.read_text()):
        assert (page.parent / link).exists(), link
