"""The mirror: what there is to tell, against what a peer has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gossipmonger import MemoryStorage, Peer
from gossipmonger.endpoint.engine import Engine
from gossipmonger.endpoint.mirror import Change, Mirror, Note, notes
from gossipmonger.protocol import Event
from gossipmonger.simulation import Simulation
from gossipmonger.state import RemotePeer
from gossipmonger.state.values import TOMBSTONE

from ..protocol.steps import Copying

Told = list[tuple[str, str, Any, str]]


def an_engine(*peers: Peer, **options: Any) -> Engine:
    """The engine of a node that reaches nobody, and that knows these peers. It writes at most one key a second."""
    storage = options.setdefault("storage", MemoryStorage())
    node = Simulation().add("a", gossip=False, max_deltas_per_gossip=1, max_exchanges_per_gossip=1, **options)
    for peer in peers:
        storage.put(peer.id, peer)
    return node._engine


def a_mirror(engine: Engine, prefix: str = "", peer: str | None = None, replay: bool = True) -> Mirror:
    with engine.lock:
        return Mirror(engine, prefix, peer, replay)


def told(engine: Engine, mirror: Mirror, **noted: Note) -> Told:
    """All that there is to tell after these notes."""
    all: Told = []
    with engine.lock:
        mirror.note(noted)
        while changes := mirror.take():
            all += changes
        assert not mirror.pending
    return all


def write(engine: Engine, mirror: Mirror, key: str, value: Any) -> None:
    """Update an own key, or with a tombstone delete it, as the engine does."""
    now = engine._clock()
    with engine.lock:
        if value is TOMBSTONE:
            engine.protocol.delete(now, key)
        else:
            engine.protocol.update(now, key, value)
        mirror.note_own(key)


def sets(id: str, **data: Any) -> Told:
    return [(id, key, value, "set") for key, value in data.items()]


def test_what_there_is_comes_first_and_then_what_happens() -> None:
    b, c = Peer("b", data={"k": [1, 5]}), Peer("c", data={"k": [2, 5], "l": [3, 4]})
    engine = an_engine(b, c)
    mirror = a_mirror(engine)
    b.update_with_delta("m", 4, 6)
    assert told(engine, mirror, b=Note.WRITES) == sets("b", k=1) + sets("c", l=3, k=2) + sets("b", m=4)
    c.update_with_delta("k", 5, 6)
    c.update_with_delta("l", TOMBSTONE, 7)
    c.update_with_delta("l", TOMBSTONE, 8)
    assert told(engine, mirror, c=Note.WRITES) == [("c", "k", 5, "set"), ("c", "l", None, "delete")]
    assert told(engine, mirror, c=Note.ALL, d=Note.WRITES) == []


def test_what_there_is_may_be_issued_again_before_it_is_told() -> None:
    b = Peer("b", data={"k": [1, 5]})
    engine = an_engine(b)
    mirror = a_mirror(engine)
    b.update_with_delta("k", 1, 6)  # no event, since the value is the same
    assert told(engine, mirror) == sets("b", k=1)


def test_without_replay_only_what_happens_is_told() -> None:
    b, c = Peer("b", data={"k": [1, 5], "l": [2, 6]}), Peer("c", data={"k": [3, 5]})
    engine = an_engine(b, c)
    write(engine, a_mirror(engine), "own", 1)
    mirror = a_mirror(engine, replay=False)
    assert told(engine, mirror) == []
    b.update_with_delta("k", TOMBSTONE, 7)
    c.mark_dead()
    write(engine, mirror, "own", 2)
    expected = [("a", "own", 2, "set"), ("b", "k", None, "delete"), ("c", "k", None, "gone")]
    assert told(engine, mirror, b=Note.WRITES, c=Note.WRITES) == expected


def test_only_a_prefix_and_a_peer_may_count() -> None:
    peers = [Peer(id, data={"load": [1, 5], "loader": [2, 6], "other": [3, 7]}) for id in "bc"]
    engine = an_engine(*peers)
    mirror = a_mirror(engine, "load", "c")
    write(engine, mirror, "load", 1)
    assert told(engine, mirror, b=Note.WRITES) == sets("c", load=1, loader=2)
    only_own = a_mirror(engine, "lo", "a")
    write(engine, only_own, "less", 1)
    write(engine, only_own, "longer", 1)
    assert told(engine, only_own) == sets("a", load=1, longer=1)


def test_a_peers_keys_are_gone_when_it_is_and_set_again_when_it_is_back() -> None:
    b = Peer("b", data={"k": [1, 5], "l": [2, 6]})
    engine = an_engine(b)
    mirror = a_mirror(engine)
    assert told(engine, mirror) == sets("b", k=1, l=2)
    for leave, come_back in [(b.mark_dead, b.mark_live), (lambda: setattr(b, "left", True), lambda: setattr(b, "left", False))]:
        leave()
        assert told(engine, mirror, b=Note.WRITES) == [("b", "k", None, "gone"), ("b", "l", None, "gone")]
        assert told(engine, mirror, b=Note.WRITES) == []
        come_back()
        assert told(engine, mirror, b=Note.WRITES) == sets("b", k=1, l=2)
    engine._storage.remove("b")
    assert [kind for *_, kind in told(engine, mirror, b=Note.AGAIN)] == ["gone", "gone"]


def test_a_peer_that_left_and_came_back_meanwhile_has_changed_as_far_as_its_keys_have() -> None:
    b = Peer("b", data={"k": [1, 5], "l": [2, 6]})
    engine = an_engine(b)
    mirror = a_mirror(engine)
    assert told(engine, mirror) == sets("b", k=1, l=2)
    b.mark_dead()
    mirror.note({"b": Note.WRITES})
    b.update_with_delta("k", 3, 7)
    b.mark_live()
    assert told(engine, mirror, b=Note.WRITES) == sets("b", k=3)


def test_a_peer_that_was_forgotten_and_met_again_meanwhile_is_told_from_the_beginning() -> None:
    b = Peer("b", data={"k": [1, 5], "l": [2, 60]})
    engine = an_engine(b)
    mirror = a_mirror(engine)
    assert told(engine, mirror) == sets("b", k=1, l=2)
    engine._storage.remove("b")
    mirror.note({"b": Note.AGAIN})
    again = Peer("b", data={"k": [1, 5], "m": [3, 6]})
    engine._storage.put("b", again)
    assert told(engine, mirror, b=Note.AGAIN) == [("b", "l", None, "gone"), ("b", "m", 3, "set")]
    again.update_with_delta("l", 2, 60)
    assert told(engine, mirror, b=Note.WRITES) == sets("b", l=2)


def test_keys_that_fell_to_a_floor_are_deleted_and_those_issued_again_are_not_told_again() -> None:
    b = Peer("b", data={"k": [1, 5], "l": [2, 6], "m": [3, 7]})
    engine = an_engine(b)
    mirror = a_mirror(engine)
    assert told(engine, mirror) == sets("b", k=1, l=2, m=3)
    b.hear_of(9, 8, True)
    b.update_with_delta("m", 3, 9)
    assert sorted(b.settle()) == ["k", "l"]
    assert told(engine, mirror, b=Note.WRITES) == [("b", "k", None, "delete"), ("b", "l", None, "delete")]


def test_many_writes_are_told_a_few_at_a_time_and_others_between_them() -> None:
    b, c = Peer("b"), Peer("c")
    engine = an_engine(b, c)
    mirror = a_mirror(engine)
    for n in range(1_000):
        b.update_with_delta(f"k{n}", n, n + 1)
    c.update_with_delta("k", 1, 1)
    with engine.lock:
        mirror.note({"b": Note.WRITES, "c": Note.WRITES})
        parts = [mirror.take() for _ in range(5)]
        assert mirror.take() == []
    assert [{change.peer_id for change in part} for part in parts] == [{"b"}, {"c"}, {"b"}, {"b"}, {"b"}]
    assert [change.value for part in parts for change in part if change.peer_id == "b"] == list(range(1_000))


def test_own_keys_are_told_when_they_are_set_even_if_flow_control_holds_them_back() -> None:
    engine = an_engine(flow_control=True)
    mirror = a_mirror(engine)
    for key, value in [("k", 1), ("l", 2), ("m", 3), ("k", 4), ("l", 5), ("m", TOMBSTONE)]:
        write(engine, mirror, key, value)
    assert engine.local_peer.data.keys() == {"k"}
    assert told(engine, mirror) == sets("a", k=4, l=5)
    write(engine, mirror, "k", 1)  # what gossip tells still
    with engine.lock:
        for second in range(1, 9):
            engine.protocol.round(engine._clock() + 1_000 * second)
    assert told(engine, mirror, a=Note.WRITES) == sets("a", k=1)
    assert told(engine, mirror, a=Note.ALL) == []


def test_a_mirror_begins_with_what_flow_control_holds_back() -> None:
    engine = an_engine(flow_control=True)
    for key in "klm":
        write(engine, a_mirror(engine), key, 1)
    assert told(engine, a_mirror(engine)) == sets("a", k=1, l=1, m=1)
    mirror = a_mirror(engine, replay=False)
    write(engine, mirror, "l", TOMBSTONE)
    assert told(engine, mirror) == [("a", "l", None, "delete")]


def test_own_keys_that_come_and_go_unseen_take_no_room() -> None:
    engine = an_engine(flow_control=True)
    mirror = a_mirror(engine)
    write(engine, mirror, "first", 1)
    for n in range(1_000):
        write(engine, mirror, f"k{n}", n)
        write(engine, mirror, f"k{n}", TOMBSTONE)
        assert len(mirror._keys["a"]) < 100
    write(engine, mirror, "last", 2)
    assert told(engine, mirror) == sets("a", first=1, last=2)


def test_a_storage_may_return_copies() -> None:
    engine = an_engine(storage=Copying())
    b = Peer("b", data={"k": [1, 5]})
    engine._storage.put("b", b)
    mirror = a_mirror(engine)
    assert told(engine, mirror) == sets("b", k=1)
    b.update_with_delta("k", 1, 6)
    b.update_with_delta("l", 2, 7)
    engine._storage.put("b", b)
    assert told(engine, mirror, b=Note.WRITES) == sets("b", l=2)


def test_what_was_not_noted_because_a_step_failed_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    b, c = Peer("b", data={"k": [1, 5]}), Peer("c", data={"k": [1, 5]})
    engine = an_engine(b, c)
    mirror = a_mirror(engine)
    told(engine, mirror)
    b.update_with_delta("k", 2, 6)
    c.mark_dead()
    mirror.note_all()
    with monkeypatch.context() as patch:
        patch.setattr(engine._storage, "get", _full)
        with engine.lock, pytest.raises(OSError, match="full"):
            mirror.take()
    assert mirror.pending
    assert told(engine, mirror) == [("b", "k", 2, "set"), ("c", "k", None, "gone")]


def _full(_: str) -> Peer:
    raise OSError("the disk is full")


def test_events_say_which_peers_have_changed() -> None:
    b, c = RemotePeer("b", None), RemotePeer("c", None)
    events: list[tuple[str, tuple[Any, ...]]] = [
        ("update", ("b", "k", 1)), ("new peer", (c,)), ("digest receive", (c, None)), ("delete", ("c", "k")),
        ("peer dead", (b,)), ("error", (OSError(),)),
    ]  # fmt: skip
    noted = notes([Event(name, args) for name, args in events])
    assert list(noted.items()) == [("b", Note.WRITES), ("c", Note.AGAIN)]


def test_a_change_says_what_it_is() -> None:
    make: Callable[..., Change] = Change
    assert repr(make("b", "k", 1, "set")) == "Change(peer_id='b', key='k', value=1, kind='set')"
