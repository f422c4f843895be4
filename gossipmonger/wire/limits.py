"""The limits that the schema is made with.

Ids, keys and addresses are told again and again and kept by every node, so a single long one costs the whole cluster. What a
value may weigh follows from `max_message_size`, a limit of transports.
"""

from __future__ import annotations

from dataclasses import dataclass

from gossipmonger.state import values

__all__ = ["DEFAULT_LIMITS", "MAX_ADDRESS", "MAX_HOST", "MAX_SIZE", "Limits", "is_longer"]

#: Characters of a host. A name has at most 253.
MAX_HOST = 255

#: Characters of an address as JSON: a host, a port, and a few words for transports of other kinds.
MAX_ADDRESS = 1_024

#: Bytes beyond which no limit on ids or keys can be set. A datagram has to hold one of each.
MAX_SIZE = 65_535


@dataclass(frozen=True)
class Limits:
    """What one part of a message may have. The reasons for the defaults stand with the options of the same names."""

    max_id_size: int = 255
    max_key_size: int = 1_024
    max_nesting: int = values.MAX_NESTING


DEFAULT_LIMITS = Limits()


def is_longer(text: str, most: int) -> bool:
    """Whether a text has more bytes than that in UTF-8, where no character has more than four."""
    return len(text) > most // 4 and (len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))) > most
