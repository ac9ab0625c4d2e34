"""Configurations of the turn model: which tools, failures and signals each one explores."""

from __future__ import annotations

from typing import Final

from attrs import frozen

from ...machines.ticket import Action
from ...messages.types import Approval, Disposition, RetryPolicy, Tool
from ...replace import replace
from ...turn import protocol

__all__ = ["CONFIGS", "ModelConfig"]


@frozen
class ModelConfig:
    """A configuration of the turn model.

    `batches` names the tools that the model calls, reply by reply; then it answers.  `probed`: the tool `pay` has a
    probe.  `crashes` is the maximum number of crashes.  `change`: the system prompt may change once.  `outage`: the
    model may fail once.  `overflow`: a request must be shortened.  `steers` names the kinds of inputs that are addressed
    to the run.  `asks` names the tools whose calls may need an approval; those of `find` do not.  `decides` says what a
    person may decide; with `remembers` a decision is that of later calls too.  `prompts`: the user may say something
    else instead.
    `expects` names clauses that must occur.
    """

    name: str
    description: str
    batches: tuple[tuple[str, ...], ...]
    probed: bool = False
    crashes: int = 2
    cancel: bool = False
    deadline: bool = False
    change: bool = False
    outage: bool = False
    overflow: bool = False
    steers: tuple[str, ...] = ()
    asks: tuple[str, ...] = ()
    decides: tuple[Action, ...] = (Action.APPROVE, Action.REJECT)
    remembers: bool = False
    prompts: bool = False
    limits: protocol.Limits = protocol.Limits(iterations_max=5, concurrency=2)
    expects: tuple[str, ...] = ()

    def has(self, name: str) -> bool:
        """Return True if the model calls this tool."""
        return any(name in batch for batch in self.batches)

    @property
    def tools(self) -> tuple[Tool, ...]:
        """The tools: two once tools, and two rerunnable ones, of which `look` fails at first."""
        retry = RetryPolicy(2, 1, 1)
        once = Disposition.ONCE
        tools = (
            Tool("pay", "", "{}", once, probed=self.probed),
            Tool("send", "", "{}", once),
            Tool("look", "", "{}", retry=retry),
            Tool("find", "", "{}"),
        )
        approval = Approval(remember=self.remembers)
        return tuple(
            [replace(each, approval=approval) if each.name in self.asks else each for each in tools]
        )


CONFIGS: Final = (
    ModelConfig("batch", "a turn with a once and a rerunnable tool, two crashes", (("pay", "look"),)),
    ModelConfig("order", "a turn with a once tool after a slow tool", (("find", "send"),)),
    ModelConfig("probe", "a turn with a once tool that has a probe", (("find", "pay"),), probed=True),
    ModelConfig("cancel", "a turn that is cancelled at every point", (("pay", "find"),), crashes=1, cancel=True),
    ModelConfig(
        "deadline", "a turn whose deadline passes at every point", (("send", "find"),), crashes=1, deadline=True
    ),
    ModelConfig(
        "both", "a turn whose deadline passes and that is cancelled", (("send",),), crashes=0, deadline=True, cancel=True
    ),
    ModelConfig("change", "a turn whose system prompt changes", (("pay",), ("find",)), change=True),
    ModelConfig(
        "all", "a turn with three concurrent calls, a probe and a cancel",
        (("pay", "look", "send"),), probed=True, crashes=1, cancel=True,
        limits=protocol.Limits(concurrency=3),
    ),
    ModelConfig("outage", "a turn whose model fails once", (("send",),), crashes=1, outage=True),
    ModelConfig(
        "overflow", "a turn whose requests do not fit the context", (("send",),), crashes=1, overflow=True
    ),
    ModelConfig("strange", "a turn that calls an unknown tool", (("sing", "pay"),), crashes=1, cancel=True),
    ModelConfig(
        "steering", "a turn with a once tool that is steered at every point", (("pay",),), crashes=1,
        steers=("steering", "follow_up"),
    ),
    ModelConfig(
        "steering-stop", "a turn that is steered and cancelled at every point", (("find",),), crashes=1,
        steers=("steering",), cancel=True,
    ),
    ModelConfig(
        "approval", "a turn with a once tool that is approved after a slow tool", (("pay", "find"),), asks=("pay",),
        decides=(Action.APPROVE, Action.EDIT, Action.REJECT, Action.ANSWER),
    ),
    ModelConfig(
        "approvals", "a turn with two calls that are approved, and a prompt instead", (("pay", "find", "send"),),
        asks=("pay", "send"), crashes=1, prompts=True,
    ),
    ModelConfig(
        "approval-stop", "a turn that waits for an approval and is stopped at every point", (("pay", "find"),),
        asks=("pay", "find"), crashes=1, cancel=True, deadline=True, decides=(Action.APPROVE,),
    ),
    ModelConfig(
        "approval-remembered", "a turn whose later calls share the decision on the first one", (("pay", "pay"), ("pay",)),
        asks=("pay",), crashes=1, remembers=True,
    ),
    ModelConfig(
        "limit", "a turn with too many iterations", (("find",), ("send",), ("find",)), crashes=1,
        limits=protocol.Limits(iterations_max=2, concurrency=1),
    ),
)  # fmt: skip
