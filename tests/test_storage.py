"""The storage contract over our storage and over the least that will do; and that the contract catches those who break it."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest

from gossipmonger import MemoryStorage, Peer, Storage
from gossipmonger.testing.storage import RequiredStorageContract, StorageContract


class Least:
    """No subclass, no event, no method beyond the Node package's; it keeps copies, as a database does."""

    def __init__(self) -> None:
        self.kept: dict[str, tuple[bool, bytes]] = {}

    def get(self, id: str) -> Peer | None:
        return self.load(self.kept[id][1]) if id in self.kept else None

    def put(self, id: str, peer: Peer) -> None:
        self.kept[id] = (peer.live, pickle.dumps(peer))

    def live_peers(self) -> list[Peer]:
        return [self.load(data) for live, data in self.kept.values() if live]

    def dead_peers(self) -> list[Peer]:
        return [self.load(data) for live, data in self.kept.values() if not live]

    def load(self, data: bytes) -> Peer:
        peer: Peer = pickle.loads(data)
        return peer


class TestMemoryStorage(StorageContract):
    def make_storage(self) -> MemoryStorage:
        return MemoryStorage()

    def test_get_returns_the_very_object(self) -> None:
        storage, peer = self.make_storage(), Peer("a")
        storage.put("a", peer)
        assert storage.get("a") is peer
        assert storage.live_peers()[0] is peer

    def test_a_subclass_can_override_get(self) -> None:
        asked: list[str] = []

        class Watched(MemoryStorage):
            def get(self, id: str) -> Peer | None:
                asked.append(id)
                return super().get(id)

        storage, peer = Watched(), Peer("a")
        storage.put("a", peer)
        assert storage.get("a") is peer
        assert asked == ["a"]

    def test_lists_are_in_the_order_of_coming_to_life_and_of_dying(self) -> None:
        storage = self.make_storage()
        peers = {id: Peer(id) for id in "dcba"}
        for id, peer in peers.items():
            storage.put(id, peer)
        for id in "bd":
            peers[id].mark_dead()
            storage.put(id, peers[id])
        peers["d"].mark_live()
        storage.put("d", peers["d"])
        storage.put("c", peers["c"])  # was live before, so it keeps its place
        assert [peer.id for peer in storage.live_peers()] == ["c", "a", "d"]
        assert [peer.id for peer in storage.dead_peers()] == ["b"]


class TestLeastStorage(RequiredStorageContract):
    def make_storage(self) -> Least:
        return Least()


class Closable(Least):
    """All that the contract asks for, kept as copies; what follows breaks one promise each."""

    def remove(self, id: str) -> None:
        self.kept.pop(id, None)

    def close(self) -> None:
        pass


class TestCopyingStorage(StorageContract):
    def make_storage(self) -> Closable:
        return Closable()


class NeverEmpty(Closable):
    def get(self, id: str) -> Peer | None:
        return super().get(id) or Peer(id)


class Shared(MemoryStorage):
    def live_peers(self) -> list[Peer]:
        return list(self._live.values()) if not self._live else self.__dict__.setdefault("shared", super().live_peers())


class AsOfNow(MemoryStorage):
    def live_peers(self) -> list[Peer]:
        return [peer for peer in self._peers.values() if peer.live]

    def dead_peers(self) -> list[Peer]:
        return [peer for peer in self._peers.values() if not peer.live]


class FoldsCase(Closable):
    def get(self, id: str) -> Peer | None:
        return super().get(id.lower())

    def put(self, id: str, peer: Peer) -> None:
        super().put(id.lower(), peer)


class Encodes(Closable):
    def put(self, id: str, peer: Peer) -> None:
        id.encode()
        super().put(id, peer)


class Merges(Closable):
    def put(self, id: str, peer: Peer) -> None:
        former = self.get(id)
        data = {**(former.data if former else {}), **peer.data}
        super().put(id, Peer(id, data=data, live=peer.live))


class Cuts(Closable):
    def load(self, data: bytes) -> Peer:
        peer = super().load(data)
        return Peer(peer.id, data=dict(list(peer.data.items())[:5_000]), max_version_seen=peer.max_version_seen)


class KeepsFirst(Closable):
    def put(self, id: str, peer: Peer) -> None:
        if id not in self.kept:
            super().put(id, peer)


class KeepsRemoved(Closable):
    def remove(self, id: str) -> None:
        self.kept[id] = (False, self.kept[id][1])


class Lingers(Merges):
    def remove(self, id: str) -> None:
        pass


class RaisesOnUnknown(Closable):
    def remove(self, id: str) -> None:
        del self.kept[id]


