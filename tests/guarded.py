"""Watches that the attributes a lock guards are only written while it is held."""

from __future__ import annotations

from typing import Any


def guarded(cls: type[Any], lock: str) -> type[Any]:
    """Return a subclass of `cls` whose attributes can only be set while its lock is held, once the constructor has returned."""

    class Guarded(cls):  # type: ignore[misc]
        def __init__(self, *args: Any, **keywords: Any) -> None:
            super().__init__(*args, **keywords)
            self.__dict__["made"] = True

        def __setattr__(self, name: str, value: object) -> None:
            assert "made" not in self.__dict__ or getattr(self, lock).locked(), f"{name} is set without {lock}"
            super().__setattr__(name, value)

    return Guarded
