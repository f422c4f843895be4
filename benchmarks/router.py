"""A router that loses packets and is slow, for `benchmarks.network.Lossy`: the kernel's own means for that are not everywhere.

It is started with one argument, a JSON object: `hosts` (a process in each host's network namespace), `loss` (a share of
packets), `delay` and `jitter` (milliseconds; a packet takes `delay` give or take `jitter`, so packets overtake each other),
and maybe `blocked` (pairs of hosts, of which the first cannot reach the second). Each host gets an interface `tun0`, whose
other end is here. Each line on stdin is a JSON object too: what it names is so from now on. For each it says how many bytes and
packets hosts have sent, as a JSON list; it ends with stdin.
"""

from __future__ import annotations

import fcntl
import heapq
import json
import os
import random
import select
import struct
import subprocess
import sys
import time
from typing import Any

#: ioctl TUNSETIFF, and its flags IFF_TUN | IFF_NO_PI.
_SET, _FLAGS = 0x400454CA, 0x1001

#: Packets that are read from one host in a row.
_TURN = 64


def interface(number: int, pid: int) -> int:
    """Return the near end of a host's interface."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    name = f"tun-{number}"
    fcntl.ioctl(descriptor, _SET, struct.pack("16sH", name.encode(), _FLAGS))
    subprocess.run(["ip", "link", "set", name, "netns", str(pid), "name", "tun0"], check=True)
    return descriptor


def destination(packet: bytes) -> int:
    """Return the number of the host that an IPv4 packet is for, -1 for none: n has 10.z.x.y, with x * 256 + y = n + 1."""
    return (packet[18] << 8 | packet[19]) - 1 if packet[0] >> 4 == 4 and packet[16] == 10 else -1


def main(config: dict[str, Any]) -> None:
    descriptors = [interface(number, pid) for number, pid in enumerate(config["hosts"])]
    numbers = {descriptor: number for number, descriptor in enumerate(descriptors)}
    blocked = {tuple(pair) for pair in config.get("blocked", ())}
    print("ready", flush=True)
    poll = select.poll()
    for descriptor in [0, *descriptors]:
        poll.register(descriptor, select.POLLIN)
    due: list[tuple[float, int, int, bytes]] = []
    sent = packets = 0
    while True:
        now = time.monotonic()
        while due and due[0][0] <= now:
            _, _, to, packet = heapq.heappop(due)
            try:
                os.write(to, packet)
            except OSError:  # its queue is full, as a router's may be
                pass
        for descriptor, _ in poll.poll(max(0.0, due[0][0] - now) * 1000 if due else None):
            if descriptor == 0:
                line = sys.stdin.readline()
                if not line:
                    return
                config.update(json.loads(line))
                blocked = {tuple(pair) for pair in config.get("blocked", ())}
                print(json.dumps([sent, packets]), flush=True)
                continue
            for _ in range(_TURN):
                try:
                    packet = os.read(descriptor, 65_536)
                except OSError:
                    break
                number = destination(packet)
                if not 0 <= number < len(descriptors):
                    continue
                sent += len(packet)
                packets += 1
                if random.random() >= config["loss"] and (numbers[descriptor], number) not in blocked:
                    late = config["delay"] + random.uniform(-config["jitter"], config["jitter"])
                    at = time.monotonic() + late / 1000
                    heapq.heappush(due, (at, packets, descriptors[number], packet))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
