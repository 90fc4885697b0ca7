"""Encoding and decoding of messages."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import json
import uuid

import msgspec
import pytest

from rxws.codec import decode, encode, to_payload


@dataclasses.dataclass
class Order:
    id: int
    price: float


class Trade(msgspec.Struct):
    symbol: str
    price: float


class Side(enum.Enum):
    BUY = "buy"


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"method": "SUBSCRIBE", "params": ["btcusdt@trade"], "id": 7}, None),
        ([1, 2.5, "ü", None, True], '[1,2.5,"ü",null,true]'),
        (None, "null"),
        (0, "0"),
        (2**64, "18446744073709551616"),
        (-(2**200), str(-(2**200))),
        ({"id": 10**30}, '{"id":' + str(10**30) + "}"),
        ({1: 2}, '{"1":2}'),
        (Order(1, 2.5), '{"id":1,"price":2.5}'),
        ([Trade("BTCUSDT", 1.5)], '[{"symbol":"BTCUSDT","price":1.5}]'),
        (Side.BUY, '"buy"'),
        (datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC), '"2026-01-02T03:04:05Z"'),
        (uuid.UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        ((1, {2}), "[1,[2]]"),
        ({"key": b"\x00\xff"}, '{"key":"AP8="}'),
    ],
)
def test_encode_when_json_can_hold_it(message, text):
    """A message becomes compact JSON text, including datetimes, dataclasses, Structs and integers of any size."""
    if text is None:
        assert json.loads(encode(message)) == message
    else:
        assert encode(message) == text


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda number: number,
        lambda number: [1, number],
        lambda number: {"a": {"b": [{"c": number}]}},
        lambda number: {number: 1},
        lambda number: Trade("BTCUSDT", number),
        lambda number: {"orders": [Order(1, number)]},
    ],
    ids=["itself", "list", "nested", "key", "Struct", "dataclass"],
)
def test_encode_when_not_a_number(number, wrap):
    """NaN and infinities raise at any depth, because JSON does not allow them."""
    with pytest.raises(ValueError, match="JSON"):
        encode(wrap(number))


@pytest.mark.parametrize("message", [object(), {"a": [object()]}, {(1, 2): 3}, print])
def test_encode_when_json_cannot_hold_it(message):
    """A value without a JSON form raises TypeError."""
    with pytest.raises(TypeError):
        encode(message)


def test_decode_when_integers_are_large():
    """Integers beyond 64 bits are decoded exactly."""
    number = 2**64 + 1
    assert decode(encode({"id": number})) == {"id": number}
    assert type(decode(str(number))) is int


@pytest.mark.parametrize("payload", ["text", "", "NaN", b"bytes", b""])
def test_payload_when_text_or_bytes(payload):
    """``str`` and bytes are sent unchanged."""
    assert to_payload(payload) is payload


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_payload_when_a_buffer_is_changed_later(kind):
    """Other kinds of bytes are copied, so later changes do not affect the sent frame."""
    given = bytearray(b"abc")
    payload = to_payload(kind(given))
    given[0] = 0
    assert type(payload) is bytes
    assert payload == b"abc"


def test_payload_when_anything_else():
    """Any other message is sent as JSON in a text frame."""
    assert to_payload({"id": 1}) == '{"id":1}'


def test_payload_when_encoded_by_the_user():
    """The user's encode returns text or bytes, and is not called for ``str`` and bytes."""
    assert to_payload({"id": 1}, lambda message: b"packed") == b"packed"
    assert to_payload({"id": 1}, lambda message: "text") == "text"
    assert to_payload("ping", lambda message: 1 / 0) == "ping"


def test_payload_when_encode_returns_something_else():
    """An encode that returns neither raises TypeError with the returned type."""
    with pytest.raises(TypeError, match="encode must return str or bytes, not dict"):
        to_payload({"id": 1}, lambda message: message)
