"""Check prompts before any of them is admitted: limits first, which need no store, then what this store refuses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Final

from tenure.commands import Admit, BusyWith, Conflict, NewInput
from tenure.limits import ADMITTED_MAX
from tenure.outcome import Refusal, Refused
from tenure.policy import POLICIES, OnRetry, Policy
from tenure.questions.core import WouldRefuse
from tenure.replace import replace
from tenure.world import EMPTY, ask

from ...stores.base import wall_clock_ms
from .prompt_file import KIND, BadLine, PromptLine, shown

__all__ = ["batches", "illegal_lines", "new_input", "prompt_policy", "refused_lines", "why"]


BATCH_BYTES: Final = 1_000_000


def prompt_policy(*, ordered: bool) -> Policy:
    """Return the policy of prompts.  Ordered: a prompt that waits for a retry blocks the prompts after it."""
    policy = POLICIES[KIND]
    return replace(policy, on_retry=OnRetry.HOLD) if ordered else policy


def batches(lines: Iterable[PromptLine]) -> Iterator[list[PromptLine]]:
    """Split the lines of one session, in order, into parts that fit into one admission."""
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


def new_input(line: PromptLine, input_id: str, policy: Policy) -> NewInput:
    """Return the input that a line becomes."""
    return NewInput(
        input_id,
        KIND,
        line.text,
        source="file",
        key=line.key,
        priority=line.priority,
        available_at_ms=line.available_at_ms,
        policy=policy,
    )


def why(refused: Refused) -> str:
    """Return a refusal as a message that names the value."""
    detail = refused.detail
    if isinstance(detail, BusyWith):
        work = f"run {detail.run_id}" if detail.run_id else f"input {detail.ready}"
        what = work if detail.run_id or detail.ready else "a lease without a run"
        return f"the session is busy with {what}; nothing was stored ({refused.clause})"
    if refused.reason is Refusal.OTHER_KIND:
        return f"this is the id of a {detail}, not of a session ({refused.clause})"
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


async def illegal_lines(lines: Sequence[PromptLine]) -> list[BadLine]:
    """Find the lines of one session that every store would refuse: an id, a text or a number violates a limit."""

    async def empty_store(question: WouldRefuse) -> Refused | None:
        return ask(question, EMPTY.answer)

    return await refused_lines(lines, empty_store, wall_clock_ms())


def check_command(batch: Sequence[PromptLine], now_ms: int) -> WouldRefuse:
    """Return the question whether a store would refuse these lines of one session."""
    # No input has these ids, so the store looks for the keys and compares the contents.
    policy = prompt_policy(ordered=True)
    inputs = [new_input(line, f"check:{line.number}", policy) for line in batch]
    return WouldRefuse(Admit(batch[0].session, tuple(inputs)), now_ms)


async def refused_lines(
    lines: Sequence[PromptLine],
    ask: Callable[[WouldRefuse], Awaitable[Refused | None]],
    now_ms: int,
) -> list[BadLine]:
    """Find the lines of one session that this store would refuse now."""
    bad: list[BadLine] = []
    for batch in batches(lines):
        if await ask(check_command(batch, now_ms)) is not None:
            for line in batch:
                refused = await ask(check_command([line], now_ms))
                if refused is not None:
                    bad.append(BadLine(line.number, why(refused)))
    return bad
