"""One websocket, or two for a while: open, watch, lose, wait, rotate, overlap."""

__all__: list[str] = []
