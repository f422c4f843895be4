"""What a node concludes from refused dials, rule by rule."""

from __future__ import annotations

from typing import Any

import pytest

from gossipmonger.protocol import Dial, Output, Protocol
from gossipmonger.state import Compact, ExtendedPeer, Header, Kind, Peer, RemotePeer
from gossipmonger.storage import MemoryStorage

from .steps import NOW, Copying, a_peer, a_protocol, digest_of, entry, events, ids, sends, step

P = ExtendedPeer("p", "at p")
OTHERS = [f"o{n}" for n in range(6)]

#: Microseconds at which lives begin, and milliseconds from the first dial to the second.
LIFE, WAIT = int(NOW * 1000), 2_000.0


def peer(id: str, **more: Any) -> Peer:
    """A peer that has sent three digests a second for long."""
    more = {"ours": True, "heartbeat": LIFE + 100, "intervals": [1000 / 3] * 100, **more}
    return a_peer(id, **more)


class Node:
    """A node that knows p and others, at a time that the test sets."""

    def __init__(self, *, others: int = 6, accepted: bool = True, storage: Any = None, **config: Any) -> None:
        peers = [peer(id) for id in ["p", *OTHERS[:others]]]
        config = {"gossip_fanout": 3, "rumor_fanout": 3, **config}
        self.protocol, self.local, self.storage = a_protocol(*peers, storage=storage, **config)
        self.now = NOW
        if accepted:
            assert self.link("accepted") == []

    @property
    def p(self) -> Peer:
        found: Peer = self.storage.get("p")
        return found

    def link(self, what: str, id: str = "p", at: float = 0, transport: Any = None) -> Output:
        """Report what the kernel said, so many milliseconds after the start."""
        self.now = NOW + at
        return self.protocol.link(self.now, RemotePeer(id, transport or f"at {id}"), what)

    def spread(self, at: float) -> Output:
        self.now = NOW + at
        return self.protocol.spread(self.now)

    def hear(self, sender: str, *entries: Any, at: float, kind: Kind = Kind.RUMOR, hints: Any = None) -> Output:
        """Take a digest with these entries."""
        self.now = NOW + at
        own = entry(sender, heartbeat=self.storage.get(sender).heartbeat)
        told = [*entries, own] if not entries or entries[-1].id != sender else entries
        return step(
            self.protocol,
            ExtendedPeer(sender, f"at {sender}"),
            now=self.now,
            entries=told,
            kind=kind,
            header=Header(hints=hints),
        )

    def speak(self, at: float) -> None:
        """Be spoken to by a node that is not answering, so that this node is not deaf."""
        assert "o5" not in self.protocol._suspicion.contacts.partners
        header = Header(compact=Compact("another.", b""))
        step(self.protocol, ExtendedPeer("o5", "at o5"), now=NOW + at, entries=[], kind=Kind.ROUND, header=header)

    def suspect(self, at: float = 0) -> None:
        """Let the first dial be refused, and give all hints."""
        assert len(hints(self.link("refused", at=at))) == 3
        for more in (100, 200):
            assert len(hints(self.spread(at + more))) == 3

    def verdict(self, at: float) -> list[str]:
        """Let the second dial be due and refused; return whom that leaves dead."""
        assert dials(self.spread(at)) == ["p"]
        return dead(self.link("refused", at=at + 5))


def dials(output: Output) -> list[str]:
    return [item.to.id for item in output if isinstance(item, Dial)]


def dead(output: Output) -> list[str]:
    return [remote.id for (remote,) in events(output, "peer dead")]


def hints(output: Output) -> list[tuple[str, list[list[Any]]]]:
    """Who is given which hints."""
    headers = [(send.to.id, digest_of(send).header) for send in sends(output)]
    return [(id, [[*hint] for hint in header.hints]) for id, header in headers if header is not None and header.hints]


def tellings(output: Output, id: str) -> list[str]:
    """To whom rumours go that tell of a peer, or of the node itself, without a hint."""
    found = []
    for send in sends(output):
        digest = digest_of(send)
        if digest.kind is Kind.RUMOR and digest.header == Header() and id in ids(digest):
            found.append(send.to.id)
    return found


# From a refusal to a verdict


@pytest.mark.parametrize("storage", [MemoryStorage, Copying])
def test_a_peer_that_refuses_two_dials_and_is_silent_is_dead(storage: Any) -> None:
    node = Node(storage=storage())
    node.suspect()
    assert node.protocol.due == NOW + WAIT
    assert node.spread(WAIT - 1) == []
    node.speak(at=1_500)
    assert node.verdict(at=WAIT) == ["p"]
    assert node.p.state == "dead"
    assert node.protocol.due is None


