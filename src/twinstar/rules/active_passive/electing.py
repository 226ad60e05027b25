"""Nobody leads: seal, publish, choose, name (durability `quorum`). The argument is at the head of `rules.election`."""

from __future__ import annotations

from twinstar.model.effects import ChangeRegister, EngineEffect, Plan, Reason, SealFor, State, Stop
from twinstar.model.engine import EngineStatus
from twinstar.model.register import Phase, Register
from twinstar.model.view import View
from twinstar.rules.active_passive.local import author, bound, candidacy, revive, state_of
from twinstar.rules.election import admissible, choose

_FALSE_ALARMS = frozenset({r.value for r in (Reason.SUSPECTED, Reason.NOT_LEADING, Reason.DEAF, Reason.UNFINISHED)})
_REVIVE_DELAY_MS = 400
"""The last leader's database is started again only this long after the candidacy, unless it is needed earlier."""


def electing(view: View, register: Register) -> Plan:
    engine = view.engine
    if engine.status is EngineStatus.PRIMARY:
        return _incumbent(view, register)
    if view.me not in register.copies:
        return Plan(state=state_of(view), note="An election is on; this member is not a copy.")
    if engine.status in {EngineStatus.STOPPED, EngineStatus.REMAINS}:
        if _waits_for_resume(register):
            return Plan(state=state_of(view), note="Paused: the database is not started.")
        change = _decision(view, register) if author(register) == view.me else None
        return Plan(engine=_revive(view, register), change=change, state=State.STARTING, soon=True)
    if engine.status is not EngineStatus.STANDBY:
        return Plan(state=state_of(view), note="An election is on; this copy cannot seal.", soon=True)
    if bound(view) > register.epoch:
        return Plan(state=State.SEALED, note=f"promised epoch {bound(view)}; waiting for the register", soon=True)
    mine = view.seals.get(view.me)
    if mine is None:
        return Plan(engine=SealFor(register.epoch), state=State.SEALED, soon=True)
    return _sealed(view, register)


def _sealed(view: View, register: Register) -> Plan:
    """This copy has published: name a winner when one is admissible, begin again when the election does not end."""
    if _waits_for_resume(register):
        return Plan(state=State.SEALED, note="Paused: nobody is named until `twinstar resume`.")
    change = _decision(view, register) or _again(view, register)
    note = _missing(view, register) if change is None else ""
    return Plan(change=change, state=State.SEALED, note=note, soon=True)


def _decision(view: View, register: Register) -> ChangeRegister | None:
    """Names the winner once one is admissible: the candidacy's author at once, the others a little later.

    The author may do so although its own copy is not sealed, as when its database is dead: what makes a naming safe is
    what the seals say and that the register has not moved, not who writes it.
    """
    if _waits_for_resume(register):
        return None
    wanted = register.switchover.to if register.switchover else ""
    winner = choose(register, view.seals, _alive(view, register), view.settings.priorities, wanted)
    patience = 0 if author(register) == view.me else view.settings.naming_delay_ms
    if winner is None or view.seals_age_ms < patience:
        return None
    if wanted not in {"", winner.member} and view.epoch_age_ms < view.settings.election_timeout_ms / 2:
        return None  # it may yet seal, or others whom it is ahead of
    named = register.but(phase=Phase.LEADING, leader=winner.member, fork=winner.position, switchover=None)
    evidence = "sealed: " + ", ".join(f"{m} at {s.position}" for m, s in sorted(view.seals.items()))
    return ChangeRegister(named, view.revision, Reason.NAMED, evidence)


def _again(view: View, register: Register) -> ChangeRegister | None:
    """A new candidacy over one that does not end, although enough copies are there."""
    overdue = view.epoch_age_ms > view.settings.election_timeout_ms + view.back_off_ms
    if not overdue or not admissible(register, _alive(view, register)):
        return None
    evidence = f"epoch {register.epoch} was not decided in {view.settings.election_timeout_ms:.0f} ms"
    reason = Reason(register.reason) if _by_hand(register) else Reason.UNFINISHED
    return ChangeRegister(candidacy(register, reason), view.revision, reason, evidence)


def _alive(view: View, register: Register) -> set[str]:
    return {m for m in register.copies if m == view.me or not view.peer(m).silent}


def _by_hand(register: Register) -> bool:
    return register.reason in {Reason.OPERATOR.value, Reason.FORCED.value}


def _waits_for_resume(register: Register) -> bool:
    return register.paused and not _by_hand(register)


def _missing(view: View, register: Register) -> str:
    needed = len(register.copies) - register.required - len(view.seals)
    waiting = ", ".join(sorted(register.copies - set(view.seals)))
    if needed > 0:
        return f"Waiting for {needed} more of {waiting} to seal, or for {register.leader} itself."
    return f"The most advanced copy does not answer; waiting for it ({waiting})."


def _incumbent(view: View, register: Register) -> Plan:
    """A running primary under an election: take it back when it was a false alarm, else stop and seal.

    Retaking needs k voters that, after the candidacy appeared, said that they hear this member; at most once in
    `election_timeout_ms`. A leader that only the store still hears does not stand in the way.
    """
    heard_by = {m for m in register.voters if view.peer(m).hears_me}
    mine = register.leader == view.me and 0 < view.led < register.epoch and view.promise <= register.epoch
    arguable = mine and register.reason in _FALSE_ALARMS and not register.paused
    if arguable and view.retake_age_ms >= view.settings.election_timeout_ms:
        if len(heard_by) >= register.required:
            return Plan(change=_retake(view, register, heard_by), state=State.RUNNING, soon=True)
        if view.epoch_age_ms < view.settings.retake_window_ms:
            note = "An election over this running leader: asking the voters whether they hear it."
            return Plan(probe=register.voters, state=State.RUNNING, note=note, soon=True)
    return Plan(engine=Stop(), state=State.STOPPING, note="An election is on: stopping to seal.", soon=True)


def _retake(view: View, register: Register, heard_by: set[str]) -> ChangeRegister:
    again = register.but(epoch=register.epoch + 1, phase=Phase.LEADING, reason=Reason.RETAKEN.value, fork=None)
    return ChangeRegister(again, view.revision, Reason.RETAKEN, f"heard by {', '.join(sorted(heard_by))}")


def _revive(view: View, register: Register) -> EngineEffect | None:
    """Starts a stopped copy at once, but the last leader's only after the others had a chance."""
    last_leader = register.leader == view.me
    others_can = sum(not view.peer(m).silent for m in register.voters) >= len(register.copies) - register.required
    if last_leader and others_can and view.epoch_age_ms < _REVIVE_DELAY_MS:
        return None
    return revive(view)
