"""Redaction of URLs and texts: no secrets, and always one printable line."""

from __future__ import annotations

import base64
import json
import random
import re
import string
import uuid

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rxws.reporting.redaction import redact, redact_url

# Passwords and values of any length and content. The marks at both ends show whether any part was not masked.
odd = st.text(
    st.one_of(
        st.sampled_from(string.ascii_letters + string.digits + "-_.~%!$'()*+,;="),
        st.characters(min_codepoint=0xA1, max_codepoint=0x2FFF, categories=["L", "N"]),
    ),
    max_size=30,
)
secrets = st.builds("5ec{}re7".format, odd)
# The bytes are random, because hypothesis prefers simple bytes, which may spell words and numbers.
bytes_of_tokens = st.builds(lambda seed, size: random.Random(seed).randbytes(size), st.integers(0), st.integers(16, 48))


def jwt(content: bytes) -> str:
    """Return a text in the form of a JSON web token."""
    parts = (b'{"alg":"HS256","typ":"JWT"}', content, content[:16])
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


def listen_key(seed: int) -> str:
    """Return 64 random letters and digits, like the listen keys of exchanges."""
    source = random.Random(seed)
    return "".join(source.choice(string.ascii_letters + string.digits) for _ in range(64))


# Texts that are recognized as secrets by their form alone.
tokens = st.one_of(
    bytes_of_tokens.map(bytes.hex),
    bytes_of_tokens.map(lambda content: base64.b32encode(content).decode()),
    bytes_of_tokens.map(jwt),
    st.uuids(version=4).map(str),
    st.integers(0, 2**32).map(listen_key),
)
paths = st.sampled_from(["", "/", "/ws", "/stream/btcusdt@trade", "/api/kernels"])
hosts = st.sampled_from(["example.com", "localhost:8765", "[::1]:80", "127.0.0.1", "bücher.example"])


@given(scheme=st.sampled_from(["ws", "wss", "http", "socks5h"]), host=hosts, path=paths, secret=secrets, token=tokens)
def test_no_secret_is_shown_in_any_part_of_a_url(scheme, host, path, secret, token):
    """Credentials, values of the query, the fragment, and tokens in the path are masked."""
    lone = secret.replace("=", "") + "=="
    url = f"{scheme}://me:{secret}@{host}{path}/{token}/x?a={secret}&b=c{secret}&{lone}#{secret}"
    shown = redact_url(url)
    assert secret not in shown
    assert token not in shown
    assert "re7" not in shown
    # A token in base64 may contain slashes, so a short part after a token is hidden with it.
    rest = "?a=***&b=***&***#***"
    assert shown in (f"{scheme}://***@{host}{path}/***/x{rest}", f"{scheme}://***@{host}{path}/***{rest}")
    assert redact_url(shown) == shown


@given(before=st.sampled_from(["", "GET ", "('", "url=", "<"]), host=hosts, path=paths, secret=secrets, token=tokens)
def test_no_secret_is_shown_when_a_text_quotes_a_url(before, host, path, secret, token):
    """A URL in a text is redacted like a URL alone, and the words around it stay."""
    text = f"cannot open {before}wss://{secret}@{host}{path}/{token}?a={secret}#{secret}', 80) at all"
    shown = redact(text)
    assert "re7" not in shown
    assert token not in shown
    assert shown == f"cannot open {before}wss://***@{host}{path}/***?a=***#***', 80) at all"
    assert redact(shown) == shown


@given(secret=secrets, token=tokens)
@pytest.mark.parametrize(
    "form",
    [
        "Authorization: {}",
        "authorization:Bearer {} was refused",
        "Proxy-Authorization: Digest username=me, response={}",
        "Cookie: next=https://example.com/; session={}",
        "X-MBX-APIKEY: {}",
        "CB-ACCESS-SIGN = {}",
        'body: {{"listenKey":"{}","x":1}}',
        'body: {{\\"listenKey\\": \\"{}\\"}}',
        "passphrase={}",
        "secretKey={}",
        '{{"AccessKeyId": "{}"}}',
        "private_key: {}",
        "accessKey={}",
        "sig={}",
        "sent Bearer {} and failed",
        "sent Basic {} and failed",
        "GET /ws?signature={} HTTP/1.1",
        "GET /ws?x=1&y={} HTTP/1.1",
    ],
)
def test_no_secret_is_shown_when_a_text_quotes_a_header_or_field(form, secret, token):
    """The values of headers and fields for secrets are masked, whatever their form."""
    for value in (secret, token):
        shown = redact(form.format(value))
        assert value not in shown
        assert "re7" not in shown
        assert redact(shown) == shown


