"""Leadership by lease (durability `async`).

Theory. Nothing in the engine stops an old leader from acknowledging, so time must: a leader may lead for `lease_ms`
after the moment *before* it sent its last successful renewal; another member may take over when it has seen the
register unchanged for `lease_ms` and a margin for clocks of different rates, on its own clock. Renewal and take-over
are compare-and-sets on the same register, so that a late renewal and a take-over exclude each other. The guard enforces
the deadline when the agent cannot. Loss is bounded: a candidate further behind the leader's last published position
than `maximum_lag_bytes` does not go, and what the leader wrote after that publication comes on top.
It does not protect against a paused virtual machine, whose clock stood still. (`docs/protocol.md`, "The right to go
on".)
"""

from __future__ import annotations

from twinstar.model.effects import ChangeRegister, EngineEffect, Kill, Plan, Reason, State, Stop
from twinstar.model.engine import EngineStatus
from twinstar.model.position import Position
from twinstar.model.register import Durability, Phase, Register
from twinstar.model.timing import LeaseTimes
from twinstar.model.view import View
from twinstar.model.wire import EngineWord
from twinstar.rules.active_passive.local import bound, revive, state_of

_STOP_SHARE = 0.1
"""The leader stops this share of its lease before the end, so that stopping has ended by then."""
_UNKNOWN_SHARE = 0.5
"""For this share of a lease an agent that does not know of its own waits to hear the guard that does."""
_TURN_MS = 150
"""How much longer each less advanced candidate waits."""
_WANTED_MS = 500
"""How long the others give the one that was asked for by hand."""
_LAST_LEADER_MS = 1_000
"""How long the last leader, back as a standby, gives the others: they may be too far behind for ever."""

_NOT_LEADING = frozenset({EngineStatus.STOPPED, EngineStatus.STANDBY})


def holding(view: View, register: Register) -> tuple[ChangeRegister | None, EngineEffect | None]:
    """A leader's renewal when it is due, and its end when the lease is, or when nobody is there to enforce it.

    An agent that was started anew does not know how long its predecessor's lease lasts. Its guard does, and ends the
    database then; so it renews, provided that the guard is there.
    """
    lease_ms = min(register.lease_ms, view.asked_lease_ms or register.lease_ms)
    if view.guard_silent_ms > lease_ms * (1 if view.has_changed else _UNKNOWN_SHARE):
        return None, Kill()
    if view.has_changed and view.lease_left_ms <= lease_ms * _STOP_SHARE:
        return None, Kill()
    return renewal(view, register), None


def outstayed(view: View) -> bool:
    """Whether a leader has asked for its first lease, does not know whether it has it, and would not any more."""
    asked_ms = view.asked_lease_ms
    return asked_ms > 0 and (view.lease_left_ms <= asked_ms * _STOP_SHARE or view.guard_silent_ms > asked_ms)


def holds(register: Register, left_ms: float) -> bool:
    """Whether there is enough of a lease left to lead under; always where no lease applies."""
    return register.durability is not Durability.ASYNC or left_ms > register.lease_ms * _STOP_SHARE


def renewal(view: View, register: Register) -> ChangeRegister | None:
    """The next renewal when it is due, for as long as is configured by now. One that is too late still applies if
    nobody took over meanwhile."""
    interval_ms = LeaseTimes.of(register.lease_ms, view.settings.renewal_ms).renewal_ms
    if view.changing or view.renewed_age_ms < interval_ms:
        return None
    position = view.primary.position if view.primary else register.position
    renewed = register.but(renewals=register.renewals + 1, position=position, lease_ms=view.settings.lease_ms)
    return ChangeRegister(renewed, view.revision, Reason.RENEWED)


def given_up(view: View, register: Register) -> ChangeRegister:
    """The leader's database is dead, every process of it gone: the others need not wait for the lease."""
    vacant_register = register.but(
        epoch=register.epoch + 1, phase=Phase.ELECTING, switchover=None, reason=Reason.GIVEN_UP.value
    )
    return ChangeRegister(vacant_register, view.revision, Reason.GIVEN_UP, f"the database of {view.me} died")


def take_over(view: View, register: Register) -> ChangeRegister | None:
    """Lead instead of a leader whose lease has run out, or whose guard says that its database is dead."""
    if view.me == register.leader or register.paused or not _eligible(view, register):
        return None
    leader = view.peer(register.leader)
    dead = leader.engine is EngineWord.DEAD and leader.epoch == register.epoch and leader.leading
    expired = view.register_age_ms - _lease_over_ms(register)
    waited = leader.not_leading_ms if dead else expired
    if waited < _rank(view, register) * _TURN_MS:
        return None
    reason = Reason.DATABASE_DEAD if dead else Reason.LEASE_LOST
    evidence = f"unchanged for {view.register_age_ms:.0f} ms" if not dead else f"the guard of {register.leader} says so"
    return _claim(view, register, reason, evidence)


