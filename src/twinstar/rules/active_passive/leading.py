"""This member is named leader: promote, open, keep the voters in order, hand over, restart under a fresh epoch."""

from __future__ import annotations

from dataclasses import replace

from twinstar.model.effects import (
    Adopt,
    ChangeRegister,
    HandOver,
    Plan,
    PromoteFor,
    Reason,
    Retag,
    SealFor,
    Start,
    State,
    Stop,
)
from twinstar.model.engine import EngineStatus
from twinstar.model.register import Durability, Register
from twinstar.model.view import View
from twinstar.rules.active_passive.lease import given_up, holds, renewal
from twinstar.rules.active_passive.local import (
    NO_COPY,
    STARTED_BY_HAND,
    bound,
    candidacy,
    in_time,
    names_for,
    revive,
    state_of,
    stays_down,
)
from twinstar.rules.active_passive.steady import steady


def leading(view: View, register: Register) -> Plan:
    status = view.engine.status
    if status is EngineStatus.PRIMARY:
        return _primary(view, register)
    if isinstance(view.running_effect, HandOver) and view.running_effect.epoch == register.epoch:
        return Plan(engine=view.running_effect, state=State.STOPPING, note="Handing over.", soon=True)
    if view.handing_over and (plan := _handed_over(view, register)) is not None:
        return plan
    if stays_down(view, register):
        return Plan(state=state_of(view), note="Paused: the leader's database is not restarted.")
    if status is EngineStatus.REMAINS:
        return Plan(engine=revive(view), state=state_of(view), soon=True)
    if status is EngineStatus.STOPPED:
        return _stopped(view, register)
    if status is EngineStatus.STANDBY:
        return _under_lease(view, register, _become(view, register))
    if status in NO_COPY:
        note = "Named leader, but the data directory is gone: another copy must be elected."
        return Plan(state=State.REFUSED, note=note)
    return Plan(state=state_of(view), soon=True)


def _primary(view: View, register: Register) -> Plan:
    if view.led == register.epoch:
        return steady(view, register)
    if view.engine.nonce and register.epoch == 1:
        return Plan(engine=Adopt(1), state=State.BOOTSTRAPPING, soon=True)
    if 0 < view.led < register.epoch and register.reason == Reason.RETAKEN.value and view.promise <= register.epoch:
        return Plan(engine=Retag(names_for(view, register)), state=State.RUNNING, soon=True)
    if register.paused and view.led == 0:
        return Plan(state=State.RUNNING, note=STARTED_BY_HAND)
    note = "A database runs as a primary that nobody made leader of this epoch: stopping it."
    return Plan(engine=Stop(), state=State.STOPPING, note=note, soon=True)


def _stopped(view: View, register: Register) -> Plan:
    """Died in our sight: a candidacy at once, if others can seal without us. Otherwise start, and take a new epoch."""
    if view.died and register.durability is Durability.ASYNC:
        return Plan(change=given_up(view, register), engine=Start(), state=state_of(view), soon=True)
    able = sum(view.peer(m).heard for m in register.voters)
    if view.died and able >= len(register.copies) - register.required:
        evidence = f"the database of {view.me} died and no process of it is left"
        change = ChangeRegister(
            candidacy(register, Reason.DATABASE_DEAD), view.revision, Reason.DATABASE_DEAD, evidence
        )
        return Plan(change=change, state=state_of(view), soon=True)
    return Plan(engine=Start(), state=State.STARTING, soon=True)


def _become(view: View, register: Register) -> Plan:
    """Sealed and named: promote. Led in this epoch before, or begun to, or bound to a later one: a fresh epoch first.

    An epoch without a fork was begun by a running database, not by a promotion: whoever is stopped now has led in it.
    """
    if isinstance(view.running_effect, PromoteFor) and view.running_effect.epoch == register.epoch:
        return Plan(engine=view.running_effect, state=State.PROMOTING, soon=True)
    timeline = view.engine.position.timeline if view.engine.position else 0
    used = max(timeline, view.spent) >= register.epoch or view.promise > register.epoch or register.fork is None
    epoch = max(register.epoch, view.promise)
    sealed = view.sealed if view.sealed and view.sealed.epoch == epoch else None
    if sealed is None:
        return Plan(engine=SealFor(epoch, publish=False), state=State.SEALED, soon=True)
    if used:
        again = register.but(
            epoch=register.epoch + 1, fork=sealed.position, switchover=None, reason=Reason.RESTARTED.value
        )
        evidence = f"the last named leader is back with its log at {sealed.position}"
        return Plan(
            change=ChangeRegister(again, view.revision, Reason.RESTARTED, evidence), state=State.SEALED, soon=True
        )
    if bound(view) > register.epoch:
        return Plan(state=State.SEALED, note=f"promised epoch {bound(view)}: waiting for the register")
    return Plan(engine=PromoteFor(register.epoch, names_for(view, register)), state=State.PROMOTING, soon=True)


def _under_lease(view: View, register: Register, plan: Plan) -> Plan:
    """`async`: the lease is kept on the way to the promotion, and nothing is promoted without one."""
    if register.durability is not Durability.ASYNC or plan.change is not None:
        return plan
    waits = not holds(register, view.lease_left_ms) and plan.engine != view.running_effect
    if isinstance(plan.engine, PromoteFor) and waits:
        plan = Plan(state=State.SEALED, note="Taking the lease anew before the promotion.", soon=True)
    return replace(plan, change=renewal(view, register))


def _handed_over(view: View, register: Register) -> Plan | None:
    """After the stop of a switchover: wait for the successor until the deadline, then go on as a restarted leader."""
    switchover = register.switchover
    if view.engine.status is not EngineStatus.STOPPED or view.engine.shut_down_at is None:
        return None
    if switchover is None or not in_time(switchover, view.wall_ms, view.register_age_ms):
        return None
    waiting = view.me in view.next_seals
    return Plan(
        engine=None if waiting else HandOver(switchover.to, register.epoch),
        state=State.STOPPING,
        note=f"Stopped in order; {switchover.to} takes over.",
        soon=True,
    )
