"""The subscriptions of all channels on one connection, and the command that is sent next."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxws.sending.channels import ChannelRegistry
from rxws.sending.subscriptions import HEALTHY, LINGER, TRANSITIONS, Subscriptions, SubscriptionState
from tests.sending.test_channels import channel, joined


def test_transitions_name_every_state():
    """The table of transitions names every state as a source and as a target."""
    assert set(TRANSITIONS) == set(SubscriptionState)
    assert set().union(*TRANSITIONS.values()) == set(SubscriptionState)


def change(wanted, subscriptions, *, add_reference=(), remove_reference=()):
    """Remove and add references, and notify the subscriptions."""
    for name in remove_reference:
        wanted.remove_reference(wanted[name])
        subscriptions.changed(name)
    for name in add_reference:
        wanted.add_reference(channel(name))
        subscriptions.changed(name)


def names_of(command):
    """Return the names of a command's channels."""
    return "".join(each.identity for each in command.messages)


def carry_out(subscriptions, command):
    """Note that the server has carried out a command."""
    for each in command.messages:
        subscriptions.done(each, command.subscribes)


def take_all(subscriptions):
    """Take all commands and carry them out; return them as words."""
    done = []
    while (command := subscriptions.take_command()) is not None:
        done += [("+" if command.subscribes else "-") + each.identity for each in command.messages]
        carry_out(subscriptions, command)
    assert subscriptions.is_settled
    return done


def test_wanted_channels_are_subscribed_in_order_when_a_connection_is_new():
    """A new connection subscribes each wanted channel, in the order in which the channels were wanted."""
    wanted = ChannelRegistry()
    for name in "cab":
        wanted.add_reference(channel(name))
    subscriptions = Subscriptions(wanted)
    assert not subscriptions.is_settled
    assert take_all(subscriptions) == ["+c", "+a", "+b"]


def test_unsubscribe_is_first_when_both_are_due():
    """A channel that is no longer wanted is unsubscribed before another one is subscribed."""
    wanted = ChannelRegistry()
    subscriptions = Subscriptions(wanted)
    change(wanted, subscriptions, add_reference="ab")
    take_all(subscriptions)
    change(wanted, subscriptions, add_reference="c", remove_reference="a")
    assert take_all(subscriptions) == ["-a", "+c"]


def test_both_commands_follow_when_a_channel_is_dropped_and_wanted_again():
    """A subscribed channel that is dropped and wanted again is unsubscribed and subscribed. One that is pending is
    only subscribed.
    """
    wanted = ChannelRegistry()
    subscriptions = Subscriptions(wanted)
    change(wanted, subscriptions, add_reference="ab")
    take_all(subscriptions)
    change(wanted, subscriptions, add_reference="a", remove_reference="a")
    assert subscriptions.is_expiring("a")
    assert take_all(subscriptions) == ["-a", "+a"]
    assert not subscriptions.is_expiring("a")
    change(wanted, subscriptions, add_reference="c")
    change(wanted, subscriptions, add_reference="c", remove_reference="c")
    assert take_all(subscriptions) == ["+c"]


def test_nothing_follows_when_a_channel_is_dropped_and_wanted_again_in_flight():
    """A subscription under way is kept for the channel that is wanted again, so no message is missing in between."""
    wanted = ChannelRegistry()
    subscriptions = Subscriptions(wanted)
    change(wanted, subscriptions, add_reference="a")
    command = subscriptions.take_command()
    change(wanted, subscriptions, add_reference="a", remove_reference="a")
    carry_out(subscriptions, command)
    assert take_all(subscriptions) == []
    change(wanted, subscriptions, remove_reference="a")
    assert take_all(subscriptions) == ["-a"]


def test_opposite_command_follows_when_a_change_is_undone_in_flight():
    """A command in flight is carried out; then the opposite command follows."""
    wanted = ChannelRegistry()
    subscriptions = Subscriptions(wanted)
    change(wanted, subscriptions, add_reference="a")
    command = subscriptions.take_command()
    change(wanted, subscriptions, remove_reference="a")
    assert not any(subscriptions.is_due(each, True) for each in command.messages)
    carry_out(subscriptions, command)
    command = subscriptions.take_command()
    assert not command.subscribes
    change(wanted, subscriptions, add_reference="a")
    carry_out(subscriptions, command)
    assert take_all(subscriptions) == ["+a"]


