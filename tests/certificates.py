"""Certificates for tests, made by the program that the documentation shows."""

from __future__ import annotations

import importlib.util
import itertools
import ssl
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

EXAMPLE = Path(__file__).parent.parent / "examples" / "tls" / "certificates.py"

#: The hosts of a node on loopback.
HOSTS = ("localhost", "127.0.0.1", "::1")


def load() -> ModuleType:
    """The program, which is in no package."""
    spec = importlib.util.spec_from_file_location("certificates", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["certificates"] = module
    spec.loader.exec_module(module)
    return module


class Certificates:
    """An authority, and contexts with certificates of it.

    Attributes:
        ca: The authority's certificate.
    """

    def __init__(self, directory: Path) -> None:
        self._authority = load().Authority(directory)
        self._count = itertools.count()
        self._issued: dict[Any, tuple[Path, Path]] = {}
        self.ca = directory / "ca.pem"

    def issue(self, id: str = "n", hosts: Sequence[str] = HOSTS, life: float = 3_600) -> tuple[Path, Path]:
        """A certificate and its key, for so many seconds from now, or until so many ago."""
        paths: tuple[Path, Path] = self._authority.issue(id, [*hosts], timedelta(seconds=life))
        number = next(self._count)
        first, second = (path.rename(path.with_name(f"{number}-{path.name}")) for path in paths)
        return first, second

    def server(self, id: str = "n", certificate: bool = True, ca: Path | None = None, **more: Any) -> ssl.SSLContext:
        """A context for connections that others dial."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(ca or self.ca))
        context.verify_mode = ssl.CERT_REQUIRED
        if certificate:
            context.load_cert_chain(*self._get(id, more))
        return context

    def client(self, id: str = "n", certificate: bool = True, ca: Path | None = None, **more: Any) -> ssl.SSLContext:
        """A context for connections that are dialled."""
        context = ssl.create_default_context(cafile=str(ca or self.ca))
        if certificate:
            context.load_cert_chain(*self._get(id, more))
        return context

    def both(self, id: str = "n", **more: Any) -> dict[str, Any]:
        """The options of a node."""
        return {"tls_server": self.server(id, **more), "tls_client": self.client(id, **more)}

    def _get(self, id: str, more: dict[str, Any]) -> tuple[Path, Path]:
        key = (id, tuple(sorted(more.items())))
        if key not in self._issued:
            self._issued[key] = self.issue(id, **more)
        return self._issued[key]
