"""The agent: observe, decide, act.

One loop decides whenever something is new, and at a pace of its own: every heartbeat at rest, every 10 ms while
something is under way. What it knows is gathered without waiting (`_view`); what it does goes into lanes (one change of
the register, one effect on the database) that never block it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace

from twinstar.agent import telling
from twinstar.agent.back_off import BackOff
from twinstar.agent.body import Body
from twinstar.agent.errands import Paces, aside
from twinstar.agent.lane import Lane
from twinstar.agent.ledger import Ledger
from twinstar.agent.memory import Memory
from twinstar.agent.peers import DatabaseProbe, Peers
from twinstar.agent.settings import AgentSettings
from twinstar.agent.watching import Watching
from twinstar.engine.base import Engine
from twinstar.model.effects import ChangeRegister, EngineEffect, Plan, Reason
from twinstar.model.engine import EngineStatus
from twinstar.model.errors import EngineError, PeerError, StoreUnavailable
from twinstar.model.register import Register
from twinstar.model.view import Settings, View
from twinstar.model.wire import EpochNotice, Gossip, Serving, Told
from twinstar.ports.clock import Clock
from twinstar.ports.network import Network
from twinstar.ports.randomness import Randomness
from twinstar.rules.active_passive import decide
from twinstar.rules.active_passive.attached import counted
from twinstar.rules.active_passive.local import can_seal
from twinstar.rules.active_passive.suspicion import suspects
from twinstar.store.base import Store

log = logging.getLogger(__name__)

_SOON_MS = 10
_REST_HEARTBEATS = 2.2
"""How many heartbeats the loop may rest while all peers are heard. What they say waits in the socket meanwhile: a
wake-up for each would cost more than everything else an agent at rest does."""
_TELL_HEARTBEATS = 2.5
"""The guard is told at least so often that the agent gets on (`rules.suspicion` allows for it)."""
_STALLED_HEARTBEATS = 20
_GOSSIP_MS = 1_000
_PRUNE_MS = 3_600_000
_TRIES_BY_HAND = 5


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
        self.settings, self._engine, self._clock = settings, engine, clock
        self._wake = asyncio.Event()
        self.memory = Memory(settings.state_file)
        self.ledger = Ledger(store, settings.me, clock, randomness, self._wake.set)
        self.body = Body(settings.me, engine, self.memory, self.ledger, clock)
        self.lane: Lane[EngineEffect] = Lane(clock, self.body.perform, self._wake.set)
        self.peers = Peers(
            settings.me, settings.cluster, settings.secret, settings.addresses, settings.timings, clock, network,
            probe_database, self.memory.now.heard, self.memory.begin(clock.wall_ms()), self._wake.set,
            self.memory.heard, self.memory.keeps_start,
        )  # fmt: skip
        self.peers.judge = self._judge
        self.peers.serving = self._serving
        self.peers.replication_moved_ms = self.body.received_from_ms
        self.body.on_draining = self.peers.tell_routers
        self.body.on_leading = self.ledger.on_lease_asked = self._tell_guard_now
        self.plan = Plan()
        self.pid = 0
        self.waiting: tuple[str, ...] = ()
        """Keys of the configuration whose change waits for a restart of this agent or its database."""
        self._started_ms = self._turned_ms = clock.now_ms()
        self._change: asyncio.Task[bool] | None = None
        self._epoch_seen = (-1, "")
        timings = settings.timings
        self._back_off = BackOff(randomness, timings.election_timeout_ms, 2 * timings.voter_removal_ms)
        self._retake_at_ms = -1e12
        self._renewed_at_ms = -1e12
        self._absent_since: dict[str, float] = {}
        self._not_receiving_since: float | None = None
        self._told: Told | None = None
        self._paces = Paces()
        self._served: tuple[object, ...] = ()
        self._said: tuple[object, ...] = ()
        self.watching = Watching(engine, self.body, self.lane, settings.timings, clock, self._wake.set, self._others)
        self.body.on_slots_wanted = self.watching.others_changed
        self.loop_lag_ms = 0.0
        """How late the loop woke at worst."""

    async def run(self) -> None:
        """Runs until cancelled. Raises EnvironmentTrouble if it cannot begin, ProtocolBreach if it must not go on."""
        await self.peers.open()
        try:
            async with asyncio.TaskGroup() as tasks:
                await self.body.observe()
                for each in (self.ledger.follow(), self.ledger.look(), *self.watching.tasks(), self._decide_for_ever()):
                    tasks.create_task(each)
        finally:
            await self.lane.close()
            self.peers.close()
            await self._engine.close()

    # -- the loop -----------------------------------------------------------------------------------------------------

    async def _decide_for_ever(self) -> None:
        while True:
            await self._woken_within(_SOON_MS if self.plan.soon else self._rest_ms())
            self._wake.clear()
            now = self._turned_ms = self._clock.now_ms()
            self.peers.health.woke(now)
            self.peers.poll()
            self._note_epoch()
            view = self.view(now)
            self.plan = decide(view)
            self.watching.closely = self.plan.soon
            self.watching.paused = view.register is not None and view.register.paused
            self.peers.attend(self.plan.soon)
            self._act(view)
            self._tell(now, view)

    @property
    def stalled(self) -> bool:
        """This agent itself has decided nothing for much longer than it rests."""
        return self._clock.now_ms() - self._turned_ms > _STALLED_HEARTBEATS * self.settings.timings.heartbeat_ms

    def _rest_ms(self) -> float:
        """At rest: until the next heartbeat would be overdue, and often enough for the guard and a lease."""
        timings, register = self.settings.timings, self.ledger.register
        longest_ms = timings.heartbeat_ms * _REST_HEARTBEATS
        asked = self.ledger.asked_lease
        lease_ms = asked[1] if asked else register.lease_ms if register else 0
        if lease_ms:
            longest_ms = min(longest_ms, lease_ms / 20)
        overdue_ms = self.peers.next_change_ms() - self._clock.now_ms()
        return min(longest_ms, max(_SOON_MS, overdue_ms))

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
        if plan.change is not None and self._change is None and not self.ledger.misfit:
            self._begin_change(plan.change)
        if plan.opened and self.body.opened != plan.opened and register is not None:
            self._opened(register)
        if register is not None:
            self.peers.probe(plan.probe | {member for member, peer in view.peers.items() if peer.overdue})
            if plan.ask_about:
                self.peers.ask(plan.ask_about, register.epoch, register.voters.union(self.settings.rules.witnesses))

    def _begin_change(self, change: ChangeRegister) -> asyncio.Task[bool]:
        self._change = asyncio.create_task(self._carry_change(change), name=f"change: {change.reason}")
        return self._change

    async def _carry_change(self, change: ChangeRegister) -> bool:
        sent = self._clock.now_ms()
        try:
            ours = await self.ledger.change(change)
            register = self.ledger.register
            if ours and register is not None and register.leader == self.settings.me:
                self._renewed_at_ms = sent
            if ours and change.reason is Reason.RETAKEN:
                self._retake_at_ms = sent
            return ours
        finally:
            self._change = None
            self._wake.set()

    async def change_by_hand(self, ask: Callable[[View], ChangeRegister]) -> ChangeRegister | None:
        """A change asked for by hand, in turn with the agent's own; made from what is known when its turn has come, and
        again when something else was changed first. None when that was the epoch, or when it does not end.

        Raises what `ask` raises, and PeerError when the register in the store is none that can be changed.
        """
        began = self.ledger.register.epoch if self.ledger.register else 0
        for _ in range(_TRIES_BY_HAND):
            while (running := self._change) is not None:
                await asyncio.gather(running, return_exceptions=True)
            if self.ledger.misfit:
                raise PeerError(self.ledger.misfit)
            change = ask(self.view(self._clock.now_ms()))
            if await self._begin_change(change):
                return change
            if self.ledger.register is None or self.ledger.register.epoch != began:
                break
        return None

    def _opened(self, register: Register) -> None:
        now = self._clock.now_ms()
        first = self.body.opened == 0
        self.body.opened = register.epoch
        self.body.milestones = {**self.body.milestones, "opened": now}
        log.info("epoch %d is open, %.0f ms after it was named", register.epoch, now - self.ledger.epoch_at_ms)
        self.peers.tell_agents(self.own_gossip())
        aside(self._let_in(register.epoch))
        if first:
            aside(self._record(register))

    async def _let_in(self, epoch: int) -> None:
        """Clients that come by themselves, and those that routers send."""
        while self.body.opened == epoch:
            try:
                await self._engine.admit()
                break
            except EngineError as error:
                log.error("clients are not let in yet: %s", error)
                await self._clock.sleep_ms(_GOSSIP_MS)
        self.peers.tell_routers()

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

    @property
    def members(self) -> tuple[str, ...]:
        """Who counts as one of this cluster: whom the configuration names, without those that were told to go."""
        return self.settings.rules.members

    def exclude(self, member: str) -> None:
        """Counts a member no longer as one of this cluster: it is dropped as a voter, and its slot with it."""
        rules = self.settings.rules
        self.reconfigure(replace(rules, members=tuple(m for m in rules.members if m != member)))

    def reconfigure(self, rules: Settings) -> None:
        """Takes over what the rules look at from a changed configuration. A node that is new there is known to an agent
        that starts anew.
        """
        members = tuple(m for m in rules.members if m in self.settings.addresses)
        self.settings = replace(self.settings, rules=replace(rules, members=members))
        self.watching.others_changed()
        self._wake.set()

    # -- what is known ------------------------------------------------------------------------------------------------

    def _note_epoch(self) -> None:
        register = self.ledger.register
        seen = (register.epoch, register.leader) if register else (0, "")
        follows = self.body.state.receiving and self.body.state.upstream == (seen[1], seen[0])
        if follows or (seen[0] and self.body.opened == seen[0]):
            self._back_off.served()
        if seen == self._epoch_seen:
            return
        self._epoch_seen = seen
        self._back_off.changed()
        self._absent_since = {}
        self.peers.epoch_is(*seen, self.ledger.epoch_at_ms)
        self.peers.tell_guards(EpochNotice(*seen))
        self.peers.tell_routers()

    def view(self, now: float) -> View:
        """What this member knows at this moment."""
        body, ledger, register = self.body, self.ledger, self.ledger.register
        epoch = register.epoch if register else 0
        self._note_absences(now, register)
        return View(
            me=self.settings.me,
            now_ms=now,
            wall_ms=self._clock.wall_ms(),
            settings=self.settings.rules,
            addresses={m: a.database for m, a in self.settings.addresses.items() if a.database},
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
            back_off_ms=self._back_off.again_ms,
            forbearance_ms=self._back_off.forbearance_ms,
            retake_age_ms=now - self._retake_at_ms,
            has_changed=ledger.has_changed,
            lease_left_ms=ledger.lease_until_ms - now,
            asked_lease_ms=ledger.asked_lease[1] if ledger.asked_lease else 0,
            guard_silent_ms=now - max(self.peers.own_guard_at_ms, self._started_ms),
            renewed_age_ms=now - self._renewed_at_ms,
            peers=self.peers.views(),
            spent=body.spent,
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
        others = register.voters - counted(self.body.primary, register).keys()
        self._absent_since = {m: self._absent_since.get(m, now) for m in others}

    def _judge(self, about: str, epoch: int) -> tuple[bool, bool]:
        """Whether this member suspects the leader of an epoch, by the same rules as for itself, and could seal now."""
        register = self.ledger.register
        if register is None or (register.leader, register.epoch) != (about, epoch):
            return False, False
        view = self.view(self._clock.now_ms())
        return suspects(view, view.peer(about)) is not None, can_seal(view, register)

    # -- telling others -----------------------------------------------------------------------------------------------

    def _tell(self, now: float, view: View) -> None:
        told = telling.to_guard(view, self.body, self.ledger.lease_until_ms)
        if told != self._told or self._paces.is_due(
            "guard", now, self.settings.timings.heartbeat_ms * _TELL_HEARTBEATS
        ):
            self._told = told
            self.peers.tell_guard(told)
        unheard = frozenset(m for m, peer in view.peers.items() if peer.silent)
        said = (self.plan.state, self.plan.note, self.lane.trouble, self.body.opened, unheard)
        if said != self._said:
            self._said = said
            self._paces.at_once("gossip")
        if self._paces.is_due("gossip", now, _GOSSIP_MS):
            self.peers.tell_agents(self.own_gossip())
        serving = self._serving()
        if isinstance(serving, Serving) and (serving.readers, serving.open) != self._served:
            self._served = (serving.readers, serving.open)
            self.peers.tell_routers()
        if self._paces.is_due("prune", now, _PRUNE_MS) and self.body.led:
            aside(self._prune())

    def _tell_guard_now(self) -> None:
        view = self.view(self._clock.now_ms())
        self.peers.tell_guard(telling.to_guard(view, self.body, self.ledger.lease_until_ms))

    def _serving(self) -> Serving | EpochNotice:
        bound = self.settings.maximum_read_lag_bytes
        return telling.to_routers(self.settings.me, self.ledger.register, self.body, bound)

    def own_gossip(self) -> Gossip:
        """What this member says of itself."""
        said = telling.to_agents(self.body, self.memory, self.ledger, self.lane, self.peers, self.plan, self.pid)
        said.extra["restart_pending"] += self.waiting
        return said

    async def _prune(self) -> None:
        try:
            await self.ledger.prune()
        except StoreUnavailable as error:
            log.warning("old entries stay in the store for now: %s", error)

    def _others(self) -> frozenset[str] | None:
        """The members, this one aside, for which slots are kept; None before there is a cluster."""
        if self.ledger.register is None:
            return None
        return frozenset(self.members) - {self.settings.me}
