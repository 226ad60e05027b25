"""This member's own database, in the agent's hands: what is known of it, and the effects carried out on it.

Order is what makes these steps safe: a promise is on disk before anything is detached or attached for it; the version
of the register that an irreversible step rests on is looked at again immediately before the step.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from twinstar.agent.ledger import Ledger
from twinstar.agent.memory import Memory
from twinstar.engine.base import Engine, RewindResult
from twinstar.model.effects import (
    Adopt,
    Bootstrap,
    Enforce,
    EngineEffect,
    Follow,
    HandOver,
    Kill,
    PromoteFor,
    Rebuild,
    Retag,
    SealFor,
    Start,
    Stop,
)
from twinstar.model.engine import EngineState, EngineStatus, Names, Primary, Upstream
from twinstar.model.errors import EngineError, EpochSpent, ProtocolBreach
from twinstar.model.position import Position
from twinstar.model.register import Phase, Seal
from twinstar.ports.clock import Clock
from twinstar.rules.active_passive import lease
from twinstar.rules.active_passive.local import in_time

log = logging.getLogger(__name__)

_RUNNING = frozenset({EngineStatus.STANDBY, EngineStatus.PRIMARY})
_GONE = frozenset({EngineStatus.STOPPED, EngineStatus.REMAINS})
_CLOSE_LOOKS_MS = 50
_STOP_DEADLINE_MS = 3_000
_POLL_MS = 10
_PRIMARY_MS = 1_000
_NEAR_BYTES = 64 * 1024
_HAND_OVER_WAIT_MS = 5_000


class Body:
    """State that the rules ask for, and one method per effect."""

    def __init__(self, me: str, engine: Engine, memory: Memory, ledger: Ledger, clock: Clock) -> None:
        self._me, self._engine, self._memory, self._ledger, self._clock = me, engine, memory, ledger, clock
        self.state = EngineState(EngineStatus.STOPPED)
        self.primary: Primary | None = None
        self._looked_ms = self._arrived_ms = -1e12
        self._arrived_from = ""
        self.sealed: Seal | None = None
        self.bootstrapped = ""
        self.spent = 0
        self.enforced: Names | None = None
        self.enforced_lsn = 0
        self.opening_lsn = 0
        self.opened = 0
        self.died = False
        self.stopping = False
        self.draining = False
        self.progress = ""
        self.milestones: dict[str, float] = {}
        """When this leadership was sealed, promoted and opened (boot clock, ms)."""
        self.on_draining: Callable[[], None] = lambda: None
        self.on_leading: Callable[[], None] = lambda: None
        """The guard must know of it before the database is made leader."""
        self.on_slots_wanted: Callable[[], None] = lambda: None
        """A new leader's standbys cannot attach, and a new standby's successors could not, without slots."""

    @property
    def led(self) -> int:
        """The epoch for which the run of the database that is there now was made leader; 0 when it was not."""
        return self.made_leader_of if self.state.status is EngineStatus.PRIMARY else 0

    @property
    def made_leader_of(self) -> int:
        """The same, also while its promotion is still under way."""
        remembered = self._memory.now
        return remembered.leads if self.state.run and self.state.run == remembered.run else 0

    # -- observing ----------------------------------------------------------------------------------------------------

    async def observe(self) -> None:
        """Looks at the database; on a leader also at who is attached. Notices a death nobody asked for."""
        led, before = self.led, self.state
        self.state = await self._engine.inspect()
        self._note_arrival(before)
        if self.state.status in _RUNNING:
            self.died = False
        elif led and self.state.status in _GONE and not self.stopping:
            self.died = True
        if self.state.status is not EngineStatus.PRIMARY:
            self._forget_leadership()
        elif self.led and self.state.position is not None:
            # One that has just not answered would keep this waiting for its deadline.
            await self.observe_primary()

    def received_from_ms(self, member: str) -> float:
        """When log was last seen to arrive from `member`, on the boot clock."""
        return self._arrived_ms if self._arrived_from == member else -1e12

    def _note_arrival(self, before: EngineState) -> None:
        """Between two looks that are close together: what arrived in a long pause says nothing about its end."""
        now, looked_ms = self._clock.now_ms(), self._looked_ms
        self._looked_ms = now
        old, new = before.position, self.state.position
        moved = old is not None and new is not None and new > old and self.state.receiving
        if moved and self.state.upstream and now - looked_ms <= _CLOSE_LOOKS_MS:
            self._arrived_from, self._arrived_ms = self.state.upstream[0], now

    async def observe_primary(self) -> None:
        """A database may hang between two questions: then this one is given up, so that the next look finds it."""
        try:
            async with self._clock.timeout_ms(_PRIMARY_MS):
                self.primary = await self._engine.primary()
        except (EngineError, TimeoutError) as error:
            log.debug("no word from the primary: %s", error)

    async def ended(self) -> None:
        """Returns when the running database has ended."""
        await self._engine.ended()
        await self.observe()

    def _forget_leadership(self) -> None:
        self.primary = self.enforced = None
        self.enforced_lsn = self.opening_lsn = self.opened = 0
        self.draining = False

    # -- effects ------------------------------------------------------------------------------------------------------

    async def perform(self, effect: EngineEffect) -> None:
        """Carries one effect out. Raises TwinstarError, TimeoutError, OSError."""
        if not isinstance(effect, SealFor | PromoteFor | Enforce):
            self.sealed = None
        self.stopping = isinstance(effect, Stop | HandOver | Rebuild | Follow | Bootstrap)
        try:
            await self._carry_out(effect)
        finally:
            self.stopping = self.stopping and isinstance(effect, HandOver | Stop)
            self.progress = ""
            await self.observe()
            if self.state.status in _RUNNING:
                self.stopping = False
            if isinstance(effect, Adopt | PromoteFor | Follow | Rebuild):
                self.on_slots_wanted()
            if self.draining and isinstance(effect, HandOver):
                self.draining = False
                self.on_draining()

    async def _carry_out(self, effect: EngineEffect) -> None:
        match effect:
            case Bootstrap(nonce):
                self.bootstrapped = await self._engine.bootstrap(nonce, self._say)
            case Adopt(epoch):
                await self._adopt(epoch)
            case Start():
                await self._start()
            case Stop():
                await self._stop()
            case Kill():
                await self._engine.kill()
            case SealFor():
                await self._seal(effect)
            case PromoteFor(epoch, names):
                await self._promote(epoch, names)
            case Follow():
                await self._follow(effect)
            case Rebuild(upstream):
                await self._rebuild(upstream)
            case Enforce(names):
                await self._enforce(names)
            case Retag(names):
                await self._retag(names)
            case HandOver(to, epoch):
                await self._hand_over(to, epoch)

    def _say(self, sentence: str) -> None:
        self.progress = sentence
        log.info("%s", sentence)

    async def _start(self) -> None:
        await self._engine.start()
        if self.state.nonce:
            await self._engine.bootstrap_done()

    async def _stop(self) -> None:
        if not await self._engine.stop(_STOP_DEADLINE_MS):
            log.warning("the database did not stop in %d ms: killing it", _STOP_DEADLINE_MS)
        await self._engine.kill()

    async def _adopt(self, epoch: int) -> None:
        self._memory.lead(epoch, self.state.run)
        await self._engine.bootstrap_done()
        await self._enforce(Names(epoch, frozenset(), 0))
        self._begin_epoch(self.enforced_lsn)

    async def _end_what_goes_on(self) -> None:
        """A promotion that was broken off, by us or with an earlier run of this agent, goes on in the database: it
        would be a primary after it has sealed or attached. Only the end of its processes is sure to end it. A stop that
        was broken off goes on as well, and of one that hangs nothing can be asked any more.
        """
        self.state = await self._engine.inspect()
        promoting = self.state.status is EngineStatus.STANDBY and self.state.run == self._memory.now.run
        if promoting or self.state.status is EngineStatus.STOPPING:
            self.stopping = True
            await self._stop()
            await self._engine.start()

    async def _seal(self, effect: SealFor) -> None:
        await self._end_what_goes_on()
        register = self._ledger.register
        ahead = register is not None and effect.epoch > register.epoch
        self._memory.promise(effect.epoch, handing_over=ahead)
        position = await self._engine.seal()
        self.sealed = Seal(self._me, effect.epoch, position)
        self.milestones = {"sealed": self._clock.now_ms()}
        if effect.publish:
            await self._ledger.publish(self.sealed)

    async def _promote(self, epoch: int, names: Names) -> None:
        """Irreversible, so everything it rests on is looked at again first."""
        register, sealed = self._ledger.register, self.sealed
        named = (epoch, Phase.LEADING, self._me)
        if register is None or (register.epoch, register.phase, register.leader) != named:
            raise ProtocolBreach(f"Epoch {epoch} is not this member's to lead any more; it waits for the register.")
        if sealed is None or self._memory.now.promise > epoch:
            raise ProtocolBreach(f"Epoch {epoch} is not this member's to lead any more; it waits for the register.")
        self._memory.lead(epoch, self.state.run)
        self.on_leading()
        if not lease.holds(register, self._ledger.lease_until_ms - self._clock.now_ms()):
            raise ProtocolBreach(f"The lease for epoch {epoch} was over before the promotion; it is taken anew first.")
        try:
            end = await self._engine.promote(epoch, names)
        except EpochSpent:
            self.spent = epoch
            raise
        self.sealed = None
        self.enforced, self.enforced_lsn = names, end.lsn
        self._begin_epoch(end.lsn)

    async def _enforce(self, names: Names) -> None:
        self.enforced = None
        end = await self._engine.open_names(names)
        self.enforced, self.enforced_lsn = names, end.lsn
        # An agent that came back to its running leader, or was broken off: the epoch has begun before this position.
        self.opening_lsn = self.opening_lsn or end.lsn

    async def _retag(self, names: Names) -> None:
        self._memory.lead(names.epoch, self.state.run)
        self.enforced = None
        end = await self._engine.open_names(names)
        self.enforced, self.enforced_lsn = names, end.lsn
        self._begin_epoch(end.lsn)

    def _begin_epoch(self, end_lsn: int) -> None:
        self.opening_lsn, self.opened = end_lsn, 0
        self.milestones = {**self.milestones, "promoted": self._clock.now_ms()}

    # -- following ----------------------------------------------------------------------------------------------------

    async def _follow(self, effect: Follow) -> None:
        """Detach, compare, promise, attach; never attach to find out."""
        upstream = effect.upstream
        await self._end_what_goes_on()
        in_vain = self.state.upstream == (upstream.member, upstream.epoch)
        position = await self._engine.detach()
        if position is None:
            raise EngineError("The database is not running, so it cannot be attached; it is started first.")
        if _before_fork(position, effect.fork) or (await self._engine.branch(upstream)).contains(position):
            self._promise(upstream.epoch)
            if in_vain and not await self._engine.has_log_from(upstream, position):
                log.warning("%s no longer has the log from %s on: copying anew", upstream.member, position)
                await self._rebuild(upstream)
                return
            await self._engine.follow(upstream)
            return
        if effect.as_it_is:
            raise EngineError(
                f"The log at {position} left the branch of {upstream.member}; it is rewound after `twinstar resume`."
            )
        log.warning("the log at %s left the branch of %s: it must be rewound", position, upstream.member)
        self._promise(upstream.epoch)
        await self._stop()
        rewound = not effect.careful and await self._engine.rewind(upstream, self._say) is RewindResult.DONE
        if not rewound:
            await self._engine.clone(upstream, self._say)
        await self._engine.start()
        await self._engine.follow(upstream)

    async def _rebuild(self, upstream: Upstream) -> None:
        """A copy made anew. The promise may have been lost with the disk: the register is read again first."""
        await self._ledger.confirm()
        register = self._ledger.register
        if register is None or (register.leader, register.epoch) != (upstream.member, upstream.epoch):
            raise EngineError(f"{upstream.member} does not lead epoch {upstream.epoch} any more; looking again.")
        self._promise(upstream.epoch)
        if self.state.status is not EngineStatus.ABSENT:
            await self._engine.kill()
        await self._engine.clone(upstream, self._say)
        await self._engine.start()
        await self._engine.follow(upstream)

    def _promise(self, epoch: int) -> None:
        if self._memory.now.promise > epoch:
            raise ProtocolBreach(f"This member has promised epoch {self._memory.now.promise}, not {epoch}; it waits.")
        self._memory.promise(epoch)

    # -- handing over -------------------------------------------------------------------------------------------------

    async def _hand_over(self, to: str, epoch: int) -> None:
        if self.state.status is EngineStatus.PRIMARY:
            await self._prepare(to)
            self._look_at_deadline(to, epoch)
            self._memory.promise(epoch + 1, handing_over=True)
            if not await self._engine.stop(_STOP_DEADLINE_MS):
                await self._engine.kill()
            self.state = await self._engine.inspect()
        if self.state.shut_down_at is not None:
            await self._ledger.publish(Seal(self._me, epoch + 1, self.state.shut_down_at))

    async def _prepare(self, to: str) -> None:
        """What makes the stop short: checkpoints, the successor near, nobody lagging connected."""
        await self._engine.prepare_stop()
        self.draining = True
        self.on_draining()
        async with self._clock.timeout_ms(_HAND_OVER_WAIT_MS):
            while not self._near(to):
                await self._clock.sleep_ms(_POLL_MS)
                await self.observe_primary()
        if self.primary is not None:
            end = self.primary.position.lsn
            lagging = [a.pid for a in self.primary.attachments if a.member != to and end - a.flush_lsn > _NEAR_BYTES]
            await self._engine.end_walsenders(frozenset(lagging))

    def _look_at_deadline(self, to: str, epoch: int) -> None:
        """Preparing may have taken long; from the stop on there is an outage, in vain if nobody takes over any more."""
        register = self._ledger.register
        switchover = register.switchover if register is not None and register.epoch == epoch else None
        age_ms = self._clock.now_ms() - self._ledger.version_at_ms
        if switchover is None or switchover.to != to or not in_time(switchover, self._clock.wall_ms(), age_ms):
            raise EngineError(
                f"The time to hand over to {to} was over before everything was prepared; {self._me} stays."
            )

    def _near(self, to: str) -> bool:
        if self.primary is None:
            return False
        end = self.primary.position.lsn
        return any(a.member == to and a.genuine and end - a.flush_lsn <= _NEAR_BYTES for a in self.primary.attachments)


def _before_fork(position: Position, fork: Position | None) -> bool:
    """Whether a log that ends at `position` is part of every branch that starts at `fork`, without asking anybody."""
    return fork is not None and position.timeline == fork.timeline and position.lsn <= fork.lsn
