"""A name server for tests. It knows one name, which has several addresses, as that of a headless service has.

    python -m tests.name_server HOST NAME ADDRESS...

It prints "ready" once it answers.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Sequence

__all__ = ["answer"]

_HEADER = struct.Struct("!6H")

#: The types of IPv4 addresses and the class of the Internet.
_A, _IN = 1, 1

#: Bits of a header: this is an answer, with authority; the name does not exist.
_ANSWER, _NO_SUCH_NAME = 0x8400, 3


def answer(question: bytes, name: str, addresses: Sequence[str]) -> bytes:
    """Return the answer to a question of one name (RFC 1035): all addresses, in an order that moves on as name servers' do."""
    id, flags, *_ = _HEADER.unpack_from(question)
    asked, end = "", _HEADER.size
    while length := question[end]:
        asked += question[end + 1 : end + 1 + length].decode() + "."
        end += 1 + length
    kind, family = struct.unpack_from("!2H", question, end + 1)
    is_known = asked.lower() == name.lower().rstrip(".") + "."
    found = [*addresses] if is_known and (kind, family) == (_A, _IN) else []
    turn = id % len(addresses)
    records = [struct.pack("!3HLH", 0xC000 + _HEADER.size, _A, _IN, 5, 4) + socket.inet_aton(each) for each in found]
    code = _ANSWER | flags & 0x0100 | (0 if is_known else _NO_SUCH_NAME)
    header = _HEADER.pack(id, code, 1, len(records), 0, 0)
    return header + question[_HEADER.size : end + 5] + b"".join(records[turn:] + records[:turn])


def main(host: str, name: str, *addresses: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((host, 53))
        print("ready", flush=True)
        while True:
            question, sender = server.recvfrom(512)
            server.sendto(answer(question, name, addresses), sender)


if __name__ == "__main__":
    main(*sys.argv[1:])
