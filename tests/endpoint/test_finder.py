"""Finding each other: the addresses of seeds, the host that peers are told, and what is said when nobody is found."""

from __future__ import annotations

import logging
import queue
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gossipmonger import Gossipmonger, LonelyError, RemotePeer, TcpTransport, UdpTransport
from gossipmonger.endpoint import finder as finder_module
from gossipmonger.endpoint.finder import Finder
from gossipmonger.errors import SendError
from gossipmonger.transport import Transport
from tests.cluster import free_port
from tests.transport.tcp.net import until

Make = Callable[..., Gossipmonger]


class Names:
    """Stands in for getaddrinfo: a name ending in ".example" has these addresses, in this order, or none."""

    def __init__(self) -> None:
        self.names: dict[str, list[str]] = {}
        self.original = socket.getaddrinfo

    def __call__(self, host: str, port: int, *args: Any, **options: Any) -> list[Any]:
        if not host.endswith(".example"):
            return self.original(host, port, *args, **options)
        if host not in self.names:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [answer for ip in self.names[host] for answer in self.original(ip, port, *args, **options)]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    names = Names()
    monkeypatch.setattr(socket, "getaddrinfo", names)
    return names


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[Gossipmonger] = []

    def make(id: str, host: str | None = "127.0.0.1", port: int = 0, listen: bool = True, **options: Any) -> Any:
        transport = {"port": port} if host is None else {"host": host, "port": port}
        node: Any = Gossipmonger({"id": id, "transport": transport}, **{"gossip_interval": 50, **options})
        node.errors = []
        node.on("error", node.errors.append)
        made.append(node)
        if listen:
            node.transport.listen()
            node.gossip()
        return node

    yield make
    for node in made:
        node.close()


def meet(*nodes: Gossipmonger) -> None:
    until(lambda: all(len(node.storage.live_peers()) == len(nodes) for node in nodes))


def port_of(node: Gossipmonger) -> int:
    return int(node.transport.port)


# Seeds


@pytest.mark.parametrize("of", [TcpTransport, UdpTransport])
def test_seeds_need_no_id_and_are_no_peers(make: Make, of: type[TcpTransport]) -> None:
    a = make("a", transport=of(host="127.0.0.1", port=0))
    forms: list[Any] = [f"127.0.0.1:{port_of(a)}", ("127.0.0.1", port_of(a)), {"host": "127.0.0.1", "port": port_of(a)}]
    others = [make(f"b{n}", seeds=[seed], transport=of(host="127.0.0.1", port=0)) for n, seed in enumerate(forms)]
    meet(a, *others)
    assert set(a.peers()) == {"a", "b0", "b1", "b2"}


def test_every_address_of_a_name_is_a_seed_but_the_node_s_own(make: Make, names: Names) -> None:
    first = make("first", "127.0.0.2")
    names.names["all.example"] = ["127.0.0.2", "127.0.0.3", "127.0.0.4"]
    seeds = [f"all.example:{port_of(first)}"]
    nodes = [make(host, host, port_of(first), seeds=seeds, listen=False) for host in names.names["all.example"][1:]]
    for node in nodes:
        node.transport.listen()
    for node in nodes:
        node.gossip()
    meet(first, *nodes)
    assert [node.errors for node in nodes] == [[], []]  # type: ignore[attr-defined]


def test_a_cluster_whose_parts_have_one_name_heals(make: Make, names: Names) -> None:
    a = make("a", "127.0.0.2")
    b = make("b", "127.0.0.3", port_of(a), seeds=[("127.0.0.2", port_of(a))])
    c = make("c", "127.0.0.4", port_of(a))
    names.names["all.example"] = ["127.0.0.2", "127.0.0.3"]
    d = make("d", "127.0.0.5", port_of(a), seeds=[("all.example", port_of(a))])
    meet_all = [a, b, d]
    until(lambda: all(len(node.storage.live_peers()) == 3 for node in meet_all))
    names.names["all.example"] = ["127.0.0.2", "127.0.0.4", "127.0.0.3"]  # the answer changes
    d.transport.resolver._known.clear()  # as it is when the former answer is old
    meet(a, b, c, d)


