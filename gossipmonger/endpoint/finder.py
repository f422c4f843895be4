"""The finder: where the seeds are, from where this node is reached, and what came of trying.

A name may have several addresses, of which each is a seed, and they may change. The transport resolves names without waiting
for them, so the finder asks before each round and takes what is known by then.

If nobody has said which host peers are to be told, it is the local address from which the first seed is reached.

All of this is about finding the first others. Once they are found, gossip tells of the rest.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from gossipmonger.errors import LonelyError, SendError, at
from gossipmonger.process import marked, renew
from gossipmonger.protocol import Place
from gossipmonger.state.message import RemotePeer
from gossipmonger.transport import DEFAULT_PORT, TcpTransport, Transport
from gossipmonger.transport.address import is_local, is_loopback, read_ip, route_to

__all__ = ["Finder"]

_log = logging.getLogger("gossipmonger")

#: Intervals without a live peer after which a node says so, and milliseconds at least: a Node.js node is greeted for a second
#: before it is told anything.
_LONELY, _LONELY_AT_LEAST = 10, 2000.0

#: Seconds after which a seed's name is resolved again, with live peers and without. Services and pods come and go.
_LIFETIME, _LIFETIME_ALONE = 30.0, 2.0

#: What a transport tells of a dial, in words.
_WORDS = {
    "accepted": "connected, but no answer yet",
    "refused": "refused, so nobody listens there",
    "itself": "this node itself",
    "silent": "connected, but no answer: is it a node?",
    "tls": "connected, but TLS fails, as an error says",
    "foreign": "answered by something that is not gossipmonger",
}


#: What who accepted a dial has said in place of a `HELLO`.
_ANSWERED = (_WORDS["silent"], _WORDS["foreign"])


class Finder:
    """Finds the addresses of seeds, and the host that peers are told.

    * Where to look: `look`
    * What comes of it: `told`, `failed`, `loneliness`

    Args:
        seeds: The seeds as they were given.
        carrier: The transport.
        host: The host that `peer_info` names, None if it leaves that open.
        resolved: Called on any thread when seeds that waited for it can be looked for.
    """

    def __init__(self, seeds: Sequence[RemotePeer], carrier: Transport, host: Any, resolved: Callable[[], None]) -> None:
        self._seeds = seeds
        self._carrier = carrier
        self._resolved = resolved
        self._places: list[Place] = []
        self._own: set[str] = set()  # seeds that are this node itself
        self._siblings: dict[RemotePeer, RemotePeer] = {}  # each address of a seed that has several -> the seed
        self._good: dict[RemotePeer, RemotePeer] = {}  # a seed that has several -> the address that accepted a dial last
        self._unresolved: dict[str, str] = {}  # a name that has no address -> why
        self._outcomes: dict[str, str] = {}  # address -> what came of trying it last
        self._failed: set[str] = set()  # addresses that could not be reached, before anybody was found
        self._alone_since: float | None = None
        self.waits: bool = False  # whether the name of a seed is still being resolved
        self._settled = not seeds  # whether somebody was found, or it was said that nobody was
        self._warned = not seeds
        # A transport that somebody else wrote knows by itself where it is reached.
        tcp = carrier if isinstance(carrier, TcpTransport) else None
        self._told = host if host is not None else tcp.host if tcp is not None and tcp.named else None
        self._open = tcp if tcp is not None and self._told is None and seeds else None
        self._finder_lock = threading.RLock()  # guards what is above, but the four whose changes are atomic
        renew(self, "_finder_lock")
        if self._open is not None:
            self._find_host([seed.transport for seed in seeds])

    # Where to look

    def look(self, alone: bool) -> list[Place]:
        """Return the addresses of all seeds, as far as they are known now, without waiting for any.

        Args:
            alone: Whether nobody else is live.
        """
        with marked(), self._finder_lock:
            lifetime = _LIFETIME_ALONE if alone else _LIFETIME
            found = [
                (seed, self._carrier.addresses(seed.transport, partial(self._heard, seed), lifetime)) for seed in self._seeds
            ]
            if self._open is not None:
                self._find_host([address for seed, known in found for address in known or [seed.transport]])
            self._places = [place for seed, known in found for place in self._places_of(seed, known)]
            self.waits = any(known is None and _host(seed) not in self._unresolved for seed, known in found)
            self._own = {_show(seed) for seed, known in found if known == []}
            several = [seed for seed, known in found if known is not None and len(known) > 1]
            self._siblings = {_hashable(p.at): _hashable(p.given) for p in self._places if p.given in several}
            if not self._warned:
                self._warn()
            return self._places

    def _places_of(self, seed: RemotePeer, known: list[Any] | None) -> list[Place]:
        if known is None:  # a name that hangs is not worth a turn; one that has no address is, for the error that comes of it
            return [Place(seed, seed)] if _host(seed) in self._unresolved else []
        if len(known) == 1:
            return [Place(seed, RemotePeer(seed.id, known[0]))]
        return [Place(seed, RemotePeer(f"{seed.id} ({address['host']})", address)) for address in known]

    def _heard(self, seed: RemotePeer, found: object) -> None:
        """Take the resolver's word on a seed's name."""
        if isinstance(found, Exception):
            self._unresolved[_host(seed)] = _reason(found)
        else:
            self._unresolved.pop(_host(seed), None)
        if not self._places or self._open is not None:  # the next round finds the others
            self._resolved()

    def _find_host(self, addresses: Sequence[Any]) -> None:
        """Find the host that peers are told, from the addresses of seeds. Names among them have not been resolved yet.

        While that is open, this node binds so that it is reached at any. This requires holding `_finder_lock`, if anybody else
        may have it.
        """
        assert self._open is not None
        found: list[str] = []
        waits = False
        for address in addresses:
            host = address["host"]
            if read_ip(host) is not None:
                source = route_to(host, address["port"])
                found += [] if source is None else [source]
            elif is_loopback(host):
                found.append("localhost")
            else:
                waits |= host not in self._unresolved
        beyond = [host for host in found if not is_loopback(host)]
        if beyond or (found and not waits):
            self._open.host = self._told = (beyond or found)[0]
            self._open.emit("address")
            self._open = None
        else:
            self._open.binding.setdefault("host", "")

    def _warn(self) -> None:
        """Warn once if seeds on other hosts are told an address at which nobody but this host can connect."""
        if self._told is None:
            return
        self._warned = not isinstance(self._told, str) or not is_loopback(self._told)
        for place in self._places if not self._warned else ():
            address = place.at.transport
            if not isinstance(address, dict) or not isinstance(address.get("host"), str) or is_loopback(address["host"]):
                continue
            source = route_to(address["host"], DEFAULT_PORT)
            if source is not None and not is_local(address["host"]):
                _log.warning(
                    "peers are told to reach this node at %r, but the seed at %s is on another host and can't; leave the host "
                    "in peer_info out, or give an address that other hosts can connect to",
                    self._told, _show(place.at),
                )  # fmt: skip
                self._warned = True
                return

    # What comes of it

    def told(self, remote: RemotePeer, what: str) -> None:
        """Note what the transport told of an address: see `Transport`."""
        remote = _hashable(remote)
        if what == "accepted" and remote in self._siblings:
            self._good[self._siblings[remote]] = remote
        if not self._settled and what in _WORDS:
            answered = self._outcomes.get(_show(remote)) in _ANSWERED
            if what != "accepted" or not answered:  # what does not answer a `HELLO` is sent none the next time
                self._outcomes[_show(remote)] = _WORDS[what]

    def failed(self, error: Exception) -> bool:
        """Note an error; return whether it is news.

        It is none if another address of the same seed answers. Nor is the first failure of a seed at the start: processes that
        are started together find that some of the others do not listen yet.
        """
        remote = error.remote_peer if isinstance(error, SendError) else None
        if not isinstance(remote, RemotePeer):
            return True
        first, shown, remote = False, _show(remote), _hashable(remote)
        if not self._settled:
            unheard = self._outcomes.get(shown) not in _ANSWERED
            first = unheard and any(_hashable(place.at) == remote for place in self._places) and shown not in self._failed
            self._failed.add(shown)
            self._outcomes[shown] = _reason(error.__cause__ or error)
        seed = self._siblings.get(remote)
        if seed is not None and self._good.get(seed) == remote:
            del self._good[seed]
        return not first and (seed is None or seed not in self._good)

    def loneliness(self, now: float, interval: float, alone: bool, local: RemotePeer) -> LonelyError | None:
        """Return the error of having found nobody for ten intervals, once; None if there is none.

        Args:
            now: Milliseconds since the epoch.
            interval: Milliseconds between two rounds.
            alone: Whether nobody else is live.
            local: This node.
        """
        with marked(), self._finder_lock:
            if self._settled:
                return None
            self._alone_since = now if self._alone_since is None else self._alone_since
            self._settled = not alone or now - self._alone_since >= max(_LONELY * interval, _LONELY_AT_LEAST)
            if not self._settled:
                return None
            outcomes, self._outcomes = self._outcomes, {}
            known = [place.given for place in self._places]
            came = {_show(place.at): outcomes.get(_show(place.at), "no answer") for place in self._places}
            for seed in self._seeds:
                if seed not in known:
                    came[_show(seed)] = _WORDS["itself"] if _show(seed) in self._own else "its name is not resolved yet"
            came.update({_show(seed): self._unresolved[_host(seed)] for seed in self._seeds if _host(seed) in self._unresolved})
            for own in (_show(local), *(_show(seed) for seed in self._seeds if seed.id == local.id)):
                came.pop(own, None)
            if not alone or not came:
                return None
            return LonelyError((now - self._alone_since) / 1000, came)


def _reason(error: BaseException) -> str:
    if isinstance(error, ConnectionRefusedError):
        return _WORDS["refused"]
    if isinstance(error, socket.gaierror):
        return f"no address of that name: {error.strerror or error}"
    return str(error)


def _show(peer: RemotePeer) -> str:
    return at(peer.transport) if isinstance(peer.transport, dict) else str(peer.transport)


def _host(peer: RemotePeer) -> str:
    transport = peer.transport
    return str(transport.get("host") if isinstance(transport, dict) else transport)


def _hashable(peer: RemotePeer) -> RemotePeer:
    """Return what stands for a peer as a key."""
    return RemotePeer(peer.id, _show(peer))
