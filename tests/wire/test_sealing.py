"""Sealing: keys, what opens and what does not, and a ring that changes while it is used."""

from __future__ import annotations

import base64
import builtins
import os
import random
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossipmonger import Keyring, SealError
from gossipmonger.wire import OVERHEAD, sealing
from gossipmonger.wire.sealing import Key, derived

from ..forks import in_child

ONE, TWO, THREE = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2, 3))
RING = Keyring([ONE])

names = st.none() | st.text(min_size=1, max_size=255)
messages = st.binary(max_size=300)


# Messages


@given(st.sampled_from([16, 24, 32]), messages, names, st.binary(max_size=255))
def test_what_is_sealed_opens_for_those_who_have_the_key(size: int, data: bytes, cluster: Any, purpose: bytes) -> None:
    key = Keyring.generate(size)
    sealed = Keyring([key]).seal(data, cluster, purpose)
    assert len(sealed) == len(data) + OVERHEAD
    assert Keyring([ONE, key]).open(sealed, cluster, purpose) == data


@given(messages, st.data())
def test_any_flipped_bit_is_refused(data: bytes, draw: st.DataObject) -> None:
    sealed = bytearray(RING.seal(data, "prod"))
    bit = draw.draw(st.integers(0, 8 * len(sealed) - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(SealError):
        RING.open(bytes(sealed), "prod")


@given(messages, st.data())
def test_what_is_cut_short_or_longer_is_refused(data: bytes, draw: st.DataObject) -> None:
    sealed = RING.seal(data)
    for other in (sealed[: draw.draw(st.integers(0, len(sealed) - 1))], sealed + draw.draw(st.binary(min_size=1))):
        with pytest.raises(SealError):
            RING.open(other)


@given(names, names, st.binary(max_size=40), st.binary(max_size=40))
def test_it_opens_for_no_other_cluster_and_no_other_purpose(one: Any, two: Any, this: bytes, that: bytes) -> None:
    sealed = RING.seal(b"x", one, this)
    if (one, this) == (two, that):
        assert RING.open(sealed, two, that) == b"x"
    else:
        with pytest.raises(SealError):
            RING.open(sealed, two, that)


@given(st.binary(max_size=200))
def test_whatever_comes_raises_nothing_else(data: bytes) -> None:
    for each in (data, b"\4" + data, b"\4" + RING.first.id + data):
        with pytest.raises(SealError):
            RING.open(each)


def test_what_is_sealed_tells_its_length_and_the_key_s_id() -> None:
    sealed = {RING.seal(b"the same " * 9, "prod") for _ in range(1_000)}
    assert len({each[9:21] for each in sealed}) == 1_000  # no nonce twice
    assert len({each[21:] for each in sealed}) == 1_000
    assert {each[:5] for each in sealed} == {b"\4" + bytes.fromhex(RING.ids[0])}
    assert not any(b"same" in each or b"prod" in each for each in sealed)


def test_errors_say_what_is_wrong_and_where_it_came_from() -> None:
    other = Keyring([TWO])
    for data, words in [
        (b'{"digest":[]}', "the message is not sealed, and this node has a keyring"),
        (b"", "the message is not sealed, and this node has a keyring"),
        (RING.seal(b"")[:30], "the message is sealed and cut short"),
        (other.seal(b"x"), f"the message is sealed with the key {other.ids[0]}; this node has {RING.ids[0]}"),
        (
            RING.seal(b"x", "test"),
            f"the key {RING.ids[0]} does not open the message: it was altered, or sealed for another cluster or connection",
        ),
    ]:
        with pytest.raises(SealError) as raised:
            RING.open(data, "prod", source="10.0.0.1:4")
        assert str(raised.value) == f"message from 10.0.0.1:4 refused: {words}"
        assert raised.value.source == "10.0.0.1:4"


def test_a_message_with_another_key_costs_no_cryptography(monkeypatch: pytest.MonkeyPatch) -> None:
    sealed = Keyring([TWO]).seal(b"x" * 100_000)
    monkeypatch.setattr(RING, "cipher", None)  # to call it would be a TypeError
    with pytest.raises(SealError):
        RING.open(sealed)


def test_after_some_messages_another_salt_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "_BATCH", 10)
    ring = Keyring([ONE])
    salts = [ring.seal(b"x")[5:9] for _ in range(30)]
    assert max(salts.count(salt) for salt in salts) == 10
    assert len(set(salts)) == len([each for each, _ in groupby(salts)]) == 4
    ring.add(TWO)
    ring.promote(TWO)
    assert ring.seal(b"x")[5:9] not in salts


def test_ciphers_are_kept_of_what_has_opened_and_not_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "_MOST_OPENING", 10)
    ring = Keyring([ONE, TWO])
    for _ in range(25):
        sealed = Keyring([ONE]).seal(b"x")  # each with a salt of its own
        assert ring.open(sealed) == ring.open(sealed) == b"x"
        assert sealed[1:9] in ring._opening
    assert len(ring._opening) <= 10
    kept = dict(ring._opening)
    for _ in range(5):
        with pytest.raises(SealError):
            ring.open(Keyring([ONE]).seal(b"x", "another cluster"))
    assert ring._opening == kept
    ring.promote(TWO)
    ring.remove(ONE)
    assert ring._opening == {}


