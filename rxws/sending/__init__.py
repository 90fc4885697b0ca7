"""The other direction: sends messages and subscribes channels."""

__all__: list[str] = []
