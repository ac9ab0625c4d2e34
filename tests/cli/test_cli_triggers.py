"""`tenure triggers`: what operators see and change."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from cli_process import tenure

from tenure_drivers.runtime.client import Client
from tenure_drivers.stores.registry import open_store


@pytest.fixture
def store(tmp_path: Path) -> str:
    url = f"sqlite:{tmp_path / 'a.db'}"

    async def made() -> None:
        opened = open_store(url)
        await Client(opened).submit("ann", "hello")
        await opened.aclose()

    asyncio.run(made())
    return url


def test_a_trigger_is_made_and_fired_by_hand(store: str, tmp_path: Path) -> None:
    on = ("--store", store)
    words = ("nightly", "report", "Report {body}.", "--session", "ann")
    cron = ("--cron", "0 3 * * *", "--zone", "Europe/Berlin")

    added = tenure("triggers", "add", *on, *words, *cron, cwd=tmp_path)
    assert json.loads(added.out) == {
        "trigger": "nightly", "subscription": "report", "status": "enabled", "revision": 1,
    }  # fmt: skip
    fired = tenure("triggers", "fire", *on, "nightly", "now", "--key", "k1", cwd=tmp_path)
    again = tenure("triggers", "fire", *on, "nightly", "now", "--key", "k1", cwd=tmp_path)
    other = tenure("triggers", "fire", *on, "nightly", "other", "--key", "k1", cwd=tmp_path)
    assert json.loads(fired.out) == json.loads(again.out)
    assert other.code == 1 and "TRIGGER-32" in other.err
    seen = tenure("triggers", "list", *on, "nightly", "--occurrences", cwd=tmp_path)
    assert json.loads(seen.out)["started"] == json.loads(fired.out)["started"]
    listed = json.loads(tenure("triggers", "list", *on, cwd=tmp_path).out)
    assert (listed["schedule"], listed["zone"]) == ("cron 0 3 * * *", "Europe/Berlin")
    assert listed["next_at_ms"] > 0 and listed["subscriptions"][0]["text"] == "Report {body}."


def test_a_subscription_changes_and_the_trigger_is_deleted(store: str, tmp_path: Path) -> None:
    on = ("--store", store)
    tenure("triggers", "add", *on, "hook", "build", "--job", "make", cwd=tmp_path)

    stale = tenure("triggers", "disable", *on, "hook", "build", "--expected", "7", cwd=tmp_path)
    assert stale.code == 1 and "its revision is 1; look at it" in stale.err
    statuses = [
        json.loads(tenure("triggers", name, *on, "hook", "build", cwd=tmp_path).out)["status"]
        for name in ("disable", "enable", "delete", "enable")
    ]
    assert statuses == ["disabled", "enabled", "deleted", "enabled"]
    assert tenure("triggers", "delete", *on, "hook", "--erase", cwd=tmp_path).code == 0
    gone = tenure("triggers", "fire", *on, "hook", cwd=tmp_path)
    assert gone.code == 1 and "the trigger was deleted, and its id" in gone.err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("add", "t", "s", "x"), 2, "expected one of --session, --new-session and --job"),
        (("add", "t", "s", "--job", "a", "--every", "1w"), 2, "expected a number and s, m, h or d"),
        (("add", "t", "s", "--job", "a", "--cron", "x"), 2, "expected five fields, minute hour"),
        (("add", "t", "s", "--job", "a", "--at", "2001-01-01"), 2, "it has no time to come"),
        (("add", "t", "s", "--job", "two words"), 1, "runner 'two words'"),
        (("fire", "nowhere"), 1, "nowhere: the store has no such trigger"),
        (("fire", "ann"), 1, "this is the id of a session"),
        (("list", "nowhere"), 1, "the store has no trigger nowhere"),
        (("list", "--occurrences"), 2, "name the trigger"),
    ],
)
def test_what_is_wrong_is_said(
    store: str, tmp_path: Path, words: tuple[str, ...], code: int, message: str
) -> None:
    done = tenure("triggers", words[0], "--store", store, *words[1:], cwd=tmp_path)

    assert done.code == code and message in done.err, (done.code, done.err)


def test_a_trigger_is_no_session(store: str, tmp_path: Path) -> None:
    on = ("--store", store)
    tenure("triggers", "add", *on, "hook", "build", "--job", "make", cwd=tmp_path)

    shown, inspected = [tenure(name, *on, "hook", cwd=tmp_path) for name in ("show", "inspect")]
    submitted = tenure("submit", *on, "hook", "hello", cwd=tmp_path)
    listed = tenure("inspect", *on, "--json", cwd=tmp_path)

    for refused in (shown, inspected):
        assert refused.code == 2
        assert "'hook' is a trigger: `tenure triggers list hook` shows it" in refused.err
    assert submitted.code == 1 and "the id of a trigger, not of a session" in submitted.err
    assert {row["session"]: row["kind"] for row in listed.lines} == {
        "ann": "session", "hook": "trigger",
    }  # fmt: skip