def test_threads_may_seal_and_open_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "_BATCH", 50)
    ring = Keyring([ONE])

    def work(thread: int) -> set[bytes]:
        sealed = {ring.seal(b"%d %d" % (thread, number)): b"%d %d" % (thread, number) for number in range(300)}
        assert all(ring.open(each) == plain for each, plain in sealed.items())
        return {each[5:21] for each in sealed}

    with ThreadPoolExecutor(8) as threads:
        used = list(threads.map(work, range(8)))
    assert len(set[bytes]().union(*used)) == 8 * 300


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows cannot fork")
def test_copies_of_a_process_seal_with_other_salts() -> None:
    assert in_child(lambda: RING.seal(b"x")) != in_child(lambda: RING.seal(b"x")) != repr(RING.seal(b"x"))


# Keys


def test_a_key_is_text_or_bytes_and_has_an_id_that_tells_nothing_of_it() -> None:
    for size in (16, 24, 32):
        text = Keyring.generate(size)
        raw = base64.b64decode(text)
        spaced, urlsafe = f" {text}\n", base64.urlsafe_b64encode(raw).decode()
        assert len({Keyring(key).ids for key in (text, raw, spaced, urlsafe, [text], [raw], iter([raw]))}) == 1
        assert Keyring(text).ids[0] not in raw.hex()
    assert Keyring.generate() != Keyring.generate()
    assert repr(Keyring([ONE, TWO])) == f"Keyring({', '.join(Keyring([ONE, TWO]).ids)})"
    assert repr(RING.first) == f"Key({RING.ids[0]})"


def test_derived_keys_have_the_size_of_the_shared_one_and_differ_by_label() -> None:
    for size in (16, 24, 32):
        key = Key(bytes(size))
        found = {derived(key, label) for label in (b"a", b"b", b"")}
        assert {len(each) for each in found} == {size}
        assert len(found) == 3
        assert key.secret not in found


