"""Channels: their arguments, their identity, and their reference counts."""

from __future__ import annotations

import asyncio
import math

import pytest

from rxws.messages.filters import Filter
from rxws.sending.channels import Channel, ChannelRegistry, identity_of


def channel(subscribe, unsubscribe=None, acknowledged=None, **options):
    """Return a channel with the usual defaults."""
    usual = {"rejected": None, "timeout": 10.0, "combine": None, "combine_max": 200}
    return Channel(subscribe, unsubscribe, acknowledged, **(usual | options))


def joined(messages):
    """Combine messages."""
    return "+".join(messages)


# Channels


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ({"a": 1}, {"a": 1}, True),
        ({"a": 1}, '{"a":1}', True),
        ({"a": [{"b": 1, "c": 2}], "d": 3}, {"d": 3, "a": ({"c": 2, "b": 1},)}, True),
        ({"a": [1, 2]}, {"a": [2, 1]}, False),
        ("a", b"a", False),
        (b"a", bytearray(b"a"), True),
        (joined, joined, True),
        (joined, len, False),
        ("a", "b", False),
    ],
)
def test_identity_is_equal_when_the_payload_or_the_function_is(one, other, equal):
    """Two subscribe messages have equal identities if their payloads are equal or they are the same function."""
    assert (identity_of(one) == identity_of(other)) is equal


def test_identity_uses_the_encoding_when_the_feed_has_its_own():
    """The identity is the payload that the feed's own ``encode`` makes."""
    assert channel(1 + 2j, encode=str).identity == "(1+2j)"


def test_channel_stays_the_same_when_its_arguments_change_later():
    """Later changes to the arguments change neither the messages nor the identity of a channel."""
    message = {"args": ["a"]}
    first = channel(message, message)
    message["args"][0] = "b"
    assert first.subscribe == first.unsubscribe == {"args": ["a"]}
    assert channel(message).identity != first.identity


class Unhashable:
    __hash__ = None

    def __call__(self):
        raise AssertionError("it was called")


@pytest.mark.parametrize(
    ("arguments", "options", "error", "words"),
    [
        ((None,), {}, TypeError, "not None"),
        ((object(),), {}, TypeError, None),
        ((Unhashable(),), {}, TypeError, "unhashable"),
        (({"a": math.nan},), {}, ValueError, None),
        (("a", object()), {}, TypeError, None),
        (("a", None, {"id": 1}), {}, TypeError, "acknowledged must be a list"),
        (("a", None, None), {"rejected": [{"id": 1}]}, TypeError, "rejected needs acknowledged"),
        (("a", None, [{"id": 1}]), {"rejected": {"id": 1}}, TypeError, "rejected must be a list"),
        (("a",), {"timeout": "1"}, TypeError, "timeout must be"),
        (("a",), {"timeout": True}, TypeError, "timeout must be"),
        (("a",), {"timeout": 0}, ValueError, "timeout must be"),
        (("a",), {"timeout": math.inf}, ValueError, "timeout must be"),
        (("a",), {"timeout": math.nan}, ValueError, "timeout must be"),
        (("a",), {"combine": "+"}, TypeError, "combine must be a plain function"),
        (("a",), {"combine": asyncio.sleep}, TypeError, "combine must be a plain function"),
        (("a",), {"combine_max": 2.0}, TypeError, "combine_max must be"),
        (("a",), {"combine_max": True}, TypeError, "combine_max must be"),
        (("a",), {"combine_max": 0}, ValueError, "combine_max must be an int of at least 1"),
    ],
)
def test_channel_raises_when_an_argument_is_invalid(arguments, options, error, words):
    """An invalid argument raises at once an error that names the argument."""
    with pytest.raises(error, match=words):
        channel(*arguments, **options)


# Registry


def test_registry_counts_streams_when_they_want_equal_channels():
    """The first of several equal channels represents them all, until none of their streams is open."""
    wanted = ChannelRegistry()
    first = wanted.add_reference(channel("a"))
    assert wanted.add_reference(channel("a")) is first
    assert (len(wanted), "a" in wanted, list(wanted), wanted["a"]) == (1, True, ["a"], first)
    wanted.remove_reference(first)
    assert len(wanted) == 1
    wanted.remove_reference(first)
    assert (len(wanted), "a" in wanted) == (0, False)


def test_renewed_channel_is_another_one_with_the_same_streams():
    """A renewed channel is an equal one in place of the old, and is wanted by the same streams."""
    wanted = ChannelRegistry()
    first = wanted.add_reference(channel("a"))
    wanted.add_reference(channel("a"))
    wanted.renew(first)
    assert wanted["a"] is not first
    wanted.remove_reference(first)
    assert "a" in wanted
    wanted.remove_reference(first)
    assert "a" not in wanted


def test_messages_of_a_former_channel_are_known_while_it_is_remembered():
    """In an overlap the last messages of an unwanted channel are still recognized as messages of that channel."""
    wanted = ChannelRegistry()
    former = wanted.add_reference(channel("a"), Filter.parse([{"s": "a"}]))
    wanted.remove_reference(former, is_remembered=True)
    assert wanted.channel_of({"s": "a"}) == "a"
    wanted.add_reference(channel("b"), Filter.parse([{"s": "a"}]))
    assert wanted.channel_of({"s": "a"}) == "b"
    other = wanted.add_reference(channel("c"), Filter.parse([{"s": "c"}]))
    wanted.remove_reference(other)
    assert [wanted.channel_of({"s": name}) for name in "ac"] == ["b", None]
