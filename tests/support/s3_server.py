"""A server that speaks S3, as a process on loopback."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

__all__ = ["KEYS", "s3_server"]

KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}


@contextlib.contextmanager
def s3_server(folder: Path, bucket: str) -> Iterator[str]:
    """Start a server with one bucket; yield its address."""
    log = folder / "s3.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-p", "0"], stdout=out, stderr=subprocess.STDOUT
        )
    try:
        address = None
        while address is None:
            assert process.poll() is None, log.read_text()
            found = re.search(r"Running on (http://[\d.]+:\d+)", log.read_text())
            address = found and found[1]
        made = urllib.request.Request(f"{address}/{bucket}", method="PUT")
        urllib.request.urlopen(made, timeout=10).close()
        yield address
    finally:
        process.kill()
        process.wait()
