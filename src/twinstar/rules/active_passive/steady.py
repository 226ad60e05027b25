"""A leader at work: open the epoch, keep who must confirm in order, renew the lease, hand over when asked."""

from __future__ import annotations

from twinstar.model.effects import (
    Adopt,
    ChangeRegister,
    Enforce,
    EngineEffect,
    HandOver,
    Kill,
    Plan,
    PromoteFor,
    Reason,
    Retag,
    State,
)
from twinstar.model.engine import Names
from twinstar.model.register import Durability, Register
from twinstar.model.view import View
from twinstar.rules.active_passive.attached import arrived, attached, flushed, known
from twinstar.rules.active_passive.lease import holding, outstayed
from twinstar.rules.active_passive.local import in_time, names_for
from twinstar.rules.active_passive.other_durability import to_async, under_lease
from twinstar.rules.durability import Quorum, Where, desired, next_step, of_register

_BEGINNING = (Adopt, PromoteFor, Retag, Enforce)
"""Effects that end by setting who must confirm: another is begun only after them."""


def steady(view: View, register: Register) -> Plan:
    opened = register.epoch if is_open(view, register) else 0
    hand_over, cleared = _switchover(view, register)
    if register.durability is Durability.ASYNC:
        renewed, stop = holding(view, register)
        names, changed = under_lease(view, register)
        effect: EngineEffect | None = stop or hand_over or _enforced(view, names)
        change = cleared or renewed or changed or _arrived(view, register)
    else:
        effect, change = _voters(view, register)
        effect, change = hand_over or effect, cleared or change or to_async(view, register)
        effect = Kill() if outstayed(view) else effect
    settling = opened == 0 or effect is not None or change is not None
    waiting = _missing(view, register) > 0
    note = _waiting_note(view, register) if waiting else _alone_note(view, register)
    return Plan(
        engine=effect, change=change, opened=opened, state=State.RUNNING, note=note, waiting=waiting, soon=settling
    )


def is_open(view: View, register: Register) -> bool:
    """Whether `required` voters have flushed the log's end that was read after the epoch began: from then on no
    further failover takes back what the leader shows."""
    if view.opened == register.epoch:
        return True
    if view.opening_lsn == 0:
        return False
    confirmed = {
        m for m, a in attached(view, register).items() if m in register.voters and a.flush_lsn >= view.opening_lsn
    }
    required = 0 if register.durability is Durability.ASYNC else register.required
    return len(confirmed) >= required


def _voters(view: View, register: Register) -> tuple[EngineEffect | None, ChangeRegister | None]:
    """The next legal step towards the voters and the number of confirmations that fit who is there."""
    if isinstance(view.running_effect, _BEGINNING):
        return view.running_effect, None
    if view.changing:
        return None, None
    if not view.settled:
        return None, ChangeRegister(register, view.revision, Reason.SETTLED, "after a restart of the agent")
    if view.enforced is None:
        return Enforce(names_for(view, register)), None
    if view.primary is None:
        return None, None
    engine = Quorum(view.enforced.voters, view.enforced.required)
    goal = _goal(view, register)
    step = next_step(engine, of_register(register), goal, flushed(view, register))
    if step is None:
        return None, None
    if step.where is Where.ENGINE:
        return Enforce(Names(register.epoch, step.to.voters, step.to.required)), None
    changed = register.but(copies=step.to.voters | {view.me}, required=step.to.required, reason=Reason.VOTERS.value)
    return None, ChangeRegister(changed, view.revision, Reason.VOTERS, _describe(register, step.to))


def _arrived(view: View, register: Register) -> ChangeRegister | None:
    """`async`: who is attached is a copy, who is no data node any more is none. Nobody else takes over."""
    copies = (register.copies | attached(view, register).keys()) & known(view, register) | {view.me}
    if copies == register.copies or view.changing:
        return None
    changed = register.but(copies=copies, reason=Reason.VOTERS.value)
    return ChangeRegister(changed, view.revision, Reason.VOTERS, f"attached: {', '.join(sorted(copies))}")


def _goal(view: View, register: Register) -> Quorum:
    """Where the voters should be. While paused nobody is removed."""
    settings, here = view.settings, attached(view, register)
    members = known(view, register)
    gone = frozenset(
        m
        for m in register.voters
        if m not in members or (view.absent_ms.get(m, 0.0) >= settings.voter_removal_ms and m not in here)
    )
    return desired(
        voters=register.voters,
        required=register.required,
        gone=frozenset() if register.paused else gone,
        arrived=arrived(view, register),
        configured=settings.required,
        degrade=settings.policy == "degrade" and not register.paused,
    )


def _describe(register: Register, to: Quorum) -> str:
    before = f"{register.required} of {', '.join(sorted(register.voters)) or 'nobody'}"
    return f"from {before} to {to.required} of {', '.join(sorted(to.voters)) or 'nobody'}"


def _enforced(view: View, names: Names) -> EngineEffect | None:
    """`async`: once the register says so, in which case nothing that is set here can be too little."""
    under_way = isinstance(view.running_effect, _BEGINNING)
    return Enforce(names) if view.enforced != names and not under_way and not view.changing else None


def _switchover(view: View, register: Register) -> tuple[EngineEffect | None, ChangeRegister | None]:
    """Hand over when the successor is attached and near; give up when it is not in time."""
    switchover = register.switchover
    if switchover is None:
        return None, None
    under_way = isinstance(view.running_effect, HandOver)
    if not in_time(switchover, view.wall_ms, view.register_age_ms) and not under_way:
        over = register.but(switchover=None, reason=Reason.SWITCHOVER.value)
        return None, ChangeRegister(over, view.revision, Reason.SWITCHOVER, f"{switchover.to} was not ready in time")
    there = attached(view, register).get(switchover.to)
    ready = there is not None and there.streaming and view.opened == register.epoch and not view.changing
    return (HandOver(switchover.to, register.epoch) if ready else None), None


def _missing(view: View, register: Register) -> int:
    """How many confirmations less than required can come at the moment."""
    if register.durability is Durability.ASYNC:
        return 0
    return max(0, register.required - len(attached(view, register).keys() & register.voters))


def _waiting_note(view: View, register: Register) -> str:
    absent = ", ".join(sorted(register.voters - attached(view, register).keys()))
    return f"Writes wait for {_missing(view, register)} confirmation(s) of {absent} (policy {view.settings.policy})."


def _alone_note(view: View, register: Register) -> str:
    alone = register.durability is Durability.QUORUM and register.required == 0 and view.settings.required > 0
    return "Alone: commits are on this member's disk only." if alone else ""
