"""Payload hooks for tests."""

from __future__ import annotations

import base64

__all__ = ["Cipher", "Rotated"]


class Cipher:
    """A hook with keys: it seals with the first one, and unseals with any."""

    def __init__(self, *keys: str) -> None:
        self.keys = keys
        self.works = True

    def seal(self, text: str) -> str:
        if not self.works:
            raise ConnectionError("no key server")
        return f"{self.keys[0]}:{base64.b64encode(text.encode()[::-1]).decode()}"

    def unseal(self, text: str) -> str:
        if not self.works:
            raise ConnectionError("no key server")
        key, _, sealed = text.partition(":")
        if key not in self.keys:
            raise ValueError(f"unknown key {key!r}")
        return base64.b64decode(sealed)[::-1].decode()


class Rotated(Cipher):
    """The hook after its key was replaced."""

    def __init__(self) -> None:
        super().__init__("k2", "k1")
