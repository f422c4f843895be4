"""Places: how much goes to an address before it has shown that a node is there."""

from __future__ import annotations

from itertools import pairwise
from time import monotonic
from typing import Any

import pytest

from gossipmonger.state import RemotePeer
from gossipmonger.transport.resolver import Resolver
from gossipmonger.transport.tcp import dial as dial_module
from gossipmonger.transport.tcp.place import ALLOWANCE, RENEWED_AFTER, RETURN, Place, Places
from gossipmonger.wire import hello
from tests.transport.tcp.net import HOST, SENDER, Net, Node, Peer, own_digest, peer_at, tells, text, until

AT = ("10.0.0.1", 9742)


def a_place(**more: Any) -> Place:
    return Place(*AT, peer_at(AT), AT[0], **more)


def test_an_address_that_has_shown_nothing_has_an_allowance_that_is_renewed_ever_more_rarely() -> None:
    place = a_place()
    now, times = 1_000.0, []
    for second in range(0, 86_400, 30):
        sent = 0
        while place.may_send(100, now + second):
            sent += 100
        if sent:
            times.append(second)
            assert sent == ALLOWANCE
    waits = [later - earlier for earlier, later in pairwise(times)]
    assert waits == [RENEWED_AFTER * 2**n for n in range(len(waits))]
    assert len(waits) == 7
    assert not a_place().may_send(ALLOWANCE + 1, now)


def test_what_came_in_its_name_may_be_returned_a_few_times() -> None:
    place = a_place()
    assert not place.may_return(1)
    place.came(100)
    assert place.may_return(RETURN * 100 - 1)
    assert not place.may_return(2)
    place.came(50)
    assert place.may_send(ALLOWANCE + RETURN * 50 + 1, 0)  # first that, then the allowance
    assert not place.may_send(1, 0)


def test_whoever_is_trusted_or_has_shown_itself_gets_all() -> None:
    trusted, shown = a_place(trusted=True), a_place()
    shown.shown = True
    assert trusted.may_return(10**9)
    assert shown.may_send(10**9, 0)


def test_trust_is_in_these_addresses_and_no_others() -> None:
    places = Places()
    one, two = (RemotePeer("x", {"host": "10.0.0.1", "port": port}) for port in (1, 2))
    with pytest.raises(AssertionError):
        places.find(one)  # which requires the lock
    with places.lock:
        place = places.find(one)
    places.trust([one.transport, two.transport])
    with places.lock:
        other = places.find(two)
    assert (place.trusted, other.trusted) == (True, True)
    places.trust([{**two.transport, "port": "2"}])
    assert (place.trusted, other.trusted) == (False, True)


def test_many_peers_at_one_address_share_its_allowance(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial_module, "_HELLO_TIMEOUT", 0.01)
    node, victim, got = net.node(), Peer(net), list[bytes]()

    def is_idle() -> bool:
        while not victim.nobody_came():
            got.append(victim.alone())
        return not node.transport._places.busy

    for number in range(30):
        node.transport.send(peer_at(victim.address, f"x{number}"), tells(number))
        until(is_idle)
    assert 0 < sum(map(len, got)) <= ALLOWANCE
    assert all("has not answered, and is sent no more for now" in str(error) for error in node.errors)
    assert len(node.errors) > 20


def test_a_message_that_is_too_long_is_not_sent_to_who_has_answered_nothing(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial_module, "_HELLO_TIMEOUT", 0.01)
    node, victim = net.node(), Peer(net)
    node.transport.send(victim.peer, tells("x" * 10_000))
    assert len(victim.alone()) <= len(hello(SENDER, "f" * 24))
    node.wait(errors=1)
    assert victim.nobody_came()


def test_whoever_speaks_from_its_own_host_is_answered_in_full_and_whoever_names_another_is_not(
    net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dial_module, "_HELLO_TIMEOUT", 0.01)
    node, here = net.node(), Peer(net)
    net.connect(node, text(here.peer, digest=[])).close()
    node.until(lambda: len(node.heard) == 1)
    node.transport.send(here.peer, tells("x" * 10_000))
    assert len(here.alone()) > 10_000  # as to a Node.js node
    monkeypatch.setattr(Resolver, "is_from", lambda self, host, source: False)
    other = Peer(net)
    net.connect(node, text(other.peer, digest=own_digest(other.peer))).close()
    node.until(lambda: len(node.heard) == 2)
    node.transport.send(other.peer, tells("x" * 10_000))
    assert other.accept().line().startswith(b'{"hello":')
    node.wait(errors=1)


def test_an_address_where_one_of_ours_lived_shows_itself_anew_if_it_does_not_answer_any_more(
    net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dial_module, "_HELLO_TIMEOUT", 0.05)
    node, peer = net.node(), Peer(net)
    node.transport.send(peer.peer, tells(1))
    link = peer.link()
    link.line()
    link.close()
    node.wait(links=2)
    node.transport.send(peer.peer, tells("x" * 10_000))
    assert peer.accept().rest().count(b"\n") == 1  # a HELLO
    node.wait(errors=1)
    assert peer.nobody_came()


@pytest.mark.parametrize(
    ("host", "source", "is_from"),
    [
        ("10.0.0.1", "10.0.0.1:5", True),
        ("10.0.0.1", "10.0.0.2:5", False),
        ("::1", "[::1]:5", True),
        ("0:0::1", "[::1]:5", True),
        ("localhost", f"{HOST}:5", True),
        ("localhost", "[::1]:5", True),
        ("localhost", "10.0.0.1:5", False),
        ("unknown.example", "10.0.0.1:5", False),
        ("known.example", "10.0.0.7:5", True),
        ("known.example", "10.0.0.8:5", False),
    ],
)
def test_a_source_is_of_a_host_as_far_as_its_addresses_are_known(host: str, source: str, is_from: bool) -> None:
    resolver = Resolver()
    resolver._known["known.example"] = (resolver.known("10.0.0.7", 0) or [], monotonic())
    assert resolver.is_from(host, source) is is_from
    resolver.close()


def hang(node: Node, peer: Peer) -> None:
    """Let a peer answer nothing, until its allowance is spent."""

    def is_idle() -> bool:
        while not peer.nobody_came():
            peer.alone()
        return not node.transport._places.busy

    while not any("is sent no more for now" in str(error) for error in node.errors):
        node.transport.send(peer.peer, tells(1))
        until(is_idle)


def test_a_node_that_hung_is_greeted_again_once_it_speaks_from_its_own_host(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial_module, "_HELLO_TIMEOUT", 0.01)
    node, peer = net.node(), Peer(net)
    speaks = net.connect(node, hello(peer.peer))
    speaks.line()
    hang(node, peer)
    speaks.send(text(None, digest=own_digest(peer.peer)))
    node.until(lambda: len(node.heard) == 1)
    monkeypatch.setattr(dial_module, "_HELLO_TIMEOUT", 10)
    node.transport.send(peer.peer, tells("again"))
    assert b"again" in peer.link().line()


def test_a_node_whose_link_begins_anew_is_sent_as_much_as_its_hello_allows(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Resolver, "is_from", lambda self, host, source: False)  # as behind NAT
    monkeypatch.setattr(dial_module, "_HELLO_TIMEOUT", 0.01)
    node, peer = net.node(), Peer(net)
    hang(node, peer)
    net.connect(node, hello(peer.peer)).line()
    monkeypatch.setattr(dial_module, "_HELLO_TIMEOUT", 10)
    node.transport.send(peer.peer, tells("again"))
    assert b"again" in peer.link().line()
