"""Commands, against agents in this process."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.commands import Running, agent, in_thread, until


@pytest.fixture(scope="module")
def a(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """An agent with a neighbour `b`, and one that has left."""
    folder = tmp_path_factory.mktemp("agents")
    with agent(folder, "a", values={"role": "web"}) as first:
        with agent(folder, "gone", seeds=(first,)):
            first.agent.node.wait_for_peers(2, timeout=30)
        with agent(folder, "b", seeds=(first,), values={"role": "db", "load": 0.5}) as b:
            first.agent.node.wait_for_key("role", "b", timeout=30)
            b.agent.node.wait_for_key("role", "a", timeout=30)
            yield first


def records(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_members(a: Running) -> None:
    done = a.run("members")
    head, *rows = done.out.splitlines()
    assert head.split() == ["ID", "STATE", "ADDRESS", "HEARD", "PHI", "KEYS"]
    assert [row.split()[:2] for row in rows] == [["a", "live"], ["b", "live"], ["gone", "left"]]
    assert re.search(r"^a +live +127\.0\.0\.1:\d+ +itself +1$", done.out, re.MULTILINE)
    assert re.search(r"^b +live +127\.0\.0\.1:\d+ +[\d.]+m?s ago +\d+\.\d +2$", done.out, re.MULTILINE)
    assert (done.code, done.err) == (0, "")


def test_members_as_json_and_by_choice(a: Running) -> None:
    assert [each["id"] for each in records(a.run("members", "--where", "role=db", "--json").out)] == ["b"]
    assert [each["id"] for each in records(a.run("members", "--state", "left", "--json").out)] == ["gone"]
    assert a.run("members", "--state", "dead") == (1, "", "")


def test_get(a: Running) -> None:
    assert a.run("get", "role") == (0, "web\n", "")
    assert a.run("get", "load", "--peer", "b") == (0, "0.5\n", "")
    assert records(a.run("get", "role", "--json").out) == [{"peer": "a", "key": "role", "value": "web"}]
    assert a.run("get", "none") == (1, "", "gossipmonger: 'a' has no key 'none'\n")


def test_set_get_and_delete(a: Running) -> None:
    assert a.run("set", "x", '{"n": [1, "\\u001b"]}') == (0, "", "")
    assert a.run("get", "x").out == '{"n": [1, "\\u001b"]}\n'
    assert a.run("set", "x", "five", "--json").out == '{"changed": true}\n'
    assert a.run("set", "x", "five", "--json").out == '{"changed": false}\n'
    assert a.run("set", "x", "1.10", "--text") == (0, "", "")
    assert a.run("get", "x").out == "1.10\n"
    assert a.run("set", "x", "-", stdin="from stdin\n") == (0, "", "")
    assert a.run("get", "x").out == "from stdin\n"
    assert a.run("delete", "x") == (0, "", "")
    assert a.run("delete", "x") == (1, "", "gossipmonger: there was no such key\n")


def test_keys_and_values(a: Running) -> None:
    assert a.run("keys").out.splitlines() == ["KEY   NODES", "load  b", "role  a b"]
    assert a.run("keys", "ro", "--json").out == '{"key": "role", "peers": ["a", "b"]}\n'
    assert a.run("keys", "--peer", "b").out.splitlines() == ["KEY   VALUE", "load  0.5", 'role  "db"']
    assert a.run("keys", "zz") == (1, "", "")
    assert a.run("values", "role").out.splitlines() == ["ID  VALUE", 'a   "web"', 'b   "db"']
    assert a.run("values", "none") == (1, "", "")


def test_watch_tells_what_there_is_and_then_what_happens(a: Running) -> None:
    done = a.run("watch", "ro", "--count", "2")
    assert [line.split(maxsplit=1)[1] for line in done.out.splitlines()] == [
        'set             a role = "web"', 'set             b role = "db"',
    ]  # fmt: skip
    later: list[Any] = []
    thread = in_thread(lambda: later.append(a.run("watch", "y", "--no-replay", "--count", "2", "--json")))
    until(lambda: a.agent._control is not None and a.agent._control._threads)
    number = 0
    while thread.is_alive():
        number += 1
        a.agent.node.update("y", number)
        thread.join(0.01)
    assert [each["kind"] for each in records(later[0].out)] == ["set", "set"]
    a.agent.node.delete("y")


def test_events(a: Running) -> None:
    later: list[Any] = []
    thread = in_thread(lambda: later.append(a.run("events", "--event", "delete", "--count", "1")))
    while thread.is_alive():
        a.agent.node.emit("delete", "b", "z")
        a.agent.node.emit("update", "b", "z", 1)
        thread.join(0.01)
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3}  delete          b z\n", later[0].out)


def test_wait(a: Running) -> None:
    assert a.run("wait", "--peers", "2") == (0, "", "")
    assert json.loads(a.run("wait", "--peers", "2", "--json").out) == {"peers": ["a", "b"]}
    assert a.run("wait", "role", "--value", "db") == (0, "", "")
    assert a.run("wait", "role", "--value", "db", "--peer", "b") == (0, "", "")
    done = a.run("wait", "--peers", "3", "--timeout", "10ms")
    assert done.code == 3
    assert re.fullmatch(r"gossipmonger: not within [\d.]+ s: 3 peers wanted; 2 live: 'a', 'b'.*\n", done.err)
    done = a.run("wait", "role", "--value", "cache", "--peer", "b", "--timeout", "10ms")
    assert done.code == 3
    assert done.err == """gossipmonger: not within 0.01 s: no 'role' as "cache"; 'b' has "db"\n"""
    done = a.run("wait", "role", "--value", "true", "--timeout", "10ms")
    assert "no 'role' as true; 'a' has " in done.err
    done = a.run("wait", "none", "--value", "true", "--peer", "b", "--timeout", "10ms")
    assert "no 'none' of 'b'; 'b' is live and has " in done.err


def test_wait_is_over_as_soon_as_it_is_so(a: Running) -> None:
    later: list[Any] = []
    thread = in_thread(lambda: later.append(a.run("wait", "soon", "--timeout", "30s")))
    until(lambda: a.agent._control is not None and a.agent._control._threads)
    a.agent.node.update("soon", True)
    thread.join()
    assert later == [(0, "", "")]
    a.agent.node.delete("soon")


def test_who_waits_is_told_that_the_agent_leaves(tmp_path: Path) -> None:
    later: list[Any] = []
    with agent(tmp_path, "a") as leaving:
        control = leaving.agent._control
        thread = in_thread(lambda: later.append(leaving.run("wait", "never")))
        until(lambda: control is not None and control._threads)
    thread.join()
    assert later == [(3, "", "gossipmonger: the agent left\n")]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["wait"], "wait for what? Give a KEY, or a number of nodes: --peers N"),
        (["wait", "k", "--peers", "2"], "wait for what?"),
        (["wait", "--peers", "2", "--value", "1"], "--value and --peer belong to a KEY"),
        (["set", "__proto__", "1"], "__proto__"),
    ],
)
def test_wrong_usage_is_2(a: Running, argv: list[str], said: str) -> None:
    done = a.run(*argv)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


def test_info(a: Running) -> None:
    done = a.run("info")
    assert re.search(r"^id +a$", done.out, re.MULTILINE)
    assert re.search(r"^peers +live 2, dead 0, left 1$", done.out, re.MULTILINE)
    info = json.loads(a.run("info", "--json").out)
    assert {"version", "python", "platform", "uptime", "seeds", "options", "cluster"} <= info.keys()


def test_info_without_an_agent_says_what_runs_here(tmp_path: Path) -> None:
    from tests.cli.commands import run

    done = run("info", "--socket", str(tmp_path / "none"))
    assert done.code == 3
    assert re.search(r"^version +\d", done.out, re.MULTILINE)
    assert "no agent at" in done.err


def test_forget(a: Running) -> None:
    assert a.run("forget", "zz").err == "gossipmonger: no such node is known; `gossipmonger members` lists those that are\n"
    assert a.run("forget", "zz", "--json")[:2] == (1, '{"forgotten": false}\n')
    done = a.run("forget", "b")
    assert (done.code, done.out) == (1, "")
    assert "'b' is live" in done.err


HOSTILE = "\x1b[2J\n\x9b\u202e"


def test_hostile_ids_keys_and_values_are_printed_escaped(tmp_path: Path) -> None:
    from gossipmonger import Gossipmonger

    with agent(tmp_path) as mine:
        evil = Gossipmonger({"id": HOSTILE, "transport": {"host": "127.0.0.1", "port": 0}}, seeds=[mine.address])
        evil.update(HOSTILE, {HOSTILE: HOSTILE})
        evil.update("text", HOSTILE)
        with evil:
            mine.agent.node.wait_for_key("text", HOSTILE, timeout=30)
            printed = [
                mine.run(*argv, *how)
                for argv in (
                    ["members"], ["keys"], ["keys", "--peer", HOSTILE], ["values", HOSTILE], ["get", "text", "--peer", HOSTILE],
                    ["get", HOSTILE, "--peer", HOSTILE], ["watch", "--count", "2"], ["forget", HOSTILE],
                    ["get", "none", "--peer", HOSTILE], ["wait", HOSTILE, "--peer", "x", "--timeout", "1ms"],
                )
                for how in ([], ["--json"])
            ]  # fmt: skip
        mine.agent.node.wait_for(lambda: len(mine.agent.node.live()) == 1, timeout=30)
    text = "".join(done.out + done.err for done in printed) + mine.out.getvalue() + mine.err.getvalue()
    assert len(text.splitlines()) > 20
    assert [character for character in text if not (character.isprintable() or character == "\n")] == []


def test_a_key_may_last_for_a_time(a: Running) -> None:
    assert a.run("set", "brief", "1", "--ttl", "300ms") == (0, "", "")
    assert a.run("get", "brief") == (0, "1\n", "")
    until(lambda: a.run("get", "brief").code == 1)
    done = a.run("set", "brief", "1", "--ttl", "0s")
    assert done.code == 2
    assert "ttl must be" in done.err
