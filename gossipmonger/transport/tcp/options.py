"""The options of TCP: what they may be. Errors name the one that is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gossipmonger.errors import shown
from gossipmonger.state.arguments import check_number, seconds, unknown_option
from gossipmonger.transport.address import check_host, read_address
from gossipmonger.wire import Keyring

if TYPE_CHECKING:
    from gossipmonger.transport.tcp.tls import Tls

__all__ = ["TLS", "read_binding", "read_options", "read_tls"]

#: The options of TLS, of a transport and of a node.
TLS = ("tls_server", "tls_client", "tls_check_id")


def read_options(options: Mapping[str, Any] | None, keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Return all options, those of a mapping before keywords: timeouts in seconds, and `tls` for those of TLS.

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
    if given["keyring"] is not None and not isinstance(given["keyring"], Keyring):  # which may be a key, and is not shown
        raise TypeError(f"keyring must be a Keyring, as of Keyring([key, ...]), got {type(given['keyring']).__name__}")
    for name in ("connect_timeout", "send_timeout", "receive_timeout"):
        given[name] = seconds(name, given[name], 0.001, 3_600)
    given["tls"] = read_tls(given["tls_server"], given["tls_client"], given["tls_check_id"])
    return given


def read_binding(told: Mapping[str, Any], options: Mapping[str, Any]) -> tuple[str, int]:
    """Return where to bind, from the arguments of `listen`, and from what holds without them.

    Raises:
        TypeError, ValueError: An option is unknown, of the wrong type or out of range; the error names it.
    """
    for name in options:
        if name not in told:
            raise unknown_option(name, told)
    chosen = {**told, **options}
    if not isinstance(chosen["host"], str):
        raise TypeError(f"host must be a string, got {shown(chosen['host'])}")
    check_number("port", chosen["port"], int, 0, 65535)
    host: str = read_address("host", {"host": chosen["host"]}, binding=True)["host"]
    return host, chosen["port"]


def read_tls(server: Any, client: Any, check_id: Any, names: Sequence[str] = TLS) -> Tls | None:
    """Return the TLS that is asked for; None for none, which does not load the module `ssl`.

    Args:
        server: The option `tls_server`.
        client: The option `tls_client`.
        check_id: The option `tls_check_id`.
        names: What the caller calls the three.

    Raises:
        TypeError, ValueError: An option does not do; the error calls it by its name.
    """
    if server is None and client is None and check_id is False:
        return None
    from gossipmonger.transport.tcp.tls import Tls

    return Tls(server, client, check_id, names)
