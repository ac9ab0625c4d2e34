"""Negative controls: the suite and the agreement machine reject stores with typical faults."""

from __future__ import annotations

import inspect
import json
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import files_power as power
import pytest
from attrs import evolve
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tenure.commands import Admit
from tenure.machines.lease import Fence, Held
from tenure.outcome import Decided, Drop, Hint, Insert, Update, Write
from tenure.queries import Command, First, Query
from tenure.records import Session
from tenure_drivers.stores.base import Capability, Clock, Due, Durability
from tenure_drivers.stores.files import (
    format as files_format,
)
from tenure_drivers.stores.files import (
    log as files_log,
)
from tenure_drivers.stores.files import (
    recovery as files_recovery,
)
from tenure_drivers.stores.files import (
    store as files,
)
from tenure_drivers.stores.files.disk import Disk
from tenure_drivers.stores.group_commit import (
    Answer,
    Busy,
    NoEngineError,
    execute_wave,
    waves,
)
from tenure_drivers.stores.grouped_store import TablesStore
from tenure_drivers.stores.layout import Layout
from tenure_drivers.stores.memory import MemoryStore
from tenure_drivers.stores.ordered_tables import MemoryTables
from tenure_drivers.stores.overlay import WriteOverlay
from tenure_drivers.testing.agreement import Agreement
from tenure_drivers.testing.conformance import Opener, StoreConformance

Commands = Sequence[Command[Any, Any]]


class Grouped(TablesStore):
    """A correct store in memory that forms groups, and that can be opened again and twice at once."""

    durability = Durability.NOTHING
    capabilities = frozenset((Capability.REOPEN, Capability.PROCESSES, Capability.SKEW))
    disks: ClassVar[dict[Path, MemoryTables]] = {}
    locks: ClassVar[defaultdict[Path, threading.Lock]] = defaultdict(threading.Lock)

    def __init__(self, folder: Path, clock: Clock) -> None:
        super().__init__("grouped", clock)
        self.folder = folder
        self.tables = self.disks.setdefault(folder, self.tables)
        self.turns = self.locks[folder]

    def _execute_group(self, commands: Commands, wait: bool) -> Sequence[Answer]:
        return self.in_turn(commands, wait)

    def in_turn(self, commands: Commands, wait: bool) -> Sequence[Answer]:
        if not wait and self.turns.locked():
            raise Busy
        return self.transact(commands)

    def transact(self, commands: Commands) -> Sequence[Answer]:
        answers: list[Answer] = [NoEngineError()] * len(commands)
        with self.turns, self._reading:
            for wave in waves(commands):
                for at in wave:
                    try:
                        answers[at] = self.wave([commands[at]])[0]
                    except AssertionError as error:
                        answers[at] = error
        return answers

    def wave(self, commands: Commands) -> Sequence[Answer]:
        return execute_wave(
            Tables(self.tables), commands, self._clock(), self.active, NoEngineError
        )


class Tables:
    """Writes decisions to memory tables at once, all or nothing."""

    def __init__(self, tables: MemoryTables) -> None:
        self.tables = tables

    def answer(self, query: Query[Any]) -> Any:
        return self.tables.answer(query)

    def write(self, decisions: Sequence[Decided[Any]]) -> None:
        overlay = WriteOverlay(self.tables)
        overlay.write(decisions)
        overlay.apply()


# -- broken ones


class LosesTheLastWrite(Grouped):
    def wave(self, commands: Commands) -> Sequence[Answer]:
        return execute_wave(
            LosingTables(self.tables), commands, self._clock(), self.active, NoEngineError
        )


class LosingTables(Tables):
    def write(self, decisions: Sequence[Decided[Any]]) -> None:
        for decided in decisions:
            kept = decided.writes[:-1] if len(decided.writes) > 4 else decided.writes
            super().write([Decided(None, "", kept)])