def without(*attributes: str) -> type[Closable]:
    """A storage that returns peers without some of what they are."""

    class Forgets(Closable):
        def load(self, data: bytes) -> Peer:
            peer = super().load(data)
            names = {"data", "intervals", "last_time", "live", "max_version_seen", "transport"} - set(attributes)
            return Peer(peer.id, **{name: getattr(peer, name) for name in names})

    return Forgets


@pytest.mark.parametrize(
    ("broken", "caught_by"),
    [
        (NeverEmpty, "test_get_of_an_unknown_id_is_none"),
        (without("transport"), "test_get_returns_what_was_put"),
        (without("data"), "test_get_returns_what_was_put"),
        (without("intervals"), "test_get_returns_what_was_put"),
        (without("last_time"), "test_get_returns_what_was_put"),
        (without("live"), "test_listed_peers_are_whole"),
        (without("max_version_seen"), "test_versions_come_back_up_to_the_last_one"),
        (Merges, "test_put_replaces_what_was_there"),
        (KeepsFirst, "test_put_again_keeps_what_was_written_since"),
        (KeepsFirst, "test_an_endpoint_keeps_itself_and_others_in_it"),
        (KeepsFirst, "test_an_endpoint_sees_death_and_life_through_it"),
        (without("data"), "test_an_endpoint_goes_on_where_the_stored_one_stopped"),
        (without("ttls"), "test_ttls_come_back"),
        (without("ttls"), "test_an_endpoint_hides_a_key_whose_owner_was_not_heard_of"),
        (Cuts, "test_a_peer_of_ten_thousand_keys_comes_back"),
        (AsOfNow, "test_live_and_dead_peers_follow_live_at_the_last_put"),
        (Shared, "test_lists_are_the_callers_own"),
        (FoldsCase, "test_ids_may_be_any_text"),
        (Encodes, "test_ids_may_be_any_text"),
        (KeepsRemoved, "test_remove_forgets_the_peer"),
        (Lingers, "test_a_removed_peer_comes_back_as_a_new_one"),
        (RaisesOnUnknown, "test_remove_of_an_unknown_id_changes_nothing"),
    ],
)
def test_the_contract_catches(broken: Callable[[], Any], caught_by: str) -> None:
    class Contract(StorageContract):
        def make_storage(self) -> Any:
            return broken()

    with pytest.raises((AssertionError, UnicodeEncodeError, KeyError)):
        getattr(Contract(), caught_by)()


@pytest.mark.parametrize("name", ["test_close_leaves_no_thread", "test_an_endpoint_closes_it"])
def test_the_contract_catches_a_thread_that_close_leaves(name: str) -> None:
    end = threading.Event()
    thread = threading.Thread(target=end.wait)

    class Contract(StorageContract):
        def make_storage(self) -> Any:
            thread.start()
            return Closable()

    try:
        with pytest.raises(AssertionError):
            getattr(Contract(), name)()
    finally:
        end.set()
        thread.join()


def test_the_contract_asks_for_a_storage() -> None:
    with pytest.raises(NotImplementedError, match="StorageContract has to override make_storage"):
        StorageContract().test_get_of_an_unknown_id_is_none()


@pytest.mark.parametrize("made", [None, MemoryStorage, "memory"])
def test_a_contract_says_what_is_to_be_returned(made: Any) -> None:
    class Contract(StorageContract):
        def make_storage(self) -> Any:
            return made

    with pytest.raises(TypeError, match=r"make_storage\(\) must return an object with a method put\(\), got "):
        Contract().test_get_of_an_unknown_id_is_none()


def test_each_test_has_its_own_storage_which_is_closed_at_its_end() -> None:
    closed: list[int] = []

    class Counted(Closable):
        def close(self) -> None:
            closed.append(id(self))

    class Contract(StorageContract):
        def make_storage(self) -> Any:
            return Counted()

    contract = Contract()
    contract.test_put_replaces_what_was_there()
    contract.teardown_method()
    contract.teardown_method()
    assert len(closed) == 1
    contract.test_get_of_an_unknown_id_is_none()  # empty again


def test_a_storage_without_one_of_its_methods_can_not_be_made() -> None:
    class Half(Storage):
        def get(self, id: str) -> Peer | None:
            return None

    with pytest.raises(TypeError, match="abstract"):
        Half()  # type: ignore[abstract]


def test_remove_is_optional_and_close_does_nothing_by_default() -> None:
    class Kept(MemoryStorage):
        remove = Storage.remove
        close = Storage.close

    storage = Kept()
    with pytest.raises(NotImplementedError):
        storage.remove("a")
    storage.close()
