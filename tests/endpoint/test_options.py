"""Options: their spellings, their defaults, and that what is wrong is named."""

from __future__ import annotations

import random
import threading
from datetime import timedelta
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest

from gossipmonger import Gossipmonger, MemoryStorage, Options, RemotePeer
from gossipmonger.protocol import Config
from gossipmonger.transport import TcpTransport


def parse(given: Any = None, **keywords: Any) -> Options:
    return Options.parse(given, keywords)


#: Each option with something other than its default.
VALUES: dict[str, Any] = {
    "dead_peer_phi": 5.5,
    "gossip_interval": 250,
    "max_deltas_per_gossip": 50,
    "minimum_live_peers": 3,
    "compress_above": 0,
    "cluster": "prod",
    "seeds": (RemotePeer("b", {"host": "there", "port": 1}),),
    "listen": {"host": "0.0.0.0", "port": 1},
    "storage": MemoryStorage(),
    "transport": TcpTransport({"port": 0}),
    "clock": lambda: 0.0,
    "random": random.Random(1),
    "timer": lambda seconds, function: None,
    "executor": SimpleNamespace(submit=lambda function: None),
}


@pytest.mark.parametrize("name", VALUES)
def test_an_option_may_be_spelled_either_way_and_be_a_keyword(name: str) -> None:
    value = VALUES[name]
    for options in (
        parse({name: value}),
        parse({name.upper(): value}),
        parse(MappingProxyType({name: value})),
        parse(**{name: value}),
        parse(**{name.upper(): value}),
    ):
        assert getattr(options, name) == value


@pytest.mark.parametrize("name", VALUES)
def test_an_option_changes_no_other(name: str) -> None:
    changed, default = parse({name: VALUES[name]}), parse()
    for other in VALUES:
        if other not in (name, "clock", "random"):  # each has its own of these
            assert getattr(changed, other) == getattr(default, other)


def test_keywords_win() -> None:
    options = parse({"GOSSIP_INTERVAL": 1, "dead_peer_phi": 5}, gossip_interval=2, DEAD_PEER_PHI=6)
    assert (options.gossip_interval, options.dead_peer_phi) == (2, 6)


def test_the_endpoint_takes_both() -> None:
    node = Gossipmonger({"id": "a"}, {"GOSSIP_INTERVAL": 300, "seeds": []}, seeds=[PARSED])
    node.close()
    assert node.options.gossip_interval == 300
    assert node.seeds == node.options.seeds == (PARSED,)


def test_the_defaults_are_those_of_the_node_js_package_but_what_one_exchange_brings() -> None:
    for options in (parse(), parse({}), parse(MappingProxyType({}))):
        assert (options.dead_peer_phi, options.gossip_interval) == (8, 1000)
        assert (options.minimum_live_peers, options.seeds) == (1, ())
        assert (options.max_deltas_per_gossip, options.max_exchanges_per_gossip) == (None, None)
        assert options.timer is threading.Timer
        assert (options.storage, options.transport, options.executor) == (None, None, None)


def test_each_endpoint_has_its_own_randomness() -> None:
    one, other = parse(), parse()
    assert isinstance(one.random, random.Random)
    assert one.random is not other.random
    assert one.random.random() != other.random.random()


def test_options_can_not_be_changed() -> None:
    with pytest.raises(AttributeError):
        parse().gossip_interval = 5  # type: ignore[misc]


# Numbers