# The end of this token looks like the name of a field.
@example(token="eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.AAAAAAAAAAAAAAAAAA0Sig.AAAAAAAAAAAAAAAAAA0Sig")
@given(token=tokens)
def test_names_of_a_program_are_shown_and_no_token_next_to_them(token):
    """Names in the argument ``names``, and marks such as ``^``, are not masked; tokens beside them are masked."""
    names = frozenset({"self", "stop2x", "IsMSXMLUrlq8"})
    text = f"    self.stop2x.IsMSXMLUrlq8({token!r}, self.stop2x.IsMSXMLUrlq8.{token})"
    assert redact(text, names) == "    self.stop2x.IsMSXMLUrlq8('***', ***)"
    assert redact(text) == "    ***('***', ***)"
    for line in ("    await self._hooks.when2create_new_ws()", "    self.fetch_ohlcv2candles(message)"):
        assert redact(line, names=frozenset(re.findall(r"\w+", line))) == line
    assert redact("~" * 30) == "~" * 30


@given(token=tokens)
def test_no_token_is_shown_when_it_is_alone_in_a_text(token):
    """A word that looks like a token is masked anywhere in a text."""
    assert redact(f"stream /ws/{token} is gone ({token})") == "stream /ws/*** is gone (***)"
    assert redact_url(token) == "***"


@given(
    value=st.text(
        st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters="'\"\\"), min_size=1, max_size=30
    )
)
def test_a_quoted_header_ends_at_its_quote(value):
    """A quoted header value is masked up to its quote, in a dict, in JSON and in a list of pairs."""
    assert redact(str({"Authorization": value, "Host": "h"})) == "{'Authorization': '***', 'Host': 'h'}"
    assert redact(json.dumps({"Authorization": value, "Host": "h"})) == '{"Authorization": "***", "Host": "h"}'
    assert redact(str([("Cookie", value), ("Host", "h")])) == "[('Cookie', '***'), ('Host', 'h')]"


@given(text=st.text(max_size=80) | st.text("ws:/?#@&=[]'\" .a0\\:*%", max_size=40))
def test_any_text_is_redacted_to_one_printable_line(text):
    """Redaction of any text never raises, gives one printable line, and does not change a redacted text."""
    for function in (redact, redact_url):
        shown = function(text)
        assert shown.isprintable()
        assert function(shown) == shown


@given(text=st.text("ws:/?#@&=[]'\" a0", max_size=30), secret=secrets)
def test_no_secret_is_shown_when_the_url_is_malformed(text, secret):
    """In a malformed URL everything after the first ``?`` is masked, except names."""
    shown = redact_url(f"wss://example.com/{text.replace('=', '')}?a={secret}\nb\x1b={secret} {secret}")
    assert "re7" not in shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("", ""),
        ("ws://", "ws://"),
        ("foo", "foo"),
        ("localhost:8765", "localhost:8765"),
        ("localhost:8765/x?token=1", "localhost:8765/***"),
        ("wss:/example.com/?token=1", "wss:/***"),
        ("wss:example.com/?token=1", "***"),
        ("/ws/x?token=1", "/***"),
        ("wss://me:pa/ss@example.com/", "wss://***"),
        ("wss://me:pa?ss@example.com/", "wss://***"),
        ("wss://me:pa#ss@example.com/", "wss://***"),
        ("wss://me@you@example.com/", "wss://***@example.com/"),
        ("ws://[::1/x", "ws://***"),
        ("ws://exa mple.com/x", "ws://***"),
        ("ws://example.com:port/x", "ws://***"),
        ("ws://example.com/a b?token=1 2", "ws://example.com/***"),
        ("ws://example.com/a\r\nHost: x", "ws://example.com/***"),
        ("ws://example.com\\@evil/", "ws://***@evil/"),
        ("ws://example.com\\evil/", "ws://***"),
        ("ws://example.com/?", "ws://example.com/?"),
        ("ws://example.com?a", "ws://example.com?***"),
        ("ws://example.com/?=x&a=&&b=1", "ws://example.com/?***=***&***&&b=***"),
        ("ws://example.com/p/wss://me:pass@inner.example/x", "ws://example.com/p/wss://***/x"),
        ("ws://example.com/p/me@inner.example/x", "ws://example.com/p/***/x"),
        ("ws://example.com/wss%3A%2F%2Fme%3Apass%40x", "ws://example.com/***"),
        ("ws://example.com/x;jsessionid=1234", "ws://example.com/***"),
        (f"ws://example.com/?{'0af' * 10}=1", "ws://example.com/?***=***"),
    ],
)
def test_odd_url_shows_only_its_certain_parts(url, shown):
    """In a malformed URL everything after the host is masked, or after the scheme if the host is not recognized."""
    assert redact_url(url) == shown
    assert redact_url(shown) == shown


