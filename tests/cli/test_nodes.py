from __future__ import annotations

from typing import Any

import pytest

from gossipmonger.cli.nodes import make_node
from gossipmonger.cli.outcome import USAGE, CommandError
from gossipmonger.cli.settings import Settings
from gossipmonger.transport.address import route_to


def told(**settings: Any) -> Any:
    """The address that peers are told."""
    node = make_node(Settings(id="a", **settings))
    try:
        return node.local_peer.transport
    finally:
        node.close()


@pytest.mark.parametrize(
    ("settings", "address"),
    [
        ({}, {"host": "localhost", "port": 9742}),
        ({"listen": {"host": "127.0.0.1", "port": 1}}, {"host": "127.0.0.1", "port": 1}),
        ({"listen": {"host": "", "port": 1}, "advertise": {"host": "h"}}, {"host": "h", "port": 1}),
        ({"listen": {"host": "0.0.0.0", "port": 1}, "advertise": {"host": "h", "port": 2}}, {"host": "h", "port": 2}),
        ({"seeds": [{"host": "127.0.0.1", "port": 5}], "listen": {"host": "", "port": 1}}, {"host": "127.0.0.1", "port": 1}),
        ({"listen": {"host": "0.0.0.0", "port": 1}}, {"host": route_to("192.0.2.1", 9) or "localhost", "port": 1}),
    ],
)
def test_peers_are_told_an_address_that_they_can_reach(settings: dict[str, Any], address: Any) -> None:
    assert told(**settings) == address


def test_what_only_the_node_knows_to_be_wrong_is_wrong_usage() -> None:
    with pytest.raises(CommandError, match="__proto__") as error:
        make_node(Settings(id="a", values={"__proto__": 1}))
    assert error.value.code == USAGE
