"""A server that speaks the chat-completions protocol on loopback, with any fault that its script asks for.

In a test: `async with ModelServer(script) as server: ... server.url`.  As a process, for demos:
`python tests/support/model_server.py --port 0 --script faults --seed 7` prints its URL and serves until it is killed.
What it answers is a function of the conversation and the seed, so any process gets the same answers.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Sequence
from typing import Self

from model_script import Asked, Fault, Faulty, Model, Raw, Refuse, Say, Script
from model_wire import chunks_of, completion_of


class Over(Exception):
    """The connection is not to be used again."""


class ModelServer:
    def __init__(self, script: Script, *, key: str | None = None) -> None:
        self.script = script
        self.key = key
        self.asked: list[Asked] = []
        self.arrived = asyncio.Condition()
        self.released = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    @property
    def url(self) -> str:
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"http://{host}:{port}/v1"

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self._server = await asyncio.start_server(self._serve, host, port)

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        await self._server.wait_closed()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    async def nth(self, number: int) -> Asked:
        """Request number `number`, as soon as it has come."""
        async with self.arrived:
            await self.arrived.wait_for(lambda: len(self.asked) >= number)
        return self.asked[number - 1]

    def release(self) -> None:
        self.released.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = writer
        try:
            while True:
                await self._answer(reader, writer)
        except (Over, OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            del self._open[task]
            writer.close()
            try:
                await writer.wait_closed()
            except (OSError, asyncio.CancelledError):
                pass

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split(" ", 2)
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head[1:] if line)
        }
        raw = await reader.readexactly(int(headers.get("content-length", "0")))
        if method == "GET" and path.endswith("/models"):
            await self._whole(writer, 200, json.dumps({"object": "list", "data": []}))
            return
        if method != "POST" or not path.partition("?")[0].endswith("/chat/completions"):
            await self._refuse(writer, Refuse(404, f"no such page: {path}"))
            return
        asked = Asked(len(self.asked) + 1, path, headers, json.loads(raw))
        async with self.arrived:
            self.asked.append(asked)
            self.arrived.notify_all()
        given = headers.get("authorization", "").removeprefix("Bearer ")
        if self.key is not None and given != self.key:
            message = f"Incorrect API key provided: {given}."  # an indiscreet server
            await self._refuse(writer, Refuse(401, message, "invalid_api_key"))
            return
        answer = self.script(asked)
        if isinstance(answer, Raw):
            await self._whole(writer, answer.status, answer.body, kind=answer.content_type)
        elif isinstance(answer, Refuse):
            await self._refuse(writer, answer)
        elif asked.body.get("stream") and not answer.plain:
            await self._stream(reader, writer, asked, answer)
        else:
            await self._complete(reader, writer, asked, answer)

    async def _refuse(self, writer: asyncio.StreamWriter, refuse: Refuse) -> None:
        error = {"message": refuse.message, "type": refuse.kind, "code": refuse.code, "param": None}
        body = json.dumps({"error": error}) if refuse.body is None else refuse.body
        await self._whole(writer, refuse.status, body, refuse.headers, refuse.cut)

    async def _whole(
        self,
        writer: asyncio.StreamWriter,
        status: int,
        body: str,
        headers: Sequence[tuple[str, str]] = (),
        cut: bool = False,
        kind: str = "",
    ) -> None:
        raw = body.encode()
        kind = kind or ("application/json" if body.startswith(("{", "[")) else "text/html")
        lines = [f"HTTP/1.1 {status} Said", f"content-type: {kind}", f"content-length: {len(raw)}"]
        lines += [f"{name}: {value}" for name, value in headers]
        writer.write(
            ("\r\n".join(lines) + "\r\n\r\n").encode() + raw[: len(raw) // 2 if cut else None]
        )
        await writer.drain()
        if cut:
            raise Over

    async def _complete(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: Asked, say: Say
    ) -> None:
        body = completion_of(asked, say)
        match say.fault:
            case Fault.HOLD:
                await self._hold(reader, asked)
            case Fault.GARBAGE:
                body = body[: len(body) // 2]
            case Fault.ODD:
                body = '{"choices": {"index": "none"}}'
            case Fault.ERROR:
                body = f'{{"error": {say.error}}}'
        await self._whole(writer, 200, body, cut=say.fault is Fault.CUT)

    async def _stream(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: Asked, say: Say
    ) -> None:
        writer.write(
            b"HTTP/1.1 200 Said\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        try:
            for i, chunk in enumerate([*chunks_of(asked, say), "[DONE]"]):
                if i == say.at and say.fault is not None:
                    await self._strike(reader, writer, asked, say)
                    if say.fault is Fault.CLOSE:
                        break
                if say.pause_ms:
                    await asyncio.sleep(say.pause_ms / 1000)
                await _send(writer, chunk.encode())
            writer.write(b"0\r\n\r\n")
            await writer.drain()
        except OSError:
            asked.gone.set()
            raise

    async def _strike(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: Asked, say: Say
    ) -> None:
        match say.fault:
            case Fault.CUT:
                raise Over
            case Fault.GARBAGE:
                await _send(writer, b'{"id": "chatcmpl-broken", "choices": [{"ind')
            case Fault.BYTES:
                await _send(writer, b'{"id": "\xff\xfe"}')
            case Fault.ODD:
                await _send(writer, b'{"choices": [{"delta": {"tool_calls": "none"}}]}')
            case Fault.ERROR:
                await _send(writer, f'{{"error": {say.error}}}'.encode())
            case Fault.HOLD:
                await self._hold(reader, asked)

    async def _hold(self, reader: asyncio.StreamReader, asked: Asked) -> None:
        """Until `release`; a client that goes before that is noticed."""
        asked.begun.set()
        left = asyncio.ensure_future(reader.read(1))
        free = asyncio.ensure_future(self.released.wait())
        try:
            await asyncio.wait({left, free}, return_when=asyncio.FIRST_COMPLETED)
            if left.done():
                asked.gone.set()
                raise Over
        finally:
            for task in (left, free):
                task.cancel()
            await asyncio.gather(left, free, return_exceptions=True)


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    event = b"data: " + data + b"\n\n"
    writer.write(f"{len(event):x}\r\n".encode() + event + b"\r\n")
    await writer.drain()


async def _serve_for_ever(server: ModelServer, port: int) -> None:
    await server.start(port=port)
    print(server.url, flush=True)
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--script", choices=("plain", "faults"), default="plain")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pause-ms", type=int, default=0, help="before each piece of a stream")
    parser.add_argument("--tools", default="", help="names the model may choose, by comma")
    parser.add_argument("--rounds", type=int, default=2, help="rounds of calls it chooses at most")
    parser.add_argument("--key", help="refuse any other API key")
    given = parser.parse_args()
    tools = frozenset(filter(None, given.tools.split(",")))
    faulty = given.script == "faults"
    model = Model(given.seed, given.rounds, tools, 8 if faulty else 0, given.pause_ms)
    script: Script = Faulty(model) if faulty else model
    try:
        asyncio.run(_serve_for_ever(ModelServer(script, key=given.key), given.port))
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
