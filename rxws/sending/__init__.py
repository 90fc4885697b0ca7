"""The other direction: messages that are sent, channels that are subscribed."""

__all__: list[str] = []
