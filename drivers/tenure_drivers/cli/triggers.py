"""`tenure triggers`: schedules and other sources, and what they start."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import click

from tenure.machines.job import Disposition
from tenure.machines.subscription import Deleted, Live
from tenure.outcome import Refusal, Refused
from tenure.questions.core import PAGE
from tenure.questions.triggers import LoadTrigger, Occurrences, TriggerItem, Triggers
from tenure.records import Occurrence, Subscription
from tenure.stored_outcomes import SubscriptionChanged
from tenure.trigger_records import Missed, StartsInput, StartsJob

from ..redaction import without_secrets
from ..runtime.client import Client
from ..runtime.errors import CommandRefused
from ..runtime.triggers.schedules import schedule_of
from .exit import CliExit, Exit
from .invoke import invoke_async
from .open_store import existing_path, open_read_only
from .options import READ_HELP, STORE_HELP
from .output import log, write_lines
from .retrying_store import opened

__all__ = ["triggers"]


STORE: Final = click.option("--store", required=True, metavar="URL", help=STORE_HELP)
EXPECTED: Final = click.option(
    "--expected",
    type=int,
    metavar="N",
    help="Refuse if the revision of the subscription is not N.  Default: change any revision.",
)
OTHER_BODY: Final = "TRIGGER-32"  # the clause of a known key with another body
CODES: Final = """

    \b
    Exit codes:
      0  done
      1  refused: standard error says why
      2  invalid arguments, or no such store
      4  store unavailable, unreadable, or of a newer release
"""


class InOrder(click.Group):
    """A group that lists its commands in the order in which they were added."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=InOrder)
def triggers() -> None:
    """List, add, enable, disable, fire and delete triggers: schedules, and what they start.

    A trigger is a source of occurrences: a schedule, or a system that reports them.  A subscription of a trigger says what
    each occurrence starts: an input of a session, or a job.

    Workers (`tenure work`, or a Runtime with an agent) fire the triggers that are due, and deliver what they start.
    """


def changes(command: Callable[..., Any]) -> click.Command:
    """Add a command that changes a trigger, with the exit codes in its help."""
    command.__doc__ = (command.__doc__ or "").rstrip() + CODES
    named = STORE(click.argument("trigger")(command))
    return triggers.command(command.__name__.strip("_"))(named)


def execute(url: str, what: str, body: Callable[[Client], Awaitable[dict[str, Any]]]) -> None:
    """Execute commands on a store that exists, and print the line that `body` returns."""
    existing_path(url)

    async def run() -> int:
        async with opened(url, log_line=log) as store:
            try:
                line = await body(Client(store))
            except CommandRefused as error:
                raise CliExit(Exit.UNFINISHED, why(what, error.refused)) from error
        write_lines([line])
        return Exit.OK

    invoke_async(run())


# -- reading


@triggers.command("list")
@click.option("--store", required=True, metavar="URL", help=READ_HELP)
@click.option("--occurrences", is_flag=True, help="List the occurrences of TRIGGER instead.")
@click.argument("trigger", required=False)
def list_(store: str, trigger: str | None, occurrences: bool) -> None:
    """List all triggers with their subscriptions, or only TRIGGER.

    \b
    Prints a JSON line for each: {"trigger", "revision", "schedule", "zone", "missed", "next_at_ms",
    "deleted", "subscriptions"}.  A subscription has {"subscription", "status", "revision", "starts",
    "text"}; what looks like a secret is removed from the text.
    With --occurrences, the latest first: {"source", "key", "at_ms", "started"}, at most 256.

    \b
    Example:
      tenure triggers list --store sqlite:agent.db

    \b
    Exit codes:
      0  listed
      1  there is no such trigger
      2  invalid arguments, or no such store
      4  store unavailable, unreadable, or of a newer release
    """
    if occurrences and trigger is None:
        raise click.UsageError("--occurrences: name the trigger")
    invoke_async(_list(store, trigger, occurrences))


async def _list(url: str, trigger: str | None, occurrences: bool) -> int:
    lines: list[dict[str, Any]] = []
    async with open_read_only(url, log_line=log) as store:
        if trigger is not None:
            item = await store.ask(LoadTrigger(trigger))
            if item is None:
                raise CliExit(
                    Exit.UNFINISHED,
                    f"the store has no trigger {trigger}; without a name, all are listed",
                )
            lines = [line_of(item)]
            if occurrences:
                found = await store.ask(Occurrences(trigger, limit=PAGE))
                lines = [line_of_occurrence(each) for each in found]
        else:
            after: str | None = ""
            while after is not None:
                page = await store.ask(Triggers(after))
                lines += [line_of(item) for item in page.items]
                after = page.after
    write_lines(lines)
    return Exit.OK


