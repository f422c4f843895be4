"""Catch-up: what is on its way is not asked for again."""

from __future__ import annotations

from gossipmonger.protocol import Output
from gossipmonger.protocol.catch_up import CatchUp
from gossipmonger.state import Delta, ExtendedPeer, Header, Kind, Peer

from .steps import NOW, a_peer, a_protocol, digest_of, entry, ids, sends, step


def behind(id: str, by: int = 11) -> Peer:
    peer = Peer(id, max_version_seen=5)
    peer.hear_of(5 + by, 0, False)
    return peer


def test_what_one_message_can_bring_is_not_waited_for() -> None:
    catch_up, peer = CatchUp(50, 10), behind("p", 10)
    catch_up.ask(0, "a", [peer])
    assert not catch_up.awaits(0, peer)


def test_who_has_asked_waits_for_an_answer_and_asks_again_when_it_has_come_or_is_late() -> None:
    catch_up, peer, other = CatchUp(50, 10), behind("p"), Peer("o")
    assert catch_up.unasked(0, [peer, other]) == [peer, other]
    catch_up.ask(0, "a", [peer])
    assert catch_up.unasked(49, [peer, other]) == [other]
    assert catch_up.unasked(50, [peer, other]) == [peer, other]
    catch_up.ask(100, "a", [peer])
    assert not catch_up.awaits(99, peer)  # the clock was set back
    catch_up.ask(100, "a", [peer])
    catch_up.answered(101, "b")
    assert catch_up.awaits(101, peer)
    peer.max_version_seen = 6
    assert not catch_up.awaits(101, peer)


def test_what_an_answer_could_not_tell_is_free_to_be_asked_for_again() -> None:
    catch_up, peers = CatchUp(50, 10), [behind(f"p{n}") for n in range(3)]
    catch_up.ask(0, "a", peers[:2])
    catch_up.ask(1, "b", peers[1:])
    catch_up.answered(2, "a")
    assert catch_up.unasked(2, peers) == peers[:1]  # the second one, another was asked for later
    catch_up.ask(3, "b", [])
    assert catch_up.unasked(3, peers) == peers


def test_the_wait_is_as_long_as_answers_take() -> None:
    catch_up, peer = CatchUp(50, 10), behind("p")
    catch_up.ask(0, "a", [peer])
    catch_up.answered(1_000, "a")
    assert not catch_up.awaits(1_000, peer)
    catch_up.ask(2_000, "a", [peer])
    assert catch_up.awaits(5_999, peer)
    assert not catch_up.awaits(6_000, peer)
    for _ in range(100):
        catch_up.ask(10_000, "a", [peer])
        catch_up.answered(10_001, "a")
    catch_up.ask(20_000, "a", [peer])
    assert catch_up.awaits(20_049, peer)
    assert not catch_up.awaits(20_050, peer)


def asks_for(output: Output) -> list[str]:
    """Whom a reply asks about."""
    told = [id for send in sends(output) if send.message.digest is not None for id in ids(send.message.digest)]
    return [id for id in told if id != "a"]


def test_of_many_who_tell_of_a_write_one_is_asked() -> None:
    p = Peer("p", max_version_seen=5, heartbeat=9)
    protocol, _, _ = a_protocol(p)

    def tells(id: str, now: float) -> list[str]:
        return asks_for(step(protocol, ExtendedPeer(id, f"at {id}"), now=now, entries=[entry("p", 17, heartbeat=9)]))

    assert "p" in tells("b", NOW)
    assert "p" not in tells("c", NOW + 1)
    step(protocol, now=NOW + 2, deltas=[Delta("p", "k", "v", 6, 5)])
    assert p.max_version_seen == 6
    assert "p" in tells("d", NOW + 3)
    assert "p" not in tells("e", NOW + 4)
    assert "p" in tells("f", NOW + 1_000)


def test_a_reply_is_an_answer_and_a_round_s_digest_is_none() -> None:
    for kind in (Kind.ROUND, Kind.REPLY):
        protocol, local, _ = a_protocol(Peer("p", max_version_seen=5, heartbeat=9))
        news = entry("p", 17, heartbeat=9)
        assert asks_for(step(protocol, entries=[news])) == ["p"]
        in_sync = [entry("p", 5, heartbeat=9), entry("a", heartbeat=local.heartbeat)]
        assert sends(step(protocol, now=NOW + 1, entries=in_sync, kind=kind)) == []
        c = ExtendedPeer("c", "at c")
        assert ("p" in asks_for(step(protocol, c, now=NOW + 2, entries=[news]))) == (kind is Kind.REPLY)


def test_a_digest_leaves_out_whom_another_was_asked_for_and_says_so() -> None:
    p = Peer("p", max_version_seen=5, heartbeat=9, last_time=NOW, transport="at p")
    protocol, _, _ = a_protocol(p, a_peer("b", ours=True), gossip_fanout=2)
    assert asks_for(step(protocol, entries=[entry("p", 17, heartbeat=9)])) == ["p"]
    for now, part in ((NOW + 1, True), (NOW + 1_000, False)):
        digests = [digest_of(send) for send in sends(protocol.round(now))]
        assert len(digests) == 2
        for digest in digests:
            assert digest.kind is (Kind.PART if part else Kind.ROUND)
            assert ("p" not in ids(digest)) is part


def test_a_part_is_not_told_as_numbers() -> None:
    p = Peer("p", max_version_seen=5, heartbeat=9, last_time=NOW, transport="at p")
    b = a_peer("b", ours=True)
    protocol, _, _ = a_protocol(p, b)
    for second in range(3):
        for peer in (p, b):
            peer.last_time = NOW + second * 1_000
        protocol.round(NOW + second * 1_000)
    step(protocol, now=NOW + 2_500, entries=[entry("p", 17, heartbeat=9)])
    headers = {digest_of(send).header for n in range(9) for send in sends(protocol.round(NOW + 2_501 + n))}
    assert headers == {Header()}
