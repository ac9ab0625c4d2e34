"""Items on every store, beside both floors and beside peers, at 1, 4, 16 and 64 sessions."""

from __future__ import annotations

import itertools
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from attrs import frozen

from . import peer_cases
from .children import WARM_S, together
from .environment import Environment
from .measure import Budget, Case, Failed, Figure, Missing, Sample, Say, figures, interleave
from .peer_cases import Peer
from .servers import Databases

T = TypeVar("T")
SESSIONS = (1, 4, 16, 64)
AMONG = 10_000
PROCESSES, EACH = 4, 16
MINIMAL, SAME = "minimal", "same rows"
FSYNC, FSYNC_SLOWER = "one fsync an item", "one fsync an item, 2 ms slower"
SYNC = "tenure, without an event loop, 1 session"
BOTH = (MINIMAL, SAME)
CHILD = "bench.child"


@frozen
class Bench:
    """What every section is given."""

    folder: Path
    rounds: int
    seconds: float
    say: Say
    sessions: tuple[int, ...] = SESSIONS
    among: int = AMONG
    warm_s: float = WARM_S
    processes: int = PROCESSES
    environment: Environment | None = None  # None: without peers
    databases: Databases | None = None


Section = tuple[list[Figure], list[Failed]]
NUMBERS = itertools.count()


