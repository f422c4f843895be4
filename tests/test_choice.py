"""Whom to gossip with, and what to tell first."""

from __future__ import annotations

import math
import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gossipmonger import Peer, RemotePeer
from gossipmonger.choice import choose_deltas, choose_partners, draw

ROUNDS = 3_000


def named(kind: str, count: int) -> list[RemotePeer]:
    return [RemotePeer(f"{kind}{n}", None) for n in range(count)]


def drawn(live: int, dead: int, seeds: int = 0, fanout: int = 1, minimum: int = 1) -> list[list[str]]:
    chance = random.Random(5)
    sets = named("live", live), named("dead", dead), named("seed", seeds)
    return [[partner.id for partner in choose_partners(*sets, fanout, minimum, chance)] for _ in range(ROUNDS)]


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


def test_a_seed_is_asked_when_live_peers_are_below_the_minimum() -> None:
    assert all(ids[-1].startswith("seed") for ids in drawn(live=1, dead=0, seeds=2, minimum=2))
    assert not any("seed0" in ids for ids in drawn(live=2, dead=0, seeds=1, minimum=2))


def test_with_nobody_there_nobody_is_asked() -> None:
    assert drawn(live=0, dead=0) == [[]] * ROUNDS


MANY = Peer("many", data={f"k{n}": (n, n + 1) for n in range(4)})
FEW = Peer("few", data={"x": (0, 8), "y": (0, 9)})


def test_depth_tells_the_peer_with_most_first_and_is_cut_at_the_limit() -> None:
    chance = random.Random(0)
    whole = [
        ["many", "k1", 1, 2, 1],
        ["many", "k2", 2, 3, 2],
        ["many", "k3", 3, 4, 3],
        ["few", "x", 0, 8, 0, 1],  # it leaps, and 9 is known too
        ["few", "y", 0, 9, 8],
    ]
    assert choose_deltas([(FEW, 0), (MANY, 1)], 10, "depth", chance) == (whole, [])
    assert choose_deltas([(FEW, 0), (MANY, 1)], 4, "depth", chance) == (whole[:4], [FEW])
    assert choose_deltas([(FEW, 0), (MANY, 1)], 2, "depth", chance) == (whole[:2], [MANY, FEW])


def test_breadth_tells_one_of_each_before_the_second_of_any() -> None:
    deltas, more = choose_deltas([(FEW, 0), (MANY, 1)], 3, "breadth", random.Random(0))
    assert {delta[0] for delta in deltas[:2]} == {"few", "many"}
    assert deltas[2][0] == deltas[0][0]
    assert more


@pytest.mark.parametrize("order", ["breadth", "drawn"])
def test_the_order_of_peers_is_drawn_anew_for_each_message(order: str) -> None:
    chance = random.Random(0)
    first = Counter(choose_deltas([(FEW, 0), (MANY, 1)], 1, order, chance)[0][0][0] for _ in range(1_000))
    assert 400 < first["few"] < 600


def test_of_those_that_have_more_so_many_are_named_as_can_be_told_of_and_some_others() -> None:
    peers = [Peer(f"p{n:02}", data={f"k{m}": (m, m + 1) for m in range(4)}) for n in range(50)]
    lacking = [(peer, 0) for peer in peers]
    chance = random.Random(0)
    deltas, more = choose_deltas(lacking, 5, "depth", chance, horizon=20)
    assert len(deltas) == 5  # all of one, one of the next
    first = peers.index(next(peer for peer in peers if peer.id == deltas[0][0]))
    turns = [*peers[first:], *peers[:first]]
    assert more[:6] == turns[1:7]  # 3 + 4 + 4 + 4 + 4 + 4
    others = [tuple(choose_deltas(lacking, 5, "depth", chance, horizon=20)[1][6:]) for _ in range(100)]
    assert {len(each) for each in others} == {5}
    assert set().union(*others) == set(peers)
    assert len(choose_deltas(lacking, 5, "depth", chance, horizon=200)[1]) == 49
    assert [len(choose_deltas(lacking, limit, "depth", chance, horizon=0)[1]) for limit in (4, 5, 200)] == [1, 1, 0]


def test_of_equals_it_is_drawn_who_is_told_first_in_depth_s_order_too() -> None:
    lacking = [(Peer(f"p{n}", data={f"k{m}": (m, m + 1) for m in range(4)}), 0) for n in range(5)]
    chance = random.Random(0)
    first = Counter(choose_deltas(lacking, 4, "depth", chance)[0][0][0] for _ in range(1_000))
    assert min(first.values()) > 140
    assert len(first) == 5


@given(
    st.lists(st.tuples(st.lists(st.sampled_from("aab"), max_size=9), st.sampled_from([0, 0, 2, 5])), max_size=9),
    st.sampled_from([1, 1, 2, 6]),
    st.sampled_from([0, 3, math.inf]),
)
@example([(list("ab"), 0), (list("aaaaa"), 0)], 1, 0)
@example([(list("aaaaa"), 0), (list("ab"), 0)], 1, 0)
def test_in_depth_s_order_nobody_is_told_of_while_another_has_more(
    writes: list[tuple[list[str], int]], limit: int, horizon: float
) -> None:
    lacking = []
    for number, (keys, known) in enumerate(writes):
        floor = 1_000 * (number % 2)
        peer = Peer(f"p{number}", floor=floor)
        for version, key in enumerate(keys, floor + 1):
            peer.update_with_delta(key, version, version)  # of what is written again there is one delta, and a gap
        lacking.append((peer, known and floor + known))
    told = Counter(delta[0] for delta in choose_deltas(lacking, limit, "depth", random.Random(0), horizon)[0])
    counts = [(peer.count_after_version(known), told[peer.id]) for peer, known in lacking]
    assert sum(told.values()) == min(limit, sum(count for count, _ in counts))
    assert min([count for count, of in counts if of], default=9) >= max([count for count, of in counts if not of], default=0)


def test_of_whom_a_part_is_told_is_named_whatever_the_horizon() -> None:
    lacking = [(Peer(f"p{n}", data={f"k{m}": (m, m + 1) for m in range(9)}), 0) for n in range(20)]
    for seed in range(20):
        deltas, more = choose_deltas(lacking, 5, "breadth", random.Random(seed), horizon=5)
        assert len({delta[0] for delta in deltas}) == 5
        assert {delta[0] for delta in deltas} <= {peer.id for peer in more}
        assert len(more) == 10


PEERS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 7)), max_size=6)


@given(PEERS, st.integers(1, 12), st.sampled_from(["depth", "breadth", "drawn"]), st.integers())
def test_in_every_order_a_peer_s_deltas_ascend_and_leave_no_gap(
    sizes: list[tuple[int, int]], limit: int, order: str, seed: int
) -> None:
    lacking = [(Peer(f"p{n}", data={f"k{m}": (m, m + 1) for m in range(keys)}), known) for n, (keys, known) in enumerate(sizes)]
    deltas, more = choose_deltas(lacking, limit, order, random.Random(seed))
    assert len(deltas) == min(limit, sum(max(0, keys - known) for keys, known in sizes))
    for peer, known in lacking:
        told: list[Any] = [delta for delta in deltas if delta[0] == peer.id]
        assert [delta[1:4] for delta in told] == [list(delta) for delta in peer.deltas_after_version(known, len(told))]
        assert [delta[4] for delta in told] == [known, *(delta[3] for delta in told)][: len(told)]
        assert (peer in more) == (len(told) < peer.count_after_version(known))
