"""What an agent, or an observer, can be asked: each question is answered with objects that JSON can carry.

| question | arguments | each answer |
|---|---|---|
| `members` | `state`: list; `where`: key -> value | `id`, `state`, `address`, `heard` (seconds), `phi`, `keys`, `local` |
| `get` | `key`, `peer` | `peer`, `key`, `value` |
| `set` | `key`, `value`, `ttl` (seconds) | `changed` |
| `delete` | `key` | `deleted` |
| `keys` | `prefix`, `peer` | `key`, `peers`; with `peer`: `key`, `value` |
| `values` | `key`, `all` | `peer`, `value` |
| `watch` | `prefix`, `peer`, `replay` | `time`, `kind`, `peer`, `key`, `value` |
| `wait` | `peers`, or `key`, `value`, `peer`; `timeout` (seconds) | `peers`, or `key` and `value` |
| `events` | `events`: list | a record of the journal |
| `info` | | what the node is and how it does |
| `leave` | | `left` |
| `forget` | `peer` | `forgotten` |
| `keyring` | `action`: "list", "add", "promote" or "remove"; `key` | `id`, `seals`, for each key |

Answers that never end, of `watch` and `events`, end when whoever asked has gone.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from gossipmonger import Gossipmonger
from gossipmonger.cli.journal import Journal, stamp
from gossipmonger.cli.outcome import ABSENT, UNREACHABLE, USAGE, CommandError
from gossipmonger.cli.output import value_text
from gossipmonger.errors import ClosedError, at, shown, words
from gossipmonger.state import values
from gossipmonger.state.arguments import nearest

__all__ = ["Answers", "Question"]

#: Seconds that `leave` waits for the node to be closed, which may wait five for a handler.
_LEAVE = 10.0

Question = Mapping[str, Any]

#: Seconds after which an answer that waits looks whether anybody still wants it.
_SLICE = 0.5

#: How many nodes' values the error of a timed-out wait lists.
_NAMED = 10

#: Records that may wait for whoever follows events. A reader that is slower than that is told so, and let go.
_MAX_WAITING = 10_000


class Answers:
    """Answers questions about one node. May be asked on several threads at once.

    Args:
        node: The node.
        journal: Its events.
        info: Returns what `info` answers besides what the node knows.
        end: Called when the node is to leave and end; None for an observer, which owns nothing and ends by itself.
    """

    def __init__(
        self,
        node: Gossipmonger,
        journal: Journal,
        info: Callable[[], Mapping[str, Any]],
        end: Callable[[], object] | None,
    ) -> None:
        self._node = node
        self._journal = journal
        self._info = info
        self._end = end
        self._questions: dict[str, Callable[[Question, Callable[[], bool]], Iterator[dict[str, Any]]]] = {
            "members": self._members, "get": self._get, "set": self._set, "delete": self._delete, "keys": self._keys,
            "values": self._values, "watch": self._watch, "wait": self._wait, "events": self._events,
            "info": self._tell_info, "leave": self._leave, "forget": self._forget,
        }  # fmt: skip

    def add(self, name: str, answer: Callable[[Question], Iterator[dict[str, Any]]]) -> None:
        """Let one more question be asked."""
        self._questions[name] = lambda question, _: answer(question)

    def answer(self, question: Question, gone: Callable[[], bool] = lambda: False) -> Iterator[dict[str, Any]]:
        """Yield the answers to a question.

        Args:
            question: `ask`, the question's name, and its arguments.
            gone: Whether nobody wants the answer any more.

        Raises:
            CommandError: There is none. Its code says why.
        """
        name = question.get("ask")
        if not isinstance(name, str) or name not in self._questions:
            close = nearest(name, self._questions)
            hint = f"; did you mean {close!r}?" if close else "; it may be of an older version"
            raise CommandError(f"this agent can't be asked {shown(name)}{hint}", USAGE)
        try:
            yield from self._questions[name](question, gone)
        except (TypeError, ValueError) as error:
            raise CommandError(words(error), USAGE) from None
        except TimeoutError as error:
            raise CommandError(words(error), UNREACHABLE) from None
        except ClosedError:
            raise CommandError("the agent left", UNREACHABLE) from None

    def _owner(self, what: str) -> Callable[[], object]:
        """Return what lets the agent end; refuse what only the agent that owns the keys can do."""
        if self._end is None:
            raise CommandError(f"{what} needs an agent: an observer (--seed) owns no keys and is no member", USAGE)
        return self._end

    # Looking

    def _members(self, question: Question, _: Callable[[], bool]) -> Iterator[dict[str, Any]]:
        states, where = question.get("state") or (), question.get("where") or {}
        local = self._node.local_peer.id
        for peer in sorted(self._node.peers().values(), key=lambda peer: peer.id):
            if states and peer.state not in states:
                continue
            if not all(key in peer.data and values.same(peer.data[key], value) for key, value in where.items()):
                continue
            yield {
                "id": peer.id,
                "state": peer.state,
                "address": at(peer.transport),
                "heard": None if peer.last_heard is None else round(peer.age, 3),
                "phi": round(min(peer.phi, 999.0), 2),
                "keys": len(peer.data),
                "local": peer.id == local,
            }

    def _get(self, question: Question, _: Callable[[], bool]) -> Iterator[dict[str, Any]]:
        key, peer = _text(question, "key"), _optional(question, "peer")
        if peer is None:
            if self._end is None:
                raise CommandError(f"say whose: --peer ID; or see all with `gossipmonger values {shown(key)}`", USAGE)
            peer = self._node.local_peer.id
        view = self._node.peer(peer)
        if view is None:
            raise CommandError(f"no peer {shown(peer)} is known; `gossipmonger members` lists those that are")
        if key not in view.data:
            raise CommandError(f"{shown(peer)} has no key {shown(key)}")
        yield {"peer": peer, "key": key, "value": view.data[key]}

    def _keys(self, question: Question, _: Callable[[], bool]) -> Iterator[dict[str, Any]]:
        prefix, peer = _optional(question, "prefix") or "", _optional(question, "peer")
        if peer is not None:
            view = self._node.peer(peer)
            if view is None:
                raise CommandError(f"no peer {shown(peer)} is known; `gossipmonger members` lists those that are")
            for key in sorted(view.data):
                if key.startswith(prefix):
                    yield {"key": key, "value": view.data[key]}
            return
        owners: dict[str, list[str]] = {}
        for each in self._node.peers().values():
            for key in each.data if each.state == "live" else ():
                if key.startswith(prefix):
                    owners.setdefault(key, []).append(each.id)
        for key in sorted(owners):
            yield {"key": key, "peers": owners[key]}

    def _values(self, question: Question, _: Callable[[], bool]) -> Iterator[dict[str, Any]]:
        for peer, value in self._node.values(_text(question, "key"), live=not question.get("all")).items():
            yield {"peer": peer, "value": value}

    def _tell_info(self, question: Question, _: Callable[[], bool]) -> Iterator[dict[str, Any]]:
        peers = self._node.peers()
        states = [peer.state for peer in peers.values()]
        own = peers.get(self._node.local_peer.id)  # an observer has none
        member = {} if own is None else {"id": own.id, "address": at(own.transport), "keys": len(own.data)}
        counts = {state: states.count(state) for state in ("live", "dead", "left")}
        yield {**member, "cluster": self._node.options.cluster, "peers": counts, **self._info()}

    # Following

    def _watch(self, question: Question, gone: Callable[[], bool]) -> Iterator[dict[str, Any]]:
        prefix, peer = _optional(question, "prefix") or "", _optional(question, "peer")
        watch = self._node.watch(prefix, peer=peer, replay=question.get("replay") is not False)
        try:
            while watch.active and not gone():
                change = watch.next(_SLICE)
                if change is not None:
                    told = {"time": stamp(), "kind": change.kind, "peer": change.peer_id, "key": change.key}
                    yield told if change.kind != "set" else {**told, "value": change.value}
            if self._node.closed:
                raise ClosedError
        finally:
            watch.cancel()

    def _events(self, question: Question, gone: Callable[[], bool]) -> Iterator[dict[str, Any]]:
        wanted = question.get("events") or None
        waiting: queue.Queue[dict[str, Any]] = queue.Queue(_MAX_WAITING)
        full = False

        def take(record: dict[str, Any]) -> None:
            nonlocal full
            try:
                if wanted is None or record["event"] in wanted:
                    waiting.put_nowait(record)
            except queue.Full:
                full = True

        end = self._journal.follow(take)
        try:
            while not (gone() or self._node.closed):
                try:
                    yield waiting.get(timeout=_SLICE)
                except queue.Empty:
                    if full:
                        raise CommandError("events came faster than they were read, and some were dropped") from None
            if self._node.closed:
                raise ClosedError
        finally:
            end()

    def _wait(self, question: Question, gone: Callable[[], bool]) -> Iterator[dict[str, Any]]:
        limit = question.get("timeout")

        def wait(look: Callable[[], Any], say: Callable[[], object]) -> Any:
            try:
                return self._node.wait_for(lambda: look() or gone(), limit)
            except TimeoutError:
                try:
                    instead = say()  # this checks once more, and its error says what was found instead
                except TimeoutError as error:
                    instead = words(error).split(": ", 2)[-1]
                found = look()
                if not found:
                    raise TimeoutError(f"not within {limit:g} s: {instead}") from None
                return found

        count = question.get("peers")
        if count is not None:
            if isinstance(count, bool) or not isinstance(count, int) or count < 1:
                raise ValueError(f"peers must be a number of at least 1, got {shown(count)}")

            def live() -> list[str]:
                found = self._node.live()
                return found if len(found) >= count else []

            found = wait(live, lambda: self._node.wait_for_peers(count, timeout=0))
            if not gone():
                yield {"peers": found}
            return
        key, peer = _text(question, "key"), _optional(question, "peer")
        wanted = {"value": question["value"]} if "value" in question else {}

        def held() -> dict[str, Any]:
            if peer is None:
                return self._node.values(key)
            view = self._node.peer(peer)
            return {peer: view.data[key]} if view is not None and key in view.data else {}

        def there() -> list[Any]:
            return [each for each in held().values() if not wanted or values.same(each, wanted["value"])]

        def instead() -> object:
            have = [f"{shown(id)} has {value_text(value)}" for id, value in [*held().items()][:_NAMED]]
            if wanted and have:
                return f"no {shown(key)} as {value_text(wanted['value'])}; {', '.join(have)}"
            return self._node.wait_for_key(key, peer, timeout=0)

        found = wait(there, instead)
        if not gone():
            yield {"key": key, "value": found[0]}

    # Changing

    def _set(self, question: Question, _: Callable[[], bool]) -> Iterator[dict[str, Any]]:
        self._owner("set")
        if "value" not in question:
            raise ValueError("value is missing")
        ttl = question.get("ttl")
        lasting = {} if ttl is None else {"ttl": ttl}
        yield {"changed": self._node.update(_text(question, "key"), question["value"], **lasting)}

    def _delete(self, question: Question, _: Callable[[], bool]) -> Iterator[dict[str, Any]]:
        self._owner("delete")
        yield {"deleted": self._node.delete(_text(question, "key"))}

    def _leave(self, question: Question, _: Callable[[], bool]) -> Iterator[dict[str, Any]]:
        self._owner("leave")()
        yield {"left": self._node.wait(_LEAVE)}

    def _forget(self, question: Question, _: Callable[[], bool]) -> Iterator[dict[str, Any]]:
        self._owner("forget")
        peer = _text(question, "peer")
        try:
            forgotten = self._node.forget(peer)
        except ValueError as error:  # it is live
            raise CommandError(words(error), ABSENT) from None
        yield {"forgotten": forgotten}


def _text(question: Question, name: str) -> str:
    value = question.get(name)
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, got {shown(value)}")
    return value


def _optional(question: Question, name: str) -> str | None:
    return None if question.get(name) is None else _text(question, name)
