"""What the HTTP interface asks of the agent: how the cluster is, and commands by hand."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from twinstar.agent.agent import Agent
from twinstar.agent.forwarding import Forward
from twinstar.agent.migrating import Migration
from twinstar.agent.report import Facts, cluster_status
from twinstar.api.control import Health, HealthRole, Outcome
from twinstar.api.metrics import Metrics
from twinstar.model.effects import Rebuild, Stop
from twinstar.model.engine import EngineStatus
from twinstar.model.errors import StoreUnavailable
from twinstar.model.register import Phase, Register
from twinstar.ports.clock import Clock
from twinstar.rules.active_passive import operator
from twinstar.rules.active_passive.attached import attached
from twinstar.rules.active_passive.local import upstream
from twinstar.rules.active_passive.operator import Refused

log = logging.getLogger(__name__)

_POLL_MS = 20
_LEADER_CHANGE_MS = 30_000
_HISTORY_FRESH_MS = 1_000

_STANDS_BY = "Nobody leaves an active-passive cluster for a while: {instead}."


class AgentControl:
    """`api.control.Control` over one agent. `forward` has another member's agent carry a command out."""

    def __init__(
        self,
        agent: Agent,
        facts: Facts,
        clock: Clock,
        forward: Forward,
        reload: Callable[[], Awaitable[Outcome]],
        migration: Migration,
    ) -> None:
        self._agent, self._facts, self._clock = agent, facts, clock
        self._forward, self._reload, self._migration = forward, reload, migration
        self._history: list[dict[str, Any]] = []
        self._started_wall_ms = clock.wall_ms()

    # -- reading ------------------------------------------------------------------------------------------------------

    def health(self) -> Health:
        agent, body = self._agent, self._agent.body
        register = agent.ledger.register
        epoch = register.epoch if register else 0
        leads = self._leads(register)
        standby = body.state.status is EngineStatus.STANDBY and body.state.upstream is not None
        return Health(
            role=HealthRole.LEADER if leads else HealthRole.STANDBY if standby else HealthRole.NONE,
            state=agent.plan.state.value,
            epoch=epoch,
            accepting=body.state.status in {EngineStatus.STANDBY, EngineStatus.PRIMARY},
            open=leads and body.opened == epoch,
            paused=bool(register and register.paused),
            lag_bytes=self._own_lag() if standby else None,
            streaming=body.state.receiving,
            store_reachable=agent.ledger.ok,
            stalled=agent.stalled,
        )

    def status(self) -> dict[str, Any]:
        return cluster_status(self._agent, self._facts).to_dict()

    def history(self) -> list[dict[str, Any]]:
        return self._history

    async def refresh_history(self) -> None:
        """Keeps what `history` shows near what the store has, for ever."""
        seen = -1
        while True:
            epoch = self._agent.ledger.register.epoch if self._agent.ledger.register else -1
            if epoch != seen or (self._history and self._history[-1].get("epoch") != epoch):
                try:
                    self._history = await self._agent.ledger.history()
                    seen = epoch
                except StoreUnavailable as error:
                    log.debug("the history is not read: %s", error)
            await self._clock.sleep_ms(_HISTORY_FRESH_MS)

    def metrics(self) -> Metrics:
        agent, body = self._agent, self._agent.body
        register, state = agent.ledger.register, body.state
        health = self.health()
        now = self._clock.now_ms()
        here = attached(agent.view(now), register) if register and health.role is HealthRole.LEADER else {}
        return Metrics(
            leader=float(health.role is HealthRole.LEADER),
            standby=float(health.role is HealthRole.STANDBY),
            open=float(health.open),
            paused=float(health.paused),
            epoch=float(health.epoch),
            engine_running=float(health.accepting),
            streaming=float(health.streaming),
            lag_bytes=float(health.lag_bytes) if health.lag_bytes is not None else None,
            position_bytes=float(state.position.lsn) if state.position else None,
            timeline=float(state.position.timeline) if state.position else None,
            copies=float(len(register.copies)) if register else None,
            required=float(register.required) if register else None,
            confirming=float(len(here.keys() & register.voters)) if register and here else None,
            members_heard=float(len(agent.peers.hears())),
            store_reachable=float(agent.ledger.ok),
            restart_pending=float(len(state.restart_pending)),
            drift=float(len(state.drift)),
            start_time_seconds=self._started_wall_ms / 1000,
            loop_lag_seconds=agent.loop_lag_ms / 1000,
            stalls_total=float(agent.peers.health.stalls),
        )

    # -- commands -----------------------------------------------------------------------------------------------------

    async def switchover(self, to: str | None) -> Outcome:
        register = self._register()
        if register.leader != self._agent.settings.me:
            return await self._pass_on(register.leader, "switchover", {"to": to})
        before = register.epoch
        deadline = self._agent.settings.switchover_deadline_ms
        await self._agent.body.observe_primary()
        change = await self._agent.change_by_hand(lambda view: operator.switchover(view, to, deadline))
        if change is None:
            return _moved()
        successor = change.register.switchover.to if change.register.switchover else ""
        after = await self._await_leader(lambda r: r.epoch > before or r.switchover is None)
        if after is not None and after.leader == successor:
            return Outcome(True, f"{successor} leads epoch {after.epoch}.", {"epoch": after.epoch, "leader": successor})
        return Outcome(
            False, f"{successor} did not take over in time; {after.leader if after else register.leader} leads."
        )

    async def failover(self, to: str | None, accept_loss: bool) -> Outcome:
        register = self._register()
        if to is not None and to not in self._agent.settings.addresses:
            raise Refused(f"There is no member {to!r}; see `twinstar status`.")
        change = await self._agent.change_by_hand(lambda view: operator.failover(view, to, accept_loss))
        if change is None:
            return _moved()
        after = await self._await_leader(lambda r: r.phase is Phase.LEADING and r.epoch > register.epoch)
        if after is None:
            return Outcome(
                False,
                f"Epoch {change.register.epoch} has begun, but no admissible set of copies has sealed: "
                "`twinstar status` says who is waited for.",
            )
        message = f"{after.leader} leads epoch {after.epoch}."
        if to not in {None, after.leader}:
            message += f" {to} could not: its log is behind what must not be lost, or it did not seal in time."
        return Outcome(to in {None, after.leader}, message, {"epoch": after.epoch, "leader": after.leader})

    async def pause(self) -> Outcome:
        return await self._set_paused(True, "Paused: nothing automatic happens until `twinstar resume`.")

    async def resume(self) -> Outcome:
        return await self._set_paused(False, "Resumed.")

    async def restart(self, member: str) -> Outcome:
        register = self._register()
        if member != self._agent.settings.me:
            return await self._pass_on(member, "restart", {"member": member})
        if register.leader == member:
            raise Refused(f"{member} leads: switch over first (`twinstar switchover`), then restart it.")
        if register.paused:
            raise Refused("Paused, so it would not be started again: `twinstar resume` first.")
        run = self._agent.body.state.run
        self._agent.lane.want(Stop())
        back = await self._until(lambda: self._agent.body.state.receiving and self._agent.body.state.run != run)
        return Outcome(back, f"{member} was restarted." if back else f"{member} is not streaming yet; see its log.")

    async def reinit(self, member: str) -> Outcome:
        register = self._register()
        if member != self._agent.settings.me:
            return await self._pass_on(member, "reinit", {"member": member})
        if register.leader == member or register.phase is not Phase.LEADING:
            raise Refused(f"{member} cannot be made anew while it leads or nobody does; switch over first.")
        if register.leader not in self._agent.settings.addresses:
            raise Refused(f"{register.leader} leads and is not in the twinstar.yaml of {member}: copy the file there.")
        self._agent.lane.want(Rebuild(upstream(self._view(), register)))
        return Outcome(True, f"{member} is being copied anew from {register.leader}; `twinstar status` shows it.")

    async def remove(self, member: str) -> Outcome:
        register = self._register()
        if register.leader != self._agent.settings.me:
            return await self._pass_on(register.leader, "remove", {"member": member})
        if member not in self._agent.settings.addresses or member == register.leader:
            raise Refused(f"{member} is not another member of this cluster; see `twinstar status`.")
        if self._view().peer(member).heard:
            raise Refused(f"{member} is still heard: stop its agent, guard and database first.")
        self._agent.exclude(member)
        gone = await self._until(lambda: member not in self._register().copies)
        if not gone:
            return Outcome(
                False, f"{member} is still a voter: without it too few are left to confirm ({register.required})."
            )
        return Outcome(
            True, f"{member} is no longer a voter and its slot is dropped; remove it from twinstar.yaml too."
        )

    async def leave(self, member: str) -> Outcome:  # noqa: ARG002
        return Outcome(False, _STANDS_BY.format(instead="stop its agent, or hand over with `switchover` if it leads"))

    async def rejoin(self, member: str) -> Outcome:  # noqa: ARG002
        return Outcome(False, _STANDS_BY.format(instead="start its agent, and it follows again"))

    async def reload(self) -> Outcome:
        return await self._reload()

    async def ready_to_migrate(self) -> Outcome:
        return await self._migration.ready()

    async def migrate(self, dry_run: bool) -> Outcome:
        return await self._migration.migrate(dry_run)

    async def _pass_on(self, member: str, command: str, fields: dict[str, Any]) -> Outcome:
        """To another member's agent, if it is there: a machine that is off would be waited for without end."""
        if member in self._agent.settings.addresses and not self._view().peer(member).heard:
            raise Refused(f"This is for {member} to do, which is not heard: bring it back, or wait for another leader.")
        return await self._forward(member, command, fields)

    # -- helpers ------------------------------------------------------------------------------------------------------

    def _view(self) -> Any:
        return self._agent.view(self._clock.now_ms())

    def _register(self) -> Register:
        return operator.register_of(self._view())

    def _leads(self, register: Register | None) -> bool:
        if register is None or register.phase is not Phase.LEADING or register.leader != self._agent.settings.me:
            return False
        return self._agent.body.led == register.epoch

    def _own_lag(self) -> int | None:
        register, own = self._agent.ledger.register, self._agent.body.state.position
        gossip = self._agent.peers.gossip(register.leader) if register else None
        if gossip is None or not gossip.position or own is None:
            return None
        timeline, _, lsn = gossip.position.partition(":")
        high, low = lsn.split("/")
        return max(0, (int(high, 16) << 32) + int(low, 16) - own.lsn) if int(timeline) == own.timeline else None

    async def _set_paused(self, paused: bool, message: str) -> Outcome:
        change = await self._agent.change_by_hand(lambda view: operator.pause(view, paused))
        return _moved() if change is None else Outcome(True, message)

    async def _await_leader(self, done: Callable[[Register], bool]) -> Register | None:
        """The register once it satisfies `done`; None when it does not in time."""
        ended = await self._until(lambda: done(self._register()))
        return self._agent.ledger.register if ended else None

    async def _until(self, condition: Callable[[], bool]) -> bool:
        try:
            async with self._clock.timeout_ms(_LEADER_CHANGE_MS):
                while not self._holds(condition):
                    await self._clock.sleep_ms(_POLL_MS)
        except TimeoutError:
            return False
        return True

    @staticmethod
    def _holds(condition: Callable[[], bool]) -> bool:
        try:
            return condition()
        except Refused:
            return False


def _moved() -> Outcome:
    return Outcome(False, "The register changed at the same moment; look at `twinstar status` and try again.")
