"""The border: whose messages are taken, and what is reported of the others."""

from __future__ import annotations

import pytest

from gossipmonger.errors import ClusterError
from gossipmonger.protocol import Output
from gossipmonger.state import Delta, ExtendedPeer, Header, Kind, RemotePeer

from .steps import B_NODE_JS, NOW, OURS, B, a_peer, a_protocol, digest_of, entry, events, sends, step

MINE, OTHER = Header(cluster="prod"), Header(cluster="test")
B_REFUSED = "message from 'b' at 'at b' refused:"
NEWS = [Delta("b", "k", "v", 5)]


class Linked(ExtendedPeer):
    """The sender of a message that came on a link."""

    vouched: str | None = "prod"


def errors(output: Output) -> list[str]:
    found = [error for (error,) in events(output, "error")]
    assert all(isinstance(error, ClusterError) for error in found)
    return [str(error) for error in found]


@pytest.mark.parametrize(
    ("ours", "header", "said"),
    [
        ("prod", OTHER, "it is of the cluster 'test', and this node is of 'prod'"),
        ("prod", OURS, "it names no cluster, and this node is of 'prod'"),
        (None, OTHER, "it is of the cluster 'test', and this node has none"),
    ],
)
@pytest.mark.parametrize("kind", Kind)
def test_a_digest_of_another_cluster_is_refused_with_one_error(ours: str | None, header: Header, said: str, kind: Kind) -> None:
    protocol, _, storage = a_protocol(cluster=ours)
    output = step(protocol, deltas=NEWS, entries=[entry("c")], kind=kind, header=header)
    assert errors(output) == [
        f"message from 'b' at 'at b' refused: {said}; the option `cluster` has to be the same in all nodes"
    ]
    assert len(output) == 1
    assert (storage.get("b"), storage.get("c")) == (None, None)


@pytest.mark.parametrize(("ours", "header"), [("prod", MINE), (None, OURS), (None, None)])
def test_a_digest_of_the_same_cluster_is_taken(ours: str | None, header: Header | None) -> None:
    protocol, _, storage = a_protocol(cluster=ours)
    assert errors(step(protocol, B if header else B_NODE_JS, entries=[entry("c", heartbeat=3)], header=header)) == []
    assert storage.get("c") is not None


def test_a_cluster_with_a_name_takes_nothing_from_a_node_js_node() -> None:
    protocol, _, storage = a_protocol(cluster="prod")
    assert len(errors(step(protocol, B_NODE_JS, entries=[entry("c")], header=None))) == 1
    assert (storage.get("b"), storage.get("c")) == (None, None)


def test_every_digest_names_the_cluster() -> None:
    protocol, local, _ = a_protocol(a_peer("b", ours=True), cluster="prod")
    protocol.update(NOW, "k", "v")
    output = protocol.round(NOW) + protocol.spread(NOW) + protocol.leave(NOW + 1)
    output += step(protocol, entries=[entry("b", 5, heartbeat=1)], header=MINE)
    kinds = {digest_of(send).kind for send in sends(output)}
    assert kinds == {Kind.ROUND, Kind.RUMOR, Kind.REPLY, Kind.FAREWELL}
    assert {digest_of(send).header and digest_of(send).header.cluster for send in sends(output)} == {"prod"}  # type: ignore[union-attr]
    assert local.left


# Errors


def test_a_source_is_reported_once_a_minute_and_each_by_itself() -> None:
    protocol, _, _ = a_protocol(cluster="prod")
    seen = []
    for seconds in range(0, 180, 10):
        for sender in (B, ExtendedPeer("c", "at c")):
            seen += errors(step(protocol, sender, now=NOW + seconds * 1_000, entries=[], header=OTHER))
    assert len(seen) == 6
    assert len(set(seen)) == 2


def test_a_message_is_refused_though_its_source_was_reported_already() -> None:
    protocol, _, storage = a_protocol(cluster="prod")
    for _ in range(2):
        step(protocol, entries=[entry("c")], header=OTHER)
    assert storage.get("c") is None


