"""`tenure sessions`: find sessions by label, by the session that they come from, by phase or by creation."""

from __future__ import annotations

from typing import Any

import click

from tenure.questions import SessionItem, Sessions
from tenure.questions.core import PAGE
from tenure.questions.sessions import position_of
from tenure.records import Phase, Profile
from tenure.replace import replace

from .exit import CliExit, Exit, UnreadableSession
from .invoke import invoke_async
from .open_store import Reader, open_read_only
from .options import READ_HELP
from .options import label as label_of
from .output import log, write_lines

__all__ = ["sessions"]


@click.command()
@click.option("--store", required=True, metavar="URL", help=READ_HELP)
@click.option("--label", type=label_of, metavar="NAME=VALUE", help="Only sessions with this label.")
@click.option(
    "--parent", metavar="SESSION", help="Only the children and the forks of this session."
)
@click.option("--phase", type=click.Choice([each.value for each in Phase]), help="Only this phase.")
@click.option("--newest", is_flag=True, help="Only sessions with a profile, the newest first.")
@click.option("--after", default="", metavar="CURSOR", help="Begin after the end of this page.")
@click.option(
    "--limit", default=PAGE, type=click.IntRange(1), show_default=True, help="Sessions to list."
)
def sessions(
    store: str,
    label: tuple[str, str] | None,
    parent: str | None,
    phase: str | None,
    newest: bool,
    after: str,
    limit: int,
) -> None:
    """Find sessions by label, parent, phase or time of creation.

    \b
    Prints a JSON line for each: {"session", "phase", "name", "labels", "relation", "data",
    "created_at_ms", "changed_at_ms", "due_at_ms", "revision"}
    relation         {"kind": "root"}, {"kind": "child", "parent", "cause"}, or
                     {"kind": "fork", "origin", "node"}; null for a session without a profile
    If there are more, the last line is {"after": CURSOR}.

    \b
    The order is that of the ids; with --label, --parent or --newest it is that of creation.
    For runs, leases and inboxes use tenure inspect.

    \b
    Example:
      tenure sessions --store sqlite:agent.db --label customer=ada --phase open

    \b
    Exit codes:
      0  listed
      1  listed, without the sessions that cannot be read
      2  invalid arguments, or no such store
      4  store unavailable, unreadable, or of a newer release
    """
    asked = None if phase is None else Phase(phase)
    question = Sessions(label, parent, asked, newest, after)
    if not question.by_id:
        try:
            position_of(after)
        except ValueError as error:
            raise click.UsageError(f"--{error}") from error
    invoke_async(_sessions(store, question, limit))


async def _sessions(url: str, question: Sessions, limit: int) -> int:
    unreadable: list[UnreadableSession] = []
    async with open_read_only(url, log_line=log) as store:
        items, after = await _listed(store, question, limit, unreadable)
    write_lines([_line(item) for item in items] + ([] if after is None else [{"after": after}]))
    if unreadable:
        raise CliExit(Exit.UNFINISHED, *[f"session {e.session_id}: {e}" for e in unreadable])
    return Exit.OK


async def _listed(
    store: Reader, question: Sessions, limit: int, unreadable: list[UnreadableSession]
) -> tuple[list[SessionItem], str | None]:
    """Return sessions and where the next page begins.  Sessions that cannot be read are added to `unreadable`."""
    items: list[SessionItem] = []
    most = PAGE
    while True:
        wanted = min(most, limit - len(items))
        try:
            page = await store.ask(replace(question, limit=wanted))
        except UnreadableSession as error:
            known = not error.session_id or error.session_id in question.without
            if known or (question.by_id and wanted == 1 and error.session_id <= question.after):
                raise  # it cannot be skipped
            if question.by_id and wanted > 1:
                most = 1  # up to the one that cannot be read
                continue
            unreadable.append(error)
            if question.by_id:
                question, most = replace(question, after=error.session_id), PAGE
            else:
                without = question.without | {error.session_id}
                question = replace(question, without=without)
            continue
        items += page.items
        if page.after is None or len(items) >= limit:
            return items, page.after
        question = replace(question, after=page.after)


def _line(item: SessionItem) -> dict[str, Any]:
    row, profile = item.session, item.profile
    return {
        "session": row.session_id,
        "phase": row.phase.value,
        **_profile(profile),
        "changed_at_ms": row.changed_at_ms,
        "due_at_ms": row.due_at_ms,
        "revision": row.revision,
    }


def _profile(profile: Profile | None) -> dict[str, Any]:
    if profile is None:
        return dict.fromkeys(("name", "relation", "data", "created_at_ms")) | {"labels": {}}
    relation = profile.relation
    kind = relation.__class__.__name__.lower()
    values = {name: getattr(relation, name) for name in relation.__class__.__match_args__}
    return {
        "name": profile.name,
        "labels": dict(profile.labels),
        "relation": {"kind": kind, **values},
        "data": profile.data,
        "created_at_ms": profile.created_at_ms,
    }