#: Each number: its least, its most (None: as many as you like), whether it has to be an integer, its unit.
NUMBERS: dict[str, tuple[float, float | None, bool, str]] = {
    "DEAD_PEER_PHI": (0.1, 1000, False, ""),
    "GOSSIP_INTERVAL": (1, 86_400_000, False, "ms"),
    "MAX_DELTAS_PER_GOSSIP": (1, None, True, "deltas"),
    "MINIMUM_LIVE_PEERS": (0, None, True, "peers"),
    "GOSSIP_FANOUT": (1, 1000, True, "peers"),
    "RUMOR_FANOUT": (0, 1000, True, "peers"),
    "RUMOR_INTERVAL": (1, 86_400_000, False, "ms"),
    "RUMOR_RATE": (1, 10_000, False, "messages"),
    "MAX_EXCHANGES_PER_GOSSIP": (0, None, True, "replies"),
    "COMPRESS_ABOVE": (0, None, True, "bytes"),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_may_be_at_its_bounds(name: str) -> None:
    least, most, *_ = NUMBERS[name]
    for value in (least, 10**9 if most is None else most):
        assert getattr(parse({name: value}), name.lower()) == value


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_out_of_range_is_named_as_it_was_typed(name: str) -> None:
    least, most, integer, unit = NUMBERS[name]
    bad: list[float] = [least - 1 if integer else least - 0.01, -(10**9)]
    bad += [] if most is None else [most + 1]
    bad += [] if integer else [float("nan"), float("inf"), -float("inf")]
    for value in bad:
        for typed in (name, name.lower(), name.title()):
            with pytest.raises(ValueError, match=f"^{typed} must .*{unit}") as caught:
                parse({typed: value})
            assert str(caught.value).endswith(f", got {value!r}")


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", ["1", None, True, False, [1], {}, 1j, object])
def test_what_is_not_a_number_is_named_as_it_was_typed(name: str, value: Any) -> None:
    if value is None and name in ("COMPRESS_ABOVE", "MAX_DELTAS_PER_GOSSIP", "MAX_EXCHANGES_PER_GOSSIP"):  # never, no bound
        assert getattr(parse({name: value}), name.lower()) is None
        return
    for typed in (name, name.lower()):
        with pytest.raises(TypeError, match=f"^{typed} must be (a number|an integer).*, got "):
            parse({typed: value})


@pytest.mark.parametrize("name", [name for name, (_, _, integer, _) in NUMBERS.items() if integer])
@pytest.mark.parametrize("value", [1.0, 1.5, float("nan"), float("inf")])
def test_a_fraction_where_an_integer_is_wanted_is_named(name: str, value: float) -> None:
    with pytest.raises(TypeError, match=f"^{name} must be an integer.*, got {value!r}$"):
        parse({name: value})


# Objects

NO_STORAGE = SimpleNamespace(get=len, put=len, live_peers=len)
NO_TRANSPORT = SimpleNamespace(digest=len, deltas=len)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("storage", {}, r"must have a method put\(\), got {}$"),
        ("storage", "memory", r"must have a method get\(\), got "),
        ("storage", NO_STORAGE, r"must have a method dead_peers\(\), got "),
        ("storage", SimpleNamespace(**vars(NO_STORAGE), dead_peers=[]), r"must have a method dead_peers\(\), got "),
        ("transport", {"port": 1}, r"must have a method digest\(\), got "),
        ("transport", NO_TRANSPORT, r"must have a method on\(\), got "),
        ("executor", len, r"must have a method submit\(\), got "),
        ("random", None, r"must have a method random\(\), got None$"),
        ("DELTA_ORDER", "size", "must be 'depth' or 'breadth', got 'size'$"),
        ("flow_control", 1, "must be True or False, got 1$"),
        ("random", 5, r"must have a method random\(\), got "),
        ("clock", 5, "must be callable, .* milliseconds since the epoch, got 5$"),
        ("clock", None, "must be callable, .*, got None$"),
        ("timer", 5, "must be callable, .*start.* and cancel.*, got 5$"),
    ],
)
def test_an_object_that_can_not_do_it_is_named(name: str, value: Any, words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{name} {words}"):
        parse({name: value})


def test_an_object_with_the_methods_will_do() -> None:
    storage = SimpleNamespace(**vars(NO_STORAGE), dead_peers=len)
    transport = SimpleNamespace(**vars(NO_TRANSPORT), on=len)
    options = parse(storage=storage, transport=transport)
    assert (options.storage, options.transport) == (storage, transport)


@pytest.mark.parametrize("given", [5, "GOSSIP_INTERVAL", [("gossip_interval", 1)], ()])
def test_options_that_are_no_mapping_are_refused(given: Any) -> None:
    with pytest.raises(TypeError, match=r"^options must be a mapping, got "):
        parse(given)


# Unknown names


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("GOSIP_INTERVAL", "gossip_interval"),
        ("gossipInterval", "gossip_interval"),
        ("DEAD_PEER_PHY", "dead_peer_phi"),
        ("MAX_DELTAS", "max_deltas_per_gossip"),
        ("minimum_life_peers", "minimum_live_peers"),
        ("seed", "seeds"),
        ("Storages", "storage"),
    ],
)
def test_an_unknown_option_is_named_with_the_nearest_known_one(name: str, nearest: str) -> None:
    for given, keywords in (({name: 1}, {}), ({}, {name: 1})):
        with pytest.raises(TypeError, match=f"^unknown option '{name}'; did you mean '{nearest}'\\?$"):
            Options.parse(given, keywords)


