"""Networks for clusters, each in network namespaces of its own, so that nothing else is counted or disturbed there.

`Loopback` is one host for all nodes of a cluster, whose loopback interface counts what they send. `Hosts` is a host for each
node, joined by a router, any of which can be lost: the router drops what it sends and what is sent to it, and tells nobody.

A namespace lives as long as a process in it, and its holder ends with the program that started it. So nothing is left behind.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

__all__ = ["Hosts", "Loopback", "Lossy", "Network", "NetworkError"]

#: The first port where the network is the cluster's own.
FIRST_PORT = 20_000

#: The router's address, on each of its interfaces.
ROUTER = "10.1.0.1"


class NetworkError(Exception):
    """Such a network can't be had here; the message says why."""


class Namespace:
    """A network namespace with a loopback interface alone.

    Attributes:
        pid: Of the process that holds it.
        prefix: What to put before a command so that it runs there.

    Raises:
        NetworkError: There can be none.
    """

    def __init__(self) -> None:
        try:
            self._holder = subprocess.Popen(
                ["unshare", "--net", "sh", "-c", "ip link set lo up && echo up && exec cat"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise NetworkError(f"no network of its own: {error.strerror}: unshare") from None
        self.pid = self._holder.pid
        self.prefix = ["nsenter", f"--net=/proc/{self.pid}/ns/net", "--"]
        assert self._holder.stdout is not None
        said = self._holder.stdout.readline().strip()
        if said != "up":
            self.close()
            raise NetworkError(f"no network of its own: {said or 'no namespaces here'}")

    def ip(self, *commands: str) -> None:
        """Run commands of `ip` there."""
        batch = "".join(f"{command}\n" for command in commands)
        done = subprocess.run([*self.prefix, "ip", "-batch", "-"], input=batch, capture_output=True, text=True)
        if done.returncode:
            raise NetworkError(f"ip: {(done.stderr or done.stdout).strip().splitlines()[0]}")

    def close(self) -> None:
        """End what holds it; idempotent."""
        for stream in (self._holder.stdin, self._holder.stdout):
            if stream is not None:
                stream.close()
        self._holder.kill()
        self._holder.wait()


class Network:
    """What both have in common; nodes are called by their numbers.

    Attributes:
        reason: Why nothing is counted there; empty if it is.
    """

    reason = ""

    def prefix(self, number: int) -> list[str]:
        """Return what to put before the command of a node."""
        raise NotImplementedError

    def address(self, number: int) -> tuple[str, int]:
        """Return the host and the port of a node; the port above is free too."""
        raise NotImplementedError

    def counters(self) -> tuple[int, int] | None:
        """Return the bytes and packets that were sent, headers of IP and TCP or UDP included; None if nobody counts them."""
        return None

    def lose(self, number: int) -> None:
        """Drop all packets to and from a node's host, from now on."""
        raise NetworkError("nodes have no hosts of their own")

    def close(self) -> None:
        """End it; idempotent."""


class Loopback(Network):
    """One host for all nodes. Where there can be no namespace, the machine's own, on which nothing is counted."""

    def __init__(self) -> None:
        self._namespace: Namespace | None = None
        self._ports: list[int] = []
        try:
            self._namespace = Namespace()
        except NetworkError as error:
            self.reason = str(error)
        self._free = (port for port in range(FIRST_PORT, 65_535, 2) if self._namespace or _is_free(port))

    def prefix(self, number: int) -> list[str]:
        return self._namespace.prefix if self._namespace else []

    def address(self, number: int) -> tuple[str, int]:
        self._ports += islice(self._free, max(0, number + 1 - len(self._ports)))
        return "127.0.0.1", self._ports[number]

    def counters(self) -> tuple[int, int] | None:
        if self._namespace is None:
            return None
        numbers = Path(f"/proc/{self._namespace.pid}/net/dev").read_text().partition(" lo:")[2].split()
        return int(numbers[8]), int(numbers[9])

    def close(self) -> None:
        if self._namespace is not None:
            self._namespace.close()


class Hosts(Network):
    """A host for each node, and a router. Nothing is counted.

    Args:
        count: How many hosts.

    Raises:
        NetworkError: There can be none.
    """

    def __init__(self, count: int) -> None:
        self._router, self._hosts = Namespace(), []  # type: tuple[Namespace, list[Namespace]]
        try:
            forward = "echo 1 > /proc/sys/net/ipv4/ip_forward"
            if subprocess.run([*self._router.prefix, "sh", "-c", forward], capture_output=True).returncode:
                raise NetworkError("a namespace may not forward packets")
            for number in range(count):
                self._add(number)
        except BaseException:
            self.close()
            raise

    def _add(self, number: int) -> None:
        host = Namespace()
        self._hosts.append(host)
        self._router.ip(
            f"link add v{number} type veth peer name eth0 netns {host.pid}",
            f"addr add {ROUTER}/32 dev v{number}",
            f"link set v{number} up",
            f"route add {self.address(number)[0]}/32 dev v{number}",
        )
        host.ip(
            f"addr add {self.address(number)[0]}/32 dev eth0",
            "link set eth0 up",
            f"route add {ROUTER}/32 dev eth0",
            f"route add default via {ROUTER} dev eth0",
        )

    def prefix(self, number: int) -> list[str]:
        return self._hosts[number].prefix

    def address(self, number: int) -> tuple[str, int]:
        return f"10.0.{number + 1 >> 8}.{number + 1 & 255}", FIRST_PORT

    def lose(self, number: int) -> None:
        # Without the first, the router would tell senders that the host is gone.
        self._router.ip(f"route replace blackhole {self.address(number)[0]}/32", f"link set v{number} down")

    def close(self) -> None:
        for namespace in (self._router, *self._hosts):
            namespace.close()


class Lossy(Network):
    """A host for each node, and a router that loses packets and is slow: see `benchmarks.router`.

    Args:
        count: How many hosts.
        loss: The share of packets that are lost.
        delay: Milliseconds that a packet takes.
        jitter: Milliseconds by which that is more or less.

    Raises:
        NetworkError: There can be none.
    """

    def __init__(self, count: int, loss: float, delay: float, jitter: float) -> None:
        self._router = Namespace()
        self._hosts: list[Namespace] = []
        self._program: subprocess.Popen[str] | None = None
        try:
            self._hosts += [Namespace() for _ in range(count)]
            config = {"hosts": [host.pid for host in self._hosts], "loss": loss, "delay": delay, "jitter": jitter}
            command = [*self._router.prefix, sys.executable, "-m", "benchmarks.router", json.dumps(config)]
            self._program = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            if self._hear() != "ready":
                raise NetworkError("no router: there may be no /dev/net/tun")
            for number, host in enumerate(self._hosts):
                host.ip(f"addr add {self.address(number)[0]}/8 dev tun0", "link set tun0 up")
        except BaseException:
            self.close()
            raise

    def _hear(self) -> str:
        assert self._program is not None
        assert self._program.stdout is not None
        return self._program.stdout.readline().strip()

    def prefix(self, number: int) -> list[str]:
        return self._hosts[number].prefix

    def address(self, number: int) -> tuple[str, int]:
        return f"10.0.{number + 1 >> 8}.{number + 1 & 255}", FIRST_PORT

    def counters(self) -> tuple[int, int] | None:
        return self.change()

    def change(self, **settings: Any) -> tuple[int, int]:
        """Change `loss`, `delay`, `jitter`, or `blocked`, pairs of hosts of which the first cannot reach the second."""
        assert self._program is not None
        assert self._program.stdin is not None
        self._program.stdin.write(json.dumps(settings) + "\n")
        self._program.stdin.flush()
        sent, packets = json.loads(self._hear())
        return sent, packets

    def move(self, number: int) -> str:
        """Give a host another address, and return it."""
        moved = self.address(number)[0].replace("10.0.", "10.1.", 1)
        self._hosts[number].ip("addr flush dev tun0", f"addr add {moved}/8 dev tun0")
        return moved

    def close(self) -> None:
        if self._program is not None:
            self._program.kill()
            self._program.communicate()
        for namespace in (self._router, *self._hosts):
            namespace.close()


def _is_free(port: int) -> bool:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        for number in (port, port + 1):
            with socket.socket(type=kind) as probe:
                try:
                    probe.bind(("127.0.0.1", number))
                except OSError:
                    return False
    return True
