"""Opens a store of bytes by its URL, and imports its module only then."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from ..redaction import know_password_of
from ..stores.url import StoreUrl, split_server_options
from .base import BlobStore

__all__ = ["KNOWN", "open_blobs"]


KNOWN: Final = "folder:PATH, rows:, s3://BUCKET/PREFIX, or nothing:"


def open_blobs(url: str, store: str = "") -> BlobStore:
    """Open the store of the bytes of attachments.

    `folder:PATH`; `rows:` in the database of the records, whose URL is `store` (SQLite or PostgreSQL); `nothing:`, which
    drops them; `s3://BUCKET/PREFIX`, whose query has options of the server, such as `?endpoint=http://localhost:9000&region=eu`.
    Raises ValueError for any other URL, and the errors of the store that is opened.
    """
    scheme, _, rest = url.partition(":")
    match scheme:
        case "folder" if rest:
            from .folder import FolderStore

            return FolderStore(rest)
        case "rows" if not rest:
            return _rows(store)
        case "s3" if rest.startswith("//") and rest[2:]:
            return _s3(url)
        case "nothing" if not rest:
            from .nothing import NothingStore

            return NothingStore()
        case _:
            raise ValueError(f"unknown URL of attachments {url!r}; expected {KNOWN}")


def _rows(store: str) -> BlobStore:
    from .rows import RowsStore, SqliteDatabase

    if not store:
        raise ValueError("rows: needs the URL of the store that has the records")
    know_password_of(store)
    parsed = StoreUrl.parse(store)
    if parsed.scheme == "sqlite" and parsed.path is not None:
        return RowsStore(SqliteDatabase(parsed.path))
    if parsed.scheme in ("postgresql", "postgres"):
        from .rows_postgres import PostgresDatabase

        dsn, options = split_server_options(parsed)
        return RowsStore(PostgresDatabase(dsn, **options))  # type: ignore[arg-type]
    raise ValueError(
        f"rows: needs a store in SQLite or PostgreSQL, not {parsed.redacted!r}; write folder:PATH"
    )


def _s3(url: str) -> BlobStore:
    try:
        from .s3 import S3Store
    except ImportError as error:
        raise ValueError(f"{url!r} needs {error.name}: pip install 'tenure[s3]'") from error

    parts = urlsplit(url)
    options: dict[str, Any] = dict(parse_qsl(parts.query))
    if options.get("endpoint", "").startswith("http:"):
        options["client_options"] = {"allow_http": True}
    return S3Store(parts.netloc, parts.path.strip("/"), **options)
