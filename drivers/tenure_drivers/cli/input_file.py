"""Files that a command reads: UTF-8 text, which may begin with a byte order mark."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import BinaryIO, Final

from .exit import usage_error

__all__ = ["stop_if_not_text", "text_lines"]


FORMATS: Final = {  # how a file begins, what it is, and what to do
    codecs.BOM_UTF32_LE: "UTF-32 text: convert it to UTF-8",
    codecs.BOM_UTF16_LE: "UTF-16 text: convert it to UTF-8",
    codecs.BOM_UTF16_BE: "UTF-16 text: convert it to UTF-8",
    b"\x1f\x8b": "compressed by gzip: decompress it first",
    b"PK\x03\x04": "a zip archive: unpack it first",
    b"\x28\xb5\x2f\xfd": "compressed by zstd: decompress it first",
    b"SQLite format 3\x00": "an SQLite database, not text",
}


def stop_if_not_text(name: str, content: bytes) -> None:
    """Raise CliExit if content begins as a known format that is not UTF-8 text."""
    for start, what in FORMATS.items():
        if content.startswith(start):
            raise usage_error(f"{name} is {what}")


def text_lines(file: BinaryIO) -> Iterator[str]:
    """Yield the lines of a file.  Raises CliExit for another format, and UnicodeDecodeError."""
    for number, line in enumerate(file):
        if not number:
            stop_if_not_text(file.name, line)
            line = line.removeprefix(codecs.BOM_UTF8)
        yield line.decode()
