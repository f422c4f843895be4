"""Traffic: each message counts once, by its kind, and what a link has sent stays counted when the link has ended."""

from __future__ import annotations

from typing import Any

import pytest

from gossipmonger.state import Delta, Digest, Kind, Message, RemotePeer
from gossipmonger.transport import KINDS, Count, Traffic

PEER = RemotePeer("b", {"host": "there", "port": 1})


@pytest.mark.parametrize("kind", list(Kind))
def test_a_message_counts_as_what_its_digest_is(kind: Kind) -> None:
    count = Count()
    count.note(Message(PEER, None, Digest(kind, None, [])), 10)
    assert count.kinds == {**dict.fromkeys(KINDS, 0), kind.value: 1}
    assert (count.bytes, count.deltas) == (10, 0)


def test_a_message_without_a_digest_is_one_of_deltas() -> None:
    count = Count()
    count.note(Message(PEER, [Delta("b", "k", 1, 2), Delta("b", "l", 1, 3)]), 10)
    assert count.kinds["deltas"] == 1
    assert count.deltas == 2


def test_bytes_and_greetings_are_no_messages_of_gossip() -> None:
    count = Count()
    count.note(None, 3)
    count.greet(7)
    assert count.kinds == {**dict.fromkeys(KINDS, 0), "hello": 1}
    assert count.bytes == 10


def test_a_part_that_ends_is_still_counted_and_once() -> None:
    parts: list[Count] = [Count(), Count()]
    traffic = Traffic("tcp", parts=lambda: parts)
    message: Any = Message(PEER, None, Digest(Kind.ROUND, None, []))
    for part in (*parts, traffic.sent):
        part.note(message, 5)
    for _ in range(3):
        sent = traffic.read()["sent"]
        assert (sent.kinds["round"], sent.bytes) == (3, 15)
        if parts:
            traffic.end(parts[0], lambda: parts.pop(0))
    assert traffic.sent.bytes == 15
