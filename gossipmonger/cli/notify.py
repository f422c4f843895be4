"""What an agent tells systemd: that it is ready, reloads, and stops (`Type=notify` and `Type=notify-reload`)."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping

__all__ = ["Notifier"]


class Notifier:
    """Tells systemd, if it has asked to be told by `NOTIFY_SOCKET`; otherwise nobody. Nothing here raises or waits.

    Args:
        environ: The environment.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._path = environ.get("NOTIFY_SOCKET", "")

    def ready(self, status: str) -> None:
        """Tell that the agent serves, after its start or after a reload."""
        self._send(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """Tell that a reload begins. systemd wants to know when, by the clock that it compares."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Tell that the agent is about to end."""
        self._send("STOPPING=1")

    def _send(self, text: str) -> None:
        if not self._path.startswith(("/", "@")):
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
                to.setblocking(False)
                to.sendto(text.encode(), "\0" + self._path[1:] if self._path[0] == "@" else self._path)
        except (OSError, AttributeError):
            pass  # a manager that does not listen is no reason to stop
