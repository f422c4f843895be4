"""Which node owns a key, by rendezvous hashing (Thaler and Ravishankar, 1998): each node comes to the same answer by itself.

    if owner(job, node.live()) == node.local_peer.id:
        run(job)

It needs no keys and no messages of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

__all__ = ["owner"]


def owner(key: str, ids: Iterable[str]) -> str:
    """Return the one of `ids` that owns `key`.

    Each id has a score for each key, a hash of the two, and the highest score wins. So when a node goes, only its own keys get
    other owners, spread over all that remain; when one comes, it takes an even share from each. The scores are the same in
    every process, on every machine and in every version of Python. It costs about a microsecond for each id.

    Limits: while nodes disagree on who is live, a key may have two owners for some seconds, or none. So what an owner does
    should do no harm when it is done twice. All nodes count alike, however strong they are.

    Args:
        key: The key.
        ids: Whom to choose from, such as `node.live()` or `node.values("role")`; their order does not matter.

    Raises:
        TypeError: The key or one of the ids is not a string, or `ids` is itself a string.
        ValueError: There are no ids.
    """
    if not isinstance(key, str):
        raise TypeError(f"key must be a string, got {key!r}")
    if isinstance(ids, str):
        raise TypeError(f"ids must be several strings, such as node.live(), got the string {ids!r}")
    text = _bytes(key)
    keyed = blake2b(b"%d:%b" % (len(text), text), digest_size=8)  # with its length, so that no two pairs are the same bytes
    best: tuple[bytes, str] | None = None
    for id in ids:
        if not isinstance(id, str):
            raise TypeError(f"ids must be strings, got {id!r}")
        score = keyed.copy()
        score.update(_bytes(id))
        rated = score.digest(), id
        if best is None or rated > best:
            best = rated
    if best is None:
        raise ValueError("ids must not be empty: there is nobody to own the key")
    return best[1]


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
