"""Sends messages to the server, and subscribes channels there."""

from .channels import Channel

__all__ = ["Channel"]
