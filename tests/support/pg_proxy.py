"""A proxy to a server: it forwards bytes on Unix sockets and cuts connections where a test requests it."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

NAME = ".s.PGSQL.5432"


class Proxy:
    """`cut`: None; "before": when COMMIT is sent, it does not arrive; "after": it arrives, and its answer does not.

    A cut is made once.
    """

    def __init__(self, server: str, folder: Path) -> None:
        self.server = str(Path(server) / NAME)
        self.folder = folder
        self.cut: str | None = None
        self.cuts = 0
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(folder / NAME))
        self._listening.listen(64)
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.close()
        for one in self._open:
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(self.server)
            self._open += [client, server]
            silent = threading.Event()
            for source, target, asks in ((client, server, True), (server, client, False)):
                threading.Thread(
                    target=self._forward, args=(source, target, asks, silent), daemon=True
                ).start()

    def _forward(
        self, source: socket.socket, target: socket.socket, asks: bool, silent: threading.Event
    ) -> None:
        writes = False
        try:
            while data := source.recv(65_536):
                writes = writes or b"INSERT" in data
                if asks and self.cut is not None and writes and b"COMMIT\x00" in data:
                    how, self.cut = self.cut, None
                    self.cuts += 1
                    if how == "before":
                        break
                    silent.set()
                elif not asks and silent.is_set():
                    break  # the server has answered, so it has committed
                target.sendall(data)
        except OSError:
            pass
        for one in (source, target):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
