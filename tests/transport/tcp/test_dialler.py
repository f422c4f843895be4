"""The dialling half: which connection carries a message to an address. The test plays who lives there."""

from __future__ import annotations

import errno
import json
import re
import socket
import threading
from typing import Any
from unittest import mock

import pytest

from gossipmonger.errors import ClusterError, MessageError, SendError
from gossipmonger.state.message import Delta, Digest, Entry, Kind, Message, RemotePeer
from gossipmonger.transport.loop import Loop
from gossipmonger.transport.tcp import dial as dial_module
from gossipmonger.transport.tcp import dialler as dialler_module
from gossipmonger.transport.tcp import place as place_module
from gossipmonger.transport.tcp.link import Link
from gossipmonger.wire import CLOSING, encode, hello
from tests.transport.tcp.net import (
    HOST,
    SENDER,
    Connection,
    Net,
    Peer,
    delta,
    message,
    own_digest,
    peer_at,
    tells,
    text,
    until,
)

#: More than sockets take at once.
HUGE = "x" * 8_000_000

HELLO = hello(SENDER)


def plain(said: bytes) -> bytes:
    """What was said without the `life` in its `HELLO`, which is random."""
    return re.sub(rb',"life":"[0-9a-f]+"', b"", said)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for no `HELLO`."""
    monkeypatch.setattr(dial_module, "_HELLO_TIMEOUT", 0.01)


def turn_away(peer: Peer) -> None:
    """Be a Node.js node: hear the `HELLO` and its FIN, and say nothing."""
    assert plain(peer.accept().rest()) == HELLO


class Names:
    """Stands in for getaddrinfo: its next answer for a name is a list of ports on loopback, an error, or waits for `go_on`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **answers: Any) -> None:
        self.answers = {f"{name}.example": [*given] for name, given in answers.items()}
        self.original = socket.getaddrinfo
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.threads: list[str] = []
        monkeypatch.setattr(socket, "getaddrinfo", self)

    def __call__(self, host: str, port: int, *args: Any, **options: Any) -> list[Any]:
        if host not in self.answers:
            return self.original(host, port, *args, **options)
        self.threads.append(threading.current_thread().name)
        answer = self.answers[host].pop(0)
        if answer == "wait":
            self.begun.set()
            assert self.go_on.wait(10)
            answer = socket.gaierror("no such name")
        if isinstance(answer, Exception):
            raise answer
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, 0)) for host in answer]


# One of ours


def test_a_hello_comes_first_and_nothing_follows_before_it_is_answered(net: Net) -> None:
    node, peer = net.node(), Peer(net)
    node.send(peer.address, 1, 2)
    connection = peer.accept()
    assert plain(connection.line()) == HELLO
    connection.socket.settimeout(0.05)
    with pytest.raises(TimeoutError):
        connection.socket.recv(1)
    connection.socket.settimeout(10)
    connection.send(hello(peer.peer))
    raw = connection.socket.makefile("rb")
    assert [raw.readline() for _ in range(2)] == [message(1, None), message(2, None)]
    raw.close()
    node.send(peer.address, 3)
    assert connection.socket.recv(100) == message(3, None)
    assert peer.nobody_came()
    assert (node.errors, node.links) == ([], [("peer", "accepted")])


def test_frames_leave_out_how_the_node_named_itself_and_no_other_sender(net: Net) -> None:
    node, peer = net.named("ours"), Peer(net)
    node.send(peer.address, 1)
    connection = peer.accept()
    assert connection.line() == hello(node.transport.local, node.transport.life)
    connection.send(hello(peer.peer))
    assert connection.line() == message(1, SENDER)
    node.transport.send(peer.peer, tells(2, node.transport.local))
    assert connection.line() == message(2, None)


def test_a_hello_that_comes_in_pieces_with_frames_behind_it_is_an_answer(net: Net) -> None:
    node, peer = net.node(), Peer(net)
    node.send(peer.address, 1)
    connection = peer.accept()
    connection.line()
    data = hello(peer.peer) + message("early", None)
    for at in range(0, len(data), 20):
        connection.send(data[at : at + 20])
    node.wait(values=1)
    assert node.heard == [("deltas", peer.peer, delta("early"))]
    assert connection.line() == message(1, None)