def spaced(bench: Bench, run: Callable[[Path], T]) -> T:
    """A folder for one case in one round."""
    folder = bench.folder / f"case-{next(NUMBERS)}"
    folder.mkdir()
    try:
        return run(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def local(
    bench: Bench, name: str, words: Sequence[dict[str, Any]], *floors: str, **facts: Any
) -> Case:
    """A case on files: FOLDER in its words is an empty one."""

    def run(seconds: float) -> Sample:
        def once(folder: Path) -> Sample:
            return together(
                sys.executable, CHILD, _placed(words, str(folder)), seconds, bench.warm_s
            )

        return spaced(bench, once)

    return Case(name, run, floors, facts)


def _placed(words: Sequence[dict[str, Any]], folder: str) -> list[dict[str, Any]]:
    return [
        {k: v.replace("FOLDER", folder) if isinstance(v, str) else v for k, v in word.items()}
        for word in words
    ]


def served(
    bench: Bench, name: str, words: Sequence[dict[str, Any]], *floors: str, **facts: Any
) -> Case:
    """A case on the server: it gets an empty database.  What is written is the server's log."""
    databases = bench.databases
    assert databases is not None

    def run(seconds: float) -> Sample:
        with databases.database() as url:
            said = [{**word, "url": url} for word in words]
            return together(sys.executable, CHILD, said, seconds, bench.warm_s, databases.written)

    return Case(name, run, floors, facts)


def of_peer(bench: Bench, peer: Peer, sessions: int, on_server: bool) -> Case:
    environment = bench.environment
    assert environment is not None
    facts = {"who": peer.name, "sessions": sessions, "peer": True}

    def run(seconds: float) -> Sample:
        python = environment.need(peer.packages, bench.say)
        module = f"bench.peers.{peer.module}"

        def once(folder: Path) -> Sample:
            words = {"sessions": sessions, "path": str(folder / "peer.db"), **peer.words}
            if not on_server:
                if peer.module == "with_dbos":
                    words["url"] = f"sqlite:///{folder / 'dbos.db'}"
                return together(python, module, [words], seconds, bench.warm_s)
            databases = bench.databases
            assert databases is not None
            with databases.database() as url:
                return together(
                    python,
                    module,
                    [{**words, "url": url}],
                    seconds,
                    bench.warm_s,
                    databases.written,
                )

        return spaced(bench, once)

    return Case(named(peer.name, sessions), run, BOTH, facts)


def named(who: str, sessions: int) -> str:
    return f"{who}, {sessions} session{'s' * (sessions != 1)}"


def tenure(sessions: int, url: str = "", first: int = 0) -> dict[str, Any]:
    return {"case": "tenure", "url": url, "sessions": sessions, "first": first}


def mine(sessions: int, **more: Any) -> dict[str, Any]:
    return {"who": "tenure", "sessions": sessions, **more}


def several(bench: Bench, url: str = "") -> tuple[str, list[dict[str, Any]]]:
    """Processes that share a store, and the window."""
    name = f"tenure, {bench.processes} processes of {EACH} sessions"
    return name, [tenure(EACH, url, number * EACH) for number in range(bench.processes)]


def peers_of(
    bench: Bench, peers: Sequence[Peer], on_server: bool
) -> tuple[list[Case], list[Failed]]:
    """One look at whether each can be had: a failure is named once, not for each number of sessions."""
    if bench.environment is None:
        return [], []
    cases, failed = [], []
    for peer in peers:
        try:
            bench.environment.need(peer.packages, bench.say)
        except Missing as error:
            failed.append(Failed(peer.name, str(error)))
            continue
        cases += [of_peer(bench, peer, sessions, on_server) for sessions in bench.sessions]
    return cases, failed


def measured(
    bench: Bench,
    cases: Sequence[Case],
    failed: Sequence[Failed],
    budgets: Sequence[Budget],
) -> Section:
    rounds, more = interleave(cases, bench.rounds, bench.seconds, bench.say)
    return figures(cases, rounds, budgets), [*failed, *more]


# -- the sections


def memory(bench: Bench) -> Section:
    cases = [
        local(bench, MINIMAL, [{"case": "minimal", "path": "FOLDER/floor.db"}], who=MINIMAL),
        *[
            local(bench, named("tenure", n), [tenure(n, "memory:")], MINIMAL, **mine(n))
            for n in bench.sessions
        ],
    ]
    return measured(bench, cases, [], ())


def sqlite(bench: Bench) -> Section:
    url = "sqlite:FOLDER/items.db"
    floor = {"path": "FOLDER/floor.db"}
    cases = [
        local(bench, MINIMAL, [{"case": "minimal", **floor}], who=MINIMAL),
        local(bench, SAME, [{"case": "same_rows", **floor}], MINIMAL, who=SAME),
        local(bench, SYNC, [{"case": "tenure_sync", "url": url}], *BOTH),
        *[
            local(bench, named("tenure", n), [tenure(n, url)], *BOTH, **mine(n))
            for n in bench.sessions
        ],
        _roaming(bench),
        local(bench, *several(bench, url), *BOTH),
    ]
    theirs, failed = peers_of(bench, peer_cases.SQLITE, on_server=False)
    last = named("tenure", 64)
    budgets = (
        Budget(SYNC, MINIMAL, 0.55),
        Budget(named("tenure", 1), MINIMAL, 0.4),
        Budget(last, MINIMAL, 2.5),
        Budget(last, SAME, 1.5),
        Budget(last, named("DBOS, queue", 64), 30.0),
        Budget(_roaming(bench).name, MINIMAL, 1.3),
    )
    return measured(bench, [*cases, *theirs], failed, budgets)


def _roaming(bench: Bench) -> Case:
    """The large database is filled in the first round and used again."""
    path = bench.folder / "large.db"

    def run(seconds: float) -> Sample:
        words = {
            "case": "tenure_roaming", "url": f"sqlite:{path}", "sessions": 64,
            "among": bench.among, "fill": not path.exists(),
        }  # fmt: skip
        return together(sys.executable, CHILD, [words], seconds, bench.warm_s)

    return Case(f"tenure, 64 random of {bench.among:,} sessions", run, BOTH)


def files(bench: Bench) -> Section:
    url = "files:FOLDER/store"
    idle, slower = {**tenure(64, url), "disk": "unsynced"}, {**tenure(64, url), "disk": "slower"}
    cases = [
        local(bench, FSYNC, [_fsync("")], who=FSYNC),
        *[
            local(bench, named("tenure", n), [tenure(n, url)], FSYNC, **mine(n))
            for n in bench.sessions
        ],
        local(bench, "tenure, 64 sessions, syncing nothing", [idle], FSYNC),
        local(bench, FSYNC_SLOWER, [_fsync("slower")]),
        local(bench, "tenure, 64 sessions, 2 ms slower", [slower], FSYNC_SLOWER),
    ]
    budgets = (
        Budget(named("tenure", 64), FSYNC, 5.0),
        Budget("tenure, 64 sessions, 2 ms slower", FSYNC_SLOWER, 5.0),
    )
    return measured(bench, cases, [], budgets)


def _fsync(disk: str) -> dict[str, Any]:
    return {"case": "fsync", "path": "FOLDER/floor.jsonl", "disk": disk}


def postgres(bench: Bench) -> Section:
    connections = f"{MINIMAL}, as many connections"
    cases = [
        served(bench, MINIMAL, [{"case": "minimal_postgres", "sessions": 1}], who=MINIMAL),
        served(bench, SAME, [{"case": "same_rows_postgres"}], MINIMAL, who=SAME),
        *[
            served(
                bench,
                f"{MINIMAL}, {n} connections",
                [{"case": "minimal_postgres", "sessions": n}],
                MINIMAL,
                who=connections,
                sessions=n,
            )
            for n in bench.sessions
            if n > 1
        ],
        *[served(bench, named("tenure", n), [tenure(n)], *BOTH, **mine(n)) for n in bench.sessions],
        served(bench, *several(bench), *BOTH),
    ]
    theirs, failed = peers_of(bench, peer_cases.POSTGRES, on_server=True)
    last = named("tenure", 64)
    budgets = (
        Budget(named("tenure", 1), MINIMAL, 0.25),
        Budget(last, MINIMAL, 2.5),
        Budget(last, named("PgQueuer", 64), 1.0),
        Budget(last, named("procrastinate", 64), 1.0),
    )
    return measured(bench, [*cases, *theirs], failed, budgets)
