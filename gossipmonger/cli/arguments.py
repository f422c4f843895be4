"""Arguments: what each command takes, and how a text on the command line is read."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from gossipmonger.cli.durations import duration
from gossipmonger.cli.journal import EVENTS
from gossipmonger.errors import shown, words

__all__ = ["ARGUMENTS"]

# Types of arguments


def _seconds(text: str) -> timedelta:
    try:
        return duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(words(error)) from None


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"must be NAME=VALUE, got {shown(text)}")
    return name, value


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text[:9]) > 0 and len(text) < 9):
        raise argparse.ArgumentTypeError(f"must be a number of at least 1, got {shown(text)}")
    return int(text)


# The arguments of each command


def _add_access(parser: argparse.ArgumentParser, observer: bool = True) -> None:
    """Add where the agent is, and how an observer joins instead."""
    group = parser.add_argument_group("where to ask")
    group.add_argument("--socket", metavar="PATH", help="the agent's control socket (GOSSIPMONGER_SOCKET)")
    if observer:
        group.add_argument("--seed", metavar="HOST:PORT", action="append", help="ask a node directly, without an agent")
        _add_trust(group)


def _add_trust(group: Any) -> None:
    group.add_argument("--config", metavar="FILE", help="the agent's TOML file, for the cluster's name and keys")
    group.add_argument("--cluster", metavar="NAME", help="the name of the cluster")
    group.add_argument("--keys-file", metavar="FILE", help="the keys that seal messages, one a line, the first one sealing")
    _add_tls(group.add_argument)


def _add_tls(add: Callable[..., object]) -> None:
    add("--tls-certificate", metavar="FILE", help="encrypt by TLS, and show this certificate (PEM)")
    add("--tls-key", metavar="FILE", help="the certificate's key")
    add("--tls-ca", metavar="FILE", help="the certificate of whoever signs those of other nodes")
    add("--tls-check-id", action="store_true", default=None, help="a node's id has to be among the names in its certificate")


def _agent(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--config", metavar="FILE", help="a TOML file with any of these settings")
    add("--check-config", action="store_true", help="check the settings, print what is wrong, and end")
    add("--id", metavar="ID", help="the node's id, its own in the whole cluster (default: the host's name)")
    add("--cluster", metavar="NAME", help="the cluster's name, the same in all nodes; others are refused")
    add("--listen", metavar="HOST:PORT", help="where to bind, such as 0.0.0.0:9742; port 0 is any free one")
    add("--advertise", metavar="HOST:PORT", help="the address that others are told (default: found by itself)")
    add("--seed", metavar="HOST:PORT", action="append", help="a node to join; may be given several times")
    add("--transport", choices=("tcp", "udp"), help="udp sends short messages as datagrams (default: tcp)")
    add("--set", metavar="KEY=VALUE", action="append", type=_pair, help="a key to have from the start; JSON, or text")
    add("--option", "-o", metavar="NAME=VALUE", action="append", type=_pair, help="an option, such as gossip_interval=250ms")
    add(
        "--keys-file",
        metavar="FILE",
        help="the keys that seal messages, one a line; SIGHUP reads it again",
    )
    _add_tls(add)
    add("--web", metavar="HOST:PORT", help="serve a page that shows the cluster")
    add("--metrics", metavar="HOST:PORT", help="serve metrics for Prometheus")
    add("--socket", metavar="PATH", help="where commands reach the agent; '' for nowhere (GOSSIPMONGER_SOCKET)")


def _members(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--state", choices=("live", "dead", "left"), action="append", help="only those in this state")
    parser.add_argument("--where", metavar="KEY=VALUE", action="append", type=_pair, help="only those with this key and value")
    _add_access(parser)


def _get(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", metavar="KEY")
    parser.add_argument("--peer", metavar="ID", help="whose key (default: the agent's)")
    _add_access(parser)


def _set(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", metavar="KEY")
    parser.add_argument("value", metavar="VALUE", help="JSON, or text if it is not; - reads it from stdin")
    parser.add_argument("--text", action="store_true", help="take VALUE as text even if it looks like JSON")
    parser.add_argument("--ttl", metavar="DURATION", type=_seconds, help="delete the key after this time, such as 30s")
    _add_access(parser, observer=False)


def _delete(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", metavar="KEY")
    _add_access(parser, observer=False)


def _keys(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prefix", metavar="PREFIX", nargs="?", default="")
    parser.add_argument("--peer", metavar="ID", help="only this node's keys, with their values")
    _add_access(parser)


def _values(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", metavar="KEY")
    parser.add_argument("--all", action="store_true", help="at dead nodes and at those that left, too")
    _add_access(parser)


def _watch(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prefix", metavar="PREFIX", nargs="?", default="")
    parser.add_argument("--peer", metavar="ID", help="only this node's keys")
    parser.add_argument("--no-replay", action="store_true", help="leave out what is there already")
    parser.add_argument("--count", metavar="N", type=_count, help="end after so many changes")
    _add_access(parser)


def _wait(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", metavar="KEY", nargs="?")
    parser.add_argument("--value", metavar="VALUE", help="the value that it is to have: JSON, or text")
    parser.add_argument("--peer", metavar="ID", help="the node that is to have it (default: any live one)")
    parser.add_argument("--peers", metavar="N", type=_count, help="wait for so many live nodes instead")
    parser.add_argument("--timeout", metavar="DURATION", type=_seconds, help="give up after this time (default: 1m)")
    _add_access(parser)


def _events(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--event", choices=EVENTS, action="append", metavar="EVENT", help=f"only these: {', '.join(EVENTS)}")
    parser.add_argument("--count", metavar="N", type=_count, help="end after so many events")
    _add_access(parser)


def _ping(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("address", metavar="HOST:PORT")
    parser.add_argument("--timeout", metavar="DURATION", type=_seconds, default=timedelta(seconds=3), help="(default: 3s)")
    _add_trust(parser.add_argument_group("who asks"))


def _forget(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("peer", metavar="ID")
    _add_access(parser, observer=False)


def _keyring(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", metavar="ACTION", nargs="?", choices=("list", "add", "promote", "remove"), default="list")
    parser.add_argument("key", metavar="KEY", nargs="?", help="to add: the key, or - for stdin; otherwise a key's id")
    _add_access(parser, observer=False)


def _localtest(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--nodes", metavar="N", type=_count, default=5, help="how many (default: 5)")
    add("--node", action="store_true", help="let two of them be Node.js originals; needs node and the npm package gossipmonger")
    add("--node-modules", metavar="DIR", help="where that package is, if not here or installed globally")
    add("--for", dest="lasts", metavar="DURATION", type=_seconds, help="end after this time (default: at Ctrl-C)")
    add("--interval", metavar="DURATION", type=_seconds, default=timedelta(seconds=1), help="from round to round (default: 1s)")
    add("--quiet", action="store_true", help="leave out messages, and show events alone")
    add("--web", metavar="HOST:PORT", help="serve a page that shows the first node's view")


def _completion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh", "fish"))


#: Command -> what adds its arguments to a parser.
ARGUMENTS: Mapping[str, Callable[[argparse.ArgumentParser], None]] = {
    "agent": _agent,
    "members": _members,
    "get": _get,
    "set": _set,
    "delete": _delete,
    "keys": _keys,
    "values": _values,
    "watch": _watch,
    "wait": _wait,
    "events": _events,
    "ping": _ping,
    "info": _add_access,
    "leave": lambda parser: _add_access(parser, observer=False),
    "forget": _forget,
    "keygen": lambda parser: None,
    "keyring": _keyring,
    "localtest": _localtest,
    "completion": _completion,
}