@pytest.mark.parametrize(
    "url",
    [
        "wss://stream.binance.com:9443/stream/btcusdt@trade/ethusdt@aggTrade",
        "wss://stream.binance.com:9443/ws/btcusdt@depth20@100ms",
        "http://localhost:8888/api/kernels",
        "wss://example.com/BTC-PERPETUAL-2024-06-28/ticker",
        "wss://example.com/v2/subscribeToEverythingNow/my-kernel-name-for-testing",
        "wss://example.com/market_by_price:BTCUSDT,ETHUSDT",
        "ws://[fe80::1]:8765/",
    ],
)
def test_ordinary_words_are_shown(url):
    """A path made of words is not changed."""
    assert redact_url(url) == url
    assert redact(f"cannot open {url}: no") == f"cannot open {url}: no"


@pytest.mark.parametrize(
    "text",
    [
        "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate (_ssl.c:1006)",
        "SSLCertVerificationError: hostname mismatch",
        "[Errno 111] Connect call failed ('127.0.0.1', 38591)",
        "invalid Sec-WebSocket-Accept header: x",
        "create_connection() got an unexpected keyword argument 'additional_headerz'",
        "server rejected WebSocket connection: HTTP 401",
        "frame with 1048577 bytes exceeds limit of 1048576 bytes at 2024-06-28T12:00:00+00:00",
        "/usr/lib/python3.11/site-packages/websockets/asyncio/client.py",
        "    return await self.session.get_v3_user_data(symbol)",
        "nothing of BTCUSDT_kline_1h_stream came",
        "://",
    ],
)
def test_ordinary_messages_are_shown(text):
    """Ordinary texts of exceptions are not changed."""
    assert redact(text) == text


def test_the_words_after_a_query_are_shown():
    """Masking of a query's value ends with its parameter, even if the name is that of a header."""
    assert redact("GET /ws?signature=x&a=1 HTTP/1.1") == "GET /ws?signature=***&a=*** HTTP/1.1"


@pytest.mark.parametrize(
    ("token", "kind"),
    [
        (str(uuid.UUID(int=0)), "UUID of zeros"),
        ("decade-facade-facade-b", "hexadecimal, though it spells"),
        ("o" * 17 + "-words", "one endless word"),
        ("aBcIdEfOgUhAiEjOkUlA", "capitals come and go"),
        ("a%20b%20c%20d%20e%20f%20", "percent-encoded"),
    ],
)
def test_long_segment_without_words_is_not_shown(token, kind):
    """Texts of 20 or more characters are masked unless they consist of words."""
    assert redact_url(f"ws://h/{token}/x") == "ws://h/***/x", kind


def test_line_breaks_and_terminal_escapes_are_escaped():
    """Line breaks and terminal escapes of a server are escaped, so it cannot forge log lines or control a terminal."""
    assert redact("bye\r\nERROR \x1b[2J\u202e\ud800 all well") == r"bye\r\nERROR \x1b[2J\u202e\ud800 all well"
    assert not re.search(r"[^ -~]", redact_url("ws://h\x00\x7f/\x9b"))
