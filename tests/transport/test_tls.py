"""Nodes with TLS: clusters of them, who is kept out, and what the options say."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from gossipmonger import Gossipmonger, TcpTransport, TlsError
from gossipmonger.simulation import Simulation
from tests.certificates import Certificates

#: Milliseconds between rounds.
INTERVAL = 100

#: A node that is told its seed, and where certificates are, and that somebody kills.
PROGRAM = """
import ssl, sys
from gossipmonger import Gossipmonger

ca, certificate, key, seed = sys.argv[1:]
server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ca)
server.verify_mode = ssl.CERT_REQUIRED
client = ssl.create_default_context(cafile=ca)
for context in (server, client):
    context.load_cert_chain(certificate, key)
options = {"tls_server": server, "tls_client": client, "tls_check_id": True, "gossip_interval": 100}
node = Gossipmonger({"id": "victim", "transport": {"host": "127.0.0.1", "port": 0}}, options, seeds=[seed])
node.update("pid", 1)
with node:
    node.wait(60)
"""

Make = Callable[..., "Node"]


class Node:
    """A node, and its errors."""

    def __init__(self, node: Gossipmonger) -> None:
        self.node = node
        self.errors: list[Exception] = []
        self.failed = threading.Event()
        node.on("error", self._fail)

    def _fail(self, error: Exception) -> None:
        self.errors.append(error)
        self.failed.set()

    @property
    def seed(self) -> str:
        return f"localhost:{self.node.transport.port}"


@pytest.fixture
def make(certificates: Certificates) -> Iterator[Make]:
    """Makes nodes that gossip, by their ids and seeds."""
    made: list[Node] = []

    def make(id: str, seeds: list[str] | None = None, **options: Any) -> Node:
        options = {**certificates.both(id), "gossip_interval": INTERVAL, **options}
        node = Node(Gossipmonger({"id": id, "transport": {"host": "127.0.0.1", "port": 0}}, options, seeds=seeds or []))
        made.append(node)
        node.node.update("id", id)
        node.node.transport.listen()
        node.node.gossip()
        return node

    yield make
    for each in made:
        each.node.close()


def test_two_nodes_know_each_other_and_hand_on_what_is_new_at_the_end(make: Make) -> None:
    a = make("a", tls_check_id=True)
    b = make("b", [a.seed], tls_check_id=True)
    assert b.node.wait_for_key("id", peer="a", timeout=10) == "a"
    b.node.update("last", "x" * 200_000)
    began = monotonic()
    b.node.close()
    assert monotonic() - began < 2
    assert a.node.wait_for_key("last", peer="b", timeout=10) == "x" * 200_000
    a.node.wait_for(lambda: a.node.peers()["b"].state == "left", timeout=10)
    assert [error for error in a.errors if isinstance(error, TlsError)] == b.errors == []


@pytest.mark.untraced
def test_five_nodes_tell_about_each_other_renew_and_see_one_killed(make: Make, certificates: Certificates) -> None:
    first = make("n0", tls_check_id=True)
    nodes = [first, *(make(f"n{number}", [first.seed], tls_check_id=True) for number in range(1, 4))]
    victim = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(certificates.ca), *map(str, certificates.issue("victim")), first.seed],
        cwd=Path(__file__).parents[2],
    )
    try:
        for each in nodes:
            each.node.wait_for_peers(5, timeout=30)
            assert each.node.wait_for_key("pid", peer="victim", timeout=10) == 1
        for each in nodes:
            each.node.transport.renew(**certificates.both(each.node.local_peer.id, life=7_200))
        nodes[1].node.update("news", "after the renewal")
        for each in nodes:
            assert each.node.wait_for_key("news", peer="n1", timeout=10) == "after the renewal"
        victim.send_signal(signal.SIGKILL)
        for each in nodes:
            each.node.wait_for(lambda: "victim" not in each.node.live(), timeout=30)  # noqa: B023 # it is called here
        assert [error for each in nodes for error in each.errors if isinstance(error, TlsError)] == []
    finally:
        victim.kill()
        victim.wait(10)


def test_a_node_without_tls_finds_nobody_and_is_told_why(make: Make) -> None:
    node = make("a")
    plain = make("plain", [node.seed], tls_server=None, tls_client=None)
    assert plain.failed.wait(10)
    assert node.failed.wait(10)
    assert [type(each.errors[0]) for each in (plain, node)] == [TlsError] * 2
    assert "it takes nothing but TLS" in str(plain.errors[0])
    assert "it begins without TLS" in str(node.errors[0])
    assert set(node.node.peers()) == {"a"}


def test_a_node_of_another_authority_or_with_another_s_id_is_kept_out(
    make: Make, certificates: Certificates, strangers: Certificates
) -> None:
    node = make("a", tls_check_id=True)
    foreign = make("foreign", [node.seed], **strangers.both("foreign"))
    liar = make("liar", [node.seed], **certificates.both("somebody"))
    assert foreign.failed.wait(10)
    node.node.wait_for(lambda: len(node.errors) >= 2, timeout=10)
    words = {str(error).partition(" refused: ")[2].partition(",")[0].partition(":")[0] for error in node.errors}
    assert "it speaks as 'liar'" in words
    assert words & {"its certificate is refused", "it refuses this node's certificate"}
    assert liar.node.live() == ["liar"]
    assert set(node.node.peers()) == {"a"}


def test_the_options_belong_to_the_transport_where_there_is_one(certificates: Certificates) -> None:
    info = {"id": "a", "transport": {"host": "127.0.0.1", "port": 0}}
    both = certificates.both()
    with pytest.raises(TypeError, match="TLS_SERVER must be given to the transport, since there is one"):
        Gossipmonger(info, {"TLS_SERVER": both["tls_server"]}, tls_client=both["tls_client"], transport=TcpTransport())
    with pytest.raises(ValueError, match="tls_server and TLS_CLIENT must be given together"):
        Gossipmonger(info, {"TLS_CLIENT": both["tls_client"]})
    with pytest.raises(TypeError, match="tls_check_id must be True or False, got None"):
        Gossipmonger(info, {"tls_check_id": None}, **both)
    with pytest.raises(TypeError, match="tls_server must be given to the transport"):
        Simulation().add("n", **both)


def test_the_module_ssl_is_not_loaded_without_tls() -> None:
    program = (
        "import sys, gossipmonger\n"
        "with gossipmonger.Gossipmonger({'id': 'a', 'transport': {'host': '127.0.0.1', 'port': 0}}): pass\n"
        "sys.exit('ssl' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60, cwd=Path(__file__).parents[2]).returncode == 0
