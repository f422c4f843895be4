"""Events: their names, what their handlers are called with, and what is refused as a handler.

| event | the handler is called with |
|---|---|
| `update` | peer_id, key, value: a key of a peer was set |
| `delete` | peer_id, key: a key of a peer was deleted |
| `new peer`, `peer dead`, `peer live`, `peer left`, `peer forgotten` | the `RemotePeer` |
| `error` | the exception: something failed, and no caller could be told |
| `digest send`, `digest receive`, `deltas send`, `deltas receive` | the `RemotePeer`, and what was sent or received, as lists and dicts |
| `unknown peer` | peer_id: a delta came of a peer that is not known |
| `new_listener` | event, handler: pyee's own; called on the thread that calls `on` |
"""  # noqa: E501  # the table

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar, overload

from gossipmonger.errors import shown
from gossipmonger.process import Emitter
from gossipmonger.state import RemotePeer
from gossipmonger.state.arguments import nearest

__all__ = ["EVENTS", "Events", "check_handler", "is_async", "refuse_coroutine"]

#: All names.
EVENTS = (
    "update", "delete", "new peer", "peer dead", "peer live", "peer left", "peer forgotten", "error", "digest send",
    "digest receive", "deltas send", "deltas receive", "unknown peer", "new_listener",
)  # fmt: skip

if TYPE_CHECKING:
    _Life = Literal["new peer", "peer dead", "peer live", "peer left", "peer forgotten"]
    _Update = TypeVar("_Update", bound=Callable[[str, str, Any], object])
    _Delete = TypeVar("_Delete", bound=Callable[[str, str], object])
    _Peer = TypeVar("_Peer", bound=Callable[[RemotePeer], object])
    _Error = TypeVar("_Error", bound=Callable[[Exception], object])
    _Digest = TypeVar("_Digest", bound=Callable[[RemotePeer, list[dict[str, Any]]], object])
    _Deltas = TypeVar("_Deltas", bound=Callable[[RemotePeer, list[list[Any]]], object])
    _Unknown = TypeVar("_Unknown", bound=Callable[[str], object])
    _Listener = TypeVar("_Listener", bound=Callable[[str, Callable[..., Any]], object])


