"""SQLite files on network file systems are refused, unless an environment variable allows them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tenure_drivers.stores.base import Unusable
from tenure_drivers.stores.registry import open_store
from tenure_drivers.stores.sqlite import filesystem
from tenure_drivers.stores.sqlite.filesystem import ALLOW, mount_of, mounts_of
from tenure_drivers.stores.sqlite.store import SqliteStore
from tenure_drivers.testing.conformance import Put

TABLE = r"""
/dev/vda1 / ext4 rw,relatime 0 0
proc /proc proc rw,nosuid,nodev,noexec,relatime 0 0
tmpfs /dev/shm tmpfs rw,nosuid,nodev 0 0
filer:/export/home /home nfs4 rw,relatime,vers=4.2,addr=10.0.0.1 0 0
/dev/vdb1 /home/local xfs rw,relatime 0 0
//filer/share /mnt/the\040share cifs rw,vers=3.1.1,username=me 0 0
filer:/old /srv/old nfs rw,vers=3 0 0
/dev/vdc1 /srv/old ext4 rw 0 0
me@host:/data /mnt/ssh fuse.sshfs rw,nosuid,nodev,user_id=0 0 0
drvfs /mnt/c 9p rw,noatime,dirsync,aname=drvfs;path=C:\134 0 0
overlay /var/lib/containers overlay rw,relatime 0 0
"""


@pytest.mark.parametrize(
    ("path", "point", "network"),
    (
        ("/var/lib/agent.db", "/", False),
        ("/dev/shm/agent.db", "/dev/shm", False),
        ("/home/ann/agent.db", "/home", True),
        ("/homestead/agent.db", "/", False),
        ("/home/local/agent.db", "/home/local", False),
        ("/mnt/the share/agent.db", "/mnt/the share", True),
        ("/srv/old/agent.db", "/srv/old", False),  # the second mount hides the first
        ("/mnt/ssh/agent.db", "/mnt/ssh", True),
        ("/mnt/c/agent.db", "/mnt/c", True),
        ("/var/lib/containers/agent.db", "/var/lib/containers", False),
    ),
)
def test_a_path_is_on_the_deepest_mount(path: str, point: str, network: bool) -> None:
    found = mount_of(path, mounts_of(TABLE))

    assert found is not None
    assert (found.point, found.network) == (point, network)


def test_what_a_whole_machine_runs_on_is_its_own() -> None:
    (root,) = mounts_of("none / 9p rw,trans=fd,cache=remote_revalidating 0 0")

    assert not root.network


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that the table of mounts says is on a network."""
    table = tmp_path / "mounts"
    table.write_text(f"/dev/vda1 / ext4 rw 0 0\nfiler:/export {tmp_path}/net nfs4 rw 0 0\n")
    (tmp_path / "net").mkdir()
    monkeypatch.setattr(filesystem, "MOUNTS", table)
    return tmp_path / "net"


def test_a_network_file_system_is_refused_and_named(shared: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(shared)

    for folder in (shared, tmp_path / "link"):
        with pytest.raises(ValueError, match="nfs4, filer:/export") as refused:
            open_store(f"sqlite:{folder}/agent.db")

    assert f"set {ALLOW}=1" in str(refused.value) and "postgresql://" in str(refused.value)
    assert list(shared.iterdir()) == []


def test_an_environment_variable_allows_a_network_file_system(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ALLOW, "1")

    store = SqliteStore(shared / "agent.db")

    assert asyncio.run(store.execute(Put("s", "d", "x"))) == ""
    store.close()


def test_without_a_table_of_mounts_nothing_is_refused(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filesystem, "MOUNTS", shared / "nowhere")

    SqliteStore(shared / "agent.db").close()


def test_a_file_that_is_mounted_without_its_folder_is_refused(  # STORE-25
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, table = tmp_path / "agent.db", tmp_path / "mounts"
    table.write_text(f"/dev/vda1 / ext4 rw 0 0\n/dev/vda1 {path} ext4 rw 0 0\n")
    path.touch()
    monkeypatch.setattr(filesystem, "MOUNTS", table)

    with pytest.raises(Unusable, match="is mounted without its folder, where the log is kept"):
        SqliteStore(path)
    SqliteStore(tmp_path / "other.db").close()
