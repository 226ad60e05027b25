"""From one durability to the other on a running cluster: the configuration says which, the leader takes the steps.

To `async`: the register first, so that no election counts on confirmations any more; only when that is known to have
applied nobody confirms, and the leader has a lease, counted from before the change was sent. It is bound by that lease
from then on, also while it does not know whether the change has applied: others may see it and take over. To `quorum`,
as when a leader comes back from alone: who must confirm is enforced and in effect, enough of them hold the log's end
that was read after that, and then the register says so; until then the lease goes on. (`docs/protocol.md`, "Changing
who must confirm".)
"""

from __future__ import annotations

from twinstar.model.effects import ChangeRegister, Reason
from twinstar.model.engine import Names
from twinstar.model.register import Durability, Register
from twinstar.model.view import View
from twinstar.rules.active_passive.attached import arrived, flushed
from twinstar.rules.active_passive.local import names_for


def to_async(view: View, register: Register) -> ChangeRegister | None:
    """The one step to `async`, when it is wanted; what has to be done in the engine follows from the register."""
    if view.settings.durability is not Durability.ASYNC or not _may_change(view, register) or view.primary is None:
        return None
    leased = register.but(
        durability=Durability.ASYNC, required=0, lease_ms=view.settings.lease_ms, renewals=0,
        position=view.primary.position, reason=Reason.DURABILITY.value,
    )  # fmt: skip
    return ChangeRegister(leased, view.revision, Reason.DURABILITY, "from quorum to async, as configured")


def under_lease(view: View, register: Register) -> tuple[Names, ChangeRegister | None]:
    """Whom a leader with a lease lets confirm (nobody, unless `quorum` is wanted), and the last step to `quorum`."""
    nobody = names_for(view, register)
    if view.settings.durability is Durability.ASYNC or register.paused or view.opened != register.epoch:
        return nobody, None
    voters, required = _voters_to_be(view, register), view.settings.required
    if view.settings.policy == "degrade":
        required = min(required, len(voters))
    if len(voters) < required:
        return nobody, None
    names = Names(register.epoch, voters, required) if required else nobody
    ready = view.enforced == names and len(flushed(view, register) & voters) >= required
    if not ready or not _may_change(view, register):
        return names, None
    confirmed = register.but(
        durability=Durability.QUORUM, copies=voters | {view.me}, required=required, lease_ms=0, renewals=0,
        position=None, reason=Reason.DURABILITY.value,
    )  # fmt: skip
    evidence = f"from async to quorum, as configured: {required} of {', '.join(sorted(voters)) or 'nobody'}"
    return names, ChangeRegister(confirmed, view.revision, Reason.DURABILITY, evidence)


def _voters_to_be(view: View, register: Register) -> frozenset[str]:
    """Who has arrived; who was let confirm already stays for a moment of absence."""
    chosen = view.enforced.voters if view.enforced else frozenset()
    patient = {m for m in chosen if view.absent_ms.get(m, 0.0) < view.settings.voter_removal_ms}
    return arrived(view, register) | patient


def _may_change(view: View, register: Register) -> bool:
    calm = register.switchover is None and not register.paused and view.opened == register.epoch
    return calm and view.settled and not view.changing