def line_of(item: TriggerItem) -> dict[str, Any]:
    """Return a trigger as a line."""
    row, schedule = item.trigger, item.trigger.schedule
    return {
        "trigger": row.session_id,
        "revision": row.revision,
        "schedule": None if schedule is None else f"{schedule.kind} {schedule.expression}",
        "zone": None if schedule is None else schedule.zone,
        "missed": row.missed.value,
        "next_at_ms": row.next_at_ms,
        "deleted": item.deleted,
        "subscriptions": [subscription_of(each) for each in item.subscriptions],
    }


def subscription_of(row: Subscription) -> dict[str, Any]:
    """Return a subscription as a part of a line."""
    starts, state = row.starts, row.state
    where = (
        f"job {starts.runner}"
        if isinstance(starts, StartsJob)
        else f"{starts.kind} of {starts.to or 'a new session'}"
    )
    return {
        "subscription": row.subscription_id,
        "status": status_of(state),
        "revision": state.revision,
        "starts": where,
        "text": None if row.text is None else without_secrets(row.text),
    }


def status_of(state: Live | Deleted) -> str:
    """Return what a subscription is: enabled, disabled or deleted."""
    if isinstance(state, Deleted):
        return "deleted"
    return "enabled" if state.enabled else "disabled"


def line_of_occurrence(row: Occurrence) -> dict[str, Any]:
    """Return what has occurred as a line."""
    started = {each.subscription_id: each.started_id for each in row.reservations}
    line = {"source": row.source, "key": row.key_value, "at_ms": row.at_ms}
    return {**line, "started": started}


# -- changing


@changes
@click.option(
    "--cron",
    metavar="EXPRESSION",
    help="Schedule: minute, hour, day of the month, month, day of the week; such as '0 3 * * MON-FRI'.",
)
@click.option(
    "--every", metavar="INTERVAL", help="Schedule: a number and s, m, h or d, such as 90s."
)
@click.option("--at", metavar="TIME", help="Schedule: a single time, such as 2027-01-31T12:00:00.")
@click.option(
    "--zone",
    default="UTC",
    metavar="NAME",
    help="Time zone of --cron and --at, such as Europe/Berlin.  [default: UTC]",
)
@click.option(
    "--missed",
    type=click.Choice([each.value for each in Missed]),
    default=Missed.ONE.value,
    show_default=True,
    help="After a time without a worker: fire the last missed time, all of them (at most 32), or none older than a minute.",
)
@click.option("--session", metavar="SESSION", help="Submit the text to this session.")
@click.option("--new-session", is_flag=True, help="Submit the text to a new session each time.")
@click.option(
    "--job",
    metavar="RUNNER",
    help="Register a job with the text as input.  RUNNER: the name of the function, such as build.",
)
@click.option(
    "--disposition",
    type=click.Choice([each.value for each in Disposition]),
    default=Disposition.RERUNNABLE.value,
    show_default=True,
    help="With --job: who may run the job, and how often.",
)
@click.argument("subscription")
@click.argument("text", required=False)
def add(store: str, trigger: str, subscription: str, text: str | None, **given: Any) -> None:
    """Add a subscription to a trigger: each occurrence starts a job, or an input of a session.

    Creates the trigger if it does not exist.  --cron, --every or --at replaces the schedule of a trigger that exists.
    Without a schedule, only `tenure triggers fire` and your programs make it occur.

    TEXT is the input of the session or of the job.  In it, {body} and {key} are replaced by the body and the key of the
    occurrence.  Without TEXT, the body is the input.

    \b
    Prints one JSON line: {"trigger", "subscription", "status", "revision"}

    \b
    Example:
      tenure triggers add --store sqlite:agent.db nightly report "Write the report." --session ann --cron "0 3 * * *" --zone Europe/Berlin
    """
    session, new, job = given["session"], given["new_session"], given["job"]
    if sum([session is not None, new, job is not None]) != 1:
        raise click.UsageError("expected one of --session, --new-session and --job")
    when = {name: given[name] for name in ("cron", "every", "at", "zone")}
    try:
        scheduled = schedule_of(**when) is not None
    except ValueError as error:
        raise click.UsageError(f"--{error}") from error
    starts: StartsJob | StartsInput = StartsInput(session)
    if job is not None:
        starts = StartsJob(job, Disposition(given["disposition"]))

    async def body(client: Client) -> dict[str, Any]:
        handle = client.trigger(trigger)
        if scheduled or await handle.load() is None:
            try:
                await handle.set(**when, missed=given["missed"])
            except ValueError as error:
                raise CliExit(Exit.UNUSABLE, f"--{error}") from error
        return changed(trigger, subscription, await handle.subscribe(subscription, starts, text))

    execute(store, f"{trigger} {subscription}", body)


