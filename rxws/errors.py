"""The tree of exceptions that rxws raises.

::

    RxwsError
    ├── ConnectFailed            the feed ended: no connection can be had
    ├── FeedClosed               the feed was closed by exit()
    ├── SendFailed               the connection was lost while a message was being sent
    ├── SendTimeout              a message could not be sent in time
    └── StreamOverflow           a stream's consumer fell too far behind
"""

from __future__ import annotations

__all__ = ["ConnectFailed", "FeedClosed", "RxwsError", "SendFailed", "SendTimeout", "StreamOverflow"]


class RxwsError(Exception):
    """The root of all exceptions that rxws defines."""


class ConnectFailed(RxwsError, ConnectionError):
    """The feed ended because no connection can be had.

    Before the first success a retry is of no use after an invalid URI, TLS whose verification failed or that met plain
    text, an HTTP status 4xx except 408, 425 and 429, :exc:`TypeError`, :exc:`AttributeError`, :exc:`NameError` and
    :exc:`NotImplementedError`; after it, after three 401 or 403 in a row alone. ``should_retry`` overrides both. The
    feed ends as well when ``reconnect_delays`` does.

    ``__cause__`` is the last failure, as it was raised: unlike ``reason`` it may quote a URL with what is secret in it,
    and so may the traceback that Python prints. What is to be kept is ``str(error)``.

    Attributes:
        status: HTTP status of the refused handshake, or None when the failure was of another kind.
        reason: what went wrong, in a few words, with no secret in it.
        attempt: how many attempts had been made since the last connection that was open (1 for the first).
    """

    def __init__(self, status: int | None, reason: str, attempt: int) -> None:
        # One argument: of two or three an OSError makes errno, strerror and filename.
        super().__init__(f"{reason} (gave up after {attempt} attempt{'s' * (attempt != 1)})")
        self.status = status
        self.reason = reason
        self.attempt = attempt

    def __reduce__(self) -> tuple[type[ConnectFailed], tuple[int | None, str, int]]:
        return type(self), (self.status, self.reason, self.attempt)


class FeedClosed(RxwsError):
    """The feed was closed with ``exit()``, so what was asked for cannot happen any more."""


class SendFailed(RxwsError, ConnectionError):
    """The connection was lost while a message was being sent: whether the server got it is not known.

    ``__cause__`` is the transport's own exception. The message is not repeated on the next connection.
    """


class SendTimeout(RxwsError, TimeoutError):
    """A message could not be handed to a live connection within ``send_timeout``.

    The text says which: it was not sent; or it was cut off with the connection; or it is on its way, but the time was
    over before the peer had taken it, so that whether the server gets it is not known.
    """


class StreamOverflow(RxwsError):
    """A stream was full and its ``overflow`` is ``"error"``: it delivered what it held, and takes nothing more in.

    Attributes:
        maxsize: how many messages the stream may hold.
    """

    def __init__(self, maxsize: int) -> None:
        super().__init__(maxsize)
        self.maxsize = maxsize

    def __str__(self) -> str:
        return (
            f"the stream was full: its consumer fell {self.maxsize} messages behind; "
            "consume faster, filter more, or choose maxsize= and overflow="
        )
