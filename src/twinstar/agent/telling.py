"""What a member says of itself: to its guard, to the routers, to the other agents."""

from __future__ import annotations

from twinstar.agent.body import Body
from twinstar.agent.lane import Lane
from twinstar.agent.ledger import Ledger
from twinstar.agent.memory import Memory
from twinstar.agent.peers import Peers
from twinstar.model.effects import EngineEffect, Plan
from twinstar.model.engine import EngineStatus
from twinstar.model.register import Durability, Phase, Register
from twinstar.model.view import View
from twinstar.model.wire import EpochNotice, Gossip, Serving, Told
from twinstar.rules.active_passive.attached import counted


def to_guard(view: View, body: Body, lease_until_ms: float) -> Told:
    """What the guard must know to judge the database's end, and to end it in time."""
    state, register = body.state, view.register
    by_lease = register is not None and register.durability is Durability.ASYNC
    leased = (by_lease or view.asked_lease_ms > 0) and body.made_leader_of > 0
    # Under a lease a promotion counts from before its beginning: it goes on in the database when this agent dies.
    leading = leased or (state.status is EngineStatus.PRIMARY and body.led > 0)
    return Told(
        epoch=body.made_leader_of if leading else view.promise,
        leading=leading,
        run=state.run,
        stopping=body.stopping or (state.status is EngineStatus.STOPPED and not body.died),
        lease_until_ms=lease_until_ms if leased else 0.0,
        register_epoch=register.epoch if register else 0,
        paused=register is not None and register.paused,
        knows_lease=view.has_changed if by_lease else view.settled,
    )


def to_routers(me: str, register: Register | None, body: Body, maximum_lag_bytes: int) -> Serving | EpochNotice:
    """What is served here, or who leads instead."""
    if register is None:
        return EpochNotice(0, "")
    if register.leader != me or register.phase is not Phase.LEADING:
        return EpochNotice(register.epoch, register.leader)
    running = body.state.status is EngineStatus.PRIMARY and body.led == register.epoch
    return Serving(
        epoch=register.epoch,
        leader=me,
        open=running and body.opened == register.epoch,
        readers=_readers(register, body, maximum_lag_bytes),
        draining=body.draining,
    )


def _readers(register: Register, body: Body, maximum_lag_bytes: int) -> tuple[str, ...]:
    """Voters alone, and only those whose confirmation the database counts as well: what they show, an election counts
    on. The register may have lost a voter by a change that is in doubt; the database has lost it before.
    """
    primary = body.primary
    if primary is None:
        return ()
    voters = register.voters
    if register.durability is Durability.QUORUM:
        voters = voters & body.enforced.voters if body.enforced else frozenset()
    here = {m: a for m, a in counted(primary, register).items() if m in voters}
    return tuple(sorted(m for m, a in here.items() if primary.position.lsn - a.replay_lsn <= maximum_lag_bytes))


def to_agents(
    body: Body, memory: Memory, ledger: Ledger, lane: Lane[EngineEffect], peers: Peers, plan: Plan, pid: int
) -> Gossip:
    """What this member says of itself to people and to the other agents: a hint, never a basis for safety."""
    state = body.state
    leading = state.status is EngineStatus.PRIMARY and body.led > 0
    has_data = state.status not in {EngineStatus.ABSENT, EngineStatus.INCOMPLETE} and not state.nonce
    return Gossip(
        role="leader" if leading else "standby",
        state=plan.state.value,
        epoch=body.led if leading else memory.now.promise,
        position=str(state.position) if state.position else "",
        replayed="",
        agent_pid=pid,
        engine_pid=state.pid or 0,
        guard_pid=peers.guard_pid,
        note=ledger.misfit or lane.trouble or body.progress or plan.note or ledger.trouble,
        extra={
            "has_data": has_data,
            "promise": memory.now.promise,
            "leads": leading,
            "system_identifier": state.system_identifier,
            "heard": list(memory.now.heard),
            "unheard": sorted(member for member, peer in peers.views().items() if peer.silent),
            "members": peers.members,
            "opened": body.opened,
            "restart_pending": list(state.restart_pending),
            "drift": list(state.drift),
            "receiving": state.receiving,
            "waiting": plan.waiting,
        },
    )
