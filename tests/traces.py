"""Looks for what is left of somebody: every text that can be reached from an object, whatever holds it."""

from __future__ import annotations

import gc
from types import BuiltinFunctionType, FrameType, FunctionType, ModuleType
from typing import Any

#: What leads to everything that the process holds.
_ELSEWHERE = (type, ModuleType, FrameType)


def traces(root: object, text: str, stop: tuple[type, ...] = ()) -> list[str]:
    """Return where this text is held, each as the types of the objects that lead to it from the root.

    Args:
        root: Where to begin.
        text: What to look for, in strings and bytes.
        stop: Types of objects that are not looked into.
    """
    sought, found = text.encode(), []
    seen = {id(root)}
    waiting: list[tuple[Any, tuple[str, ...]]] = [(root, ())]
    while waiting:
        item, path = waiting.pop()
        if (isinstance(item, str) and text in item) or (isinstance(item, (bytes, bytearray)) and sought in item):
            found.append(f"{' > '.join(path)}: {item!r:.100}")
        for part in _parts(item):
            if id(part) not in seen and not isinstance(part, (*_ELSEWHERE, *stop)):
                seen.add(id(part))
                waiting.append((part, (*path, type(item).__name__)))
    return found


def _parts(item: Any) -> list[Any]:
    if isinstance(item, FunctionType):  # not its globals
        return [*(cell.cell_contents for cell in item.__closure__ or () if cell != type(cell)()), item.__defaults__]
    if isinstance(item, BuiltinFunctionType):
        return [item.__self__]
    fields = getattr(type(item), "__struct_fields__", ())  # of msgspec's structs, which the collector does not know
    return [*gc.get_referents(item), *(getattr(item, name) for name in fields)]