def test_the_hint_tells_the_heartbeat_and_goes_to_a_few_others_three_times() -> None:
    node = Node()
    output = node.link("refused")
    assert [told for _, told in hints(output)] == [[["p", LIFE + 100]]] * 3
    assert len({id for id, _ in hints(output)}) == 3
    assert "p" not in {id for id, _ in hints(output)}
    assert {digest_of(send).kind for send in sends(output)} == {Kind.RUMOR}
    assert node.protocol.due == NOW + 100
    assert len(hints(node.spread(100))) == len(hints(node.spread(200))) == 3


def test_without_rumours_there_are_no_hints_but_a_verdict() -> None:
    node = Node(rumor_fanout=0)
    assert hints(node.link("refused")) == []
    for at in (100, 200):
        assert node.spread(at) == []
    node.speak(at=1_500)
    assert node.verdict(at=WAIT) == ["p"]


def test_a_refusal_between_the_two_dials_counts_for_nothing() -> None:
    node = Node()
    node.suspect()
    assert node.link("refused", at=900) == []
    assert node.link("refused", at=1_999) == []
    assert node.p.state == "live"


def test_a_second_dial_that_gets_no_answer_is_left_to_phi() -> None:
    node = Node()
    node.suspect()
    assert dials(node.spread(WAIT)) == ["p"]
    assert node.protocol.due is None
    assert dead(node.link("refused", at=WAIT + 501)) == []  # a report so late says little about that dial
    assert node.p.state == "live"


def test_a_second_dial_that_is_accepted_ends_the_suspicion() -> None:
    node = Node()
    node.suspect()
    assert dials(node.spread(WAIT)) == ["p"]
    assert node.link("accepted", at=WAIT + 5) == []
    assert node.protocol.due is None
    node.link("refused", at=WAIT + 10)  # a new suspicion, with its own hints and its own two intervals
    assert node.protocol.due == NOW + WAIT + 110


def test_a_timer_that_is_late_begins_the_time_again() -> None:
    node = Node()
    node.suspect()
    assert node.spread(WAIT + 501) == []
    assert node.protocol.due == NOW + 2 * WAIT + 501


def test_a_round_that_is_late_begins_the_time_again() -> None:
    node = Node()
    node.protocol.round(NOW - 1_500)
    node.suspect()
    node.protocol.round(NOW + 1_900)
    assert node.protocol.due == NOW + 1_900 + WAIT
    assert node.spread(WAIT) == []


def test_no_verdict_follows_while_the_last_round_was_late() -> None:
    node = Node()
    node.protocol.round(NOW - 3_000)
    node.protocol.round(NOW - 100)
    node.suspect()
    node.speak(at=1_500)
    assert node.verdict(at=WAIT) == []
    assert node.protocol.due == NOW + WAIT + 5 + WAIT


def test_a_node_to_which_nobody_speaks_but_a_node_js_node_gives_no_verdict() -> None:
    node = Node()
    node.suspect()
    node.hear("o5", at=1_400, kind=Kind.ROUND)  # a whole digest, which may be an answer
    node.hear("o5", at=1_450, hints=[["a", LIFE]])  # so may a hint about oneself
    step(node.protocol, RemotePeer("js", "at js"), now=NOW + 1_500, entries=[], header=None)  # which tells no heartbeats
    assert node.verdict(at=WAIT) == []
    assert node.protocol.due == NOW + WAIT + 5 + WAIT


def test_a_node_whose_own_rounds_reach_all_need_not_be_spoken_to() -> None:
    node = Node(others=3)
    node.link("refused")
    node.spread(100)
    node.spread(200)
    assert node.verdict(at=WAIT) == ["p"]


@pytest.mark.parametrize(
    ("interval", "mean", "wait"), [(1000, 1000 / 3, 2_000), (200, 60, 1_000), (1000, 1_000, 6_000), (5_000, 1_700, 10_200)]
)
def test_the_time_between_the_dials_follows_the_peer_s_own_pace(interval: float, mean: float, wait: float) -> None:
    node = Node(gossip_interval=interval)
    node.p.arrivals = peer("p", intervals=[mean] * 100).arrivals
    node.suspect()
    assert node.protocol.due == pytest.approx(NOW + wait)


def test_with_two_nodes_one_digest_an_interval_is_all_there_can_be() -> None:
    node = Node(others=0)
    node.p.arrivals = peer("p", intervals=[1_000] * 100).arrivals
    for at in (0, 100, 200):
        node.link("refused") if not at else node.spread(at)
    assert node.protocol.due == NOW + 2_000


# Whose refusals count


