"""Entries: what stands on the wire, and which are the same."""

from __future__ import annotations

from gossipmonger import Peer, RemotePeer
from gossipmonger.entry import Entry, as_dicts
from gossipmonger.transport import messages

THERE = {"host": "there", "port": 1}


def test_what_is_absent_does_not_stand_in_the_dict() -> None:
    assert Entry("a", 3, THERE).as_dict() == {"id": "a", "maxVersionSeen": 3, "transport": THERE}
    full = Entry("a", 3, THERE, 0, 2, 5, True).marked(reply=True, rumor=True, part=True, flow=[1.0, 2.0])
    more = {"heartbeat": 0, "reply": True, "rumor": True, "part": True, "flow": [1.0, 2.0]}
    assert full.as_dict() == {"id": "a", "maxVersionSeen": 3, "transport": THERE, "floor": 2, "heard": 5, "left": True, **more}


def test_entries_that_say_the_same_are_equal_whoever_made_them() -> None:
    entry = Entry("a", 3, THERE, 7)
    digest = messages.decode(messages.encode(RemotePeer("a", THERE), digest=[entry])).digest
    assert digest == [entry] == [Entry("a", 3, dict(THERE), 7)]
    assert entry not in (entry.marked(reply=True), Entry("a", 3, THERE), entry.as_dict())


def test_marks_are_a_copy_s() -> None:
    entry = Entry("a", 3, THERE)
    assert entry.marked(reply=True).marked(part=True) == entry.marked(reply=True, part=True)
    assert not entry.reply
    assert as_dicts([entry]) == [{"id": "a", "maxVersionSeen": 3, "transport": THERE}]


def test_a_peer_s_entry_is_made_anew_when_it_has_changed_and_not_before() -> None:
    peer = Peer("a", transport=THERE)
    entries = [peer.entry()]
    for change in (
        lambda: peer.hear(5, 1.0),
        lambda: peer.update_with_delta("k", 1, 9),
        lambda: peer.hear_of(12, 10, True),
        lambda: setattr(peer, "left", True),
        lambda: setattr(peer, "transport", {"host": "elsewhere", "port": 2}),
        lambda: peer.update_with_delta("k", 2, 12),
    ):
        change()
        assert peer.entry() is peer.entry()
        assert all(peer.entry() != entry for entry in entries)
        entries.append(peer.entry())
    peer.settle()
    assert peer.floor == 10
    assert peer.entry() is entries[-1]  # it said so already


def test_the_text_is_of_the_entry_and_not_of_the_one_before_it() -> None:
    peer = Peer("a", transport=THERE)
    for change in (lambda: peer.hear(5, 1.0), lambda: setattr(peer, "transport", {"host": "elsewhere", "port": 2})):
        messages.encode(peer.remote, digest=[peer.entry()])
        change()
        (entry,) = messages.decode(messages.encode(peer.remote, digest=[peer.entry()])).digest or []
        assert entry == peer.entry()
