"""A connection of websockets that picows reads: complete messages are pushed, and websockets does everything else."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any, Final

import picows
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.messages import MAX_FRAGMENTS
from websockets.datastructures import Headers, HeadersLike
from websockets.exceptions import TooManyFragments
from websockets.frames import DATA_OPCODES, Close, CloseCode, Frame, Opcode
from websockets.http11 import USER_AGENT, Response
from websockets.protocol import State
from websockets.utils import accept_key

from .handshake import Handshake, response_of

__all__ = ["Connection"]

_TEXT: Final = picows.WSMsgType.TEXT
_BINARY: Final = picows.WSMsgType.BINARY

#: The headers of a response that websockets checks: the extensions and the subprotocol that the server has chosen.
_NEGOTIATED: Final = ("Sec-WebSocket-Extensions", "Sec-WebSocket-Protocol")


class Connection(ClientConnection):
    """A connection with the whole API of websockets, of which picows receives the frames.

    picows parses the bytes. Complete messages without compression go straight to the function that
    :meth:`push_frames` was called with. websockets gets every other frame: it answers pings and close frames,
    decompresses, checks the protocol and its limits, and sends. Until ``push_frames`` is called, it gets all frames, so
    ``recv`` and ``async for`` work as usual. rxws calls ``push_frames`` when the connection is open.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._listener: Final = _Listener(self)
        self._handshake: Handshake
        self._take: Callable[[str | bytes], object] | None = None
        # The parser of websockets. It has another one after the end of the messages.
        self._parser: Any = None
        # The frames of a message that is not complete yet.
        self._parts: list[Frame] = []

    @property
    def state(self) -> State:
        """The state of the connection. It is CLOSING, too, after picows has refused a frame."""
        state = super().state
        return State.CLOSING if state is State.OPEN and self.transport.is_closing() else state

    # The opening handshake

    def prepare(self, handshake: Handshake) -> None:
        """Take the handshake that :meth:`handshake` runs."""
        self._handshake = handshake
        self.transport = handshake  # type: ignore[assignment]

    async def handshake(
        self, additional_headers: HeadersLike | None = None, user_agent_header: str | None = USER_AGENT
    ) -> None:
        """Perform the opening handshake."""
        self.request = self.protocol.connect()
        if additional_headers is not None:
            self.request.headers.update(additional_headers)
        if user_agent_header is not None:
            self.request.headers.setdefault("User-Agent", user_agent_header)
        limits = (self.protocol.max_message_size, self.protocol.max_fragment_size)
        largest = min((limit for limit in limits if limit is not None), default=None)
        logger = self.protocol.logger
        assert isinstance(logger, logging.LoggerAdapter)
        await self._handshake.run(lambda _request, _response: self._listener, self.request.headers, largest, logger)
        if self.protocol.handshake_exc is not None:
            raise self.protocol.handshake_exc

    def opened(self, transport: picows.WSTransport) -> None:
        """Pass the response on to websockets, with the key that websockets expects. picows has checked its own."""
        self.connection_made(transport.underlying_transport)
        given = response_of(transport.response)
        headers = Headers({"Connection": "Upgrade", "Upgrade": "websocket"})
        headers["Sec-WebSocket-Accept"] = accept_key(self.protocol.key)
        for name in _NEGOTIATED:
            for value in given.headers.get_all(name):
                headers[name] = value
        self.data_received(Response(101, "Switching Protocols", headers).serialize())
        self.response = given
        self._parser = self.protocol.parser

    def lost(self, transport: picows.WSTransport) -> None:
        """End the connection."""
        handshake = transport.close_handshake
        sent = None if handshake is None else handshake.sent
        if sent is not None:
            # picows has refused a frame, and has sent the close frame itself.
            self.protocol.close_sent = self.protocol.close_sent or Close(sent.code.value, sent.reason or "")
            retrieving = self.loop.create_task(_retrieve(transport), name="rxws picows error")
            _RETRIEVING.add(retrieving)
            retrieving.add_done_callback(_RETRIEVING.discard)
        self.connection_lost(None)

    # Receiving

    def push_frames(self, take: Callable[[str | bytes], object]) -> None:
        """Call ``take`` with each message as soon as it arrives, first with those that wait in ``recv``.

        From then on ``recv`` only waits for the end of the connection, and raises its exception.

        Args:
            take: called with text as ``str`` and with binary as ``bytes``, in order. It must not raise; its result does
                not matter.
        """
        self._take = take
        early = self.recv_messages.frames.queue
        while early:
            self._assemble(early.popleft())
        self.recv_messages.maybe_resume()
        self._choose_path()

    def receive(self, frame: picows.WSFrame) -> None:
        """Let websockets process a frame."""
        self.data_received(_wire_format(frame))
        self._choose_path()

    def process_event(self, event: Any) -> None:
        """Take a part of a message, or let websockets process the event."""
        if self._take is not None and event.opcode in DATA_OPCODES:
            self._assemble(event)
        else:
            super().process_event(event)

    def _assemble(self, part: Frame) -> None:
        self._parts.append(part)
        if len(self._parts) > MAX_FRAGMENTS:
            self.fail(CloseCode.MESSAGE_TOO_BIG, "too many fragments", TooManyFragments(MAX_FRAGMENTS))
        elif part.fin:
            parts, self._parts = self._parts, []
            content = b"".join(each.data for each in parts)
            self._deliver(content, is_text=parts[0].opcode is Opcode.TEXT)

    def _deliver(self, content: bytes, *, is_text: bool) -> None:
        assert self._take is not None
        try:
            message = content.decode() if is_text else content
        except UnicodeDecodeError as error:
            self.fail_text(error)
        else:
            self._take(message)

    def _choose_path(self) -> None:
        """Let the listener push complete messages, unless a fragmented one is incomplete, or no more may follow."""
        is_whole = self.protocol.current_size is None and self.protocol.parser is self._parser
        self._listener.take = self._take if is_whole else None

    def fail_text(self, error: UnicodeDecodeError) -> None:
        """Fail the connection because of text that is not valid UTF-8 (RFC 6455 §8.1)."""
        self.fail(CloseCode.INVALID_DATA, f"{error.reason} at position {error.start}", error)

    def fail(self, code: CloseCode, reason: str, error: Exception) -> None:
        """Send a close frame, and discard everything that arrives from now on (RFC 6455 §7.1.7)."""
        self.set_connection_exc(error)
        self._parts.clear()
        self.protocol.fail(code, reason)
        # Without data this sends the close frame, and limits the time until the end.
        self.data_received(b"")
        self._choose_path()


