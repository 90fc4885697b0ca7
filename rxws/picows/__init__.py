"""Connections of websockets whose frames picows receives, in compiled code. Needs the extra ``picows``.

::

    handshake   opens a TCP connection, and lets picows do the opening handshake on it
    connection  the connection: pushes complete messages, and leaves everything else to websockets
    opening     connect(), which opens a connection
"""

from __future__ import annotations

try:
    import picows as picows
except ImportError as error:
    raise ImportError('rxws.picows needs the extra "picows": pip install "rxws[picows]"') from error

from .connection import Connection
from .opening import connect

__all__ = ["Connection", "connect"]
