"""Whom a round goes to."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossipmonger.protocol.config import Node
from gossipmonger.protocol.contacts import Contacts
from gossipmonger.protocol.membership import Membership
from gossipmonger.protocol.partners import address, draw, draw_first
from gossipmonger.protocol.seeds import Place, Seeds
from gossipmonger.state import Peer, RemotePeer
from gossipmonger.storage import MemoryStorage

from .steps import NOW, a_config, a_peer

ROUNDS = 3_000


def the_contacts(**config: Any) -> Contacts:
    node = Node(Peer("a", transport="at a"), MemoryStorage(), a_config(**config), random.Random(5))
    return Contacts(node, Membership(node, NOW))


def the_seeds(own: str, *seeds: RemotePeer) -> Seeds:
    return Seeds(Peer("a", transport={"host": own, "port": 1}), seeds)


def drawn(
    live: int, dead: int, seeds: int = 0, fanout: int = 1, minimum: int = 1, met: bool = True, left: bool = False
) -> list[list[str]]:
    """Whom each of many rounds goes to; `met` says whether live peers are at the addresses of the seeds."""
    chosen = [RemotePeer(f"seed{n}", f"at {'live' if met else 'seed'}{n}") for n in range(seeds)]
    contacts = the_contacts(gossip_fanout=fanout, minimum_live_peers=minimum, seeds=tuple(chosen))
    alive = [a_peer(f"live{n}") for n in range(live)]
    gone = [a_peer(f"dead{n}", live=False, left=left) for n in range(dead)]
    chosen_in = [contacts.choose_partners(NOW, alive, gone) for _ in range(ROUNDS)]
    return [[partner.id for partner in partners] for partners in chosen_in]


@given(st.lists(st.integers(), unique=True), st.integers(0, 20), st.integers())
def test_draw_takes_each_item_at_most_once_and_as_many_as_there_are(items: list[int], count: int, seed: int) -> None:
    taken = draw(items, count, random.Random(seed))
    assert len(taken) == len(set(taken)) == min(count, len(items))
    assert set(taken) <= set(items)


def test_draw_is_even() -> None:
    chance = random.Random(3)
    counts = Counter(tuple(draw("abc", 2, chance)) for _ in range(6_000))
    assert len(counts) == 6
    assert all(900 < count < 1_100 for count in counts.values())


@given(st.sets(st.integers(0, 9)), st.sets(st.integers(0, 9)), st.integers(0, 12), st.integers())
def test_who_is_preferred_is_drawn_first(preferred: set[int], others: set[int], count: int, seed: int) -> None:
    items = preferred | others
    taken = draw_first([*preferred], [*items], count, random.Random(seed))
    assert len(taken) == len(set(taken)) == min(count, len(items))
    assert set(taken[: len(preferred)]) <= preferred


def test_two_are_at_one_address_whatever_else_their_transports_say() -> None:
    assert address({"host": "h", "port": 1, "udp": True}) == address({"host": "h", "port": "1"})
    assert address({"host": "h", "port": 1}) != address({"host": "h", "port": 2})
    assert address({"path": ["p"]}) == address({"path": ["p"]}) != address(["p"])


@pytest.mark.parametrize(("fanout", "live", "wanted"), [(1, 3, 1), (3, 5, 3), (3, 2, 2)])
def test_each_round_goes_to_as_many_live_peers_as_the_fan_out_drawn_evenly(fanout: int, live: int, wanted: int) -> None:
    partners = drawn(live=live, dead=0, fanout=fanout)
    assert all(len(set(ids)) == len(ids) == wanted for ids in partners)
    counts = Counter(id for ids in partners for id in ids)
    assert all(abs(counts[f"live{n}"] / ROUNDS - wanted / live) < 0.04 for n in range(live))


@pytest.mark.parametrize(("live", "dead"), [(1, 1), (3, 1), (9, 2), (1, 5)])
def test_a_dead_peer_is_tried_with_the_probability_dead_over_live_and_one(live: int, dead: int) -> None:
    share = sum(any(id.startswith("dead") for id in ids) for ids in drawn(live, dead)) / ROUNDS
    assert share == pytest.approx(min(1, dead / (live + 1)), abs=0.04)


def test_a_dead_peer_is_tried_for_sure_when_none_is_live() -> None:
    assert all(len(ids) == 1 and ids[0].startswith("dead") for ids in drawn(live=0, dead=2))


def test_who_has_left_is_not_tried() -> None:
    assert drawn(live=0, dead=2, left=True) == [[]] * ROUNDS


def test_a_seed_is_asked_when_live_peers_are_below_the_minimum() -> None:
    assert all(ids[-1].startswith("seed") for ids in drawn(live=1, dead=0, seeds=2, minimum=2))
    assert not any("seed0" in ids for ids in drawn(live=2, dead=0, seeds=1, minimum=2))


def test_a_seed_that_matches_no_peer_counts_as_a_dead_peer() -> None:
    share = sum("seed0" in ids for ids in drawn(live=2, dead=0, seeds=1, minimum=2, met=False)) / ROUNDS
    assert share == pytest.approx(1 / 3, abs=0.04)


def test_with_nobody_there_nobody_is_asked() -> None:
    assert drawn(live=0, dead=0) == [[]] * ROUNDS


@pytest.mark.parametrize(("silence", "asked"), [(3_000.0, False), (3_200.0, True)])  # a phi of 4 takes 9.2 intervals of 333 ms
def test_who_has_been_silent_for_half_as_long_as_the_dead_is_asked_beside_the_others(silence: float, asked: bool) -> None:
    contacts = the_contacts(gossip_fanout=3, dead_peer_phi=8)
    live = [a_peer(f"live{n}", intervals=[333.3] * 10) for n in range(20)]
    live += [a_peer("silent", silence, intervals=[333.3] * 10)]
    rounds = [[partner.id for partner in contacts.choose_partners(NOW, live, [])] for _ in range(100)]
    assert all("silent" in ids for ids in rounds) is asked
    assert all(len(set(ids)) == len(ids) <= 4 for ids in rounds)


@pytest.mark.untraced
def test_who_died_lately_is_tried_often_however_many_died_before() -> None:
    contacts = the_contacts()
    dead = [a_peer(f"dead{n}", silent=n, live=False) for n in range(3_000)]
    drawn = [contacts.choose_partners(NOW, [], [*dead])[0].id for _ in range(500)]
    lately = sum(id in ("dead0", "dead1", "dead2") for id in drawn) / 500
    assert 0.1 < lately < 0.3
    assert len(set(drawn)) > 100  # nobody is given up


def test_while_nobody_is_live_a_round_tries_three_seeds_and_each_before_any_is_tried_again() -> None:
    for ids in zip(*[iter(drawn(live=0, dead=0, seeds=9, met=False))] * 3, strict=True):
        assert [len(each) for each in ids] == [3, 3, 3]
        assert len({id for each in ids for id in each}) == 9


def test_a_seed_that_has_been_cut_off_is_tried_though_it_is_remembered_as_dead() -> None:
    contacts = the_contacts(seeds=(RemotePeer("seed", "at dead7"),))
    dead = [a_peer(f"dead{n}", silent=n, live=False) for n in range(300)]
    live = [a_peer("live")]
    tried = sum(any(to.id == "seed" for to in contacts.choose_partners(NOW, live, dead)) for _ in range(ROUNDS))
    assert tried / ROUNDS == pytest.approx(1 / 2, abs=0.04)


def test_an_address_that_leads_back_to_the_node_is_left_out_for_ten_minutes() -> None:
    seeds = the_seeds("a", RemotePeer("s", {"host": "alias", "port": 1}))
    assert seeds.others(NOW)
    seeds.reached_itself(NOW, RemotePeer("s", {"host": "alias", "port": 1}))
    assert seeds.others(NOW + 599_999) == []
    assert seeds.others(NOW + 600_000)


def test_a_seed_with_several_addresses_is_several_and_found_by_its_name() -> None:
    given = RemotePeer("s", {"host": "all", "port": 1})
    seeds = the_seeds("10.0.0.1", given)
    seeds.place(Place(given, RemotePeer(f"s{n}", {"host": f"10.0.0.{n}", "port": 1})) for n in (1, 2, 3))
    assert [place.at.id for place in seeds.others(NOW)] == ["s2", "s3"]
    for host, lost in (("10.0.0.2", ["s3"]), ("all", []), ("10.0.0.9", ["s2", "s3"])):
        live = [Peer("p", transport={"host": host, "port": 1}, last_time=NOW)]
        assert [place.at.id for place in seeds.lost(NOW, live, [])] == lost