class Events(Emitter):
    """An emitter of the events in the table above, and of no others.

    A handler is an ordinary function. Nobody would await what an `async def` returns.
    """

    @overload  # type: ignore[override]  # pyee's takes any name
    def on(self, event: Literal["update"]) -> Callable[[_Update], _Update]: ...
    @overload
    def on(self, event: Literal["delete"]) -> Callable[[_Delete], _Delete]: ...
    @overload
    def on(self, event: _Life) -> Callable[[_Peer], _Peer]: ...
    @overload
    def on(self, event: Literal["error"]) -> Callable[[_Error], _Error]: ...
    @overload
    def on(self, event: Literal["digest send", "digest receive"]) -> Callable[[_Digest], _Digest]: ...
    @overload
    def on(self, event: Literal["deltas send", "deltas receive"]) -> Callable[[_Deltas], _Deltas]: ...
    @overload
    def on(self, event: Literal["unknown peer"]) -> Callable[[_Unknown], _Unknown]: ...
    @overload
    def on(self, event: Literal["new_listener"]) -> Callable[[_Listener], _Listener]: ...
    @overload
    def on(self, event: Literal["update"], f: _Update) -> _Update: ...
    @overload
    def on(self, event: Literal["delete"], f: _Delete) -> _Delete: ...
    @overload
    def on(self, event: _Life, f: _Peer) -> _Peer: ...
    @overload
    def on(self, event: Literal["error"], f: _Error) -> _Error: ...
    @overload
    def on(self, event: Literal["digest send", "digest receive"], f: _Digest) -> _Digest: ...
    @overload
    def on(self, event: Literal["deltas send", "deltas receive"], f: _Deltas) -> _Deltas: ...
    @overload
    def on(self, event: Literal["unknown peer"], f: _Unknown) -> _Unknown: ...
    @overload
    def on(self, event: Literal["new_listener"], f: _Listener) -> _Listener: ...

    def on(self, event: str, f: Any = None) -> Any:
        """Call `f` at each event of this name, or decorate a function with this to have it called.

        Returns:
            `f`, or the decorator.

        Raises:
            ValueError: There is no such event; the error names the nearest one.
            TypeError: `f` can't be called, or is an `async def`.
        """
        _check_name(event)
        return super().on(event) if f is None else super().on(event, f)

    @overload  # type: ignore[override]  # see `on`
    def once(self, event: Literal["update"]) -> Callable[[_Update], _Update]: ...
    @overload
    def once(self, event: Literal["delete"]) -> Callable[[_Delete], _Delete]: ...
    @overload
    def once(self, event: _Life) -> Callable[[_Peer], _Peer]: ...
    @overload
    def once(self, event: Literal["error"]) -> Callable[[_Error], _Error]: ...
    @overload
    def once(self, event: Literal["digest send", "digest receive"]) -> Callable[[_Digest], _Digest]: ...
    @overload
    def once(self, event: Literal["deltas send", "deltas receive"]) -> Callable[[_Deltas], _Deltas]: ...
    @overload
    def once(self, event: Literal["unknown peer"]) -> Callable[[_Unknown], _Unknown]: ...
    @overload
    def once(self, event: Literal["new_listener"]) -> Callable[[_Listener], _Listener]: ...
    @overload
    def once(self, event: Literal["update"], f: _Update) -> _Update: ...
    @overload
    def once(self, event: Literal["delete"], f: _Delete) -> _Delete: ...
    @overload
    def once(self, event: _Life, f: _Peer) -> _Peer: ...
    @overload
    def once(self, event: Literal["error"], f: _Error) -> _Error: ...
    @overload
    def once(self, event: Literal["digest send", "digest receive"], f: _Digest) -> _Digest: ...
    @overload
    def once(self, event: Literal["deltas send", "deltas receive"], f: _Deltas) -> _Deltas: ...
    @overload
    def once(self, event: Literal["unknown peer"], f: _Unknown) -> _Unknown: ...
    @overload
    def once(self, event: Literal["new_listener"], f: _Listener) -> _Listener: ...

    def once(self, event: str, f: Any = None) -> Any:
        """The same as `on`, but `f` is called once."""
        _check_name(event)
        return super().once(event, f)

    @overload  # type: ignore[override]  # see `on`
    def listens_to(self, event: Literal["update"]) -> Callable[[_Update], _Update]: ...
    @overload
    def listens_to(self, event: Literal["delete"]) -> Callable[[_Delete], _Delete]: ...
    @overload
    def listens_to(self, event: _Life) -> Callable[[_Peer], _Peer]: ...
    @overload
    def listens_to(self, event: Literal["error"]) -> Callable[[_Error], _Error]: ...
    @overload
    def listens_to(self, event: Literal["digest send", "digest receive"]) -> Callable[[_Digest], _Digest]: ...
    @overload
    def listens_to(self, event: Literal["deltas send", "deltas receive"]) -> Callable[[_Deltas], _Deltas]: ...
    @overload
    def listens_to(self, event: Literal["unknown peer"]) -> Callable[[_Unknown], _Unknown]: ...
    @overload
    def listens_to(self, event: Literal["new_listener"]) -> Callable[[_Listener], _Listener]: ...

    def listens_to(self, event: str) -> Any:
        """The same as `on` as a decorator."""
        _check_name(event)
        return super().listens_to(event)

    @overload  # type: ignore[override]  # see `on`
    def add_listener(self, event: Literal["update"], f: _Update) -> _Update: ...
    @overload
    def add_listener(self, event: Literal["delete"], f: _Delete) -> _Delete: ...
    @overload
    def add_listener(self, event: _Life, f: _Peer) -> _Peer: ...
    @overload
    def add_listener(self, event: Literal["error"], f: _Error) -> _Error: ...
    @overload
    def add_listener(self, event: Literal["digest send", "digest receive"], f: _Digest) -> _Digest: ...
    @overload
    def add_listener(self, event: Literal["deltas send", "deltas receive"], f: _Deltas) -> _Deltas: ...
    @overload
    def add_listener(self, event: Literal["unknown peer"], f: _Unknown) -> _Unknown: ...
    @overload
    def add_listener(self, event: Literal["new_listener"], f: _Listener) -> _Listener: ...

    def add_listener(self, event: str, f: Any) -> Any:
        """The same as `on` with a handler."""
        return super().add_listener(event, f)

    def __reduce__(self) -> NoReturn:
        # `copy` and `pickle` end here. pyee's `__getstate__` would let a copy share the original's locks and threads.
        raise TypeError(
            f"a {type(self).__name__} can't be copied, pickled or sent to another process: it has threads and sockets;"
            " create one in each process that needs one, with its own id"
        )

    def _add_event_handler(self, event: str, k: Any, v: Any) -> None:
        # All of pyee's ways to add one end here. `k` is the handler, and `v` is what is called, which may wrap it.
        _check_name(event)
        check_handler(event, k)
        super()._add_event_handler(event, k, v)


def _check_name(event: Any) -> None:
    if not isinstance(event, str):
        raise TypeError(f"event must be a name, got {shown(event)}")
    if event not in EVENTS:
        close = nearest(event, EVENTS)
        known = f"did you mean {close!r}?" if close else f"there are {', '.join(map(repr, EVENTS))}"
        raise ValueError(f"unknown event {shown(event)}; {known}")


def check_handler(event: str, handler: Any) -> None:
    """Raise an error unless this can be a handler.

    Raises:
        TypeError: It can't be called, or is an `async def`.
    """
    if not callable(handler):
        raise TypeError(f"a handler of {event!r} must be callable, got {shown(handler)}")
    if is_async(handler):
        _refuse_async(event, f"{shown(handler)} is an async function")


def is_async(function: Any) -> bool:
    """Return whether a call would return something to be awaited, so far as can be told before."""
    while isinstance(function, partial):
        function = function.func
    both = function, getattr(type(function), "__call__", None)  # noqa: B004  # the method is wanted
    return any(inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each) for each in both)


def refuse_coroutine(event: str, returned: Any) -> None:
    """Raise an error if a handler has returned something to be awaited, which nobody would do.

    Raises:
        TypeError: It has.
    """
    if inspect.iscoroutine(returned):
        returned.close()
        _refuse_async(event, "it has returned a coroutine")
    if inspect.isasyncgen(returned):
        _refuse_async(event, "it has returned an async generator")


def _refuse_async(event: str, what: str) -> NoReturn:
    raise TypeError(
        f"a handler of {event!r} must be an ordinary function, but {what}, which nobody would await: handlers are called on a"
        " thread without an event loop. Let a function hand it to your loop by asyncio.run_coroutine_threadsafe(coroutine,"
        " loop), or let it call loop.call_soon_threadsafe(function, ...)"
    )
