"""A TCP proxy that can go silent in either direction: what a network does, and SIGSTOP does not."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from urllib.parse import urlsplit

SLOW_S = 2.0


class Proxy:
    """`async with Proxy(url) as proxy:` serves `proxy.url`. What is held back passes when it is let through again."""

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._host, self._port, self._scheme = parts.hostname or "", parts.port or 0, parts.scheme
        self.requests_pass = asyncio.Event()
        self.answers_pass = asyncio.Event()
        self.let_through()
        self.late_s = 0.0
        """How late answers pass."""
        self.connections = 0
        self.held = asyncio.Event()
        """Set once something is held back."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    def let_through(self) -> None:
        self.requests_pass.set()
        self.answers_pass.set()

    def hold_back(self) -> None:
        self.requests_pass.clear()
        self.answers_pass.clear()

    def be_slow(self) -> None:
        self.late_s = SLOW_S

    def be_quick(self) -> None:
        """What is still late comes too late: its connections are broken."""
        self.late_s = 0.0
        self.break_connections()

    def forget_connections(self) -> None:
        """The present connections stay open and are silent for ever; new ones pass."""
        self.requests_pass.clear()
        self.answers_pass.clear()
        self.requests_pass, self.answers_pass = asyncio.Event(), asyncio.Event()
        self.let_through()

    def break_connections(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.url = f"{self._scheme}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        there, back = await asyncio.open_connection(self._host, self._port)
        self._writers |= {writer, back}
        try:
            await asyncio.gather(
                self._pass(reader, back, self.requests_pass), self._pass(there, writer, self.answers_pass, late=True)
            )
        except asyncio.CancelledError:
            pass  # the test is over
        finally:
            for end in (writer, back):
                end.transport.abort()
                self._writers.discard(end)
            self._tasks.discard(task)

    async def _pass(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, passes: asyncio.Event, *, late: bool = False
    ) -> None:
        loop = asyncio.get_running_loop()
        with suppress(OSError):
            while data := await source.read(65_536):
                if not passes.is_set():
                    self.held.set()
                await passes.wait()
                if late and self.late_s:
                    loop.call_later(self.late_s, sink.write, data)
                    continue
                sink.write(data)
                await sink.drain()
        sink.close()
