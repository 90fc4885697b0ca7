"""States, events and statistics."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import re

import pytest

import rxws
from rxws.reporting import events
from rxws.reporting.events import Event, Gap
from rxws.reporting.state import TRANSITIONS, State, Statistics

EVENTS = [getattr(events, name) for name in events.__all__ if name not in {"State", "Statistics", "Event"}]


def documented(kind: type) -> set[str]:
    """Return the names under 'Attributes:' in a docstring."""
    _, _, attributes = inspect.getdoc(kind).partition("Attributes:\n")
    return set(re.findall(r"^    (\w+):", attributes, re.MULTILINE))


def example(kind: type) -> Event:
    """Make an event whose fields have their own names as values."""
    return kind(**{field.name: field.name for field in dataclasses.fields(kind)})


def test_all_when_compared_with_the_contract():
    """The module has the nine events that the design promises."""
    assert {kind.__name__ for kind in EVENTS} >= {
        "Connected",
        "Disconnected",
        "Rotated",
        "Gap",
        "Quiet",
        "MessageRejected",
        "CallbackFailed",
        "Lagging",
        "Overflowed",
    }


@pytest.mark.parametrize("kind", EVENTS)
def test_event_when_made(kind):
    """Each event has the feed's name and the time."""
    event = example(kind)
    assert isinstance(event, Event)
    assert (event.name, event.time) == ("name", "time")


@pytest.mark.parametrize("kind", [*EVENTS, Statistics])
def test_event_when_changed(kind):
    """Events and statistics are frozen."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(example(kind), dataclasses.fields(kind)[0].name, "other")


@pytest.mark.parametrize("kind", [Event, *EVENTS, Statistics])
def test_fields_when_compared_with_the_docstring(kind):
    """The docstring describes exactly the fields of the event."""
    own = {field.name for field in dataclasses.fields(kind)}
    if kind is not Event and issubclass(kind, Event):
        own -= {"name", "time"}
    assert documented(kind) == own


@pytest.mark.parametrize("kind", EVENTS)
def test_event_when_handed_to_another_process(kind):
    """An event survives copying and pickling unchanged."""
    event = example(kind)
    assert pickle.loads(pickle.dumps(event)) == event
    assert copy.deepcopy(event) == event


def test_gap_when_made():
    """A Gap takes start, end, reason and last message, in this order."""
    gap = Gap(1.0, 2.0, "server", "last", name="feed", time=2.0)
    assert (gap.start, gap.end, gap.reason, gap.last_message) == (1.0, 2.0, "server", "last")


def test_state_when_compared_with_the_contract():
    """There are six states."""
    assert [state.name for state in State] == ["CONNECTING", "CONNECTED", "ROTATING", "WAITING", "CLOSED", "FAILED"]


def test_state_when_live():
    """Only CONNECTED and ROTATING are live."""
    assert {state for state in State if state.is_live} == {State.CONNECTED, State.ROTATING}


def test_state_when_final():
    """No state follows CLOSED and FAILED, and every other state can change to both."""
    finals = {State.CLOSED, State.FAILED}
    assert {state for state in State if state.is_final} == finals
    assert set(TRANSITIONS) == set(State)
    for state, following in TRANSITIONS.items():
        assert state not in following
        assert state in finals or finals <= following


def test_transitions_when_rotating():
    """ROTATING follows only CONNECTED."""
    assert [state for state, following in TRANSITIONS.items() if State.ROTATING in following] == [State.CONNECTED]


@pytest.mark.parametrize(
    "kind", [kind for kind in EVENTS if "error" in {field.name for field in dataclasses.fields(kind)}]
)
def test_event_with_an_error_shows_no_secret_of_it(kind):
    """The repr of an event redacts secrets in the text of its exception."""
    event = dataclasses.replace(example(kind), error=ValueError("GET wss://me:hunter2@localhost/?token=S3cr3t failed"))
    assert repr(event).startswith(f"{kind.__name__}(name=")
    assert "ValueError" in repr(event)
    assert "localhost" in repr(event)
    assert not re.search("hunter2|S3cr3t", repr(event))


def test_former_names_are_the_same_classes():
    """The former names of events and of a statistic are aliases."""
    assert rxws.HandlerFailed is rxws.CallbackFailed
    assert rxws.Unacknowledged is rxws.SubscriptionFailed