@changes
@EXPECTED
@click.argument("subscription")
def disable(store: str, trigger: str, subscription: str, expected: int | None) -> None:
    """Disable a subscription: it starts nothing until you enable it.  Earlier occurrences are still delivered.

    \b
    Prints one JSON line, as `tenure triggers add`

    \b
    Example:
      tenure triggers disable --store sqlite:agent.db nightly report
    """

    async def body(client: Client) -> dict[str, Any]:
        outcome = await client.trigger(trigger).disable(subscription, expected)
        return changed(trigger, subscription, outcome)

    execute(store, f"{trigger} {subscription}", body)


@changes
@EXPECTED
@click.argument("subscription")
def enable(store: str, trigger: str, subscription: str, expected: int | None) -> None:
    """Enable a subscription that was disabled or deleted.  It starts what occurs from now on.

    \b
    Prints one JSON line, as `tenure triggers add`

    \b
    Example:
      tenure triggers enable --store sqlite:agent.db nightly report
    """

    async def body(client: Client) -> dict[str, Any]:
        handle = client.trigger(trigger)
        try:
            outcome = await handle.enable(subscription, expected)
        except CommandRefused as error:
            if error.refused.reason is not Refusal.ENDED:
                raise
            outcome = await handle.revive(subscription, expected)
        return changed(trigger, subscription, outcome)

    execute(store, f"{trigger} {subscription}", body)


@changes
@click.option(
    "--key",
    metavar="KEY",
    help="Idempotency key: the same key with the same body is one occurrence.",
)
@click.argument("body_", metavar="[BODY]", default="")
def fire(store: str, trigger: str, body_: str, key: str | None) -> None:
    """Make a trigger occur now, by hand, with BODY.  This does not change its schedule.

    \b
    Prints one JSON line: {"trigger", "source", "key", "started"}

    \b
    Example:
      tenure triggers fire --store sqlite:agent.db nightly
    """

    async def body(client: Client) -> dict[str, Any]:
        handle = client.trigger(trigger)
        occurred = await handle.occur(key, body_, source="cli")
        started = {each.subscription_id: each.started_id for each in occurred.reservations}
        return {"trigger": trigger, "source": "cli", "key": key, "started": started}

    execute(store, trigger, body)


@changes
@EXPECTED
@click.option(
    "--erase", is_flag=True, help="Only without SUBSCRIPTION: also erase the texts of the trigger."
)
@click.argument("subscription", required=False)
def delete(
    store: str, trigger: str, subscription: str | None, expected: int | None, erase: bool
) -> None:
    """Delete a subscription, or without SUBSCRIPTION the whole trigger.  Earlier occurrences are still delivered.

    The id of a deleted trigger cannot be used again.  `tenure triggers enable` brings a deleted subscription back.

    \b
    Prints one JSON line, as `tenure triggers add`; of a trigger {"trigger", "deleted"}

    \b
    Example:
      tenure triggers delete --store sqlite:agent.db nightly report
    """
    if subscription is not None and erase:
        raise click.UsageError("--erase: only with the whole trigger, without SUBSCRIPTION")

    async def body(client: Client) -> dict[str, Any]:
        handle = client.trigger(trigger)
        if subscription is not None:
            outcome = await handle.unsubscribe(subscription, expected)
            return changed(trigger, subscription, outcome)
        await handle.delete(erase_payloads=erase)
        return {"trigger": trigger, "deleted": True}

    execute(store, f"{trigger} {subscription or ''}".strip(), body)


def changed(trigger: str, subscription: str, outcome: SubscriptionChanged) -> dict[str, Any]:
    """Return a subscription that has changed as a line."""
    status = "deleted" if outcome.deleted else "enabled" if outcome.enabled else "disabled"
    line = {"trigger": trigger, "subscription": subscription}
    return {**line, "status": status, "revision": outcome.revision}


def why(what: str, refused: Refused) -> str:
    """Return why a command on a trigger was refused, in words, with the clause."""
    detail = refused.detail
    words = {
        Refusal.UNKNOWN_TRIGGER: "the store has no such trigger; tenure triggers list shows those it has",
        Refusal.UNKNOWN_SUBSCRIPTION: "the trigger has no such subscription; tenure triggers list shows those it has",
        Refusal.OTHER_KIND: f"this is the id of a {detail}; choose another id for the trigger",
        Refusal.PHASE: "the trigger was deleted, and its id cannot be used again; use another id",
        Refusal.ENDED: "the subscription was deleted; tenure triggers enable revives it",
        Refusal.REVISION: f"its revision is {getattr(detail, 'revision', detail)}; look at it with tenure triggers list, then name this revision",
        Refusal.KEY_CONFLICT: (
            "this key has occurred with another body; use another --key"
            if refused.clause == OTHER_BODY
            else "it starts something else already; add another subscription, and delete this one"
        ),
    }.get(refused.reason, f"{refused.reason.value}: {detail}")
    return f"{what}: {words} ({refused.clause})"
