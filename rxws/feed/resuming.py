"""Keeps the newest messages of a feed, from which its next connection resumes."""

from __future__ import annotations

import functools
from typing import Any

from ..connections.resumption import Resumption
from ..messages.numbers import Numbers
from ..messages.recent import RecentMessages
from ..messages.router import Router
from ..options import Options
from ..reporting.reporter import Reporter
from ..sending.channel_group import ChannelGroup
from ..sending.channel_groups import ChannelGroups
from .hooks import Hooks

__all__ = ["keep_recent"]


def keep_recent(
    hooks: Hooks, options: Options, reporter: Reporter, router: Router, group: ChannelGroup | ChannelGroups
) -> RecentMessages | None:
    """Keep the newest messages from now on. Return None if the feed does not resume.

    Raises:
        TypeError, ValueError: an option is wrong. They are checked now, and not after the first loss.
    """
    if options.resume is None or isinstance(group, ChannelGroups):
        return None
    channels = group.channels
    Resumption.statement_of(options)
    is_own = hooks.per_connection or (lambda _message: False)

    def counts(message: Any) -> bool:
        return not is_own(message)

    recent = channels.recent = RecentMessages(
        reporter, options.cursor, counts=counts, channel_of=channels.channel_of, channels=lambda: channels
    )
    if options.sequence is not None:
        announce = functools.partial(router.report_gap, reason="source")
        recent.numbers = Numbers(options, reporter, channels.channel_of, counts, announce)
    return recent
