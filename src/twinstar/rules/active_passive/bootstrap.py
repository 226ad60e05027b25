"""The first database of a cluster.

The register is created in phase `bootstrapping`, create-only, so that exactly one member makes the database; its nonce
is written beside the data directory before anything else, so that a crash at any moment is resumed by doing it again,
and never taken for somebody else's database. (`docs/protocol.md`, "Bootstrap".)
"""

from __future__ import annotations

from twinstar.model.effects import Bootstrap, ChangeRegister, Plan, Reason, State
from twinstar.model.register import Durability, Phase, Register
from twinstar.model.view import View

_TURN_MS = 2_000
_ABANDONED_MS = 60_000


def no_register(view: View) -> Plan:
    """Nobody has begun: the first eligible member does, once all others were seen without a database."""
    others = [m for m in view.settings.members if m != view.me]
    owners = [m for m in others if view.peer(m).has_data]
    if owners:
        return Plan(note=f"The store is empty, but {', '.join(owners)} has a database: waiting, nothing is made.")
    unseen = [m for m in others if view.peer(m).has_data is None]
    if unseen and view.up_ms < view.settings.start_grace_ms:
        return Plan(note=f"Waiting to see whether {', '.join(unseen)} has a database.")
    eligible = [m for m in view.settings.members if m not in view.settings.nofailover]
    if view.me not in eligible or view.up_ms < eligible.index(view.me) * _TURN_MS:
        return Plan(note="Waiting for another member to make the database.")
    return Plan(change=_begin(view), state=State.BOOTSTRAPPING)


def unfinished(view: View, register: Register) -> Plan:
    """Somebody has begun: its owner makes the database and then leads epoch 1."""
    if register.leader != view.me:
        abandoned = view.peer(register.leader).silent and view.register_age_ms > _ABANDONED_MS
        change = _begin(view) if abandoned and view.me not in view.settings.nofailover else None
        return Plan(change=change, note=f"{register.leader} is making the database.")
    if not view.bootstrapped:
        return Plan(engine=Bootstrap(register.nonce), state=State.BOOTSTRAPPING, soon=True)
    first = register.but(
        epoch=1,
        phase=Phase.LEADING,
        system_identifier=view.bootstrapped,
        copies=frozenset({view.me}),
        required=0,
        reason=Reason.BOOTSTRAP.value,
    )
    change = ChangeRegister(first, view.revision, Reason.BOOTSTRAP, "the database is made")
    return Plan(change=change, state=State.BOOTSTRAPPING, soon=True)


def _begin(view: View) -> ChangeRegister:
    register = Register(
        epoch=0,
        phase=Phase.BOOTSTRAPPING,
        leader=view.me,
        copies=frozenset({view.me}),
        required=0,
        durability=view.settings.durability,
        nonce="",
        lease_ms=view.settings.lease_ms if view.settings.durability is Durability.ASYNC else 0,
        reason=Reason.BOOTSTRAP.value,
    )
    return ChangeRegister(register, view.revision, Reason.BOOTSTRAP, "the store was empty")
