"""The storage contract: what an endpoint relies on in a storage, one test for each promise, to run over your own.

`RequiredStorageContract` asks for the four methods that an endpoint can't do without, `StorageContract` for all of
`gossipmonger.Storage`. Both want pytest to collect them and nothing else.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

from gossipmonger.endpoint import Gossipmonger
from gossipmonger.state import MAX_VERSION, Peer, RemotePeer
from gossipmonger.state.values import MAX_NESTING
from gossipmonger.testing.parts import Deaf, Inline, Never, made
from gossipmonger.testing.peers import NOW, a_peer, assert_equal, ids
from gossipmonger.testing.samples import TEXTS, VALUES

__all__ = ["RequiredStorageContract", "StorageContract"]


class RequiredStorageContract:
    """The promises of `get`, `put`, `live_peers` and `dead_peers`, for a storage that has no more than these.

    It is used as `StorageContract` is.
    """

    _opened: Any = None

    def make_storage(self) -> Any:
        """Return a new and empty storage. Each test calls it once, and closes what it returned if that has a `close`."""
        raise NotImplementedError(f"{type(self).__name__} has to override make_storage()")

    def teardown_method(self) -> None:
        """Close the test's storage; pytest calls it. Whoever overrides it calls it too."""
        storage, self._opened = self._opened, None
        close = getattr(storage, "close", None)
        if close is not None:
            close()

    def _storage(self) -> Any:
        if self._opened is None:
            self._opened = made(self.make_storage(), "make_storage", "put")
        return self._opened

    # One peer

    def test_get_of_an_unknown_id_is_none(self) -> None:
        """Where nothing was put there is nothing, in the empty storage and beside another peer."""
        storage = self._storage()
        assert storage.get("a") is None
        assert storage.live_peers() == []
        assert storage.dead_peers() == []
        storage.put("b", Peer("b"))
        assert storage.get("a") is None

    def test_get_returns_what_was_put(self) -> None:
        """All that a peer is comes back, and keeping it changes nothing of the peer that was put."""
        storage = self._storage()
        peer, twin = a_peer("a"), a_peer("a")
        storage.put("a", peer)
        assert_equal(storage.get("a"), twin)
        assert_equal(peer, twin)

    def test_a_peer_that_was_never_heard_of_comes_back_so(self) -> None:
        """No data, no address, no sign of life, and no interval: none of these turns into something else."""
        storage = self._storage()
        storage.put("a", Peer("a", intervals=[]))
        assert_equal(storage.get("a"), Peer("a", intervals=[]))

    def test_versions_come_back_up_to_the_last_one(self) -> None:
        """A version is an integer below 2**53, and a peer may have seen more of them than its data shows."""
        storage = self._storage()
        for id, peer in {
            "at the last": Peer("at the last", data={"k": ("v", MAX_VERSION)}),
            "above its data": Peer("above its data", data={"k": ("v", 3)}, max_version_seen=MAX_VERSION - 1),
            "at none": Peer("at none", data={"k": ("v", 0)}),
        }.items():
            storage.put(id, peer)
            assert_equal(storage.get(id), peer)

    def test_every_json_value_comes_back(self) -> None:
        """So do integers beyond 64 bits, halves of surrogate pairs and the deepest nesting there is."""
        storage = self._storage()
        deep: Any = "deep"
        for _ in range(MAX_NESTING):
            deep = [deep]
        kept = {**VALUES, "deep": deep}
        peer = Peer("a", data={key: (value, version) for version, (key, value) in enumerate(kept.items())})
        storage.put("a", peer)
        assert_equal(storage.get("a"), peer)

    def test_a_kept_peer_is_as_good_as_the_one_put(self) -> None:
        """It reconciles, suspects and takes writes just so."""
        storage = self._storage()
        peer = a_peer("a")
        storage.put("a", peer)
        kept = storage.get("a")
        assert kept.deltas_after_version(3) == peer.deltas_after_version(3)
        assert kept.count_after_version(3) == peer.count_after_version(3)
        assert math.isclose(kept.phi(NOW + 5_000), peer.phi(NOW + 5_000))
        assert kept.update_with_delta("old", "stale", kept.max_version_seen) is None
        assert kept.update_with_delta("new", "fresh", kept.max_version_seen + 1) == "new"

    def test_put_replaces_what_was_there(self) -> None:
        """Nothing of the former peer is left, and the peer is listed once."""
        storage = self._storage()
        storage.put("a", a_peer("a"))
        successor = Peer("a", data={"other": (1, 2)}, transport="moved", last_time=NOW + 1)
        storage.put("a", successor)
        assert_equal(storage.get("a"), successor)
        assert ids(storage.live_peers()) == ["a"]

    def test_put_again_keeps_what_was_written_since(self) -> None:
        """The endpoint's way to change a peer: get it, write to it, put it."""
        storage = self._storage()
        expected = a_peer("a")
        storage.put("a", a_peer("a"))
        for version in range(100, 110):
            peer = storage.get("a")
            for one in (peer, expected):
                one.update_with_delta(f"k{version % 3}", {"at": version}, version)
                one.mark_contact(NOW + 10 * version)
            storage.put("a", peer)
        assert_equal(storage.get("a"), expected)

    def test_ttls_come_back(self) -> None:
        """A key keeps its ttl as long as its value, and a later write of it takes both away."""
        storage = self._storage()
        peer = Peer("a", data={"k": (1, 2), "l": (2, 3), "m": (3, 4)}, ttls={"k": 0.001, "l": 315_360_000, "m": 2.5})
        storage.put("a", peer)
        kept = storage.get("a")
        assert_equal(kept, Peer("a", data=peer.data, ttls=dict(peer.ttls)))
        kept.update_with_delta("k", 1, 5)
        kept.update_with_delta("l", 2, 6, ttl=60)
        storage.put("a", kept)
        assert storage.get("a").ttls == {"l": 60, "m": 2.5}

    def test_a_peer_of_ten_thousand_keys_comes_back(self) -> None:
        """No limit on the length of a row or the number of parameters cuts it."""
        storage = self._storage()
        peer = Peer("a", data={f"key {n}": ({"n": n, "text": "x" * 20}, n + 1) for n in range(10_000)})
        storage.put("a", peer)
        assert_equal(storage.get("a"), peer)

    # Many peers

    def test_live_and_dead_peers_follow_live_at_the_last_put(self) -> None:
        """The lists change with a put and not before, so that a peer is in exactly one of them."""
        storage = self._storage()
        peers = {id: Peer(id, live=id != "c") for id in ("a", "b", "c")}
        for id, peer in peers.items():
            storage.put(id, peer)
        assert (ids(storage.live_peers()), ids(storage.dead_peers())) == (["a", "b"], ["c"])
        peers["a"].mark_dead()
        peers["c"].mark_live()
        assert (ids(storage.live_peers()), ids(storage.dead_peers())) == (["a", "b"], ["c"])
        storage.put("a", peers["a"])
        storage.put("c", peers["c"])
        assert (ids(storage.live_peers()), ids(storage.dead_peers())) == (["b", "c"], ["a"])
        storage.put("c", peers["c"])
        assert (ids(storage.live_peers()), ids(storage.dead_peers())) == (["b", "c"], ["a"])

    def test_listed_peers_are_whole(self) -> None:
        """A list holds the same peers that `get` returns, with all that they are."""
        storage = self._storage()
        for id, live in (("a", True), ("b", False)):
            storage.put(id, a_peer(id, live=live))
        assert_equal(storage.live_peers()[0], a_peer("a"))
        assert_equal(storage.dead_peers()[0], a_peer("b", live=False))

    def test_lists_are_the_callers_own(self) -> None:
        """Whoever empties one changes nothing, and a put changes no list that was returned before it."""
        storage = self._storage()
        storage.put("a", Peer("a"))
        storage.put("b", Peer("b", live=False))
        live, dead = storage.live_peers(), storage.dead_peers()
        storage.put("c", Peer("c"))
        storage.put("d", Peer("d", live=False))
        assert (ids(live), ids(dead)) == (["a"], ["b"])
        live.clear()
        dead.clear()
        assert (ids(storage.live_peers()), ids(storage.dead_peers())) == (["a", "c"], ["b", "d"])

    def test_ids_may_be_any_text(self) -> None:
        """Each is another peer, however alike two of them look."""
        storage = self._storage()
        for version, id in enumerate(TEXTS):
            storage.put(id, Peer(id, max_version_seen=version, live=version % 2 == 0))
        for version, id in enumerate(TEXTS):
            assert_equal(storage.get(id), Peer(id, max_version_seen=version, live=version % 2 == 0))
        assert ids(storage.live_peers()) == sorted(TEXTS[::2])
        assert ids(storage.dead_peers()) == sorted(TEXTS[1::2])

    def test_keys_may_be_any_text(self) -> None:
        """Each is another key, the empty one too."""
        storage = self._storage()
        peer = Peer("a", data={key: (key, version) for version, key in enumerate(("", *TEXTS), 1)})
        storage.put("a", peer)
        assert_equal(storage.get("a"), peer)

    # In an endpoint

    def test_an_endpoint_keeps_itself_and_others_in_it(self) -> None:
        """What it writes and what it hears is what the storage has."""
        node, transport, _, errors = self._endpoint()
        node.update("own", {"v": [1]})
        transport.emit("digest", _B, [{"id": "b", "maxVersionSeen": 0, "transport": "there"}])
        transport.emit("deltas", _B, [["b", "k", {"v": [2]}, 5], ["b", "l", None, 6]])
        assert (node.get("a", "own"), node.get("b", "k"), node.get("b", "l", "default")) == ({"v": [1]}, {"v": [2]}, None)
        assert {id: dict(view.data) for id, view in node.peers().items()} == {
            "a": {"own": {"v": [1]}},
            "b": {"k": {"v": [2]}, "l": None},
        }
        storage = self._storage()
        assert ids(storage.live_peers()) == ["a", "b"]
        assert storage.get("a").get("own") == {"v": [1]}
        assert (storage.get("b").max_version_seen, storage.get("b").transport) == (6, "there")
        assert errors == []

    def test_an_endpoint_sees_death_and_life_through_it(self) -> None:
        """A silent peer moves to the dead, and back when it is heard again."""
        node, transport, round_after, errors = self._endpoint()
        seen: list[str] = []
        for name in ("new peer", "peer dead", "peer live"):
            node.on(name, lambda peer, name=name: seen.append(f"{name} {peer.id}"))
        storage = self._storage()
        hello = [{"id": "b", "maxVersionSeen": 0, "transport": "there"}]
        transport.emit("digest", _B, hello)
        for _ in range(60):
            round_after(1_000)
        assert "b" in ids(storage.dead_peers())
        assert "b" not in ids(storage.live_peers())
        assert node.peers()["b"].state == "dead"
        transport.emit("digest", _B, hello)
        round_after(1_000)
        assert "b" in ids(storage.live_peers())
        assert "b" not in ids(storage.dead_peers())
        assert node.peers()["b"].state == "live"
        assert seen == ["new peer b", "peer dead b", "peer live b"]
        assert errors == []

    def test_an_endpoint_hides_a_key_whose_owner_was_not_heard_of(self) -> None:
        """When its ttl has passed; and after a restart until the owner is heard of."""
        node, transport, round_after, errors = self._endpoint()
        b = {"id": "b", "maxVersionSeen": 5, "transport": "there", "heartbeat": 7}
        transport.emit("digest", _B, [b])
        transport.emit("deltas", _B, [["b", "k", "v", 5, 0, 0, 2.5]])
        round_after(2_000)
        assert node.get("b", "k") == "v"
        round_after(1_000)
        assert node.get("b", "k") is None
        assert self._storage().get("b").ttls == {"k": 2.5}
        restarted, transport, _, more = self._endpoint()
        assert restarted.get("b", "k") is None
        transport.emit("digest", _B, [{**b, "heartbeat": 8}])
        assert restarted.get("b", "k") == "v"
        assert errors + more == []

    def test_an_endpoint_goes_on_where_the_stored_one_stopped(self) -> None:
        """Its own peer is in the storage too, so a restart loses neither data nor version."""
        self._storage().put("a", Peer("a", data={"k": ("kept", 3)}, max_version_seen=7, transport="here"))
        node, _, _, errors = self._endpoint()
        assert node.get("a", "k") == "kept"
        assert node.local_peer.max_version_seen == 7
        node.update("k", "new")
        assert self._storage().get("a").data == {"k": ("new", 8)}
        assert errors == []

    def _endpoint(self) -> tuple[Gossipmonger, Deaf, Callable[[float], None], list[Any]]:
        """An endpoint on virtual time over the test's storage, its transport, what does a round some ms later, its errors."""
        now = NOW
        transport = Deaf()
        node = Gossipmonger(
            {"id": "a", "transport": "here"},
            storage=self._storage(),
            transport=transport,
            clock=lambda: now,
            timer=Never,
            executor=Inline(),
        )
        errors: list[Any] = []
        node.on("error", errors.append)

        def round_after(milliseconds: float) -> None:
            nonlocal now
            now += milliseconds
            node.gossip()

        return node, transport, round_after, errors