def test_a_refusal_counts_only_once_a_dial_was_accepted() -> None:
    node = Node(accepted=False)
    assert node.link("refused") == []
    assert node.protocol.due is None


def test_an_acceptance_counts_for_one_address() -> None:
    node = Node()
    node.p.transport = "elsewhere"
    assert node.link("refused", transport="elsewhere") == []
    node.link("accepted", transport="elsewhere")
    assert hints(node.link("refused", transport="elsewhere"))
    assert node.link("refused", transport="at p") == []  # its former address


def test_an_acceptance_counts_for_one_life() -> None:
    node = Node()
    node.link("ended")
    node.p.hear(LIFE + 10_000_000, NOW + 1_000)
    assert node.link("refused", at=1_500) == []
    node.link("accepted", at=1_600)
    assert hints(node.link("refused", at=1_700))


def test_a_life_of_which_nothing_was_known_yet_has_accepted_too() -> None:
    node = Node()
    node.link("ended")
    node.link("accepted", at=500)  # by the new life
    node.p.hear(LIFE + 10_000_000, NOW + 1_000)
    assert hints(node.link("refused", at=1_500))


def test_an_address_that_accepted_before_its_peer_was_known_has_accepted() -> None:
    node = Node(accepted=False)
    node.storage.remove("p")
    assert node.link("accepted", id="seed", transport="at p") == []
    node.storage.put("p", peer("p"))
    assert hints(node.link("refused"))


@pytest.mark.parametrize("what", ["accepted", "refused", "ended"])
def test_what_is_said_of_strangers_of_the_dead_and_of_the_node_itself_counts_for_nothing(what: str) -> None:
    node = Node()
    assert node.link(what, id="stranger") == []
    assert node.link(what, id="a") == []
    node.p.mark_dead()
    assert node.link(what) == []


# What refutes


@pytest.mark.parametrize(("at", "refuted"), [(400, False), (600, True), (1_900, True)])
def test_a_heartbeat_that_rises_in_the_last_one_and_a_half_intervals_refutes(at: float, refuted: bool) -> None:
    node = Node()
    node.suspect()
    node.speak(at=300)
    node.hear("o1", entry("p", heartbeat=LIFE + 103), at=at)
    assert dials(node.spread(WAIT)) == ([] if refuted else ["p"])
    assert dead(node.link("refused", at=WAIT + 5)) == ([] if refuted else ["p"])


def test_a_rise_between_the_second_dial_and_its_refusal_refutes_too() -> None:
    node = Node()
    node.suspect()
    node.speak(at=300)
    assert dials(node.spread(WAIT)) == ["p"]
    node.hear("o1", entry("p", heartbeat=LIFE + 103), at=WAIT + 2)
    assert dead(node.link("refused", at=WAIT + 5)) == []


def test_after_a_refutation_refusals_prove_nothing_for_thirty_intervals() -> None:
    node = Node()
    node.suspect()
    node.hear("o1", entry("p", heartbeat=LIFE + 103), at=1_000)
    node.spread(WAIT)
    for at in (WAIT, WAIT + 29_999):
        node.protocol.round(NOW + at)
        assert hints(node.link("refused", at=at)) == []
    node.protocol.round(NOW + WAIT + 30_000)
    assert hints(node.link("refused", at=WAIT + 30_000))


# Hints


def test_who_is_given_a_hint_dials_for_itself() -> None:
    node = Node()
    output = node.hear("o1", at=0, hints=[["p", LIFE + 100]])
    assert dials(output) == ["p"]
    assert tellings(output, "p") == []
    assert len(hints(node.link("refused", at=5))) == 3
    assert node.p.state == "live"  # until it has looked twice


def test_a_hint_brings_at_most_one_dial_a_second() -> None:
    node = Node()
    assert dials(node.hear("o1", at=0, hints=[["p", LIFE + 100]])) == ["p"]
    assert dials(node.hear("o2", at=999, hints=[["p", LIFE + 100]])) == []
    assert dials(node.hear("o2", at=1_000, hints=[["p", LIFE + 100]])) == ["p"]


def test_who_suspects_already_does_not_dial_for_a_hint() -> None:
    node = Node()
    node.suspect()
    assert dials(node.hear("o1", at=300, hints=[["p", LIFE + 100]])) == []


def test_a_later_heartbeat_in_a_hint_is_a_rise() -> None:
    node = Node()
    node.hear("o1", at=300, hints=[["p", LIFE + 103]])
    assert (node.p.heartbeat, node.p.last_time) == (LIFE + 103, NOW + 300)


