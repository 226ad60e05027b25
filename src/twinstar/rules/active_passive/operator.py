"""Changes asked for by hand. Each answers with the change to make, or raises `Refused` with what to do instead."""

from __future__ import annotations

from twinstar.model.effects import ChangeRegister, Reason
from twinstar.model.errors import TwinstarError
from twinstar.model.register import Phase, Register, Switchover
from twinstar.model.view import View
from twinstar.rules.active_passive.attached import attached
from twinstar.rules.active_passive.local import NO_COPY, candidacy


class Refused(TwinstarError):
    """What was asked for cannot be done now; the sentence says why and what to do."""


def register_of(view: View) -> Register:
    """The register, when this member can vouch for having it. Raises Refused."""
    if view.register is None or not view.store_ok:
        raise Refused("The store does not answer, so nothing can be changed; bring it back first.")
    return view.register


def switchover(view: View, to: str | None, deadline_ms: int) -> ChangeRegister:
    """A planned change of leader, asked of the leader itself."""
    register = register_of(view)
    if register.phase is not Phase.LEADING or register.leader != view.me or view.opened != register.epoch:
        raise Refused("Only an open leader can hand over; see `twinstar status`, or use `twinstar failover`.")
    here = attached(view, register)
    ready = {m: a for m, a in here.items() if m in register.voters and a.streaming}
    if to is None and ready:
        priorities = view.settings.priorities
        to = max(ready, key=lambda m: (ready[m].flush_lsn >> 20, priorities.get(m, 0), m))
    if to is None or to not in ready:
        whom = f"{to} is" if to else "No voter is"
        raise Refused(f"{whom} not streaming from {view.me}; wait until `twinstar status` shows it streaming.")
    planned = Switchover(to, view.wall_ms + deadline_ms, deadline_ms)
    changed = register.but(switchover=planned, reason=Reason.SWITCHOVER.value)
    return ChangeRegister(changed, view.revision, Reason.SWITCHOVER, f"asked for by hand: {view.me} to {to}")


def failover(view: View, to: str | None, accept_loss: bool) -> ChangeRegister:
    """A candidacy without a vote, for `to` if that is an admissible winner; with `accept_loss` the copies become `to`
    alone.
    """
    register = register_of(view)
    if register.phase is Phase.BOOTSTRAPPING:
        raise Refused("There is no database yet; wait until it is made.")
    if to in view.settings.nofailover:
        raise Refused(f"{to} has the tag `nofailover` and never leads: take the tag away first, or name another one.")
    if not accept_loss:
        return _without_loss(view, register, to)
    if to is None:
        raise Refused("Name the member whose data shall count: `twinstar failover --to NAME --accept-loss`.")
    if _without_data(view, to):
        raise Refused(f"{to} has no data that could count: name a member that has.")
    if answering := sorted(m for m in register.copies - {to} if _answers(view, m)):
        raise Refused(f"{', '.join(answering)} still answers: a failover without loss may be possible; try that first.")
    forced = candidacy(register, Reason.FORCED).but(copies=frozenset({to}), required=0)
    return ChangeRegister(forced, view.revision, Reason.FORCED, f"loss accepted by hand: only {to} counts")


def _without_loss(view: View, register: Register, to: str | None) -> ChangeRegister:
    evidence = "failover asked for by hand"
    begun = candidacy(register, Reason.OPERATOR)
    if to is not None:
        if register.phase is Phase.LEADING and to == register.leader:
            raise Refused(f"{to} leads already; name another one, or none.")
        if to not in register.copies:
            raise Refused(f"{to} is not among the copies and may lack what was acknowledged: wait until it has joined.")
        if not _answers(view, to):
            raise Refused(f"{to} does not answer, so it cannot take over: bring it back, or name another one.")
        begun = begun.but(switchover=Switchover(to, view.wall_ms))
        evidence += f", for {to}"
    return ChangeRegister(begun, view.revision, Reason.OPERATOR, evidence)


def _answers(view: View, member: str) -> bool:
    """Whether a copy is there, with data, so that it may hold what would be given up."""
    return (member == view.me or view.peer(member).heard) and not _without_data(view, member)


def _without_data(view: View, member: str) -> bool:
    return view.engine.status in NO_COPY if member == view.me else view.peer(member).has_data is False


def pause(view: View, paused: bool) -> ChangeRegister:
    """Stops or resumes everything automatic."""
    register = register_of(view)
    return ChangeRegister(register.but(paused=paused), view.revision, Reason.PAUSE, "asked for by hand")
