"""A model that gives scripted replies, and the transcript of a session as text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tenure.messages.types import Delta, Finish, Message, ModelFailed, Reply, Request, ToolCall
from tenure.questions.core import LoadTranscript
from tenure.transcript import UsageDelta
from tenure.turn.chat_policy import project
from tenure_drivers.stores.base import Store

ONE = UsageDelta("turn", "m", 1, 10, 1)


class Scripted:
    """A client that gives the n-th reply to the n-th request, and then repeats the last one."""

    model = "m"

    def __init__(self, *answers: Any) -> None:
        self.answers, self.requests = list(answers), list[Request]()

    async def complete(
        self, request: Request, emit: Callable[[Delta], None], key: str
    ) -> Reply | ModelFailed:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, BaseException):
            raise answer
        if callable(answer):
            answer = await answer(emit)
        assert isinstance(answer, Reply | ModelFailed)
        return answer


def calling(*calls: tuple[str, str, str]) -> Reply:
    made = tuple(ToolCall(*call) for call in calls)
    return Reply("", made, finish=Finish.TOOL_CALLS, usage=(ONE,))


def saying(text: str) -> Reply:
    return Reply(text, usage=(ONE,))


async def transcript(store: Store, session: str = "s") -> tuple[Message, ...]:
    return project(await store.ask(LoadTranscript(session)))


def texts(messages: tuple[Message, ...]) -> list[str]:
    return [f"{m.role.value}: {m.text}" for m in messages]
