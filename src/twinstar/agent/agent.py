"""The agent: observe, decide, act.

One loop decides whenever something is new, and at a pace of its own: every heartbeat at rest, every 10 ms while
something is under way. What it knows is gathered without waiting (`_view`); what it does goes into lanes (one change of
the register, one effect on the database) that never block it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

from twinstar.agent.body import Body
from twinstar.agent.lane import Lane
from twinstar.agent.ledger import Ledger
from twinstar.agent.memory import Memory
from twinstar.agent.peers import DatabaseProbe, Peers
from twinstar.agent.settings import AgentSettings
from twinstar.engine.base import Engine
from twinstar.model.effects import ChangeRegister, Kill, Plan, Reason
from twinstar.model.engine import EngineStatus
from twinstar.model.errors import EngineError, ProtocolBreach, StoreUnavailable
from twinstar.model.register import Durability, Phase, Register
from twinstar.model.view import Settings, View
from twinstar.model.wire import EpochNotice, Gossip, Serving, Told
from twinstar.ports.clock import Clock
from twinstar.ports.network import Network
from twinstar.ports.randomness import Randomness
from twinstar.rules.active_passive import decide
from twinstar.rules.active_passive.local import can_seal
from twinstar.rules.active_passive.steady import attached
from twinstar.store.base import Store

log = logging.getLogger(__name__)

_SOON_MS = 10
_OBSERVE_MS = 1_000
_OBSERVE_SOON_MS = 10
_GOSSIP_MS = 1_000
_SLOTS_MS = 10_000
_PRUNE_MS = 3_600_000
_RUNNING = frozenset({EngineStatus.STANDBY, EngineStatus.PRIMARY})


class Agent:
    """One member's agent. `run` until cancelled; the database goes on without it."""

    def __init__(
        self,
        settings: AgentSettings,
        store: Store,
        engine: Engine,
        clock: Clock,
        randomness: Randomness,
        network: Network,
        probe_database: DatabaseProbe,
    ) -> None:
        self.settings, self._engine, self._clock, self._randomness = settings, engine, clock, randomness
        self._wake = asyncio.Event()
        self._attention = asyncio.Event()
        """Look at the database now: something is under way again."""
        self.memory = Memory(settings.state_file)
        self.ledger = Ledger(store, settings.me, clock, randomness, self._wake.set)
        self.body = Body(settings.me, engine, self.memory, self.ledger, clock)
        self.lane = Lane(clock, self.body.perform, self._wake.set)
        self.peers = Peers(
            settings.me, settings.cluster, settings.secret, settings.addresses, settings.timings, clock, network,
            probe_database, self.memory.now.heard, self._wake.set, self.memory.heard,
        )  # fmt: skip
        self.peers.can_seal = self._can_seal
        self.peers.serving = self._serving
        self.body.on_draining = self.peers.tell_routers
        self.plan = Plan()
        self.pid = 0
        self._started_ms = clock.now_ms()
        self._change: asyncio.Task[bool] | None = None
        self._epoch_seen = (-1, "")
        self._back_off_ms = 0.0
        self._retake_at_ms = -1e12
        self._renewed_at_ms = -1e12
        self._lease_from_ms = -1e12
        self._absent_since: dict[str, float] = {}
        self._not_receiving_since: float | None = None
        self._told: Told | None = None
        self._due: dict[str, float] = {}
        self._served: tuple[object, ...] = ()
        self._excluded: frozenset[str] = frozenset()
        self.loop_lag_ms = 0.0
        """How late the loop woke at worst."""

    async def run(self) -> None:
        """Runs until cancelled. Raises EnvironmentTrouble when it cannot begin, ProtocolBreach when it must not go on."""
        await self.peers.open()
        try:
            async with asyncio.TaskGroup() as tasks:
                await self.body.observe()
                for each in (
                    self.ledger.follow(),
                    self._watch_end(),
                    self._observe_for_ever(),
                    self._watch_hang(),
                    self._decide_for_ever(),
                ):
                    tasks.create_task(each)
        finally:
            await self.lane.close()
            self.peers.close()
            await self._engine.close()

    # -- the loop -----------------------------------------------------------------------------------------------------

    async def _decide_for_ever(self) -> None:
        while True:
            pace_ms = _SOON_MS if self.plan.soon else self.settings.timings.heartbeat_ms
            await self._woken_within(pace_ms)
            self._wake.clear()
            now = self._clock.now_ms()
            self.peers.health.woke(now)
            self._note_epoch(now)
            view = self.view(now)
            rested = not self.plan.soon
            self.plan = decide(view)
            if rested and self.plan.soon:
                self._attention.set()
            self._act(view)
            self._tell(now, view)

    async def _woken_within(self, pace_ms: float) -> None:
        due = self._clock.now_ms() + pace_ms
        try:
            async with self._clock.timeout_ms(pace_ms):
                await self._wake.wait()
        except TimeoutError:
            self.loop_lag_ms = max(self.loop_lag_ms, self._clock.now_ms() - due)

    def _act(self, view: View) -> None:
        plan, register = self.plan, view.register
        self.lane.want(plan.engine)
        if plan.change is not None and self._change is None:
            self._begin_change(plan.change)
        if plan.opened and self.body.opened != plan.opened and register is not None:
            self._opened(register)
        if register is not None:
            probes = plan.probe | frozenset(m for m in self.settings.addresses if self.peers.missing(m))
            self.peers.probe(probes)
            if plan.ask_about:
                self.peers.ask(plan.ask_about, register.epoch, register.voters)

    def _begin_change(self, change: ChangeRegister) -> asyncio.Task[bool]:
        self._change = asyncio.create_task(self._carry_change(change), name=f"change: {change.reason}")
        return self._change

    async def _carry_change(self, change: ChangeRegister) -> bool:
        sent = self._clock.now_ms()
        try:
            ours = await self.ledger.change(change)
            register = self.ledger.register
            if ours and register is not None and register.leader == self.settings.me:
                self._renewed_at_ms = self._lease_from_ms = sent
            if ours and change.reason is Reason.RETAKEN:
                self._retake_at_ms = sent
            return ours
        finally:
            self._change = None
            self._wake.set()

    async def change_now(self, change: ChangeRegister) -> bool:
        """A change asked for by hand, in turn with the agent's own. True when it stands."""
        while (running := self._change) is not None:
            await asyncio.gather(running, return_exceptions=True)
        return await self._begin_change(change)

    def _opened(self, register: Register) -> None:
        now = self._clock.now_ms()
        first = self.body.opened == 0
        self.body.opened = register.epoch
        self.body.milestones = {**self.body.milestones, "opened": now}
        log.info("epoch %d is open, %.0f ms after it was named", register.epoch, now - self.ledger.epoch_at_ms)
        self.peers.tell_routers()
        if first:
            self._aside(self._record(register))

    async def _record(self, register: Register) -> None:
        """One line of history for a leadership that has opened."""
        marks, named = self.body.milestones, self.ledger.epoch_at_ms
        entry: dict[str, object] = {
            "epoch": register.epoch,
            "leader": register.leader,
            "at_wall_ms": self._clock.wall_ms(),
            "reason": register.reason,
            "evidence": register.evidence,
            "fork": str(register.fork) if register.fork else None,
            "milestones_ms": {k: round(v - named, 1) for k, v in marks.items()},
        }
        await self.ledger.record(register.epoch, entry)

    def exclude(self, member: str) -> None:
        """Counts a member no longer as one of this cluster: it is dropped as a voter, and its slot with it."""
        rules = self.settings.rules
        left = tuple(m for m in rules.members if m != member)
        self.settings = replace(self.settings, rules=replace(rules, members=left))
        self._excluded |= {member}
        self._due.pop("slots", None)
        self._wake.set()

    def reconfigure(self, rules: Settings) -> None:
        """Takes over what the rules look at from a changed configuration."""
        self.settings = replace(self.settings, rules=rules)
        self._wake.set()

    def _aside(self, work: Coroutine[Any, Any, None]) -> None:
        """Work nobody waits for; its failure is logged."""
        task = asyncio.create_task(work)
        task.add_done_callback(_log_failure)

    # -- what is known ------------------------------------------------------------------------------------------------

    def _note_epoch(self, now: float) -> None:
        register = self.ledger.register
        seen = (register.epoch, register.leader) if register else (0, "")
        if seen == self._epoch_seen:
            return
        self._epoch_seen = seen
        self._back_off_ms = self._randomness.between(0, self.settings.timings.election_timeout_ms / 2)
        self._absent_since = {}
        self.peers.epoch_is(*seen, self.ledger.epoch_at_ms)
        self.peers.tell_guards(EpochNotice(*seen))
        self.peers.tell_routers()

    def view(self, now: float) -> View:
        """What this member knows at this moment."""
        body, ledger, register = self.body, self.ledger, self.ledger.register
        epoch = register.epoch if register else 0
        self._note_absences(now, register)
        lease_ms = register.lease_ms if register else 0
        return View(
            me=self.settings.me,
            now_ms=now,
            wall_ms=self._clock.wall_ms(),
            settings=self.settings.rules,
            addresses={m: a.database for m, a in self.settings.addresses.items()},
            register_seen=ledger.seen,
            register=register,
            revision=ledger.revision,
            register_age_ms=now - ledger.version_at_ms,
            epoch_age_ms=now - ledger.epoch_at_ms,
            seals=ledger.seals(epoch),
            next_seals=ledger.seals(epoch + 1),
            seals_age_ms=now - ledger.seals_at_ms,
            store_ok=ledger.ok,
            changing=ledger.changing or self._change is not None,
            settled=ledger.settled,
            promise=self.memory.now.promise,
            led=body.led,
            handing_over=self.memory.now.handing_over,
            engine=body.state,
            running_effect=self.lane.effect,
            died=body.died,
            sealed=body.sealed,
            bootstrapped=body.bootstrapped,
            primary=body.primary,
            enforced=body.enforced,
            enforced_lsn=body.enforced_lsn,
            opening_lsn=body.opening_lsn,
            opened=body.opened,
            absent_ms={m: now - t for m, t in self._absent_since.items()},
            not_receiving_ms=now - self._not_receiving_since if self._not_receiving_since is not None else 0.0,
            up_ms=now - self._started_ms,
            back_off_ms=self._back_off_ms,
            retake_age_ms=now - self._retake_at_ms,
            lease_left_ms=self._lease_from_ms + lease_ms - now,
            renewed_age_ms=now - self._renewed_at_ms,
            peers=self.peers.views(),
        )

    def _note_absences(self, now: float, register: Register | None) -> None:
        """Since when who has not been attached to this leader; since when this standby has received nothing."""
        state = self.body.state
        if state.status is EngineStatus.STANDBY and state.upstream is not None and not state.receiving:
            self._not_receiving_since = self._not_receiving_since or now
        else:
            self._not_receiving_since = None
        if register is None or self.body.primary is None or self.body.led != register.epoch:
            self._absent_since = {}
            return
        here = {a.member for a in self.body.primary.attachments if a.genuine and a.epoch == register.epoch}
        others = register.voters - here
        self._absent_since = {m: self._absent_since.get(m, now) for m in others}

    def _can_seal(self, about: str, epoch: int) -> bool:
        register = self.ledger.register
        if register is None or (register.leader, register.epoch) != (about, epoch):
            return False
        return can_seal(self.view(self._clock.now_ms()), register)

    # -- telling others -----------------------------------------------------------------------------------------------

    def _tell(self, now: float, view: View) -> None:
        told = self._what_to_tell_the_guard(view)
        if told != self._told or self._is_due("guard", now, self.settings.timings.heartbeat_ms):
            self._told = told
            self.peers.tell_guard(told)
        if self._is_due("gossip", now, _GOSSIP_MS):
            self.peers.tell_agents(self.own_gossip())
        serving = self._serving()
        if isinstance(serving, Serving) and (serving.readers, serving.open) != self._served:
            self._served = (serving.readers, serving.open)
            self.peers.tell_routers()
        if self._is_due("prune", now, _PRUNE_MS) and self.body.led:
            self._aside(self._prune())

    def _is_due(self, what: str, now: float, every_ms: float) -> bool:
        if now < self._due.get(what, 0.0):
            return False
        self._due[what] = now + every_ms - _SOON_MS / 2
        return True

    def _what_to_tell_the_guard(self, view: View) -> Told:
        state, register = self.body.state, view.register
        leading = state.status is EngineStatus.PRIMARY and self.body.led > 0
        leased = register is not None and register.durability is Durability.ASYNC and leading
        return Told(
            epoch=self.body.led if leading else view.promise,
            leading=leading,
            run=state.run,
            stopping=self.body.stopping or (state.status is EngineStatus.STOPPED and not self.body.died),
            lease_until_ms=self._lease_from_ms + register.lease_ms if leased and register else 0.0,
            register_epoch=register.epoch if register else 0,
        )

    def _serving(self) -> Serving | EpochNotice:
        register = self.ledger.register
        if register is None:
            return EpochNotice(0, "")
        if register.leader != self.settings.me or register.phase is not Phase.LEADING:
            return EpochNotice(register.epoch, register.leader)
        running = self.body.state.status is EngineStatus.PRIMARY and self.body.led == register.epoch
        return Serving(
            epoch=register.epoch,
            leader=self.settings.me,
            open=running and self.body.opened == register.epoch,
            readers=self._readers(register),
            draining=self.body.draining,
        )

    def _readers(self, register: Register) -> tuple[str, ...]:
        primary = self.body.primary
        if primary is None:
            return ()
        here = attached(self.view(self._clock.now_ms()), register)
        bound = self.settings.maximum_read_lag_bytes
        return tuple(sorted(m for m, a in here.items() if primary.position.lsn - a.replay_lsn <= bound))

    def own_gossip(self) -> Gossip:
        """What this member says of itself."""
        state = self.body.state
        leading = state.status is EngineStatus.PRIMARY and self.body.led > 0
        has_data = state.status not in {EngineStatus.ABSENT, EngineStatus.INCOMPLETE} and not state.nonce
        return Gossip(
            role="leader" if leading else "standby",
            state=self.plan.state.value,
            epoch=self.body.led if leading else self.memory.now.promise,
            position=str(state.position) if state.position else "",
            replayed="",
            agent_pid=self.pid,
            engine_pid=state.pid or 0,
            guard_pid=self.peers.guard_pid,
            note=self.lane.trouble or self.body.progress or self.plan.note or self.ledger.trouble,
            extra={
                "has_data": has_data,
                "opened": self.body.opened,
                "restart_pending": list(state.restart_pending),
                "drift": list(state.drift),
                "receiving": state.receiving,
            },
        )

    async def _prune(self) -> None:
        try:
            await self.ledger.prune()
        except StoreUnavailable as error:
            log.warning("old entries stay in the store for now: %s", error)

    # -- watching the database ----------------------------------------------------------------------------------------

    async def _watch_end(self) -> None:
        """Notices the end of the running database at once."""
        while True:
            if self.body.state.status not in _RUNNING:
                await self._clock.sleep_ms(_SOON_MS)
                continue
            await self.body.ended()
            log.warning("the database has ended (%s)", "as asked" if self.body.stopping else "by itself")
            self._wake.set()

    async def _observe_for_ever(self) -> None:
        """Looks at the database at a pace that fits: what the plan waits for is looked for often."""
        while True:
            pace_ms = _OBSERVE_SOON_MS if self.plan.soon or self.lane.effect is not None else _OBSERVE_MS
            await self._attention_within(pace_ms)
            self._attention.clear()
            await self.body.observe()
            if self.plan.soon:
                self._wake.set()
            self._keep_slots()

    async def _attention_within(self, pace_ms: float) -> None:
        try:
            async with self._clock.timeout_ms(pace_ms):
                await self._attention.wait()
        except TimeoutError:
            pass

    def _keep_slots(self) -> None:
        now = self._clock.now_ms()
        register = self.ledger.register
        idle = self.lane.effect is None and not self.plan.soon and self.body.state.status in _RUNNING
        if register is not None and idle and self._is_due("slots", now, _SLOTS_MS):
            self._aside(self._engine.keep_slots(self._others()))

    def _others(self) -> frozenset[str]:
        return frozenset(self.settings.addresses) - {self.settings.me} - self._excluded

    async def _watch_hang(self) -> None:
        """A hung database is found by a real query on a fresh connection, and then killed."""
        strikes = 0
        timings = self.settings.timings
        while True:
            await self._clock.sleep_ms(timings.hung_query_ms * 2 if strikes == 0 else timings.hung_query_ms / 4)
            if self.body.state.status not in _RUNNING or self.lane.effect is not None:
                strikes = 0
                continue
            strikes = 0 if await self._engine.answers(timings.hung_query_ms) else strikes + 1
            if strikes >= timings.hung_strikes:
                log.error("the database does not answer %d queries on fresh connections: killing it", strikes)
                strikes = 0
                self.lane.want(Kill())


def _log_failure(task: asyncio.Task[None]) -> None:
    if task.cancelled():
        return
    error = task.exception()
    if isinstance(error, ProtocolBreach):
        log.critical("%s", error)
    elif isinstance(error, EngineError | StoreUnavailable | TimeoutError | OSError):
        log.info("left for later: %s", error)
    elif error is not None:
        log.error("unexpected: %r", error, exc_info=error)
