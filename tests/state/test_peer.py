"""The versioned map against a model of it that is too simple to be wrong."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossipmonger.state import MAX_VERSION, Delta, Entry, Peer
from gossipmonger.state.values import TOMBSTONE

KEYS = st.sampled_from("abcdefgh")
VALUES = st.integers(0, 3) | st.booleans() | st.none()


def deltas_of(model: dict[str, tuple[Any, int]], version: int) -> list[tuple[str, Any, int]]:
    return sorted(((key, *pair) for key, pair in model.items() if pair[1] > version), key=lambda delta: delta[2])


def agrees(peer: Peer, model: dict[str, tuple[Any, int]]) -> None:
    peer._check()
    assert peer.data == model
    assert list(peer.data) == [key for key, _, _ in deltas_of(model, -1)]
    for key in "abcdefgh":
        assert peer.get(key, "nothing") == (model[key][0] if key in model else "nothing")
    for version in {-1, 0, peer.max_version_seen, *(pair[1] for pair in model.values())}:
        wanted = deltas_of(model, version)
        assert peer.deltas_after_version(version) == wanted
        assert peer.deltas_after_version(version, 2) == wanted[:2]
        assert peer.count_after_version(version) == len(wanted)


@given(st.lists(st.tuples(KEYS, VALUES), max_size=200))
def test_the_owner_s_writes_are_the_model_s(writes: list[tuple[str, Any]]) -> None:
    peer, model = Peer("a"), dict[str, tuple[Any, int]]()
    for key, value in writes:
        version = peer.max_version_seen
        old = model.get(key)
        if old is not None and old[0] == value and isinstance(old[0], bool) == isinstance(value, bool):
            assert peer.update_local(key, value) is None
            assert peer.max_version_seen == version
        else:
            assert peer.update_local(key, value) == key
            assert peer.max_version_seen == version + 1
            model[key] = (value, version + 1)
    agrees(peer, model)


@given(st.lists(st.tuples(KEYS, VALUES, st.integers(1, 60)), max_size=200))
def test_a_replica_takes_a_delta_only_above_all_it_knows(deltas: list[tuple[str, Any, int]]) -> None:
    peer, model, known = Peer("a"), dict[str, tuple[Any, int]](), 0
    for key, value, version in deltas:
        taken = peer.update_with_delta(key, value, version)
        assert taken == (key if version > known else None)
        if version > known:
            model[key] = (value, version)
            known = version
        assert peer.max_version_seen == known
    agrees(peer, model)


@given(st.dictionaries(KEYS, st.tuples(VALUES, st.integers(1, 60))), st.integers(0, 80))
def test_a_peer_made_of_data_has_it_in_order_of_versions(data: dict[str, tuple[Any, int]], version: int) -> None:
    data = {key: (value, 10 * each + index) for index, (key, (value, each)) in enumerate(data.items())}
    peer = Peer("a", data=data, max_version_seen=version)
    agrees(peer, data)
    assert peer.max_version_seen == max([version, *(pair[1] for pair in data.values())])


@pytest.mark.untraced
@given(st.lists(st.sampled_from(["a", *"bcdefgh"]), min_size=250, max_size=400))
def test_holes_never_outgrow_the_log(keys: list[str]) -> None:
    peer = Peer("a")
    for value, key in enumerate(keys):
        peer.update_local(key, value)
        assert len(peer.log._versions) <= 2 * len(peer.data) + 100
    agrees(peer, {key: (value, value + 1) for value, key in enumerate(keys)})


def test_a_key_that_gets_the_value_it_has_is_no_write_and_true_is_not_one() -> None:
    peer = Peer("a")
    assert peer.update_local("k", [1, {"x": True}]) == "k"
    assert peer.update_local("k", [1.0, {"x": True}]) is None
    assert peer.update_local("k", [1, {"x": 1}]) == "k"
    assert peer.max_version_seen == 2


def test_beyond_the_last_version_there_is_none() -> None:
    peer = Peer("a", max_version_seen=MAX_VERSION - 1)
    assert peer.update_local("k", 1) == "k"
    with pytest.raises(OverflowError, match=str(MAX_VERSION)):
        peer.update_local("k", 2)
    assert peer.get("k") == 1


def lines_run(call: Any) -> int:
    """How many lines of Python `call` runs: work, counted instead of timed."""
    count = 0

    def trace(frame: Any, event: str, arg: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.untraced
def test_five_deltas_out_of_a_hundred_thousand_keys_cost_what_they_cost_out_of_ten() -> None:
    large = Peer("a", data={f"k{n}": (n, n + 1) for n in range(100_000)})
    small = Peer("a", data={f"k{n}": (n, n + 1) for n in range(10)})
    for peer in (large, small):
        for _ in range(20):  # holes in front of the five
            peer.update_local("k7", object())
    few = lines_run(lambda: small.deltas_after_version(3, 5))
    for version in (0, 3, 50_000, 99_990):
        assert lines_run(lambda version=version: large.deltas_after_version(version, 5)) <= few + 10
    assert [delta[0] for delta in large.deltas_after_version(50_000, 5)] == [f"k{n}" for n in range(50_000, 50_005)]


def test_a_long_run_of_holes_is_leapt() -> None:
    peer = Peer("a", data={f"k{n}": (n, n + 1) for n in range(100_000)})
    for n in range(20_000):
        peer.update_local(f"k{n}", "again")
    assert lines_run(lambda: peer.deltas_after_version(0, 1)) < 100
    assert peer.deltas_after_version(0, 1) == [("k20000", 20000, 20001)]


def test_the_first_contact_is_a_sample_of_750_ms_and_later_ones_of_their_distance() -> None:
    peer = Peer("a")
    assert (peer.intervals, peer.last_time, peer.live) == ([750], None, True)
    peer.mark_contact(10_000)
    peer.mark_contact(10_400)
    assert peer.intervals == [750, 750, 400]
    assert peer.intervals_mean == pytest.approx(1900 / 3)
    assert peer.sum == 1900
    assert peer.last_time == 10_400


def test_only_the_last_intervals_are_kept() -> None:
    peer = Peer("a", intervals=[1, 2, 3], last_time=0, max_intervals=3)
    peer.mark_contact(10)
    assert peer.intervals == [2, 3, 10]
    assert peer.max_intervals == 3


def test_phi_grows_with_the_silence() -> None:
    peer = Peer("a", intervals=[1000], last_time=0)
    assert peer.phi(0) == 0
    assert peer.phi(18_420) < 8 < peer.phi(18_430)


def test_it_is_marked_dead_and_live() -> None:
    peer = Peer("a")
    for mark, live, word in ((peer.mark_dead, False, "dead"), (peer.mark_live, True, "live")):
        mark()
        assert peer.live is live
        assert word in repr(peer)


# Deletes and floors


def test_a_deleted_key_is_a_tombstone_that_others_hear_of_and_nobody_sees() -> None:
    peer = Peer("a", data={"k": (1, 1), "l": (2, 2), "m": (3, 3)})
    assert peer.delete_local("k") == "k"
    assert peer.delete_local("k") is None
    assert peer.delete_local("no such key") is None
    assert peer.data == {"l": (2, 2), "m": (3, 3)}
    assert peer.get("k", "nothing") == "nothing"
    assert peer.deltas_after_version(3) == [("k", TOMBSTONE, 4)]
    crowded = [peer.crowded]
    peer.delete_local("l")
    crowded.append(peer.crowded)
    peer.update_local("k", "again")
    crowded.append(peer.crowded)
    assert crowded == [False, True, False]


def test_keys_that_are_issued_again_stay_in_order_and_nothing_is_left_below() -> None:
    peer = Peer("a", data={"k": (1, 1), "l": (2, 2), "m": (TOMBSTONE, 3), "n": (4, 4)})
    peer.reissue(10)
    assert (peer.floor, peer.max_version_seen) == (10, 13)
    assert peer.deltas_after_version(0) == [("k", 1, 11), ("l", 2, 12), ("n", 4, 13)]
    assert not peer.crowded


def test_without_versions_for_all_keys_none_is_issued_again() -> None:
    peer = Peer("a", data={"k": (1, 1), "l": (2, 2)})
    with pytest.raises(OverflowError, match="'a'"):
        peer.reissue(MAX_VERSION - 1)
    assert (peer.floor, peer.data) == (0, {"k": (1, 1), "l": (2, 2)})


def a_replica() -> Peer:
    return Peer("a", data={"old": (1, 3), "kept": (2, 5), "dead": (TOMBSTONE, 6)})


def test_of_an_owner_that_has_nothing_everything_is_dropped_at_once() -> None:
    peer = a_replica()
    peer.hear_of(20, 20, by_owner=True)
    assert peer.settle() == ["old", "kept"]
    assert (peer.floor, peer.max_version_seen, peer.data) == (20, 20, {})
    assert not peer.crowded


def test_what_lies_below_a_floor_is_dropped_when_all_that_was_issued_again_is_known_and_not_before() -> None:
    peer = a_replica()
    peer.hear_of(22, 20, by_owner=False)
    assert peer.unsettled
    assert peer.settle() == []
    peer.update_with_delta("kept", 2, 21, after=6)
    assert peer.settle() == []
    assert peer.get("old") == 1
    assert not peer.entry().floor  # it is passed on only when it is settled
    peer.update_with_delta("new", 3, 22, after=21)
    assert peer.entry().floor == 20  # or when it can be
    assert peer.settle() == ["old"]
    assert peer.data == {"kept": (2, 21), "new": (3, 22)}
    assert peer.entry().floor == 20
    assert not peer.unsettled


def test_a_key_that_was_written_again_after_it_was_issued_again_does_not_blink() -> None:
    peer = a_replica()
    peer.hear_of(22, 20, by_owner=False)
    peer.hear_of(30, 20, by_owner=False)  # "kept" is at 30 now
    peer.update_with_delta("new", 3, 22, after=6)
    assert peer.settle() == []
    assert peer.get("kept") == 2
    peer.update_with_delta("kept", 4, 30, after=22)
    assert peer.settle() == ["old"]


def test_the_higher_floor_counts_unless_the_owner_says_otherwise() -> None:
    peer = a_replica()
    peer.hear_of(40, 30, by_owner=False)
    peer.hear_of(25, 20, by_owner=False)
    peer.update_with_delta("x", 1, 25, after=6)
    assert peer.settle() == []
    peer.hear_of(25, 20, by_owner=True)
    assert peer.settle() == ["old", "kept"]
    assert peer.floor == 20


def test_a_floor_that_the_owner_does_not_know_of_is_no_floor() -> None:
    peer = a_replica()
    peer.hear_of(40, 30, by_owner=False)
    peer.hear_of(6, 0, by_owner=True)
    assert not peer.unsettled
    assert peer.settle() == []
    assert set(peer.data) == {"old", "kept"}


def test_floors_only_rise() -> None:
    peer = a_replica()
    peer.hear_of(20, 20, by_owner=True)
    peer.settle()
    peer.hear_of(20, 10, by_owner=True)
    assert not peer.unsettled
    assert peer.floor == 20


def test_an_entry_has_only_what_there_is_to_say() -> None:
    peer = Peer("a", transport="there")
    assert peer.entry() == Entry("a", 0, "there")
    peer.heartbeat, peer.floor, peer.left = 5, 7, True
    assert peer.entry() == Entry("a", 0, "there", heartbeat=5, floor=7, left=True)
    peer.hear_of(9, 7, by_owner=False)
    assert peer.entry() == Entry("a", 0, "there", heartbeat=5, floor=7, heard=9, left=True)


@given(st.lists(st.tuples(KEYS, st.sampled_from(["update", "delete", "compact"])), max_size=60), st.integers(0, 60))
def test_who_is_told_of_an_owner_late_has_in_the_end_what_the_owner_has(steps: list[tuple[str, str]], first: int) -> None:
    owner, replica = Peer("a"), Peer("a")

    def tell() -> None:
        replica.hear_of(owner.max_version_seen, owner.floor, by_owner=True)
        after = replica.max_version_seen
        for key, value, version in owner.deltas_after_version(after):
            replica.update_with_delta(key, value, version, after)
            after = version
        replica.settle()

    for number, (key, step) in enumerate(steps):
        if number == first:
            tell()
        if step == "update":
            owner.update_local(key, number)
        elif step == "delete":
            owner.delete_local(key)
        else:
            owner.reissue(owner.max_version_seen)
        owner._check()
        replica._check()
    tell()
    replica._check()
    assert replica.data == owner.data
    assert replica.floor == owner.floor


def test_a_delta_that_leaps_says_how_far_its_sender_knows() -> None:
    peer = Peer("a", data={"x": (1, 3), "y": (2, 4), "z": (3, 7)})
    assert peer.deltas(0) == [Delta("a", "x", 1, 3, 0, 4), Delta("a", "y", 2, 4, 3), Delta("a", "z", 3, 7, 4)]
    assert peer.deltas(4, 1) == [Delta("a", "z", 3, 7, 4)]
    heard_of_more = Peer("a", data={"z": (3, 7)}, whole=9)
    assert heard_of_more.deltas(4) == [Delta("a", "z", 3, 7, 4, 2)]


def test_a_replica_settles_no_floor_before_it_knows_what_a_delta_s_sender_knew() -> None:
    replica = Peer("a", data={"k": (1, 1)}, max_version_seen=3)
    replica.take("x", 2, 7, after=3, more=1)  # 6 was leapt over; its key stands at 8 now, and may be k
    assert (replica.whole, replica.heard, replica.behind) == (8, 8, True)
    replica.hear_of(7, 5, by_owner=True)  # older than the delta: the owner stood at 7 then
    assert (replica.heard, replica.settle()) == (8, [])
    replica.take("k", 3, 8, after=7)
    assert (replica.settle(), replica.data) == ([], {"x": (2, 7), "k": (3, 8)})


def test_a_stored_replica_still_knows_that_it_is_not_whole() -> None:
    replica = Peer("a", data={"k": (1, 1), "x": (2, 7)}, whole=8)
    replica.hear_of(7, 5, by_owner=True)
    assert (replica.settle(), sorted(replica.data)) == ([], ["k", "x"])


def test_the_first_sample_and_the_entry_go_by_the_interval() -> None:
    assert Peer("a").intervals == [750]
    peer = Peer("a", interval=30_000)
    assert (peer.intervals, peer.entry().interval) == ([22_500], 30_000)
    assert Peer("a", interval=30_000, intervals=[5]).intervals == [5]


def test_another_life_begins_the_window_afresh() -> None:
    peer = Peer("a", interval=2_000, intervals=[600] * 9, heartbeat=10**9, last_time=0)
    assert peer.hear(10**9 + 1_500, 600)  # rounds that arrive together
    assert peer.intervals == [600] * 9
    assert peer.hear(2 * 10**9, 1_200)
    assert peer.intervals == [1_500] * 5


@given(st.lists(st.tuples(KEYS, st.integers(0, 3), st.sampled_from([0.0, 0.0, 1.5, 60]), st.integers(0, 9)), max_size=60))
def test_ttls_go_with_the_writes_at_the_owner_and_at_a_replica(
    writes: list[tuple[str, int, float, int]],
) -> None:
    owner, replica, model = Peer("a"), Peer("a"), dict[str, float]()
    for key, value, ttl, what in writes:
        model.pop(key, None)
        if what == 0:
            owner.delete_local(key)
        else:
            owner.issue(key, value, ttl)
            model |= {key: ttl} if ttl else {}
        if what == 1:
            owner.reissue(owner.max_version_seen + 5)
        if what == 2:
            owner.mend()
        owner._check()
        assert owner.ttls == model
        if what >= 3:
            for delta in owner.deltas(replica.max_version_seen, what):
                assert delta.ttl == model.get(delta.key, 0.0)
                replica.update_with_delta(*delta[1:])
            replica.hear_of(owner.max_version_seen, owner.floor, by_owner=True)
            replica.settle()
            replica._check()
    for delta in owner.deltas(replica.max_version_seen):
        replica.update_with_delta(*delta[1:])
    replica.hear_of(owner.max_version_seen, owner.floor, by_owner=True)
    replica.settle()
    replica._check()
    assert (replica.data, replica.ttls) == (owner.data, owner.ttls)


def test_a_peer_out_of_a_storage_has_its_ttls() -> None:
    peer = Peer("a", data={"k": (1, 3), "gone": (TOMBSTONE, 4), "l": (2, 5)}, ttls={"k": 2.5, "gone": 2.5, "other": 1})
    peer._check()
    assert peer.ttls == {"k": 2.5}
    assert peer.deltas(2) == [Delta("a", "k", 1, 3, 2, 0, 2.5), Delta("a", "gone", TOMBSTONE, 4, 3), Delta("a", "l", 2, 5, 4)]
