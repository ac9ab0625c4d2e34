"""Store URLs: parsing, and redaction for messages.  It imports no store; `registry` opens a URL."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from attrs import frozen

KNOWN: Final = "memory:, files:FOLDER, sqlite:PATH, PATH.db, postgresql://HOST/DATABASE"
SERVERS: Final = ("postgresql", "postgres")
SUFFIXES: Final = (".db", ".sqlite", ".sqlite3")

# The first part also matches a password in a URL that lacks its scheme.
_PASSWORD: Final = r"^(?!files:|sqlite:)([\w+.-]+:/*[^/@:]*:|[^/@:]+:(?!/)).*@"


@frozen
class StoreUrl:
    """A parsed store URL.  `rest` is what follows `scheme:`; a bare `PATH.db` has the scheme `sqlite`."""

    text: str
    scheme: str
    rest: str

    @classmethod
    def parse(cls, text: str) -> StoreUrl:
        """Split a URL.  Raises ValueError if its form is wrong; an unregistered scheme passes."""
        scheme, colon, rest = text.partition(":")
        if text.endswith(SUFFIXES) and not (colon and "/" not in scheme):
            return cls(text, "sqlite", text)
        if not colon or not scheme or (scheme in SERVERS and not rest.startswith("//")):
            raise ValueError(f"unknown store URL {redact(text)!r}; expected {KNOWN}")
        if scheme == "memory" and rest:
            raise ValueError(f"invalid store URL {text!r}: memory: takes no name")
        if scheme in ("files", "sqlite"):
            rest = _path_of(text, scheme, rest)
        return cls(text, scheme, rest)

    @property
    def redacted(self) -> str:
        """The URL for messages, without its password."""
        return redact(self.text)

    @property
    def path(self) -> Path | None:
        """The file or folder of the store; None for any other store."""
        return Path(self.rest) if self.scheme in ("files", "sqlite") else None


def _path_of(text: str, scheme: str, rest: str) -> str:
    """Return the path in a URL.  Raises ValueError for a form that other libraries read as another path."""
    name = rest.lstrip("/")
    if not name:
        known = "files:FOLDER" if scheme == "files" else "sqlite:PATH"
        raise ValueError(f"invalid store URL {text!r}: the path is missing, write {known}")
    if scheme == "sqlite" and name.startswith(":memory:"):
        raise ValueError(f"invalid store URL {text!r}: for a store in memory write memory:")
    if scheme == "sqlite" and name.startswith("file:"):
        raise ValueError(
            f"invalid store URL {text!r}: a URI of SQLite is not taken, write sqlite:PATH"
        )
    slashes = len(rest) - len(name)
    if slashes == 2 or (slashes == 3 and "/" not in name):
        raise ValueError(
            f"invalid store URL {text!r}: write {scheme}:{name} for a path in this folder, "
            f"or {scheme}:/{name}"
        )
    return rest.removeprefix("//") if slashes >= 3 else rest


def redact(text: str) -> str:
    """Replace the password in a URL by `***`, also where the URL is malformed."""
    text = re.sub(_PASSWORD, r"\1***@", text, flags=re.DOTALL)
    return re.sub(r"(password\s*=)[^&]*", r"\1***", text)


def split_server_options(url: StoreUrl) -> tuple[str, dict[str, object]]:
    """Split a server's URL into the DSN for libpq and our options `tenure_schema` and `prepare`.

    Raises ValueError for a `prepare` that is neither on nor off.
    """
    dsn, question, query = url.text.partition("?")
    options: dict[str, object] = {}
    others = []
    for part in query.split("&") if question else ():
        name, _, value = part.partition("=")
        if name == "tenure_schema":
            options["schema"] = unquote(value)
        elif name == "prepare":
            if value not in ("on", "off"):
                raise ValueError(
                    f"invalid store URL {url.redacted!r}: prepare must be on or off, not {value!r}"
                )
            options["prepare"] = value == "on"
        else:
            others.append(part)
    return (f"{dsn}?{'&'.join(others)}" if others else dsn), options


def stored_path(text: str, *schemes: str) -> Path | None:
    """The file or folder that a URL names; None for a store without one and for a malformed URL.

    With `schemes`, also None for the other schemes.
    """
    try:
        url = StoreUrl.parse(text)
    except ValueError:
        return None
    return url.path if not schemes or url.scheme in schemes else None


def sqlite_path(text: str) -> Path | None:
    """The SQLite file that a URL names; None for any other store and for a malformed URL."""
    return stored_path(text, "sqlite")


def is_server(text: str) -> bool:
    """Return True if a URL has the scheme of a database server, malformed or not."""
    return text.partition(":")[0] in SERVERS


__all__ = [
    "KNOWN",
    "StoreUrl",
    "is_server",
    "redact",
    "split_server_options",
    "sqlite_path",
    "stored_path",
]
