"""Claims: the node goes on above whatever others say of it that it never said."""

from __future__ import annotations

from gossipmonger import DuplicateError, MessageError, Peer
from gossipmonger.simulation import Simulation

from .protocols import NOW, B, a_peer, a_protocol, entry, events, sends

#: A sender's own entry that shows it to be one of ours.
OURS = entry("b", heartbeat=1)


def test_a_version_under_our_id_that_we_never_issued_is_left_far_below() -> None:
    protocol, local, _ = a_protocol(a_peer("b"))
    local.update_local("x", 1)
    local.update_local("y", 2)
    output = protocol.receive(NOW, B, digest=[entry("a", 1_000), OURS])
    floor = local.floor
    assert 1_000 + 2**20 <= floor < 1_000 + 2**21
    assert local.data == {"x": (1, floor + 1), "y": (2, floor + 2)}
    assert (sends(output)[0].deltas or [])[0] == ["a", "x", 1, floor + 1, 1_000, 1]


def test_two_lives_that_hear_of_the_same_version_do_not_meet() -> None:
    floors = set()
    for seed in range(20):
        protocol, local, _ = a_protocol(a_peer("b"), seed=seed)
        protocol.receive(NOW, B, digest=[entry("a", 1_000), OURS])
        floors.add(local.floor)
    assert len(floors) == 20


def test_a_floor_under_our_id_that_we_never_set_is_left_below_too() -> None:
    protocol, local, _ = a_protocol(a_peer("b"), local=Peer("a", max_version_seen=500, data={"x": (1, 400)}))
    protocol.receive(NOW, B, digest=[entry("a", 450, floor=450), OURS])
    assert local.floor >= 500 + 2**20
    assert local.data == {"x": (1, local.floor + 1)}


def test_a_version_that_leaves_no_room_above_it_is_disregarded() -> None:
    protocol, local, _ = a_protocol(a_peer("b"))
    local.update_local("x", 1)
    output = protocol.receive(NOW, B, digest=[entry("a", 2**53 - 1), OURS])
    ((error,),) = events(output, "error")
    assert isinstance(error, MessageError)
    assert local.data == {"x": (1, 1)}


def test_two_live_processes_with_one_id_are_told_so_once_a_minute() -> None:
    protocol, local, _ = a_protocol(a_peer("b"))
    errors = []
    for second in range(150):
        assert local.heartbeat is not None
        other = entry("a", heartbeat=local.heartbeat + 1)  # each goes above the other, again and again
        errors += events(protocol.receive(NOW + second * 1_000, B, digest=[other, OURS]), "error")
    assert len(errors) == 3
    assert isinstance(errors[0][0], DuplicateError)
    assert errors[0][0].id == "a"


def test_a_heartbeat_that_we_never_counted_is_left_below_also_where_there_are_no_addresses() -> None:
    protocol, local, _ = a_protocol(local=Peer("a"))
    told = local.heartbeat + 5
    protocol.receive(NOW, B, digest=[entry("a", heartbeat=told, transport=None), OURS])
    assert local.heartbeat >= told + 2**20


def test_a_former_life_s_heartbeats_are_no_second_process() -> None:
    protocol, local, _ = a_protocol(a_peer("b"))
    assert local.heartbeat is not None
    before = local.heartbeat
    for step in range(100):  # a clock set back, and replicas that know more and more of what was before
        output = protocol.receive(NOW, B, digest=[entry("a", heartbeat=before + 10_000 + step), OURS])
        assert events(output, "error") == []
    assert local.heartbeat > before + 10_000


def test_a_heartbeat_that_we_never_counted_is_another_life_whose_writes_may_have_our_versions() -> None:
    protocol, local, _ = a_protocol(a_peer("b"))
    local.update_local("x", 1)
    version = local.max_version_seen
    output = protocol.receive(NOW, B, digest=[entry("a", version, heartbeat=local.heartbeat + 5), OURS])
    assert local.floor > version + 2**20
    assert local.data == {"x": (1, local.floor + 1)}
    assert (sends(output)[0].deltas or [])[0] == ["a", "x", 1, local.floor + 1, version]


def test_two_lives_that_begin_at_the_same_reading_of_the_clock_end_up_the_same() -> None:
    with Simulation(seed=1) as sim:
        replica, owner = sim.add("r"), sim.add("o", seeds=["r"])
        owner.update("k1", "former life")
        sim.run(10_000)
        owner = sim.restart("o", ahead=-10_000)  # it has lost its data, and its clock is set back by as much as it had lived
        owner.update("k2", "new life")
        sim.run_until(lambda: (peer := replica.peer("o")) is not None and peer.data == {"k2": "new life"}, 60_000)