def test_a_link_that_has_ended_is_told_once_and_the_next_message_dials_again(net: Net) -> None:
    node, peer = net.node(), Peer(net)
    for how in (Connection.close, Connection.reset):
        node.send(peer.address, 1)
        connection = peer.link()
        assert connection.line() == message(1, None)
        del node.links[:]
        how(connection)
        node.wait(links=1)
        assert node.links == [("peer", "ended")]
        until(lambda: node.links_open() == 0)
    node.send(peer.address, 2)
    assert peer.link().line() == message(2, None)
    assert node.links == [("peer", "ended"), ("peer", "accepted")]
    assert node.errors == []


@pytest.mark.parametrize("rest", [b"rubbish", CLOSING, message("early", None) + CLOSING])
def test_what_waits_is_said_before_a_link_is_closed_that_its_peer_closes_at_once(net: Net, rest: bytes) -> None:
    node, peer = net.node(), Peer(net)
    node.send(peer.address, 1, 2)
    connection = peer.accept()
    connection.line()
    connection.send(hello(peer.peer) + rest)
    assert [connection.line(), connection.line()] == [message(1, None), message(2, None)]
    assert connection.rest() == (b"" if rest == b"rubbish" else CLOSING)
    connection.close()
    until(lambda: node.links_open() == 0)
    assert node.values == ([] if len(rest) < 10 else ["early"])
    assert peer.nobody_came()  # it is not dialled again and again
    node.send(peer.address, 3)
    assert peer.link().line() == message(3, None)
    assert len(node.errors) == (rest == b"rubbish")


def test_a_link_that_breaks_at_once_is_one_error_and_is_not_dialled_without_end(net: Net) -> None:
    node, peer = net.node(), Peer(net)
    node.send(peer.address, 1, 2)
    with mock.patch.object(Link, "write", side_effect=BrokenPipeError):
        connection = peer.link()
        node.wait(errors=1)
    assert str(node.errors[0]) == f"can't send to peer 'peer' at {peer.source}: it has ended the link at once"
    assert peer.nobody_came()
    connection.close()
    node.send(peer.address, 3)
    assert peer.link().line() == message(3, None)
    assert len(node.errors) == 1


