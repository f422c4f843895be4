"""`peer_info`: what an endpoint is told of its own peer, and the peer that comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from gossipmonger import values
from gossipmonger.options import check_number
from gossipmonger.peer import MAX_VERSION, Peer
from gossipmonger.transport.checks import FATAL_IDS
from gossipmonger.transport.tcp import DEFAULT_PORT

__all__ = ["PeerInfo"]

_SPELLINGS = {"maxVersionSeen": "max_version_seen"}


@dataclass(frozen=True)
class PeerInfo:
    """A checked `peer_info`.

    Attributes:
        id: The peer's id.
        transport: What the transport needs to be reached; a private copy if it is a mapping, None if it was left out.
        data: key -> (value, version).
        max_version_seen: None if it was left out.
    """

    id: str
    transport: Any
    data: Mapping[str, tuple[Any, int]]
    max_version_seen: int | None

    @classmethod
    def parse(cls, given: Any) -> PeerInfo:
        """Return what was given, checked.

        Raises:
            TypeError, ValueError: Something is unknown, of the wrong type or out of range; the error names it.
        """
        if not isinstance(given, Mapping):
            raise TypeError(f"peer_info: {given!r} is no mapping")
        info: dict[str, Any] = {"id": None, "transport": None, "data": None, "max_version_seen": None}
        for name, value in given.items():
            known = _SPELLINGS.get(name, name)
            if known not in info:
                raise TypeError(f"peer_info: unknown name {name!r}; there are id, transport, data and maxVersionSeen")
            info[known] = value
        if not isinstance(info["id"], str):
            raise TypeError(f"peer_info.id: {info['id']!r} is no string")
        if not info["id"] or info["id"] in FATAL_IDS:
            raise ValueError(f"peer_info.id: {info['id']!r} is no id that every peer can take")
        info["id"] = values.copied(info["id"])
        if isinstance(info["transport"], Mapping):
            info["transport"] = dict(info["transport"])
        if info["max_version_seen"] is not None:
            check_number("peer_info.maxVersionSeen", info["max_version_seen"], int, 0, MAX_VERSION)
        info["data"] = _check_data({} if info["data"] is None else info["data"])
        return cls(**info)

    def over_tcp(self) -> PeerInfo:
        """Return the same with the host and port that were left out.

        Raises:
            TypeError: The transport is no mapping.
        """
        given = {} if self.transport is None else self.transport
        if not isinstance(given, Mapping):
            raise TypeError(f"peer_info.transport: {given!r} is no mapping with host and port")
        return replace(self, transport={"host": "localhost", "port": DEFAULT_PORT, **given})

    def local_peer(self, storage: Any, now: float) -> Peer:
        """Return the local peer, put into the storage: the stored one, or one whose versions no former life has had.

        Without a version to go by, a life starts at the microseconds of the clock, and nothing of it lies at or below that.
        """
        stored: Peer | None = storage.get(self.id)
        data = self.data
        if stored is not None and self.max_version_seen is None:
            local = stored
            local.transport = self.transport or stored.transport
        elif self.max_version_seen is not None:
            local = Peer(self.id, data=data, max_version_seen=self.max_version_seen, transport=self.transport)
            data = {}
        else:
            start = int(now * 1000)
            local = Peer(self.id, max_version_seen=start, floor=start, transport=self.transport)
        for key, (value, _) in sorted(data.items(), key=lambda item: item[1][1]):
            local.update_local(key, value)  # without a version to go by, as new as this life
        local.left = False
        local.mark_live()
        storage.put(self.id, local)
        return local


def _check_data(data: Any) -> dict[str, tuple[Any, int]]:
    if not isinstance(data, Mapping):
        raise TypeError(f"peer_info.data: {data!r} is no mapping")
    checked = {}
    for key, pair in data.items():
        if not isinstance(key, str) or not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise TypeError(f"peer_info.data: {key!r}: {pair!r} is no key with [value, version]")
        check_number(f"peer_info.data[{key!r}], version", pair[1], int, 0, MAX_VERSION)
        checked[key] = (values.copied(pair[0], f"peer_info.data[{key!r}]"), pair[1])
    return checked
