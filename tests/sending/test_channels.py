"""What is subscribed, counted; and what to send on a connection for it."""

from __future__ import annotations

import asyncio
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxws.sending.channels import Ledger, Step, Subscription, Subscriptions, identity_of


def subscription(subscribe, unsubscribe=None, acknowledged=None, **options):
    """Make one with the usual defaults."""
    usual = {"rejected": None, "timeout": 10.0, "combine": None, "combine_max": 200}
    return Subscription.checked(subscribe, unsubscribe, acknowledged, **(usual | options))


def joined(messages):
    """Combine messages."""
    return "+".join(messages)


# What a subscription is


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
def test_identity_is_what_is_sent_or_the_function(one, other, equal):
    """Two subscribe messages are one if the same is sent, or the same function is asked."""
    assert (identity_of(one) == identity_of(other)) is equal


def test_identity_when_the_feed_has_an_encoding_of_its_own():
    """What is sent is what the feed's own encoding makes of it."""
    assert subscription(1 + 2j, encode=str).identity == "(1+2j)"


def test_messages_are_those_of_the_call():
    """What is done to the arguments afterwards changes neither what is sent nor what is equal."""
    message = {"args": ["a"]}
    first = subscription(message, message)
    message["args"][0] = "b"
    assert first.subscribe == first.unsubscribe == {"args": ["a"]}
    assert subscription(message).identity != first.identity


class Unhashable:
    __hash__ = None

    def __call__(self):
        raise AssertionError("nobody asks it")


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
        (("a",), {"combine_max": 0}, ValueError, "combine_max must be at least 1"),
    ],
)
def test_arguments_when_they_are_wrong(arguments, options, error, words):
    """What cannot be is refused at once, and the argument is named."""
    with pytest.raises(error, match=words):
        subscription(*arguments, **options)


# What is wanted


def test_wanted_is_counted():
    """The first of an equal subscription stands for all; with the last one it is wanted no more."""
    wanted = Subscriptions()
    first = wanted.want(subscription("a"))
    assert wanted.want(subscription("a")) is first
    assert (len(wanted), "a" in wanted, list(wanted), wanted["a"]) == (1, True, ["a"], first)
    wanted.release(first)
    assert len(wanted) == 1
    wanted.release(first)
    assert (len(wanted), "a" in wanted) == (0, False)


# What is to be done on a connection


def change(wanted, ledger, *, want=(), release=()):
    """Want and release, and tell."""
    for name in want:
        wanted.want(subscription(name))
        ledger.changed(name)
    for name in release:
        wanted.release(wanted[name])
        ledger.changed(name)


def take_all(ledger):
    """Take all steps; return them in words."""
    done = []
    while (step := ledger.take_step()) is not None:
        done += [("+" if step.subscribes else "-") + each.identity for each in step.subscriptions]
        ledger.done(step)
    assert not ledger.is_due
    return done


def test_ledger_begins_with_all_that_is_wanted_in_order():
    """On a new connection everything is to be subscribed, in the order in which it was wanted, each by itself."""
    wanted = Subscriptions()
    for name in "cab":
        wanted.want(subscription(name))
    ledger = Ledger(wanted)
    assert ledger.is_due
    assert take_all(ledger) == ["+c", "+a", "+b"]


def test_ledger_unsubscribes_first():
    """What is wanted no more makes room for what is wanted now."""
    wanted = Subscriptions()
    ledger = Ledger(wanted)
    change(wanted, ledger, want="ab")
    take_all(ledger)
    change(wanted, ledger, want="c", release="a")
    assert take_all(ledger) == ["-a", "+c"]


def test_ledger_when_something_is_called_off_before_its_step():
    """What is wanted no more before it was subscribed, and what is wanted again in time, costs no message."""
    wanted = Subscriptions()
    ledger = Ledger(wanted)
    change(wanted, ledger, want="ab")
    change(wanted, ledger, release="a")
    assert take_all(ledger) == ["+b"]
    change(wanted, ledger, release="b")
    change(wanted, ledger, want="b")
    assert take_all(ledger) == []


def test_ledger_when_something_is_called_off_during_its_step():
    """A step that is under way comes to its end; then follows what undoes it."""
    wanted = Subscriptions()
    ledger = Ledger(wanted)
    change(wanted, ledger, want="a")
    step = ledger.take_step()
    change(wanted, ledger, release="a")
    assert ledger.still_due(step).subscriptions == ()
    ledger.done(step)
    step = ledger.take_step()
    assert not step.subscribes
    change(wanted, ledger, want="a")
    ledger.done(step)
    assert take_all(ledger) == ["+a"]


