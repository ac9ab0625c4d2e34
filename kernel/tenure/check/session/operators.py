"""Commands of users and operators in the session model.  Each has a command id of its own and is sent once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from attrs import frozen

from ... import commands as c
from ...machines import lease as lease_
from ...machines.ticket import Action
from ...policy import Lane
from ...records import Phase
from .snapshot import S, Snapshot

__all__ = [
    "Operator",
    "cancel",
    "decide",
    "destroy",
    "fence_off",
    "import_page",
    "interrupt",
    "interrupt_at_rest",
    "readmit",
    "reclaim",
    "reopen",
    "reorder",
    "replace",
    "reset",
    "retire",
    "roll_back",
    "stop",
    "withdraw",
    "withdraw_from",
]


Offer: TypeAlias = Callable[[Snapshot, set[int]], Any]


@frozen
class Operator:
    """A user or operator with one command.

    `offer` returns the command, or None if it may not be sent now.  It gets the rows and the generations that workers
    know.  `repeated`: the command may be sent any number of times.
    """

    name: str
    offer: Offer
    repeated: bool = False


def always(command: Any) -> Offer:
    return lambda snapshot, holders: command


def withdraw(input_id: str) -> Operator:
    command = c.Withdraw(S, f"c.withdraw.{input_id}", input_id)
    return Operator(f"withdraw {input_id}", _if_known(input_id, command))


def withdraw_from(input_id: str, lane: Lane = Lane.USER) -> Operator:
    command = c.WithdrawFrom(S, f"c.from.{input_id}", input_id, lane)
    return Operator(f"withdraw from {input_id}", _if_known(input_id, command))


def replace(input_id: str, new: c.NewInput) -> Operator:
    command = c.Replace(S, f"c.replace.{input_id}.{new.input_id}", input_id, new)
    return Operator(f"replace {input_id} by {new.input_id}", _if_known(input_id, command))


def reorder(*input_ids: str, lane: Lane = Lane.USER) -> Operator:
    command = c.Reorder(S, f"c.reorder.{'.'.join(input_ids)}", lane, input_ids)
    return Operator(f"reorder {', '.join(input_ids)}", _if_known(input_ids[0], command))


def readmit(input_id: str, new_id: str) -> Operator:
    command = c.Readmit(S, f"c.readmit.{new_id}", input_id, new_id)
    return Operator(f"readmit {input_id} as {new_id}", _if_known(input_id, command))


def _if_known(input_id: str, command: Any) -> Offer:
    return lambda snapshot, holders: command if input_id in snapshot.queue_entries else None


def interrupt(number: int = 1, replacement: c.NewInput | None = None) -> Operator:
    command = c.Interrupt(S, f"c.interrupt.{number}", replacement)
    return Operator(f"interrupt {number}", always(command))


def interrupt_at_rest(replacement: c.NewInput) -> Operator:
    command = c.Interrupt(S, "c.interrupt.at.rest", replacement, only_if_at_rest=True)
    return Operator("interrupt at rest", always(command))


def roll_back() -> Operator:
    return Operator("roll back", always(c.Interrupt(S, "c.rollback", rollback=True)))


def cancel(run_id: str) -> Operator:
    command = c.RequestCancel(S, f"c.cancel.{run_id}", run_id)
    return Operator(
        f"cancel {run_id}", lambda snapshot, holders: command if run_id in snapshot.runs else None
    )


def cancel_input(input_id: str) -> Operator:
    command = c.CancelInput(S, f"c.cancel.{input_id}", input_id)
    return Operator(f"cancel {input_id}", _if_known(input_id, command))


def decide(run_id: str, action: Action = Action.APPROVE) -> Operator:
    """Return the person who is asked about a run."""
    ticket_id = f"t1.{run_id}"
    command = c.Decide(S, ticket_id, f"c.{action.value}.{run_id}", action, by="ada")
    return Operator(
        f"{action.value} {ticket_id}",
        lambda snapshot, holders: command if run_id in snapshot.runs else None,
    )


def settle(run_id: str, how: Action = Action.COMPLETED) -> Operator:
    """Return the end of the work that a run awaits."""
    ticket_id = f"t3.{run_id}"
    command = c.Settle(S, f"c.{how.value}.{run_id}", ticket_id, how, "done", "child")
    return Operator(
        f"{how.value} {ticket_id}",
        lambda snapshot, holders: command if run_id in snapshot.runs else None,
    )


def stop(abandon: bool = False) -> Operator:
    return Operator("stop" + " and abandon" * abandon, always(c.Stop(S, "c.stop", abandon)))


def retire(abandon: bool = False) -> Operator:
    return Operator("retire" + " and abandon" * abandon, always(c.Retire(S, "c.retire", abandon)))


def reset() -> Operator:
    return Operator("reset", always(c.Reset(S, "c.reset")))


def destroy() -> Operator:
    return Operator("destroy", always(c.Destroy(S, "c.destroy")))


def fence_off() -> Operator:
    return Operator("fence off", always(c.FenceOff(S, "c.fence")))


def reopen() -> Operator:
    closed = (Phase.STOPPED, Phase.STOPPING, Phase.RETIRED)
    command = c.Reopen(S, "again.reopen")
    return Operator(
        "reopen",
        lambda snapshot, holders: command if snapshot.session.phase in closed else None,
        repeated=True,
    )


def import_page(number: int, nodes: tuple[c.ImportNode, ...], name: str = "page") -> Operator:
    """Return who sends a page of an import, at any time and any number of times."""
    return Operator(f"{name} {number}", always(c.ImportPage(S, number, nodes)), repeated=True)


def reclaim() -> Operator:
    """Return the operator that reclaims a lease whose holder has crashed: no worker knows its generation."""

    def offer(snapshot: Snapshot, holders: set[int]) -> Any:
        lease = snapshot.session.lease
        if not isinstance(lease, lease_.Held) or lease.generation in holders:
            return None
        seen = lease_.Fence(S, lease.generation, lease.lease_id)
        return c.Reclaim(S, "c.reclaim", seen, lease_.Evidence.DEAD)

    return Operator("reclaim", offer)