# Messages without a header


def test_deltas_alone_are_taken_from_whose_header_has_named_the_cluster() -> None:
    protocol, _, storage = a_protocol(cluster="prod")
    step(protocol, entries=[], header=MINE)
    assert errors(step(protocol, deltas=NEWS)) == []
    peer = storage.get("b")
    assert peer is not None
    assert peer.get("k") == "v"


@pytest.mark.parametrize("sender", [RemotePeer("c", "at b"), RemotePeer("b", "elsewhere")])
def test_they_are_not_taken_from_another_id_or_address(sender: RemotePeer) -> None:
    protocol, _, storage = a_protocol(a_peer("b"), cluster="prod")
    step(protocol, entries=[], header=MINE)
    step(protocol, sender, deltas=NEWS)
    peer = storage.get("b")
    assert peer is not None
    assert peer.get("k") is None


@pytest.mark.parametrize(("ours", "taken"), [(None, True), (True, True), (False, False)])
def test_they_are_taken_from_a_peer_of_which_others_have_told_unless_it_is_a_node_js_node(ours: bool, taken: bool) -> None:
    peer = a_peer("b", ours=ours)
    protocol, _, _ = a_protocol(peer, cluster="prod")
    step(protocol, deltas=NEWS)
    assert (peer.get("k") == "v") is taken
    step(protocol, entries=[], header=OTHER)  # but not once it has shown to be of another cluster
    step(protocol, deltas=[Delta("b", "k", "w", 6)])
    assert peer.get("k") != "w"


def test_they_are_taken_on_a_link() -> None:
    protocol, _, storage = a_protocol(a_peer("b", ours=False), cluster="prod")
    assert errors(step(protocol, Linked(*B), deltas=NEWS)) == []
    peer = storage.get("b")
    assert peer is not None
    assert peer.get("k") == "v"


def test_deltas_that_overtake_the_header_are_dropped_without_an_error() -> None:
    protocol, _, storage = a_protocol(cluster="prod")
    seen = step(protocol, deltas=NEWS) + step(protocol, now=NOW + 5, entries=[], header=MINE)
    seen += protocol.round(NOW + 1_000) + protocol.round(NOW + 2_000)
    assert errors(seen) == []
    peer = storage.get("b")
    assert peer is not None
    assert peer.get("k") is None


def test_deltas_that_no_header_follows_are_one_error() -> None:
    protocol, _, storage = a_protocol(cluster="prod")
    seen = errors(step(protocol, deltas=NEWS) + protocol.round(NOW + 500))
    assert seen == []
    for second in range(1, 10):
        seen += errors(step(protocol, now=NOW + second * 1_000 + 1, deltas=NEWS) + protocol.round(NOW + second * 1_000 + 2))
    assert seen == [
        "message from 'b' at 'at b' refused: it names no cluster, and this node is of 'prod'; "
        "the option `cluster` has to be the same in all nodes"
    ]
    assert storage.get("b") is None


def test_without_a_name_deltas_are_taken_from_everybody_but_who_has_named_another_cluster() -> None:
    protocol, _, storage = a_protocol()
    step(protocol, entries=[], header=OTHER)
    step(protocol, deltas=NEWS)
    assert storage.get("b") is None
    step(protocol, RemotePeer("c", "at c"), deltas=[])
    assert storage.get("c") is not None
    step(protocol, entries=[], header=OURS)  # it has lost its name
    assert storage.get("b") is not None


def test_what_is_remembered_is_bounded() -> None:
    protocol, _, _ = a_protocol(cluster="prod")
    for number in range(12_000):
        step(protocol, ExtendedPeer(f"p{number}", "at p"), entries=[], header=OTHER)
        step(protocol, ExtendedPeer(f"q{number}", "at q"), deltas=[])
    border = protocol.border
    assert (len(border._named), len(border._early)) == (10_000, 64)
