"""Real input: the class in the original package's documentation, and a server of another project."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import socket
import sys
import urllib.request
from collections import Counter
from uuid import uuid4

import pytest
import websockets

import rxws


class UserFeed(rxws.AsyncWebsocketStreamInterface):
    """Fetches a listen key, connects with it, and rotates when it expires or after 20 hours, as in the README."""

    def __init__(self, exchange):
        super().__init__()
        self.exchange = exchange

    async def _generate_listenkey(self):
        return (await self.exchange.get_json("/listenKey"))["listenKey"]

    async def _create_ws(self):
        return await websockets.connect(self.exchange.key_url(await self._generate_listenkey()))

    async def _when2create_new_ws(self):
        expired = self.stream_filter([{"e": "listenKeyExpired"}])
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(anext(expired), 20 * 3600)

    async def _parse_raw_data(self, raw_data):
        return json.loads(raw_data)


class OriginalFeed(UserFeed):
    """The class in the original package's README, with tasks for ``asyncio.wait``, which now requires them."""

    async def _when2create_new_ws(self):
        listen_key_expired_stream = self.stream_filter([{"e": "listenKeyExpired"}])

        async def read_listen_key_expired_stream(listen_key_expired_stream):
            async for _news in listen_key_expired_stream:
                try:
                    return
                finally:
                    asyncio.create_task(listen_key_expired_stream.close())  # noqa: RUF006

        reading = asyncio.create_task(read_listen_key_expired_stream(listen_key_expired_stream))
        await asyncio.create_task(
            asyncio.wait([reading, asyncio.create_task(asyncio.sleep(20 * 3600))], return_when="FIRST_COMPLETED")
        )


@pytest.mark.slow
@pytest.mark.usefixtures("virtual_time")
@pytest.mark.parametrize("feed_class", [UserFeed, OriginalFeed])
async def test_listen_keys_expire_and_nothing_is_lost_or_doubled(feed_class):
    """A feed delivers every numbered message once and in order while its listen key expires three times."""
    numbers: dict[tuple[str, str], list[int]] = {}
    async with (
        rxws.demo.serve(listen_key_lifetime=60, listen_key_grace=5, rate=50, lag=0.05) as exchange,
        feed_class(exchange) as feed,
    ):
        feed.add_handler(
            lambda message: numbers.setdefault((message["e"], message["s"]), []).append(message["n"]),
            lambda message: "n" in message,
        )
        gaps = Counter()
        feed.events.subscribe(lambda event: gaps.update([type(event).__name__]))
        async with asyncio.timeout(600):
            while feed.statistics().rotations < 3:
                await asyncio.sleep(1)
        assert feed.statistics().gaps == gaps["Gap"] == 0
    assert len(numbers) == 60
    for seen in numbers.values():
        assert seen == list(range(seen[0], seen[0] + len(seen)))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.asynccontextmanager
async def jupyter_server(folder):
    """Run Jupyter Server on loopback; yield its URL and its token."""
    port, token = free_port(), secrets.token_hex(24)
    # Use folders of the test, so that the test neither reads nor changes the user's settings.
    environment = os.environ | {
        "JUPYTER_TOKEN": token,
        "JUPYTER_CONFIG_DIR": str(folder),
        "JUPYTER_DATA_DIR": str(folder),
        "JUPYTER_RUNTIME_DIR": str(folder),
        "IPYTHONDIR": str(folder),
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "jupyter_server", f"--port={port}", "--ServerApp.ip=127.0.0.1", "--no-browser"),
        *("--allow-root", f"--ServerApp.root_dir={folder}", "--ServerApp.port_retries=0"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env=environment,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(OSError):
                    await call(url, token, "GET", "/api/status")
                    break
                await asyncio.sleep(0.1)
        yield url, token
    finally:
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), 20)
        except TimeoutError:
            process.kill()
            await process.wait()


async def call(url, token, method, path, body=None):
    """Call Jupyter Server's REST API."""

    def respond():
        request = urllib.request.Request(
            url + path, method=method, data=body, headers={"Authorization": f"token {token}"}
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            text = response.read()
        return json.loads(text) if text else None

    return await asyncio.to_thread(respond)


def execute(code: str) -> dict:
    """Return the message that runs code in a kernel (Jupyter's messaging protocol 5.3)."""
    header = {"msg_id": uuid4().hex, "username": "", "session": uuid4().hex, "msg_type": "execute_request"}
    return {
        "header": header | {"version": "5.3", "date": ""},
        "parent_header": {},
        "metadata": {},
        "content": {"code": code, "silent": False, "store_history": False, "allow_stdin": False},
        "channel": "shell",
        "buffers": [],
    }


@pytest.mark.slow
async def test_feed_of_a_jupyter_kernel_survives_a_restart(tmp_path):
    """``send`` runs code in a Jupyter kernel, streams have its output and status, and the feed survives a restart."""
    async with jupyter_server(tmp_path) as (url, token):
        kernel = await call(url, token, "POST", "/api/kernels", b"{}")
        channels = f"{url.replace('http', 'ws')}/api/kernels/{kernel['id']}/channels"
        options = {"additional_headers": {"Authorization": f"token {token}"}, "proxy": None}
        async with asyncio.timeout(120), rxws.ReactiveWebSocket(channels, connect_options=options) as ws:
            output = ws.stream_filter([{"msg_type": "stream"}])
            status = ws.stream_filter([{"msg_type": "status"}])

            async def printed(text: str) -> None:
                # A starting kernel may lose messages.
                while True:
                    await ws.send(execute(f"print({text!r})"))
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(10):
                            async for message in output:
                                if text in message["content"]["text"]:
                                    return

            await printed("before")
            states = {message["content"]["execution_state"] for message in await anext(status.batches())}
            assert states & {"busy", "idle", "starting"}
            await call(url, token, "POST", f"/api/kernels/{kernel['id']}/restart", b"")
            await printed("after")
            assert ws.statistics().rejected == 0
