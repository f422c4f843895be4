"""Keepalive: how the system finds out that a host has vanished at the other end of a connection that only waits."""

from __future__ import annotations

import socket

__all__ = ["keep_alive"]

#: Seconds without a byte before the first probe, seconds between two, and how many go without an answer: two minutes in all.
_OPTIONS = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}


def keep_alive(connected: socket.socket) -> None:
    """Have the system end a connection whose other end does not answer any more.

    Raises:
        OSError: It cannot.
    """
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _OPTIONS.items():
        if hasattr(socket, name):  # where not, its own times hold, which are hours
            connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