@pytest.mark.parametrize("of", [TcpTransport, UdpTransport])
@pytest.mark.parametrize("host", ["127.0.0.3", "alias.example"])
def test_a_node_that_is_among_its_own_seeds_does_not_talk_to_itself(
    make: Make, names: Names, of: type[TcpTransport], host: str
) -> None:
    names.names["alias.example"] = ["127.0.0.4"]
    udp = {"udp": True} if of is UdpTransport else {}
    port = free_port()
    seed = {"id": "x", "transport": {"host": host, "port": port, **udp}}
    node = make("a", port=port, transport=of(binding=""), listen=False, seeds=[seed])
    sent: list[str] = []
    node.on("digest send", lambda to, digest: sent.append(to.id))
    node.transport.listen()
    node.gossip()
    until(lambda: bool(node.errors))  # type: ignore[attr-defined]
    assert sent == []
    assert [type(error) for error in node.errors] == [LonelyError]  # type: ignore[attr-defined]
    assert node.errors[0].tried == {f"{host}:{port}": "this node itself"}  # type: ignore[attr-defined]
    assert set(node.peers()) == {"a"}


def test_a_node_that_reaches_itself_by_a_way_that_it_can_not_see_stops(make: Make) -> None:
    """As by an address that a router translates."""
    node = make("a", listen=False)
    node.transport.listen()
    with socket.create_server(("127.0.0.1", 0)) as relay:
        seed = RemotePeer("x", {"host": "127.0.0.1", "port": relay.getsockname()[1]})
        node._engine._finder._seeds = (seed,)
        node.gossip()
        with relay.accept()[0] as asked, socket.create_connection(("127.0.0.1", port_of(node))) as itself:
            itself.sendall(asked.recv(1_000))
            asked.sendall(itself.recv(1_000))
            assert itself.recv(1) == b""
        until(lambda: not node._protocol.membership.seeds.others(node.options.clock()))
    assert (node.errors, set(node.peers())) == ([], {"a"})  # type: ignore[attr-defined]


def test_that_one_address_of_a_seed_fails_is_no_error_while_another_one_answers(make: Make, names: Names) -> None:
    a = make("a", "127.0.0.2")
    names.names["both.example"] = ["127.0.0.2", "127.0.0.9"]
    b = make("b", "127.0.0.3", seeds=[("both.example", port_of(a))])
    meet(a, b)
    finder = b._engine._finder
    until(lambda: bool(finder._good) and finder._settled)
    at = next(place.at for place in finder._places if place.at.transport["host"] == "127.0.0.9")
    assert not finder.failed(SendError("refused", at))
    good = next(place.at for place in finder._places if place.at.transport["host"] == "127.0.0.2")
    assert finder.failed(SendError("refused", good))
    assert finder.failed(SendError("refused", at))


# The host that peers are told


