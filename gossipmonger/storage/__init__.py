"""Where peers are kept."""

from gossipmonger.storage.memory import MemoryStorage, Storage, StorageLike

__all__ = ["MemoryStorage", "Storage", "StorageLike"]
