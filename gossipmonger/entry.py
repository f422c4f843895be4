"""Entries: what a digest tells of one peer.

An entry is made once for each state of a peer and never changed after that, so digests share it, and its text, made when the
first of them is sent, serves all of them. What comes from the network becomes entries too, of this class or of one with the
same fields that a faster decoder makes (`gossipmonger.transport.fast`). Who listens to the endpoint's events, or brings a
transport of its own, sees plain dicts instead: `as_dict`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["Entry", "EntryFields", "Own", "as_dicts"]

#: The fields that are left out on the wire while they are this.
_ABSENT: Mapping[str, Any] = {
    "heartbeat": -1, "floor": 0, "heard": 0, "left": False, "reply": False, "rumor": False, "part": False, "flow": None,
    "roll": None,
}  # fmt: skip


class EntryFields:
    """What all classes of entries can do."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        """Two entries that say the same are equal, whoever made them."""
        return self.as_dict() == other.as_dict() if isinstance(other, EntryFields) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def as_dict(self) -> dict[str, Any]:
        """Return what stands on the wire, a new dict."""
        entry: Any = self
        fields = {"id": entry.id, "maxVersionSeen": entry.version, "transport": entry.transport}
        fields.update((name, getattr(entry, name)) for name, absent in _ABSENT.items() if getattr(entry, name) != absent)
        return fields


class Entry(EntryFields):
    """What a digest tells of one peer.

    Args:
        id: The peer's id.
        version: The highest version that the sender knows of it; on the wire, `maxVersionSeen`.
        address: Where it is reached; on the wire, `transport`.
        heartbeat: How many digests it has sent, -1 if nobody has counted.
        floor: A version at or below which nothing of it exists.
        heard: A version above `version` that the sender has heard of and does not have yet, 0 for none.
        left: Whether it has said good-bye.
        stem: That of another entry that differs in nothing but the heartbeat.

    Attributes:
        stem: The JSON text up to the heartbeat, once it is made.
        text: All of the JSON text, once it is made.
        reply, rumor, part, flow, roll: See `Own`; a peer's entry has none of them.
    """

    __slots__ = ("address", "floor", "heard", "heartbeat", "id", "left", "stem", "text", "version")

    reply = False
    rumor = False
    part = False
    flow: list[float] | None = None
    roll: str | None = None

    def __init__(
        self,
        id: str,
        version: int,
        address: Any,
        heartbeat: int = -1,
        floor: int = 0,
        heard: int = 0,
        left: bool = False,
        stem: str | None = None,
    ) -> None:
        self.id = id
        self.version = version
        self.address = address
        self.heartbeat = heartbeat
        self.floor = floor
        self.heard = heard
        self.left = left
        self.stem = stem
        self.text: str | None = None

    def __repr__(self) -> str:
        return f"Entry({self.as_dict()!r})"

    @property
    def transport(self) -> Any:
        """The address, which a faster decoder's entry has in a form of its own, as the peer's `transport`."""
        return self.address

    def marked(
        self,
        *,
        reply: bool = False,
        rumor: bool = False,
        part: bool = False,
        flow: list[float] | None = None,
        roll: str | None = None,
        heartbeat: int = -1,
    ) -> Own:
        """Return a copy with these marks beside its own, and with a heartbeat in place of its own unless it is -1."""
        heartbeat = self.heartbeat if heartbeat < 0 else heartbeat
        copy = Own(self.id, self.version, self.address, heartbeat, self.floor, self.heard, self.left)
        copy.base = self.base if isinstance(self, Own) else self
        copy.reply, copy.rumor, copy.part = self.reply or reply, self.rumor or rumor, self.part or part
        copy.flow = self.flow if flow is None else flow
        copy.roll = self.roll if roll is None else roll
        return copy


class Own(Entry):
    """The sender's own entry, which says what kind of digest it is in.

    Attributes:
        reply: The digest answers another.
        rumor: The digest tells of what is new, and of nothing else.
        part: The digest is a part of one.
        flow: The sender's rates, see `gossipmonger.flow`; None for none.
        base: The entry that this one is a copy of.
        roll: Heartbeats and versions of all peers, see `gossipmonger.roll`; None for none.
    """

    __slots__ = ("base", "flow", "part", "reply", "roll", "rumor")

    base: Entry


def as_dicts(digest: list[Entry]) -> list[dict[str, Any]]:
    """Return a digest as it stands on the wire."""
    return [entry.as_dict() for entry in digest]