def test_who_knows_a_later_heartbeat_tells_it_to_the_giver_of_the_hint_and_to_a_few() -> None:
    node = Node()
    told = tellings(node.hear("o1", at=0, hints=[["p", LIFE + 97]]), "p")
    assert "o1" in told
    assert 3 <= len(told) == len(set(told)) <= 4
    assert tellings(node.hear("o2", at=10, hints=[["p", LIFE + 97]]), "p") == ["o2"]
    assert tellings(node.hear("o3", at=20, hints=[["p", LIFE + 100]]), "p") == []


def test_who_learns_a_later_heartbeat_tells_it_while_it_is_news() -> None:
    node = Node()
    node.hear("o1", at=0, hints=[["p", LIFE + 100]])
    told = tellings(node.hear("o2", entry("p", heartbeat=LIFE + 103), at=2_900), "p")
    assert "o1" in told
    assert tellings(node.hear("o2", entry("p", heartbeat=LIFE + 103), at=2_950), "p") == []
    assert tellings(node.hear("o2", entry("p", heartbeat=LIFE + 106), at=3_000), "p") == []


def test_without_a_suspicion_a_later_heartbeat_is_no_news() -> None:
    assert tellings(Node().hear("o2", entry("p", heartbeat=LIFE + 103), at=0), "p") == []


def test_an_accepted_dial_passes_the_hint_on_to_the_peer() -> None:
    node = Node()
    node.hear("o1", at=0, hints=[["p", LIFE + 100]])
    assert hints(node.link("accepted", at=5)) == [("p", [["p", LIFE + 100]])]
    assert node.link("accepted", at=10) == []


def test_a_suspected_peer_that_speaks_is_told_so_once_where_it_spoke() -> None:
    """Its address may refuse every dial for as long as its listener is closed."""
    node = Node()
    node.suspect()
    assert hints(node.hear("p", at=300)) == []  # a rumour is no round: it may be one about this very hint
    assert hints(node.hear("p", at=310, kind=Kind.ROUND)) == [("p", [["p", LIFE + 100]])]
    assert hints(node.hear("p", at=320, kind=Kind.ROUND)) == []
    assert hints(node.hear("o1", at=330, kind=Kind.ROUND)) == []


def test_who_hears_a_hint_about_itself_raises_its_heartbeat_and_tells_it_at_once() -> None:
    node = Node()
    before = node.local.heartbeat
    told = tellings(node.hear("o1", at=0, hints=[["a", before]]), "a")
    assert node.local.heartbeat == before + 1
    assert "o1" in told
    assert tellings(node.hear("o2", at=10, hints=[["a", before]]), "a") == ["o2"]
    assert node.local.heartbeat == before + 1  # once a second
    node.hear("o2", at=1_000, hints=[["a", before]])
    assert node.local.heartbeat == before + 2


def test_who_heard_a_hint_about_itself_tells_its_next_rounds_too() -> None:
    node = Node()
    node.hear("o1", at=0, hints=[["a", node.local.heartbeat]])
    for at, news in ((500, True), (1_500, True), (3_500, False)):
        assert ("o1" in tellings(node.protocol.round(NOW + at), "a")) is news


@pytest.mark.parametrize("hint", [["nobody", 5], ["p", int(NOW * 1000) * 2], ["gone", LIFE]])
def test_hints_about_strangers_and_the_dead_and_beyond_belief_are_ignored(hint: Any) -> None:
    node = Node()
    node.storage.put("gone", peer("gone", live=False))
    output = node.hear("o1", at=0, hints=[hint])
    assert (dials(output), sends(output)) == ([], [])
    assert node.p.heartbeat == LIFE + 100


def test_twenty_suspicions_may_begin_at_once_and_then_ten_a_second() -> None:
    node = Node()
    for n in range(40):
        node.storage.put(f"q{n}", peer(f"q{n}"))
        node.link("accepted", id=f"q{n}")
    assert sum(bool(hints(node.link("refused", id=f"q{n}"))) for n in range(30)) == 20
    assert sum(bool(hints(node.link("refused", id=f"q{n}", at=500))) for n in range(20, 40)) == 5


# Probes


def test_the_end_of_a_link_is_followed_by_one_probe_a_second_once_its_process_has_closed_all() -> None:
    node = Node()
    assert dials(node.link("ended")) == []
    assert node.protocol.due == NOW + 100
    assert dials(node.spread(99)) == []
    assert dials(node.spread(100)) == ["p"]
    node.link("ended", at=999)
    assert dials(node.spread(1_099)) == []
    node.link("ended", at=1_000)
    assert dials(node.spread(1_100)) == ["p"]