class StorageContract(RequiredStorageContract):
    """The promises of a whole `gossipmonger.Storage`, `remove` and `close` too.

    Subclass it under a name that pytest collects, and return a new and empty storage from `make_storage`::

        import pytest

        from gossipmonger.testing.storage import StorageContract
        from my_storage import FileStorage


        class TestFileStorage(StorageContract):
            @pytest.fixture(autouse=True)
            def _directory(self, tmp_path):
                self.directory = tmp_path

            def make_storage(self):
                return FileStorage(self.directory)

    The fixture is there only because this storage needs a directory. Each test makes one storage, and closes it at its end.
    A storage without `remove` and `close` has `RequiredStorageContract`.
    """

    def test_remove_forgets_the_peer(self) -> None:
        """Live or dead, it is in no list any more, and the others stay."""
        storage = self._storage()
        for id, live in (("a", True), ("b", True), ("c", False), ("d", False)):
            storage.put(id, a_peer(id, live=live))
        storage.remove("a")
        storage.remove("c")
        assert (storage.get("a"), storage.get("c")) == (None, None)
        assert (ids(storage.live_peers()), ids(storage.dead_peers())) == (["b"], ["d"])
        assert_equal(storage.get("b"), a_peer("b"))

    def test_remove_of_an_unknown_id_changes_nothing(self) -> None:
        """It raises nothing, the second time as little as the first."""
        storage = self._storage()
        storage.put("a", Peer("a"))
        storage.remove("b")
        assert ids(storage.live_peers()) == ["a"]
        storage.remove("a")
        storage.remove("a")
        assert storage.live_peers() == []

    def test_a_removed_peer_comes_back_as_a_new_one(self) -> None:
        """Nothing of its former life is left to come up again."""
        storage = self._storage()
        storage.put("a", a_peer("a"))
        storage.remove("a")
        storage.put("a", Peer("a"))
        assert_equal(storage.get("a"), Peer("a"))

    def test_remove_takes_any_text(self) -> None:
        """Each id removes itself and no other."""
        storage = self._storage()
        for id in TEXTS:
            storage.put(id, Peer(id))
        for index, id in enumerate(TEXTS, 1):
            storage.remove(id)
            assert ids(storage.live_peers()) == sorted(TEXTS[index:])

    def test_close_leaves_no_thread(self) -> None:
        """Whatever ran for the storage has ended by the time that `close` returns."""
        before = set(threading.enumerate())
        storage = self._storage()
        storage.put("a", a_peer("a"))
        self._opened = None
        storage.close()
        assert [thread.name for thread in threading.enumerate() if thread not in before] == []

    def test_an_endpoint_closes_it(self) -> None:
        """It can be closed by its endpoint, which calls `close` once, last of all."""
        before = set(threading.enumerate())
        node, transport, round_after, errors = self._endpoint()
        transport.emit("digest", _B, [{"id": "b", "maxVersionSeen": 0, "transport": "there"}])
        round_after(1_000)
        self._opened = None
        node.close()
        assert [thread.name for thread in threading.enumerate() if thread not in before] == []
        assert errors == []


_B = RemotePeer("b", "there")