def vacant(view: View, register: Register) -> Plan:
    """Phase `electing` under a lease. The most advanced goes first, the others after it, the last leader at the end.

    Where the leader gave its lease up nobody waits for it; one asked for by hand begins while it may still lead.
    """
    if view.engine.status is EngineStatus.PRIMARY:
        return Plan(engine=Stop(), state=State.STOPPING, soon=True)
    if register.paused and register.reason not in {Reason.OPERATOR.value, Reason.FORCED.value}:
        return Plan(state=state_of(view), note="Paused: nobody takes over until `twinstar resume`.")
    change = None
    if _has_stopped(view, register):
        change = ChangeRegister(register.but(reason=Reason.GIVEN_UP.value), view.revision, Reason.GIVEN_UP)
    elif _eligible(view, register) and view.epoch_age_ms >= _vacancy_wait_ms(view, register):
        change = _claim(view, register, Reason.GIVEN_UP, register.reason)
    return Plan(engine=revive(view), change=change, state=state_of(view), soon=True)


def _has_stopped(view: View, register: Register) -> bool:
    """Whether this member led until the election, which was asked for by hand, and leads no more: nobody need wait for
    its lease."""
    by_hand = register.reason not in {Reason.GIVEN_UP, Reason.FORCED} and not register.paused
    return view.me == register.leader and by_hand and view.engine.status in _NOT_LEADING


def _vacancy_wait_ms(view: View, register: Register) -> float:
    over_ms = 0.0 if register.reason == Reason.GIVEN_UP else _lease_over_ms(register)
    if view.me == register.leader:
        return over_ms + _LAST_LEADER_MS
    if register.switchover is not None:  # asked for by hand
        return over_ms + (0 if register.switchover.to == view.me else _WANTED_MS + _rank(view, register) * _TURN_MS)
    return over_ms + _rank(view, register) * _TURN_MS


def _lease_over_ms(register: Register) -> float:
    """After this, by one's own clock, a lease that was not renewed is over by the leader's."""
    return LeaseTimes.of(register.lease_ms).take_over_ms


def _claim(view: View, register: Register, reason: Reason, evidence: str) -> ChangeRegister:
    mine = register.but(
        epoch=_claimed(register), phase=Phase.LEADING, leader=view.me, copies=register.copies | {view.me},
        fork=view.engine.position, switchover=None, reason=reason.value,
        position=view.engine.position if _forced(register) else register.position,
    )  # fmt: skip
    return ChangeRegister(mine, view.revision, reason, evidence)


def _claimed(register: Register) -> int:
    """The epoch that a candidate would lead."""
    return register.epoch if register.phase is Phase.ELECTING else register.epoch + 1


def _eligible(view: View, register: Register) -> bool:
    position = view.engine.position
    if view.engine.status is not EngineStatus.STANDBY or position is None:
        return False
    if view.me in view.settings.nofailover or bound(view) > _claimed(register):
        return False
    if view.me not in register.copies:  # removed, and has not heard of it
        return False
    return _forced(register) or _lag(register, position) <= view.settings.maximum_lag_bytes


def _forced(register: Register) -> bool:
    """Somebody accepted a loss: one copy counts, however far behind it is, and no other."""
    return register.phase is Phase.ELECTING and register.reason == Reason.FORCED


def _lag(register: Register, position: Position) -> int:
    """Bytes behind the leader's last published position; an older timeline counts as far behind."""
    if register.position is None:
        return 0
    if position.timeline != register.position.timeline:
        return max(0, register.position.lsn - position.lsn) if position > register.position else 1 << 62
    return max(0, register.position.lsn - position.lsn)


def _rank(view: View, register: Register) -> int:
    """How many living candidates are ahead of this member."""
    mine = (view.engine.position, view.settings.priorities.get(view.me, 0), view.me)
    others = register.copies - {view.me, register.leader} - view.settings.nofailover
    ahead = 0
    for member in others:
        peer = view.peer(member)
        if peer.heard and peer.position:
            theirs = (Position.parse(peer.position), view.settings.priorities.get(member, 0), member)
            ahead += theirs > mine
    return ahead
