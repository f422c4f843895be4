"""A registry of services: who offers what, where, and whether it is healthy.

    registry = Registry(node)
    registry.register("mail", "10.0.0.7:25", check=lambda: smtplib.SMTP("10.0.0.7").noop()[0] == 250)

    for instance in registry.lookup("mail"):   # at any node: those that are live and healthy
        print(instance.peer_id, instance.address)

A registered service is a key of its node for a ttl, `service:NAME/SERVICE`, which holds `[address, meta, healthy]`. It is
renewed in every third of its ttl, after its check.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple, overload

from gossipmonger import Change, ClosedError, Gossipmonger, Watch
from gossipmonger.recipes._recipe import Recipe, check_function, check_string, seconds

__all__ = ["Instance", "Registration", "Registry"]


class Instance(NamedTuple):
    """A service at one node.

    Attributes:
        service: Its name.
        peer_id: The node that offers it.
        address: Where, as it was registered.
        meta: What else was registered; a copy.
        healthy: Whether it was healthy when that was checked last.
    """

    service: str
    peer_id: str
    address: Any
    meta: Any
    healthy: bool


_Handler = Callable[[list[Instance]], object]


class Registry(Recipe):
    """Registers services of this node, and looks up those of all nodes.

    * A node that dies or leaves takes its services with it: within about three seconds for a killed process, else as soon as
      the failure detector tells.
    * A service whose check fails, by returning something false or by raising, is unhealthy and not looked up.
    * A service whose check hangs is not renewed, and is gone when its ttl has passed. So is one whose program hangs as a whole.

    Limits:

    * A node offers a service at one address; several processes have several nodes.
    * What is looked up is what this node has heard, so an instance may have died a moment ago: try another one then.

    Args:
        node: The node, started or not.
        name: Which registry; nodes share it if they call it the same. A node has one of each name.

    Raises:
        ClosedError: The node has been closed.
        TypeError, ValueError: An argument is of the wrong type, or the name is in use at this node.
    """

    def __init__(self, node: Gossipmonger, name: str = "services") -> None:
        super().__init__(node, "service", name)
        self._registered: dict[str, Registration] = {}

    def register(
        self,
        service: str,
        address: Any,
        meta: Any = None,
        *,
        ttl: float | timedelta = 15.0,
        check: Callable[[], object] | None = None,
    ) -> Registration:
        """Offer a service, in place of what this node has registered under the same name.

        Args:
            service: Its name.
            address: Where to reach it, a JSON value such as "10.0.0.7:25".
            meta: What else others may want to know, a JSON value.
            ttl: Seconds, or a `timedelta`, after which it is gone unless it is renewed, as it is three times meanwhile.
            check: Whether it is healthy. It is called here, and then before each renewal, on a timer's thread; with a timeout
                of its own, if it asks something that may hang. None if it is always healthy, or if you say so by
                `Registration.healthy`.

        Raises:
            ClosedError: This or the node has been closed.
            TypeError, ValueError: An argument is of the wrong type or out of range, or JSON has no form for it.
        """
        self._check_open("register")
        check_string("service", service)
        if check is not None:
            check_function("check", check)
        registration = Registration(self, service, address, meta, seconds("ttl", ttl), check)
        registration._begin()
        former = self._registered.get(service)
        self._registered[service] = registration
        if former is not None:
            former._end()
            registration._publish()  # if the former one was renewed just now
        return registration

    def _let_go(self) -> None:
        for registration in [*self._registered.values()]:
            registration.close()

    def lookup(self, service: str, healthy: bool = True) -> list[Instance]:
        """Return the instances of a service at live nodes, this one included, in the order of their ids.

        Args:
            service: Its name.
            healthy: Whether only healthy ones count.

        Raises:
            TypeError: The service is not a string.
        """
        check_string("service", service)
        there = [_read(service, id, value) for id, value in sorted(self.node.values(self._key(service)).items())]
        return [each for each in there if each is not None and (each.healthy or not healthy)]

    @overload
    def watch(self, service: str) -> Callable[[_Handler], Watch]: ...
    @overload
    def watch(self, service: str, handler: _Handler) -> Watch: ...

    def watch(self, service: str, handler: Any = None) -> Any:
        """Call a handler with what `lookup` returns, now if there is anything, and whenever that has changed.

        Args:
            service: Its name.
            handler: It is called and ended as by `Gossipmonger.watch`. Without one, decorate a function with this.

        Returns:
            The watch; its `cancel` ends it.

        Raises:
            ClosedError: This or the node has been closed.
            RuntimeError: The system cannot start a thread.
            TypeError: The service is not a string, or the handler cannot be called.
        """
        check_string("service", service)
        return self._handle("watch", handler, partial(self._watch, service))

    def _watch(self, service: str, handler: Any) -> Watch:
        key = self._key(service)
        told: list[list[Instance]] = [[]]

        def changed(change: Change) -> object:
            if change.key != key:  # it only begins so
                return None
            found = self.lookup(service)
            if found == told[0]:
                return None
            told[0] = found
            return handler([*found])

        return self._follow(key, changed)

    def _key(self, service: str) -> str:
        return self._prefix + service


class Registration:
    """A service that this node offers, until `close`. It is a context manager.

    Attributes:
        service: Its name.
        error: What its check raised last time, if it did.
    """

    def __init__(
        self, registry: Registry, service: str, address: Any, meta: Any, ttl: float, check: Callable[[], object] | None
    ) -> None:
        self.service: str = service
        self.error: Exception | None = None
        self._registry = registry
        self._address = address
        self._meta = meta
        self._ttl = ttl
        self._check = check
        self._healthy = True
        self._ended = False
        self._timer: Any = None

    def __repr__(self) -> str:
        state = "ended" if self._ended or self._registry.node.closed else "healthy" if self._healthy else "unhealthy"
        return f"Registration({self.service!r} of {self._registry._id!r}, {state})"

    def __enter__(self) -> Registration:
        """Return it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    @property
    def healthy(self) -> bool:
        """Whether it is healthy. Set it, for a service without a check.

        Setting it raises ClosedError if the service is offered no more, RuntimeError if it has a check, which decides, and
        TypeError for anything but True and False.
        """
        return self._healthy

    @healthy.setter
    def healthy(self, healthy: bool) -> None:
        if not isinstance(healthy, bool):
            raise TypeError(f"healthy must be True or False, got {healthy!r}")
        if self._check is not None:
            raise RuntimeError(f"healthy: the check of {self.service!r} decides, so it can't be set")
        if self._ended:
            raise ClosedError(f"healthy: {self.service!r} is not offered any more by this registration")
        self._healthy = healthy
        self._publish()

    def close(self) -> None:
        """Offer the service no more. May be called again."""
        registry = self._registry
        self._end()
        if registry._registered.get(self.service) is self:
            del registry._registered[self.service]
            registry._withdraw(registry._key(self.service))

    def _begin(self) -> None:
        self._look()
        self._arm()  # first, since a call that interrupts another one of the node is refused there
        try:
            self._publish()
        except BaseException:
            self._end()
            raise

    def _end(self) -> None:
        self._ended = True
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        """Check the service. Any exception says that it is not healthy."""
        if self._check is None:
            return
        self.error = None
        try:
            self._healthy = bool(self._check())
        except Exception as error:
            self._healthy, self.error = False, error

    def _publish(self) -> None:
        """Write the key, with no lock held. If another thread has changed what it says meanwhile, write it again."""
        registry, told = self._registry, None
        while told is not self._healthy and not self._ended:
            told = self._healthy
            registry._put(registry._key(self.service), [self._address, self._meta, told], self._ttl)
        if self._ended and told is not None:
            current = registry._registered.get(self.service)
            if current is None or current is self:
                registry._withdraw(registry._key(self.service))
            else:
                current._publish()

    def _renew(self) -> None:
        try:
            try:
                if not self._registry.node.closed:
                    self._look()
                    self._publish()
            finally:
                if not isinstance(self._timer, _Timer):  # which repeats
                    self._arm()
        except ClosedError:  # the node has been closed meanwhile, and takes its keys with it
            self._ended = True

    def _arm(self) -> None:
        node = self._registry.node
        if node.closed:
            raise ClosedError("register: this endpoint has been closed")
        make = node.options.timer
        self._timer = (partial(_Timer, node) if make is threading.Timer else make)(self._ttl / 3, self._renew)
        self._timer.start()
        if self._ended:  # meanwhile
            self._timer.cancel()


class _Timer(threading.Thread):
    """A `threading.Timer` that ends with its node, and repeats, since the system might have no thread for the next one.

    It waits on a watch of a peer that does not exist, which therefore wakes it only when the watch ends.
    """

    def __init__(self, node: Gossipmonger, seconds: float, function: Callable[[], None]) -> None:
        super().__init__(name="gossipmonger-registry", daemon=True)  # a program need not wait for it
        self._watch = node.watch(peer="", replay=False)
        self._seconds = seconds
        self._function = function

    def run(self) -> None:
        """Wait and call, again and again."""
        while self._watch.next(self._seconds) is None and self._watch.active:
            try:
                self._function()
            except BaseException:  # not even SystemExit ends the renewals
                logging.getLogger("gossipmonger").exception("a registration was not renewed")

    def cancel(self) -> None:
        """End the wait, and call no more."""
        self._watch.cancel()


def _read(service: str, peer_id: str, value: Any) -> Instance | None:
    """Return the instance that a key holds; None if it is something else."""
    if type(value) is not list or len(value) != 3 or type(value[2]) is not bool:
        return None
    return Instance(service, peer_id, *value)
