"""A model of PostgreSQL: processes, log, flush and replay, synchronous waiting, crashes.

As unkind as the real one where it was looked at (`tests/engine/postgresql/test_facts.py`): a diverged standby that
attaches *is* counted by the number it reports; a standby streams from its old upstream again when that comes back; what
waited for confirmation is visible after a restart; of the unflushed end of a log a crash leaves any part; a dead main
process's others go on for a moment; a changed setting is in effect here and not yet there; an operation that its caller
gave up goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from twinstar.engine.base import Progress, RewindResult
from twinstar.model.address import Address
from twinstar.model.engine import BLOCKED, Attachment, EngineState, EngineStatus, Names, Primary, Upstream
from twinstar.model.errors import EngineError, ProtocolBreach
from twinstar.model.position import Branch, Position
from twinstar.simulation.disk import RECORD_BYTES, Disk, Record
from twinstar.simulation.fleet import Fleet
from twinstar.simulation.left_out import LeftOut
from twinstar.simulation.replication import Link, Senders, receive_for_ever


class VirtualEngine(LeftOut):
    """`engine.base.Engine` over a model. The same object stands for the disk and for what runs on it."""

    def __init__(self, member: str, address: Address, fleet: Fleet) -> None:
        self.member, self.address, self.fleet = member, address, fleet
        self.disk = Disk()
        self.run = ""
        """The main process that runs now; empty when there is none."""
        self.has_processes = False
        """The main process or others of this database are there."""
        self.primary_run = False
        self.stopping = False
        self.admits = True
        """Clients are let in over the network: not from a start until it follows, or its epoch is open."""
        self.names: Names = BLOCKED
        self._names_before: Names | None = None
        """Still in effect in some of the processes."""
        self.senders = Senders(fleet.clock)
        self.link = Link()
        self.hung = self.frozen = False
        self.news = asyncio.Event()
        """Set, and replaced, when something happened that somebody may wait for."""
        self.grown = asyncio.Event()
        """The same, but for confirmations that came: whoever streams does not wait for those."""
        self._gone = asyncio.Event()
        self._stream: asyncio.Task[None] | None = None
        self._going_on: set[asyncio.Task[Any]] = set()
        fleet.at[address] = self

    @property
    def stuck(self) -> bool:
        return self.hung or self.frozen

    def tell(self, confirmed: bool = False) -> None:
        """Something happened; or (`confirmed`) no more than that a standby has reported a position."""
        for event in (self.news,) if confirmed else (self.news, self.grown):
            event.set()
        self.news, self.grown = asyncio.Event(), self.grown if confirmed else asyncio.Event()

    # -- what a client does -------------------------------------------------------------------------------------------

    async def commit(self, number: int) -> bool:
        """True when the commit was acknowledged; waits for ever while nobody confirms. Raises EngineError when the
        database is no primary or ends meanwhile.
        """
        if not self.primary_run or not self.run or self.stopping or self.stuck:
            raise EngineError(f"{self.member} takes no writes.")
        life = self._gone
        count = self.disk.append(Record(self.disk.log[-1].timeline, number))
        await self.fleet.takes(0.2, 1)
        while self.has_processes and self._gone is life:
            if not self.stuck:
                if self.disk.flushed < count:
                    self.disk.flush(count)
                    self.tell()
                by = self._confirmed_by(count * RECORD_BYTES)
                if by is not None:
                    at = Position(self.disk.log[count - 1].timeline, count * RECORD_BYTES)
                    self.fleet.witness.acknowledges(self.member, by.epoch, number, at)
                    return True
            await self.news.wait()
        raise EngineError(f"{self.member} ended before the commit was confirmed.")

    def numbers(self) -> frozenset[int]:
        """What a reader sees on this member."""
        return self.disk.numbers()

    def _confirmed_by(self, lsn: int) -> Names | None:
        """The setting under which this position is confirmed; while it changes, either will do."""
        for names in (self.names, self._names_before):
            if names is not None and self.senders.confirming(names, lsn) >= names.required:
                return names
        return None

    # -- faults -------------------------------------------------------------------------------------------------------

    def crash(self) -> None:
        """The main process ends at once, what is left of the others a moment later; the disk stays."""
        if not self.run:
            return
        self.run = ""
        self._gone.set()
        self.fleet.witness.sometimes["crash"] += 1
        self._goes_on(self._remains(self._gone))

    def end_at_once(self) -> None:
        """Every process of it is killed."""
        if not self.has_processes:
            return
        self.disk.crash(self.fleet.randomness.between(0, 1))
        self._end(clean=False)

    async def _remains(self, life: asyncio.Event) -> None:
        await self.fleet.takes(0, 5)
        if self._gone is life:
            self.end_at_once()

    def _end(self, clean: bool) -> None:
        self._disconnect()
        self.run, self.primary_run, self.stopping, self.has_processes = "", False, False, False
        self.names, self._names_before, self.hung = BLOCKED, None, False
        self.senders.clear()
        self.disk.clean_stop = clean
        self._gone.set()
        self.tell()

    def lose_disk(self) -> None:
        self.end_at_once()
        self.disk = Disk()

    # -- observing ----------------------------------------------------------------------------------------------------

    async def inspect(self) -> EngineState:
        disk, status = self.disk, self._status()
        if status is EngineStatus.ABSENT:
            return EngineState(status, nonce=disk.nonce)
        if self.stuck:
            await self.fleet.takes(100, 100)
        known = disk.position if self.run and not self.stuck else None
        return EngineState(
            status=status,
            pid=int(self.run.split(":")[0]) if self.run else None,
            run=self.run,
            position=known,
            upstream=(disk.upstream.member, disk.upstream.epoch) if disk.upstream else None,
            receiving=self.link.streaming and not self.stuck,
            names=self.names if self.primary_run else None,
            system_identifier=disk.system_identifier,
            nonce=disk.nonce,
            shut_down_at=disk.last_record_at if status is EngineStatus.STOPPED and disk.clean_stop else None,
        )

    def _status(self) -> EngineStatus:
        if self.disk.incomplete:
            return EngineStatus.INCOMPLETE
        if not self.disk.exists:
            return EngineStatus.ABSENT
        if not self.run:
            return EngineStatus.REMAINS if self.has_processes else EngineStatus.STOPPED
        if self.stopping:
            return EngineStatus.STOPPING
        return EngineStatus.PRIMARY if self.primary_run else EngineStatus.STANDBY

    async def ended(self) -> None:
        await self._gone.wait()

    async def answers(self, deadline_ms: float) -> bool:
        if self.stuck:
            await self.fleet.clock.sleep_ms(deadline_ms)
        return bool(self.run) and not self.stuck

    # -- processes ----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        await self.fleet.takes(30, 80)
        if not self.disk.exists or self.disk.incomplete:
            raise EngineError(f"{self.member} has no database to start.")
        if self.has_processes:
            raise EngineError(f"Processes of {self.member} are still there; they are ended first.")
        self.disk.upstream = None
        self.admits = False
        self._begin(primary=False)

    def _begin(self, primary: bool) -> None:
        self.run, self.primary_run, self.has_processes = self.fleet.next_run(), primary, True
        self.names, self.disk.clean_stop = BLOCKED, False
        self._gone = asyncio.Event()

    async def stop(self, deadline_ms: float) -> bool:
        if not self.has_processes:
            return True
        if not self.stuck:
            await self._to_its_end(self._stop(self._gone))
            return not self.has_processes
        await self.fleet.clock.sleep_ms(deadline_ms)
        return not self.has_processes

    async def _stop(self, life: asyncio.Event) -> None:
        """Sessions end at once; the last record goes to whoever is connected."""
        self.stopping = True
        await self.fleet.takes(5, 20)
        if self._gone is not life or not self.run:
            return
        self._last_record()
        await self.fleet.takes(2, 5)
        if self._gone is life:
            self.disk.flush()
            self._end(clean=True)

    def _last_record(self) -> None:
        if self.primary_run:
            self.disk.append(Record(self.disk.log[-1].timeline))
            self.disk.flush()
            self.tell()

    async def kill(self) -> None:
        await self.fleet.takes(1, 5)
        self.end_at_once()

    # -- the protocol's steps -----------------------------------------------------------------------------------------

    async def bootstrap(self, nonce: str, progress: Progress) -> str:
        if self.disk.exists and not self.disk.nonce:
            raise EngineError("There is a database already.")
        self.end_at_once()
        self.disk = Disk(exists=True, nonce=nonce, system_identifier=self.fleet.randomness.token())
        progress("making the database")
        await self.fleet.takes(200, 400)
        self.disk.append(Record(1))
        self.disk.flush()
        self.admits = True
        self._begin(primary=True)
        self.fleet.witness.began(self.member, 1, frozenset(), "bootstrap")
        return self.disk.system_identifier

    async def bootstrap_done(self) -> None:
        self.disk.nonce = ""

    async def detach(self) -> Position | None:
        if not self.run:
            return None
        await self.fleet.takes(2, 8)
        self.disk.upstream = None
        self._disconnect()
        self.disk.flush()
        return self.disk.position

    async def seal(self) -> Position:
        position = await self.detach()
        if position is None or self.primary_run:
            raise EngineError(f"{self.member} is not a running standby, so it cannot seal.")
        await self.fleet.takes(5, 40)
        if self._status() is not EngineStatus.STANDBY or self.stuck:
            raise EngineError(f"{self.member} did not get to the end of its log.")
        return self.disk.position

    async def promote(self, epoch: int, names: Names) -> Position:
        if self.disk.upstream is not None or self.primary_run or not self.run:
            raise EngineError(f"{self.member} is not sealed.")
        if self.disk.timeline >= epoch:
            raise ProtocolBreach(f"The log has a record of timeline {self.disk.timeline} already.")
        await self._to_its_end(self._promote(epoch, names, self._gone))
        if self._status() is not EngineStatus.PRIMARY:
            raise EngineError(f"{self.member} ended while it was being promoted.")
        return self.disk.position

    async def _promote(self, epoch: int, names: Names, life: asyncio.Event) -> None:
        await self.fleet.takes(20, 60)
        if self._gone is not life or not self.run:
            return
        self.names, self.primary_run = names, True
        self.fleet.witness.began(self.member, epoch, self.disk.numbers(), "promoted")
        self.disk.append(Record(epoch))
        self.disk.flush()
        self.tell()

    async def admit(self) -> None:
        self.admits = True

    async def open_names(self, names: Names) -> Position:
        self._must_be_primary()
        life = self._gone
        self._names_before, self.names = self.names, names
        self.tell()
        await self.fleet.takes(5, 15)
        if self._gone is not life or not self.run or self.stuck:
            raise EngineError(f"{self.member} ended while its settings were changed.")
        self._names_before = None
        return self.disk.position

    async def retag(self, names: Names) -> Position:
        self._must_be_primary()
        await self.open_names(names)
        self.fleet.witness.began(self.member, names.epoch, self.disk.numbers(), "retaken")
        self.senders.end(lambda sender: sender.epoch != names.epoch)
        self._last_record()
        return self.disk.position

    def _must_be_primary(self) -> None:
        if not self.primary_run or not self.run or self.stopping:
            raise EngineError(f"{self.member} is no primary.")

    async def branch(self, upstream: Upstream) -> Branch:
        await self.fleet.takes(2, 6)
        leader = self._primary_at(upstream)
        return leader.disk.branch()

    async def follow(self, upstream: Upstream) -> None:
        await self.fleet.takes(2, 10)
        if not self.run or self.primary_run:
            raise EngineError(f"{self.member} is not a running standby.")
        self._disconnect()
        self.disk.upstream, self.admits = upstream, True
        self._stream = asyncio.create_task(receive_for_ever(self))

    async def rewind(self, upstream: Upstream, progress: Progress) -> RewindResult:
        if self.has_processes:
            raise EngineError(f"{self.member} runs: it is stopped before it is rewound.")
        self._primary_at(upstream)
        if self.fleet.chance(0.2):
            return RewindResult.IMPOSSIBLE
        progress("rewinding")
        self.disk.incomplete = True
        await self.fleet.takes(50, 300)
        self.disk = self._primary_at(upstream).disk.copy()
        self.fleet.witness.sometimes["rewound"] += 1
        return RewindResult.DONE

    async def clone(self, upstream: Upstream, progress: Progress) -> None:
        progress(f"copying {upstream.member}")
        await self.fleet.takes(100, 500)
        leader = self._primary_at(upstream)
        self.end_at_once()
        self.disk = leader.disk.copy()
        self.fleet.witness.sometimes["cloned"] += 1

    def _primary_at(self, upstream: Upstream) -> VirtualEngine:
        leader = self.reachable(upstream)
        if leader is None or not leader.primary_run or leader.stuck:
            raise EngineError(f"{upstream.member} does not answer as a primary.")
        return leader

    # -- a running primary's care -------------------------------------------------------------------------------------

    async def primary(self) -> Primary:
        if self.stuck:
            await self.fleet.clock.sleep_ms(1_000)
        if not self.primary_run or not self.run or self.stuck:
            raise EngineError(f"{self.member} is no primary that answers.")
        return Primary(self.disk.position, await self.attachments())

    async def attachments(self) -> tuple[Attachment, ...]:
        return tuple(
            Attachment(s.member, s.epoch, s.flushed, s.flushed, s.streaming, s.genuine, s.pid) for s in self.senders
        )

    async def end_walsenders(self, pids: frozenset[int]) -> None:
        self.senders.end(lambda sender: sender.pid in pids)

    async def prepare_stop(self) -> None:
        await self.fleet.takes(5, 30)

    async def peer_answers(self, address: Address) -> bool:
        """Whether another member's database answers a connection from here."""
        other = self.fleet.at.get(address)
        reached = other is not None and self._reaches(other)
        if not reached or other is None or other.stuck:
            await self.fleet.clock.sleep_ms(125)
            return False
        return bool(other.run)

    # -- helpers ------------------------------------------------------------------------------------------------------

    def reachable(self, upstream: Upstream | None) -> VirtualEngine | None:
        """The database that runs at the upstream's address, whatever it is now."""
        other = self.fleet.at.get(upstream.address) if upstream else None
        return other if other is not None and other.run and self._reaches(other) else None

    def _reaches(self, other: VirtualEngine) -> bool:
        there, back = (self.address.host, other.address.host), (other.address.host, self.address.host)
        return self.fleet.reaches(*there) and self.fleet.reaches(*back)

    def _disconnect(self) -> None:
        if self._stream is not None:
            self._stream.cancel()
            self._stream = None
        self.link.drop()

    async def _to_its_end(self, work: Coroutine[Any, Any, None]) -> None:
        """Waits for what goes on even when nobody waits for it any more."""
        await asyncio.shield(self._goes_on(work))

    def _goes_on(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._going_on.add(task)
        task.add_done_callback(self._going_on.discard)
        return task
