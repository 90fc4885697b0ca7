"""``rxws serve`` refuses web pages unless its options allow them."""

from __future__ import annotations

import asyncio
import signal

import pytest

from tests.recording.test_recording import end, frame, start, write
from tests.support.terminal import finish, started
from tests.testing.test_access import EVIL, answer, connected, refusal

pytestmark = pytest.mark.slow


async def test_recording_is_kept_from_web_pages_unless_options_allow_them(tmp_path):
    """Pages of other origins and requests to other host names get 403; allowed ones get the recording."""
    path = write(tmp_path / "feed.jsonl", start(), frame(1.0, {"n": 1}), end(1.0))
    allowed = ("--allow-origin", "http://pages.example", "--allow-host", "feeds.example")
    with started("serve", str(path), "--speed", "max", *allowed) as process:
        url = (await asyncio.to_thread(process.stdout.readline)).strip()
        assert "--allow-origin" in await refusal(url, origin=EVIL)
        assert "--allow-host" in await refusal(url, name="evil.example")
        assert "403 Forbidden" in await answer(url.replace("ws:", "http:"), host="evil.example")
        async with connected(url, name="feeds.example", origin="http://pages.example") as client:
            assert await client.recv() == '{"n": 1}'
        process.send_signal(signal.SIGINT)
        await finish(process)
