from __future__ import annotations

import socket
from pathlib import Path

import pytest

from gossipmonger.cli.notify import Notifier


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told(tmp_path: Path, abstract: bool) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(10)
        manager.bind("\0" + path if abstract else path)
        notifier = Notifier({"NOTIFY_SOCKET": "@" + path if abstract else path})
        notifier.ready("a at b:1")
        notifier.reloading()
        notifier.stopping()
        assert manager.recv(100) == b"READY=1\nSTATUS=a at b:1"
        assert manager.recv(100).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        assert manager.recv(100) == b"STOPPING=1"


@pytest.mark.parametrize("path", [None, "", "relative", "/no/such/socket"])
def test_nobody_is_told_where_nobody_listens(path: str | None) -> None:
    notifier = Notifier({} if path is None else {"NOTIFY_SOCKET": path})
    notifier.ready("x")
    notifier.stopping()
    assert notifier._path == (path or "")
