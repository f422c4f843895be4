"""Views: copies of a peer at one moment."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable

import pytest

from gossipmonger import Peer
from gossipmonger.endpoint.views import PeerView, snapshot
from gossipmonger.state.values import TOMBSTONE


def test_a_view_tells_what_a_peer_was_when_the_snapshot_was_taken() -> None:
    peer = Peer("b", data={"k": [1, 5]}, transport={"host": "there"}, last_time=1_000)
    view = snapshot(peer, 0.5, 3_500)
    peer.update_with_delta("k", 2, 6)
    peer.mark_dead()
    peer.transport, peer.last_time = None, 4_000
    assert view() == PeerView("b", {"host": "there"}, "live", 0.5, {"k": 1}, 2.5, {"k": 5}, 1_000)


def test_a_view_of_a_peer_that_was_never_heard_of_is_infinitely_old() -> None:
    view = snapshot(Peer("b"), 0, 3_500)()
    assert (view.age, view.last_heard) == (math.inf, None)


def test_a_view_of_the_local_peer_is_of_now() -> None:
    view = snapshot(Peer("a", last_time=1_000), 0, 3_500, {})()
    assert (view.age, view.last_heard) == (0.0, 3_500)


def test_a_view_is_a_copy_and_its_data_read_only() -> None:
    transport, value = {"host": "there"}, [1]
    view = snapshot(Peer("b", data={"k": [value, 5]}, transport=transport), 0, 0)()
    view.data["k"].append(2)
    view.transport["host"] = "elsewhere"
    assert (transport, value) == ({"host": "there"}, [1])
    for mapping in (view.data, view.versions):
        with pytest.raises(TypeError):
            mapping["k"] = 3  # type: ignore[index]


def test_what_waits_takes_precedence_and_what_is_deleted_is_not_shown() -> None:
    peer = Peer("a", data={"k": [1, 5], "l": [1, 6], "m": [1, 7], "o": [1, 8]}, transport="here")
    peer.delete_local("m")
    view = snapshot(peer, 0, 0, {"k": 2, "l": TOMBSTONE, "n": 3})()
    assert (view.transport, view.data) == ("here", {"k": 2, "o": 1, "n": 3})
    assert view.versions == {"o": 8}


def test_a_view_of_many_keys_is_short_in_a_repl() -> None:
    view = snapshot(Peer("b", data={f"k{n}": ["v" * 1_000, n] for n in range(10_000)}, transport="there"), 1 / 3, 0)()
    assert repr(view) == "PeerView('b' at 'there', live, phi 0.333, 10000 keys: 'k0', 'k1', 'k2', ...)"
    assert repr(snapshot(Peer("b", transport={"host": "h", "port": 1}), 0, 0)()) == "PeerView('b' at h:1, live, phi 0, 0 keys)"
    assert len(repr(snapshot(Peer("b" * 10**6, data={"k" * 10**6: [1, 1]}, transport="t" * 10**6), 0, 0)())) < 1_000


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda view: pickle.loads(pickle.dumps(view))])
def test_a_view_can_be_copied_and_sent_to_another_process(again: Callable[[PeerView], PeerView]) -> None:
    view = snapshot(Peer("b", data={"k": [1, 5]}, transport={"host": "there"}), 0, 0)()
    assert again(view) == view
    with pytest.raises(TypeError):
        again(view).data["k"] = 3  # type: ignore[index]
