"""Secrets are recognized by the name of a field, and by the lengths and characters of words."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from rxws.reporting.quoting import quoted
from rxws.reporting.redaction import redact, redact_url
from rxws.reporting.tokens import is_secret_name, mask_tokens

from ..support.secrets import PASSWORDS, TOKENS, is_shown, samples

ORDINARY = Path(__file__).with_name("ordinary.txt").read_text(encoding="utf-8").splitlines()

NAMES = (
    *("pwd", "pass", "pin", "otp", "auth", "sign", "hmac", "session_id", "sid", "jwt", "mac", "authKey", "apiKey"),
    *("api_key", "api-key", "APIKEY", "X-MBX-APIKEY", "CB-ACCESS-SIGN", "OK-ACCESS-KEY", "KC-API-PASSPHRASE"),
    *("API-Sign", "accessToken", "refresh_token", "clientSecret", "SecretKey", "AccessKeyId", "listenKey"),
    *("private_key", "passphrase", "passwd", "userPassword", "db_pass", "Proxy-Authorization", "Set-Cookie"),
    *("JSESSIONID", "connect.sid", "X-CSRF-Token", "credentials", "seed_phrase", "totp", "otpCode", "user[password]"),
    *("hmac_sha256", "signingKey", "oauth_token", "x-api-key", "appKey", "passcode", "sign_2", "signatureHash"),
)
"""Names of fields whose values are secrets."""

OTHER_NAMES = (
    *("pinned", "author", "assign", "design", "signal", "signup", "compass", "machine", "macro", "side", "price"),
    *("symbol", "key", "keys", "channel", "stream", "order_id", "clientOrderId", "tokenize", "authorized", "passed"),
    *("monkey", "keyboard", "hotkey", "type", "method", "topic", "signed", "spin", "opinion", "sign_type"),
    *("token_type", "expires_in", "secretary", "pinging", "macd", "auth_method", "option", "session_start"),
)
"""Names that only resemble the names of secrets."""

FORMS = (
    '{{"{name}": "{secret}", "a": 1}}',
    "{{'{name}': '{secret}'}}",
    "{{'{name}': b'{secret}'}}",
    "[('{name}', '{secret}')]",
    '{{\\"{name}\\": \\"{secret}\\"}}',
    "{name}={secret}",
    "{name} = {secret}",
    "{name}: {secret}",
    "line one\n{name}: {secret}",
    "login(user='me', {name}='{secret}')",
)
"""The forms in which a text has a field."""


@pytest.mark.parametrize("name", NAMES)
def test_value_is_masked_when_its_name_is_that_of_a_secret(name):
    """The value of a secret's field is masked in every form, whatever the value."""
    assert is_secret_name(name)
    for secret in samples(PASSWORDS, 3):
        for form in FORMS:
            text = form.format(name=name, secret=secret)
            assert not is_shown(secret, redact(text)), text
            assert name in redact(text)


@pytest.mark.parametrize("name", OTHER_NAMES)
def test_value_is_shown_when_its_name_only_resembles_that_of_a_secret(name):
    """A name that only contains the letters of a secret's name does not mask its value."""
    assert not is_secret_name(name)
    assert redact(f'{{"{name}": "abc"}}') == f'{{"{name}": "abc"}}'


@pytest.mark.slow
@pytest.mark.parametrize("shape", TOKENS)
def test_token_is_masked_when_it_is_in_any_text(shape):
    """None of 500 random secrets of each shape is shown in a text, a path, a list or a call."""
    for token in samples({shape: TOKENS[shape]}, 500):
        for text in (
            f"no {token} there",
            f"/ws/{token}/x",
            f"['auth', 1, \"{token}\"]",
            f"f({token}).",
            f"a\n{token}\n",
            f"key_{token}",
            # Encoders of JSON in PHP and .NET escape these characters.
            json.dumps({"x": token}).replace("/", r"\/"),
            repr(json.dumps({"x": token}).replace("/", r"\/")),
            json.dumps({"x": token}).replace("+", r"\u002B").replace("=", r"\u003d"),
        ):
            assert not is_shown(token, redact(text)), text
        assert not is_shown(token, redact_url(f"wss://example.com/stream/{token}/x"))
        assert not is_shown(token, quoted("x" * 150 + f" {token}"))


