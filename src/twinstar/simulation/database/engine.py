"""`engine.base.Engine` over a simulated server: the steps that `engine/postgresql/` takes on a real one, in its order.

Each may be broken off between any two of its waits, and leaves what the real one would leave. What is asked of a server
that does not run its processes, or of a host that is not reached, is answered late or not at all.
"""

from __future__ import annotations

import errno
from contextlib import suppress

from twinstar.engine.base import Progress
from twinstar.model.address import Address
from twinstar.model.engine import BLOCKED, Attachment, EngineState, EngineStatus, Names, Primary, Upstream
from twinstar.model.errors import EngineError, EpochSpent, ProtocolBreach
from twinstar.model.position import Position
from twinstar.simulation.database.copying import Copying
from twinstar.simulation.database.disk import RECORD_BYTES, Disk, Record
from twinstar.simulation.database.fleet import Life
from twinstar.simulation.database.left_out import LeftOut

_ANSWER_MS = 5_000.0
"""How long a question may take."""
_CONNECT_MS = 2_000.0
_CATCH_UP_MS = 20_000.0
_HELD_UP_MS = 20.0
_DRAIN_MS = 100.0
_UNREAD_MS = 300.0
"""How long a log sender may take to show that it has read a setting, before it is ended."""
_POLL_MS = 3.0
_RUNNING = (EngineStatus.STANDBY, EngineStatus.PRIMARY)


