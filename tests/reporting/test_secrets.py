"""No secret is shown in any place: log, events, reprs, exceptions, tracebacks, notebooks and the command line."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import pytest

import rxws
from rxws.cli.lines import event_line
from rxws.display.snapshot import mimebundle
from rxws.messages.filters import Filter
from rxws.reporting.quoting import quoted_repr
from rxws.reporting.tracebacks import redacted_traceback

from ..support.secrets import PASSWORDS, TOKENS, is_shown, samples

COUNTS = pytest.mark.parametrize("count", [10, pytest.param(100, marks=pytest.mark.slow)])

FEED = {"name": "feed", "time": 1.0}


def messages(secret: str) -> list[object]:
    """Return messages that contain a secret in a field whose name tells that it is one."""
    return [
        {"e": "listenKeyExpired", "listenKey": secret, "n": 1},
        {"op": "login", "args": [{"apiKey": "k", "sign": secret}]},
        f'{{"data": {{"session_id": "{secret}"}}}}',
        f"user=me&pwd={secret.replace(' ', '+')}".encode(),
    ]


def errors(secret: str) -> list[Exception]:
    """Return exceptions whose texts quote a secret."""
    quoted = secret.replace(" ", "+").replace("/", "%2F")
    return [
        ValueError(f"cannot open wss://me:{quoted}@example.com/ws?token={quoted}: refused"),
        KeyError({"otp": secret}),
        RuntimeError(f"refused:\nHTTP/1.1 401\nSet-Cookie: sid={secret}"),
    ]


def events(secret: str, contents: list[object], failures: list[Exception]) -> Iterator[rxws.Event]:
    """Yield events that carry a secret."""
    for content in contents:
        yield rxws.Gap(1.0, 2.0, "network", content, **FEED)
    for error in failures:
        yield rxws.CallbackFailed(handler="f", message=contents[0], error=error, **FEED)
    yield rxws.MessageRejected(raw=str(contents[0]), error=failures[0], count=1, **FEED)
    yield rxws.RecordingFailed(path="x.jsonl", error=failures[0], lost=0, **FEED)
    yield rxws.Disconnected(number=1, reason="server", cause=f"bye, password: {secret}", **FEED)


def shown(secret: str, contents: list[object], failures: list[Exception]) -> Iterator[str]:
    """Yield the texts that reprs, log lines and notebook cells show of events, messages and filters."""
    for event in events(secret, contents, failures):
        yield from (repr(event), str(event), event_line(event))
    for content in contents:
        yield repr(rxws.Snapshot(content, "start"))
        yield from mimebundle("feed", {"last": "now"}, [content, {"nested": [content]}]).values()
    yield quoted_repr(Filter.parse([{"listenKey": secret}]))


@COUNTS
@pytest.mark.parametrize("shape", [*TOKENS, *PASSWORDS])
def test_no_secret_is_shown_when_it_has_the_name_of_one(shape, count):
    """No event, repr, notebook or log line shows 8 characters of any random secret, whatever its shape."""
    shapes = TOKENS | PASSWORDS
    for secret in samples({shape: shapes[shape]}, count):
        for text in shown(secret, messages(secret), errors(secret)):
            assert not is_shown(secret, text), text


@COUNTS
@pytest.mark.parametrize("shape", TOKENS)
def test_no_token_is_shown_when_it_has_no_name(shape, count):
    """Tokens are masked in any field of a message, in a list, after a prefix and in an exception's text."""
    for token in samples({shape: TOKENS[shape]}, count):
        contents = [{"x": token}, [1, {"y": [token]}], f"no {token} there", {f"{token}": 1}]
        failures = [ValueError(f"{token} is wrong"), KeyError(token), LookupError("a", (token,))]
        for text in shown(token, contents, failures):
            assert not is_shown(token, text), text


@COUNTS
@pytest.mark.parametrize("shape", [*TOKENS, *PASSWORDS])
def test_no_secret_is_shown_in_a_traceback(shape, count):
    """The traceback of an exception, of its cause, its notes and the members of its group is redacted."""
    shapes = TOKENS | PASSWORDS
    for secret in samples({shape: shapes[shape]}, count):
        first, second, third = errors(secret)
        first.__cause__, first.__context__ = ExceptionGroup("some", [second]), third
        first.add_note(f"sent Authorization: Basic {secret}")
        assert not is_shown(secret, redacted_traceback(first))


async def test_no_secret_is_shown_in_the_log_of_a_feed(feed_server, caplog, capsys):
    """A feed with secrets in its URL, its messages, its filters and its failures shows none of them."""
    caplog.set_level(logging.INFO)
    secrets = list(samples(TOKENS | PASSWORDS, 3))
    texts: list[str] = []

    def note(event):
        texts.extend([repr(event), str(event)])

    for secret in secrets:
        quoted = "".join(each if each.isalnum() else f"%{ord(each):02x}" for each in secret)

        def fail(message, secret=secret):
            raise ValueError(f"cannot store {message}: password={secret}")

        async with rxws.ReactiveWebSocket(f"{feed_server.url}/ws?token={quoted}", name="feed") as feed:
            feed.events.subscribe(note)
            feed.add_handler(fail)
            stream = feed.stream_filter([{"apiKey": secret}])
            await feed.wait_connected()
            await feed_server.send({"apiKey": secret})
            await anext(stream)
            texts += [repr(feed), repr(stream), repr(feed.statistics()), *feed._repr_mimebundle_().values()]
            await feed_server.connections[-1].close(1011, f"pin={secret}"[:100])
            async with asyncio.timeout(10):
                while not any(text.startswith("connection 1 ended") for text in texts):
                    await asyncio.sleep(0.01)
            texts[:] = [text.removeprefix("connection 1 ended") for text in texts]
    texts += caplog.messages
    assert any("cannot store" in text for text in caplog.messages)
    for text in texts:
        for secret in secrets:
            assert not is_shown(secret, text), text
