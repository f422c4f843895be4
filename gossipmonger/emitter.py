"""An emitter whose events wait for their turn: they are posted as they happen, and delivered to handlers off every lock.

What a handler raises becomes an `error` event. An error for which there is no handler goes to `threading.excepthook`, or to the
caller if its call is what failed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyee.base import EventEmitter

from gossipmonger import values
from gossipmonger.delivery import Delivery
from gossipmonger.entry import as_dicts
from gossipmonger.errors import report
from gossipmonger.output import Event, Output

__all__ = ["Emitter"]

#: Events that carry what the transport handed over, or is to have: worth a copy only if someone listens.
_INTERNAL = frozenset({"digest receive", "digest send", "deltas receive", "deltas send"})


class Emitter(EventEmitter):
    """An `EventEmitter` that delivers what its subclass posts.

    Args:
        executor: Runs handlers; None for a thread of its own. See `Delivery`.
    """

    def __init__(self, executor: Any = None) -> None:
        super().__init__()
        self._delivery = Delivery(self._deliver, executor)
        self._delivered_name = ""

    def _post(self, output: Output) -> None:
        """Queue those events that have handlers, in their order. Nothing runs before `_delivery.kick`."""
        heard = {"error", *self.event_names()}
        for event in [item for item in output if type(item) is Event and item[0] in heard]:
            if event.name in _INTERNAL:
                remote_peer, carried = event.args
                carried = as_dicts(carried) if event.name.startswith("digest") else carried
                event = Event(event.name, (remote_peer, values.copied(carried)))
            self._delivery.post(event)

    def _deliver(self, event: Event) -> None:
        self._delivered_name = event.name
        if event.name == "error" and not self.listeners("error"):
            report(event.args[0])
        elif event.name == "update":
            id, key, value = event.args
            self.emit("update", id, key, values.copied(value))
        else:
            self.emit(event.name, *event.args)

    def _emit_run(self, f: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not self._delivery.delivering:
            super()._emit_run(f, args, kwargs)
            return
        try:
            super()._emit_run(f, args, kwargs)
        except BaseException as error:  # not even SystemExit ends the thread, or keeps the next handler from its event
            if self._delivered_name == "error" or not isinstance(error, Exception):
                report(error)
            else:
                self._failed(error)

    def _failed(self, error: Exception) -> None:
        """Deliver an error."""
        self._delivery.post(Event("error", (error,)))
        self._delivery.kick()

    def _raise(self, error: Exception) -> None:
        """Raise an error to the caller, unless there is a handler for it."""
        if not self.listeners("error"):
            raise error
        self._failed(error)
