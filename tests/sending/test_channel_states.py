"""The states of all channels on one connection, and the command that is sent next."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rxws.sending.channel_states import TRANSITIONS, ChannelState, ChannelStates
from rxws.sending.channels import ChannelCommand, ChannelRegistry
from tests.sending.test_channels import channel, joined


def test_transitions_name_every_state():
    """The table of transitions names every state as a source and as a target."""
    assert set(TRANSITIONS) == set(ChannelState)
    assert set().union(*TRANSITIONS.values()) == set(ChannelState)


def change(wanted, states, *, add_reference=(), remove_reference=()):
    """Add and remove references, and notify the states."""
    for name in add_reference:
        wanted.add_reference(channel(name))
        states.changed(name)
    for name in remove_reference:
        wanted.remove_reference(wanted[name])
        states.changed(name)


def take_all(states):
    """Take all commands and carry them out; return them as words."""
    done = []
    while (command := states.take_command()) is not None:
        done += [("+" if command.subscribes else "-") + each.identity for each in command.channels]
        states.done(command)
    assert not states.is_due
    return done


def test_wanted_channels_are_subscribed_in_order_when_a_connection_is_new():
    """A new connection subscribes each wanted channel, in the order in which the channels were wanted."""
    wanted = ChannelRegistry()
    for name in "cab":
        wanted.add_reference(channel(name))
    states = ChannelStates(wanted)
    assert states.is_due
    assert take_all(states) == ["+c", "+a", "+b"]


def test_unsubscribe_comes_first_when_both_are_due():
    """A channel that is no longer wanted is unsubscribed before another one is subscribed."""
    wanted = ChannelRegistry()
    states = ChannelStates(wanted)
    change(wanted, states, add_reference="ab")
    take_all(states)
    change(wanted, states, add_reference="c", remove_reference="a")
    assert take_all(states) == ["-a", "+c"]


def test_no_command_is_taken_when_a_change_is_undone_in_time():
    """If a change of a channel is undone before its command is taken, no message is sent."""
    wanted = ChannelRegistry()
    states = ChannelStates(wanted)
    change(wanted, states, add_reference="ab")
    change(wanted, states, remove_reference="a")
    assert take_all(states) == ["+b"]
    change(wanted, states, remove_reference="b")
    change(wanted, states, add_reference="b")
    assert take_all(states) == []


def test_opposite_command_follows_when_a_change_is_undone_in_flight():
    """A command in flight is carried out; then the opposite command follows."""
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


def test_refused_channel_is_not_due_when_it_is_still_wanted():
    """A refused channel is not subscribed and not due until it is no longer wanted and then wanted again."""
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


def test_refusal_is_forgotten_when_the_channel_is_no_longer_wanted():
    """A channel that is dropped before its refusal arrives is neither due nor remembered as refused."""
    wanted = ChannelRegistry()
    states = ChannelStates(wanted)
    change(wanted, states, add_reference="a")
    command = states.take_command()
    change(wanted, states, remove_reference="a")
    states.refuse(command)
    states.free(command)
    assert not states.is_due
    assert not wanted.refused


def test_halves_are_separate_commands_when_a_command_is_divided():
    """After a command is divided, each half is a separate command, and other channels are combined with neither."""
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


def test_refused_channel_comes_last_when_a_connection_is_new():
    """A channel that was refused before is subscribed last and alone, until this succeeds or it is no longer wanted."""
    wanted = ChannelRegistry()
    for name in "abcd":
        wanted.add_reference(channel(name, combine=joined))
    first = ChannelStates(wanted)
    together = first.take_command()
    first.refuse(ChannelCommand(together.channels[:2], subscribes=True))
    first.free(together)

    def commands_of(states):
        commands = []
        while (command := states.take_command()) is not None:
            commands.append(("".join(each.identity for each in command.channels), states.is_doubtful(command)))
            states.done(command)
        return commands

    assert commands_of(ChannelStates(wanted)) == [("cd", False), ("a", True), ("b", True)]
    assert commands_of(ChannelStates(wanted)) == [("abcd", False)]
    third = ChannelStates(wanted)
    together = third.take_command()
    third.refuse(together)
    for each in together.channels:
        wanted.remove_reference(each)
    assert not wanted.refused


def test_channels_are_combined_when_they_have_the_same_function():
    """At most ``combine_max`` channels with the same ``combine`` share a command; other channels have separate ones."""
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


def test_divided_channels_stay_alone_when_they_cannot_be_combined():
    """Divided channels get separate commands until they are subscribed or unwanted; other channels are combined."""
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
def test_wanted_channels_are_subscribed_in_the_end_when_events_are_random(events):
    """After any sequence of changes, commands and failures, exactly the wanted channels are subscribed."""
    wanted, held, server = ChannelRegistry(), [], set()
    states, under_way = ChannelStates(wanted), None

    def finish():
        for each in under_way.channels:
            # The server never gets the same command for a channel twice in a row.
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