def test_who_is_dead_by_then_is_not_probed() -> None:
    node = Node()
    node.link("ended")
    node.p.mark_dead()
    assert dials(node.spread(100)) == []
    assert node.protocol.due is None


def test_the_end_of_a_link_alone_makes_nobody_suspect() -> None:
    node = Node()
    node.link("ended")
    node.spread(100)
    assert node.protocol.due is None


# After a verdict


def a_death(**options: Any) -> Node:
    """A node that has seen p dead by its refusals."""
    node = Node(**options)
    node.suspect()
    node.speak(at=1_500)
    assert node.verdict(at=WAIT) == ["p"]
    return node


def lives_again(node: Node, at: float) -> bool:
    """Whether a round finds p live."""
    return [remote.id for (remote,) in events(node.protocol.round(NOW + at), "peer live")] == ["p"]


def test_phi_is_not_asked_and_nobody_is_told() -> None:
    node = a_death()
    assert node.p.phi(NOW + 2_500) < 8
    output = node.protocol.round(NOW + 2_500)
    assert events(output, "peer live") == []
    assert not any("p" in ids(digest_of(send)) for send in sends(output))
    assert node.p.state == "dead"


def test_an_accepted_dial_brings_it_back() -> None:
    node = a_death()
    node.link("accepted", at=3_000)
    assert lives_again(node, at=3_100)


def test_its_own_word_brings_it_back_if_its_heartbeat_is_later() -> None:
    node = a_death()
    node.hear("p", entry("p", heartbeat=LIFE + 100), at=2_800)  # what was under way
    assert not lives_again(node, at=2_900)
    node.hear("p", entry("p", heartbeat=LIFE + 101), at=3_800)
    assert lives_again(node, at=3_900)


def test_old_news_of_it_does_not_bring_it_back_however_late_they_are() -> None:
    node = a_death()
    for at in (2_900, 6_900, 60_900):
        node.hear("o1", entry("p", heartbeat=LIFE + 100 + int(at) % 16), at=at)
        assert not lives_again(node, at=at + 100)


def test_a_heartbeat_that_rises_by_more_than_five_intervals_brings_it_back() -> None:
    node = a_death()
    node.hear("o1", entry("p", heartbeat=LIFE + 115), at=7_000)
    assert not lives_again(node, at=7_100)
    node.hear("o1", entry("p", heartbeat=LIFE + 116), at=8_000)
    assert lives_again(node, at=8_100)


def test_another_life_brings_it_back_at_once() -> None:
    node = a_death()
    node.hear("o1", entry("p", heartbeat=LIFE + 2_500_000), at=3_000)
    assert lives_again(node, at=3_100)


def test_who_lives_again_is_judged_anew() -> None:
    node = a_death()
    node.link("accepted", at=3_000)
    assert lives_again(node, at=3_100)
    node.suspect(at=40_000)
    node.hear("o5", at=41_000, hints=[["nobody", 5]])  # that is to be spoken to, as a round is not if it may be an answer
    node.p.last_time = NOW + 40_000
    assert node.verdict(at=42_000) == ["p"]


# Rounds


def partners(protocol: Protocol, now: float) -> set[str]:
    return {send.to.id for send in sends(protocol.round(now))}


def test_within_as_many_rounds_as_it_takes_a_node_has_dialled_all() -> None:
    peers = [peer(f"q{n}") for n in range(30)]
    protocol, _, _ = a_protocol(*peers, gossip_fanout=3)
    met: set[str] = set()
    for n in range(14):
        met |= partners(protocol, NOW + n)
    assert len(met) == 30  # drawn evenly, it would take some forty rounds


def test_a_newcomer_is_not_dialled_by_everybody_at_once() -> None:
    first = []
    for seed in range(300):
        protocol, _, storage = a_protocol(*[peer(f"q{n}") for n in range(30)], gossip_fanout=3, seed=seed)
        for n in range(20):
            protocol.round(NOW + n)
        storage.put("new", peer("new"))
        first.append(next(n for n in range(100) if "new" in partners(protocol, NOW + 20 + n)))
    assert first.count(0) < 80
    assert max(first) <= 11


def test_rounds_leave_out_who_has_refused_for_ten_intervals() -> None:
    node = Node(others=3, accepted=False)
    node.protocol.round(NOW)
    node.link("refused")
    assert not any("p" in partners(node.protocol, NOW + n * 1_000) for n in range(1, 11))
    assert any("p" in partners(node.protocol, NOW + n * 1_000) for n in range(11, 40))


def test_if_all_have_refused_rounds_go_to_them() -> None:
    node = Node(others=0, accepted=False)
    node.link("refused")
    assert partners(node.protocol, NOW) == {"p"}
