"""A throw-away environment for what tenure is measured beside: made when it is needed, and gone afterwards."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator, Sequence
from pathlib import Path

from attrs import define, field

from .measure import Missing, Say

INSTALL_S = 600
VERSIONS = "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"


@define
class Environment:
    """Packages are installed once, when they are first asked for; what cannot be is said once and remembered."""

    folder: Path
    _tried: dict[str, str | None] = field(factory=dict)  # package -> why not

    @property
    def python(self) -> str:
        return str(self.folder / "bin" / "python")

    def need(self, packages: Sequence[str], say: Say = lambda text: None) -> str:
        """The interpreter that has these.  Raises Missing."""
        name = " ".join(packages)
        if name not in self._tried:
            say(f"installing {name}")
            self._tried[name] = self._install(packages)
        why = self._tried[name]
        if why is not None:
            raise Missing(f"{name} cannot be installed: {why}")
        return self.python

    def _install(self, packages: Sequence[str]) -> str | None:
        try:
            if not Path(self.python).exists():
                venv.create(self.folder, with_pip=_uv() is None)
            pip = [_uv() or "", "pip", "install", "--quiet", "--python", self.python]
            if not pip[0]:
                pip = [self.python, "-m", "pip", "install", "--quiet"]
            subprocess.run(
                [*pip, *packages], check=True, text=True, capture_output=True, timeout=INSTALL_S
            )
        except subprocess.CalledProcessError as error:
            lines = [line for line in error.stderr.splitlines() if line.strip()]
            last = re.sub(r"\w+://\S+", "its address", lines[-1].strip()) if lines else ""
            return last[:200] or f"exit code {error.returncode}"
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)[:200]
        return None

    def versions(self) -> dict[str, str]:
        if not Path(self.python).exists():
            return {}
        said = subprocess.run(
            [self.python, "-c", VERSIONS], check=True, text=True, capture_output=True
        )
        found: dict[str, str] = json.loads(said.stdout)
        return {name.lower(): version for name, version in found.items()}


def _uv() -> str | None:
    """Faster than pip, and in the test extra's company more often than not."""
    beside = Path(sys.executable).with_name("uv")
    return str(beside) if beside.exists() else shutil.which("uv")


@contextlib.contextmanager
def environment(keep: Path | None) -> Iterator[Environment]:
    if keep is not None:
        yield Environment(keep.resolve())
        return
    with tempfile.TemporaryDirectory(prefix="bench-peers-") as name:
        yield Environment(Path(name))


def own_versions() -> dict[str, str]:
    """What this process measures with."""
    import sqlite3

    found = {"python": sys.version.split()[0], "sqlite": sqlite3.sqlite_version}
    for package in ("attrs", "msgspec", "psycopg", "transitions"):
        if importlib.util.find_spec(package) is not None:
            found[package] = importlib.metadata.version(package)
    return found