def _wire_format(frame: picows.WSFrame) -> bytes:
    """Return the bytes of a frame that a server sends (RFC 6455 §5.2), as websockets expects them."""
    bits = frame.fin << 7 | frame.rsv1 << 6 | frame.rsv2 << 5 | frame.rsv3 << 4
    head = bytes([bits | frame.msg_type.value])
    payload = frame.get_payload_as_bytes()
    size = len(payload)
    if size < 126:
        return head + bytes([size]) + payload
    if size < 2**16:
        return head + b"\x7e" + size.to_bytes(2, "big") + payload
    return head + b"\x7f" + size.to_bytes(8, "big") + payload


#: The tasks that retrieve errors of picows. The event loop has only weak references to tasks.
_RETRIEVING: Final[set[asyncio.Task[None]]] = set()


async def _retrieve(transport: picows.WSTransport) -> None:
    """Retrieve the error with which picows ended a connection. Otherwise asyncio would log that it was not retrieved.

    The error has the code and the reason of the close frame, which the connection's exception has, too.
    """
    with contextlib.suppress(Exception):
        await transport.wait_disconnected()


class _Listener(picows.WSListener):
    """Takes the frames of picows.

    Attributes:
        take: takes complete messages; None while websockets gets all frames.
    """

    def __init__(self, connection: Connection) -> None:
        self.take: Callable[[str | bytes], object] | None = None
        self._connection = connection

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        self._connection.opened(transport)

    # The hot path. A message is text or bytes and no view of picows' buffer, because consumers may keep it. Text must
    # be checked anyway, and that makes the str: a view costs as much.
    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        take = self.take
        if take is None or not frame.fin or frame.rsv1 or frame.rsv2 or frame.rsv3:
            self._connection.receive(frame)
            return
        kind = frame.msg_type
        if kind is _TEXT:
            try:
                text = frame.get_payload_as_utf8_text()
            except UnicodeDecodeError as error:
                self._connection.fail_text(error)
            else:
                take(text)
        elif kind is _BINARY:
            take(frame.get_payload_as_bytes())
        else:
            self._connection.receive(frame)

    def on_ws_disconnected(self, transport: picows.WSTransport) -> None:
        self._connection.lost(transport)

    def pause_writing(self) -> None:
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        self._connection.resume_writing()
