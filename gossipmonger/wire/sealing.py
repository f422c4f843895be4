"""Sealing: messages that only nodes with the same keys can read, make or alter.

A sealed message is

    4 | key id (4 bytes) | salt (4) | nonce (12) | what AES-GCM makes of the message, its tag (16) at the end

and its associated data is the name of the cluster and what the message is for. The key id is a hash that tells nothing of the
key. Who holds no such key learns the length and the id, and what does not open is not looked at any further.

AES-GCM is safe as long as no nonce repeats under one key. Nodes that share a key have nothing else in common, so nobody can
count. Each nonce is drawn from the system, so there is nothing that a restart could lose, or a fork or a restored snapshot
double. As 96 random bits alone do for 2**32 messages of all nodes together, the salt makes more of them: it is drawn too, for
2**16 messages of one keyring, and they are sealed with a key that is derived from the shared one by it. If all nodes together
seal N messages, the chance that two have the same key and nonce is N**2 / 2**129 + N / 2**81: 2**-32 for 2**48 messages. A
thousand nodes that each send thirty a second need three hundred years for that.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import itertools
import os
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from gossipmonger.errors import SealError

__all__ = ["MARK", "OVERHEAD", "Key", "Keyring", "associated", "derived"]

#: The first byte of a sealed message. No other begins with it: see `gossipmonger.wire.frames`.
MARK = b"\4"

_ID, _SALT, _NONCE, _TAG = 4, 4, 12, 16

#: Where the salt of a sealed message begins, where the nonce does, and what is encrypted.
_SALT_AT, _NONCE_AT, _DATA_AT = len(MARK) + _ID, len(MARK) + _ID + _SALT, len(MARK) + _ID + _SALT + _NONCE

#: Bytes by which a message gets longer.
OVERHEAD = _DATA_AT + _TAG

#: Messages that are sealed with one salt.
_BATCH = 1 << 16

#: Ciphers that are kept to open messages with. Each node that is heard over datagrams takes one.
_MOST_OPENING = 2_048

#: Bytes that a key may have, for AES with 128, 192 or 256 bits.
_SIZES = (16, 24, 32)

_WANTED = "a key must be base64 of 16, 24 or 32 random bytes, as from Keyring.generate(), or these bytes"


class Key:
    """One shared key.

    Attributes:
        id: What is written in front of messages that it seals.
        secret: The key itself.
    """

    __slots__ = ("id", "secret")

    def __init__(self, secret: bytes) -> None:
        self.secret: bytes = secret
        self.id: bytes = hashlib.sha256(b"gossipmonger key id" + secret).digest()[:_ID]

    def __repr__(self) -> str:
        return f"Key({self.id.hex()})"


class _Batch(NamedTuple):
    """What seals some messages in a row.

    Attributes:
        key: The shared key.
        head: What they begin with.
        cipher: AES-GCM with what is derived from the key.
        counter: Counts them.
    """

    key: Key
    head: bytes
    cipher: Any
    counter: Iterator[int]


class Keyring:
    """The keys that a cluster shares. The first seals, and all of them open.

    Keys may be added, promoted and removed while nodes run, from any thread and from a signal handler. Several nodes of one
    process may have the same keyring.

    * Keys: `add`, `promote`, `remove`, `ids`; all of them at once: `replace`, `load`; new ones: `generate`, `from_file`
    * Messages, for transports: `seal`, `open`

    Args:
        keys: At least one key, the one that seals first. Each is the base64 text of 16, 24 or 32 bytes, or these bytes.

    Raises:
        TypeError, ValueError: There is no key, or one of them is none. The error does not show it.
        ImportError: The package `cryptography` is not installed.
    """

    def __init__(self, keys: Iterable[str | bytes] | str | bytes) -> None:
        self._aead, self._invalid = _cryptography()
        found = _parsed(keys)
        self._first = found[0]  # always one of ...
        self._keys = {found[0].id: found[0]}  # ... these. Each change of either is atomic, so no lock is needed.
        for key in found[1:]:
            self._put(key)
        self._sealing = self._batch(found[0])
        self._opening: dict[bytes, tuple[Key, Any]] = {}  # by key id and salt

    def __repr__(self) -> str:
        return f"Keyring({', '.join(self.ids)})"

    @staticmethod
    def generate(size: int = 32) -> str:
        """Return a new random key as base64 text.

        Args:
            size: Bytes: 16, 24 or 32.
        """
        if size not in _SIZES:
            raise ValueError(f"size must be 16, 24 or 32 bytes, got {size!r}")
        return base64.b64encode(os.urandom(size)).decode()

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Keyring:
        """Return the keys in a file, one base64 text a line, the one that seals first; "#" begins a comment.

        Raises:
            OSError: The file cannot be read.
            ValueError: It holds no key, or a line is none; the error tells its number, and does not show it.
        """
        return cls(_lines(path))

    # Keys

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the keys in hexadecimal digits, that of the key which seals first. They tell nothing of the keys."""
        first = self._first
        return (first.id.hex(), *(id.hex() for id in list(self._keys) if id != first.id))

    @property
    def first(self) -> Key:
        """The key that seals."""
        return self._first

    def keys(self, preferred: Key | None = None) -> list[Key]:
        """Return all keys, a preferred one first if it is among them."""
        keys = list(self._keys.values())
        if preferred is not None and preferred in keys:
            keys.remove(preferred)
            keys.insert(0, preferred)
        return keys

    def add(self, key: str | bytes) -> str:
        """Add a key that opens messages; return its id. Does nothing if it is there.

        Raises:
            TypeError, ValueError: It is no key.
        """
        added = Key(_secret(key))
        self._put(added)
        return added.id.hex()

    def promote(self, key: str | bytes) -> None:
        """Seal with this key from now on. All nodes must have it by then, or they cannot open what this one sends.

        Args:
            key: A key that has been added, or its id.

        Raises:
            ValueError: It is not there.
        """
        found = self._find(key)
        self._first = found
        self._keys[found.id] = found  # if it was removed a moment ago

    def remove(self, key: str | bytes) -> None:
        """Open no more messages that this key has sealed. All nodes must seal with another one by then.

        Args:
            key: A key that is there, or its id.

        Raises:
            ValueError: It is not there, or it is the one that seals.
        """
        found = self._find(key)
        if found.id != self._first.id:
            self._drop(found.id)
        if found.id == self._first.id:  # maybe that it was promoted a moment ago
            self._keys[found.id] = found
            raise ValueError(f"the key {found.id.hex()} seals: promote another one first")

    def replace(self, keys: Iterable[str | bytes] | str | bytes) -> None:
        """Have these keys in place of all others, the one that seals first. Nothing is missed meanwhile.

        Raises:
            TypeError, ValueError: There is no key, or one of them is none. Then nothing has changed.
        """
        wanted = _parsed(keys)
        for key in wanted:
            self._put(key)
        self._first = wanted[0]
        kept = {key.id for key in wanted}
        for id in list(self._keys):
            if id not in kept:
                self._drop(id)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Have the keys in a file, see `from_file`, in place of all others: see `replace`.

        Raises:
            OSError, ValueError: As for `from_file`. Then nothing has changed.
        """
        self.replace(_lines(path))

    def _put(self, key: Key) -> None:
        if self._keys.setdefault(key.id, key).secret != key.secret:
            raise ValueError(f"another key has the id {key.id.hex()} too: generate a new one")

    def _drop(self, id: bytes) -> None:
        self._keys.pop(id, None)
        self._opening = {}  # where ciphers of it may be

    def _find(self, key: str | bytes) -> Key:
        id = bytes.fromhex(key) if isinstance(key, str) and len(key) == 2 * _ID and _is_hex(key) else Key(_secret(key)).id
        found = self._keys.get(id)
        if found is None:
            raise ValueError(f"there is no key {id.hex()} in this keyring: it has {', '.join(self.ids)}")
        return found

    # Messages

    def seal(self, data: bytes, cluster: str | None = None, purpose: bytes = b"") -> bytes:
        """Return a message sealed with the first key.

        Args:
            data: The message, deflated or not.
            cluster: The name of the node's cluster. The message opens in no other.
            purpose: What it is for, at most 255 bytes. It opens for nothing else.
        """
        batch = self._sealing
        if batch.key is not self._first or next(batch.counter) >= _BATCH:
            self._sealing = batch = self._batch(self._first)
        nonce = os.urandom(_NONCE)
        return b"%b%b%b" % (batch.head, nonce, batch.cipher.encrypt(nonce, data, associated(cluster, purpose)))

    def open(self, data: bytes, cluster: str | None = None, purpose: bytes = b"", source: object = None) -> bytes:
        """Return what was sealed.

        Args:
            data: A sealed message.
            cluster: The name of the node's cluster.
            purpose: What it has to be for.
            source: Where it came from, for the error.

        Raises:
            SealError: It is not sealed, or was sealed with another key, for another cluster or purpose, or altered.
        """
        if data[:1] != MARK:
            raise SealError("the message is not sealed, and this node has a keyring", source)
        if len(data) < OVERHEAD:
            raise SealError("the message is sealed and cut short", source)
        id, head = bytes(data[len(MARK) : _SALT_AT]), bytes(data[len(MARK) : _NONCE_AT])
        key = self._keys.get(id)  # all that a message with another key costs
        if key is None:
            raise SealError(f"the message is sealed with the key {id.hex()}; this node has {', '.join(self.ids)}", source)
        known = self._opening.get(head)
        if known is None or known[0] is not key:
            known = key, self.cipher(key, b"message" + head[_ID:])
        opened = self.decrypted(known[1], bytes(data[_NONCE_AT:_DATA_AT]), bytes(data[_DATA_AT:]), associated(cluster, purpose))
        if opened is not None:
            self._keep(head, known)
        else:
            other = "it was altered, or sealed for another cluster or connection"
            raise SealError(f"the key {id.hex()} does not open the message: {other}", source)
        return opened

    def _batch(self, key: Key) -> _Batch:
        salt = os.urandom(_SALT)
        first = itertools.count(1)  # this message is the first
        return _Batch(key, MARK + key.id + salt, self.cipher(key, b"message" + salt), first)

    def _keep(self, head: bytes, known: tuple[Key, Any]) -> None:
        """Keep a cipher that has opened something; what anybody can make up takes no room."""
        if head not in self._opening and len(self._opening) >= _MOST_OPENING:
            self._opening = {}  # as rarely as nodes begin anew, they are derived anew
        self._opening[head] = known

    def cipher(self, key: Key, label: bytes) -> Any:
        """Return AES-GCM with a key that is derived from a shared one."""
        return self._aead(derived(key, label))

    def decrypted(self, cipher: Any, nonce: bytes, data: bytes, about: bytes) -> bytes | None:
        """Return what AES-GCM has encrypted; None if it was not this, or not with this key."""
        try:
            opened: bytes = cipher.decrypt(nonce, data, about)
        except self._invalid:
            return None
        return opened


def derived(key: Key, label: bytes) -> bytes:
    """Return a key of the same size for one use, which this label names. It tells nothing of the shared key, or of others."""
    return hmac.digest(key.secret, b"gossipmonger " + label, "sha256")[: len(key.secret)]


def associated(cluster: str | None, purpose: bytes) -> bytes:
    """Return what a message is sealed for, as associated data."""
    name = b"" if cluster is None else cluster.encode("utf-8", "surrogatepass")
    return b"%c%b%b" % (len(purpose), purpose, name)


def _parsed(keys: Iterable[str | bytes] | str | bytes) -> list[Key]:
    if isinstance(keys, (str, bytes)):
        keys = (keys,)
    elif not isinstance(keys, Iterable):
        raise TypeError(f"keys must be a list of keys, got {type(keys).__name__}")
    found = [Key(_secret(key)) for key in keys]
    if not found:
        raise ValueError("keys must have at least one key")
    return found


def _lines(path: str | os.PathLike[str]) -> list[str]:
    """Return the keys in a file, as they stand there."""
    with open(path, encoding="utf-8") as file:
        lines = [line.partition("#")[0].strip() for line in file]
    for number, line in enumerate(lines, 1):
        if line:
            try:
                _secret(line)
            except ValueError as error:
                raise ValueError(f"{os.fspath(path)}, line {number}: {error}") from None
    return [line for line in lines if line]


def _secret(key: object) -> bytes:
    """Return the bytes of a key. Errors do not show it."""
    if isinstance(key, str):
        try:
            key = base64.b64decode(key.strip().replace("-", "+").replace("_", "/"), validate=True)
        except (binascii.Error, ValueError):
            raise ValueError(f"{_WANTED}; this text is not base64") from None
    if not isinstance(key, (bytes, bytearray)):
        raise TypeError(f"{_WANTED}, got {type(key).__name__}")
    if len(key) not in _SIZES:
        raise ValueError(f"{_WANTED}; this one has {len(key)} bytes")
    return bytes(key)


def _is_hex(text: str) -> bool:
    return all(character in "0123456789abcdef" for character in text)


def _cryptography() -> tuple[Any, type[Exception]]:
    try:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError as error:
        raise ImportError("a Keyring needs the package cryptography: pip install 'gossipmonger[secure]'") from error
    return AESGCM, InvalidTag
