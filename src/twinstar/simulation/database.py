"""A model of PostgreSQL's replication: logs with timelines, flush and replay, synchronous waiting, crashes.

As unkind as the real one where it was looked at (`tests/engine/postgresql/test_facts.py`): a diverged standby that
attaches *is* counted by the number it reports; a standby streams from its old upstream again when that comes back; what
waited for confirmation is visible after a restart; a promotion takes the timeline it is told only if nobody has used it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from twinstar.engine.base import Progress, RewindResult
from twinstar.model.address import Address
from twinstar.model.engine import BLOCKED, Attachment, EngineState, EngineStatus, Names, Primary, Upstream
from twinstar.model.errors import EngineError, ProtocolBreach
from twinstar.model.position import Branch, Position
from twinstar.ports.clock import Clock
from twinstar.ports.randomness import Randomness

_RECORD_BYTES = 64


@dataclass(frozen=True, slots=True)
class Record:
    """One entry of a log: the timeline it was written on, and a client's number (None: the database's own)."""

    timeline: int
    number: int | None = None


@dataclass(slots=True)
class Disk:
    """What survives a crash."""

    log: list[Record] = field(default_factory=list)
    exists: bool = False
    system_identifier: str = ""
    nonce: str = ""
    upstream: Upstream | None = None
    clean_stop: bool = False

    @property
    def position(self) -> Position:
        return Position(self.log[-1].timeline if self.log else 1, len(self.log) * _RECORD_BYTES)


class Fleet:
    """All databases of a simulated cluster, reached by address."""

    def __init__(self, clock: Clock, randomness: Randomness, reaches: Callable[[str, str], bool]) -> None:
        self.clock, self.randomness, self.reaches = clock, randomness, reaches
        self.at: dict[Address, VirtualEngine] = {}
        self._runs = 0

    def next_run(self) -> str:
        self._runs += 1
        return f"{1000 + self._runs}:{self._runs}"


class VirtualEngine:
    """`engine.base.Engine` over a model. The same object stands for the disk and for what runs on it."""

    def __init__(self, member: str, address: Address, fleet: Fleet) -> None:
        self.member, self.address, self._fleet = member, address, fleet
        self.disk = Disk()
        self.run = ""
        self.primary_run = False
        self.names: Names = BLOCKED
        self.flushed: dict[str, tuple[int, int]] = {}
        """By member: (epoch it attached for, LSN it last reported)."""
        self.hung = False
        self._gone = asyncio.Event()
        self._confirmed = asyncio.Condition()
        self._stream: asyncio.Task[None] | None = None
        fleet.at[address] = self

    # -- what a client does -------------------------------------------------------------------------------------------

    async def commit(self, number: int) -> bool:
        """True when the commit was acknowledged; waits for ever while nobody confirms. Raises EngineError when the
        database is no primary or ends meanwhile.
        """
        if not self.primary_run or not self.run or self.hung:
            raise EngineError(f"{self.member} takes no writes.")
        run = self.run
        self.disk.log.append(Record(self._timeline(), number))
        end = self.disk.position.lsn
        async with self._confirmed:
            await self._confirmed.wait_for(lambda: self.run != run or self._is_confirmed(end))
        if self.run != run:
            raise EngineError(f"{self.member} ended before the commit was confirmed.")
        return True

    def numbers(self) -> set[int]:
        """What a reader sees on this member."""
        return {r.number for r in self.disk.log if r.number is not None}

    def _is_confirmed(self, lsn: int) -> bool:
        enough = [m for m in self.names.voters if self.flushed.get(m, (0, 0))[0] == self.names.epoch]
        return sum(self.flushed[m][1] >= lsn for m in enough) >= self.names.required

    def _timeline(self) -> int:
        return self.disk.position.timeline

    # -- faults -------------------------------------------------------------------------------------------------------

    async def crash(self) -> None:
        """The processes end at once; the disk stays."""
        await self._end(clean=False)

    async def _end(self, clean: bool) -> None:
        if self._stream is not None:
            self._stream.cancel()
            self._stream = None
        self.run, self.primary_run, self.names, self.hung = "", False, BLOCKED, False
        self.flushed = {}
        self.disk.clean_stop = clean
        self._gone.set()
        async with self._confirmed:
            self._confirmed.notify_all()

    # -- observing ----------------------------------------------------------------------------------------------------

    async def inspect(self) -> EngineState:
        disk = self.disk
        if not disk.exists:
            return EngineState(EngineStatus.ABSENT, nonce=disk.nonce)
        status = EngineStatus.STOPPED
        if self.run:
            status = EngineStatus.PRIMARY if self.primary_run else EngineStatus.STANDBY
        stopped = status is EngineStatus.STOPPED
        return EngineState(
            status=status,
            pid=int(self.run.split(":")[0]) if self.run else None,
            run=self.run,
            position=None if stopped else disk.position,
            upstream=(disk.upstream.member, disk.upstream.epoch) if disk.upstream else None,
            receiving=self._receives(),
            names=self.names if self.primary_run else None,
            system_identifier=disk.system_identifier,
            nonce=disk.nonce,
            shut_down_at=Position(disk.position.timeline, disk.position.lsn - _RECORD_BYTES)
            if stopped and disk.clean_stop
            else None,
        )

    async def ended(self) -> None:
        await self._gone.wait()

    async def answers(self, deadline_ms: float) -> bool:
        if self.hung:
            await self._fleet.clock.sleep_ms(deadline_ms)
        return bool(self.run) and not self.hung

    # -- processes ----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        await self._takes(30, 80)
        if not self.disk.exists:
            raise EngineError(f"{self.member} has no database to start.")
        self.disk.upstream = None
        self._begin(primary=False)

    def _begin(self, primary: bool) -> None:
        self.run, self.primary_run = self._fleet.next_run(), primary
        self.names, self.disk.clean_stop = BLOCKED, False
        self._gone = asyncio.Event()

    async def stop(self, deadline_ms: float) -> bool:
        if self.hung:
            await self._fleet.clock.sleep_ms(deadline_ms)
            return False
        await self._takes(10, 40)
        if self.run and self.primary_run:
            self.disk.log.append(Record(self._timeline()))
            await self._takes(2, 5)
            await self._ship_to_all()
        await self._end(clean=True)
        return True

    async def kill(self) -> None:
        await self._takes(2, 10)
        if self.run:
            await self._end(clean=False)

    # -- the protocol's steps -----------------------------------------------------------------------------------------

    async def bootstrap(self, nonce: str, progress: Progress) -> str:
        if self.disk.exists and not self.disk.nonce:
            raise EngineError("There is a database already.")
        await self._end(clean=False)
        self.disk = Disk(exists=True, nonce=nonce, system_identifier=self._fleet.randomness.token())
        progress("making the database")
        await self._takes(400, 600)
        self.disk.log = [Record(1)]
        self._begin(primary=True)
        return self.disk.system_identifier

    async def bootstrap_done(self) -> None:
        self.disk.nonce = ""

    async def detach(self) -> Position | None:
        if not self.run:
            return None
        await self._takes(2, 8)
        self.disk.upstream = None
        if self._stream is not None:
            self._stream.cancel()
            self._stream = None
        return self.disk.position

    async def seal(self) -> Position:
        position = await self.detach()
        if position is None or self.primary_run:
            raise EngineError(f"{self.member} is not a running standby, so it cannot seal.")
        await self._takes(10, 40)
        return self.disk.position

    async def promote(self, epoch: int, names: Names) -> Position:
        if self.disk.upstream is not None or self.primary_run or not self.run:
            raise EngineError(f"{self.member} is not sealed.")
        if self.disk.position.timeline >= epoch:
            raise ProtocolBreach(f"The log has a record of timeline {self.disk.position.timeline} already.")
        await self._takes(20, 60)
        self.names, self.flushed = names, {}
        self.disk.log.append(Record(epoch))
        self.primary_run = True
        return self.disk.position

    async def open_names(self, names: Names) -> Position:
        await self._takes(10, 30)
        self.names = names
        async with self._confirmed:
            self._confirmed.notify_all()
        return self.disk.position

    async def retag(self, names: Names) -> Position:
        self.flushed = {}
        await self.open_names(names)
        self.disk.log.append(Record(self._timeline()))
        return self.disk.position

    async def branch(self, upstream: Upstream) -> Branch:
        await self._takes(2, 6)
        leader = self._upstream_engine(upstream)
        if leader is None or not leader.primary_run:
            raise EngineError(f"{upstream.member} does not answer as a primary yet.")
        ends: dict[int, int] = {}
        for index, record in enumerate(leader.disk.log, 1):
            ends[record.timeline] = index * _RECORD_BYTES
        own = ends.pop(leader.disk.position.timeline)
        assert own
        return Branch(leader.disk.position.timeline, tuple(sorted(ends.items())))

    async def follow(self, upstream: Upstream) -> None:
        await self._takes(2, 10)
        if not self.run or self.primary_run:
            raise EngineError(f"{self.member} is not a running standby.")
        self.disk.upstream = upstream
        if self._stream is not None:
            self._stream.cancel()
        self._stream = asyncio.create_task(self._receive_for_ever())

    async def rewind(self, upstream: Upstream, progress: Progress) -> RewindResult:
        leader = self._upstream_engine(upstream)
        if leader is None:
            raise EngineError(f"{upstream.member} does not answer.")
        progress("rewinding")
        await self._takes(150, 800)
        self.disk.log = list(leader.disk.log)
        return RewindResult.DONE

    async def clone(self, upstream: Upstream, progress: Progress) -> None:
        progress(f"copying {upstream.member}")
        await self._takes(200, 900)
        leader = self._upstream_engine(upstream)
        if leader is None or not leader.primary_run:
            raise EngineError(f"{upstream.member} does not answer.")
        self.disk = Disk(list(leader.disk.log), True, leader.disk.system_identifier)

    # -- a running primary's care -------------------------------------------------------------------------------------

    async def primary(self) -> Primary:
        if not self.primary_run:
            raise EngineError(f"{self.member} is no primary.")
        return Primary(self.disk.position, await self.attachments())

    async def attachments(self) -> tuple[Attachment, ...]:
        here = [e for e in self._fleet.at.values() if e.follows(self)]
        return tuple(
            Attachment(e.member, e.disk.upstream.epoch, lsn, lsn, True, True, 1)
            for e in here
            if e.disk.upstream and (lsn := self.flushed.get(e.member, (0, 0))[1])
        )

    async def end_walsenders(self, pids: frozenset[int]) -> None:
        pass

    async def prepare_stop(self) -> None:
        await self._takes(5, 30)

    async def keep_slots(self, members: frozenset[str]) -> None:
        pass

    async def reload(self, parameters: dict[str, str]) -> None:
        pass

    async def close(self) -> None:
        pass

    async def peer_answers(self, address: Address) -> bool:
        """Whether another member's database answers a connection from here."""
        other = self._fleet.at.get(address)
        reached = other is not None and self._fleet.reaches(self.address.host, address.host)
        if not reached:
            await self._fleet.clock.sleep_ms(125)
        return bool(reached and other and other.run and not other.hung)

    # -- replication --------------------------------------------------------------------------------------------------

    def follows(self, other: VirtualEngine) -> bool:
        upstream = self.disk.upstream
        connected = upstream is not None and upstream.address == other.address and bool(self.run)
        return connected and self._fleet.reaches(self.address.host, other.address.host)

    def _receives(self) -> bool:
        upstream = self.disk.upstream
        leader = self._upstream_engine(upstream) if upstream else None
        return bool(self._stream and leader and leader.run)

    def _upstream_engine(self, upstream: Upstream) -> VirtualEngine | None:
        other = self._fleet.at.get(upstream.address)
        if other is None or not other.run or not self._fleet.reaches(self.address.host, upstream.address.host):
            return None
        return other

    async def _receive_for_ever(self) -> None:
        while True:
            await self._fleet.clock.sleep_ms(self._fleet.randomness.between(1, 4))
            upstream = self.disk.upstream
            leader = self._upstream_engine(upstream) if upstream else None
            if leader is not None and upstream is not None and not self.hung and not leader.hung:
                self._take_from(leader)
                await leader.report(self.member, upstream.epoch, self.disk.position.lsn)

    def _take_from(self, leader: VirtualEngine) -> None:
        """Ships what is new, if this log is a prefix; a diverged one receives nothing, and is counted all the same."""
        mine, theirs = self.disk.log, leader.disk.log
        if len(mine) <= len(theirs) and mine == theirs[: len(mine)]:
            mine.extend(theirs[len(mine) :])

    async def report(self, member: str, epoch: int, lsn: int) -> None:
        """A standby's flush position: the engine counts the number alone."""
        if self.run:
            self.flushed[member] = (epoch, lsn)
            async with self._confirmed:
                self._confirmed.notify_all()

    async def _ship_to_all(self) -> None:
        for other in self._fleet.at.values():
            if other.follows(self) and not other.hung:
                other._take_from(self)

    async def _takes(self, low_ms: float, high_ms: float) -> None:
        await self._fleet.clock.sleep_ms(self._fleet.randomness.between(low_ms, high_ms))