class LeavesTornWrites(Grouped):
    def wave(self, commands: Commands) -> Sequence[Answer]:
        return execute_wave(
            TearingTables(self.tables), commands, self._clock(), self.active, NoEngineError
        )


class TearingTables(Tables):
    def write(self, decisions: Sequence[Decided[Any]]) -> None:
        for decided in decisions:
            for write in decided.writes:
                super().write([Decided(None, "", (write,))])


class InsertsOverWhatExists(Grouped):
    def wave(self, commands: Commands) -> Sequence[Answer]:
        return execute_wave(
            UpsertingTables(self.tables), commands, self._clock(), self.active, NoEngineError
        )


class UpsertingTables(Tables):
    def write(self, decisions: Sequence[Decided[Any]]) -> None:
        super().write([Decided(None, "", tuple(map(self.upsert, d.writes))) for d in decisions])

    def upsert(self, write: Write) -> Write:
        if isinstance(write, Drop):
            return write
        record = write.record
        exists = record in self.tables.rows.get(record.__class__, {}).values()
        return Update(record) if exists else Insert(record)


class DecidesAGroupOnWhatWasBefore(Grouped):
    def transact(self, commands: Commands) -> Sequence[Answer]:
        answers: list[Answer] = []
        for command in commands:
            view = command.reads().view(*map(self.tables.answer, command.reads().queries))
            answers.append(command.decide(view, self._clock()))
        for at, answer in enumerate(answers):
            try:
                Tables(self.tables).write([answer] if isinstance(answer, Decided) else [])
            except AssertionError as error:
                answers[at] = error
        return answers


class AnswersInTheOrderOfItsWaves(Grouped):
    def transact(self, commands: Commands) -> Sequence[Answer]:
        order = [at for wave in waves(commands) for at in wave]
        found = super().transact(commands)
        return [found[at] for at in order]


class ForgetsTheSecondOfASession(Grouped):
    """Executes only the last command of each session, as if a group were a dict by session."""

    def transact(self, commands: Commands) -> Sequence[Answer]:
        last = {command.session_id: command for command in commands}
        answers = dict(zip(last, super().transact(list(last.values())), strict=True))
        return [answers[command.session_id] for command in commands]


class AnswersBeforeItIsOnTheDisk(Grouped):
    """The writes of the last group are missing after reopening."""

    def transact(self, commands: Commands) -> Sequence[Answer]:
        synced = MemoryTables()
        Tables(synced).write([Decided(None, "", tuple(Insert(r) for r in self.held()))])
        self.disks[self.folder] = synced
        return super().transact(commands)

    def held(self) -> list[Any]:
        return [r for rows in self.tables.rows.values() for r in rows.values()]


class ForgetsADescendingColumn(Grouped):
    def wave(self, commands: Commands) -> Sequence[Answer]:
        return execute_wave(
            AscendingTables(self.tables), commands, self._clock(), self.active, NoEngineError
        )


class AscendingTables(LosingTables):
    def answer(self, query: Query[Any]) -> Any:
        found = self.tables.answer(query)
        if isinstance(query, First) and query.index.descending and not query.backwards:
            everything = First(query.index, query.prefix, 1_000)
            return tuple(reversed(self.tables.answer(everything)))[: query.limit]
        return found


class SeesOneLess(Grouped):
    """An index lookup that stops one short."""

    def wave(self, commands: Commands) -> Sequence[Answer]:
        return execute_wave(
            ShortTables(self.tables), commands, self._clock(), self.active, NoEngineError
        )


class ShortTables(LosingTables):
    def answer(self, query: Query[Any]) -> Any:
        found = self.tables.answer(query)
        return found[:-1] if isinstance(query, First) and len(found) > 1 else found


class WritesWhatItRefused(Grouped):
    """Executes each command twice, so that its answer is not what it wrote."""

    def wave(self, commands: Commands) -> Sequence[Answer]:
        super().wave(commands)
        return super().wave(commands)


