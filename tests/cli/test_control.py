from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from gossipmonger.cli.client import ask
from gossipmonger.cli.control import VERSION, Control, connect, default_path
from gossipmonger.cli.outcome import UNREACHABLE, CommandError
from tests.cli.commands import in_thread, until


def echo(question: Mapping[str, Any], gone: Callable[[], bool]) -> Iterator[dict[str, Any]]:
    """Answer with the question; fail if that is asked for; or go on for ever."""
    if question["ask"] == "fail":
        raise CommandError("it fails", 1)
    if question["ask"] == "crash":
        raise ZeroDivisionError
    yield dict(question)
    while question["ask"] == "stay" and not gone():
        pass


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Control]:
    made = Control(str(tmp_path / "c.sock"), echo, private=False)
    yield made
    made.close()


def raw(path: str, data: bytes) -> list[Any]:
    """What is answered to these bytes."""
    with connect(path, 10) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    return [json.loads(line) for line in answer.splitlines()]


def test_a_question_is_answered(control: Control) -> None:
    assert [*ask(control.path, {"ask": "x", "key": "ü\n\ud800"}, 10)] == [
        {"gossipmonger": VERSION, "ask": "x", "key": "ü\n\ud800"}
    ]


def test_the_socket_is_for_its_user_alone(control: Control) -> None:
    assert stat.S_IMODE(os.stat(control.path).st_mode) == 0o600


def test_a_private_directory_is_made_and_has_to_be_private(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    Control(str(directory / "c.sock"), echo, private=True).close()
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    directory.chmod(0o755)
    with pytest.raises(OSError, match="must be a directory of yours with the mode 0700"):
        Control(str(directory / "c.sock"), echo, private=True)


def test_the_socket_is_gone_at_the_end(control: Control) -> None:
    control.close()
    assert not os.path.lexists(control.path)
    control.close()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"", "a question must be"), (b"\n", "a question must be"), (b"[]\n", "a question must be"),
        (b"\xff\n", "a question must be"),
        (b"[" * 100_000 + b"\n", "a question must be"), (b'{"ask": "x"}\n', "version 1 of the protocol, not None"),
        (b'{"gossipmonger": 2, "ask": "x"}\n', "version 1 of the protocol, not 2"),
    ],
)  # fmt: skip
def test_what_is_no_question_is_refused(control: Control, line: bytes, said: str) -> None:
    (answer,) = raw(control.path, line)
    assert said in answer["error"]
    assert answer["code"] in (2, 3)


def test_the_lines_are_as_documented(control: Control) -> None:
    assert raw(control.path, b'{"gossipmonger": 1, "ask": "x"}\n')[1:] == [{"end": True}]
    assert raw(control.path, b'{"gossipmonger": 1, "ask": "fail"}\n') == [{"error": "it fails", "code": 1}]


def test_a_failure_of_the_agent_ends_only_this_answer(control: Control, logged: list[Any]) -> None:
    with pytest.raises(CommandError, match="has ended"):
        [*ask(control.path, {"ask": "crash"}, 10)]
    assert [*ask(control.path, {"ask": "x"}, 10)]
    assert "ZeroDivisionError" in logged[0].getMessage()


def test_who_goes_away_ends_the_answer(control: Control) -> None:
    answers = ask(control.path, {"ask": "stay"}, 10)
    assert next(answers)["ask"] == "stay"
    answers.close()  # type: ignore[attr-defined]
    until(lambda: not control._threads)


def test_an_agent_that_was_killed_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    path = str(tmp_path / "c.sock")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(path)
    Control(path, echo, private=False).close()


def test_an_agent_that_lives_and_other_files_are_left_alone(control: Control, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"an agent answers there already; give this one a --socket and an --id of its own"):
        Control(control.path, echo, private=False)
    assert [*ask(control.path, {"ask": "x"}, 10)]
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(OSError, match="no socket"):
        Control(str(tmp_path / "file"), echo, private=False)


@pytest.mark.parametrize("path", ["x" * 200, "/proc/no/c.sock"])
def test_a_path_that_cannot_be_is_one_line(path: str, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"can't make the (socket|directory)"):
        Control(str(tmp_path / path), echo, private=False)


def test_there_is_a_bound_on_connections(control: Control) -> None:
    idle = [connect(control.path, 10) for _ in range(64)]
    until(lambda: len(control._threads) == 64)
    with pytest.raises(CommandError):
        [*ask(control.path, {"ask": "x"}, 10)]
    for each in idle:
        each.close()
    until(lambda: not control._threads)
    assert [*ask(control.path, {"ask": "x"}, 10)]


def test_the_default_is_in_the_users_own_directory() -> None:
    assert default_path({"XDG_RUNTIME_DIR": "/run/user/5"}) == "/run/user/5/gossipmonger/agent.sock"
    assert default_path({"XDG_RUNTIME_DIR": "/run/user/5", "GOSSIPMONGER_SOCKET": "/x"}) == "/x"
    assert default_path({}).endswith(f"/gossipmonger-{os.getuid()}/agent.sock")


# The client


def test_without_an_agent_it_is_said_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"no agent at .*start one with `gossipmonger agent`.*--seed HOST:PORT") as error:
        [*ask(str(tmp_path / "none"), {"ask": "x"}, 10)]
    assert error.value.code == UNREACHABLE


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "has ended"),
        (b"HTTP/1.1 200\n", "is not an agent"),
        (b"[5]\n", "is not an agent"),
        (None, "did not answer within 0.1 s"),
    ],
)
def test_what_is_no_agent_is_said(tmp_path: Path, answer: bytes | None, said: str) -> None:
    path = str(tmp_path / "c.sock")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        answers = ask(path, {"ask": "x"}, 0.1 if answer is None else 10)
        peers: list[socket.socket] = []

        def serve() -> None:
            connection, _ = server.accept()
            peers.append(connection)
            connection.recv(1000)
            if answer is not None:
                connection.sendall(answer)
                connection.shutdown(socket.SHUT_RDWR)

        thread = in_thread(serve)
        with pytest.raises(CommandError, match=said) as error:
            next(answers)
        thread.join()
        peers[0].close()
    assert error.value.code == UNREACHABLE
