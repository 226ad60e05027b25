"""The agent of a node that takes writes: observe, decide (`rules.active_active.life`), act.

One loop makes the node's statement every 100 ms and decides whenever something is new. What takes long runs beside it:
one effect on the database, one change of the membership, one round of places and appliers, one look.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace

from twinstar.agent.active_active.appliers import Appliers, Duty, Order
from twinstar.agent.active_active.body import Body, begun
from twinstar.agent.active_active.confirming import Confirming
from twinstar.agent.active_active.leaving import LastWrite
from twinstar.agent.active_active.roster import Roster
from twinstar.agent.active_active.settings import NodeSettings
from twinstar.agent.active_active.sidelines import Sidelines
from twinstar.agent.active_active.telling import gossip, statement
from twinstar.agent.active_active.upkeep import ROUND_MS, Upkeep
from twinstar.agent.active_active.verifying import AGAIN_MS, Verifying
from twinstar.agent.active_active.voices import GOSSIP_MS, STATEMENT_MS, Positions, Voices
from twinstar.agent.errands import Paces
from twinstar.agent.lane import Lane
from twinstar.agent.memory import Memory
from twinstar.api.all_nodes import Ask
from twinstar.engine.postgresql.multiwriter.node import NodeDatabase, Stage
from twinstar.model.errors import EngineError
from twinstar.model.membership import Membership, NodeState
from twinstar.model.register import Durability
from twinstar.model.wire import Gossip, Inbox, Part, PeerStatement, Sender
from twinstar.ports.clock import Clock
from twinstar.ports.network import Network
from twinstar.ports.randomness import Randomness
from twinstar.rules.active_active import skew
from twinstar.rules.active_active.life import decide
from twinstar.rules.active_active.membership import Missing
from twinstar.rules.active_active.plan import Effect, Plan, Said, State, View
from twinstar.store.base import Store

_LOOK_MS = 1_000.0
_LOOK_CLOSELY_MS = 100.0
_CLOCKS_MS = 5_000.0
_FRESH_EVERY = 10
_PULSE_MS = 300.0
_KEPT_UP = (State.SERVING, State.FENCED)
_WRITING = ("upkeep", "settling", "pulse", "clients")
"""What beside the clients writes here, and what shuts them out. To compare is no writing, and may wait for a lock."""

MakeOrder = Callable[[int, str, int, Duty], Order]
"""(the sender's number, its member's name, one's own number, what is to be done) → its applier here."""

log = logging.getLogger(__name__)


class NodeAgent:
    """One member's agent. `run` until cancelled; the database goes on without it."""

    def __init__(
        self,
        settings: NodeSettings,
        store: Store,
        database: NodeDatabase,
        appliers: Appliers,
        make_order: MakeOrder,
        ask: Ask,
        clock: Clock,
        randomness: Randomness,
        network: Network,
    ) -> None:
        self.settings, self.database, self._clock, self._network = settings, database, clock, network
        self._make_order = make_order
        self._wake = asyncio.Event()
        memory = Memory(settings.state_file)
        self.roster = Roster(store, settings.me, clock, randomness, self._wake.set)
        self.body = Body(database, appliers, settings.databases, clock)
        self._confirming = Confirming(settings.required, settings.degrade_after_ms)
        self.lane: Lane[Effect] = Lane(clock, self.body.perform, self._wake.set)
        boot = memory.begin(clock.wall_ms())
        self.voices = Voices(
            settings.me, settings.agents, clock,
            Sender(settings.cluster, settings.secret, settings.me, Part.AGENT, boot),
            Inbox(settings.cluster, settings.secret), memory.keeps_start, self.statement, self._wake.set,
        )  # fmt: skip
        self.verifying = Verifying(ask, clock)
        self.upkeep = Upkeep(database, settings.tables, clock)
        self.plan = Plan(State.WAITING, "Starting.")
        self.admitted: bool | None = None
        """None: not known; an earlier agent, or a try that failed, may have left clients in."""
        self._last_write = LastWrite()
        self.pid = os.getpid()
        self.waiting: tuple[str, ...] = ()
        """Keys of the configuration that were changed and wait for a restart."""
        self.renews = False
        """Its database has fallen too far behind: it leaves in order, and comes back as a copy."""
        self._paces = Paces()
        self._beside = Sidelines(clock, self._wake.set)
        self._turned_ms = clock.now_ms()
        self._misfit = ""
        self._offsets: dict[str, skew.Offset] = {}

    async def run(self) -> None:
        """Runs until cancelled. Raises EnvironmentTrouble if it cannot begin."""
        await self.voices.open(self._network)
        try:
            async with asyncio.TaskGroup() as tasks:
                for each in (self.roster.follow(), self.roster.look(), self._look_for_ever(), self._watch_end(),
                             self._watch_hang(), self._turn_for_ever()):  # fmt: skip
                    tasks.create_task(each)
        finally:
            await self.lane.close()
            await self._beside.close()
            await self.body.appliers.close()
            await self.upkeep.close()
            self.voices.close()
            await self.database.close()

    def reconfigure(self, new: NodeSettings) -> None:
        """Takes over what can change while it runs; in effect from the next turn on."""
        settings = self.settings = self.settings.with_changes(new)
        self._confirming.ask_for(settings.required, settings.degrade_after_ms)
        self.upkeep.take_over(settings.tables)
        self._wake.set()

    # -- the loop ------------------------------------------------------------------------------------------------------

    async def _turn_for_ever(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with self._clock.timeout_ms(STATEMENT_MS):
                    await self._wake.wait()
            self._wake.clear()
            self._turned_ms = self._clock.now_ms()
            view = self.view()
            self.plan = decide(view)
            self._act(view)
            self._tell()

    @property
    def stalled(self) -> bool:
        return self._clock.now_ms() - self._turned_ms > 20 * STATEMENT_MS

    def view(self) -> View:
        membership = self.roster.membership
        dead = frozenset(each.number for each in membership.in_state(NodeState.DEAD)) if membership else frozenset()
        now_ms = self._clock.now_ms()
        said = self.voices.said(positions=self._looked_for(), now_ms=now_ms)
        own = self.body.own(dead)
        later = self.voices.said(since_ms=self.body.known_ms, now_ms=now_ms)
        own = replace(begun(own, said.values(), later.values()), closed_at=self._closed_at())
        said[self.settings.me] = replace(self.said(), end=self._own_end(own.number, later.values()))
        return View(
            me=self.settings.me,
            store_seen=self.roster.seen,
            membership=membership,
            own=own,
            said=said,
            silent_ms=self.voices.silent_ms(),
            removal_ms=self.settings.removal_ms,
            fenced=self.fenced,
            leave=self.renews or self.leaving_by_hand,
        )

    def _looked_for(self) -> Positions:
        """Whoever comes asks what is in a copy. Whoever leaves asks what is applied: nobody who comes later could get
        from a spool what only its owner has.
        """
        if self.body.mark.stage is not Stage.NODE:
            return "durable"
        return "landed" if self.plan.state is State.LEAVING else "applied"

    def _own_end(self, number: int, later: Iterable[Said]) -> int:
        """How far the own log reaches. What others have had of it since it was looked at was surely there as well: only
        a look that came after their word can show that it is not.
        """
        end = self.body.state.end if self.body.state else 0
        return max([end, *(said.applied.get(number, 0) for said in later)])

    def _closed_at(self) -> int | None:
        membership, state = self.roster.membership, self.body.state
        unsettled = membership is None or membership.in_state(NodeState.JOINING, NodeState.DEAD)
        leaves = self.plan.state is State.LEAVING and self.admitted is False and not unsettled
        quiet = leaves and state is not None and not state.sessions and all(map(self._beside.idle, _WRITING))
        return self._last_write.end(quiet, self._clock.now_ms(), self.body.looked_at_ms, state.end if state else 0)

    @property
    def leaving_by_hand(self) -> bool:
        return self.settings.leave_file.exists()

    @property
    def fenced(self) -> bool:
        offsets = self.voices.offsets().values()
        return skew.fenced(offsets, len(self.settings.agents), round(self.settings.clock_bound_ms * 1_000))

    def said(self) -> Said:
        """What this node says of itself to the others' rules."""
        own, state = self.body.own(frozenset()), self.body.state
        if state is None or not own.running:
            return Said(0)
        return Said(own.number, own.slots, own.applied, state.end)

    def read_now(self) -> frozenset[int]:
        return self.body.appliers.senders

    def _act(self, view: View) -> None:
        plan = self.plan
        if self._misfit:
            return
        self.lane.want(plan.engine)
        if plan.change is not None and not self.roster.misfit:
            self._beside.begin("membership", self._change(plan.change))
        gaps = {*plan.compare.values(), *(plan.read[n] for n in self.body.appliers.gaps & plan.read.keys())}
        if gaps and not self.renews:
            names = ", ".join(sorted(gaps))
            log.error(
                "what %s has sent meanwhile is not kept any more: this node leaves, and comes back as a copy", names
            )
            self.renews = True
        if view.membership is not None and view.membership.of(view.me) is None:
            self.renews = False  # It has left, and comes.
        if self.lane.effect is None and self.body.state is not None:
            self._attend_streams(plan, view)
            in_vain = plan.admit is False and self.body.state.sessions > 0
            if plan.admit is not None and (plan.admit != self.admitted or in_vain):
                self._beside.begin("clients", self._clients(plan.admit))
        elif not view.own.running:
            self.admitted = False

    async def _change(self, wanted: Membership) -> None:
        await self.roster.change(wanted)

    def _attend_streams(self, plan: Plan, view: View) -> None:
        """Places for those who read here, beginnings and appliers of those who are read here; who must confirm."""
        number, state = view.own.number, self.body.state
        known = state.applied if state else {}
        begin = {
            sender: view.own.applied[sender] for sender in plan.read.keys() & view.own.applied.keys() - known.keys()
        }
        duty = Duty.SPOOL if self.settings.durability is Durability.QUORUM else Duty.APPLY
        orders = {n: self._make_order(n, member, number, duty) for n, member in plan.read.items() if n in known}
        if plan.places is not None:
            # What was received of those who are gone, and perhaps confirmed, is still to be applied.
            left = self.body.spooled - plan.read.keys()
            orders |= {n: self._make_order(n, f"node {n}", number, Duty.DRAIN) for n in left}
        places = plan.places if plan.places is not None and plan.places != frozenset(view.own.slots) else None
        if self.roster.joining and self._paces.is_due("pulse", self._clock.now_ms(), _PULSE_MS):
            self._beside.begin("pulse", self.database.pulse())
        if places is not None:
            self._beside.begin("places", self._keep_places(places))
        if begin:
            self._beside.begin("beginnings", self._begin(begin))
        if not self.body.appliers.is_as(orders):
            self._beside.begin("appliers", self.body.appliers.want(orders))
        self._confirmations(view)
        if plan.fetch is not None:
            self._beside.begin("settling", self._settle(number, *plan.fetch, view))
        elif plan.state is State.SERVING and self._verifies(number, view):
            self._beside.begin("verifying", self._verify(view))
        if plan.state in _KEPT_UP and self._paces.is_due("upkeep", self._clock.now_ms(), ROUND_MS):
            self._beside.begin("upkeep", self._keep_up(number, view))

    async def _settle(self, number: int, dead: int, missing: Missing, view: View) -> None:
        source = view.membership.node(missing.source) if view.membership else None
        if source is None or source.member not in view.said:
            return
        log.info("%s has more of the log of node %d, which is dead: comparing with it", source.member, dead)
        await self.verifying.make_equal(self.settings.me, source.member)
        self.body.settled[number, dead] = missing.upto

    def _verifies(self, number: int, view: View) -> bool:
        """It is this node's part to compare all of them, and time to."""
        inside = view.membership.in_state(NodeState.IN) if view.membership else ()
        mine = bool(inside) and number == min(each.number for each in inside)
        return mine and len(inside) > 1 and all(each.member in view.said for each in inside) and self._rested()

    def _rested(self) -> bool:
        return self._beside.idle("verifying") and self._paces.is_due("verify", self._clock.now_ms(), AGAIN_MS)

    async def _verify(self, view: View) -> None:
        assert view.membership is not None, "those who are in are compared"
        await self.verifying.compare_all(frozenset(each.member for each in view.membership.in_state(NodeState.IN)))

    async def _keep_up(self, number: int, view: View) -> None:
        assert view.membership is not None, "a node that serves is in it"
        # Who is still joining will write, too, and must know what the others are to forget.
        living = view.membership.in_state(NodeState.IN, NodeState.JOINING, NodeState.LEAVING)
        others = {each.number for each in living} - {number}
        dead = {each.number for each in view.membership.in_state(NodeState.DEAD)}
        await self.upkeep.round(number, others, dead)

    async def _keep_places(self, receivers: frozenset[int]) -> None:
        await self.database.keep_places(receivers)
        await self.body.look()

    async def _begin(self, positions: Mapping[int, int]) -> None:
        for sender, position in positions.items():
            await self.database.begin_at(sender, position)
        await self.body.look()

    def _confirmations(self, view: View) -> None:
        membership, state = view.membership, self.body.state
        if membership is None or state is None:
            return
        others = frozenset(each.number for each in membership.in_state(NodeState.IN)) - {view.own.number}
        required = self._confirming.required(others, state.attached, self._clock.now_ms())
        self.database.confirmed_by(others, required)

    async def _clients(self, admit: bool) -> None:
        if admit:
            await self.database.admit()
            self.admitted = True
            self.voices.state()
            return
        self.admitted = None
        self.voices.state()
        await self.database.shut_out()
        self.admitted = False

    # -- looking -------------------------------------------------------------------------------------------------------

    async def _look_for_ever(self) -> None:
        while True:
            try:
                await self.body.look()
                self._misfit = ""
            except EngineError as error:
                if self._misfit != str(error):
                    log.error("%s", error)
                self._misfit = str(error)
            settled = self.plan.state in (State.SERVING, State.FENCED) and self.body.state is not None
            self._wake.set()
            await self._clock.sleep_ms(_LOOK_MS if settled else _LOOK_CLOSELY_MS)

    async def _watch_end(self) -> None:
        """Notices the end of the running database at once."""
        while True:
            if not self.body.running:
                await self._clock.sleep_ms(_LOOK_CLOSELY_MS)
                continue
            await self.database.ended()
            log.warning("the database has ended")
            self.admitted = False
            with suppress(EngineError):
                await self.body.look()
            self.voices.state()
            self._wake.set()

    async def _watch_hang(self) -> None:
        """A database that hangs is found by real queries on fresh connections, and killed; then it is started again."""
        strikes, deadline_ms = 0, self.settings.hung_query_ms
        while True:
            closely = strikes or self.body.doubt
            await self._clock.sleep_ms(deadline_ms / 4 if closely else deadline_ms * _FRESH_EVERY)
            if not self.body.running or self.lane.effect is not None:
                strikes = 0
                continue
            strikes = 0 if await self.database.answers(deadline_ms) else strikes + 1
            if strikes >= self.settings.hung_strikes:
                log.error("the database does not answer %d queries on fresh connections: killing it", strikes)
                strikes = 0
                await self.database.kill()

    # -- saying --------------------------------------------------------------------------------------------------------

    @property
    def open(self) -> bool:
        """Clients may come."""
        return bool(self.admitted) and self.body.running and not self.body.doubt and self.plan.admit is not False

    @property
    def lag_ms(self) -> float:
        return max((self.body.appliers.told(number).lag_ms for number in self.read_now()), default=0.0)

    @property
    def note(self) -> str:
        """One sentence when there is something to say."""
        troubles = [self.body.appliers.told(number).trouble for number in sorted(self.read_now())]
        wrong = (self._misfit, self.roster.misfit)
        said = (*wrong, self.body.progress, self.lane.trouble, self.plan.note, *troubles, self.roster.trouble)
        return next(filter(None, said), "")

    def statement(self) -> PeerStatement:
        return statement(self, str(self.settings.databases[self.settings.me]), self._clock.wall_ms())

    def own_gossip(self) -> Gossip:
        return gossip(self)

    def _tell(self) -> None:
        now = self._clock.now_ms()
        if self._paces.is_due("statement", now, STATEMENT_MS):
            self.voices.state()
        settled = self.plan.state is State.SERVING
        if self._paces.is_due("gossip", now, GOSSIP_MS if settled and not self.roster.changing else STATEMENT_MS):
            self.voices.tell_agents(self.own_gossip())
        if self._paces.is_due("clocks", now, _CLOCKS_MS):
            self.voices.ask_clocks()