class LetsAnyFencePass(Grouped):
    """Replaces the fence of each command by the holder's."""

    def wave(self, commands: Commands) -> Sequence[Answer]:
        return super().wave([self.waved_through(command) for command in commands])

    def waved_through(self, command: Command[Any, Any]) -> Command[Any, Any]:
        rows = self.tables.rows.get(Session, {}).values()
        for session in [r for r in rows if r.session_id == command.session_id]:
            if isinstance(session.lease, Held) and hasattr(command, "fence"):
                held = Fence(session.session_id, session.lease.generation, session.lease.lease_id)
                return evolve(command, fence=held)  # type: ignore[misc]
        return command


class TakesAGroupFromBehind(Grouped):
    """Executes the last command first, also within a session."""

    def transact(self, commands: Commands) -> Sequence[Answer]:
        return list(super().transact(commands[::-1]))[::-1]


class ReadsTheClockBeforeTheLock(Grouped):
    def transact(self, commands: Commands) -> Sequence[Answer]:
        clock, now_ms = self._clock, self._clock()
        self._clock = lambda: now_ms
        try:
            return super().transact(commands)
        finally:
            self._clock = clock


class LooksBeforeTheLock(Grouped):
    """Reads before it takes the lock, and decides on those reads after it."""

    def transact(self, commands: Commands) -> Sequence[Answer]:
        if len(commands) > 1:
            return super().transact(commands)
        views = [c.reads().view(*map(self.tables.answer, c.reads().queries)) for c in commands]
        time.sleep(0.001)
        answers: list[Answer] = []
        with self.turns, self._reading:
            for command, view in zip(commands, views, strict=True):
                try:
                    answers.append(command.decide(view, self._clock()))
                    Tables(self.tables).write([a for a in answers if isinstance(a, Decided)])
                except AssertionError as error:
                    answers.append(error)
        return answers[: len(commands)]


class ForgetsWhatItWasAsked(Grouped):
    """Gives a repeated command a new id, as a retry in another layer might."""

    def wave(self, commands: Commands) -> Sequence[Answer]:
        return super().wave([self.renamed(command) for command in commands])

    def renamed(self, command: Command[Any, Any]) -> Command[Any, Any]:
        again = (self.folder, command) in ASKED
        ASKED.add((self.folder, command))
        if again and isinstance(command, Admit):
            inputs = [evolve(new, input_id=f"{new.input_id}-again") for new in command.inputs]
            return evolve(command, inputs=tuple(inputs))
        return command


ASKED: set[tuple[Path, Command[Any, Any]]] = set()


class CallsTheFutureDue(Grouped):
    async def due(self, limit: int) -> tuple[Due, ...]:
        ahead = await self.horizon()
        found = await super().due(limit)
        return found if ahead is None else (*found, Due("s1", ahead))


BROKEN: tuple[type[Grouped], ...] = (
    LosesTheLastWrite,
    LeavesTornWrites,
    InsertsOverWhatExists,
    DecidesAGroupOnWhatWasBefore,
    AnswersInTheOrderOfItsWaves,
    ForgetsTheSecondOfASession,
    AnswersBeforeItIsOnTheDisk,
    ForgetsADescendingColumn,
    SeesOneLess,
    WritesWhatItRefused,
    LetsAnyFencePass,
    TakesAGroupFromBehind,
    ForgetsWhatItWasAsked,
    CallsTheFutureDue,
)
BROKEN_BETWEEN_TWO: tuple[type[Grouped], ...] = (ReadsTheClockBeforeTheLock, LooksBeforeTheLock)


CAUGHT_BY = {
    LetsAnyFencePass: "test_a_stale_fence_writes_nothing",
    ForgetsWhatItWasAsked: "test_a_command_sent_again_after_a_lost_answer_is_a_replay",
    ReadsTheClockBeforeTheLock: "test_the_clock_is_read_after_the_lock",
    LooksBeforeTheLock: "test_two_writers_lose_nothing",
    AnswersBeforeItIsOnTheDisk: "test_answered_commands_are_there_after_reopening",
}


