"""When a member must not do anything: its disk, the store and the cluster do not belong together."""

from __future__ import annotations

from twinstar.model.effects import Plan, State, Stop
from twinstar.model.engine import EngineStatus
from twinstar.model.register import Phase
from twinstar.model.view import View
from twinstar.rules.active_passive.local import NO_COPY

_RUNNING = frozenset({EngineStatus.STANDBY, EngineStatus.PRIMARY, EngineStatus.STARTING})


def refusal(view: View) -> Plan | None:
    """A plan that does nothing and says why, or None when all fits together."""
    register = view.register
    if register is None:
        return _empty_store(view)
    mine = view.engine.system_identifier
    if register.system_identifier and mine and mine != register.system_identifier:
        return Plan(
            engine=Stop() if view.engine.status in _RUNNING else None,
            state=State.REFUSED,
            note=f"The data directory is another cluster's (system identifier {mine}, the register has "
            f"{register.system_identifier}): move it away, then run `twinstar reinit {view.me}`.",
        )
    if register.phase is Phase.BOOTSTRAPPING:
        return None
    timeline = view.engine.position.timeline if view.engine.position else 0
    allowed = register.epoch + 1 if _may_be_ahead(view) else register.epoch
    if max(view.promise - (allowed - register.epoch), timeline) > register.epoch:
        return Plan(
            state=State.REFUSED,
            note=f"This member has promised epoch {max(view.promise, timeline)}, the store says {register.epoch}: "
            "the store has gone back (restored from a backup?). Nothing is done; if this is the right store, run "
            "`twinstar store adopt`, which shows what each member holds before it does anything.",
        )
    return None


def _may_be_ahead(view: View) -> bool:
    """In a switchover leader and successor promise the next epoch before the register has it."""
    return view.handing_over


def _empty_store(view: View) -> Plan | None:
    if view.engine.status in NO_COPY or view.engine.nonce:
        return None
    return Plan(
        state=State.REFUSED,
        note="The store has no entry for this cluster, but this member has a database: is this the right store, and "
        "the right cluster name? Nothing is done; point the configuration at the store that has the register. If that "
        "is lost, run `twinstar store adopt`, which shows what each member holds before it does anything.",
    )
