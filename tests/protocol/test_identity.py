"""Identity: the node goes on above whatever others say of it that it never said."""

from __future__ import annotations

from gossipmonger.errors import DuplicateError, MessageError
from gossipmonger.state import MAX_VERSION, Delta, Peer

from .steps import NOW, a_peer, a_protocol, entry, events, step, told_in


def test_a_version_under_our_id_that_we_never_issued_is_left_far_below() -> None:
    protocol, local, _ = a_protocol(a_peer("b"))
    local.update_local("x", 1)
    local.update_local("y", 2)
    output = step(protocol, entries=[entry("a", 1_000)])
    floor = local.floor
    assert 1_000 + 2**20 <= floor < 1_000 + 2**21
    assert local.data == {"x": (1, floor + 1), "y": (2, floor + 2)}
    assert told_in(output)[0] == Delta("a", "x", 1, floor + 1, 1_000, 1)


def test_two_lives_that_hear_of_the_same_version_do_not_meet() -> None:
    floors = set()
    for seed in range(20):
        protocol, local, _ = a_protocol(a_peer("b"), seed=seed)
        step(protocol, entries=[entry("a", 1_000)])
        floors.add(local.floor)
    assert len(floors) == 20


def test_a_floor_under_our_id_that_we_never_set_is_left_below_too() -> None:
    protocol, local, _ = a_protocol(a_peer("b"), local=Peer("a", max_version_seen=500, data={"x": (1, 400)}))
    step(protocol, entries=[entry("a", 450, floor=450)])
    assert local.floor >= 500 + 2**20
    assert local.data == {"x": (1, local.floor + 1)}


def test_a_version_that_leaves_no_room_above_it_is_disregarded() -> None:
    protocol, local, _ = a_protocol(a_peer("b"))
    local.update_local("x", 1)
    output = step(protocol, entries=[entry("a", 2**53 - 1)])
    ((error,),) = events(output, "error")
    assert isinstance(error, MessageError)
    assert local.data == {"x": (1, 1)}


def test_two_live_processes_with_one_id_are_told_so_once_a_minute() -> None:
    protocol, local, _ = a_protocol(a_peer("b"))
    errors = []
    for second in range(150):
        other = entry("a", heartbeat=local.heartbeat + 1)  # each goes above the other, again and again
        errors += events(step(protocol, now=NOW + second * 1_000, entries=[other]), "error")
    assert len(errors) == 3
    assert isinstance(errors[0][0], DuplicateError)
    assert errors[0][0].id == "a"


def test_a_heartbeat_that_we_never_counted_is_left_below_also_where_there_are_no_addresses() -> None:
    protocol, local, _ = a_protocol(local=Peer("a"))
    told = local.heartbeat + 5
    step(protocol, entries=[entry("a", heartbeat=told, transport=None)])
    assert local.heartbeat >= told + 2**20


def test_a_former_life_s_heartbeats_are_no_second_process() -> None:
    protocol, local, _ = a_protocol(a_peer("b"))
    before = local.heartbeat
    for n in range(100):  # a clock set back, and replicas that know more and more of what was before
        output = step(protocol, entries=[entry("a", heartbeat=before + 10_000 + n)])
        assert events(output, "error") == []
    assert local.heartbeat > before + 10_000


def test_a_heartbeat_that_we_never_counted_is_another_life_whose_writes_may_have_our_versions() -> None:
    protocol, local, _ = a_protocol(a_peer("b"))
    local.update_local("x", 1)
    version = local.max_version_seen
    output = step(protocol, entries=[entry("a", version, heartbeat=local.heartbeat + 5)])
    assert local.floor > version + 2**20
    assert local.data == {"x": (1, local.floor + 1)}
    assert told_in(output)[0][:5] == ("a", "x", 1, local.floor + 1, version)


def test_where_no_version_is_left_above_a_claim_that_is_an_error_and_changes_nothing() -> None:
    beyond_years = 9e12  # milliseconds, in the year 2255: the bound is the last version there is
    protocol, local, _ = a_protocol(a_peer("b"))
    local.update_local("x", 1)
    before = local.heartbeat
    for claim in (entry("a", MAX_VERSION), entry("a", MAX_VERSION, heartbeat=MAX_VERSION)):
        output = step(protocol, now=beyond_years, entries=[claim])
        ((error,),) = events(output, "error")
        assert isinstance(error, OverflowError)
        local._check()
        assert (local.data, local.floor, local.heartbeat) == ({"x": (1, 1)}, 0, before)


def test_the_error_says_where_the_other_process_is_as_others_have_heard() -> None:
    protocol, local, _ = a_protocol(a_peer("b"))
    errors = []
    for second in range(150):
        # Others tell the address of whoever was above the other last, so now and then it is this node's own.
        transport = local.transport if second % 2 else {"host": "10.0.0.7", "port": 9742}
        other = entry("a", heartbeat=local.heartbeat + 1, transport=transport)
        errors += events(step(protocol, now=NOW + second * 1_000, entries=[other]), "error")
    assert [error.transport for (error,) in errors] == [{"host": "10.0.0.7", "port": 9742}] * 3
    assert "at 10.0.0.7:9742" in str(errors[0][0])
