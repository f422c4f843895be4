"""Addresses of hosts and ports: how callers write them, and what the system knows of them without asking anybody.

A host is a name, or an IPv4 or IPv6 address. IPv6 addresses may stand in brackets, and one that is valid on a single link names
its interface: `fe80::1%eth0`. A wildcard such as 0.0.0.0 is where a socket may be bound, and never where a peer can be reached.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, NamedTuple

from gossipmonger.errors import shown
from gossipmonger.transport.base import DEFAULT_PORT

__all__ = [
    "Address", "Ip", "check_host", "clean_host", "is_local", "is_loopback", "is_wildcard", "numeric", "read_address",
    "read_ip", "route_to", "to_bind",
]  # fmt: skip

Ip = IPv4Address | IPv6Address

#: What no host contains: white space, control characters, and what would be the rest of a URL.
_NEVER = re.compile(r"[\s\x00-\x1f\x7f/@?#\\]")

#: How a URL begins.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")

#: What looks like an IPv4 address. The system takes "0" or "127.1" for one, but nobody means that.
_DIGITS = re.compile(r"[0-9.]+")

_WILDCARDS = frozenset({"", "*"})


class Address(NamedTuple):
    """The address of a socket.

    Attributes:
        family: `socket.AF_INET` or `socket.AF_INET6`.
        at: What `connect` and `sendto` take.
    """

    family: int
    at: Any


def read_ip(host: str) -> Ip | None:
    """Return the IP address that a host is, None for a name. Brackets are allowed."""
    try:
        return ip_address(_unbracketed(host))
    except ValueError:
        return None


def is_wildcard(host: str) -> bool:
    """Whether a host stands for every address of a machine: "", "*", "0.0.0.0" or "::"."""
    if host in _WILDCARDS:
        return True
    ip = read_ip(host)
    return ip is not None and (_as_ipv4(ip) or ip).is_unspecified


def is_loopback(host: str) -> bool:
    """Whether a host can be reached on its own machine only. No name is resolved; "localhost" is one by convention."""
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    ip = read_ip(host)
    return ip is not None and (_as_ipv4(ip) or ip).is_loopback


def _as_ipv4(ip: Ip) -> IPv4Address | None:
    return ip.ipv4_mapped if isinstance(ip, IPv6Address) else None


def _unbracketed(host: str) -> str:
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def clean_host(host: str) -> str:
    """Return a host without brackets, and without a zone where the address is the same on every interface.

    Raises:
        ValueError: It is empty, or can be neither a name nor an address. The error says why, and names nothing.
    """
    bare = _unbracketed(host)
    if not bare:
        raise ValueError("the host is empty")
    if bare != host and not isinstance(read_ip(bare), IPv6Address):
        raise ValueError("brackets are for IPv6 addresses")
    ip = read_ip(bare)
    if isinstance(ip, IPv6Address):
        return bare if ip.is_link_local else bare.partition("%")[0]
    if ip is not None:
        return bare
    if _DIGITS.fullmatch(bare):
        raise ValueError("the host looks like an IPv4 address but is not one")
    if ":" in bare or "[" in bare or "]" in bare:
        raise ValueError("the host looks like an IPv6 address but is not one")
    if _NEVER.search(bare):
        raise ValueError("a host has no spaces, slashes or control characters")
    try:
        bare.encode("idna")
    except UnicodeError:
        raise ValueError("the host is not a valid name") from None
    return bare


def read_address(place: str, given: Any, *, binding: bool = False, port: int | None = DEFAULT_PORT) -> dict[str, Any]:
    """Return what a caller wrote as an address, as a mapping with `host` and `port`, and whatever else a mapping says.

    Args:
        place: What the caller calls it, for errors.
        given: "host", "host:port", "[::1]:9742", "::1", (host, port), or a mapping with `host` and maybe `port`.
        binding: Whether it is where to bind: then wildcards and port 0 are allowed, ":9742" is every address, and a mapping
            may leave out either.
        port: The port where none is given; None to leave it out.

    Raises:
        TypeError, ValueError: It is no such thing; the error says what is wanted.
    """
    try:
        host, number, others = _split(given, binding)
        if not isinstance(host, str):
            raise TypeError("the host must be a string")
        if is_wildcard(host):
            if not binding:
                every = f"nobody can connect to {host!r}, which is every address of a machine"
                raise ValueError(every if host else "the host is empty")
            host = "" if host in _WILDCARDS else _unbracketed(host)
        else:
            host = clean_host(host)
        number = _read_port(number, 0 if binding else 1) if number is not None else port
    except (TypeError, ValueError) as error:
        reachable = "a host that can be connected to and a port from 1 to 65535, such as 'b.example:9742'"
        wanted = "an address to bind, such as '0.0.0.0:9742'" if binding else reachable
        reason = f": {error}" if str(error) else ""
        raise type(error)(f"{place} must be {wanted}, got {shown(given)}{reason}") from None
    return {**others, "host": host} if number is None else {**others, "host": host, "port": number}


def _split(given: Any, binding: bool) -> tuple[Any, Any, dict[str, Any]]:
    """Return host, port and whatever else there is; a port is None where none is given."""
    if isinstance(given, Mapping):
        others = {name: part for name, part in given.items() if name not in ("host", "port")}
        if "host" not in given and not binding:
            raise ValueError("it has no host")
        return given.get("host", ""), given.get("port"), others
    if isinstance(given, str):
        return *_split_text(given), {}
    if isinstance(given, (tuple, list)) and len(given) == 2:
        return given[0], given[1], {}
    raise TypeError


def _split_text(text: str) -> tuple[str, str | None]:
    scheme = _SCHEME.match(text)
    if scheme:
        raise ValueError(f"leave out {scheme[0]!r}, addresses have no scheme")
    if text.startswith("[") and "]" in text:
        host, _, rest = text.partition("]")
        if not rest:
            return host + "]", None
        return (host + "]", rest[1:]) if rest.startswith(":") else (text, None)
    if text.count(":") == 1:
        host, _, port = text.partition(":")
        return host, port
    return text, None


def _read_port(port: Any, least: int) -> int:
    if isinstance(port, str) and port.isascii() and port.isdigit() and len(port) <= 5:
        port = int(port)
    if isinstance(port, bool) or not isinstance(port, (int, str)):
        raise TypeError(f"the port must be a number from {least} to 65535")
    if isinstance(port, str) or not least <= port <= 65535:
        raise ValueError(f"the port must be a number from {least} to 65535")
    return port


def numeric(host: str, port: int) -> Address | None:
    """Return a numeric host as an address, None for a name. Brackets and meaningless zones are dropped."""
    try:
        version = ip_address(host.strip("[]")).version
        host = clean_host(host)
    except ValueError:
        return None
    if version == 4:
        return Address(socket.AF_INET, (host, port))
    if "%" not in host:
        return Address(socket.AF_INET6, (host, port, 0, 0))
    try:
        found = socket.getaddrinfo(host, port, socket.AF_INET6, socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except OSError:
        return None
    return Address(socket.AF_INET6, found[0][4])


def is_local(host: str) -> bool:
    """Return whether an IP address is one of this machine."""
    address = numeric(host, 0)
    return address is not None and _probe(address.family, lambda probe: probe.bind(address.at)) is not None


def route_to(host: str, port: int) -> str | None:
    """Return the local address from which an IP address is reached; None for a name, or if there is no way. Sends nothing."""
    address = numeric(host, port)
    source = None if address is None else _probe(address.family, lambda probe: probe.connect(address.at))
    if source is None or is_wildcard(source):
        return None
    ip = read_ip(host)
    if isinstance(ip, IPv6Address) and ip.is_link_local and ip.scope_id and "%" not in source:
        return f"{source}%{ip.scope_id}"
    return source


def _probe(family: int, use: Callable[[socket.socket], object]) -> str | None:
    """Return the local address of a new socket after calling `use` with it; None if that fails."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            use(probe)
            source: str = probe.getsockname()[0]
    except OSError:
        return None
    return source


def check_host(host: Any) -> str:
    """Return a host that peers can be told, checked and in one form.

    Raises:
        TypeError, ValueError: It is not one.
    """
    if not isinstance(host, str):
        raise TypeError(f"host must be a string, got {shown(host)}")
    wanted = "a name or an address that peers can connect to"
    if is_wildcard(host):
        advice = "; to bind every address of this machine, give `listen`" if host else ""
        raise ValueError(f"host must be {wanted}, got {shown(host)}{advice}")
    try:
        return clean_host(host)
    except ValueError as error:
        raise ValueError(f"host must be {wanted}, got {shown(host)}: {error}") from None


def to_bind(host: str, port: int, everywhere: bool) -> list[Any]:
    """Return the addresses to try to bind, one after the other, as `getaddrinfo` does."""
    hosts = ["::", "0.0.0.0"] if everywhere else [host or "0.0.0.0"]  # a system without IPv6 still says that it has both
    try:
        return [each for at in hosts for each in socket.getaddrinfo(at, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)]
    except OSError as error:
        raise type(error)(error.errno, f"can't listen at {host}: {error.strerror}") from None