def test_of_two_dials_at_the_same_time_both_carry_what_waits_and_the_later_link_is_kept(
    net: Net, monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    """As when an address is asked again whose node shows itself at that moment."""
    node, peer = net.node(), Peer(net)
    node.send(peer.address, 1)
    turn_away(peer)
    assert peer.alone() == message(1)
    until(node.transport._dialler._is_settled)
    monkeypatch.setattr(dial_module, "_HELLO_TIMEOUT", 10)
    monkeypatch.setattr(dialler_module, "_ASK_AGAIN", -1)
    node.send(peer.address, 2)
    aside, alone = sorted((peer.accept(), peer.accept()), key=lambda connection: connection.line() == message(2))
    alone.close()
    node.transport._places.learn(peer.peer, node_js=False)
    until(node.transport._dialler._is_settled)
    node.send(peer.address, 3)
    later = peer.accept()
    assert plain(later.line()) == HELLO
    aside.send(hello(peer.peer))
    assert json.loads(aside.line())["deltas"] == delta(3)
    until(lambda: node.links_open() == 1)
    later.send(hello(peer.peer))
    assert aside.rest() == CLOSING
    node.send(peer.address, 4)
    assert later.line() == message(4, None)
    aside.send(CLOSING)
    until(lambda: node.links_open() == 1)
    del node.links[:]
    later.close()
    node.wait(links=1)
    node.send(peer.address, 5)
    assert peer.link().line() == message(5, None)
    assert node.errors == []


def test_a_thousand_messages_of_eight_threads_take_one_connection(net: Net) -> None:
    node, peer = net.node(), Peer(net)
    threads = [threading.Thread(target=node.send, args=(peer.address, *range(7))) for _ in range(8)]
    for thread in threads:
        thread.start()
    connection = peer.link()
    for thread in threads:
        thread.join(10)
    assert sorted(json.loads(connection.line())["deltas"][0][2] for _ in range(56)) == sorted([*range(7)] * 8)
    assert peer.nobody_came()
    assert node.errors == []


# A bound on links


def test_beyond_max_links_the_least_recently_used_is_closed_on_purpose_and_messages_go_on(net: Net) -> None:
    node = net.node(max_links=2)
    peers = [Peer(net, f"p{number}") for number in range(3)]
    links = []
    for peer in peers[:2]:
        node.transport.send(peer.peer, tells(0))
        links.append(peer.link())
        assert links[-1].line() == message(0, None)
        until(lambda: len(node.transport._dialler._linked) == len(links))
    node.transport.send(peers[0].peer, tells(1))
    assert links[0].line() == message(1, None)
    node.transport.send(peers[2].peer, tells(2))
    links.append(peers[2].link())
    assert links[2].line() == message(2, None)
    assert links[1].rest() == CLOSING
    links[1].send(message("on its way", None) + CLOSING)
    node.wait(values=1)
    until(lambda: node.links_open() == 2)
    node.transport.send(peers[1].peer, tells(3))
    assert peers[1].link().line() == message(3, None)
    assert links[0].rest() == CLOSING
    assert [link for link in node.links if link[1] != "accepted"] == []
    assert node.errors == []


def test_two_links_and_five_peers_lose_nothing_and_nobody_seems_to_have_ended(net: Net) -> None:
    node = net.named("n", max_links=2)
    others = [net.named(f"o{number}") for number in range(5)]
    for turn in range(20):
        for other in others:
            node.transport.send(other.peer, tells(turn, node.transport.local))
    for other in others:
        other.wait(values=20)
        assert sorted(other.values) == [*range(20)]
        assert (other.errors, other.links) == ([], [])
    until(lambda: node.links_open() == 2)
    assert {what for _, what in node.links} == {"accepted"}
    assert node.errors == []


def test_a_link_that_its_peer_closes_on_purpose_is_not_used_any_more(net: Net) -> None:
    node, peer = net.node(), Peer(net)
    node.send(peer.address, 1)
    link = peer.link()
    assert link.line() == message(1, None)
    link.send(CLOSING)
    assert link.rest() == CLOSING
    node.send(peer.address, 2)
    second = peer.link()
    assert second.line() == message(2, None)
    link.close()
    node.send(peer.address, 3)
    assert second.line() == message(3, None)
    assert (node.errors, node.links) == ([], [("peer", "accepted")] * 2)


# A Node.js node


def test_a_peer_that_answers_no_hello_gets_fin_and_each_message_on_a_connection_of_its_own(net: Net, quick: None) -> None:
    node, peer = net.node(), Peer(net)
    node.send(peer.address, 1, 2)
    connection = peer.accept()
    assert plain(connection.rest()) == HELLO
    assert [peer.alone(), peer.alone()] == [message(1), message(2)]
    node.send(peer.address, 3)  # and no `HELLO` any more
    assert peer.alone() == message(3)
    assert node.errors == []
    until(node.transport._dialler._is_settled)
    assert node.transport._dialler._dials != set()  # the first one: an answer that is late would be heard
    connection.close()
    until(lambda: node.transport._dialler._dials == set())


@pytest.mark.parametrize("answer", [b"", message(), b"x", b'{"hello":' + b"x" * 70_000, b'{"hello":{}}\n', b'{"hel'])
def test_who_answers_anything_else_or_hangs_up_counts_as_a_node_js_node_at_once(net: Net, answer: bytes) -> None:
    node, peer = net.node(), Peer(net)
    node.send(peer.address, 1)
    connection = peer.accept()
    assert plain(connection.line()) == HELLO
    connection.send(answer)
    connection.close()
    assert peer.alone() == message(1)
    errors = [MessageError] if answer.startswith(b'{"hello":') else []  # it is malformed, or too long
    assert [type(error) for error in node.errors] == errors
    assert [getattr(error, "source", None) for error in node.errors] == [peer.source] * len(errors)


def test_who_resets_a_connection_at_its_hello_counts_as_a_node_js_node_at_once(net: Net) -> None:
    node, peer = net.node(), Peer(net)
    node.send(peer.address, 1)
    connection = peer.accept()
    assert plain(connection.line()) == HELLO
    connection.reset()
    assert peer.alone() == message(1)
    assert node.errors == []


def test_an_answer_that_comes_late_is_heard(net: Net, quick: None) -> None:
    node, peer = net.node(), Peer(net)
    node.send(peer.address, 1)
    connection = peer.accept()
    assert plain(connection.rest()) == HELLO
    assert peer.alone() == message(1)
    connection.send(hello(peer.peer))
    assert connection.closed()
    until(lambda: node.transport._dialler._dials == set())
    node.send(peer.address, 2)
    assert peer.link().line() == message(2, None)


def test_a_late_answer_is_waited_for_so_long_and_no_rubbish_counts(
    net: Net, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, peer = net.node(), Peer(net)
    for late in (10.0, 0.01):
        monkeypatch.setattr(dial_module, "_LATE", late)
        until(node.transport._dialler._is_settled)
        node.transport._places.learn(peer.peer, node_js=False)
        node.send(peer.address, 1)
        connection = peer.accept()
        assert plain(connection.rest()) == HELLO
        if late == 10.0:
            connection.send(b"rubbish")
        assert connection.closed()
        assert peer.alone() == message(1)
    node.send(peer.address, 2)
    assert peer.alone() == message(2)
    assert node.errors == []


@pytest.mark.parametrize("known", [True, False])
def test_a_digest_without_a_header_shows_a_node_js_node_and_one_with_it_one_of_ours(
    net: Net, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    monkeypatch.setattr(dial_module, "_HELLO_TIMEOUT", 3_600)
    node, peer = net.node(), Peer(net)
    if known:
        node.send(peer.address, 0)
        peer.link().close()
        node.wait(links=2)
    net.connect(node, text(peer.peer, digest=[{"id": "peer", "maxVersionSeen": 0, "transport": peer.peer.transport}])).close()
    node.until(lambda: len(node.heard) == 1)
    node.send(peer.address, 1)
    assert peer.alone() == message(1)
    until(node.transport._dialler._is_settled)
    net.connect(node, text(peer.peer, digest=own_digest(peer.peer))).close()
    node.until(lambda: len(node.heard) == 2)
    node.send(peer.address, 2)
    assert peer.link().line() == message(2, None)
    assert node.errors == []


def test_the_hello_of_one_of_ours_shows_what_lives_at_its_address(net: Net, quick: None) -> None:
    node, peer = net.node(), Peer(net)
    node.send(peer.address, 1)
    turn_away(peer)
    assert peer.alone() == message(1)
    until(node.transport._dialler._is_settled)
    net.link(node, peer.peer)
    node.send(peer.address, 2)
    assert peer.link().line() == message(2, None)


def test_a_node_js_node_is_asked_again_now_and_then_beside_its_messages(
    net: Net, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, peer = net.named("z"), Peer(net)
    asked = hello(node.transport.local, node.transport.life)
    node.send(peer.address, 1)
    assert peer.accept().rest() == asked
    assert peer.alone() == message(1)
    until(node.transport._dialler._is_settled)
    monkeypatch.setattr(dialler_module, "_ASK_AGAIN", -1)
    node.send(peer.address, 2)
    assert {peer.alone() for _ in range(2)} == {asked, message(2)}
    monkeypatch.setattr(dial_module, "_HELLO_TIMEOUT", 10)
    until(node.transport._dialler._is_settled)
    node.send(peer.address, 3)
    both = [peer.accept(), peer.accept()]
    lines = [connection.line() for connection in both]
    assert sorted(lines) == sorted([asked, message(3)])  # the message does not wait for the answer
    link = both[lines.index(asked)].send(hello(peer.peer))
    both[lines.index(message(3))].close()
    until(lambda: node.links_open() == 1)
    node.send(peer.address, 4)
    assert link.line() == message(4)
    assert node.errors == []


def test_an_address_that_passes_from_ours_to_a_node_js_node_and_back_loses_at_most_one_message(net: Net, quick: None) -> None:
    node, peer = net.node(), Peer(net)
    node.send(peer.address, 1)
    link = peer.link()
    assert link.line() == message(1, None)
    link.close()
    node.wait(links=2)
    node.send(peer.address, 2)
    turn_away(peer)
    assert peer.alone() == message(2)
    until(node.transport._dialler._is_settled)
    net.link(node, peer.peer)  # it is one of ours again
    node.send(peer.address, 3)
    assert peer.link().line() == message(3, None)
    assert node.errors == []


def test_a_long_message_to_a_node_js_node_goes_in_parts_in_their_order(net: Net, quick: None) -> None:
    node, peer = net.node(max_message_size=1_000), Peer(net)
    deltas = [Delta("z", f"k{version}", "x" * 100, version) for version in range(20)]
    digest = Digest(Kind.ROUND, None, [Entry("z", 20, SENDER.transport)])
    node.transport.send(peer.peer, Message(SENDER, deltas, digest))
    node.send(peer.address, "next")
    turn_away(peer)
    found: list[Any] = []
    while "digest" not in (part := json.loads(peer.alone())):
        found += part["deltas"]
    assert [each[3] for each in found] == [*range(20)]
    assert peer.alone() == message("next")


def test_what_follows_a_part_that_could_not_be_sent_is_dropped(net: Net, quick: None) -> None:
    node, peer = net.node(max_message_size=1_000), Peer(net)
    node.transport._places.learn(peer.peer, node_js=True)
    node.transport.send(peer.peer, Message(SENDER, [Delta("z", f"k{n}", "x" * 500, n) for n in range(8)]))
    peer.accept().reset()
    peer.listening.close()
    node.wait(errors=1)
    again = net.enter_context(socket.create_server(peer.address))
    again.settimeout(10)
    node.send(peer.address, "next")
    assert net.own(again.accept()[0]).rest() == message("next")
    assert len(node.errors) == 1


def test_who_does_not_read_its_message_in_time_is_one_error(net: Net, quick: None) -> None:
    node, peer = net.node(send_timeout=0.05), Peer(net)
    node.transport._places.learn(peer.peer, node_js=True)
    node.send(peer.address, "x" * 12_000_000)
    peer.accept()
    node.wait(errors=1)
    (error,) = node.errors
    assert isinstance(error, SendError)
    assert str(error) == f"can't send to peer 'peer' at {peer.source}: not read within 0.05 s"
    assert isinstance(error.__cause__, TimeoutError)


def test_who_reads_its_message_but_never_closes_is_left_after_a_while(net: Net, quick: None) -> None:
    node, peer = net.node(send_timeout=0.05), Peer(net)
    node.transport._places.learn(peer.peer, node_js=True)
    node.send(peer.address, 1, 2)
    assert [peer.alone(), peer.alone()] == [message(1), message(2)]
    assert node.errors == []


def test_a_long_message_is_written_as_it_is_read(net: Net, quick: None) -> None:
    node, peer = net.node(), Peer(net)
    node.transport._places.learn(peer.peer, node_js=True)
    node.send(peer.address, HUGE)
    assert peer.alone() == message(HUGE)
    assert node.errors == []


# What waits


def test_of_what_waits_a_digest_replaces_a_digest_and_the_oldest_goes(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place_module, "_MAX_WAITING", 3)
    node, peer = net.node(), Peer(net)
    node.send(peer.address, "oldest")
    digests = [Message(SENDER, None, Digest(Kind.ROUND, None, [Entry("z", version, SENDER.transport)])) for version in (1, 2)]
    for each in digests:
        node.transport.send(peer.peer, each)
    node.send(peer.address, "newer", "newest")
    (dropped,) = node.errors
    assert isinstance(dropped, SendError)
    assert str(dropped) == f"peer 'peer' at {peer.source} takes messages slower than they come: one dropped"
    connection = peer.link()
    found = [json.loads(connection.line()) for _ in range(3)]
    assert found[0]["digest"][0]["maxVersionSeen"] == 2
    assert [each["deltas"] for each in found[1:]] == [delta("newer"), delta("newest")]


@pytest.mark.parametrize("node_js", [False, True])
def test_what_json_has_no_form_for_is_one_error_and_the_rest_goes(net: Net, node_js: bool) -> None:
    node, peer = net.named("n"), Peer(net)
    node.transport._places.learn(peer.peer, node_js=node_js)
    node.transport.send(peer.peer, Message(RemotePeer("z", {"host": {1}}), []))
    node.send(peer.address, 1)
    if node_js:
        assert peer.alone() == message(1)
    else:
        connection = peer.link()
        assert connection.line() == message(1)
        with_link = Message(RemotePeer("z", {"host": {1}}), [])
        node.transport.send(peer.peer, with_link)
        node.wait(errors=2)
    assert {type(error) for error in node.errors} == {TypeError}


def test_a_name_for_this_end_that_json_has_no_form_for_is_one_error_and_later_messages_go(net: Net) -> None:
    node, peer = net.node(), Peer(net)
    node.transport.send(peer.peer, Message(RemotePeer("z", {"host": {1}}), []))
    node.wait(errors=1)
    assert isinstance(node.errors[0].__cause__, TypeError)
    assert peer.accept().rest() == b""
    node.send(peer.address, 1)
    assert peer.link().line() == message(1, None)


# What the system says


def test_a_refused_dial_is_told_once_and_is_one_error(net: Net) -> None:
    node = net.node()
    address = net.refusing()
    node.send(address, 1, 2)
    node.wait(errors=1, links=1)
    (error,) = node.errors
    assert isinstance(error, SendError)
    assert str(error).startswith(f"can't send to peer 'peer' at {HOST}:{address[1]}: [Errno {errno.ECONNREFUSED}] ")
    assert error.remote_peer == peer_at(address)
    assert isinstance(error.__cause__, OSError)
    assert node.links == [("peer", "refused")]
    node.send(address, 3)
    node.wait(errors=2, links=2)
    assert node.links == [("peer", "refused")] * 2


def test_a_dial_without_a_message_tells_what_the_system_says_and_leaves_nothing(net: Net) -> None:
    node, other, address = net.node(), net.named("other"), net.refusing()
    node.transport.dial(other.peer)
    node.wait(links=1)
    node.transport.dial(peer_at(address))
    node.wait(links=2)
    node.transport.dial(RemotePeer("lost", None))
    net.settle(other)
    until(lambda: node.transport._dialler._dials == set())
    assert node.links == [(other.peer.id, "accepted"), ("peer", "refused")]
    assert (other.links, other.errors, other.links_open(), node.links_open(), node.errors) == ([], [], 0, 0, [])
    assert other.transport._acceptor._incoming == {}


def test_a_dial_that_nothing_answers_tells_nothing(net: Net) -> None:
    node, other = net.node(connect_timeout=0.05), net.node()
    address = net.silent()
    node.transport.dial(peer_at(address))
    until(lambda: node.transport._dialler._dials != set())
    until(lambda: node.transport._dialler._dials == set())
    node.send(address, 1)
    node.wait(errors=1)
    assert str(node.errors[0]) == f"can't send to peer 'peer' at {HOST}:{address[1]}: no answer within 0.05 s"
    node.send(other.address, 1)
    other.wait(values=1)
    assert node.links == [("peer", "accepted")]


def test_a_port_that_connects_to_itself_refuses_and_stays_free(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    node, peer = net.node(), Peer(net)

    class Itself(socket.socket):
        def getsockname(self) -> Any:
            return self.getpeername()

    monkeypatch.setattr(socket, "socket", Itself)
    node.send(peer.address, 1)
    node.wait(errors=1)
    monkeypatch.undo()
    with pytest.raises(ConnectionResetError):  # by a reset, after which no end of it waits for its time to be over
        peer.accept().rest()
    assert isinstance(node.errors[0].__cause__, OSError)
    assert getattr(node.errors[0].__cause__, "errno", None) == errno.ECONNREFUSED
    assert node.links == [("peer", "refused")]


def test_who_is_reset_before_the_dial_is_looked_at_is_an_error(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    node, peer = net.node(), Peer(net)

    class Gone(socket.socket):
        def getpeername(self) -> Any:
            raise OSError(errno.ENOTCONN, "not connected")

    monkeypatch.setattr(socket, "socket", Gone)
    node.send(peer.address, 1)
    node.wait(errors=1)
    monkeypatch.undo()
    assert "not connected" in str(node.errors[0])
    assert node.links == []


def test_a_node_that_reaches_itself_by_its_hello_tells_so_and_keeps_no_link(net: Net) -> None:
    node = net.named("n")
    for count in (1, 2):
        node.transport.send(node.peer, tells(1, node.transport.local))
        until(lambda wanted=count: len([what for _, what in node.links if what == "itself"]) == wanted)  # type: ignore[misc]
    assert {id for id, what in node.links if what == "itself"} == {node.peer.id}
    until(lambda: node.links_open() == 0)
    assert (node.values, node.errors) == ([], [])


def test_a_node_that_has_the_same_name_and_address_is_not_the_node_itself(net: Net) -> None:
    node, peer = net.node(), Peer(net)
    node.transport.local = peer.peer
    node.send(peer.address, 1)
    connection = peer.accept()
    connection.line()
    connection.send(hello(peer.peer, "another"))
    assert b"1" in connection.line()
    assert node.links == [("peer", "accepted")]


def test_what_says_something_else_than_hello_is_foreign(net: Net) -> None:
    node, peer = net.node(), Peer(net)
    node.send(peer.address, 1)
    connection = peer.accept()
    connection.line()
    connection.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    until(lambda: ("peer", "foreign") in node.links)
    assert node.links[:2] == [("peer", "accepted"), ("peer", "foreign")]


def failing(*doing: str, number: int = errno.ENETUNREACH) -> type[socket.socket]:
    """Return a class of sockets that fail at this."""

    def fail(*_: Any) -> Any:
        raise OSError(number, "odd")

    return type("Failing", (socket.socket,), dict.fromkeys(doing, fail))


@pytest.mark.parametrize("doing", ["setblocking", "connect_ex", "send"])
def test_what_the_system_refuses_is_one_error_and_later_messages_go(
    net: Net, monkeypatch: pytest.MonkeyPatch, doing: str
) -> None:
    node, peer = net.node(), Peer(net)
    with monkeypatch.context() as patch:
        patch.setattr(socket, "socket", failing(doing))
        node.send(peer.address, 1)
        node.wait(errors=1)
    assert "odd" in str(node.errors[0])
    if doing == "send":
        assert peer.accept().rest() == b""
    node.send(peer.address, 2)
    assert peer.link().line() == message(2, None)
    assert len(node.errors) == 1


def test_an_address_without_a_route_is_one_error(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    node = net.node()
    monkeypatch.setattr(socket.socket, "connect_ex", lambda *_: errno.ENETUNREACH)
    node.send(("192.0.2.1", 1), 1)
    node.wait(errors=1)
    assert f"[Errno {errno.ENETUNREACH}]" in str(node.errors[0])
    assert node.links == []


def test_when_no_more_sockets_can_be_watched_it_is_one_error(net: Net) -> None:
    node, peer = net.node(), Peer(net)
    with mock.patch.object(Loop, "watch", side_effect=OSError(errno.ENOSPC, "too many")):
        node.send(peer.address, 1)
        node.wait(errors=1)
    assert "too many" in str(node.errors[0])
    node.send(peer.address, 2)
    peer.accept()  # the first
    assert peer.link().line() == message(2, None)


def test_a_node_js_node_that_resets_while_it_is_written_to_is_one_error(net: Net, quick: None) -> None:
    node, peer = net.node(), Peer(net)
    node.transport._places.learn(peer.peer, node_js=True)
    node.send(peer.address, HUGE)
    connection = peer.accept()
    connection.read(10)
    connection.reset()
    node.wait(errors=1)
    assert isinstance(node.errors[0].__cause__, OSError)


# Names


def test_a_name_is_resolved_on_a_thread_and_each_of_its_addresses_is_tried(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    node, peer = net.node(), Peer(net)
    names = Names(monkeypatch, a=[["127.0.0.9", "127.0.0.8", HOST]] * 8)
    for number in range(8):  # in random order
        node.send(("a.example", peer.address[1]), number)
        link = peer.link()
        assert link.line() == message(number, None)
        node.links.clear()
        link.close()
        node.wait(links=1)
        until(lambda: node.links_open() == 0)
    assert set(names.threads) == {"gossipmonger-resolver"}
    assert node.errors == []


def test_a_name_is_refused_only_if_each_of_its_addresses_is(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    node = net.node(connect_timeout=0.05)
    port = net.refusing()[1]
    Names(monkeypatch, a=[["127.0.0.9", HOST]], b=[[HOST, "lost"]])
    node.send(("a.example", port), 1)
    node.wait(errors=1, links=1)
    assert node.links == [("peer", "refused")]
    node.send(("b.example", port), 1)  # to the other there is no way
    node.wait(errors=2)
    assert node.links == [("peer", "refused")]


def test_a_name_that_nobody_knows_is_one_error_and_is_resolved_anew(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    node, peer = net.node(), Peer(net)
    Names(monkeypatch, a=[socket.gaierror("no such name"), [HOST]], b=[UnicodeError("no name at all")])
    node.send(("a.example", peer.address[1]), 1)
    node.wait(errors=1)
    assert str(node.errors[0]) == f"can't send to peer 'peer' at a.example:{peer.address[1]}: no such name"
    assert isinstance(node.errors[0].__cause__, socket.gaierror)
    node.send(("a.example", peer.address[1]), 2)
    assert peer.link().line() == message(2, None)
    node.send(("b.example", 1), 1)
    node.wait(errors=2)
    assert "no name at all" in str(node.errors[1])


def test_a_name_that_hangs_delays_no_other_address(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    node, other = net.node(), net.node()
    names = Names(monkeypatch, a=["wait"], b=[[HOST]])
    node.send(("a.example", 1), 1)
    assert names.begun.wait(10)
    node.send(other.address, "by number")
    node.send(("b.example", other.address[1]), "by name")
    other.wait(values=2)
    assert node.errors == []
    names.go_on.set()
    node.wait(errors=1)


def test_a_hundred_addresses_that_answer_nothing_delay_no_other(net: Net) -> None:
    node, other = net.node(), net.node()
    port = net.silent()[1]
    for number in range(100):
        node.send((f"127.0.{number}.1", port), 1)
    silent = [net.silent() for _ in range(20)]
    for address in silent:
        node.send(address, 1)
    for number in range(10):
        node.send(other.address, number)
    other.wait(values=10)
    assert all("refused" in str(error) for error in node.errors)


def test_without_a_thread_to_resolve_on_it_is_one_error(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    node = net.node()
    Names(monkeypatch, a=[[HOST], socket.gaierror("no such name")])
    start = threading.Thread.start

    def none(thread: threading.Thread) -> None:
        if "resolver" in thread.name:
            raise RuntimeError("no thread")
        start(thread)

    with mock.patch.object(threading.Thread, "start", none):
        node.send(("a.example", 1), 1)
        node.wait(errors=1)
    assert "no thread" in str(node.errors[0])
    assert isinstance(node.errors[0].__cause__, RuntimeError)


def test_without_a_thread_for_the_loop_a_message_is_an_error_and_later_ones_are_sent(net: Net) -> None:
    node, other = net.node(listen=False), net.node()
    with mock.patch.object(threading.Thread, "start", side_effect=RuntimeError("no thread")):
        node.send(other.address, "lost")
        node.transport.dial(other.peer)
    assert [str(error) for error in node.errors] == ["no thread"] * 2
    node.send(other.address, "v")
    other.wait(values=2)
    assert other.values == ["lost", "v"]  # it waited, after all


# What is remembered


def test_so_many_addresses_are_remembered_but_all_that_are_linked_or_busy(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place_module, "_CAPACITY", 5)
    node, peer = net.node(), Peer(net)
    node.send(peer.address, 1)
    link = peer.link()
    assert link.line() == message(1, None)
    silent = net.silent()
    node.send(silent, 1)
    for port in range(1, 30):
        node.transport._places.learn(peer_at(("192.0.2.1", port)), node_js=True)
    places = node.transport._places
    assert len([*places]) <= 6
    assert {(HOST, peer.address[1]), (HOST, silent[1]), ("192.0.2.1", 29)} <= {*places}
    node.send(peer.address, 2)
    assert link.line() == message(2, None)


# Clusters


@pytest.mark.parametrize(("ours", "theirs"), [("prod", "test"), ("prod", None), (None, "test")])
def test_to_a_node_of_another_cluster_nothing_is_sent_and_that_is_one_error(
    net: Net, ours: str | None, theirs: str | None
) -> None:
    node, peer = net.node(), Peer(net)
    node.transport.cluster = ours
    for value in range(3):
        node.send(peer.address, value)
        connection = peer.accept()
        assert plain(connection.line()) == hello(SENDER, cluster=ours)
        connection.send(hello(peer.peer, cluster=theirs))
        assert connection.closed()
        until(node.transport._dialler._is_settled)
    assert [type(error) for error in node.errors] == [ClusterError]
    assert str(node.errors[0]).startswith(f"message from 'peer' at {peer.source} refused: it ")
    assert node.links_open() == 0


def test_a_cluster_with_a_name_sends_nothing_to_who_answers_no_hello(net: Net, quick: None) -> None:
    node, peer = net.node(), Peer(net)
    node.transport.cluster = "prod"
    for value in (1, 2):
        node.send(peer.address, value)
        assert plain(peer.accept().rest()) == hello(SENDER, cluster="prod")
        node.wait(errors=value)
    assert [type(error) for error in node.errors] == [SendError] * 2
    assert "it answers no HELLO, as each node of a cluster with a name does" in str(node.errors[0])


def test_what_comes_alone_does_not_make_its_sender_s_address_a_node_js_node_s_then(net: Net) -> None:
    node, peer = net.node(), Peer(net)
    node.transport.cluster = "prod"
    net.connect(node, encode(Message(peer.peer, None, Digest(Kind.ROUND, None, [])))).end()
    node.until(lambda: len(node.heard) == 1)
    node.send(peer.address, 1)
    connection = peer.accept()
    assert plain(connection.line()) == hello(SENDER, cluster="prod")
    connection.send(hello(peer.peer, cluster="prod"))
    assert connection.line() == message(1, None)
    assert node.errors == []
