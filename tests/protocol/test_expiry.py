"""Expiry: an owner deletes, and everybody else hides, what its ttl has passed of; and ages add up along the way."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gossipmonger.protocol import Event, Protocol
from gossipmonger.state import Compact, Delta, Digest, Entry, Header, Kind, Message, Peer
from gossipmonger.state.values import TOMBSTONE
from gossipmonger.storage import MemoryStorage

from .steps import NOW, B, Copying, a_digest, a_peer, a_protocol, digest_of, entry, sends, step, told_in

#: Milliseconds between two looks for keys that have expired.
PAUSE = 100

C = a_peer("c", ours=True).remote


def changes(output: Any) -> list[tuple[Any, ...]]:
    """The `update` and `delete` events, in their order."""
    return [(item.name, *item.args) for item in output if isinstance(item, Event) and item.name in ("update", "delete")]


def delta(key: str = "k", value: Any = "v", version: int = 5, ttl: float = 2.0, after: int = 0, id: str = "b") -> Delta:
    return Delta(id, key, value, version, after, 0, ttl)


def hidden(protocol: Protocol, id: str = "b") -> list[str]:
    protocol.membership.expiry._check()
    return [*protocol.membership.expiry.hidden.get(id, ())]


def b_beats(protocol: Protocol, now: float, heartbeat: int, version: int = 5, **more: Any) -> Any:
    """Hear from b itself."""
    return step(protocol, B, now=now, entries=[entry("b", version, heartbeat=heartbeat, **more)])


def c_tells(protocol: Protocol, now: float, heartbeat: int, version: int = 5, **more: Any) -> Any:
    """Hear of b from c."""
    entries = [entry("b", version, heartbeat=heartbeat, **more), entry("c", heartbeat=1)]
    return step(protocol, C, now=now, entries=entries)


# Own keys


def test_an_owner_deletes_a_key_after_its_ttl() -> None:
    protocol, local, _ = a_protocol(rumor_fanout=0)
    assert protocol.update(NOW, "k", 1, 2.0)
    assert protocol.update(NOW, "l", 1)
    assert protocol.due == NOW + 2_000
    assert changes(protocol.spread(NOW + 1_999)) == []
    assert changes(protocol.spread(NOW + 2_000)) == [("delete", "a", "k")]
    assert local.log.get("k") == TOMBSTONE
    assert local.ttls == {}
    assert protocol.due is None


def test_an_update_of_an_equal_value_and_ttl_only_begins_the_time_anew() -> None:
    protocol, local, _ = a_protocol()
    protocol.update(NOW, "k", 1, 2.0)
    version = local.max_version_seen
    assert not protocol.update(NOW + 1_500, "k", 1, 2.0)
    assert local.max_version_seen == version
    assert changes(protocol.lapse(NOW + 3_499)) == []
    assert changes(protocol.lapse(NOW + 3_600)) == [("delete", "a", "k")]


@pytest.mark.parametrize(("former", "later"), [(2.0, 3.0), (3.0, 2.0), (0.0, 2.0), (2.0, 0.0)])
def test_another_ttl_is_a_new_version_of_an_equal_value(former: float, later: float) -> None:
    protocol, local, _ = a_protocol()
    protocol.update(NOW, "k", 1, former)
    version = local.max_version_seen
    assert protocol.update(NOW + 1_000, "k", 1, later)
    assert local.max_version_seen == version + 1
    assert local.ttls == ({"k": later} if later else {})
    end = NOW + 1_000 + later * 1_000
    assert changes(protocol.lapse(end - 1)) == []
    assert changes(protocol.lapse(end + PAUSE)) == ([("delete", "a", "k")] if later else [])


def test_a_deleted_key_does_not_expire() -> None:
    protocol, *_ = a_protocol()
    protocol.update(NOW, "k", 1, 2.0)
    protocol.delete(NOW, "k")
    assert changes(protocol.lapse(NOW + 5_000)) == []


def test_an_own_key_out_of_a_storage_has_its_whole_ttl() -> None:
    local = Peer("a", data={"k": (1, 3), "l": (1, 4)}, ttls={"k": 2.0}, transport="at a")
    protocol, *_ = a_protocol(local=local)
    assert changes(protocol.lapse(NOW + 1_999)) == []
    assert changes(protocol.lapse(NOW + 2_100)) == [("delete", "a", "k")]


def test_keys_that_are_issued_again_keep_their_ttl() -> None:
    protocol, local, _ = a_protocol()
    protocol.update(NOW, "k", 1, 2.0)
    protocol.update(NOW, "l", 1)
    protocol.delete(NOW, "l")
    local.reissue(100)
    (told,) = local.deltas(0)
    assert (told.key, told.version, told.ttl) == ("k", 101, 2.0)
    assert changes(protocol.lapse(NOW + 2_000)) == [("delete", "a", "k")]


def test_a_ttl_waits_with_its_value_for_flow_control() -> None:
    protocol, local, _ = a_protocol(flow_control=True, max_deltas_per_gossip=1)
    for n in range(9):
        protocol.update(NOW, f"k{n}", n, 60.0)
    assert len(local.ttls) < 9
    waiting = next(iter(protocol.waiting))
    assert protocol.update(NOW, waiting, protocol.newest(waiting), 30.0)
    assert not protocol.update(NOW, waiting, protocol.newest(waiting), 30.0)
    assert waiting not in local.ttls
    protocol.ask(NOW, everything=True)
    assert local.ttls == {f"k{n}": 30.0 if f"k{n}" == waiting else 60.0 for n in range(9)}


def test_what_a_storage_refuses_keeps_the_former_ttl() -> None:
    class Refusing(MemoryStorage):
        full = False

        def put(self, id: str, peer: Peer) -> None:
            if self.full:
                raise OSError("full")
            super().put(id, peer)

    storage = Refusing()
    protocol, local, _ = a_protocol(storage=storage)
    protocol.update(NOW, "k", 1, 2.0)
    storage.full = True
    with pytest.raises(OSError, match="full"):
        protocol.update(NOW, "k", 1, 60.0)
    with pytest.raises(OSError, match="full"):
        protocol.lapse(NOW + 2_000)
    storage.full = False
    protocol.mend()
    assert protocol.newest("k") == 1
    assert changes(protocol.lapse(NOW + 2_100)) == [("delete", "a", "k")]
    assert local.ttls == {}


# Keys of others


def test_a_key_is_hidden_when_its_ttl_has_passed_since_it_came() -> None:
    protocol, _, storage = a_protocol(a_peer("b", ours=True, heartbeat=7))
    assert changes(step(protocol, deltas=[delta()])) == [("update", "b", "k", "v")]
    assert changes(protocol.lapse(NOW + 1_999)) == []
    assert changes(protocol.lapse(NOW + 2_000)) == [("delete", "b", "k")]
    assert hidden(protocol) == ["k"]
    assert storage.get("b").get("k") == "v"
    assert changes(protocol.round(NOW + 3_000)) == []


def test_a_sign_of_life_gives_all_keys_more_time() -> None:
    protocol, *_ = a_protocol(a_peer("b", ours=True, heartbeat=7))
    step(protocol, deltas=[delta(), delta("l", version=6, ttl=3.0, after=5)])
    b_beats(protocol, NOW + 1_900, 8, version=6)
    assert changes(protocol.lapse(NOW + 3_899)) == []
    assert changes(protocol.lapse(NOW + 3_999)) == [("delete", "b", "k")]
    assert changes(protocol.lapse(NOW + 4_900)) == [("delete", "b", "l")]


def test_a_hidden_key_is_shown_when_its_owner_turns_out_alive() -> None:
    protocol, *_ = a_protocol(a_peer("b", ours=True, heartbeat=7))
    step(protocol, deltas=[delta()])
    protocol.lapse(NOW + 2_000)
    assert changes(b_beats(protocol, NOW + 5_000, 7)) == []  # which is no news
    assert changes(b_beats(protocol, NOW + 5_000, 8)) == [("update", "b", "k", "v")]
    assert hidden(protocol) == []
    assert changes(protocol.lapse(NOW + 7_000)) == [("delete", "b", "k")]


def test_a_hidden_key_of_a_former_life_is_not_shown() -> None:
    protocol, *_ = a_protocol(a_peer("b", ours=True, heartbeat=7))
    step(protocol, deltas=[delta()])
    protocol.lapse(NOW + 2_000)
    restarted = b_beats(protocol, NOW + 5_000, 9_000_000, version=100, floor=100)
    assert changes(restarted) == []
    told = step(protocol, now=NOW + 5_100, deltas=[delta("l", version=101, after=100, ttl=0)])
    assert changes(told) == [("update", "b", "l", "v")]
    settled = changes(b_beats(protocol, NOW + 7_000, 9_000_009, version=101, floor=100)) + changes(protocol.round(NOW + 8_000))
    assert settled == []  # the hidden key was told to be gone before
    assert hidden(protocol) == []


def test_a_hidden_key_is_told_to_others_with_its_ttl() -> None:
    protocol, *_ = a_protocol(a_peer("b", ours=True, heartbeat=7))
    step(protocol, deltas=[delta()])
    protocol.lapse(NOW + 2_000)
    output = step(protocol, C, now=NOW + 2_500, entries=[entry("b", 0, heartbeat=7), entry("c", heartbeat=1)])
    assert told_in(output) == [delta()]
    ages = [each.age for send in sends(output) if send.message.digest for each in send.message.digest.entries if each.id == "b"]
    assert ages == [2_500]  # so that whoever is told hides it too


@pytest.mark.parametrize("deltas", [[delta(value=TOMBSTONE, version=6, ttl=0)], [delta(value=TOMBSTONE, version=6, ttl=2.0)]])
def test_the_deletion_of_a_hidden_key_is_no_event(deltas: list[Delta]) -> None:
    protocol, *_ = a_protocol(a_peer("b", ours=True, heartbeat=7))
    step(protocol, deltas=[delta()])
    protocol.lapse(NOW + 2_000)
    assert changes(step(protocol, now=NOW + 3_000, deltas=deltas)) == []
    assert hidden(protocol) == []


def test_a_hidden_key_that_is_set_again_is_an_update_whatever_the_value() -> None:
    protocol, *_ = a_protocol(a_peer("b", ours=True, heartbeat=7))
    step(protocol, deltas=[delta()])
    protocol.lapse(NOW + 2_000)
    assert changes(step(protocol, now=NOW + 3_000, deltas=[delta(version=6, ttl=0)])) == [("update", "b", "k", "v")]
    assert changes(protocol.lapse(NOW + 100_000)) == []


def test_another_ttl_is_no_update_and_counts_from_then() -> None:
    protocol, *_ = a_protocol(a_peer("b", ours=True, heartbeat=7))
    step(protocol, deltas=[delta(ttl=60.0)])
    assert changes(step(protocol, now=NOW + 1_000, deltas=[delta(version=6, ttl=1.0)])) == []
    assert changes(protocol.lapse(NOW + 1_999)) == []
    assert changes(protocol.lapse(NOW + 2_100)) == [("delete", "b", "k")]
    assert changes(protocol.lapse(NOW + 90_000)) == []


def test_keys_out_of_a_storage_are_hidden_until_their_owner_is_heard_of() -> None:
    storage = MemoryStorage()
    storage.put("b", a_peer("b", ours=True, heartbeat=7, data={"k": ("v", 4), "l": ("w", 5)}, ttls={"k": 60.0}))
    protocol, *_ = a_protocol(storage=storage)
    assert hidden(protocol) == ["k"]
    assert changes(b_beats(protocol, NOW, 7)) == []
    step(protocol, C, entries=[entry("c", heartbeat=1)])
    assert changes(step(protocol, C, now=NOW + 10, deltas=[delta("m", version=6, after=5)])) == [("update", "b", "m", "v")]
    assert hidden(protocol) == ["k"]  # its owner may be dead all the same
    assert changes(b_beats(protocol, NOW + 20, 8, version=6)) == [("update", "b", "k", "v")]
    assert hidden(protocol) == []


def test_a_sign_of_life_from_before_a_stored_key_was_written_does_not_show_it() -> None:
    storage = MemoryStorage()
    storage.put("b", a_peer("b", ours=True, heartbeat=7, data={"k": ("v", 5)}, ttls={"k": 20.0}))
    protocol, *_ = a_protocol(storage=storage)
    assert changes(c_tells(protocol, NOW + 100, 8, version=4, age=9_000)) == []  # k would go too early
    assert changes(c_tells(protocol, NOW + 200, 8, version=5, age=8_000)) == [("update", "b", "k", "v")]
    assert changes(protocol.lapse(NOW + 12_199)) == []
    assert changes(protocol.lapse(NOW + 12_300)) == [("delete", "b", "k")]


def test_copies_out_of_a_storage_will_do() -> None:
    storage = Copying()
    storage.put("b", a_peer("b", ours=True, heartbeat=7))
    protocol, *_ = a_protocol(storage=storage)
    step(protocol, deltas=[delta()])
    assert changes(b_beats(protocol, NOW + 1_500, 8)) == []
    assert changes(protocol.lapse(NOW + 3_500)) == [("delete", "b", "k")]
    assert changes(b_beats(protocol, NOW + 4_000, 9)) == [("update", "b", "k", "v")]


def test_a_peer_that_is_forgotten_takes_all_with_it() -> None:
    protocol, _, storage = a_protocol(a_peer("b", ours=True, heartbeat=7))
    step(protocol, deltas=[delta()])
    storage.remove("b")
    assert changes(protocol.round(NOW + 2_000)) == []
    assert hidden(protocol) == []
    assert protocol.membership.expiry.due == float("inf")


# Ages


def test_an_age_dates_a_rise_back() -> None:
    protocol, *_ = a_protocol(a_peer("b", ours=True, heartbeat=7), a_peer("c", ours=True))
    step(protocol, deltas=[delta()])
    c_tells(protocol, NOW + 1_900, 8, age=1_000)
    assert changes(protocol.lapse(NOW + 2_899)) == []
    assert changes(protocol.lapse(NOW + 2_999)) == [("delete", "b", "k")]


def test_ages_add_up_along_the_way() -> None:
    protocol, *_ = a_protocol(a_peer("b", ours=True, heartbeat=7), a_peer("c", ours=True))
    step(protocol, deltas=[delta(ttl=60.0)])
    c_tells(protocol, NOW + 5_000, 8, age=1_000)
    told = protocol.membership.digest([protocol.membership.found["b"] or B], NOW + 7_500)  # type: ignore[list-item]
    assert [(each.id, each.age) for each in told] == [("b", 3_500), ("a", 0)]
    assert [each.age for each in protocol.membership.digest([protocol.membership.found["b"]])] == [0, 0]  # type: ignore[list-item]


def test_an_age_is_told_of_nobody_without_a_ttl() -> None:
    protocol, _, storage = a_protocol(a_peer("b", ours=True, heartbeat=7))
    step(protocol, deltas=[delta(ttl=0)])
    assert [each.age for each in protocol.membership.digest([storage.get("b")], NOW + 7_500)] == [0, 0]


def test_what_comes_late_counts_from_when_its_owner_lived() -> None:
    protocol, *_ = a_protocol(a_peer("b", ours=True, heartbeat=7), a_peer("c", ours=True))
    c_tells(protocol, NOW, 7, age=1_500)  # knows of version 5
    assert changes(step(protocol, C, now=NOW, deltas=[delta()])) == [("update", "b", "k", "v")]
    assert changes(protocol.lapse(NOW + 499)) == []
    assert changes(protocol.lapse(NOW + 599)) == [("delete", "b", "k")]
    news = delta(version=6, after=5)
    assert changes(step(protocol, C, now=NOW + 600, deltas=[news])) == [("update", "b", "k", "v")]  # which nobody knew of
    assert changes(protocol.lapse(NOW + 2_599)) == []
    assert changes(protocol.lapse(NOW + 2_600)) == [("delete", "b", "k")]


def test_an_age_in_the_same_message_counts_before_its_deltas() -> None:
    protocol, *_ = a_protocol(a_peer("b", ours=True, heartbeat=7), a_peer("c", ours=True))
    told = a_digest("c", [entry("b", 5, heartbeat=8, age=9_000)], Kind.REPLY)
    assert changes(protocol.step(NOW, Message(C, [delta()], told))) == []
    assert hidden(protocol) == ["k"]


def test_a_node_that_has_not_heard_of_an_owner_says_so_and_that_takes_nothing_back() -> None:
    storage = MemoryStorage()
    storage.put("b", a_peer("b", ours=True, heartbeat=7, data={"k": ("v", 5)}, ttls={"k": 2.0}))
    restored, *_ = a_protocol(storage=storage)
    (of_b, _) = restored.membership.digest(storage.live_peers()[:1], NOW)
    assert of_b.age == 315_360_000_000
    heard, *_ = a_protocol(a_peer("b", ours=True, heartbeat=7), a_peer("c", ours=True))
    step(heard, deltas=[delta(version=4)])
    step(heard, C, entries=[of_b, entry("c", heartbeat=1)])
    assert changes(step(heard, C, deltas=[delta("l", version=5, after=4)])) == [("update", "b", "l", "v")]
    newcomer, *_ = a_protocol(a_peer("c", ours=True))
    step(newcomer, C, entries=[of_b, entry("c", heartbeat=1)])
    assert changes(step(newcomer, C, deltas=[delta()])) == []
    assert changes(b_beats(newcomer, NOW + 100, 8)) == [("update", "b", "k", "v")]


def test_nobody_hears_of_its_own_age() -> None:
    protocol, local, _ = a_protocol(a_peer("b", ours=True, heartbeat=7))
    told = a_digest("b", [entry("a", local.max_version_seen, heartbeat=local.heartbeat, age=9_000), entry("b", 5, heartbeat=8)])
    protocol.step(NOW, Message(B, [delta()], told))
    assert protocol.membership.digest([], NOW)[0].age == 0


@pytest.mark.parametrize(("silence", "told"), [(2_000, ["a"]), (2_001, ["b", "a"])])
def test_a_compact_digest_has_an_entry_beside_it_for_who_is_silent(silence: float, told: list[str]) -> None:
    protocol, *_ = a_protocol(a_peer("b", ours=True, heartbeat=7), gossip_fanout=1)
    step(protocol, deltas=[delta(ttl=60.0)])
    protocol.round(NOW)
    protocol.round(NOW)
    (round,) = [send for send in sends(protocol.round(NOW + silence)) if digest_of(send).kind is Kind.ROUND]
    header = digest_of(round).header
    assert header is not None
    assert isinstance(header.compact, Compact)
    assert [each.id for each in digest_of(round).entries] == told


# Whatever happens


class Two(RuleBasedStateMachine):
    """An owner, a reader, and what the reader may show: never before a ttl, and nothing for long after it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.owner, self.local, _ = a_protocol(local=Peer("o", transport="at o"), rumor_fanout=0)
        self.reader, _, self.storage = a_protocol(rumor_fanout=0)
        self.shown: dict[str, Any] = {}
        self.alive = NOW  # the owner's last sign of life, as the reader has heard it
        self.came: dict[str, float] = {}
        self.tell()

    def take(self, output: Any) -> None:
        for name, id, key, *value in changes(output):
            assert id == "o"
            assert (name == "delete") == (key in self.shown and (not value or self.shown[key] == ()))
            if value:
                self.shown[key] = value[0]
            else:
                del self.shown[key]

    @rule(key=st.sampled_from("kl"), value=st.integers(0, 1), ttl=st.sampled_from([0.0, 0.2, 1.0, 5.0]))
    def update(self, key: str, value: int, ttl: float) -> None:
        self.owner.update(self.now, key, value, ttl)

    @rule(key=st.sampled_from("kl"))
    def delete(self, key: str) -> None:
        self.owner.delete(self.now, key)

    @rule(milliseconds=st.sampled_from([50, 150, 400, 2_000]))
    def let_pass(self, milliseconds: int) -> None:
        self.now += milliseconds
        self.owner.lapse(self.now)
        self.take(self.reader.lapse(self.now))

    @rule(age=st.sampled_from([0, 300, 3_000]))
    def tell(self, age: int = 0) -> None:
        """Let the reader hear of the owner, by way of a third node if the news is old."""
        self.local.heartbeat += 1
        own = self.local.entry()._replace(age=age)
        sender = B if age else self.local.remote
        header = Header()
        entries = [own, Entry("b", 0, "at b", 1)] if age else [own]
        self.alive = max(self.alive, self.now - age)
        self.take(self.reader.step(self.now, Message(sender, None, Digest(Kind.ROUND, header, entries))))

    @rule()
    def send(self) -> None:
        """Let the reader get what it lacks."""
        known = self.storage.get("o")
        deltas = self.local.deltas(known.max_version_seen)
        if deltas:
            self.take(self.reader.step(self.now, Message(B, deltas, None)))
            self.came.update((each.key, self.now) for each in deltas)

    @invariant()
    def what_is_shown_is_what_may_be(self) -> None:
        self.owner.membership.expiry._check()
        self.reader.membership.expiry._check()
        peer = self.storage.get("o")
        if peer is None:
            return
        peer._check()
        hidden = self.reader.membership.expiry.hidden.get("o", {})
        assert self.shown == {key: value for key, (value, _) in peer.data.items() if key not in hidden}
        for key in self.shown:
            if key in peer.ttls:
                late = self.now - max(self.alive, self.came[key]) - peer.ttls[key] * 1000
                assert late < PAUSE


Two.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestTwo = Two.TestCase