def test_refused_channel_is_not_due_when_it_is_still_wanted():
    """A refused channel is not subscribed and not due until it is no longer wanted and then wanted again."""
    wanted = ChannelRegistry()
    subscriptions = Subscriptions(wanted)
    change(wanted, subscriptions, add_reference="ab")
    [first] = subscriptions.take_command().messages
    subscriptions.refuse(first)
    assert take_all(subscriptions) == ["+b"]
    assert [subscriptions.has(name) for name in "abc"] == [False, True, False]
    change(wanted, subscriptions, add_reference="a")
    assert subscriptions.is_settled
    change(wanted, subscriptions, remove_reference="aa")
    assert subscriptions.is_settled
    change(wanted, subscriptions, add_reference="a")
    assert take_all(subscriptions) == ["+a"]
    assert subscriptions.has("a")


def test_refusal_is_forgotten_when_the_channel_is_no_longer_wanted():
    """A channel that is dropped before its refusal arrives is neither due nor remembered as refused."""
    wanted = ChannelRegistry()
    subscriptions = Subscriptions(wanted)
    change(wanted, subscriptions, add_reference="a")
    [first] = subscriptions.take_command().messages
    change(wanted, subscriptions, remove_reference="a")
    subscriptions.refuse(first)
    assert subscriptions.is_settled
    assert not wanted.refused


def test_halves_are_separate_commands_when_a_command_is_divided():
    """After a command is divided, each half is a separate command, and other channels are combined with neither."""
    wanted = ChannelRegistry()
    for name in "abcde":
        wanted.add_reference(channel(name, combine=joined))
    subscriptions = Subscriptions(wanted)
    subscriptions.divide(subscriptions.take_command().messages, 2)
    wanted.add_reference(channel("f", combine=joined))
    subscriptions.changed("f")
    assert [names_of(subscriptions.take_command()) for _ in range(3)] == ["abc", "de", "f"]


def test_refused_channel_is_last_when_a_connection_is_new():
    """A channel that was refused before is subscribed last and alone, until this succeeds or it is no longer wanted."""
    wanted = ChannelRegistry()
    for name in "abcd":
        wanted.add_reference(channel(name, combine=joined))
    first = Subscriptions(wanted)
    for each in list(first.take_command().messages)[:2]:
        first.refuse(each)

    def commands_of(subscriptions):
        commands = []
        while (command := subscriptions.take_command()) is not None:
            commands.append((names_of(command), command.is_overdue))
            carry_out(subscriptions, command)
        return commands

    assert commands_of(Subscriptions(wanted)) == [("cd", False), ("a", True), ("b", True)]
    assert commands_of(Subscriptions(wanted)) == [("abcd", False)]
    third = Subscriptions(wanted)
    for each in third.take_command().messages:
        third.refuse(each)
        wanted.remove_reference(each)
    assert not wanted.refused


def test_channels_are_combined_when_they_have_the_same_function():
    """At most ``combine_max`` channels with the same ``combine`` share a command; other channels have separate ones."""
    wanted = ChannelRegistry()
    for name in ("a1", "b", "a2", "a3", "c", "a4"):
        combine = {"a": joined, "b": None, "c": max}[name[0]]
        wanted.add_reference(channel(name, combine=combine, combine_max=3))
    subscriptions, commands = Subscriptions(wanted), []
    while (command := subscriptions.take_command()) is not None:
        assert all(subscriptions.is_due(each, True) for each in command.messages)
        commands.append([each.identity for each in command.messages])
        carry_out(subscriptions, command)
    assert commands == [["a1", "a2", "a3"], ["b"], ["c"], ["a4"]]


def test_divided_channels_stay_alone_when_they_cannot_be_combined():
    """Divided channels get separate commands until they are subscribed or unwanted; other channels are combined."""
    wanted = ChannelRegistry()
    first = [wanted.add_reference(channel(name, combine=joined)) for name in ("a", "b", "c")]
    subscriptions = Subscriptions(wanted)
    subscriptions.divide(subscriptions.take_command().messages, 3)
    for name in ("d", "e"):
        wanted.add_reference(channel(name, combine=joined))
        subscriptions.changed(name)
    wanted.remove_reference(first[2])
    subscriptions.changed("c")
    commands = [subscriptions.take_command() for _ in range(3)]
    assert [names_of(command) for command in commands] == ["a", "b", "de"]
    for command in commands:
        carry_out(subscriptions, command)
    for each in first[:2]:
        wanted.remove_reference(each)
        subscriptions.changed(each.identity)
        carry_out(subscriptions, subscriptions.take_command())
    for name in ("a", "b", "c"):
        wanted.add_reference(channel(name, combine=joined))
        subscriptions.changed(name)
    assert names_of(subscriptions.take_command()) == "abc"


