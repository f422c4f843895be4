"""Addresses: which are wildcards or lead to this machine only, and from where one is reached. `test_options` reads them."""

from __future__ import annotations

import socket

import pytest

from gossipmonger import TcpTransport, UdpTransport
from gossipmonger.transport.address import clean_host, is_local, is_loopback, is_wildcard, read_address, read_ip, route_to
from tests.cluster import free_port


@pytest.mark.parametrize("host", ["", "*", "0.0.0.0", "::", "[::]", "0:0:0:0:0:0:0:0", "::ffff:0.0.0.0"])
def test_a_wildcard_is_every_address_of_a_machine(host: str) -> None:
    assert is_wildcard(host)
    assert not is_loopback(host)


@pytest.mark.parametrize(
    "host", ["localhost", "LocalHost.", "db.localhost", "127.0.0.1", "127.9.9.9", "::1", "[::1]", "::ffff:127.0.0.1"]
)
def test_a_loopback_address_is_for_its_own_machine(host: str) -> None:
    assert is_loopback(host)
    assert not is_wildcard(host)


@pytest.mark.parametrize("host", ["10.0.0.1", "a.example", "localhost.example", "fe80::1%eth0", "2001:db8::1"])
def test_other_hosts_are_neither(host: str) -> None:
    assert not is_loopback(host)
    assert not is_wildcard(host)


def test_only_an_address_of_one_link_keeps_its_zone() -> None:
    assert [clean_host(host) for host in ("fe80::1%eth0", "[fe80::1%eth0]", "::1%lo", "a_b.example.")] == [
        "fe80::1%eth0", "fe80::1%eth0", "::1", "a_b.example.",
    ]  # fmt: skip


def test_a_name_is_no_ip() -> None:
    assert read_ip("a.example") is None
    assert str(read_ip("[::1]")) == "::1"


def test_a_mapping_may_say_other_things_too() -> None:
    assert read_address("x", {"host": "a", "port": 1, "udp": True}) == {"udp": True, "host": "a", "port": 1}
    assert read_address("x", "a", port=None) == {"host": "a"}


def test_a_route_leads_from_an_address_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert route_to("127.0.0.1", 1) == "127.0.0.1"
    with monkeypatch.context() as patched:
        patched.setattr(socket, "getaddrinfo", lambda *args, **options: pytest.fail("it looks the name up"))
        assert route_to("a.example", 1) is None
        assert not is_local("a.example")
    assert route_to("fe80::1%no.such.interface", 1) is None
    assert is_local("127.0.0.1")
    assert not any(map(is_local, ("a.example", "192.0.2.1", "fe80::1%no.such.interface")))


def test_every_address_is_bound_over_both_families() -> None:
    hosts = ["127.0.0.1", "::1"] if socket.has_dualstack_ipv6() else ["127.0.0.1"]
    for of in (TcpTransport, UdpTransport):
        for everywhere in ("", "::", "*", "[::]"):
            transport = of(host="127.0.0.1", port=free_port(), binding=everywhere)
            transport.listen()
            try:
                for host in hosts:
                    socket.create_connection((host, transport.port), timeout=10).close()
            finally:
                transport.close()


@pytest.mark.parametrize("transport", [TcpTransport, UdpTransport])
def test_a_name_without_an_address_is_named(monkeypatch: pytest.MonkeyPatch, transport: type[TcpTransport]) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(socket.gaierror, match=r"can't listen at b\.example: Name or service not known"):
        transport(host="b.example", port=0).listen()


def test_a_transport_adopts_what_it_was_not_told() -> None:
    transport = TcpTransport()
    transport.adopt("a.example", 5, {"host": "", "port": 6})
    assert (transport.host, transport.port, transport.binding) == ("a.example", 5, {"host": "", "port": 6})
    told = TcpTransport(host="b.example", port=7, binding=":8")
    told.adopt("a.example", 5, {"host": "127.0.0.1", "port": 6})
    assert (told.host, told.port, told.binding) == ("b.example", 7, {"host": "", "port": 8})
    free = TcpTransport(port=0)
    free.adopt(None, 5, None)
    assert (free.host, free.named, free.port, free.address) == ("localhost", False, 0, None)


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "a b", "[a]", 5])
def test_a_transport_is_told_no_host_at_which_nobody_can_connect(host: str) -> None:
    with pytest.raises((TypeError, ValueError), match=r"^host must be "):
        TcpTransport(host=host)
