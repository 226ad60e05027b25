"""What the HTTP interface asks of a node's agent: how the cluster is, and commands by hand."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from twinstar.agent.active_active.agent import NodeAgent
from twinstar.agent.active_active.member import RunningNode
from twinstar.agent.active_active.report import cluster_status
from twinstar.agent.forwarding import Forward
from twinstar.agent.migrating import Migration
from twinstar.api.control import Health, HealthRole, Outcome
from twinstar.api.metrics import Metrics
from twinstar.model.membership import Membership, NodeState
from twinstar.ports.clock import Clock

_STOP_MS = 30_000.0
_PATIENCE_MS = 60_000.0
_POLL_MS = 50.0
_SILENT_MS = 2_000.0
"""Longer than somebody who is dead is still taken for alive."""
_NO_LEADER = "No node leads in an active-active cluster: {instead}."


class NodeControl:
    """`api.control.Control` over one node's agent. `forward` has another member's agent carry a command out."""

    def __init__(
        self,
        agent: NodeAgent,
        node: RunningNode,
        clock: Clock,
        forward: Forward,
        reload: Callable[[], Awaitable[Outcome]],
        migration: Migration,
    ) -> None:
        self._agent, self._node, self._clock = agent, node, clock
        self._forward, self._reload, self._migration = forward, reload, migration
        self._started_wall_ms = clock.wall_ms()

    # -- reading -------------------------------------------------------------------------------------------------------

    def health(self) -> Health:
        agent = self._agent
        membership = agent.roster.membership
        return Health(
            role=HealthRole.LEADER if agent.open else HealthRole.NONE,
            state=agent.plan.state.value,
            epoch=membership.epoch if membership else 0,
            accepting=agent.body.running and not agent.body.doubt,
            open=agent.open,
            store_reachable=agent.roster.ok,
            stalled=agent.stalled,
        )

    def status(self) -> dict[str, Any]:
        return cluster_status(self._agent, self._node.config)

    def history(self) -> list[dict[str, Any]]:
        return []

    def metrics(self) -> Metrics:
        agent, health = self._agent, self.health()
        state = agent.body.state
        offsets = agent.voices.offsets().values()
        return Metrics(
            open=float(health.open),
            epoch=float(health.epoch),
            engine_running=float(health.accepting),
            position_bytes=float(state.end) if state else None,
            members_heard=float(len(agent.voices.said())),
            store_reachable=float(agent.roster.ok),
            start_time_seconds=self._started_wall_ms / 1000,
            differing_rows=float(agent.verifying.last.differing) if agent.verifying.last else None,
            apply_lag_seconds=agent.lag_ms / 1000,
            dead_letters=float(state.dead_letters) if state else None,
            restart_pending=float(len(state.settings.restart_pending) + len(agent.waiting)) if state else None,
            drift=float(len(state.settings.drift)) if state else None,
            conflicts=float(state.conflicts) if state else None,
            sessions=float(state.sessions) if state else None,
            clock_skew_seconds=max((abs(o.least_us + o.most_us) / 2e6 for o in offsets), default=None),
        )

    # -- commands ------------------------------------------------------------------------------------------------------

    async def switchover(self, to: str | None) -> Outcome:  # noqa: ARG002
        return Outcome(False, _NO_LEADER.format(instead="take a node out for maintenance with `leave`"))

    async def failover(self, to: str | None, accept_loss: bool) -> Outcome:  # noqa: ARG002
        return Outcome(False, _NO_LEADER.format(instead="declare a node dead with `remove`"))

    async def pause(self) -> Outcome:
        return Outcome(False, _NO_LEADER.format(instead="there is no automatic change of leader to pause"))

    async def resume(self) -> Outcome:
        return Outcome(False, _NO_LEADER.format(instead="there is no automatic change of leader to resume"))

    async def restart(self, member: str) -> Outcome:
        """Stops a member's database in order; its agent starts it again."""
        if member != self._agent.settings.me:
            return await self._forward(member, "restart", {"member": member})
        if not await self._agent.database.stop(_STOP_MS):
            return Outcome(
                False, f"The database of {member} does not stop within {_STOP_MS / 1000:.0f} s: see its log."
            )
        # What was known of it is from before the stop.
        await self._agent.body.look()
        served = await self._until(lambda: self._agent.open)
        return Outcome(
            served, f"{member} serves again." if served else f"{member} was stopped, and does not serve yet."
        )

    async def leave(self, member: str) -> Outcome:
        """Takes a member out in order: clients go, the others get all it has, its number is gone."""
        if member != self._agent.settings.me:
            return await self._forward(member, "leave", {"member": member})
        self._agent.settings.leave_file.touch()
        left = await self._until(lambda: self._present() is None)
        return Outcome(left, f"{member} has left." if left else f"{member} is leaving: {self._agent.note}")

    async def rejoin(self, member: str) -> Outcome:
        """Has a member that was told to leave come back, as a copy of another node."""
        if member != self._agent.settings.me:
            return await self._forward(member, "rejoin", {"member": member})
        self._agent.settings.leave_file.unlink(missing_ok=True)
        back = await self._until(lambda: self._agent.open)
        return Outcome(back, f"{member} is back." if back else f"{member} is coming back: {self._agent.note}")

    async def reinit(self, member: str) -> Outcome:
        """A member leaves in order and comes back as a copy of another node."""
        if member != self._agent.settings.me:
            return await self._forward(member, "reinit", {"member": member})
        self._agent.renews = True
        return Outcome(True, f"{member} leaves, and comes back as a copy: look at `twinstar status`.")

    async def remove(self, member: str) -> Outcome:
        """Declares a member dead that is gone for good, without waiting for `removal_ms`."""
        membership = self._agent.roster.membership
        node = membership.of(member) if membership else None
        if membership is None or node is None:
            return Outcome(False, f"{member} is not in: look at `twinstar status`.")
        # Who has just died may have been heard here a moment ago.
        if member == self._agent.settings.me or not await self._until(
            lambda: member not in self._agent.voices.said(), _SILENT_MS
        ):
            return Outcome(False, f"{member} is alive: take it out in order with `twinstar leave {member}`.")
        if node.state not in (NodeState.IN, NodeState.LEAVING):
            return Outcome(False, f"{member} is {node.state.value} already.")
        if not await self._agent.roster.change(_dead(membership, node.number)):
            return Outcome(False, f"The membership has changed meanwhile: try `twinstar remove {member}` again.")
        gone = await self._until(lambda: (now := self._agent.roster.membership) is not None and now.of(member) is None)
        return Outcome(True, f"{member} is gone." if gone else f"{member} is declared dead, and is being settled.")

    async def reload(self) -> Outcome:
        return await self._reload()

    async def ready_to_migrate(self) -> Outcome:
        return await self._migration.ready()

    async def migrate(self, dry_run: bool) -> Outcome:
        return await self._migration.migrate(dry_run)

    def _present(self) -> object:
        membership = self._agent.roster.membership
        return membership.of(self._agent.settings.me) if membership else None

    async def _until(self, condition: Callable[[], bool], within_ms: float = _PATIENCE_MS) -> bool:
        try:
            async with self._clock.timeout_ms(within_ms):
                while not condition():
                    await self._clock.sleep_ms(_POLL_MS)
        except TimeoutError:
            return False
        return True


def _dead(membership: Membership, number: int) -> Membership:
    node = membership.node(number)
    assert node is not None, "it was found there"
    dead = membership.having(replace(node, state=NodeState.DEAD, seals=()), "removed by hand")
    return replace(dead, nodes=tuple(each for each in dead.nodes if each.state is not NodeState.JOINING))