@pytest.mark.parametrize("name", ["zzzzzz", "", 5])
def test_an_unknown_option_that_is_near_to_none_is_named(name: Any) -> None:
    with pytest.raises(TypeError, match=f"^unknown option {name!r}$"):
        parse({name: 1})


# Seeds

SEED = {"id": "b", "transport": {"host": "b.example", "port": 9742}}
PARSED = RemotePeer("b", {"host": "b.example", "port": 9742})


def unnamed(host: str, port: int = 9742) -> RemotePeer:
    """A seed without an id."""
    shown = f"[{host}]" if ":" in host else host
    return RemotePeer(f"seed at {shown}:{port}", {"host": host, "port": port})


@pytest.mark.parametrize(
    ("given", "parsed"),
    [
        ([], ()),
        ([SEED], (PARSED,)),
        ((SEED, SEED), (PARSED, PARSED)),
        ([PARSED, SEED], (PARSED, PARSED)),
        ([MappingProxyType(SEED)], (PARSED,)),
        ([{**SEED, "comment": "in the cellar"}], (PARSED,)),
        ([{"id": "b", "transport": "b.example"}], (PARSED,)),
        ([{"id": "b", "transport": {"host": "b.example"}}], (PARSED,)),
        ([{"id": "b", "host": "b.example", "port": "9742"}], (PARSED,)),
        ([{"transport": {"host": "b.example", "port": 1}}], (unnamed("b.example", 1),)),
        ([{"host": "b.example"}], (unnamed("b.example"),)),
        (["b.example"], (unnamed("b.example"),)),
        (["b.example:1", "10.0.0.1:2"], (unnamed("b.example", 1), unnamed("10.0.0.1", 2))),
        ([("b.example", 1), ["b.example", 1]], (unnamed("b.example", 1),) * 2),
        (["::1", "[::1]", "[::1]:9742", ("::1", 9742), "::1%lo"], (unnamed("::1"),) * 5),
        (["fe80::1%eth0", "[fe80::1%eth0]:9742"], (unnamed("fe80::1%eth0"),) * 2),
    ],
)
def test_seeds_are_mappings_texts_pairs_or_remote_peers(given: Any, parsed: Any) -> None:
    assert parse(seeds=given).seeds == parsed
    assert parse(seeds=iter(given)).seeds == parsed


@pytest.mark.parametrize("given", [None, 5, "b", b"b", SEED, True])
def test_seeds_that_are_no_list_are_refused(given: Any) -> None:
    with pytest.raises(TypeError, match=r"^seeds must be a list of seeds, got "):
        parse(seeds=given)


@pytest.mark.parametrize("given", ["b:1", SEED, PARSED])
def test_a_single_seed_is_refused_with_advice(given: Any) -> None:
    with pytest.raises(TypeError, match=r"^seeds must be a list of seeds, got .*; for one seed write \["):
        parse(seeds=given)


