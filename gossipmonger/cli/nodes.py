"""Nodes: what a configuration makes, an agent's node or an observer; and what it runs on."""

from __future__ import annotations

import platform
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from gossipmonger import Gossipmonger, UdpTransport, __version__
from gossipmonger.cli.outcome import USAGE, CommandError
from gossipmonger.cli.settings import Settings
from gossipmonger.cli.trust import check_own_id, trust_of
from gossipmonger.errors import words
from gossipmonger.transport.address import is_wildcard, route_to

__all__ = ["make_node", "make_observer", "versions"]

#: An address outside, to find the way there; nothing is sent to it. It is reserved for documentation.
_OUTSIDE = ("192.0.2.1", 9)


def make_node(settings: Settings, note: Callable[[str], object] = lambda text: None) -> Gossipmonger:
    """Return the node that a configuration describes. It has not begun.

    Args:
        settings: The configuration.
        note: Called with a line that the user should read.

    Raises:
        CommandError: The configuration is wrong in a way that only the node knows.
    """
    listen = dict(settings.listen or {})
    told = dict(settings.advertise or {})
    if not told and not is_wildcard(listen.get("host", "")):
        told = {"host": listen["host"]}
    elif not told and listen and not settings.seeds:  # nobody else says from where this host is reached
        told = {"host": route_to(*_OUTSIDE) or "localhost"}
    if "port" not in told and listen.get("port"):
        told["port"] = listen["port"]
    trusts = trust_of(settings, note)
    check_own_id(settings, trusts.get("tls_server"))
    if settings.transport == "udp" and "tls_server" in trusts:
        raise CommandError("TLS needs the transport tcp: it does not encrypt datagrams, which a keys_file seals", USAGE)
    try:
        transport = UdpTransport() if settings.transport == "udp" else None
        node = Gossipmonger(
            {"id": settings.id, "transport": told},
            settings.options,
            cluster=settings.cluster,
            seeds=settings.seeds,
            listen=listen or None,
            transport=transport,
            **trusts,
        )
        for key, value in settings.values.items():
            node.update(key, value)
    except (TypeError, ValueError) as error:
        raise CommandError(words(error), USAGE) from None
    return node


def make_observer(settings: Settings) -> Gossipmonger:
    """Return an observer of the cluster that a configuration describes. It has not begun.

    Raises:
        CommandError: The configuration is wrong in a way that only the node knows.
    """
    try:
        return Gossipmonger(
            None, settings.options, observer=True, cluster=settings.cluster, seeds=settings.seeds, **trust_of(settings)
        )
    except (TypeError, ValueError) as error:
        raise CommandError(words(error), USAGE) from None


def versions() -> dict[str, Any]:
    """Return what runs here, for `info`."""
    return {
        "version": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "fast": find_spec("msgspec") is not None,
    }
