"""Where peers are kept."""

from gossipmonger.storage.memory import MemoryStorage, Storage

__all__ = ["MemoryStorage", "Storage"]
