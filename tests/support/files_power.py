"""Cut the power of a files store at every change of its folder, and flip bits; return the violations found.

The disk is a real folder and a model beside it: of each file what has been synced and what not, of the folder which
names.  A power cut leaves the names as synced or as they are, and of each file what was synced, more, or everything.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

from attrs import define, field

from tenure.queries import Record
from tenure.world import World, world_of
from tenure_drivers.stores.base import Clock, Corrupt
from tenure_drivers.stores.files.disk import LOCK, Disk
from tenure_drivers.stores.files.store import FilesStore
from tenure_drivers.testing.conformance import ManualClock, Put, RandomProgram, decided

State: TypeAlias = tuple[tuple[str, bytes], ...]  # of a folder
Open: TypeAlias = Callable[[Path, Clock, Disk], FilesStore]

AFTERWARDS = Put("afterwards", "d", "x")


def open_files(folder: Path, clock: Clock, disk: Disk) -> FilesStore:
    return FilesStore(folder, clock=clock, disk=disk)


class QuickDisk(Disk):
    """A disk that syncs nothing, for copies that need not survive a crash."""

    def sync(self, file: int) -> None:
        pass

    def sync_folder(self, folder: Path) -> None:
        pass


@define(eq=False)
class File:
    data: bytearray = field(factory=bytearray)
    synced: int = 0


class PowerDisk(QuickDisk):
    """Calls `change` before each change with what it is."""

    def __init__(self, change: Callable[[str], None] = lambda what: None) -> None:
        self.change = change
        self.names: dict[str, File] = {}
        self.synced: dict[str, File] = {}
        self.opened: dict[int, File] = {}

    def create(self, path: Path) -> int:
        self.change(f"create {path.name}")
        found = super().create(path)
        self.names[path.name] = self.opened[found] = File()
        return found

    def reopen(self, path: Path) -> int:
        found = super().reopen(path)
        self.opened[found] = self.names[path.name]
        return found

    def append(self, file: int, data: bytes) -> None:
        self.change("append")
        super().append(file, data)
        self.opened[file].data += data

    def cut(self, file: int, size: int) -> None:
        self.change("cut")
        super().cut(file, size)
        del self.opened[file].data[size:]

    def sync(self, file: int) -> None:
        self.change("sync")
        self.opened[file].synced = len(self.opened[file].data)

    def rename(self, old: Path, new: Path) -> None:
        self.change(f"rename {old.name}")
        super().rename(old, new)
        self.names[new.name] = self.names.pop(old.name)

    def remove(self, path: Path) -> None:
        self.change(f"remove {path.name}")
        super().remove(path)
        self.names.pop(path.name, None)

    def sync_folder(self, folder: Path) -> None:
        self.change("sync folder")
        self.synced = dict(self.names)

    def left(self, dice: random.Random) -> Iterator[tuple[str, State]]:
        """Yield the folder contents that a power cut may leave now."""
        for which, names in (("names as synced", self.synced), ("all names", self.names)):
            for how in ("what was synced", "some more", "everything"):
                yield (
                    f"{which}, {how}",
                    tuple(
                        (name, bytes(file.data[: _kept(file, how, dice)]))
                        for name, file in sorted(names.items())
                    ),
                )


def _kept(file: File, how: str, dice: random.Random) -> int:
    if how == "everything":
        return len(file.data)
    if how == "what was synced" or file.synced == len(file.data):
        return file.synced
    return dice.randrange(file.synced, len(file.data))


# -- what must hold


@define
class Examiner:
    """Opens a folder after a power cut, checks its records, writes one more, and checks again."""

    open: Open
    folder: Path
    faults: list[str] = field(factory=list)
    seen: set[tuple[int, State]] = field(factory=set)

    def examine(self, when: str, state: State, possible: list[World]) -> None:
        if (id(possible), state) in self.seen:
            return
        self.seen.add((id(possible), state))
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            for file, data in state:
                Path(name, file).write_bytes(data)
            try:
                found = self._held(Path(name))
                if found not in possible:
                    self.faults.append(f"{when}: it holds something else")
                elif world_of(self._again(Path(name))) != self._with_more(found):
                    self.faults.append(f"{when}: it cannot go on")
            except Exception as error:
                self.faults.append(f"{when}: {error!r}")

    def _held(self, folder: Path) -> World:
        store = self.open(folder, ManualClock(), QuickDisk())
        try:
            found = world_of(store.dump_now())
            store.execute_now(AFTERWARDS)
            return found
        finally:
            store.close()

    def _again(self, folder: Path) -> tuple[Record, ...]:
        store = self.open(folder, ManualClock(), QuickDisk())
        try:
            return store.dump_now()
        finally:
            store.close()

    @staticmethod
    def _with_more(world: World) -> World:
        return decided(world, AFTERWARDS, 0)[1]


def cuts(
    folder: Path,
    *,
    open_store: Open = open_files,
    disk: PowerDisk | None = None,
    seed: int = 5,
    steps: int = 24,
    most: int = 1_000,
) -> list[str]:
    """Cut the power at every change of a story with snapshots and reopenings; return at most `most` faults."""
    clock, answered, dice = ManualClock(), 0, random.Random(seed)
    program = RandomProgram(seed, steps)
    possible = program.worlds()
    disk = disk or PowerDisk()
    examiner = Examiner(open_store, folder)
    numbers = iter(range(1_000_000))

    def change(what: str) -> None:
        if len(examiner.faults) < most:
            at = f"before change {next(numbers)}, {what}, group {answered}"
            for how, state in disk.left(dice):
                examiner.examine(f"{at}, {how}", state, possible[answered])

    def hear(step: int) -> None:
        nonlocal answered
        answered = step
        change("answered")
        if step % 7 == 0:
            store.snapshot_now()

    disk.change = change
    store = open_store(folder / "store", clock, disk)
    asyncio.run(program.run(store, clock, hear))
    store.close()
    change("closed")
    return examiner.faults


def crashes(folder: Path, program: RandomProgram) -> Iterator[tuple[int, World]]:
    """What is found after a power cut at every change that a story makes."""
    clock, answered, dice, numbers = (
        ManualClock(),
        0,
        random.Random(program.seed),
        itertools.count(),
    )
    left = list[tuple[int, State]]()

    def change(what: str) -> None:
        left.extend((answered, state) for _, state in disk.left(dice))

    def hear(groups: int) -> None:
        nonlocal answered
        answered = groups

    disk = PowerDisk(change)
    store = open_files(folder / "program", clock, disk)
    asyncio.run(program.run(store, clock, hear))
    store.close()
    for groups, state in dict.fromkeys(left):
        copy = folder / f"cut-{next(numbers)}"
        copy.mkdir()
        for name, data in state:
            (copy / name).write_bytes(data)
        found = open_files(copy, ManualClock(), QuickDisk())
        yield groups, world_of(found.dump_now())
        found.close()


def rots(folder: Path, *, open_store: Open = open_files, every: int = 1) -> list[str]:
    """Flip a bit of each byte of a store that was closed; return where that is not noticed."""
    clock, faults = ManualClock(), []
    store = open_store(folder / "store", clock, QuickDisk())
    asyncio.run(RandomProgram(5, 6).run(store, clock, lambda step: None))
    store.snapshot_now()
    asyncio.run(RandomProgram(9, 6).run(store, clock, lambda step: None))
    whole = world_of(store.dump_now())
    store.close()
    paths = [p for p in sorted((folder / "store").iterdir()) if p.name != LOCK]
    for path in paths:
        data = path.read_bytes()
        for at in range(0, len(data), every):
            with path.open("r+b") as file:
                os.pwrite(file.fileno(), bytes([data[at] ^ (1 << at % 8)]), at)
            fault = _unnoticed(open_store, folder / "store", path, whole)
            if fault:
                faults.append(f"{path.name}, byte {at}: {fault}")
            with path.open("r+b") as file:
                os.pwrite(file.fileno(), data, 0)  # all of it: it may have been repaired
                os.ftruncate(file.fileno(), len(data))
    return faults


def _unnoticed(open_store: Open, folder: Path, path: Path, whole: World) -> str:
    before = os.listdir(folder)
    try:
        store = open_store(folder, ManualClock(), QuickDisk())
    except Corrupt as error:
        if str(path) not in str(error):
            return f"it is not named: {error}"
        return "" if os.listdir(folder) == before else "files have gone"
    except Exception as error:
        return repr(error)
    try:
        if world_of(store.dump_now()) != whole:
            return "it holds something else"
        return "" if store.repaired is not None else "nothing was noticed"
    finally:
        store.close()
