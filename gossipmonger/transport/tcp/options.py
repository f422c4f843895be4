"""The options of TCP: what they may be. Errors name the one that is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gossipmonger.state.arguments import check_number, seconds, unknown_option
from gossipmonger.transport.address import check_host, read_address

__all__ = ["read_options"]


def read_options(options: Mapping[str, Any] | None, keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Return all options, those of a mapping before keywords, with `binding` as a mapping and timeouts in seconds.

    Raises:
        TypeError, ValueError: An option is unknown or out of range; the error names it.
    """
    given = dict(keywords)
    for name, value in (options or {}).items():
        if name not in given:
            raise unknown_option(name, given)
        given[name] = value
    binding = given["binding"]
    given["binding"] = {} if binding is None else read_address("binding", binding, binding=True, port=None)
    if given["host"] is not None:
        given["host"] = check_host(given["host"])
    if given["port"] is not None:
        check_number("port", given["port"], int, 0, 65535)
    for name in ("max_message_size", "max_connections", "max_links"):
        check_number(name, given[name], int, 1)
    if given["compress_above"] is not None:
        check_number("compress_above", given["compress_above"], int, 0)
    for name in ("connect_timeout", "send_timeout", "receive_timeout"):
        given[name] = seconds(name, given[name], 0.001, 3_600)
    return given
