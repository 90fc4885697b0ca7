"""From a frame to the receivers of its message: frames, reader, router, index, filters."""

__all__: list[str] = []
