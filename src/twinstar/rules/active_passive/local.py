"""Small questions about this member's own copy, asked by several cases."""

from __future__ import annotations

from twinstar.model.effects import EngineEffect, Kill, Reason, Start, State
from twinstar.model.engine import EngineStatus, Names, Upstream
from twinstar.model.register import Durability, Phase, Register, Switchover
from twinstar.model.view import View

_STATES = {
    EngineStatus.ABSENT: State.REBUILDING,
    EngineStatus.INCOMPLETE: State.REBUILDING,
    EngineStatus.STOPPED: State.STOPPED,
    EngineStatus.REMAINS: State.STOPPED,
    EngineStatus.STARTING: State.STARTING,
    EngineStatus.STOPPING: State.STOPPING,
    EngineStatus.PRIMARY: State.RUNNING,
    EngineStatus.STANDBY: State.WAITING,
}
TRANSIENT = frozenset({EngineStatus.STARTING, EngineStatus.STOPPING})
NO_COPY = frozenset({EngineStatus.ABSENT, EngineStatus.INCOMPLETE})
STARTED_BY_HAND = "Paused: somebody has started this database as a primary; it is stopped at `twinstar resume`."


def state_of(view: View) -> State:
    """The copy's state for people, when nothing more particular is known."""
    if view.died and view.engine.status in {EngineStatus.STOPPED, EngineStatus.REMAINS}:
        return State.CRASHED
    return _STATES[view.engine.status]


def bound(view: View) -> int:
    """The highest epoch this member is bound to: its durable promise, or that of its log's last record."""
    timeline = view.engine.position.timeline if view.engine.position else 0
    return max(view.promise, timeline)


def revive(view: View) -> EngineEffect | None:
    """What brings a copy's database to where it can be worked with (running as a standby), if that is missing.

    A server that is being started looks for a moment like what is left of one.
    """
    if view.engine.status is EngineStatus.REMAINS:
        return view.running_effect if isinstance(view.running_effect, Start) else Kill()
    if view.engine.status is EngineStatus.STOPPED:
        return Start()
    return None


def stays_down(view: View, register: Register) -> bool:
    """While paused no database is started, except one that was stopped for a switchover by hand."""
    return register.paused and view.engine.status is not EngineStatus.STANDBY and not view.handing_over


def in_time(switchover: Switchover, wall_ms: float, register_age_ms: float) -> bool:
    """Whether a switchover may still happen: by the wall clock, and by this agent's own, should that have been set back
    since."""
    return wall_ms < switchover.deadline_wall_ms and register_age_ms < switchover.within_ms


def can_seal(view: View, register: Register) -> bool:
    """Whether this member is a running copy that could seal for the next epoch now."""
    return (
        view.me in register.copies and view.engine.status is EngineStatus.STANDBY and bound(view) <= register.epoch + 1
    )


def names_for(view: View, register: Register) -> Names:
    """Who must confirm under this register, attached for its epoch."""
    if register.durability is Durability.ASYNC:
        return Names(register.epoch, frozenset(), 0)
    return Names(register.epoch, register.copies - {view.me}, register.required)


def upstream(view: View, register: Register) -> Upstream:
    return Upstream(register.leader, register.epoch, view.addresses[register.leader])


def author(register: Register) -> str:
    """The member that wrote this version: the first part of its nonce."""
    return register.nonce.split(":", 1)[0]


def candidacy(register: Register, reason: Reason) -> Register:
    """The register of a candidacy: everything else is carried over, nobody is dropped because it is dead."""
    return register.but(epoch=register.epoch + 1, phase=Phase.ELECTING, switchover=None, reason=reason.value)