# -- who catches them


@contextmanager
def locked(session_id: str) -> Iterator[None]:
    with Grouped.locks[Path("memory")]:
        yield


class GroupedConformance(StoreConformance):
    capabilities = Grouped.capabilities


def violated(opener: Opener) -> list[str]:
    """The names of the tests of the suite that a store fails."""
    suite, failed = GroupedConformance(), []
    given = {"opened": opener, "locked": locked, "crashes": None}
    for name, test in inspect.getmembers(suite, inspect.ismethod):
        if not name.startswith("test_"):
            continue
        marks = [m for m in getattr(test, "pytestmark", ()) if m.name == "parametrize"]
        cases = [{m.args[0]: value} for m in marks for value in m.args[1]] or [{}]
        for case in cases:
            Grouped.disks.clear()
            ASKED.clear()
            wanted = {k: v for k, v in given.items() if k in inspect.signature(test).parameters}
            try:
                test(**wanted, **case)
            except pytest.skip.Exception:
                continue
            except Exception:
                failed.append(name)
                break
    return failed


def agreement(store: type[Grouped]) -> type[Agreement]:
    class Machine(Agreement):
        openers = {"it": lambda folder, clock: store(folder, clock)}

    return Machine


def check_agreement(store: type[Grouped]) -> None:
    run_state_machine_as_test(
        agreement(store),
        settings=settings(
            deadline=None,
            max_examples=150,
            stateful_step_count=30,
            derandomize=True,
            database=None,
            phases=[Phase.generate],  # that it fails is enough; what with is for a real one
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )


def opener_of(store: type[Grouped]) -> Opener:
    return lambda clock: store(Path("memory"), clock)


def test_the_suite_passes_a_store_that_forms_groups() -> None:
    assert violated(opener_of(Grouped)) == []


def test_the_machine_passes_a_store_that_forms_groups() -> None:
    check_agreement(Grouped)


@pytest.mark.parametrize("store", (*BROKEN, *BROKEN_BETWEEN_TWO), ids=lambda store: store.__name__)
def test_the_suite_catches(store: type[Grouped]) -> None:
    found = violated(opener_of(store))

    assert found != []
    assert CAUGHT_BY.get(store, found[0]) in found


class PromisesTooMuch(MemoryStore):
    durability = Durability.CRASH


class PromisesTooMuchConformance(StoreConformance):
    capabilities = PromisesTooMuch.capabilities


def test_the_suite_catches_a_durability_that_reopening_cannot_show() -> None:
    suite = PromisesTooMuchConformance()

    with pytest.raises(AssertionError, match="does not claim"):
        suite.test_a_store_that_survives_a_crash_can_be_opened_again(
            lambda clock: PromisesTooMuch(clock=clock)
        )


@pytest.mark.parametrize("store", BROKEN, ids=lambda store: store.__name__)
def test_the_machine_catches(store: type[Grouped]) -> None:
    with pytest.raises(Exception):  # noqa: B017 - whatever it makes of it
        check_agreement(store)


class Deaf(Grouped):
    def hints(self) -> Any:
        return Silence()


class Silence:
    def __aiter__(self) -> Silence:
        return self

    async def __anext__(self) -> Hint:
        raise StopAsyncIteration


def test_the_suite_catches_a_store_without_hints() -> None:
    assert violated(opener_of(Deaf)) == ["test_hints_follow_the_commit"]


# -- stores of files: what a power cut and a flipped bit find


class SyncsSome(power.PowerDisk):
    def named(self, file: int) -> bool:
        """Whether the file has its name already: it is the log, and no new one in the making."""
        names = [name for name, found in self.names.items() if found is self.opened[file]]
        return not names[0].endswith(".tmp")


class NeverSyncsTheLog(SyncsSome):
    def sync(self, file: int) -> None:
        self.change("sync")
        if not self.named(file):
            super().sync(file)


class SyncsTheLogTooLate(SyncsSome):
    """Answers first: the log is synced when it is written to again."""

    def sync(self, file: int) -> None:
        self.change("sync")
        if not self.named(file):
            super().sync(file)

    def append(self, file: int, data: bytes) -> None:
        super().append(file, data)
        self.opened[file].synced = len(self.opened[file].data) - len(data)


class SyncsNoNames(power.PowerDisk):
    def sync_folder(self, folder: Path) -> None:
        self.change("sync folder")


class RenamesBeforeItIsSynced(SyncsSome):
    def sync(self, file: int) -> None:
        if self.named(file):
            super().sync(file)


class WritesWhereTheNameIs(power.PowerDisk):
    """No temporary file: a file has its name before it has its contents."""

    def create(self, path: Path) -> int:
        return super().create(path.with_suffix(""))

    def rename(self, old: Path, new: Path) -> None:
        self.change("rename nothing")


@pytest.mark.parametrize(
    "disk",
    (
        NeverSyncsTheLog,
        SyncsTheLogTooLate,
        SyncsNoNames,
        RenamesBeforeItIsSynced,
        WritesWhereTheNameIs,
    ),
    ids=lambda disk: disk.__name__,
)
def test_a_power_cut_catches_a_disk_that(disk: type[power.PowerDisk], tmp_path: Path) -> None:
    assert power.cuts(tmp_path, disk=disk(), most=1) != []


def test_a_power_cut_catches_a_store_that_takes_a_torn_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lenient(path: Path, file: BinaryIO) -> Iterator[files_format.Line]:
        try:
            yield from files_format.lines(path, file)
        except files_format.Damaged as error:
            torn = path.read_bytes()[error.offset :]
            whole = torn[: torn.rindex(b"],[") + 1] + b"]}" if b"],[" in torn else b""
            if not whole.startswith(b'{"crc":'):
                raise
            yield files_format.Line(error.number, error.offset, 0, json.loads(whole))
            raise

    monkeypatch.setattr(files_recovery, "lines", lenient)

    assert power.cuts(tmp_path, most=1) != []


def test_a_power_cut_catches_a_store_that_writes_after_a_torn_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files_log.Log, "cut", lambda log, size: None)

    assert power.cuts(tmp_path, most=1) != []


