"""A model of PostgreSQL: what a server does by itself, whoever looks after it.

As unkind as the real one where that one was looked at: `tests/engine/facts.py` asks both the same. It keeps:

* commits wait for those named, as each process has read the names; one whose client has gone goes on waiting, is shown
  when it is confirmed, and in any case after a restart (`commits`);
* who is counted (`senders`), who connects to whom and what fits whom (`replication`), timelines, their numbers and
  their histories (`disk`);
* of the unflushed end of a log a crash leaves any part; a standby that was started again knows nothing of what it had
  received, shows less than it did, and replays for a while; the received end may lie inside a record;
* a dead main process's others go on for a moment, and confirm; a stop waits for the connected standbys; a stopped
  process finds what came meanwhile when it goes on, also the signals;
* a setting is in effect here and not yet there; a standby reads its upstream only where replay moves (`replay`).

Left out, because the protocol does not look at it, or the engine has tests of its own for it: SQL and what it locks;
commits that are shown in another order than the log's (readers of PostgreSQL may see that of concurrent ones);
sizes (every record has one length); the removal of log, except when a story asks for it; cancelled waits (nothing is
promised to who cancels one); archives; passwords, places for connections, and the settings of users. Replay goes on
while its process is stopped: nobody can look. The database that a rewind starts to make its copy consistent is not seen
running.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from twinstar.model.address import Address
from twinstar.model.engine import Names, Upstream
from twinstar.model.errors import EngineError
from twinstar.model.position import Position
from twinstar.simulation.database.commits import Commits
from twinstar.simulation.database.disk import RECORD_BYTES, Disk, Record
from twinstar.simulation.database.fleet import Bell, Fleet, Life
from twinstar.simulation.database.replay import Replay
from twinstar.simulation.database.replication import Receiver
from twinstar.simulation.database.senders import Sender, Senders
from twinstar.simulation.database.troubles import Troubles

_CONFLICT_MS = 30_000.0
"""max_standby_streaming_delay: so long a session may hold replay up."""
_LOOK_MS = 100.0


class VirtualServer:
    """The same object stands for the disk and for what runs on it."""

    def __init__(self, member: str, address: Address, fleet: Fleet) -> None:
        self.member, self.address, self.fleet = member, address, fleet
        self.disk = Disk()
        self.life = Life.none()
        self.primary_run = self.starting = self.stopping = False
        self.admits = False
        """Clients are let in: what they find could not be taken back."""
        self.hung = self.frozen = False
        self.troubles = Troubles(self.tell)
        self.bell = Bell()
        self.senders = Senders()
        self.commits = self._new_commits()
        self.receiver = Receiver(self)
        self.replay = self._new_replay(0)
        self.received = False
        """This run has been connected: the end of what it received is known."""
        self._stalled: list[tuple[Life, bool, Callable[[], None]]] = []
        self._going_on: set[asyncio.Task[Any]] = set()
        fleet.at[address] = self

    def _new_commits(self) -> Commits:
        return Commits(self.fleet, self.senders, partial(self._when_able, self.life))

    def _new_replay(self, begins_at: float) -> Replay:
        return Replay(self.disk, begins_at, self.fleet.clock, self.troubles)

    @property
    def run(self) -> str:
        """The main process that runs now; empty when there is none."""
        return "" if self.life.main_ended.is_set() else self.life.run

    @property
    def names(self) -> Names:
        """Who must confirm, as set."""
        return self.commits.names

    @property
    def has_processes(self) -> bool:
        """The main process or others of this database are there."""
        return not self.life.over

    @property
    def stuck(self) -> bool:
        return self.hung or self.frozen

    @property
    def accepts(self) -> bool:
        return bool(self.run) and not (self.starting or self.stopping or self.stuck)

    def tell(self) -> None:
        """Something happened that somebody may wait for."""
        stalled, self._stalled = self._stalled, []
        for life, needs_disk, act in stalled:
            self._when_able(life, act, needs_disk)
        self.bell.ring()

    def _when_able(self, life: Life, act: Callable[[], None], needs_disk: bool = False) -> None:
        """Does it when this run's processes run, at once if they do; never when there are none any more."""
        if life.over:
            return
        if self.stuck or (needs_disk and self.troubles.fsync_hangs):
            self._stalled.append((life, needs_disk, act))
        else:
            act()

    async def _runs_on(self, life: Life, low_ms: float, high_ms: float) -> bool:
        """So much work of this run's own. False when its main process ended meanwhile."""
        await self.fleet.takes(low_ms, high_ms)
        while not life.over and self.stuck:
            await self.bell.heard(_LOOK_MS)
        return not life.main_ended.is_set()

    async def _fsync(self, life: Life) -> bool:
        """False when the run ended meanwhile."""
        await self.fleet.clock.sleep_ms(self._fsync_ms())
        while not life.over and (self.stuck or self.troubles.fsync_hangs):
            await self.bell.heard(_LOOK_MS)
        return not life.over

    def _fsync_ms(self) -> float:
        return self.fleet.duration_ms(0.2, 1) * self.troubles.fsync_factor

    # -- what a client does -------------------------------------------------------------------------------------------

    async def commit(self, number: int) -> bool:
        """True when the commit was acknowledged; waits for ever while nobody confirms. Raises EngineError when the
        database takes no writes or ends meanwhile.
        """
        if not self.primary_run or not self.accepts:
            raise EngineError(f"{self.member} takes no writes.")
        if self.troubles.full:
            self._no_room()
            raise EngineError(f"{self.member} has no room for a write.")
        timeline = self.disk.log.timeline(len(self.disk.log))
        place = self.disk.append(Record(timeline, number))
        self.fleet.witness.writes(number, timeline)
        answer = self.commits.begin(place)
        flushed = partial(self._when_able, self.life, partial(self._flushed, place), needs_disk=True)
        self.fleet.later(self._fsync_ms(), flushed)
        at = self.disk.position_at(place)
        answer.add_done_callback(lambda answer: self._answered(answer, number, at))
        await asyncio.shield(answer)  # whoever gives up does not end the wait
        return True

    def _answered(self, answer: asyncio.Future[int], number: int, at: Position) -> None:
        """The session is let go: whether anybody hears it is not its matter."""
        if not answer.cancelled() and answer.exception() is None:
            self.fleet.witness.acknowledges(self.member, answer.result(), number, at)

    def _flushed(self, place: int) -> None:
        self.disk.flush(place)
        self.bell.ring()
        self.commits.flushed(place)

    def _no_room(self) -> None:
        """Now and then it is the log that needs room, and then the database ends itself."""
        if self.fleet.chance(0.1):
            self.crash()

    def numbers(self) -> frozenset[int]:
        """All clients' numbers in the log, shown or not."""
        return self.disk.numbers()

    def sees(self, number: int) -> bool:
        """Whether a reader on this member finds it now."""
        place = self.disk.log.places.get(number)
        if place is None:
            return False
        return not self.commits.hides(place) if self.primary_run else place <= self.replay.reached

    def visible(self) -> frozenset[int]:
        """What a reader on this member finds now."""
        return frozenset(number for number in self.disk.log.places if self.sees(number))

    # -- its standbys -------------------------------------------------------------------------------------------------

    def attach(self, member: str, epoch: int, streaming: bool) -> Sender | None:
        if member not in self.disk.slots:
            return None
        sender = Sender(member, epoch, streaming, pid=self.fleet.next_pid(), names=self.commits.names_of_main)
        return sender if self.senders.take(sender) else None

    def attach_impostor(self, member: str, epoch: int) -> Sender:
        """Somebody who merely calls itself so, and says that it has everything."""
        sender = Sender(member, epoch, True, genuine=False, pid=self.fleet.next_pid(), names=self.commits.names_of_main)
        assert self.senders.take(sender)
        self.hear(sender, 1 << 60, 1 << 60)
        return sender

    def hear(self, sender: Sender, flushed: int, replayed: int) -> None:
        self._when_able(self.life, partial(self._heard, sender, flushed, replayed))

    def _heard(self, sender: Sender, flushed: int, replayed: int) -> None:
        if sender.open:
            sender.flushed, sender.replayed = flushed, replayed
            self.commits.release(sender)

    def let_go(self, sender: Sender) -> None:
        self._when_able(self.life, partial(self._drop, sender))

    def _drop(self, sender: Sender) -> None:
        self.senders.drop(sender)
        self.bell.ring()

    # -- being a standby ----------------------------------------------------------------------------------------------

    def set_upstream(self, upstream: Upstream | None) -> None:
        """Writes the setting and has the server read it. A receiver that is there is left alone."""
        self.disk.upstream = upstream
        self._begin_to_receive()

    def end_receiver(self) -> None:
        """Another one comes when the settings, as they are read then, say so."""
        self.receiver.end()
        self._begin_to_receive()

    def _begin_to_receive(self) -> None:
        if self.run and not self.primary_run and not self.starting:
            self.receiver.begin()

    async def receive(self, records: list[Record]) -> None:
        if self.troubles.full:
            self._no_room()
        life = self.life
        self.disk.torn, self.received = 0, True
        self.disk.log.extend(records)
        count = len(self.disk.log)
        if await self._fsync(life):
            _ = self.replay.reached
            self.disk.flush(count)
            self.bell.ring()

    def hold_replay(self) -> None:
        """A session that was begun on the standby needs what the next record takes away."""
        if self.accepts and not self.primary_run and not self.replay.held:
            self.replay.hold()
            self.fleet.later(_CONFLICT_MS, self.replay.release)

    async def _replayed(self, life: Life) -> bool:
        """When all local log is. False when the run ended meanwhile."""
        while not life.over and (self.stuck or not self.replay.is_done):
            await self.bell.heard(2.0)
        return not life.main_ended.is_set()

    # -- processes ----------------------------------------------------------------------------------------------------

    async def launch(self, primary: bool = False) -> None:
        """Starts what is on the disk; returns when it accepts connections. Raises EngineError."""
        if self.troubles.full:
            raise EngineError(f"{self.member} does not start: no space is left on its disk.")
        life = self.life = Life(f"{self.fleet.next_pid()}:{self.fleet.clock.now_ms():.0f}")
        self.commits = self._new_commits()
        self.starting, self.disk.clean_stop = True, False
        await self._to_its_end(self._launch(life, primary))
        if life.main_ended.is_set():
            raise EngineError(f"{self.member} ended while it was starting.")

    async def _launch(self, life: Life, primary: bool) -> None:
        disk = self.disk
        if max(disk.placeholders, default=0) > max({disk.timeline} | disk.histories):
            # It looks for its own checkpoint on the highest timeline, of which nothing is known, until it is killed.
            await life.main_ended.wait()
        if not await self._runs_on(life, 30, 80) or not await self._fsync(life):
            return
        self.replay = self._new_replay(
            disk.flushed if primary else self.fleet.randomness.between(disk.redo, disk.flushed)
        )
        self.starting, self.primary_run = False, primary
        self._begin_to_receive()
        self.tell()

    async def shut_down(self) -> None:
        """An orderly (fast) stop: sessions end at once, then a checkpoint, and who is connected gets all of the log."""
        await self._to_its_end(self._shut_down(self.life))

    async def _shut_down(self, life: Life) -> None:
        self.stopping = True
        if not await self._runs_on(life, 2, 8):
            return
        self.commits.end(self.member)
        await self.fleet.clock.sleep_ms(self.troubles.checkpoint_ms)
        if not await self._runs_on(life, 3, 12) or not await self._fsync(life):
            return
        if self.troubles.full and self.primary_run:
            self.end_at_once()
            return
        if self.primary_run:
            self.disk.append(Record(self.disk.timeline))
        self.disk.flush()
        self.bell.ring()
        while not life.over and (self.stuck or self._owes_log()):
            await self.bell.heard(_LOOK_MS / 10)
        if await self._runs_on(life, 1, 3):
            self._end(clean=True)

    def _owes_log(self) -> bool:
        end = self.disk.flushed * RECORD_BYTES
        return any(sender.streaming and sender.flushed < end for sender in self.senders)

    async def promote_itself(self) -> None:
        """As pg_promote does: a primary on the next timeline, when all local log is replayed."""
        self.receiver.end()
        await self._to_its_end(self._promote_itself(self.life))

    async def _promote_itself(self, life: Life) -> None:
        if not await self._replayed(life) or not await self._runs_on(life, 20, 60):
            return
        if not await self._fsync(life) or self.stopping or self.primary_run:
            return
        disk, breaks = self.disk, self.troubles.breaks("promotion") or self.troubles.full
        if breaks and self.fleet.chance(0.3):
            self.end_at_once()
            return
        timeline = disk.next_timeline()
        disk.histories.add(timeline)
        if breaks and self.fleet.chance(0.5):
            self.end_at_once()
            return
        self.primary_run = True
        self.fleet.witness.began(self.member, timeline, disk.numbers(), "promoted")
        disk.append(Record(timeline))
        disk.flush()
        disk.redo = disk.flushed
        self.tell()
        if breaks:
            self.end_at_once()

    def crash(self, others_for_ms: float | None = None) -> None:
        """The main process ends at once, what is left of the others a moment later; the disk stays."""
        if not self.run:
            return
        life = self.life
        life.main_ended.set()
        self.fleet.witness.sometimes["crash"] += 1
        remain_ms = self.fleet.duration_ms(0, 5) if others_for_ms is None else others_for_ms
        self.fleet.later(remain_ms, partial(self._when_able, life, self.end_at_once))

    def end_at_once(self) -> None:
        """Every process of it is killed."""
        if self.has_processes:
            self._end(clean=False)

    async def kill(self) -> None:
        await self.fleet.takes(1, 5)
        self.end_at_once()

    def lose_power(self) -> None:
        """The same, and nobody is told: connections stay as they are until somebody has heard nothing for long."""
        self.life.power_lost = True
        self.end_at_once()

    def mend(self) -> None:
        """Nothing is wrong any more with its disk, and no session holds replay up."""
        self.replay.release()
        self.troubles.mend()

    def forget_log(self) -> None:
        """Log was removed although a slot needed it: who is behind can only be copied anew."""
        self.disk.oldest = self.disk.flushed

    def lose_disk(self) -> None:
        self.end_at_once()
        self.disk = Disk()

    def _end(self, clean: bool) -> None:
        life, disk = self.life, self.disk
        self.receiver.end(killed=True)
        if clean:
            disk.redo = disk.flushed if self.primary_run else self.replay.reached
        else:
            disk.crash(self.fleet.randomness.between(0, 1))
        disk.clean_stop = clean and self.primary_run
        life.main_ended.set()
        life.over = True
        self.primary_run = self.starting = self.stopping = self.hung = self.received = self.admits = False
        self._stalled = []
        self.commits.end(self.member)
        self.senders.clear()
        self.bell.ring()

    async def _to_its_end(self, work: Coroutine[Any, Any, None]) -> None:
        """Waits for what goes on even when nobody waits for it any more."""
        await asyncio.shield(self.goes_on(work))

    def goes_on(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """What the server does by itself, whoever has asked for it."""
        task = asyncio.create_task(work)
        self._going_on.add(task)
        task.add_done_callback(self._going_on.discard)
        return task
