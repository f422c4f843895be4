"""Questions: one node asks, all live nodes that know an answer give theirs.

    questions = Questions(node)

    @questions.on("free disk")
    def free_disk(path, asker):
        return shutil.disk_usage(path).free

    answers = questions.ask("free disk", 2.0, "/var")   # {"web-1": 73014444032, ...}
    answers.missing                                     # ids of those that did not answer in time

A question is a key of the asker, `ask:NAME/question/ASKER/NUMBER`, with `[question, argument, seconds]`; an answer is a key of
the node that gives it, `ask:NAME/answer/ASKER/NUMBER`, with `[true, answer]` or `[false, error]`. Both are deleted when the
asker has what it wants, and expire in any case. `ask:NAME/can/QUESTION` tells who knows answers, and so for whom to wait.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from itertools import count
from typing import Any, TypeVar, overload

from gossipmonger import Change, Gossipmonger
from gossipmonger.recipes._recipe import Recipe, check_string, seconds

__all__ = ["Answers", "Asked", "Questions"]

#: Seconds that the keys of a question outlive its timeout, if nobody deletes them before.
_GRACE = 10.0

_Handler = Callable[[Any, str], Any]
_H = TypeVar("_H", bound=_Handler)


class Answers(dict[str, Any]):
    """The answers, by the ids of the nodes that gave them: a dict.

    Attributes:
        failed: id -> what went wrong, for nodes whose handler raised.
        missing: Ids of live nodes that know answers to this question and have not given theirs.
    """

    def __init__(self) -> None:
        super().__init__()
        self.failed: dict[str, str] = {}
        self.missing: list[str] = []


class Questions(Recipe):
    """Asks questions of all live nodes, this one included, and answers those of others.

    Limits:

    * All nodes hear all answers, so this suits questions that people ask, or programs now and then; not remote calls by the
      second.
    * Whom to wait for is what this node knows at the time: live nodes with a handler for the question. One that has just come
      may not be among them. A node that knows of no such node, itself included, waits for the first answer.
    * An answer is as old as the question. A handler may be called twice for one question, if its asker seemed dead meanwhile.

    Args:
        node: The node, started or not.
        name: Which questions; nodes understand each other if they call them the same. A node has one of each name.

    Raises:
        ClosedError: The node has been closed.
        TypeError, ValueError: An argument is of the wrong type, or the name is in use at this node.
    """

    def __init__(self, node: Gossipmonger, name: str = "questions") -> None:
        super().__init__(node, "ask", name)
        self._numbers = count(1)
        self._handlers: dict[str, _Handler] = {}

    # Answering

    @overload
    def on(self, question: str) -> Callable[[_H], _H]: ...
    @overload
    def on(self, question: str, handler: _H) -> _H: ...

    def on(self, question: str, handler: Any = None) -> Any:
        """Answer a question by a handler, or by the function that this decorates, from now on until `close`.

        Args:
            question: The question; a later handler takes the place of a former one.
            handler: Called with the argument of the question and the asker's id; returns the answer, a JSON value. It is
                called for one question at a time, on a thread that does nothing else. An exception in it is told to the asker,
                and is an `error` event here.

        Returns:
            The handler, or the decorator.

        Raises:
            ClosedError: This or the node has been closed.
            RuntimeError: The system cannot start a thread.
            TypeError: The question is not a string, or the handler cannot be called.
        """
        check_string("question", question)
        return self._handle("on", handler, partial(self._answer_by, question))

    def _answer_by(self, question: str, handler: Any) -> Any:
        self.node.update(f"{self._prefix}can/{question}", True)
        self._handlers[question] = handler
        if not self._watches:
            self._follow(f"{self._prefix}question/", self._asked)
        return handler

    def _let_go(self) -> None:
        for question in self._handlers:
            self._withdraw(f"{self._prefix}can/{question}")

    def _asked(self, change: Change) -> None:
        """Answer a question, or take the answer back when the question is."""
        key = f"{self._prefix}answer/{change.key.removeprefix(f'{self._prefix}question/')}"
        if change.kind != "set":
            self._withdraw(key)
            return
        if type(change.value) is not list or len(change.value) != 3:
            return
        question, argument, limit = change.value
        handler = self._handlers.get(question) if type(question) is str else None
        if handler is None or type(limit) not in (int, float) or limit <= 0:
            return
        try:
            self._put(key, [True, handler(argument, change.peer_id)], limit)
        except Exception as error:
            self._put(key, [False, f"{type(error).__name__}: {error}"[:500]], limit)
            raise  # to the `error` handlers

    # Asking

    def ask(self, question: str, timeout: float | timedelta, argument: Any = None) -> Answers:
        """Ask all live nodes, wait until each one with a handler for this question has answered, and return the answers.

        If no such node is known yet, because the asker has just joined, say, this waits for the first answer.

        Args:
            question: The question.
            timeout: Seconds, or a `timedelta`, after which the answers that have come are returned.
            argument: A JSON value for the handlers.

        Raises:
            ClosedError: This or the node has been closed.
            RuntimeError: A handler of the node called this; it must not wait. Or this would have to wait in a simulation.
                There, use `begin`.
            TypeError, ValueError: An argument is of the wrong type or out of range, or JSON has no form for it.
        """
        with self.begin(question, timeout, argument) as asked:
            try:
                self.node.wait_for(lambda: asked.done, timeout)
            except TimeoutError:
                pass  # the answers say who is missing
            return asked.answers

    def begin(self, question: str, timeout: float | timedelta, argument: Any = None) -> Asked:
        """Ask in the same way, and don't wait. Close what is returned when it is done, or enough: it is a context manager."""
        self._check_open("ask")
        check_string("question", question)
        return Asked(self, question, argument, seconds("timeout", timeout) + _GRACE)


class Asked:
    """A question that has been asked.

    Attributes:
        question: The question.
    """

    def __init__(self, questions: Questions, question: str, argument: Any, limit: float) -> None:
        self.question: str = question
        self._questions = questions
        self._node = questions.node
        number = f"{questions._id}/{questions._life}.{next(questions._numbers)}"
        self._key = f"{questions._prefix}question/{number}"
        self._answer_key = f"{questions._prefix}answer/{number}"
        questions._put(self._key, [question, argument, limit], limit)

    def __enter__(self) -> Asked:
        """Return it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    @property
    def done(self) -> bool:
        """Whether there is an answer, and every live node with a handler for this question has given one."""
        answers = self.answers
        return not answers.missing and bool(answers or answers.failed)

    @property
    def answers(self) -> Answers:
        """The answers so far."""
        found = Answers()
        for id, given in self._node.values(self._answer_key, live=False).items():  # it may be gone since
            if type(given) is list and len(given) == 2 and type(given[0]) is bool:
                if given[0]:
                    found[id] = given[1]
                else:
                    found.failed[id] = str(given[1])
        able = self._node.values(f"{self._questions._prefix}can/{self.question}")
        found.missing = [id for id in able if id not in found and id not in found.failed]
        return found

    def close(self) -> None:
        """Take the question back, and with it the answers, at all nodes. May be called again."""
        self._questions._withdraw(self._key)
