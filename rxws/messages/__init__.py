"""Takes a frame to the receivers of its message: frames, reader, dispatcher, router, index, filters."""

from .filters import ABSENT, Filter, look_up
from .frames import Frame, Frames
from .hooks import Many
from .inbound import Inbound, Sink
from .reader import Reader
from .router import Receiver, Router

__all__ = ["ABSENT", "Filter", "Frame", "Frames", "Inbound", "Many", "Reader", "Receiver", "Router", "Sink", "look_up"]
