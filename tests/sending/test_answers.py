"""How the server's answers to a combined message are assigned to its channels."""

from __future__ import annotations

from rxws.sending.answers import Answers
from rxws.sending.channels import Channel


def channels(names):
    """Return channels that each have their own filter for an answer. All have the same filter for refusals."""
    return [
        Channel(name, None, [{"ok": name}], rejected=[{"no": True}], timeout=1.0, combine="".join, combine_max=9)
        for name in names
    ]


def answers_to(names):
    """Return the ``Answers`` of a message for these channels, and the list of the channels that are accepted."""
    accepted = []
    made = Answers(
        channels(names),
        lambda wanted, message: wanted(message),
        lambda some, _answer: accepted.extend(each.subscribe for each in some),
    )
    return made, accepted


async def test_nothing_is_decided_when_nothing_is_doubtful():
    """When no answer is ambiguous, the channels that no answer names stay unanswered."""
    answers, accepted = answers_to("abc")
    answers.conclude()
    assert len(answers.waiting) == 3
    assert not answers.take({"other": 1})
    assert answers.take({"ok": "a"})
    assert answers.is_doubtful
    assert answers.take({"ok": "b"})
    assert not answers.is_doubtful
    answers.conclude()
    assert (accepted, [each.subscribe for each in answers.waiting]) == (["a", "b"], ["c"])


async def test_refusal_concerns_the_channel_that_is_left_when_the_others_are_accepted():
    """A refusal that may belong to two channels belongs to the one that no other message accepts."""
    answers, accepted = answers_to("ab")
    assert answers.take({"no": True})
    assert answers.take({"ok": "a", "other": 1})
    assert [(len(some), message) for some, message in answers.refusals] == [(1, {"no": True})]
    assert (accepted, answers.is_complete) == (["a"], True)


async def test_only_refusal_concerns_all_channels_when_no_other_answer_arrives():
    """If the only answer is a refusal, all channels of the message are refused."""
    answers, accepted = answers_to("abc")
    assert answers.take({"no": True})
    assert answers.is_doubtful
    answers.conclude()
    assert [([each.subscribe for each in some], message) for some, message in answers.refusals] == [
        (["a", "b", "c"], {"no": True})
    ]
    assert (accepted, answers.is_complete) == ([], True)
