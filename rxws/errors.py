"""The tree of exceptions that rxws raises.

::

    RxwsError
    ├── ConnectFailed            the feed failed: no connection can be opened, or its tasks were ended from outside
    ├── FeedClosed               the feed was closed by exit()
    ├── SendFailed               the connection was lost while a message was sent, or before its reply
    ├── SendTimeout              a message could not be sent in time
    └── StreamOverflow           a stream was full: its consumer was too slow
"""

from __future__ import annotations

__all__ = ["ConnectFailed", "FeedClosed", "RxwsError", "SendFailed", "SendTimeout", "StreamOverflow"]


class RxwsError(Exception):
    """The root of all exceptions that rxws defines."""


class ConnectFailed(RxwsError, ConnectionError):
    """The feed failed: no connection can be opened, or its tasks were ended from outside.

    Until a connection has been open, these failures are fatal: an invalid URI; a TLS verification that failed; plain
    text from the server in place of TLS; an HTTP status 4xx without ``Retry-After``, except 408, 425 and 429;
    :exc:`TypeError`, :exc:`AttributeError`, :exc:`NameError` and :exc:`NotImplementedError`. After that, only the third
    attempt in a row that the server answers with status 401 or 403 is fatal. ``should_retry`` overrides both rules.

    The feed also fails when the iterator of ``reconnect_delays`` ends. It also fails when a handler raises
    :exc:`GeneratorExit`, and when other code cancels the feed's tasks although the program continues; then
    ``__cause__`` is the GeneratorExit or the cancellation.

    In all other cases ``__cause__`` is the exception of the last attempt. Unlike ``reason`` it may quote a URL with its
    secrets, and so may the traceback that Python prints. Log ``str(error)``, which contains no secret.

    Attributes:
        status: HTTP status of the refused handshake, or None after any other failure.
        reason: the failure in a few words, without secrets.
        attempt: the number of attempts since a connection was last open (1 for the first).
    """

    def __init__(self, status: int | None, reason: str, attempt: int) -> None:
        # Pass one argument only, because OSError would take two or three for errno, strerror and filename.
        super().__init__(f"{reason} (gave up after {attempt} attempt{'s' * (attempt != 1)})")
        self.status = status
        self.reason = reason
        self.attempt = attempt

    def __reduce__(self) -> tuple[type[ConnectFailed], tuple[int | None, str, int]]:
        return type(self), (self.status, self.reason, self.attempt)


class FeedClosed(RxwsError):
    """The feed was closed with ``exit()``, so the call has no result."""


class SendFailed(RxwsError, ConnectionError):
    """The connection was lost while a message was being sent, or before the reply to a request arrived.

    The server may or may not have received the message.

    ``__cause__`` is the transport's exception. The message is not repeated on the next connection.
    """


class SendTimeout(RxwsError, TimeoutError):
    """A message could not be sent on a live connection within ``send_timeout``.

    The text says which of three cases occurred: the message was not sent; the connection was aborted while the message
    was being sent; or the peer did not read the message in time, so the server may or may not receive it.
    """


class StreamOverflow(RxwsError):
    """A stream with ``overflow="error"`` was full. It delivered the messages that it held, then raised this error.

    Attributes:
        maxsize: the number of messages that the stream can hold; None for no limit.
        maxbytes: the number of bytes that the stream can hold, if they made it full; None if ``maxsize`` did.
    """

    def __init__(self, maxsize: int | None, maxbytes: int | None = None) -> None:
        super().__init__(maxsize, maxbytes)
        self.maxsize = maxsize
        self.maxbytes = maxbytes

    def __str__(self) -> str:
        limit, option = f"{self.maxsize} messages", "maxsize="
        if self.maxbytes is not None:
            limit, option = f"{self.maxbytes} bytes", "maxbytes="
        return (
            f"the stream was full: its consumer fell {limit} behind; "
            f"consume faster, filter more, or choose {option} and overflow="
        )
