"""Reading again: most of what a message says has been said before, in the same words.

In a cluster at rest, a digest differs from the one before it in a few numbers. Its entries are texts, and a text that has been
read and checked once means the same the next time; so each is looked up, and only what is new is parsed. That is what makes
long digests cheap without a faster parser, and Node nodes' the cheapest: these have no heartbeats, so that a digest of which
nothing has been written since is the same text as a whole, and is looked up as one.

What is taken apart here is taken apart at places that are only guessed to be what they seem: at `},{`, at `"sender":`. The
guess need not be right. If every part by itself is valid JSON of its kind, then so is the message, and being unambiguous it
means just what its parts do; if one is not, the message is read as a whole, by `messages.decode`, which also finds the words
for what is wrong with it. So nothing is taken that a parser would refuse, nor understood otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

from gossipmonger.entry import Entry
from gossipmonger.errors import MessageError
from gossipmonger.peer import RemotePeer
from gossipmonger.roll import is_call
from gossipmonger.transport import messages
from gossipmonger.transport.checks import Message, check_deltas, check_list, checked_entry, checked_sender

__all__ = ["Reader"]

#: Characters that are remembered, of each kind of text, before the older ones are forgotten: at most twice as many are.
_ROOM = 1 << 20

#: Characters of a text that is worth remembering. An entry has some 120; a digest may be as long as one of a thousand.
_LONGEST, _LONGEST_DIGEST = 512, 1 << 17

#: Texts of one message that are learned, and one more of each so many that it has; of a longer one that begins with two new
#: ones, these two. If more are new it is faster to read it as a whole.
_LESSONS, _EVERY = 8, 16

_HEARTBEAT = ',"heartbeat":'

#: Whether a text is a heartbeat as JSON has it. Of sixteen digits not all are.
_is_number = re.compile("0|[1-9][0-9]{0,14}|[1-8][0-9]{15}").fullmatch

T = TypeVar("T")


class _Memory(Generic[T]):
    """What texts mean. It forgets those that have not been met for long. Safe to use on several threads at once.

    Args:
        longest: Characters of the longest text that it remembers.

    Attributes:
        recent: Text -> meaning, of those met lately.
    """

    def __init__(self, longest: int = _LONGEST) -> None:
        self._longest = longest
        self._used = 0  # characters of recent texts
        self.recent: dict[str, T] = {}
        self._older: dict[str, T] = {}

    def recall(self, text: str) -> T | None:
        """Return what a text means, None if it is not known."""
        found = self.recent.get(text)
        if found is None:
            found = self._older.get(text)
            if found is not None:
                self.keep(text, found)
        return found

    def keep(self, text: str, meaning: T) -> None:
        """Remember what a text means, unless it is long."""
        if len(text) <= self._longest:
            self._used += len(text)
            if self._used > _ROOM:
                self.recent, self._older, self._used = {}, self.recent, len(text)
            self.recent[text] = meaning


class Reader:
    """Returns the messages that bytes are, as `messages.decode` does, and the sooner the less of them is new.

    Args:
        reachable: As for `messages.decode`.
    """

    def __init__(self, reachable: Callable[[Any], bool]) -> None:
        self._reachable = reachable
        self._senders: _Memory[RemotePeer] = _Memory()
        self._entries: _Memory[Entry] = _Memory()  # by their texts without braces, and without a roll and a heartbeat
        self._digests: _Memory[list[Entry]] = _Memory(_LONGEST_DIGEST)  # of which nothing was new when they were read

    def read(self, data: bytes | bytearray, source: object = None) -> Message:
        """Return the message that these bytes are.

        Raises:
            MessageError: They are none; see `messages.decode`.
        """
        try:
            return self._read(data.decode())
        except (ValueError, MessageError, RecursionError):  # of another form, or wrong
            return messages.decode(data, source, self._reachable)

    def _read(self, text: str) -> Message:
        before, _, sender = text.rpartition(',"sender":')
        deltas, begins, digest = before.rpartition('"digest":[{')
        if not begins or not digest.endswith("}]"):
            raise ValueError("no digest that is known to begin or to end")
        entries = self._digest(digest[:-2])  # first, since it may say that all is to be read as a whole
        told = None
        if deltas != "{":
            if not deltas.startswith('{"deltas":') or not deltas.endswith(","):
                raise ValueError("something else before the digest")
            told = messages.parse(deltas[10:-1])
            check_list(told, "deltas", None)
            check_deltas(told, None)
        return Message(self._sender(sender), told, entries)

    def _sender(self, text: str) -> RemotePeer:
        """Return what the end of a message, from the sender's opening brace on, says of the sender."""
        sender = self._senders.recall(text)
        if sender is None:
            stripped = text.rstrip(messages.SPACE)
            if not stripped.endswith("}"):
                raise ValueError("something else behind the sender")
            parsed = messages.parse(stripped[:-1])
            if type(parsed) is not dict:
                raise ValueError("no sender")
            sender = checked_sender(parsed.get("id"), parsed.get("transport"), None, self._reachable)
            self._senders.keep(text, sender)
        return sender

    def _digest(self, text: str) -> list[Entry]:
        if _HEARTBEAT in text.partition("},{")[0]:
            if messages.fast is not None:
                raise ValueError("as most of these texts are new, a faster parser is faster still")
        else:  # where there are heartbeats, no digest is the one before it
            entries = self._digests.recall(text)
            if entries is not None:
                return entries[:]
        texts = text.split("},{")
        known = self._entries.recent.get
        found = list(map(known, texts))
        if all(found):
            entries = cast("list[Entry]", found)
            self._digests.keep(text, entries)
            return entries[:]
        entries, lessons = [], _LESSONS + len(texts) // _EVERY
        if len(texts) > _LESSONS and self._is_new(texts[0]) and self._is_new(texts[1]):
            lessons = 2
        for text, entry in zip(texts, found, strict=True):
            if entry is None:
                stem, _, digits = text.rpartition(_HEARTBEAT)
                same = known(stem)
                if same is not None and type(same) is Entry and _is_number(digits):  # as most, so without being learned
                    entry = _at(same, int(digits))
                else:
                    entry = self._entry(text)
                    lessons -= 1
                    if not lessons:
                        raise ValueError("too much that is new")
            entries.append(entry)
        return entries

    def _is_new(self, text: str) -> bool:
        recent = self._entries.recent
        return text not in recent and text.rpartition(_HEARTBEAT)[0] not in recent

    def _entry(self, text: str) -> Entry:
        entry = self._entries.recall(text)
        if entry is not None:
            return entry
        stem, heartbeat, roll = text, -1, None
        before, counts, digits = text.rpartition(_HEARTBEAT)
        if counts and _is_number(digits):
            stem, heartbeat = before, int(digits)
        before, calls, call = stem.rpartition(',"roll":"')
        if calls and call.endswith('"'):
            stem, roll = before, call[:-1]
        entry = self._entries.recall(stem)
        if entry is None:
            entry = checked_entry(messages.parse(f"{{{stem}}}"), 0, None, self._reachable)
            self._entries.keep(stem, entry)
        if roll is not None and not is_call(roll):
            raise ValueError("no roll")
        if heartbeat < 0 and roll is None:
            return entry
        if roll is None and type(entry) is Entry:
            return _at(entry, heartbeat)
        return entry.marked(roll=roll, heartbeat=heartbeat)


def _at(entry: Entry, heartbeat: int) -> Entry:
    """Return a copy at another heartbeat."""
    return Entry(entry.id, entry.version, entry.address, heartbeat, entry.floor, entry.heard, entry.left)