@pytest.mark.parametrize("bad", [None, 5, b"b.example:9742", ("b",), ("b", 1, 2), [SEED], True, (5, 1), ("b", None, 1)])
def test_what_is_no_address_is_named_by_its_place(bad: Any) -> None:
    with pytest.raises(TypeError, match=r"^seeds\[1\] must be a host that can be connected to and a port .*, got "):
        parse(seeds=[SEED, bad])


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("", "the host is empty"),
        (":9742", "the host is empty"),
        ("[]:9742", "the host is empty"),
        ("b:", "the port must be a number from 1 to 65535"),
        ("b:x", "the port must be a number from 1 to 65535"),
        ("b:0", "the port must be a number from 1 to 65535"),
        (("b", 65536), "the port must be a number from 1 to 65535"),
        (("b", -1), "the port must be a number from 1 to 65535"),
        ("0.0.0.0:9742", "nobody can connect to '0.0.0.0', which is every address of a machine"),
        ("[::]:9742", "nobody can connect to '[::]', which is every address of a machine"),
        ("::", "nobody can connect to '::', which is every address of a machine"),
        ("::ffff:0.0.0.0", "nobody can connect to '::ffff:0.0.0.0', which is every address of a machine"),
        ("*", "nobody can connect to '*', which is every address of a machine"),
        ("tcp://b.example:9742", "leave out 'tcp://', addresses have no scheme"),
        ("10.0.0.256", "the host looks like an IPv4 address but is not one"),
        ("9742", "the host looks like an IPv4 address but is not one"),
        ("1:2:3", "the host looks like an IPv6 address but is not one"),
        ("[b.example]:1", "brackets are for IPv6 addresses"),
        ("b example", "a host has no spaces, slashes or control characters"),
        ("b.example/x", "a host has no spaces, slashes or control characters"),
        ("b..example", "the host is not a valid name"),
        ("x" * 64, "the host is not a valid name"),
        ("\ud800", "the host is not a valid name"),
    ],
)
def test_an_impossible_address_is_named_by_its_place_with_the_reason(bad: Any, why: str) -> None:
    wanted = "must be a host that can be connected to and a port from 1 to 65535, such as 'b.example:9742'"
    with pytest.raises(ValueError, match="must be a host") as caught:
        parse(seeds=[SEED, bad])
    assert str(caught.value) == f"seeds[1] {wanted}, got {bad!r}: {why}"
    address = bad if isinstance(bad, str) else {"host": bad[0], "port": bad[1]}
    for seed in ({"id": "x", "transport": address}, RemotePeer("x", address)):
        with pytest.raises(ValueError, match="must be a host") as caught:
            parse(SEEDS=[seed])
        assert str(caught.value) == f"SEEDS[0].transport {wanted}, got {address!r}: {why}"


def test_other_transports_have_other_addresses() -> None:
    transport = SimpleNamespace(**vars(NO_TRANSPORT), on=len)
    seeds = [{"id": "b", "transport": "queue of b"}, RemotePeer("c", 5), {"transport": {"queue": 1}}, "d"]
    parsed = parse(seeds=seeds, transport=transport).seeds
    assert parsed[:2] == (RemotePeer("b", "queue of b"), RemotePeer("c", 5))
    assert parsed[2:] == (RemotePeer("seed at {'queue': 1}", {"queue": 1}), unnamed("d"))


@pytest.mark.parametrize("seed", [{}, {"id": "b"}])
def test_a_seed_without_an_address_is_named_by_its_place(seed: Any) -> None:
    with pytest.raises(ValueError, match=r"^seeds\[1\] must have the key 'transport', or 'host' and 'port', got "):
        parse(seeds=[SEED, seed])


@pytest.mark.parametrize(
    ("given", "parsed"),
    [
        (None, None),
        ("0.0.0.0", {"host": "0.0.0.0"}),
        ("[::]:0", {"host": "::", "port": 0}),
        (":5", {"host": "", "port": 5}),
        ("*", {"host": ""}),
        ("", {"host": ""}),
        (("127.0.0.1", 5), {"host": "127.0.0.1", "port": 5}),
        ({"port": 5}, {"host": "", "port": 5}),
        ({"host": "[::1]"}, {"host": "::1"}),
    ],
)
def test_where_to_listen_is_an_address_or_a_part_of_one(given: Any, parsed: Any) -> None:
    assert parse(listen=given).listen == parsed


