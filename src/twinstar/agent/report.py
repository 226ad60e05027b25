"""The cluster as one agent sees it: `status --json`."""

from __future__ import annotations

from typing import Any, Protocol

from twinstar.agent.agent import Agent
from twinstar.api.status import ClusterStatus, Endpoints, MemberState, MemberStatus, Role, StoreStatus, each_one
from twinstar.model.address import Address
from twinstar.model.position import Position
from twinstar.model.register import Phase, Register
from twinstar.model.wire import Gossip


class Facts(Protocol):
    """What the status shows of the configuration."""

    cluster: str
    policy: str
    store_kind: str
    write_dsn: str
    read_dsn: str

    def member_dsn(self, member: str) -> str: ...

    def address(self, member: str) -> Address:
        """Where its database is reached, wherever it listens."""
        ...

    def tags(self, member: str) -> dict[str, Any]: ...


def cluster_status(agent: Agent, facts: Facts) -> ClusterStatus:
    """Made from what is known already, without asking anybody."""
    register = agent.ledger.register
    said = {m: _said(agent, m) for m in agent.members}
    leader = register.leader if register else None
    leading = said.get(leader or "")
    ahead = Position.parse(leading.position) if leading and leading.position else None
    return ClusterStatus(
        cluster=facts.cluster,
        strategy="active-passive",
        durability=register.durability if register else agent.settings.rules.durability,
        epoch=register.epoch if register else 0,
        phase=register.phase if register else Phase.BOOTSTRAPPING,
        leader=leader,
        required=register.required if register else 0,
        copies=tuple(sorted(register.copies)) if register else (),
        policy=facts.policy,
        paused=bool(register and register.paused),
        open=_open(register, leading),
        store=StoreStatus(facts.store_kind, agent.ledger.ok),
        endpoints=Endpoints(facts.write_dsn, facts.read_dsn),
        members=tuple(_member(facts, m, said[m], register, ahead) for m in agent.members),
        waiting_for=_waiting_for(agent, register, leading),
        restart_pending=each_one(said, "restart_pending"),
        drift=each_one(said, "drift"),
    )


def _said(agent: Agent, member: str) -> Gossip | None:
    return agent.own_gossip() if member == agent.settings.me else agent.peers.gossip(member)


def _open(register: Register | None, leading: Gossip | None) -> bool:
    if register is None or leading is None or register.phase is not Phase.LEADING:
        return False
    return leading.extra.get("opened") == register.epoch


def _waiting_for(agent: Agent, register: Register | None, leading: Gossip | None) -> str:
    """Why writes wait: in the words of the leader, and when it is not heard in those of whom was asked."""
    if leading is not None and _open(register, leading):
        return leading.note if leading.extra.get("waiting") else ""
    if register is not None and not agent.ledger.ok:
        return f"The store is not reached, and nobody can take over until it is: {agent.ledger.trouble}"
    if leading is not None and leading.note:
        return leading.note
    return agent.own_gossip().note or "No leader is open yet."


def _member(
    facts: Facts, member: str, said: Gossip | None, register: Register | None, ahead: Position | None
) -> MemberStatus:
    address = facts.address(member)
    position = Position.parse(said.position) if said and said.position else None
    leads = register is not None and register.leader == member
    comparable = position is not None and ahead is not None and position.timeline == ahead.timeline
    return MemberStatus(
        name=member,
        dsn=facts.member_dsn(member),
        role=Role.LEADER if leads else Role.STANDBY,
        state=MemberState(said.state) if said else MemberState.UNREACHABLE,
        host=address.host,
        port=address.port,
        epoch=said.epoch if said else None,
        timeline=position.timeline if position else None,
        position=position,
        lag_bytes=max(0, ahead.lsn - position.lsn) if comparable and ahead and position else None,
        agent_pid=said.agent_pid or None if said else None,
        engine_pid=said.engine_pid or None if said else None,
        guard_pid=said.guard_pid or None if said else None,
        tags=facts.tags(member),
        leads=bool(said.extra.get("leads")) if said else None,
        promise=said.extra.get("promise") if said else None,
        system_identifier=said.extra.get("system_identifier") or None if said else None,
        note=said.note if said else "Its agent is not heard.",
    )
