"""Bare simulated servers, as `tests/engine/facts.py` asks about them."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from tests.engine.virtual.bench import VirtualBench
from twinstar.model.engine import Names, Upstream
from twinstar.model.errors import EngineError
from twinstar.model.position import Position
from twinstar.ports.clock import Clock
from twinstar.simulation.database.disk import Disk, Record
from twinstar.simulation.database.server import VirtualServer

NOBODY = Names(0, frozenset(), 0)


def _tagged(name: str) -> tuple[str, int]:
    member, _, epoch = name.partition("@")
    return member, int(epoch or 0)


class _Commit:
    def __init__(self, server: VirtualServer, row: int, clock: Clock) -> None:
        self._clock = clock
        self._task = asyncio.create_task(server.commit(row))

    async def returns(self, within_ms: float) -> bool:
        with suppress(TimeoutError, EngineError):
            async with self._clock.timeout_ms(within_ms):
                return await asyncio.shield(self._task)
        return False

    async def leave(self) -> None:
        self._task.cancel()


class VirtualFacts:
    def __init__(self, bench: VirtualBench) -> None:
        self.bench = bench
        self._fillers = 1_000_000
        self._background: list[asyncio.Task[None]] = []

    def server(self, member: str) -> VirtualServer:
        return self.bench.engine(member)

    async def cluster(self, *members: str) -> None:
        primary = self.server(members[0])
        for member in members:
            server = self.server(member)
            server.disk = Disk(exists=True, system_identifier="1", slots={"a", "b", "c"})
            server.disk.append(Record(1))
            server.disk.flush()
            server.disk.redo = server.disk.flushed
            await server.launch(primary=member == members[0])
            server.commits.set_names(NOBODY)
        await self.pause(200)
        for member in members[1:]:
            await self.attach(member, members[0])
        while sum(sender.streaming for sender in primary.senders) < len(members) - 1:
            await self.pause(3)

    async def set_names(self, member: str, *names: str) -> None:
        (epoch,) = {_tagged(name)[1] for name in names}
        commits = self.server(member).commits
        wanted = Names(epoch, frozenset(_tagged(name)[0] for name in names), 1)
        commits.set_names(wanted)
        while commits.names_of_main != wanted:
            await self.pause(1)
        while not commits.checkpointer_is_stopped and commits.names_of_checkpointer != wanted:
            await self.pause(1)

    async def begin(self, member: str, row: int) -> _Commit:
        commit = _Commit(self.server(member), row, self.bench.clock)
        await asyncio.sleep(0)
        return commit

    async def has(self, member: str, row: int) -> bool:
        return self.server(member).sees(row)

    async def fill(self, member: str, rows: int) -> None:
        disk = self.server(member).disk
        for _ in range(rows):
            self._fillers += 1
            disk.append(Record(disk.timeline, self._fillers))
        disk.flush()
        self.server(member).bell.ring()

    async def caught_up(self, standby: str, leader: str) -> None:
        while self.server(standby).disk.position < self.server(leader).disk.position:
            await self.pause(3)

    async def attach(self, standby: str, leader: str, name: str = "") -> None:
        server = self.server(standby)
        server.set_upstream(Upstream(leader, _tagged(name)[1], self.server(leader).address))
        if server.run and server.receiver.is_connected:
            server.end_receiver()

    async def clear_upstream(self, standby: str) -> None:
        self.server(standby).set_upstream(None)

    async def park(self, standby: str) -> None:
        server = self.server(standby)
        server.set_upstream(None)
        await self.pause(10)
        server.end_receiver()
        while not server.replay.is_done:
            await self.pause(3)

    async def end_receiver(self, standby: str) -> None:
        self.server(standby).end_receiver()

    async def is_receiving(self, standby: str) -> bool:
        return self.server(standby).receiver.is_connected

    async def kill(self, member: str) -> None:
        self.server(member).end_at_once()

    async def start(self, member: str) -> None:
        await self.server(member).launch()
        self.server(member).commits.set_names(NOBODY)

    async def start_anyhow(self, member: str) -> None:
        self._background.append(asyncio.create_task(self.server(member).launch()))

    async def accepts(self, member: str) -> bool:
        return self.server(member).accepts

    async def stop(self, member: str) -> None:
        self._background.append(asyncio.create_task(self.server(member).shut_down()))

    async def is_running(self, member: str) -> bool:
        return bool(self.server(member).run)

    async def freeze(self, member: str) -> None:
        self.server(member).hung = True

    async def promote(self, member: str) -> None:
        self._background.append(asyncio.create_task(self.server(member).promote_itself()))

    async def is_primary(self, member: str) -> bool:
        return self.server(member).primary_run

    async def reserve(self, member: str, *timelines: int) -> None:
        self.server(member).disk.placeholders |= set(timelines)

    async def unreserve(self, member: str, *timelines: int) -> None:
        self.server(member).disk.placeholders -= set(timelines)

    async def position(self, member: str) -> Position:
        state = await self.bench.engine(member).inspect()
        assert state.position is not None
        return state.position

    async def hold_replay(self, standby: str, leader: str) -> None:
        await self.caught_up(standby, leader)
        self.server(standby).hold_replay()
        await self.fill(leader, 1)
        await self.caught_up(standby, leader)

    async def release_replay(self, standby: str) -> None:
        self.server(standby).replay.release()

    async def stop_checkpointer(self, member: str) -> None:
        self.server(member).commits.checkpointer_is_stopped = True

    async def continue_checkpointer(self, member: str) -> None:
        commits = self.server(member).commits
        commits.checkpointer_is_stopped = False
        commits.set_names(commits.names)

    async def pretend(self, member: str, name: str) -> None:
        self.server(member).attach_impostor(*_tagged(name))

    async def pause(self, duration_ms: float) -> None:
        await self.bench.clock.sleep_ms(duration_ms)
