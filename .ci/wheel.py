"""Check that a wheel holds exactly our two packages, both typed, the entry point and the licence."""

from __future__ import annotations

import sys
import zipfile

(path,) = sys.argv[1:]
names = zipfile.ZipFile(path).namelist()
top = {name.split("/")[0] for name in names if ".dist-info/" not in name}
packages = {"tenure", "tenure_drivers"}
if top != packages | {"tenure_cli.py"}:
    sys.exit(f"{path} has the top-level names {sorted(top)}")
if missing := {f"{package}/py.typed" for package in packages} - set(names):
    sys.exit(f"{path} lacks {sorted(missing)}")
if not any(name.endswith(".dist-info/licenses/LICENSE") for name in names):
    sys.exit(f"{path} lacks the licence text")
print(f"{len(names)} files in {sorted(top)}, both packages typed, with the licence")
