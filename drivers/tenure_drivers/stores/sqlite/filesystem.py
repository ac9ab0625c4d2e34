"""Recognises files on which SQLite would lose commits or hang: on a network, with hard links, pipes.  Specs: STORE-20, STORE-25.

SQLite's write-ahead log needs shared memory and locks between all processes that have the file open.  A network file
system has neither: two machines would overwrite each other's commits unnoticed.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path

from attrs import frozen

from ..base import Unusable

__all__ = ["ALLOW", "mount_of", "mounts_of", "refuse_odd_files", "refuse_network"]


MOUNTS = Path("/proc/self/mounts")
ALLOW = "TENURE_NETWORK_FILES"
ROOT = "/"
ESCAPED = re.compile(r"\\([0-7]{3})")

NETWORK = frozenset(
    (
        *("nfs", "nfs4", "cifs", "smb2", "smb3", "smbfs", "ncpfs", "afs", "coda", "davfs"),
        *("ceph", "lustre", "gpfs", "beegfs", "glusterfs", "orangefs", "ocfs2", "gfs2", "9p"),
        *("fuse.sshfs", "fuse.s3fs", "fuse.gcsfuse", "fuse.rclone", "fuse.glusterfs", "fuse.goofys"),
        *("fuse.mount-s3", "fuse.ceph", "fuse.ceph-fuse", "fuse.juicefs", "fuse.seaweedfs"),
        *("fuse.blobfuse", "fuse.blobfuse2", "fuse.curlftpfs", "fuse.davfs", "fuse.nfs"),
    )
)  # fmt: skip


@frozen
class Mount:
    """A mount: `source` is mounted on `point`."""

    source: str
    point: str
    kind: str

    @property
    def network(self) -> bool:
        """Return True if other machines may reach it.  A root file system of kind 9p (a sandbox) is not shared."""
        return self.kind in NETWORK and not (self.kind == "9p" and self.point == ROOT)


def mounts_of(table: str) -> tuple[Mount, ...]:
    """Parse the lines of /proc/mounts; blanks in names are written as \\040."""
    found = []
    for line in table.splitlines():
        words = [ESCAPED.sub(lambda code: chr(int(code[1], 8)), w) for w in line.split()[:3]]
        if len(words) == 3:
            found.append(Mount(*words))
    return tuple(found)


def mount_of(path: str, mounts: Iterable[Mount]) -> Mount | None:
    """Return the deepest mount that contains an absolute path; of several on one point, the last hides the others."""
    found: Mount | None = None
    for mount in mounts:
        point = mount.point.rstrip("/") + "/"
        if (path + "/").startswith(point) and (
            found is None or len(mount.point) >= len(found.point)
        ):
            found = mount
    return found


def _mount(path: Path) -> Mount | None:
    try:
        table = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:  # not Linux: unknown
        return None
    return mount_of(os.path.realpath(path), mounts_of(table))


def refuse_odd_files(path: Path) -> None:
    """STORE-25: raise Unusable if it is no regular file, or has several names: each would get a log of its own.

    A file that is mounted by itself has another name where it comes from, and its log is not mounted with it.
    """
    mount = _mount(path)
    if mount is not None and mount.point == os.path.realpath(path) and path.is_file():
        raise Unusable(
            f"{path} is mounted without its folder, where the log is kept: mount the folder"
        )
    try:
        found = os.stat(path)
    except OSError:  # created later, or reported when it is opened
        return
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        raise Unusable(f"{path} is a pipe, a socket or a device: name a regular file")
    if stat.S_ISREG(found.st_mode) and found.st_nlink > 1:
        raise Unusable(
            f"{path} has {found.st_nlink} hard links, and commits through different names are lost: "
            f"remove the others (find -inum {found.st_ino})"
        )


def refuse_network(path: Path) -> None:
    """Raise ValueError if other machines may reach this file."""
    if os.environ.get(ALLOW) == "1":
        return
    mount = _mount(path)
    if mount is not None and mount.network:
        raise ValueError(
            f"{path} is on a network file system ({mount.point}, {mount.kind}, {mount.source}), on which SQLite "
            "loses commits if two machines write. Use a local disk, or postgresql:// for several machines. "
            f"If only one machine will ever open the file, set {ALLOW}=1"
        )