def test_a_power_cut_catches_a_store_that_forgets_the_log_before_it_has_a_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hasty(
        disk: Disk, folder: Path, behind: files_format.LogPosition, tables: Any, layout: Layout
    ) -> int:
        old = files_recovery.outdated(files_recovery.contents(folder), behind.seq)
        files_recovery.remove(disk, folder, old)
        return files_recovery.write_snapshot(disk, folder, behind, tables, layout)

    monkeypatch.setattr(files, "write_snapshot", hasty)

    assert power.cuts(tmp_path, most=1) != []


def test_flipped_bits_catch_a_store_that_does_not_look_at_checksums(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trusting(path: Path, file: BinaryIO) -> Iterator[files_format.Line]:
        offset = 0
        for number, text in enumerate(file, 1):
            says = json.loads(text)
            yield files_format.Line(number, offset, int(says["crc"], 16), says)
            offset += len(text)

    monkeypatch.setattr(files_recovery, "lines", trusting)

    assert power.rots(tmp_path, every=41) != []


def test_flipped_bits_catch_a_store_that_truncates_at_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damage_as_torn(path: Path, file: BinaryIO) -> Iterator[files_format.Line]:
        try:
            yield from files_format.lines(path, file)
        except files_format.Damaged as error:
            error.torn = True
            raise

    monkeypatch.setattr(files_recovery, "lines", damage_as_torn)

    assert power.rots(tmp_path, every=41) != []