@pytest.mark.parametrize("bad", [5, True, "a b", "tcp://0.0.0.0", "0.0.0.0:x", ("", 65536), {"host": 5}, ()])
def test_where_nobody_can_listen_is_refused(bad: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"^LISTEN must be an address to bind, such as '0.0.0.0:9742', got "):
        parse(LISTEN=bad)


def test_a_seed_whose_id_is_not_a_string_is_named_as_it_was_typed() -> None:
    with pytest.raises(TypeError, match=r"^SEEDS\[1\].id must be a string, got 5$"):
        parse(SEEDS=[SEED, {**SEED, "id": 5}])


def test_the_protocol_gets_plain_values() -> None:
    options = parse(gossip_interval=250, seeds=[SEED], delta_order="breadth", flow_control=True)
    config = options.config()
    assert isinstance(config, Config)
    assert {name: getattr(options, name) for name in vars(config)} == vars(config)
    assert (config.gossip_interval, config.seeds, config.flow_control) == (250, (PARSED,), True)


# What is easily mistaken


@pytest.mark.parametrize("name", ["gossip_interval", "RUMOR_INTERVAL", "forget_dead_peers_after"])
def test_milliseconds_may_be_a_timedelta(name: str) -> None:
    assert getattr(parse({name: timedelta(minutes=1)}), name.lower()) == 60_000
    with pytest.raises(ValueError, match=rf"^{name} must be .* ms, got 0.0$"):
        parse({name: timedelta(0)})


@pytest.mark.parametrize("name", ["host", "port", "id", "data"])
def test_what_belongs_into_peer_info_is_no_option_and_the_error_says_so(name: str) -> None:
    with pytest.raises(TypeError, match=f"^unknown option '{name}': it belongs to the first argument"):
        parse(**{name: 1})


@pytest.mark.parametrize("name", ["max_links", "connect_timeout", "max_message_size"])
def test_what_belongs_to_a_transport_is_no_option_and_the_error_says_so(name: str) -> None:
    with pytest.raises(TypeError, match=f"^unknown option '{name}': it belongs to TcpTransport.*transport="):
        parse(**{name: 1})


@pytest.mark.parametrize(
    ("name", "value"), [("storage", MemoryStorage), ("TRANSPORT", TcpTransport), ("random", random.Random)]
)
def test_a_class_in_place_of_an_object_is_named(name: str, value: type) -> None:
    with pytest.raises(
        TypeError, match=rf"^{name} must be an object, got the class {value.__name__}: did you mean {value.__name__}"
    ):
        parse({name: value})


def test_a_value_is_shown_in_one_short_line() -> None:
    for value in ("x\n" * 10**6, [["x"] * 1_000] * 1_000):
        for given in ({"gossip_interval": value}, {"storage": value}, {"clock": value}):
            with pytest.raises(TypeError) as caught:
                parse(given)
            assert len(str(caught.value)) < 600
            assert str(caught.value).isprintable()


def test_a_cluster_s_name_is_text_and_not_too_long() -> None:
    assert (parse(cluster="c" * 255).cluster, parse(cluster=None).cluster) == ("c" * 255, None)
    for bad in (5, b"prod", True):
        with pytest.raises(TypeError, match="CLUSTER must be a string, got"):
            parse(CLUSTER=bad)
    for wrong in ("", "c" * 256):
        with pytest.raises(ValueError, match="cluster must be a string of 1 to 255 characters"):
            parse(cluster=wrong)


@pytest.mark.parametrize("now", ["now", None, float("nan"), -1.0])
def test_a_clock_that_tells_no_time_is_named_at_once(now: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=rf"^clock\(\) must be .* milliseconds, got {now!r}$"):
        Gossipmonger({"id": "a"}, clock=lambda: now)
