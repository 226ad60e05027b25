"""Another member is named leader: follow it, watch it, and be ready to replace it."""

from __future__ import annotations

from dataclasses import replace

from twinstar.model.effects import ChangeRegister, EngineEffect, Follow, Plan, Reason, Rebuild, SealFor, State, Stop
from twinstar.model.engine import EngineStatus
from twinstar.model.register import Durability, Phase, Register
from twinstar.model.view import View
from twinstar.model.wire import EngineWord
from twinstar.rules.active_passive.lease import take_over
from twinstar.rules.active_passive.local import (
    NO_COPY,
    STARTED_BY_HAND,
    bound,
    revive,
    state_of,
    stays_down,
    upstream,
)
from twinstar.rules.active_passive.suspicion import case_against, suspects

_REJOIN_DELAY_MS = 300
"""A former leader's database is started again only this long after a change: the new leader needs the machine more."""

_ENDING = frozenset({EngineWord.KILLING, EngineWord.DEAD})


def following(view: View, register: Register) -> Plan:
    if register.leader not in view.addresses:
        return _watching(view, register, _stranger(view, register))
    plan = _succeed(view, register) or _copy(view, register)
    return plan if plan.change else _watching(view, register, plan)


def _stranger(view: View, register: Register) -> Plan:
    """Who leads was added to the cluster, and this member's configuration does not say where it is reached."""
    stop = Stop() if view.engine.status is EngineStatus.PRIMARY else None
    note = f"{register.leader} leads and is not in this node's twinstar.yaml: copy the file here, restart this agent."
    return Plan(engine=stop, state=state_of(view), note=note)


def _watching(view: View, register: Register, plan: Plan) -> Plan:
    """Whatever this copy does: the leader may have died."""
    asynchronous = register.durability is Durability.ASYNC
    change = take_over(view, register) if asynchronous else case_against(view, register)
    leader = view.peer(register.leader)
    suspicious = suspects(view, leader) is not None
    return replace(
        plan,
        change=change,
        ask_about=register.leader if suspicious and not asynchronous else None,
        probe=frozenset({register.leader}) if not leader.heard else frozenset(),
        soon=plan.soon or not leader.heard or suspicious or leader.engine in _ENDING,
    )


def _copy(view: View, register: Register) -> Plan:
    """What this member's own copy needs."""
    effect, state, note = _needed(view, register)
    return Plan(engine=effect, state=state, note=note, soon=effect is not None)


def _needed(view: View, register: Register) -> tuple[EngineEffect | None, State, str]:
    engine, leader = view.engine, register.leader
    under_way = view.running_effect
    if isinstance(under_way, Follow | Rebuild) and under_way.upstream == upstream(view, register):
        return under_way, _joining(view, under_way), f"joining {leader}"
    if engine.status is EngineStatus.PRIMARY and register.paused and view.led == 0:
        return None, State.RUNNING, STARTED_BY_HAND
    if engine.status is EngineStatus.PRIMARY:
        return Stop(), State.STOPPING, f"{leader} leads epoch {register.epoch}"
    if stays_down(view, register):
        return None, state_of(view), "Paused: the database is not started."
    if engine.status in NO_COPY:
        if not view.peer(leader).heard:
            return None, State.WAITING, f"Waiting for {leader}, of which this member will be a copy."
        return Rebuild(upstream(view, register)), State.REBUILDING, f"copying {leader}"
    if engine.status in {EngineStatus.STOPPED, EngineStatus.REMAINS}:
        settled = view.epoch_age_ms >= _REJOIN_DELAY_MS
        return (revive(view) if settled else None), State.STARTING, ""
    if engine.status is EngineStatus.STANDBY:
        return _standby(view, register)
    return None, state_of(view), ""


def _joining(view: View, under_way: Follow | Rebuild) -> State:
    """A copy that follows as it is runs all the time."""
    if view.engine.status is EngineStatus.STANDBY and isinstance(under_way, Follow):
        return State.CATCHING_UP
    in_place = isinstance(under_way, Follow) and not under_way.careful
    return State.REWINDING if in_place else State.REBUILDING


def _standby(view: View, register: Register) -> tuple[EngineEffect | None, State, str]:
    engine, leader = view.engine, register.leader
    if bound(view) > register.epoch:
        return None, State.SEALED, f"promised epoch {bound(view)}, the register is at {register.epoch}"
    attached = engine.upstream == (leader, register.epoch) and view.promise >= register.epoch
    careful = not _start_is_safe(view, register)
    follow = Follow(upstream(view, register), register.fork, careful, as_it_is=register.paused)
    if not attached:
        return follow, State.CATCHING_UP, f"attaching to {leader}"
    if engine.receiving:
        return None, State.STREAMING, ""
    if view.not_receiving_ms > view.settings.attach_patience_ms and view.peer(leader).heard and not register.paused:
        return follow, State.CATCHING_UP, f"attached to {leader}, but nothing arrives: comparing again"
    return None, State.CATCHING_UP, f"waiting for {leader}"


def _start_is_safe(view: View, register: Register) -> bool:
    """Whether enough *other* voters hold what the leader began with that this copy may be destroyed in place.

    They do when the leader has opened its epoch: this copy is not attached for it, so the others have confirmed. That
    they promised the epoch would not do: who sealed for it has promised as well, and may lack what is only here.
    """
    return view.peer(register.leader).opened == register.epoch


def _succeed(view: View, register: Register) -> Plan | None:
    """The successor's part of a switchover: hold the stopped leader's log to its end, seal, take the next epoch."""
    ended = view.next_seals.get(register.leader)
    if register.switchover is None or register.switchover.to != view.me or ended is None:
        return None
    if view.engine.status is not EngineStatus.STANDBY or view.promise > register.epoch + 1:
        return None
    epoch = register.epoch + 1
    sealed = view.sealed if view.sealed and view.sealed.epoch == epoch else None
    if sealed is None:
        held = view.engine.position
        if view.promise < epoch and (held is None or held <= ended.position):
            return Plan(state=State.CATCHING_UP, note="waiting for the end of the leader's log", soon=True)
        return Plan(engine=SealFor(epoch, publish=False), state=State.SEALED, soon=True)
    if sealed.position <= ended.position:
        return Plan(state=State.SEALED, note="the leader's log is not here to its end; it will take over again")
    named = register.but(
        epoch=epoch, phase=Phase.LEADING, leader=view.me, fork=sealed.position, switchover=None,
        reason=Reason.SWITCHOVER.value,
    )  # fmt: skip
    evidence = f"{register.leader} stopped in order at {ended.position}"
    return Plan(change=ChangeRegister(named, view.revision, Reason.SWITCHOVER, evidence), state=State.SEALED, soon=True)