@pytest.mark.parametrize(
    ("keys", "error", "words"),
    [
        ([], ValueError, "keys must have at least one key"),
        (5, TypeError, "keys must be a list of keys, got int"),
        ([5], TypeError, "or these bytes, got int"),
        (["secret!"], ValueError, "this text is not base64"),
        (["c2VjcmV0"], ValueError, "this one has 6 bytes"),
        ([b"secret"], ValueError, "this one has 6 bytes"),
        ("sécret", ValueError, "this text is not base64"),
    ],
)
def test_what_is_no_key_is_refused_and_not_shown(keys: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as raised:
        Keyring(keys)
    assert "secret" not in str(raised.value)
    assert "c2Vj" not in str(raised.value)


def test_another_size_than_those_of_aes_is_refused() -> None:
    with pytest.raises(ValueError, match="size must be 16, 24 or 32 bytes, got 20"):
        Keyring.generate(20)


def test_a_file_has_a_key_a_line(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# since May\n{TWO}  # seals\n\n{ONE}\n")
    assert Keyring.from_file(path).ids == Keyring([TWO, ONE]).ids
    path.write_text(f"{TWO}\nsecret!\n")
    with pytest.raises(ValueError, match=r"keys, line 2: a key must be base64 .* this text is not base64") as raised:
        Keyring.from_file(path)
    assert "secret" not in str(raised.value)
    ring = Keyring([TWO])
    path.write_text(f"{ONE}\n{TWO}\n")
    ring.load(path)
    assert ring.ids == Keyring([ONE, TWO]).ids
    path.write_text(f"{THREE}\nwrong\n")
    with pytest.raises(ValueError, match="line 2"):
        ring.load(path)
    assert ring.ids == Keyring([ONE, TWO]).ids
    path.write_text("# none\n")
    with pytest.raises(ValueError, match="keys must have at least one key"):
        Keyring.from_file(path)
    with pytest.raises(FileNotFoundError):
        Keyring.from_file(tmp_path / "none")


def test_without_the_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def fake(name: str, *args: Any) -> Any:
        if name.startswith("cryptography"):
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", fake)
    with pytest.raises(ImportError, match=r"a Keyring needs the package cryptography: pip install 'gossipmonger\[secure\]'"):
        Keyring([ONE])


# Rotation


def test_the_first_key_seals_and_all_open() -> None:
    ring, one, two = Keyring([ONE]), Keyring([ONE]), Keyring([TWO])
    assert ring.add(TWO) == two.ids[0]
    assert ring.ids == one.ids + two.ids
    assert one.open(ring.seal(b"x")) == b"x"
    assert ring.open(two.seal(b"y")) == b"y"
    ring.promote(TWO)
    assert ring.ids == two.ids + one.ids
    assert two.open(ring.seal(b"x")) == b"x"
    assert ring.open(one.seal(b"y")) == b"y"
    ring.remove(ONE)
    assert ring.ids == two.ids
    with pytest.raises(SealError):
        ring.open(one.seal(b"y"))


def test_keys_go_by_their_ids_too() -> None:
    ring = Keyring([ONE, TWO])
    one, two = ring.ids
    ring.promote(two)
    ring.remove(one)
    assert ring.ids == (two,)


def test_adding_a_key_again_changes_nothing() -> None:
    ring = Keyring([ONE, TWO, TWO])
    ring.add(ONE)
    assert ring.ids == Keyring([ONE, TWO]).ids


@pytest.mark.parametrize("call", ["promote", "remove"])
def test_a_key_that_is_not_there_can_t_be_promoted_or_removed(call: str) -> None:
    ring = Keyring([ONE])
    for key in (TWO, "00000000"):
        with pytest.raises(ValueError, match=rf"there is no key [0-9a-f]{{8}} in this keyring: it has {ring.ids[0]}"):
            getattr(ring, call)(key)
    with pytest.raises(ValueError, match="this text is not base64"):
        getattr(ring, call)("secret!")


def test_the_key_that_seals_stays() -> None:
    ring = Keyring([ONE, TWO])
    with pytest.raises(ValueError, match=rf"the key {ring.ids[0]} seals: promote another one first"):
        ring.remove(ONE)
    assert ring.ids == Keyring([ONE, TWO]).ids
    assert ring.open(ring.seal(b"x")) == b"x"


def test_all_keys_are_replaced_or_none() -> None:
    ring = Keyring([ONE, TWO])
    ring.replace([THREE, TWO])
    assert set(ring.ids) == set(Keyring([THREE, TWO]).ids)
    assert ring.ids[0] == Keyring(THREE).ids[0]
    before = ring.ids
    for wrong in ([], [ONE, "secret!"]):
        with pytest.raises(ValueError, match="key"):
            ring.replace(wrong)
    assert ring.ids == before


def test_two_keys_of_one_id_are_refused() -> None:
    ring, other = Keyring([ONE]), Key(b"x" * 32)
    other.id = ring.first.id
    with pytest.raises(ValueError, match=rf"another key has the id {ring.ids[0]} too: generate a new one"):
        ring._put(other)


def test_a_promotion_that_meets_a_removal_wins() -> None:
    ring = Keyring([ONE, TWO])
    found = ring._find(TWO)

    class Meeting(dict[bytes, Key]):
        def pop(self, *args: Any) -> Any:
            popped = super().pop(*args)
            ring._find = lambda key: found  # type: ignore[method-assign] # it had looked the key up before
            ring.promote(TWO)
            return popped

    ring._keys = Meeting(ring._keys)
    with pytest.raises(ValueError, match="seals: promote another one first"):
        ring.remove(TWO)
    assert ring.first is found
    assert ring.open(ring.seal(b"x")) == b"x"


def test_a_ring_that_changes_all_the_time_always_opens_what_it_has_just_sealed() -> None:
    ring, keys, stop = Keyring([ONE]), [ONE, TWO, THREE], threading.Event()
    failures: list[BaseException] = []

    def rotate(seed: int) -> None:
        chance = random.Random(seed)
        try:
            while not stop.is_set():
                try:
                    getattr(ring, chance.choice(["add", "promote", "remove"]))(chance.choice(keys))
                except ValueError:
                    pass
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=rotate, args=(seed,)) for seed in range(3)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    opened = 0
    try:
        for thread in threads:
            thread.start()
        for _ in range(300):
            try:
                opened += ring.open(ring.seal(b"x")) == b"x"
            except SealError:  # the key was changed and removed in between
                pass
    finally:
        stop.set()
        for thread in threads:
            thread.join(10)
        sys.setswitchinterval(interval)
    assert (failures, opened > 0) == ([], True)
    assert ring.open(ring.seal(b"x")) == b"x"
