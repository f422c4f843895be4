"""The registry: what is looked up is live and healthy, and goes when its node, its health or its program does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from random import Random
from typing import Any

import pytest

from gossipmonger import ClosedError, Gossipmonger, ObserverError
from gossipmonger.recipes import Instance, Registration, Registry

from .worlds import SECOND, Cluster


@pytest.fixture
def cluster(rng: Random) -> Iterator[Cluster]:
    with Cluster(rng.randrange(1_000)) as cluster:
        yield cluster


def addresses(registry: Registry, service: str = "web", healthy: bool = True) -> list[Any]:
    return [each.address for each in registry.lookup(service, healthy)]


def test_what_one_node_registers_all_look_up(cluster: Cluster) -> None:
    registries = [Registry(node) for node in cluster.nodes]
    registries[1].register("web", "b:80", {"zone": [1]})
    registries[0].register("web", ["a", 80])
    registries[0].register("mail", "a:25")
    cluster.run(3)
    for each in registries:
        assert each.lookup("web") == [
            Instance("web", "n0", ["a", 80], None, True),
            Instance("web", "n1", "b:80", {"zone": [1]}, True),
        ]
        assert addresses(each, "mail") == ["a:25"]
        assert each.lookup("we") == each.lookup("none") == []


def test_it_is_kept_while_it_is_renewed_and_costs_no_message(cluster: Cluster) -> None:
    registries = [Registry(node) for node in cluster.nodes]
    registries[0].register("web", "a", ttl=timedelta(seconds=15))
    cluster.run(3)
    view = cluster[1].peer("n0")
    cluster.run(100)
    assert addresses(registries[1]) == ["a"]
    assert view is not None
    assert cluster[1].peer("n0").versions == view.versions  # type: ignore[union-attr]


def test_it_goes_with_its_node(cluster: Cluster) -> None:
    registries = [Registry(node) for node in cluster.nodes]
    for each in registries[1:]:
        each.register("web", each.node.local_peer.id)
    cluster.run(3)
    cluster[1].close()
    cluster.until(lambda: addresses(registries[0]) == ["n2"], 5 * SECOND)
    cluster.sim.crash("n2")
    cluster.until(lambda: addresses(registries[0]) == [], 10 * SECOND)


def test_only_healthy_ones_are_looked_up(cluster: Cluster) -> None:
    state: dict[str, Any] = {"up": True}
    registries = [Registry(node) for node in cluster.nodes]

    def check() -> Any:
        if isinstance(state["up"], Exception):
            raise state["up"]
        return state["up"]

    registration = registries[0].register("web", "a", ttl=9, check=check)
    cluster.run(2)
    assert addresses(registries[1]) == ["a"]
    for up, there in ((False, []), ("yes", ["a"]), (OSError("refused"), []), (1, ["a"])):
        state["up"] = up
        cluster.run(5)
        assert addresses(registries[1]) == there
        assert addresses(registries[1], healthy=False) == ["a"]
        assert registration.healthy is bool(there)
        assert registration.error is (up if isinstance(up, Exception) else None)
    assert cluster.errors == []


def test_health_may_be_said_instead_of_checked(cluster: Cluster) -> None:
    registries = [Registry(node) for node in cluster.nodes]
    registration = registries[0].register("web", "a", ttl=9)
    assert repr(registration) == "Registration('web' of 'n0', healthy)"
    registration.healthy = False
    assert repr(registration) == "Registration('web' of 'n0', unhealthy)"
    cluster.run(20)
    assert (addresses(registries[1]), addresses(registries[1], healthy=False)) == ([], ["a"])
    registration.healthy = True
    cluster.run(2)
    assert addresses(registries[1]) == ["a"]
    for value in (1, "False", None):
        with pytest.raises(TypeError, match=r"^healthy must be True or False, got "):
            registration.healthy = value  # type: ignore[assignment]
    registries[0].close()
    assert repr(registration) == "Registration('web' of 'n0', ended)"
    with pytest.raises(ClosedError):
        registration.healthy = False
    assert registration.healthy


def test_health_can_not_be_said_where_a_check_decides(cluster: Cluster) -> None:
    registration = Registry(cluster[0]).register("web", "a", check=lambda: True)
    with pytest.raises(RuntimeError, match="the check of 'web' decides"):
        registration.healthy = False
    assert registration.healthy


def test_a_renewal_that_comes_after_the_end_takes_itself_back(cluster: Cluster) -> None:
    """What another thread does between two steps of a renewal is done by the check of it, or by the write."""
    registry = Registry(cluster[0])
    first = registry.register("web", "a")
    put = registry._put

    def renew_around(registration: Registration, does: Callable[[], object]) -> None:
        def put_late(key: str, value: Any, ttl: float) -> None:
            registry._put = put  # type: ignore[method-assign]
            does()
            put(key, value, ttl)

        registry._put = put_late  # type: ignore[method-assign]
        registration._publish()

    renew_around(first, lambda: registry.register("web", "b"))
    assert addresses(registry) == ["b"]
    second = registry._registered["web"]
    renew_around(second, second.close)
    assert addresses(registry) == []
    third = registry.register("web", "c")
    renew_around(third, lambda: setattr(third, "healthy", False))
    assert registry.lookup("web", healthy=False) == [Instance("web", "n0", "c", None, False)]


def test_one_that_is_unhealthy_at_first_is_not_looked_up(cluster: Cluster) -> None:
    registries = [Registry(node) for node in cluster.nodes]
    registries[0].register("web", "a", check=lambda: 0)
    cluster.run(2)
    assert addresses(registries[1]) == addresses(registries[0]) == []


def test_one_that_is_not_renewed_is_gone_after_its_ttl(cluster: Cluster) -> None:
    registries = [Registry(node) for node in cluster.nodes]
    registration = registries[0].register("web", "a", ttl=9)
    cluster.run(5)
    registration._timer.cancel()  # as a check that hangs would have it
    cluster.run(5)
    assert addresses(registries[1]) == ["a"]
    cluster.run(6)
    assert addresses(registries[1], healthy=False) == addresses(registries[0], healthy=False) == []


def test_to_register_again_takes_the_place_of_the_former(cluster: Cluster) -> None:
    registries = [Registry(node) for node in cluster.nodes]
    former = registries[0].register("web", "a", ttl=9)
    latter = registries[0].register("web", "b", ttl=9)
    with pytest.raises(TypeError):
        registries[0].register("web", {1})
    with pytest.raises(ClosedError, match="healthy: 'web' is not offered any more by this registration"):
        former.healthy = False
    former.close()
    cluster.run(30)
    assert addresses(registries[1]) == ["b"]
    with latter:
        pass
    latter.close()
    cluster.run(3)
    assert addresses(registries[1]) == []


def test_a_watch_tells_what_there_is_now_whenever_it_changes(cluster: Cluster) -> None:
    registries = [Registry(node) for node in cluster.nodes]
    told: list[list[str]] = []
    registries[1].register("web", "b")
    registries[1].register("web2", "x")
    cluster.run(2)
    watch = registries[0].watch("web", lambda found: told.append([each.address for each in found]))
    registries[2].register("web", "c", check=lambda: False)
    registries[2].register("web2", "y")
    cluster.run(2)
    registries[2].register("web", "c")
    cluster.run(2)
    cluster.sim.crash("n1")
    cluster.run(10)
    assert told == [["b"], ["b", "c"], ["c"]]
    assert watch.active
    registries[0].close()
    assert not watch.active


def test_a_closed_registry_offers_nothing_and_its_timers_are_over(cluster: Cluster) -> None:
    registries = [Registry(node) for node in cluster.nodes]
    checks: list[int] = []
    registries[0].register("web", "a", ttl=3, check=lambda: not checks.append(1))
    registries[0].register("mail", "a", ttl=3)
    cluster.run(3)
    registries[0].close()
    registries[0].close()
    done = len(checks)
    cluster.run(10)
    assert (registries[1].lookup("web"), registries[1].lookup("mail"), len(checks)) == ([], [], done)
    assert cluster.own(0) == {}
    for use in (lambda: registries[0].register("web", "a"), lambda: registries[0].watch("web", print)):
        with pytest.raises(ClosedError, match="Registry has been closed"):
            use()


def test_the_end_of_the_node_ends_its_timers(cluster: Cluster) -> None:
    checks: list[int] = []
    registration = Registry(cluster[0]).register("web", "a", ttl=3, check=lambda: not checks.append(1))
    cluster[0].close()
    cluster.run(10)
    assert len(checks) == 1  # the one of its beginning
    assert registration._ended
    registration.close()


def test_an_observer_looks_up_and_cannot_register(cluster: Cluster) -> None:
    Registry(cluster[0]).register("web", "a")
    with Registry(cluster.add("observer", observer=True)) as registry:
        cluster.run(5)
        assert addresses(registry) == ["a"]
        with pytest.raises(ObserverError):
            registry.register("web", "b")
    assert not cluster.errors


@pytest.mark.parametrize("value", [1, [], ["a", 1], ["a", 1, 1], ["a", 1, True, 2], None])
def test_what_is_no_registration_is_ignored(cluster: Cluster, value: Any) -> None:
    registries = [Registry(node) for node in cluster.nodes]
    cluster[0].update("service:services/web", value)
    registries[1].register("web", "b")
    cluster.run(3)
    assert addresses(registries[2], healthy=False) == ["b"]


def test_arguments_are_checked(cluster: Cluster) -> None:
    registry = Registry(cluster[0])
    with pytest.raises(TypeError, match="service must be a string"):
        registry.register(1, "a")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="service must be a string, got None"):
        registry.lookup(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="check must be callable"):
        registry.register("web", "a", check=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"ttl must be from 0.001 to 315360000 seconds, got 0"):
        registry.register("web", "a", ttl=0)
    with pytest.raises(TypeError, match="service must be a string"):
        registry.watch(1, print)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="handler must be callable"):
        registry.watch("web", 1)  # type: ignore[call-overload]
    assert cluster.own(0) == {}


def test_a_check_runs_on_a_thread_that_ends_with_the_registration_and_by_nothing_else() -> None:
    threads: list[threading.Thread] = []
    enough = threading.Event()

    def check() -> bool:
        threads.append(threading.current_thread())
        if len(threads) == 2:
            raise SystemExit
        if len(threads) == 3:
            enough.set()
        return True

    with Gossipmonger({"id": "a", "transport": {"host": "127.0.0.1", "port": 0}}) as node:
        node.on("error", lambda error: None)
        with Registry(node) as registry, registry.register("web", "a", ttl=0.1, check=check):
            assert enough.wait(30)
            assert addresses(registry) == ["a"]
    assert threads[0] is threading.current_thread()
    assert all(thread.daemon for thread in threads[1:])
    assert threads[1] is threads[2]  # so the system need not have another one


@pytest.mark.parametrize("end", [lambda node, registration: node.close(), lambda node, registration: registration.close()])
def test_its_timer_ends_at_once_with_the_node_and_with_the_registration(end: Callable[..., None]) -> None:
    with Gossipmonger({"id": "a", "transport": {"host": "127.0.0.1", "port": 0}}) as node:
        registration = Registry(node).register("web", "a", ttl=86_400)
        timer = registration._timer
        assert isinstance(timer, threading.Thread)
        end(node, registration)
        timer.join(30)
        assert not timer.is_alive()
