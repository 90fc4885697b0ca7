"""The states of all channels on one connection, and the next command there."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rxws.sending.channel_states import TRANSITIONS, ChannelState, ChannelStates
from rxws.sending.channels import ChannelCommand, ChannelRegistry
from tests.sending.test_channels import channel, joined


def test_every_state_has_its_transitions():
    """The table of transitions names every state, and every state but ABSENT can be reached."""
    assert set(TRANSITIONS) == set(ChannelState)
    assert set().union(*TRANSITIONS.values()) == set(ChannelState)


def change(wanted, states, *, add_reference=(), remove_reference=()):
    """Want and release, and tell."""
    for name in add_reference:
        wanted.add_reference(channel(name))
        states.changed(name)
    for name in remove_reference:
        wanted.remove_reference(wanted[name])
        states.changed(name)


def take_all(states):
    """Take all steps; return them in words."""
    done = []
    while (command := states.take_command()) is not None:
        done += [("+" if command.subscribes else "-") + each.identity for each in command.channels]
        states.done(command)
    assert not states.is_due
    return done


def test_states_begins_with_all_that_is_wanted_in_order():
    """On a new connection everything is to be subscribed, in the order in which it was wanted, each by itself."""
    wanted = ChannelRegistry()
    for name in "cab":
        wanted.add_reference(channel(name))
    states = ChannelStates(wanted)
    assert states.is_due
    assert take_all(states) == ["+c", "+a", "+b"]


def test_states_unsubscribes_first():
    """What is wanted no more makes room for what is wanted now."""
    wanted = ChannelRegistry()
    states = ChannelStates(wanted)
    change(wanted, states, add_reference="ab")
    take_all(states)
    change(wanted, states, add_reference="c", remove_reference="a")
    assert take_all(states) == ["-a", "+c"]


def test_states_when_something_is_called_off_before_its_step():
    """What is wanted no more before it was subscribed, and what is wanted again in time, costs no message."""
    wanted = ChannelRegistry()
    states = ChannelStates(wanted)
    change(wanted, states, add_reference="ab")
    change(wanted, states, remove_reference="a")
    assert take_all(states) == ["+b"]
    change(wanted, states, remove_reference="b")
    change(wanted, states, add_reference="b")
    assert take_all(states) == []


def test_states_when_something_is_called_off_during_its_step():
    """A step that is under way comes to its end; then follows what undoes it."""
    wanted = ChannelRegistry()
    states = ChannelStates(wanted)
    change(wanted, states, add_reference="a")
    command = states.take_command()
    change(wanted, states, remove_reference="a")
    assert states.still_due(command).channels == ()
    states.done(command)
    command = states.take_command()
    assert not command.subscribes
    change(wanted, states, add_reference="a")
    states.done(command)
    assert take_all(states) == ["+a"]


def test_states_when_something_is_refused():
    """What was refused is neither subscribed nor due, until it was wanted no more and is wanted again."""
    wanted = ChannelRegistry()
    states = ChannelStates(wanted)
    change(wanted, states, add_reference="ab")
    command = states.take_command()
    states.refuse(command)
    states.free(command)
    assert take_all(states) == ["+b"]
    assert not states.is_due
    assert ["a" in states, "b" in states, "c" in states] == [False, True, False]
    change(wanted, states, add_reference="a")
    assert not states.is_due
    change(wanted, states, remove_reference="aa")
    assert not states.is_due
    change(wanted, states, add_reference="a")
    assert take_all(states) == ["+a"]
    assert "a" in states


def test_states_halves_what_was_refused_together():
    """The halves are steps of their own, and what is wanted later is combined with neither."""
    wanted = ChannelRegistry()
    for name in "abcde":
        wanted.add_reference(channel(name, combine=joined))
    states = ChannelStates(wanted)
    together = states.take_command()
    states.divide(together, 2)
    states.free(together)
    wanted.add_reference(channel("f", combine=joined))
    states.changed("f")
    commands = [states.take_command() for _ in range(3)]
    assert ["".join(each.identity for each in command.channels) for command in commands] == ["abc", "de", "f"]


def test_states_of_a_new_connection_knows_what_was_refused():
    """It comes last and by itself, until it is subscribed somewhere, or wanted no more."""
    wanted = ChannelRegistry()
    for name in "abcd":
        wanted.add_reference(channel(name, combine=joined))
    first = ChannelStates(wanted)
    together = first.take_command()
    first.refuse(ChannelCommand(together.channels[:2], subscribes=True))
    first.free(together)

    def steps_of(states):
        commands = []
        while (command := states.take_command()) is not None:
            commands.append(("".join(each.identity for each in command.channels), states.is_doubtful(command)))
            states.done(command)
        return commands

    assert steps_of(ChannelStates(wanted)) == [("cd", False), ("a", True), ("b", True)]
    assert steps_of(ChannelStates(wanted)) == [("abcd", False)]
    third = ChannelStates(wanted)
    together = third.take_command()
    third.refuse(together)
    for each in together.channels:
        wanted.remove_reference(each)
    assert not wanted.refused


def test_states_combines_what_has_the_same_function():
    """Several are one step, at most so many; what combines otherwise, or not, is a step of its own."""
    wanted = ChannelRegistry()
    for name in ("a1", "b", "a2", "a3", "c", "a4"):
        combine = {"a": joined, "b": None, "c": max}[name[0]]
        wanted.add_reference(channel(name, combine=combine, combine_max=3))
    states, commands = ChannelStates(wanted), []
    while (command := states.take_command()) is not None:
        assert states.still_due(command) == command
        commands.append([each.identity for each in command.channels])
        states.done(command)
    assert commands == [["a1", "a2", "a3"], ["b"], ["c"], ["a4"]]


def test_states_separates_what_cannot_be_combined():
    """Each is a step by itself until it is subscribed, or wanted no more; the others are combined as ever."""
    wanted = ChannelRegistry()
    first = [wanted.add_reference(channel(name, combine=joined)) for name in ("a", "b", "c")]
    states = ChannelStates(wanted)
    together = states.take_command()
    states.divide(together, 3)
    states.free(together)
    for name in ("d", "e"):
        wanted.add_reference(channel(name, combine=joined))
        states.changed(name)
    wanted.remove_reference(first[2])
    states.changed("c")
    commands = [states.take_command() for _ in range(3)]
    assert [[each.identity for each in command.channels] for command in commands] == [["a"], ["b"], ["d", "e"]]
    for command in commands:
        states.done(command)
    for each in first[:2]:
        wanted.remove_reference(each)
        states.changed(each.identity)
        states.done(states.take_command())
    for name in ("a", "b", "c"):
        wanted.add_reference(channel(name, combine=joined))
        states.changed(name)
    assert [each.identity for each in states.take_command().channels] == ["a", "b", "c"]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.booleans())))
def test_states_ends_where_it_should_whatever_happens(events):
    """However things are wanted, released and stepped at, in the end what is wanted is subscribed, and nothing else."""
    wanted, held, server = ChannelRegistry(), [], set()
    states, under_way = ChannelStates(wanted), None

    def finish():
        for each in under_way.channels:
            # Of one thing the server is never told the same twice.
            assert (each.identity in server) is not under_way.subscribes
            (server.add if under_way.subscribes else server.discard)(each.identity)
        states.done(under_way)

    for name, wants, commands in events:
        if wants:
            held.append(wanted.add_reference(channel(name)))
        else:
            for each in [each for each in held if each.identity == name][:1]:
                held.remove(each)
                wanted.remove_reference(each)
        states.changed(name)
        if commands:
            if under_way is not None:
                finish()
            under_way = states.take_command()
    if under_way is not None:
        finish()
    while (under_way := states.take_command()) is not None:
        finish()
    assert server == set(wanted) == {each.identity for each in held}
