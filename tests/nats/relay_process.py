"""A feed and its relay in a separate process, which a test kills or freezes.

``python -m tests.nats.relay_process '{"upstream": "ws://…", "nats": "nats://…", "name": "a"}'``
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any


def shift_clock(seconds: float) -> None:
    """Let this process's wall clock differ from that of others by a few seconds."""
    now, now_ns = time.time, time.time_ns
    time.time = lambda: now() + seconds
    time.time_ns = lambda: now_ns() + int(seconds * 1e9)


async def run(given: dict[str, Any]) -> None:
    """Relay until the process is killed, or its standard input ends."""
    import rxws
    import rxws.nats

    loop = asyncio.get_running_loop()
    async with rxws.ReactiveWebSocket(given["upstream"], name="upstream") as ws:
        options = {"feed_name": "trades", "name": given["name"], **given.get("options", {})}
        if given.get("identity", True):
            options["identity"] = lambda message: message["n"]
        async with rxws.nats.relay(ws, given["nats"], **options) as relay:
            await loop.run_in_executor(None, sys.stdin.read)
        print(json.dumps({"published": relay.published, "dropped": relay.dropped, "pending": relay.pending}))


if __name__ == "__main__":
    arguments = json.loads(sys.argv[1])
    shift_clock(arguments.get("clock", 0.0))
    asyncio.run(run(arguments))
