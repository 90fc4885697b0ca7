"""The way of a frame to the receivers of its message: frames, reader, dispatcher, router, index, filters."""

from .fields import Field, field_reader, number_reader, range_reader
from .filters import Filter, Filters
from .frames import Frame, Frames
from .hooks import Many
from .inbound import Inbound, Sink
from .reader import Reader
from .router import Receiver, Router
from .shapes import ABSENT, look_up

__all__ = [
    "ABSENT",
    "Field",
    "Filter",
    "Filters",
    "Frame",
    "Frames",
    "Inbound",
    "Many",
    "Reader",
    "Receiver",
    "Router",
    "Sink",
    "field_reader",
    "look_up",
    "number_reader",
    "range_reader",
]
