"""The way of a frame to the receivers of its message: frames, reader, dispatcher, router, index, filters."""

from .conditions import Condition
from .fields import Field, field_reader, number_reader, range_reader
from .filters import Filter, Filters
from .frames import Frame, Frames
from .hooks import Many
from .inbound import DirectSink, Inbound
from .reader import Reader
from .router import Receiver, Router
from .shapes import ABSENT, look_up
from .times import MICROSECONDS, PER_SECOND, Unit, check_unit, microseconds

__all__ = [
    "ABSENT",
    "MICROSECONDS",
    "PER_SECOND",
    "Condition",
    "DirectSink",
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
    "Unit",
    "check_unit",
    "field_reader",
    "look_up",
    "microseconds",
    "number_reader",
    "range_reader",
]
