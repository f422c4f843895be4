"""Services: what an agent serves besides gossip and commands. What one needs is imported only when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from gossipmonger import Gossipmonger
from gossipmonger.cli.outcome import ABSENT, USAGE, CommandError
from gossipmonger.errors import at, words
from gossipmonger.transport.address import is_loopback

__all__ = ["serve_metrics", "serve_web"]


def serve_web(node: Gossipmonger, address: Mapping[str, Any], note: Callable[[str], object]) -> Callable[[], object]:
    """Serve the page that shows the cluster as a node sees it; return what ends that.

    Args:
        node: The node.
        address: Where; without a host, on loopback.
        note: Called with a line that says where the page is.

    Raises:
        CommandError: This version has no page, or the address cannot be bound.
    """
    try:
        serve = import_module("gossipmonger.web").serve
    except ImportError:
        raise CommandError("this version of gossipmonger has no page to serve: leave --web out", USAGE) from None
    try:
        page = serve(node, address["host"], address["port"])
    except OSError as error:
        raise CommandError(f"can't serve the page at {at(address)}: {error.strerror or words(error)}", ABSENT) from None
    warning = "" if is_loopback(address["host"] or "127.0.0.1") else "; whoever can connect reads everything, so guard the port"
    note(f"the page is at {page.url}{warning}")
    end: Callable[[], object] = page.close
    return end


def serve_metrics(node: Gossipmonger, address: Mapping[str, Any]) -> Callable[[], object]:
    """Serve metrics for Prometheus; return what ends that.

    Raises:
        CommandError: The extra is not installed, or the address cannot be bound.
    """
    try:
        client, collector = import_module("prometheus_client"), import_module("gossipmonger.metrics").Collector
    except ImportError:
        raise CommandError("metrics need one more package: pip install 'gossipmonger[prometheus]'", USAGE) from None
    registry = client.CollectorRegistry()
    registry.register(collector(node))
    try:
        server, thread = client.start_http_server(address["port"], address["host"] or "0.0.0.0", registry)
    except OSError as error:
        raise CommandError(f"can't serve metrics at {at(address)}: {error.strerror or words(error)}", ABSENT) from None

    def end() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return end