def test_ledger_when_something_is_refused():
    """What was refused is neither subscribed nor due, until it was wanted no more and is wanted again."""
    wanted = Subscriptions()
    ledger = Ledger(wanted)
    change(wanted, ledger, want="ab")
    step = ledger.take_step()
    ledger.refuse(step)
    ledger.free(step)
    assert take_all(ledger) == ["+b"]
    assert not ledger.is_due
    assert ["a" in ledger, "b" in ledger, "c" in ledger] == [False, True, False]
    change(wanted, ledger, want="a")
    assert not ledger.is_due
    change(wanted, ledger, release="aa")
    assert not ledger.is_due
    change(wanted, ledger, want="a")
    assert take_all(ledger) == ["+a"]
    assert "a" in ledger


def test_ledger_halves_what_was_refused_together():
    """The halves are steps of their own, and what is wanted later is combined with neither."""
    wanted = Subscriptions()
    for name in "abcde":
        wanted.want(subscription(name, combine=joined))
    ledger = Ledger(wanted)
    together = ledger.take_step()
    ledger.divide(together, 2)
    ledger.free(together)
    wanted.want(subscription("f", combine=joined))
    ledger.changed("f")
    steps = [ledger.take_step() for _ in range(3)]
    assert ["".join(each.identity for each in step.subscriptions) for step in steps] == ["abc", "de", "f"]


def test_ledger_of_a_new_connection_knows_what_was_refused():
    """It comes last and by itself, until it is subscribed somewhere, or wanted no more."""
    wanted = Subscriptions()
    for name in "abcd":
        wanted.want(subscription(name, combine=joined))
    first = Ledger(wanted)
    together = first.take_step()
    first.refuse(Step(together.subscriptions[:2], subscribes=True))
    first.free(together)

    def steps_of(ledger):
        steps = []
        while (step := ledger.take_step()) is not None:
            steps.append(("".join(each.identity for each in step.subscriptions), ledger.is_doubtful(step)))
            ledger.done(step)
        return steps

    assert steps_of(Ledger(wanted)) == [("cd", False), ("a", True), ("b", True)]
    assert steps_of(Ledger(wanted)) == [("abcd", False)]
    together = Ledger(wanted).take_step()
    first.refuse(together)
    for each in together.subscriptions:
        wanted.release(each)
    assert not wanted.refused


def test_ledger_combines_what_has_the_same_function():
    """Several are one step, at most so many; what combines otherwise, or not, is a step of its own."""
    wanted = Subscriptions()
    for name in ("a1", "b", "a2", "a3", "c", "a4"):
        combine = {"a": joined, "b": None, "c": max}[name[0]]
        wanted.want(subscription(name, combine=combine, combine_max=3))
    ledger, steps = Ledger(wanted), []
    while (step := ledger.take_step()) is not None:
        assert ledger.still_due(step) == step
        steps.append([each.identity for each in step.subscriptions])
        ledger.done(step)
    assert steps == [["a1", "a2", "a3"], ["b"], ["c"], ["a4"]]


def test_ledger_separates_what_cannot_be_combined():
    """Each is a step by itself until it is subscribed, or wanted no more; the others are combined as ever."""
    wanted = Subscriptions()
    first = [wanted.want(subscription(name, combine=joined)) for name in ("a", "b", "c")]
    ledger = Ledger(wanted)
    together = ledger.take_step()
    ledger.divide(together, 3)
    ledger.free(together)
    for name in ("d", "e"):
        wanted.want(subscription(name, combine=joined))
        ledger.changed(name)
    wanted.release(first[2])
    ledger.changed("c")
    steps = [ledger.take_step() for _ in range(3)]
    assert [[each.identity for each in step.subscriptions] for step in steps] == [["a"], ["b"], ["d", "e"]]
    for step in steps:
        ledger.done(step)
    for each in first[:2]:
        wanted.release(each)
        ledger.changed(each.identity)
        ledger.done(ledger.take_step())
    for name in ("a", "b", "c"):
        wanted.want(subscription(name, combine=joined))
        ledger.changed(name)
    assert [each.identity for each in ledger.take_step().subscriptions] == ["a", "b", "c"]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.booleans())))
def test_ledger_ends_where_it_should_whatever_happens(events):
    """However things are wanted, released and stepped at, in the end what is wanted is subscribed, and nothing else."""
    wanted, held, server = Subscriptions(), [], set()
    ledger, under_way = Ledger(wanted), None

    def finish():
        for each in under_way.subscriptions:
            # Of one thing the server is never told the same twice.
            assert (each.identity in server) is not under_way.subscribes
            (server.add if under_way.subscribes else server.discard)(each.identity)
        ledger.done(under_way)

    for name, wants, steps in events:
        if wants:
            held.append(wanted.want(subscription(name)))
        else:
            for each in [each for each in held if each.identity == name][:1]:
                held.remove(each)
                wanted.release(each)
        ledger.changed(name)
        if steps:
            if under_way is not None:
                finish()
            under_way = ledger.take_step()
    if under_way is not None:
        finish()
    while (under_way := ledger.take_step()) is not None:
        finish()
    assert server == set(wanted) == {each.identity for each in held}
