"""`peer_info`: what an endpoint is told about its own peer, and the local peer that is made from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gossipmonger.endpoint.options import Options
from gossipmonger.errors import shown
from gossipmonger.state import values
from gossipmonger.state.arguments import check_number, nearest
from gossipmonger.state.bound import MAX_VERSION
from gossipmonger.state.peer import Peer
from gossipmonger.transport.address import clean_host, is_wildcard, read_ip
from gossipmonger.wire import FATAL_IDS, is_longer, is_transport

__all__ = ["PeerInfo", "complete"]

#: How callers may spell a name, and what it is called here.
_NAMES = {
    "id": "id",
    "transport": "transport",
    "data": "data",
    "maxVersionSeen": "max_version_seen",
    "max_version_seen": "max_version_seen",
}


@dataclass(frozen=True)
class PeerInfo:
    """A `peer_info` that has been checked.

    Attributes:
        id: The peer's id.
        transport: The address that peers are told: a private copy if it is a mapping, None if it was left out.
        data: key -> (value, version).
        max_version_seen: None if it was left out.
        observer: Whether the node is an observer.
    """

    id: str
    transport: Any
    data: Mapping[str, tuple[Any, int]]
    max_version_seen: int | None
    observer: bool = False

    @classmethod
    def parse(cls, given: Any, id: str | None = None, limits: Options | None = None) -> PeerInfo:
        """Return what was given, checked and copied. `id` is for one that has none; by default, limits are the default ones.

        Raises:
            TypeError, ValueError: Something is unknown, of the wrong type or out of range; the error names it.
        """
        if not isinstance(given, Mapping):
            raise TypeError(f'peer_info must be a mapping such as {{"id": "a"}}, got {shown(given)}')
        limits = limits or Options()
        info: dict[str, Any] = {"id": id, "transport": None, "data": None, "max_version_seen": None}
        typed: dict[str, str] = {}
        for name, value in given.items():
            known = _NAMES.get(name)
            if known is None:
                close = nearest(name, _NAMES)
                hint = f"did you mean {close!r}?" if close else "the keys are id, transport, data and maxVersionSeen"
                raise TypeError(f"peer_info has no key {shown(name)}; {hint}")
            info[known], typed[known] = value, name
        if not isinstance(info["id"], str):
            raise TypeError(f"peer_info.id must be a string, got {shown(info['id'])}")
        if not info["id"]:
            raise ValueError("peer_info.id must not be empty")
        if info["id"] in FATAL_IDS:
            raise ValueError(f"peer_info.id must not be {info['id']!r}, which a Node.js node can't use as an id")
        info["id"] = values.copied(info["id"], "peer_info.id")
        if is_longer(info["id"], limits.max_id_size):
            raise ValueError(f"peer_info.id must have at most {limits.max_id_size} bytes, got {shown(info['id'])}")
        if isinstance(info["transport"], Mapping):
            info["transport"] = _checked_transport(info["transport"])
        if info["max_version_seen"] is not None:
            check_number(f"peer_info.{typed['max_version_seen']}", info["max_version_seen"], int, 0, MAX_VERSION)
        info["data"] = _checked_data({} if info["data"] is None else info["data"], limits)
        return cls(**info)

    def check_over_tcp(self) -> None:
        """Check that the transport is a host and a port, as far as they are given.

        Raises:
            TypeError, ValueError: It is not; the error names what is wrong.
        """
        given = {} if self.transport is None else self.transport
        if not isinstance(given, Mapping):
            raise TypeError(f"peer_info.transport must be a mapping with host and port, got {shown(given)}")
        for name in given:
            close = nearest(name, ("host", "port"))
            if close not in (None, name, *given):
                raise TypeError(f"peer_info.transport has no key {shown(name)}; did you mean {close!r}?")
        host, port = given.get("host"), given.get("port")
        if host is not None and not isinstance(host, str):
            raise TypeError(f"peer_info.transport.host must be a string, got {shown(host)}")
        if port is not None:
            check_number("peer_info.transport.port", port, int, 0, 65535)

    def local_peer(self, storage: Any, now: float) -> Peer:
        """Return the local peer, and put it into the storage, unless it is an observer's.

        With an explicit version, the peer is what `peer_info` says. Otherwise a peer in the storage continues where it stopped.
        Otherwise a new life begins: its versions start at the clock's microseconds, above those of any former life, and nothing
        of it exists at or below that.

        Args:
            storage: Where the peer is kept.
            now: Milliseconds since the epoch.
        """
        if self.observer:
            return Peer(self.id, transport=self.transport)
        stored: Peer | None = storage.get(self.id)
        data = self.data
        if self.max_version_seen is not None:
            local = Peer(self.id, data=data, max_version_seen=self.max_version_seen, transport=self.transport)
            data = {}
        elif stored is not None:
            local = stored
            local.transport = self.transport or stored.transport
        else:
            start = int(now * 1000)
            local = Peer(self.id, max_version_seen=start, floor=start, transport=self.transport)
        for key, (value, _) in sorted(data.items(), key=lambda item: item[1][1]):
            local.update_local(key, value)  # its version belongs to a former life, so it gets one of this life
        local.left = False
        local.mark_live()
        storage.put(self.id, local)
        return local


def _checked_transport(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of an address, and refuse a host that peers cannot be told."""
    host = given.get("host")
    if not is_transport(dict(given)):
        raise ValueError(f"peer_info.transport must be a short JSON object, got {shown(given)}")
    if not isinstance(host, str):
        return dict(given)
    if is_wildcard(host):
        advice = (
            "give the address that peers can connect to, or leave host out; where to bind is for the option `listen` to say"
        )
        raise ValueError(f"peer_info.transport.host must not be {host!r}, at which nobody can connect: {advice}")
    return {**given, "host": host if read_ip(host) is None else clean_host(host)}  # without brackets


def _checked_data(data: Any, limits: Options) -> dict[str, tuple[Any, int]]:
    if not isinstance(data, Mapping):
        raise TypeError(f"peer_info.data must be a mapping, got {shown(data)}")
    if len(data) > limits.max_keys_per_peer:
        raise ValueError(f"peer_info.data must have at most {limits.max_keys_per_peer} keys, got {len(data)}")
    checked = {}
    for key, pair in data.items():
        if not isinstance(key, str):
            raise TypeError(f"peer_info.data must have strings as keys, got {shown(key)}")
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise TypeError(f"peer_info.data[{shown(key)}] must be [value, version], got {shown(pair)}")
        check_number(f"peer_info.data[{shown(key)}][1]", pair[1], int, 0, MAX_VERSION)
        if is_longer(key, limits.max_key_size):
            raise ValueError(f"peer_info.data must have keys of at most {limits.max_key_size} bytes, got {shown(key)}")
        checked[key] = (values.copied(pair[0], f"peer_info.data[{shown(key)}][0]", limits.max_nesting), pair[1])
    return checked


def complete(given: Any, address: Any) -> dict[str, Any] | None:
    """Return the transport that peers are told: what was given, else what the transport knows; None if it does not."""
    if not (isinstance(given, dict) and isinstance(address, Mapping)):
        return None
    return {**address, **{name: part for name, part in given.items() if part is not None and (part or name != "port")}}
