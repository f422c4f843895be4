"""Sealing: hands the keyring to the transport, and bounds what is said about messages that it refuses."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from gossipmonger.errors import SealError
from gossipmonger.transport import Transport
from gossipmonger.wire import Keyring

__all__ = ["SealErrors", "share"]

#: Milliseconds between two errors about one host, and for which so many about all hosts are enough. Anybody can send what is
#: refused, in the name of any host.
_REPORT_EVERY, _MOST = 60_000, 10


def share(keyring: Keyring, transport: Any) -> None:
    """Have a transport seal with these keys.

    Raises:
        TypeError: It does not seal.
    """
    if not isinstance(transport, Transport) or not transport.seals:
        name = type(transport).__name__
        raise TypeError(f"keyring: the transport {name} does not seal; a Transport that does has `seals = True`")
    transport.keyring = keyring


class SealErrors:
    """Says which errors about messages that were not opened are news."""

    def __init__(self) -> None:
        self._told: OrderedDict[str, float] = OrderedDict()  # host -> when, oldest first

    def is_news(self, now: float, error: SealError) -> bool:
        """Return whether to tell an error, at this time in milliseconds."""
        while self._told:
            oldest = next(iter(self._told.values()))
            if 0 <= now - oldest < _REPORT_EVERY:
                break
            self._told.popitem(last=False)
        host = str(error.source).rpartition(":")[0] or str(error.source)
        if host in self._told or len(self._told) >= _MOST:
            return False
        self._told[host] = now
        return True