def test_channel_is_taken_again_when_its_command_failed():
    """A postponed channel is no longer awaited, and is taken again once it is freed. Its delays grow until it is
    subscribed.
    """
    wanted = ChannelRegistry()
    wanted.add_reference(channel("a"))
    subscriptions, delays = Subscriptions(wanted), []
    for _ in range(9):
        [first] = subscriptions.take_command().messages
        delays.append(subscriptions.postpone(first))
        assert subscriptions.take_command() is None
        awaited = [subscriptions.is_awaited(overdue=True, postponed=each) for each in (False, True)]
        assert awaited == [False, True]
        subscriptions.free(first)
    assert delays[0] == 0
    assert max(delays) > 1
    assert take_all(subscriptions) == ["+a"]
    change(wanted, subscriptions, remove_reference="a")
    [first] = subscriptions.take_command().messages
    assert subscriptions.postpone(first) == 0


@pytest.mark.parametrize("waits_for_overdue", [False, True])
def test_opening_waits_for_no_channels_that_become_wanted_later(waits_for_overdue):
    """An opening waits for the channels that were wanted first, until they are subscribed, dropped, or overdue."""
    wanted = ChannelRegistry()
    for name in "abc":
        wanted.add_reference(channel(name))
    subscriptions = Subscriptions(wanted)
    change(wanted, subscriptions, add_reference="d")

    def is_awaited():
        return subscriptions.is_awaited(overdue=waits_for_overdue, postponed=False)

    first, second, third, _fourth = [next(iter(subscriptions.take_command().messages)) for _ in range(4)]
    subscriptions.done(first, True)
    assert is_awaited()
    change(wanted, subscriptions, remove_reference="c")
    subscriptions.free(third)
    subscriptions.overdue(second)
    assert is_awaited() is waits_for_overdue
    subscriptions.done(second, True)
    assert not is_awaited()
    assert not subscriptions.is_settled


def test_absent_channels_are_forgotten_when_no_message_of_theirs_can_arrive():
    """A channel that was never subscribed is forgotten at once; one that was unsubscribed is forgotten later."""
    wanted = ChannelRegistry()
    subscriptions = Subscriptions(wanted)
    change(wanted, subscriptions, add_reference="a")
    change(wanted, subscriptions, remove_reference="a")
    assert not subscriptions
    for number, name in enumerate("abc"):
        change(wanted, subscriptions, add_reference=name)
        take_all(subscriptions)
        change(wanted, subscriptions, remove_reference=name)
        [left] = subscriptions.take_command().messages
        subscriptions.leaving(left, 0.6 * LINGER * number)
        subscriptions.done(left, False)
    assert list(subscriptions) == ["b", "c"]
    assert [subscriptions.is_leaving(name, 1.7 * LINGER) for name in "abc"] == [False, False, True]


def test_ended_channel_is_postponed_unless_it_is_not_wanted():
    """The delays grow from one soon end to the next; a channel that is not subscribed, or not wanted, has no end."""
    wanted = ChannelRegistry()
    subscriptions, delays = Subscriptions(wanted), []
    change(wanted, subscriptions, add_reference="a")
    assert subscriptions.ended(wanted["a"], 0.0) is None
    for _ in range(9):
        take_all(subscriptions)
        delays.append(subscriptions.ended(wanted["a"], 0.0))
        assert subscriptions.take_command() is None
        assert subscriptions.ended(wanted["a"], 0.0) is None
        subscriptions["a"].since = -1.0
        subscriptions.free(wanted["a"])
    assert max(delays) > 1
    take_all(subscriptions)
    assert subscriptions.ended(wanted["a"], HEALTHY) == 0
    subscriptions.free(wanted["a"])
    take_all(subscriptions)
    left = wanted["a"]
    change(wanted, subscriptions, add_reference="a", remove_reference="a")
    assert subscriptions.ended(left, 0.0) is None
    assert take_all(subscriptions) == ["+a"]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.booleans())))
def test_wanted_channels_are_subscribed_in_the_end_when_events_are_random(events):
    """After any sequence of changes, commands and failures, exactly the wanted channels are subscribed."""
    wanted, held, server = ChannelRegistry(), [], set()
    subscriptions, under_way = Subscriptions(wanted), None

    def finish():
        for each in under_way.messages:
            # The server never gets the same command for a channel twice in a row.
            assert (each.identity in server) is not under_way.subscribes
            (server.add if under_way.subscribes else server.discard)(each.identity)
        carry_out(subscriptions, under_way)

    for name, wants, commands in events:
        if wants:
            held.append(wanted.add_reference(channel(name)))
        else:
            for each in [each for each in held if each.identity == name][:1]:
                held.remove(each)
                wanted.remove_reference(each)
        subscriptions.changed(name)
        if commands:
            if under_way is not None:
                finish()
            under_way = subscriptions.take_command()
    if under_way is not None:
        finish()
    while (under_way := subscriptions.take_command()) is not None:
        finish()
    assert server == set(wanted) == {each.identity for each in held}
