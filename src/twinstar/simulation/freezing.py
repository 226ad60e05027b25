"""Processes that are stopped and go on later (SIGSTOP, a suspended machine): their time passes, and they do nothing.

All that wakes an agent or a guard comes by its clock, its datagrams, its store or its database; each of these goes
through the gate of its process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, cast

from twinstar.engine.base import Engine
from twinstar.model.address import Address
from twinstar.ports.clock import Clock


class Gate:
    """Open while the process runs."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._open.set()
        self._queue: list[Callable[[], None]] = []

    @property
    def is_open(self) -> bool:
        return self._open.is_set()

    def shut(self) -> None:
        self._open.clear()

    def open(self) -> None:
        self._open.set()
        waiting, self._queue = self._queue, []
        for act in waiting:
            act()

    def abandon(self) -> None:
        """The process is killed: nothing it would have done is done."""
        self._queue = []
        self._open.set()

    async def passed(self) -> None:
        await self._open.wait()

    def receiving(self, receive: Callable[[bytes, Address], None]) -> Callable[[bytes, Address], None]:
        """A receiver of datagrams: what comes while the gate is shut waits in the socket."""

        def deliver(data: bytes, source: Address) -> None:
            if self.is_open:
                receive(data, source)
            elif len(self._queue) < 200:
                self._queue.append(lambda: receive(data, source))

        return deliver


class _GatedTimeout(AbstractAsyncContextManager[object]):
    def __init__(self, inner: AbstractAsyncContextManager[object], gate: Gate) -> None:
        self._inner, self._gate = inner, gate

    async def __aenter__(self) -> object:
        return await self._inner.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        try:
            return await self._inner.__aexit__(kind, error, trace)
        finally:
            await self._gate.passed()


class GatedClock:
    """A clock whose sleeper wakes only when its process runs."""

    def __init__(self, clock: Clock, gate: Gate) -> None:
        self._clock, self._gate = clock, gate

    def now_ms(self) -> float:
        return self._clock.now_ms()

    def wall_ms(self) -> int:
        return self._clock.wall_ms()

    async def sleep_ms(self, duration_ms: float) -> None:
        await self._clock.sleep_ms(duration_ms)
        await self._gate.passed()

    def timeout_ms(self, duration_ms: float) -> AbstractAsyncContextManager[object]:
        return _GatedTimeout(self._clock.timeout_ms(duration_ms), self._gate)


class _GatedCalls:
    def __init__(self, inner: object, gate: Gate) -> None:
        self._inner, self._gate = inner, gate

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)

        async def call(*args: Any) -> Any:
            try:
                return await method(*args)
            finally:
                await self._gate.passed()

        return call


def gated_engine(engine: Engine, gate: Gate) -> Engine:
    """The engine as an agent sees it that may be frozen meanwhile."""
    return cast(Engine, _GatedCalls(engine, gate))
