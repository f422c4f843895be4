"""What the tests of the protocol room share: a protocol without sockets, threads or a clock, and what to say to it."""

from __future__ import annotations

import random
from typing import Any

from gossipmonger import MemoryStorage, Options, Peer, RemotePeer
from gossipmonger.entry import Entry
from gossipmonger.output import Event, Output, Send
from gossipmonger.protocol import Protocol
from gossipmonger.transport import checks

NOW = 1_700_000_000_000.0
B = RemotePeer("b", "at b")


def a_protocol(*peers: Peer, seed: int = 0, local: Peer | None = None, **options: Any) -> tuple[Protocol, Peer, MemoryStorage]:
    storage = MemoryStorage()
    local = local or Peer("a", transport="at a")
    storage.put(local.id, local)
    options.setdefault("random", random.Random(seed))
    protocol = Protocol(local, storage, Options.parse(None, options), NOW)
    for peer in peers:
        storage.put(peer.id, peer)
    return protocol, local, storage


def a_peer(id: str, silent: float = 0, left: bool = False, ours: bool | None = None, **attributes: Any) -> Peer:
    peer = Peer(id, transport=f"at {id}", last_time=NOW - silent, **attributes)
    peer.left, peer.ours = left, ours
    return peer


def entry(id: str, version: int = 0, **more: Any) -> Entry:
    """An entry as it comes from the network; `more` are its fields on the wire."""
    fields = {"id": id, "maxVersionSeen": version, "transport": f"at {id}", **more}
    (checked,) = checks.validate(B, digest=[fields]).digest or []
    return checked


def changed(entry: Entry, **fields: Any) -> Entry:
    """The same entry with other fields on the wire."""
    (checked,) = checks.validate(B, digest=[{**entry.as_dict(), **fields}]).digest or []
    return checked


def events(output: Output, name: str) -> list[tuple[Any, ...]]:
    return [item.args for item in output if isinstance(item, Event) and item.name == name]


def sends(output: Output) -> list[Send]:
    return [item for item in output if isinstance(item, Send)]


def reply_to(output: Output) -> dict[str, Entry]:
    """The entries of the one reply in it, by their ids; none if there is no reply."""
    digests = [send.digest for send in sends(output) if send.digest is not None]
    assert len(digests) <= 1
    for digest in digests:
        assert digest[-1].reply
        assert not any(each.reply for each in digest[:-1])
    return {each.id: each for digest in digests for each in digest}
