"""``rxws audit``: its output and its exit codes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import rxws
from rxws import cli
from rxws.recording.entries import Origin
from rxws.recording.sessions import RollingSession
from tests.recording.test_audit import connected, gap, lost, numbers
from tests.recording.test_recording import end, frame, start, write


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """Return a recording in which no message is missing."""
    return write(tmp_path / "whole.jsonl", start(), connected(1.0), *numbers(2.0, 1, 2, 3), end(9.0))


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """Return a recording with a gap, a hole, a double and a damaged line."""
    notes = [connected(1.0), *numbers(2.0, 1, 2, 5, 5), lost(6.0), connected(7.0, 2), gap(7.0, 5.0, 7.0)]
    path = write(tmp_path / "broken.jsonl", start(), *notes, *numbers(8.0, 9, connection=2), end(9.0))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:3], b'{"time":1\xff\n', *lines[3:]]))
    return path


def printed(capsys, *arguments: object) -> tuple[int, str, str]:
    """Run the command; return its exit code and what it printed on stdout and stderr."""
    code = cli.main(["audit", *map(str, arguments)])
    return code, *capsys.readouterr()


def test_help_fits_a_screen_when_printed(capsys, monkeypatch):
    """The help fits a screen of 24 lines of 80 columns, and shows an example and the exit codes."""
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = printed(capsys, "--help")
    assert code == 0
    assert len(out.splitlines()) <= 24
    assert max(map(len, out.splitlines())) <= 80
    assert "example" in out
    assert "exit codes: 0 whole; 1 something is missing or damaged; 2 a file cannot be read" in out
    assert out.isascii()


def test_audit_of_a_whole_recording(whole, capsys):
    """A whole recording gives exit code 0."""
    code, out, err = printed(capsys, whole, "--sequence", "n", "--key", "s")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        f"{whole}: whole",
        "  messages       3, 1 session, 2026-09-21 14:13:21.000 to 2026-09-21 14:13:24.000",
        "  proven         3.000 s",
        "  resumed        0.000 s, 0 times",
        "  gaps           0: 0.000 s, 0 messages",
        "  unexplained    0: 0 messages, 0.000 s",
        "  doubles        0",
        "  damaged lines  0",
    ]


def test_audit_of_a_recording_with_losses(broken, capsys):
    """If messages are missing, the exit code is 1, and the output says which and when."""
    code, out, err = printed(capsys, broken, "--sequence", "n", "--key", "s")
    assert (code, err) == (1, "")
    assert out.splitlines() == [
        f"{broken}: not whole",
        "  messages       5, 1 session, 2026-09-21 14:13:21.000 to 2026-09-21 14:13:28.000",
        "  proven         5.000 s",
        "  resumed        0.000 s, 0 times",
        "  gaps           1: 2.000 s, 3 messages",
        "    2026-09-21 14:13:25.000  2.000 s (network), 3 messages",
        "  unexplained    1: 2 messages, 0.000 s",
        "    2026-09-21 14:13:24.000  a: 3 to 4",
        "  doubles        1",
        "  damaged lines  1 (4)",
    ]


def test_audit_without_numbers(broken, capsys):
    """Without ``--sequence`` the output contains no number of missing messages."""
    code, out, _ = printed(capsys, broken)
    assert code == 1
    assert "  gaps           1: 2.000 s\n" in out
    assert "  unexplained    0.000 s\n" in out
    assert "doubles" not in out


def test_audit_as_json(broken, capsys):
    """``--json`` prints one object with all figures."""
    code, out, _ = printed(capsys, broken, "--sequence", "n", "--json")
    assert code == 1
    found = json.loads(out)
    assert found["path"] == str(broken)
    assert (found["whole"], found["messages"], found["missing"], found["doubles"]) == (False, 5, 2, 1)
    assert [each["missing"] for each in found["gaps"]] == [3]
    assert found["holes"][0]["first"] == 3
    assert found["damaged_lines"] == [4]


def test_audit_of_a_folder(whole, broken, capsys):
    """In a folder each recording is audited, in the order of names; other files are ignored."""
    (whole.parent / "notes.txt").write_text("no recording")
    code, out, err = printed(capsys, whole.parent, "--json")
    assert (code, err) == (1, "")
    assert [(json.loads(line)["path"], json.loads(line)["whole"]) for line in out.splitlines()] == [
        (str(broken), False),
        (str(whole), True),
    ]


def test_audit_of_a_folder_with_a_file_that_cannot_be_read(whole, capsys):
    """If a file cannot be read, the exit code is 2, and the other files are still audited."""
    bad = whole.parent / "bad.jsonl"
    bad.write_text("no recording\n" * 3)
    code, out, err = printed(capsys, whole.parent)
    assert code == 2
    assert out.startswith(f"{whole}: whole\n")
    assert err.startswith(f"rxws audit: error: {bad}: ")
    assert len(err.splitlines()) == 1


def test_numbers_of_several_keys_are_separate(tmp_path, capsys):
    """With ``--key`` twice, each pair of values has its own numbers. Without, the output says what is missing."""
    messages = [{"e": e, "s": "A", "n": n} for n in range(1, 6) for e in ("trade", "book") if (e, n) != ("book", 3)]
    path = write(tmp_path / "two.jsonl", start(), *(frame(1.0 + n, each) for n, each in enumerate(messages)), end(20.0))
    code, out, _ = printed(capsys, path, "--sequence", "n", "--key", "e", "--key", "s")
    assert code == 1
    assert "book, A: 3 to 3" in out
    assert "doubles        0" in out
    assert "name all keys" not in out
    messages = [{"e": e, "n": n + (e == "book")} for n in range(1, 9, 3) for e in ("trade", "book", "trade")]
    path = write(tmp_path / "one.jsonl", start(), *(frame(1.0 + n, each) for n, each in enumerate(messages)), end(20.0))
    assert "name all keys that are numbered separately with --key" in printed(capsys, path, "--sequence", "n")[1]


@pytest.mark.parametrize("content", ["", "no recording\n"])
def test_audit_of_a_file_that_is_not_a_recording(content, tmp_path, capsys):
    """A file without entries cannot be read: one line on stderr, and exit code 2."""
    path = tmp_path / "feed.jsonl"
    path.write_text(content)
    code, out, err = printed(capsys, path)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert str(path) in err


def test_audit_of_a_missing_path(tmp_path, capsys):
    """A missing file, and a folder without recordings, give exit code 2 and one line."""
    missing = tmp_path / "feed.jsonl"
    assert printed(capsys, missing) == (2, "", f"rxws audit: error: {missing}: No such file or directory\n")
    code, out, err = printed(capsys, tmp_path)
    assert (code, out) == (2, "")
    assert "no file in this folder ends in .jsonl, .jsonl.gz, .jsonl.zst" in err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_audit_of_a_file_that_may_not_be_read(whole, capsys):
    """A file without the permission to read it gives exit code 2."""
    whole.chmod(0)
    assert printed(capsys, whole)[0] == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--key", "s"], "--key needs --sequence"),
        (["--sequence", "a..b"], "is not a key"),
        (["--sequence", "m"], "no message has a whole number at 'm'"),
    ],
)
def test_audit_with_wrong_arguments(arguments, said, whole, capsys):
    """Wrong keys give exit code 2, and one line that says what was expected."""
    code, out, err = printed(capsys, whole, *arguments)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert said in err


def test_audit_lists_only_the_first_of_many(tmp_path, capsys):
    """Only the first ten gaps and holes are listed; the others are counted."""
    notes = [connected(1.0)]
    for number in range(12):
        at = 2.0 + 4 * number
        notes += numbers(at, 10 * number + 1, 10 * number + 3, connection=number + 1)
        notes += [lost(at + 2, number + 1), connected(at + 3, number + 2), gap(at + 3, at + 1, at + 3)]
    path = write(tmp_path / "feed.jsonl", start(), *notes, end(99.0))
    code, out, _ = printed(capsys, path, "--sequence", "n")
    assert code == 1
    assert out.count("(network)") == 10
    assert out.count("    and 2 more\n") == 2


def test_audit_of_a_rolled_folder_when_other_recordings_are_beside(whole, tmp_path, capsys):
    """The files that ``--roll`` wrote are one recording; other files are audited one by one."""
    first = 1_790_000_000_000_000_000
    origin = Origin("feed", None, first)
    begun = RollingSession(tmp_path, origin, 1)
    begun.append([(0.0, origin), (0.0, rxws.State.CONNECTED)], first / 1e9)
    for number in range(1, 4):
        received = first + number * 10**9
        begun.append([(float(number), (f'{{"n":{number}}}', received, received, 1))], first / 1e9)
    begun.append([(4.0, None)], first / 1e9)
    begun.close()
    code, out, err = printed(capsys, tmp_path, "--sequence", "n")
    assert (code, err) == (0, "")
    assert f"{tmp_path}: whole\n  messages       3, 1 session" in out
    assert f"{whole}: whole" in out
    assert out.count(": whole") == 2
