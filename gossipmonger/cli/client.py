"""The client: asks an agent at its control socket, and tells why it cannot."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from gossipmonger.cli.control import VERSION, connect, read_line
from gossipmonger.cli.outcome import UNREACHABLE, CommandError
from gossipmonger.errors import shown, words

__all__ = ["ask"]

#: Seconds for the agent to accept.
_CONNECT = 5.0


def ask(path: str, question: Mapping[str, Any], timeout: float | None) -> Iterator[dict[str, Any]]:
    """Yield what the agent answers.

    Args:
        path: Where its socket is.
        question: `ask` and its arguments.
        timeout: Seconds for each answer to come; None for no limit.

    Raises:
        CommandError: There is no agent, it does not answer in time, or says that there is no answer.
    """
    try:
        connection = connect(path, _CONNECT)
    except (FileNotFoundError, ConnectionRefusedError):
        raise CommandError(
            f"no agent at {shown(path)}: start one with `gossipmonger agent`, say where it is with --socket, "
            "or ask any node with --seed HOST:PORT",
            UNREACHABLE,
        ) from None
    except PermissionError:
        raise CommandError(f"the agent at {shown(path)} belongs to another user: ask as that user", UNREACHABLE) from None
    except OSError as error:
        raise CommandError(f"no agent at {shown(path)}: {error.strerror or words(error)}", UNREACHABLE) from None
    with connection:
        connection.settimeout(timeout if timeout is not None and timeout < math.inf else None)
        buffer = bytearray()
        try:
            connection.sendall(json.dumps({"gossipmonger": VERSION, **question}).encode() + b"\n")
            while line := read_line(connection, buffer):
                said = json.loads(line)
                if not isinstance(said, dict):
                    raise ValueError(said)
                if "answer" in said:
                    yield said["answer"]
                elif "error" in said:
                    raise CommandError(str(said["error"]), int(said.get("code", UNREACHABLE)))
                else:
                    return
        except TimeoutError:
            raise CommandError(f"the agent at {shown(path)} did not answer within {timeout:g} s", UNREACHABLE) from None
        except OSError as error:
            raise CommandError(f"the agent at {shown(path)} can't be heard: {words(error)}", UNREACHABLE) from None
        except (ValueError, AttributeError, TypeError):
            raise CommandError(f"what answers at {shown(path)} is not an agent", UNREACHABLE) from None
    raise CommandError(f"the agent at {shown(path)} has ended", UNREACHABLE)