class Routes:
    """Stands in for `route_to`: the local address from which a host is reached."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **hosts: str | None) -> None:
        self.hosts = hosts
        monkeypatch.setattr(finder_module, "route_to", lambda host, port: hosts.get(host.replace(".", "_"), host))
        monkeypatch.setattr(finder_module, "is_local", lambda host: host in hosts.values())


class Told(TcpTransport):
    """A transport whose names have these addresses, once they are known."""

    def __init__(self, **known: list[str]) -> None:
        super().__init__(port=5)
        self.known = known
        self.asked: list[Callable[[object], None]] = []

    def addresses(self, at: Any, then: Callable[[object], None], lifetime: float) -> list[Any] | None:
        if at["host"][0].isdigit():
            return [at]
        self.asked.append(then)
        found = self.known.get(at["host"])
        return None if found is None else [{**at, "host": host} for host in found]


def find(transport: Transport, *seeds: str, host: Any = None) -> Finder:
    given = [RemotePeer(f"s{n}", {"host": seed, "port": 1}) for n, seed in enumerate(seeds)]
    return Finder(given, transport, host, lambda: None)


@pytest.mark.parametrize(
    ("seeds", "told"),
    [
        (["127.0.0.1"], "127.0.0.1"),
        (["localhost"], "localhost"),
        (["10.0.0.9"], "10.0.0.5"),
        (["10.0.0.5"], "10.0.0.5"),  # itself
        (["127.0.0.1", "10.0.0.9"], "10.0.0.5"),  # which both can reach
        (["10.9.9.9", "10.0.0.9"], "10.0.0.5"),  # there is no way to the first
        ([], "localhost"),
    ],
)
def test_peers_are_told_the_address_from_which_the_first_seed_is_reached(
    monkeypatch: pytest.MonkeyPatch, seeds: list[str], told: str
) -> None:
    Routes(monkeypatch, **{"10_0_0_9": "10.0.0.5", "10_9_9_9": None, "127_0_0_1": "127.0.0.1"})
    transport = Told()
    find(transport, *seeds)
    assert (transport.host, transport.binding) == (told, {})  # which is where it binds


def test_a_name_is_waited_for_and_the_node_binds_to_every_address(monkeypatch: pytest.MonkeyPatch) -> None:
    Routes(monkeypatch, **{"10_0_0_9": "10.0.0.5"})
    transport = Told()
    heard: list[str] = []
    transport.on("address", lambda: heard.append(transport.host))
    finder = find(transport, "b.example", "127.0.0.1")
    assert transport.binding == {"host": ""}
    finder.look(alone=True)
    assert heard == []
    transport.known["b.example"] = ["10.0.0.9"]
    places = finder.look(alone=True)
    assert heard == ["10.0.0.5"]
    assert [place.at.transport["host"] for place in places] == ["10.0.0.9", "127.0.0.1"]


def test_a_name_without_an_address_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    Routes(monkeypatch, **{"127_0_0_2": "127.0.0.1"})
    transport = Told()
    finder = find(transport, "b.example", "127.0.0.2")
    finder.look(alone=True)
    transport.asked[0](socket.gaierror(socket.EAI_NONAME, "Name or service not known"))
    assert [place.at.transport["host"] for place in finder.look(alone=True)] == ["b.example", "127.0.0.2"]
    assert transport.host == "127.0.0.1"


def test_a_host_that_is_named_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    Routes(monkeypatch, **{"10_0_0_9": "10.0.0.5"})
    transport = Told()
    find(transport, "10.0.0.9", host="elsewhere")
    assert (transport.host, transport.binding) == ("localhost", {})
    named = TcpTransport(host="elsewhere")
    find(named, "10.0.0.9")
    assert named.host == "elsewhere"


def test_a_node_without_a_host_is_reached_where_it_says(make: Make, names: Names) -> None:
    a = make("a")
    names.names["a.example"] = ["127.0.0.1"]
    for seed in (f"127.0.0.1:{port_of(a)}", f"a.example:{port_of(a)}"):
        b = make("b", None, seeds=[seed])
        meet(a, b)
        assert a.peer("b").transport == {"host": "127.0.0.1", "port": b.transport.bound[1]}  # type: ignore[union-attr]
        b.update("seed", seed)
        until(lambda seed=seed: a.get("b", "seed") == seed)  # type: ignore[misc]
        b.close()
        until(lambda: len(a.storage.live_peers()) == 1)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_a_loopback_address_that_a_seed_on_another_host_is_told_is_one_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, host: str
) -> None:
    Routes(monkeypatch, **{"10_0_0_9": "10.0.0.5"})
    for seeds, warned in ((["127.0.0.1", "10.0.0.5", "nobody.example"], False), (["127.0.0.1", "10.0.0.9", "10.0.0.9"], True)):
        finder = find(Told(), *seeds, host=host)
        caplog.clear()
        with caplog.at_level(logging.WARNING, "gossipmonger"):
            for _ in range(3):
                finder.look(alone=True)
        said = [record.getMessage() for record in caplog.records]
        assert len(said) == warned
        assert all(f"at {host!r}" in text and "10.0.0.9:1 is on another host" in text for text in said)


# Where to listen


@pytest.mark.parametrize("of", [None, TcpTransport, UdpTransport])
def test_the_option_listen_says_where_to_bind_beside_what_peers_are_told(of: type[TcpTransport] | None) -> None:
    told = {"host": "127.0.0.7", "port": 9}
    for listen in ("127.0.0.2:0", ("127.0.0.2", 0), {"host": "127.0.0.2", "port": 0}):
        options: Any = {} if of is None else {"transport": of()}
        with Gossipmonger({"id": "a", "transport": told}, listen=listen, **options) as node:
            assert node.transport.bound[0] == "127.0.0.2"
            assert {**told, **node.local_peer.transport} == node.local_peer.transport


def test_a_port_that_is_not_told_is_the_one_that_is_bound() -> None:
    with Gossipmonger({"id": "a", "transport": {"host": "127.0.0.7"}}, listen="127.0.0.2:0") as node:
        assert node.local_peer.transport == {"host": "127.0.0.7", "port": node.transport.bound[1]}
    with Gossipmonger({"id": "a", "transport": {"host": "127.0.0.2", "port": 0}}, listen={"host": ""}) as node:
        assert node.transport.bound[0] in ("::", "0.0.0.0")
        assert node.local_peer.transport == {"host": "127.0.0.2", "port": node.transport.bound[1]}


def test_another_transport_is_told_where_to_listen() -> None:
    told: list[Any] = []

    class Other:
        def digest(self, *_: Any) -> None: ...
        def deltas(self, *_: Any) -> None: ...
        def on(self, *_: Any) -> None: ...
        def listen(self, *args: Any) -> None:
            told.append(args)

    options: Any
    for options, args in (({"listen": ":5"}, ({"host": "", "port": 5},)), ({}, ())):
        with Gossipmonger({"id": "a"}, transport=Other(), **options):
            assert told.pop() == args


# Nobody


def test_who_finds_nobody_for_ten_intervals_says_so_once_with_what_came_back(make: Make, names: Names) -> None:
    with socket.create_server(("127.0.0.1", 0)) as web, socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        refusing = held.getsockname()[1]
        node = make("a", listen=False, seeds=[("127.0.0.1", refusing), ("127.0.0.1", web.getsockname()[1]), "gone.example:1"])
        lonely: queue.Queue[LonelyError] = queue.Queue()
        node.on("error", lambda error: lonely.put(error) if isinstance(error, LonelyError) else None)
        node.gossip()
        with web.accept()[0] as asked:
            asked.recv(100)
            asked.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            error = lonely.get(timeout=10)
            other = web.getsockname()[1]
    assert error.tried == {
        f"127.0.0.1:{refusing}": "refused, so nobody listens there",
        f"127.0.0.1:{other}": "answered by something that is not gossipmonger",
        "gone.example:1": "no address of that name: Name or service not known",
    }
    assert str(error).startswith("no other node found in ")
    assert str(error).endswith("gone.example:1 (no address of that name: Name or service not known)")
    assert lonely.empty()


def test_loneliness_is_said_once_unless_somebody_was_found() -> None:
    finder, local = find(Told(), "10.0.0.9", host="a"), RemotePeer("a", {"host": "a", "port": 5})
    finder.look(alone=True)
    finder.told(RemotePeer("s0", {"host": "10.0.0.9", "port": 1}), "itself")
    assert finder.loneliness(1_000, 200, True, local) is None
    assert finder.loneliness(2_999, 200, True, local) is None
    error = finder.loneliness(3_000, 200, True, local)
    assert error is not None
    assert (error.seconds, error.tried) == (2.0, {"10.0.0.9:1": "this node itself"})
    assert finder.loneliness(9_000, 200, True, local) is None
    other = find(Told(), "10.0.0.9", host="a")
    assert other.loneliness(1_000, 100, False, local) is None
    assert other.loneliness(9_000, 100, True, local) is None


def test_who_has_no_seed_but_itself_is_not_lonely() -> None:
    for seeds, local in (([], RemotePeer("a", {})), (["10.0.0.9"], RemotePeer("a", {"host": "10.0.0.9", "port": 1}))):
        finder = find(Told(), *seeds, host="a")
        finder.look(alone=True)
        assert [finder.loneliness(now, 1, True, local) for now in (0, 10_000)] == [None, None]


def test_a_lonely_error_names_twenty_addresses() -> None:
    assert str(LonelyError(10, {f"h{n}:1": "no answer" for n in range(25)})).endswith("h19:1 (no answer), 5 more")
