"""Sends messages to the server, and subscribes channels there."""

__all__: list[str] = []