@pytest.mark.parametrize("shape", PASSWORDS)
def test_password_is_masked_when_its_place_is_that_of_a_secret(shape):
    """None of 500 random passwords is shown in user information, a query, a form or a header."""
    for secret in samples({shape: PASSWORDS[shape]}, 500):
        quoted = secret.replace(" ", "%20")
        for text in (
            f"cannot open wss://me:{quoted}@example.com/x",
            f"cannot open wss://me:{secret}@example.com/x",
            f"GET /ws?a=1&x={quoted} HTTP/1.1",
            f"body: user=me&password={quoted}&x=1",
            f"GET / HTTP/1.1\r\nCookie: id={quoted}\r\nHost: example.com",
            f"proxy me:{quoted}@proxy.example.com:80 failed",
            f"proxy me:{quoted}@10.0.0.1 failed",
            f"broker me:{quoted}@broker:4222 failed",
            f"sent {{'op': 'auth', 'args': ['me', '{quoted}']}}",
            f'sent {{"op":"auth","args":["me","{quoted}"]}}',
            f"sent Bearer {quoted} and failed",
        ):
            assert not is_shown(quoted, redact(text)), text


@pytest.mark.parametrize(
    "password", ['abc"0123456789', 'abc\\"0123456789', 'abc"0123456789", "x": 12', "abc'0123456789"]
)
def test_password_is_masked_up_to_its_end_when_it_contains_a_quote(password):
    """A quote in a password does not end it, in JSON, in a repr, and in a repr of JSON."""
    message = {"password": password, "n": 1}
    for text in (json.dumps(message), repr(message), repr(json.dumps(message)), repr(ValueError(json.dumps(message)))):
        assert not is_shown("0123456789", redact(text)), text


def test_password_is_masked_when_unusual_characters_follow_its_name():
    """A tab may precede the colon, and the colon may be that of Chinese texts."""
    assert redact('{"password"\t:\t"abc"}') == r'{"password"\t:***'
    assert redact("password\uff1aabc") == "password\uff1a***"


def test_answer_to_a_login_is_shown():
    """A field whose value is a word such as "auth" is not masked, and neither are the fields after it."""
    text = '{"event":"auth","status":"FAILED","code":10100}'
    assert redact(text) == text


def test_private_key_is_masked_when_it_has_many_lines():
    """A key in PEM is masked up to its end, and what follows is shown."""
    text = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg\nkqhkiG9w0BAQEF\n-----END PRIVATE KEY-----\nwas refused"
    assert redact(text) == r"***\nwas refused"


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_is_shown(text):
    """Words, symbols, channels, numbers, times, paths and names of programs are not masked."""
    assert mask_tokens(text) == text
    assert redact(f"no {text} here") == f"no {text} here"


def test_corpus_of_ordinary_texts_is_large():
    """The corpus has at least 500 different texts."""
    assert len(set(ORDINARY)) == len(ORDINARY) >= 500


@pytest.mark.parametrize(
    "text", ["a", "a.", "a=", "pin=", '"', "\\n", "/", "A1/", "://", "@:", "a:b@", "-----BEGIN ", "?a=&", "\\"]
)
def test_redaction_takes_little_time_when_a_text_is_long(text):
    """The time for redacting a text is at most proportional to its length: with its square it would be a minute."""
    began = time.process_time()
    redact(text * (200_000 // len(text)))
    assert time.process_time() - began < 10


def test_beginning_is_shown_when_a_text_is_long():
    """The beginning of a long text has at most 200 characters, and no part of a token that the cut divides."""
    token = next(samples({"listen key": TOKENS["listen key"]}, 1))
    assert quoted("word " * 100) == ("word " * 100)[:200] + "…"
    for size in range(130, 210):
        assert not is_shown(token, quoted("x, " * (size // 3) + token + " and more"))
