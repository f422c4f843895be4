"""Questions: the answers of all live nodes that know them, or of those that came in time; and nothing stays behind."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest

from gossipmonger import ClosedError, Gossipmonger, ObserverError
from gossipmonger.recipes import Answers, Asked, Questions

from .worlds import SECOND, Cluster


@pytest.fixture
def cluster(rng: Random) -> Iterator[Cluster]:
    with Cluster(rng.randrange(1_000)) as cluster:
        yield cluster


def ask_in(cluster: Cluster, questions: Questions, question: str, timeout: float = 10.0, argument: Any = None) -> Answers:
    """Ask and let time pass until the answers are there, or the timeout has passed."""
    with questions.begin(question, timeout, argument) as asked:
        try:
            cluster.until(lambda: asked.done, timeout * SECOND)
        except TimeoutError:
            pass
        return asked.answers


def own_name(argument: Any, asker: str) -> list[Any]:
    return [argument, asker]


def answering(cluster: Cluster) -> list[Questions]:
    """Questions at all nodes, with a handler at each, which all know of."""
    questions = [Questions(node) for node in cluster.nodes]
    for each in questions:
        each.on("who", own_name)
    cluster.run(3)
    return questions


def test_all_live_nodes_answer_the_asker_too(cluster: Cluster) -> None:
    questions = answering(cluster)
    answers = ask_in(cluster, questions[0], "who", argument={"x": 1})
    assert answers == {id: [{"x": 1}, "n0"] for id in ("n0", "n1", "n2")}
    assert (answers.missing, answers.failed) == ([], {})


def test_nothing_stays_when_it_is_answered(cluster: Cluster) -> None:
    questions = answering(cluster)
    for _ in range(5):
        assert len(ask_in(cluster, questions[1], "who")) == 3
    cluster.run(3)
    assert [cluster.own(number) for number in range(3)] == [{"ask:questions/can/who": True}] * 3
    for each in questions:
        each.close()
    assert [cluster.own(number) for number in range(3)] == [{}] * 3
    assert cluster.errors == []


def test_who_does_not_answer_in_time_is_named(cluster: Cluster) -> None:
    questions = answering(cluster)
    cluster.sim.pause("n2", 20 * SECOND)
    answers = ask_in(cluster, questions[0], "who", 2)
    assert (sorted(answers), answers.missing) == (["n0", "n1"], ["n2"])


def test_nobody_waits_for_nodes_that_know_no_answer_or_have_died(cluster: Cluster) -> None:
    questions = answering(cluster)
    cluster.add("idle")
    Questions(cluster.add("other")).on("what", own_name)
    cluster.run(5)
    assert len(ask_in(cluster, questions[0], "who")) == 3
    asked = questions[0].begin("who", 60)
    cluster.sim.partition(["n2"])
    cluster.until(lambda: asked.done)
    assert len(asked.answers) in (2, 3)
    assert "n2" not in asked.answers.missing
    asked.close()
    assert ask_in(cluster, questions[0], "what?") == {}


def test_who_has_heard_of_nobody_yet_waits_for_the_first_answer(cluster: Cluster) -> None:
    answering(cluster)
    answers = ask_in(cluster, Questions(cluster.add("newcomer")), "who")
    assert answers
    assert answers.items() <= {id: [None, "newcomer"] for id in ("n0", "n1", "n2")}.items()


def test_an_answer_counts_though_who_gave_it_has_gone(cluster: Cluster) -> None:
    questions = answering(cluster)
    with questions[0].begin("who", 60) as asked:
        cluster.until(lambda: "n2" in asked.answers)
        cluster[2].close()
        cluster.run(5)
        assert sorted(asked.answers) == ["n0", "n1", "n2"]


def test_questions_at_once_do_not_mix(cluster: Cluster) -> None:
    questions = answering(cluster)
    asked = [(each, number, each.begin("who", 10, number)) for number in range(4) for each in questions]
    cluster.until(lambda: all(each.done for _, _, each in asked))
    for each, number, one in asked:
        assert one.answers == {f"n{other}": [number, each.node.local_peer.id] for other in range(3)}
        one.close()


def test_a_handler_that_raises_is_told_to_the_asker_and_is_an_error_there(cluster: Cluster) -> None:
    questions = answering(cluster)

    @questions[1].on("bad")
    def bad(argument: Any, asker: str) -> Any:
        if argument:
            return {1, 2}
        raise LookupError("no such thing")

    cluster.run(3)
    answers = ask_in(cluster, questions[0], "bad")
    assert (answers, answers.failed, answers.missing) == ({}, {"n1": "LookupError: no such thing"}, [])
    answers = ask_in(cluster, questions[0], "bad", argument=1)
    assert answers.failed["n1"].startswith("TypeError: value: {1, 2}")
    assert [type(error) for error in cluster.errors] == [LookupError, TypeError]


def test_a_later_handler_takes_the_place_of_a_former_one(cluster: Cluster) -> None:
    questions = Questions(cluster[0])
    questions.on("x", lambda argument, asker: 1)
    assert questions.on("x", own_name) is own_name
    assert ask_in(cluster, questions, "x") == {"n0": [None, "n0"]}


def test_the_keys_of_an_asker_that_died_go_with_it(cluster: Cluster) -> None:
    questions = answering(cluster)
    questions[0].begin("who", 600)
    cluster.run(2)
    assert len(cluster.own(1)) == 2
    cluster.sim.crash("n0")
    cluster.until(lambda: len(cluster.own(1)) == len(cluster.own(2)) == 1)


def test_the_keys_of_a_question_that_nobody_takes_back_expire(cluster: Cluster) -> None:
    questions = answering(cluster)
    questions[0].begin("who", 5)
    cluster.run(30)
    assert [cluster.own(number) for number in range(3)] == [{"ask:questions/can/who": True}] * 3


@pytest.mark.parametrize("value", [1, [1, 2], ["who", 1, 0], ["who", 1, "x"], [["who"], 1, 5], ["nobody", 1, 5]])
def test_what_is_no_question_is_ignored(cluster: Cluster, value: Any) -> None:
    answering(cluster)
    cluster[0].update("ask:questions/question/n0/1", value)
    cluster.run(3)
    assert (len(cluster.own(1)), cluster.errors) == (1, [])


def test_what_is_no_answer_is_ignored(cluster: Cluster) -> None:
    questions = answering(cluster)
    questions[1].close()
    with questions[0].begin("who", 10) as asked:
        cluster[1].update(asked._answer_key, ["true", 1])
        cluster.run(3)
        assert sorted(asked.answers) == ["n0", "n2"]


@pytest.mark.parametrize(("arguments", "error"), [
    ((1, 2), TypeError), (("who", 0), ValueError), (("who", "1"), TypeError), (("who", 1, {2}), TypeError),
])  # fmt: skip
def test_what_is_refused_is_not_asked(cluster: Cluster, arguments: Any, error: type[Exception]) -> None:
    questions = Questions(cluster[0])
    for ask in (questions.ask, questions.begin):
        with pytest.raises(error):
            ask(*arguments)
    assert cluster.own(0) == {}
    with pytest.raises(TypeError, match="question must be a string"):
        questions.on(1)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="handler must be callable"):
        questions.on("x", 1)  # type: ignore[call-overload]


def test_an_observer_neither_asks_nor_answers(cluster: Cluster) -> None:
    questions = Questions(cluster.add("observer", observer=True))
    cluster.run(2)
    for use in (lambda: questions.ask("x", 1), lambda: questions.on("x", own_name)):
        with pytest.raises(ObserverError):
            use()
    questions.close()


def test_a_closed_one_neither_asks_nor_answers(cluster: Cluster) -> None:
    questions = answering(cluster)
    questions[0].close()
    questions[0].close()
    cluster.run(2)
    assert sorted(ask_in(cluster, questions[1], "who")) == ["n1", "n2"]
    for use in (
        lambda: questions[0].ask("who", 1),
        lambda: questions[0].begin("who", 1),
        lambda: questions[0].on("x", own_name),
    ):
        with pytest.raises(ClosedError, match="Questions has been closed"):
            use()


def test_in_a_simulation_time_would_stand_still_and_the_question_is_taken_back(cluster: Cluster) -> None:
    questions = answering(cluster)
    questions[1].on("slow", own_name)
    cluster.run(2)
    with pytest.raises(RuntimeError, match="virtual time stands still"):
        questions[0].ask("slow", 1)
    assert cluster.own(0) == {"ask:questions/can/who": True}


# Real nodes


@pytest.fixture
def nodes() -> Iterator[list[Gossipmonger]]:
    nodes: list[Gossipmonger] = []
    for id in "abc":
        seeds = [f"127.0.0.1:{each.transport.port}" for each in nodes[:1]]
        node = Gossipmonger({"id": id, "transport": {"host": "127.0.0.1", "port": 0}}, seeds=seeds, gossip_interval=100)
        node.on("error", lambda error: None)
        node.transport.listen()
        node.gossip()
        nodes.append(node)
    for node in nodes:
        node.wait_for_peers(3, 30)
    yield nodes
    for node in nodes:
        node.close()


def test_threads_ask_at_once_and_wait_no_longer_than_they_must(nodes: list[Gossipmonger]) -> None:
    questions = [Questions(node) for node in nodes]
    for each in questions:
        each.on("who", own_name)
    nodes[0].wait_for(lambda: len(nodes[0].values("ask:questions/can/who")) == 3, 30)
    found: list[Answers] = []
    threads = [threading.Thread(target=lambda n=n: found.append(questions[0].ask("who", 60, n))) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)
    assert sorted(answers["a"][0] for answers in found) == [*range(5)]
    assert [len(answers) for answers in found] == [3] * 5
    for each in questions:
        each.close()


def test_the_answers_that_came_are_returned_at_the_timeout_and_a_handler_must_not_wait(nodes: list[Gossipmonger]) -> None:
    release, refused = threading.Event(), []
    asking, slow = Questions(nodes[0]), Questions(nodes[1])
    asking.on("x", lambda argument, asker: 1)
    slow.on("x", lambda argument, asker: release.wait(30))

    def within(argument: Any, asker: str) -> Any:
        try:
            return asking.ask("x", 1)
        except RuntimeError as error:
            refused.append(str(error))
            raise

    asking.on("within", within)
    nodes[0].wait_for(lambda: len(nodes[0].values("ask:questions/can/x")) == 2, 30)
    answers = asking.ask("x", 0.2)
    assert (answers, answers.missing) == ({"a": 1}, ["b"])
    assert "a handler must not wait" in asking.ask("within", 30).failed["a"]
    assert len(refused) == 1
    release.set()
    asking.close()
    slow.close()


def test_the_end_of_the_node_ends_the_wait(nodes: list[Gossipmonger]) -> None:
    asking, silent = Questions(nodes[0]), Questions(nodes[1])
    gate, asked, raised = threading.Event(), threading.Event(), []
    silent.on("x", lambda argument, asker: asked.set() or gate.wait(30))
    nodes[0].wait_for(lambda: nodes[0].values("ask:questions/can/x"), 30)

    def ask() -> None:
        try:
            asking.ask("x", 60)
        except ClosedError as error:
            raised.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    assert asked.wait(30)
    nodes[0].close()
    thread.join(30)
    gate.set()
    assert len(raised) == 1
    silent.close()


def test_one_that_was_asked_is_a_context_manager(cluster: Cluster) -> None:
    made: Callable[..., Asked] = Questions(cluster[0]).begin
    with made("x", 1) as asked:
        assert (asked.question, asked.done, asked.answers) == ("x", False, {})
    assert cluster.own(0) == {}
