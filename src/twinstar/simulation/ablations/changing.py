"""Safeguards of what people change while a cluster runs."""

from __future__ import annotations

from typing import Any

from twinstar.model.register import Durability, Register
from twinstar.model.view import View
from twinstar.simulation.ablations.swap import Ablation, Differs, Swap, altered, always, instead

_CHANGING = "Changing who must confirm"
_LEDGER = "twinstar.agent.ledger:Ledger"


async def _asks_for_no_lease(original: Any, differs: Differs, ledger: Any, wanted: Any) -> bool:
    """As before the change was known to have applied: nobody is bound by what it would bring."""
    asks = wanted.register.lease_ms and ledger.register is not None and not ledger.register.lease_ms
    if not asks:
        ours: bool = await original(ledger, wanted)
        return ours
    differs()
    ledger.changing = True
    try:
        done: bool = await ledger._change(wanted)
        return done
    finally:
        ledger.changing = False


def _known_here(own: frozenset[str], view: View, register: Register) -> frozenset[str]:
    """Whom this member's own configuration has."""
    return frozenset(view.settings.members) - view.settings.nofailover


CHANGING = (
    Ablation(
        "a new member counts when the others know it",
        _CHANGING,
        "a new member may lead as soon as the leader's configuration has it",
        (Swap("twinstar.rules.active_passive.attached:known", altered(_known_here)),),
        ("a stranger leads",),
    ),
    Ablation(
        "a lease binds who has asked for it",
        _CHANGING,
        "a leader that does not know whether it has its first lease goes on without",
        (Swap(f"{_LEDGER}.change", instead(_asks_for_no_lease)),),
        ("a lease in doubt",),
        turns=True,
    ),
    Ablation(
        "a loss is accepted when there is no other way",
        "Accepting a loss",
        "a loss is accepted although the copies answer with which nothing need be lost",
        (Swap("twinstar.rules.active_passive.operator:_answers", always(False)),),
        ("a needless loss",),
    ),
    Ablation(
        "an accepted loss is for one copy",
        "Accepting a loss",
        "whoever is near enough takes over by a lease when a loss was accepted for another one",
        (Swap("twinstar.rules.active_passive.lease:_forced", always(False)),),
        ("accepted loss",),
        durability=Durability.ASYNC,
    ),
)