class VirtualEngine(LeftOut, Copying):
    """One member's database, and what its agent does with it."""

    # -- observing ----------------------------------------------------------------------------------------------------

    async def inspect(self) -> EngineState:
        if self.stuck and self.run:
            await self.fleet.takes(100, 100)
            return self._state(None)
        state = self._state(self._position())
        await self.fleet.takes(0.2, 2)
        return state

    def _state(self, position: Position | None) -> EngineState:
        disk, status = self.disk, self._status()
        return EngineState(
            status=status,
            pid=int(self.run.partition(":")[0]) if self.run else None,
            run=self.run,
            position=position,
            upstream=(disk.upstream.member, disk.upstream.epoch) if disk.upstream else None,
            receiving=self.receiver.streaming and position is not None,
            names=self.commits.names if status is EngineStatus.PRIMARY else None,
            system_identifier=disk.system_identifier,
            nonce=disk.nonce,
            shut_down_at=disk.last_record_at if status is EngineStatus.STOPPED and disk.clean_stop else None,
        )

    def _status(self) -> EngineStatus:
        if self.run:
            if self.stopping or self.starting:
                return EngineStatus.STOPPING if self.stopping else EngineStatus.STARTING
            return EngineStatus.PRIMARY if self.primary_run else EngineStatus.STANDBY
        if self.has_processes:
            return EngineStatus.REMAINS
        if self.disk.incomplete:
            return EngineStatus.INCOMPLETE
        return EngineStatus.STOPPED if self.disk.exists else EngineStatus.ABSENT

    def _position(self) -> Position | None:
        """The received end, part of a record included, as soon as this run has received; before, the replayed one."""
        disk = self.disk
        if self._status() not in _RUNNING:
            return None
        if self.primary_run or not self.received:
            return disk.position_at(self.replay.reached if not self.primary_run else disk.flushed)
        return Position(disk.timeline, disk.position.lsn + disk.torn)

    async def ended(self) -> None:
        await self.life.main_ended.wait()

    async def answers(self, deadline_ms: float) -> bool:
        await self.fleet.takes(0.5, 3)
        if self.run and self.stuck:
            await self.fleet.clock.sleep_ms(deadline_ms)
        return self.accepts

    async def _asked(self, low_ms: float = 0.2, high_ms: float = 2.0) -> Life:
        """A question to this member's own server. Raises EngineError when it is not answered."""
        life = self.life
        await self.fleet.takes(low_ms, high_ms)
        with suppress(TimeoutError):
            async with self.fleet.clock.timeout_ms(_ANSWER_MS):
                while self.stuck and not life.over:
                    await self.bell.heard(_ANSWER_MS)
        if self.life is not life or self._status() not in _RUNNING or self.stuck:
            raise EngineError(f"The database of {self.member} does not answer.")
        return life

    # -- processes ----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        if self.run:
            raise EngineError(f"The database of {self.member} is running already: stop it first.")
        if self.has_processes:
            await self.kill()
        if not self.disk.exists or self.disk.incomplete or self.disk.foreign:
            raise EngineError(f"{self.member} has no database to start.")
        self._write()
        self.disk.upstream = None
        self.disk.placeholders = {n for n in self.disk.placeholders if n <= self._newest_known()}
        await self.launch()

    def _newest_known(self) -> int:
        return max(self.disk.histories, default=1)

    async def stop(self, deadline_ms: float) -> bool:
        with suppress(TimeoutError):
            async with self.fleet.clock.timeout_ms(deadline_ms):
                if self.run:
                    await self.shut_down()
                while self.has_processes:
                    await self.fleet.clock.sleep_ms(_POLL_MS)
        return not self.has_processes

    # -- a new database -----------------------------------------------------------------------------------------------

    async def bootstrap(self, nonce: str, progress: Progress) -> str:
        if self.disk.foreign or (self.disk.exists and not self.disk.nonce):
            raise EngineError(f"{self.member} has a database already, or something else, that was not made here.")
        if self.disk.timeline > 1:
            raise EngineError(f"The database of {self.member} has led before and is no new one.")
        await self.kill()
        self._write()
        self.disk = Disk(exists=True, incomplete=True, nonce=nonce)
        progress("making the database")
        await self.fleet.takes(200, 400)
        self.disk.system_identifier = self.fleet.randomness.token()
        self.disk.append(Record(1))
        self.disk.flush()
        self.fleet.witness.began(self.member, 1, frozenset(), "bootstrap")
        await self.launch(primary=True)
        await self._asked(5, 20)
        self.disk.incomplete, self.admits = False, True
        return self.disk.system_identifier

    async def bootstrap_done(self) -> None:
        self.disk.nonce = ""

    # -- sealing, promoting -------------------------------------------------------------------------------------------

    async def detach(self) -> Position | None:
        self._write()
        self.disk.upstream = None
        if not self.run:
            return None
        life = await self._detach()
        await self._drained(life, _DRAIN_MS)
        if not self.replay.is_done:
            if self.received:
                return self._position()
            await self._drained(life)
        return self.disk.position_at(self.replay.reached)

    async def seal(self) -> Position:
        self._write()
        self.disk.upstream = None
        life = await self._detach()
        await self._drained(life, _HELD_UP_MS)
        await self._drained(life)
        return self.disk.position

    async def _detach(self) -> Life:
        """Ends the receiver, which takes as long as its process is stopped."""
        life = self.life
        if not await self._runs_on(life, 1, 4):
            raise EngineError(f"{self.member} is not a running standby.")
        self.end_receiver()
        await self._asked()
        if self.primary_run:
            raise EngineError(f"{self.member} runs as a primary and cannot be sealed: it is stopped first.")
        return life

    async def _drained(self, life: Life, within_ms: float | None = None) -> None:
        """Until all local log is replayed. Without a limit, sessions that hold it up are ended. Raises EngineError."""
        waited_ms = self.fleet.randomness.between(2, 12)
        await self.fleet.clock.sleep_ms(waited_ms)
        while not self.replay.is_done or self.stuck:
            if within_ms is None:
                self.replay.release()
            elif waited_ms > within_ms:
                return
            if life.main_ended.is_set():
                raise EngineError(f"{self.member} did not get to the end of its log.")
            await self.fleet.clock.sleep_ms(_POLL_MS)
            waited_ms += _POLL_MS
        if life.main_ended.is_set():
            raise EngineError(f"{self.member} did not get to the end of its log.")

    async def promote(self, epoch: int, names: Names) -> Position:
        await self._asked()
        if not self.primary_run:
            self._allow(epoch)
        elif self.disk.timeline != epoch:
            raise ProtocolBreach(f"{self.member} is a primary of {self.disk.timeline}, not {epoch}.")
        self._write()
        self.commits.set_names(names)
        if not self.primary_run:
            await self.take_timeline(epoch)
        self.disk.slots |= names.voters - {self.member}
        return self.disk.position

    async def take_timeline(self, epoch: int) -> None:
        """The promotion, to the timeline of that number."""
        self.disk.placeholders |= set(range(2, epoch)) - self.disk.histories
        await self.promote_itself()
        await self._asked()
        if not self.primary_run or self.disk.timeline != epoch:
            raise ProtocolBreach(f"The promotion of {self.member} for {epoch} began {self.disk.timeline}.")

    def _allow(self, epoch: int) -> None:
        if self.disk.timeline >= epoch:
            raise ProtocolBreach(f"The log has a record of timeline {self.disk.timeline} already.")
        if self._newest_known() >= epoch:
            raise EpochSpent(f"{self.member} has begun to be promoted for epoch {epoch} before.")
        if self.disk.upstream is not None or self.receiver.is_connected:
            raise EngineError(f"{self.member} still follows somebody and is sealed first.")

    # -- who must confirm ---------------------------------------------------------------------------------------------

    async def open_names(self, names: Names) -> Position:
        life = await self._must_be_primary()
        if names.required and not self.commits.names_of_checkpointer.required:
            self._write()
            self.commits.set_names(BLOCKED)
            while not self.commits.names_of_checkpointer.required:
                await self._asked(1, 3)
        self._write()
        self.commits.set_names(names)
        while self.commits.names_of_main != names:
            await self._asked(1, 3)
        old = set(self.senders)
        mark = self.disk.append(Record(self.disk.timeline))
        if not await self._fsync(life):
            raise EngineError(f"{self.member} ended while its settings were changed.")
        self.disk.flush(mark)
        self.bell.ring()
        since_ms = self.fleet.clock.now_ms()
        while names.required and (old := {s for s in old if s.open and s.flushed < mark * RECORD_BYTES}):
            await self._asked(1, 4)
            if self.fleet.clock.now_ms() - since_ms > _UNREAD_MS:
                self._end_senders(frozenset(s.pid for s in old))
        await self._asked()
        self._note_retake(names.epoch)
        return self.disk.position

    def _note_retake(self, epoch: int) -> None:
        """An epoch above the timeline was begun without a promotion, by names that count for it."""
        begun = self.fleet.witness.beginnings.get(epoch)
        if epoch > self.disk.timeline and (begun is None or begun.member != self.member):
            self.fleet.witness.began(self.member, epoch, self.disk.numbers(), "retaken")

    async def _must_be_primary(self) -> Life:
        life = await self._asked()
        if not self.primary_run:
            raise EngineError(f"{self.member} is no primary.")
        return life

    async def admit(self) -> None:
        self._write()
        await self._asked()
        self.admits = True

    # -- following ---------------------------------------------------------------------------------------------------

    async def follow(self, upstream: Upstream) -> None:
        await self.fleet.takes(0.5, 3)
        self._write()
        self.set_upstream(upstream)
        self.admits = True
        if await self._runs_on(self.life, 0.5, 5):
            self.end_receiver()

    # -- a running primary's care -------------------------------------------------------------------------------------

    async def primary(self) -> Primary:
        await self._must_be_primary()
        return Primary(self.disk.position, self._attachments())

    async def attachments(self) -> tuple[Attachment, ...]:
        await self._asked()
        return self._attachments()

    def _attachments(self) -> tuple[Attachment, ...]:
        return tuple(
            Attachment(s.member, s.epoch, s.flushed, s.replayed, s.streaming, s.genuine, s.pid) for s in self.senders
        )

    async def end_walsenders(self, pids: frozenset[int]) -> None:
        self._when_able(self.life, lambda: self._end_senders(pids))

    def _end_senders(self, pids: frozenset[int]) -> None:
        self.senders.end(lambda sender: sender.pid in pids)
        self.bell.ring()

    async def prepare_stop(self) -> None:
        life = await self._asked(5, 30)
        await self.fleet.clock.sleep_ms(self.troubles.checkpoint_ms)
        if await self._fsync(life):
            self.disk.redo = max(self.disk.redo, self.replay.reached if not self.primary_run else self.disk.flushed)

    async def keep_slots(self, members: frozenset[str]) -> None:
        await self._asked(1, 4)
        in_use = {sender.member for sender in self.senders if sender.genuine}
        self.disk.slots = set(members - {self.member}) | (self.disk.slots & in_use)

    async def peer_answers(self, address: Address) -> bool:
        """Whether another member's database answers a connection from here."""
        other = self.fleet.at.get(address)
        if other is None or not self.fleet.connects(self, other) or other.stuck:
            await self.fleet.clock.sleep_ms(125)
            return False
        return not other.life.main_ended.is_set()

    def _write(self) -> None:
        """A small file. Raises OSError when the disk is full, unless there is just room enough."""
        if self.troubles.full and self.fleet.chance(0.5):
            raise OSError(errno.ENOSPC, "No space left on device")
