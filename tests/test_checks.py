"""Checks: what a transport of one's own hands over is checked like what comes in bytes. (What is refused: `test_messages`.)"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from gossipmonger import MessageError, RemotePeer
from gossipmonger.transport import checks
from tests.test_messages import DELTA, ENTRY, A, deep, plain


def test_fatal_ids_are_all_names_that_a_plain_object_inherits() -> None:
    # Object.getOwnPropertyNames(Object.prototype) in Node
    inherited = "constructor hasOwnProperty isPrototypeOf propertyIsEnumerable toLocaleString toString valueOf __proto__"
    legacy = "__defineGetter__ __defineSetter__ __lookupGetter__ __lookupSetter__"
    assert set(inherited.split() + legacy.split()) == checks.FATAL_IDS


def test_a_sender_may_be_a_mapping_or_an_object() -> None:
    for sender in (SimpleNamespace(id="a", transport="there"), {"id": "a", "transport": "there"}, RemotePeer("a", "there")):
        heard = checks.validate(sender, [DELTA], [ENTRY])
        assert plain(heard) == [["a", "there"], [DELTA], [ENTRY]]
        assert type(heard.sender) is RemotePeer


def test_the_source_is_the_senders_id_where_none_is_given() -> None:
    with pytest.raises(MessageError, match=r"^message from a refused: digest is 5, no list") as caught:
        checks.validate(A, digest=5)
    assert caught.value.source == "a"


@pytest.mark.parametrize(
    "value", [object(), (1, 2), {1}, b"bytes", float("nan"), float("inf"), [float("nan")], {"k": (1,)}, 2**2048, deep(101)]
)
def test_values_that_no_json_parser_returns_are_refused(value: Any) -> None:
    with pytest.raises(MessageError, match=r"deltas\[0\]\[2\]"):
        checks.validate(A, [["b", "k", value, 5]])
