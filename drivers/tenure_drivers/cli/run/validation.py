"""Ask the kernel what it would answer to an admission, without carrying anything out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, Final

from attrs import frozen

from tenure.commands import Admit, Conflict, NewInput
from tenure.limits import ADMITTED_MAX
from tenure.outcome import Refusal, Refused
from tenure.policy import POLICIES, OnRetry, Policy
from tenure.queries import Each, Get, Query, Question
from tenure.replace import replace

from .prompt_file import KIND, BadLine, PromptLine, shown

BATCH_BYTES: Final = 1_000_000


@frozen
class DryRunAdmit(Question[Refused | None]):
    """What a store would say to this command now: None, or why it would refuse."""

    command: Admit
    now_ms: int

    def steps(self) -> Generator[Query[Any], Any, Refused | None]:
        reads = self.command.reads()
        answers = []
        for query in reads.queries:
            if isinstance(query, Each):
                several = []
                for one in query.queries:
                    several.append((yield one))
                answers.append(tuple(several))
            else:
                answers.append((yield query))
        decided = self.command.decide(reads.view(*answers), self.now_ms)
        return decided if isinstance(decided, Refused) else None


def without_store(question: DryRunAdmit) -> Refused | None:
    """What any store would say, whatever it holds: limits and shapes."""
    steps = question.steps()
    query = next(steps)
    while True:
        try:
            query = steps.send(None if isinstance(query, Get) else ())
        except StopIteration as done:
            refused: Refused | None = done.value
            return refused


def prompt_policy(*, ordered: bool) -> Policy:
    """Ordered: what is behind a prompt that waits for its retry waits too."""
    policy = POLICIES[KIND]
    return replace(policy, on_retry=OnRetry.HOLD) if ordered else policy


def batches(lines: Iterable[PromptLine]) -> Iterator[list[PromptLine]]:
    """The lines of one session, in order, as many as fit into one admission."""
    batch: list[PromptLine] = []
    size = 0
    for line in lines:
        if batch and (len(batch) == ADMITTED_MAX or size + len(line.text) > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(line)
        size += len(line.text)
    if batch:
        yield batch


def admission(batch: Sequence[PromptLine], input_ids: Sequence[str], policy: Policy) -> Admit:
    inputs = [
        NewInput(
            input_id,
            KIND,
            line.text,
            source="file",
            key=line.key,
            priority=line.priority,
            available_at_ms=line.available_at_ms,
            policy=policy,
        )
        for line, input_id in zip(batch, input_ids, strict=True)
    ]
    return Admit(batch[0].session, tuple(inputs))


def why(refused: Refused) -> str:
    """A refusal in words, with the value in it."""
    detail = refused.detail
    if not isinstance(detail, Conflict):
        return str(refused)
    if refused.reason is Refusal.KEY_CONFLICT:
        return (
            f"key {shown(detail.value)} has other content in the store: "
            f"input {detail.existing_id} ({refused.clause})"
        )
    if refused.reason is Refusal.ILLEGAL:
        return f"{detail.value} ({refused.clause})"
    return f"refused {refused.reason.value} ({refused.clause}): {detail.value}"


def dry_run(batch: Sequence[PromptLine], now_ms: int) -> DryRunAdmit:
    # Names that no input has: what is looked for is the key, and what is compared is the content.
    names = [f"rehearsal:{line.number}" for line in batch]
    return DryRunAdmit(admission(batch, names, prompt_policy(ordered=True)), now_ms)


def illegal_lines(lines: Sequence[PromptLine]) -> list[BadLine]:
    """Every line of a session that no store takes."""
    bad: list[BadLine] = []
    for batch in batches(lines):
        if without_store(dry_run(batch, 0)) is not None:
            for line in batch:
                refused = without_store(dry_run([line], 0))
                if refused is not None:
                    bad.append(BadLine(line.number, why(refused)))
    return bad


async def refused_lines(
    lines: Sequence[PromptLine],
    ask: Callable[[DryRunAdmit], Awaitable[Refused | None]],
    now_ms: int,
) -> list[BadLine]:
    """Every line of a session that this store would refuse now."""
    bad: list[BadLine] = []
    for batch in batches(lines):
        if await ask(dry_run(batch, now_ms)) is not None:
            for line in batch:
                refused = await ask(dry_run([line], now_ms))
                if refused is not None:
                    bad.append(BadLine(line.number, why(refused)))
    return bad
