"""Active-passive: what a member does next, given what it knows.

`decide` is the whole of it: a pure function from a `View` to a `Plan`. It is called again whenever something changes,
and must ask for the same effect as long as it is wanted: the agent leaves a running effect alone while the plan names
it, and cancels it when the plan names another one. Nothing here remembers anything.

Each case has a module: `bootstrap` (there is no database yet), `following` (another member leads), `leading` (this one
does), `electing` (nobody does), `lease` (durability `async`), `operator` (changes asked for by hand).
"""

from __future__ import annotations

from twinstar.model.effects import Plan, State
from twinstar.model.register import Durability, Phase
from twinstar.model.view import View
from twinstar.rules.active_passive.bootstrap import no_register, unfinished
from twinstar.rules.active_passive.electing import electing
from twinstar.rules.active_passive.following import following
from twinstar.rules.active_passive.leading import leading
from twinstar.rules.active_passive.lease import vacant
from twinstar.rules.active_passive.refusal import refusal


def decide(view: View) -> Plan:
    """The next effects of one member. Pure."""
    register = view.register
    if not view.register_seen:
        return Plan(state=State.WAITING, note="Waiting for the store: nothing is known about who leads.")
    refused = refusal(view)
    if refused is not None:
        return refused
    if register is None:
        return no_register(view)
    if register.phase is Phase.BOOTSTRAPPING:
        return unfinished(view, register)
    if register.phase is Phase.ELECTING:
        return vacant(view, register) if register.durability is Durability.ASYNC else electing(view, register)
    if register.leader == view.me:
        return leading(view, register)
    return following(view, register)


__all__ = ["decide"]
