"""The log of the websocket library contains no secrets."""

from __future__ import annotations

import json
import logging

import pytest
import websockets
from websockets.frames import Frame, Opcode

import rxws
from rxws.reporting.library_log import library_logger

from ..support.secrets import PASSWORDS, TOKENS, is_shown, samples


async def test_log_has_no_secret_when_the_root_logger_is_at_debug(feed_server, caplog):
    """Queries, user information, headers, logins, answers and close reasons are redacted at DEBUG."""
    caplog.set_level(logging.DEBUG)
    secrets = [*samples(TOKENS, 2), *(each.replace(" ", "") for each in samples(PASSWORDS, 2))]
    for secret in secrets:
        quoted = "".join(f"%{ord(each):02x}" if not each.isalnum() else each for each in secret)
        url = f"{feed_server.url}/{'ws' if len(secret) < 20 else secret}?token={quoted}".replace(
            "ws://", f"ws://me:{quoted}@"
        )
        login = {"op": "login", "pad": "x" * 100, "args": [{"apiKey": secret, "sign": secret, "pad": "y" * 100}]}
        async with rxws.ReactiveWebSocket(
            url,
            on_open=[login],
            connect_options={"additional_headers": {"Cookie": f"sid={quoted}", "X-Api-Key": quoted}},
        ) as feed:
            await feed.wait_connected()
            await feed_server.expect({"op": "login"})
            await feed_server.send({"padding": "z" * 500, "listenKey": secret})
            await anext(feed.stream_filter())
    text = "\n".join(record.getMessage() for record in caplog.records)
    assert {each.name for each in caplog.records} >= {"websockets.client.rxws"}
    lines = [each.getMessage() for each in caplog.records if each.name == "websockets.client.rxws"]
    assert any(line.startswith("> GET /") for line in lines)
    assert any('bytes] {"op":"login"' in line for line in lines)
    own = "\n".join(lines)
    for secret in secrets:
        assert not is_shown(secret, own)
    assert text


async def test_log_is_that_of_the_user_when_a_logger_is_given(feed_server, caplog):
    """A logger in ``connect_options``, or of the user's own ``connect``, is not replaced."""
    caplog.set_level(logging.DEBUG)
    logger = logging.getLogger("mine")
    async with rxws.ReactiveWebSocket(feed_server.url, connect_options={"logger": logger}) as feed:
        await feed.wait_connected()

    def connect(url, **options):
        assert options == {}
        return websockets.connect(url)

    async with rxws.ReactiveWebSocket(feed_server.url, connect=connect) as feed:
        await feed.wait_connected()
    names = {
        record.name for record in caplog.records if "GET" in record.getMessage() and record.name != "websockets.server"
    }
    assert names == {"mine", "websockets.client"}


@pytest.mark.parametrize(
    ("frame", "shown"),
    [
        (Frame(Opcode.BINARY, b"S3cretS3cret"), "> BINARY [12 bytes]"),
        (Frame(Opcode.TEXT, b'{"pin":12', fin=False), "> TEXT [9 bytes]"),
        (Frame(Opcode.TEXT, b"a\n\x1b[2J"), r"> TEXT [6 bytes] a\n\x1b[2J"),
        (Frame(Opcode.CLOSE, b"\x03\xe8token=abc"), "> CLOSE [11 bytes] 1000 token=***"),
        (Frame(Opcode.CLOSE, b""), "> CLOSE [0 bytes]"),
    ],
)
def test_frame_is_shown_without_secrets(caplog, frame, shown):
    """A text frame is redacted as a whole and then shortened; the contents of other frames are not shown."""
    caplog.set_level(logging.DEBUG)
    library_logger().debug("> %s", frame)
    assert caplog.messages == [shown]


def test_error_is_shown_without_secrets(caplog):
    """The traceback of an error of the library is redacted."""
    try:
        json.loads("{")
    except ValueError as error:
        error.args = ("no wss://me:hunter2hunter2@host/",)
        library_logger().error("unexpected %(a)s", {"a": "token=hunter2hunter2"}, exc_info=True)
    library_logger().warning("100 % sure")
    (first, second) = caplog.messages
    assert first.startswith("unexpected token=***\nTraceback")
    assert "hunter2" not in first + str(caplog.text)
    assert second == "100 % sure"
