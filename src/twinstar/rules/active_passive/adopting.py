"""How a cluster goes on when its store has gone back to an older entry, or has lost it: by hand, under a fresh epoch.

What the store lost may have been a change of who counts and who leads. So nothing that it says of copies is built on:
one member's data count, alone, under an epoch above every promise and every timeline that is left.

**What it guarantees.** *Nothing acknowledged is lost* when every data node has answered and the one chosen is, of those
on the latest timeline, the leader that runs, or, where none runs, the most advanced. What earlier leaders acknowledged
is below that timeline's beginning; what its own leader acknowledged is in that leader's log, which is one of those that
answered, and what holds the greatest position holds what any of them holds (`docs/protocol.md`, "Why sealing is safe",
step 2). A leader of an earlier timeline that still runs, unaware, has nothing that counts. The chosen one is stopped
and sealed as in an election.

**What it does not.** Where somebody did not answer, or was passed over, what it alone holds is lost; that has to be
accepted. Two leaders at once can only be where somebody has told the store so behind the cluster's back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from twinstar.model.effects import Reason
from twinstar.model.position import Position
from twinstar.model.register import Durability, Phase, Register
from twinstar.rules.active_passive.operator import Refused


@dataclass(frozen=True, slots=True)
class Holding:
    """What a data node holds, as it says itself."""

    member: str
    answers: bool
    promise: int = 0
    position: Position | None = None
    leads: bool = False
    """Its database runs as a leader's."""
    system_identifier: str = ""

    @property
    def bound(self) -> int:
        return max(self.promise, self.position.timeline if self.position else 0)


@dataclass(frozen=True, slots=True)
class Adoption:
    register: Register
    chosen: str
    doubts: tuple[str, ...]
    """Why something could be lost; empty when nothing can."""


def adoption(
    register: Register | None,
    holdings: Sequence[Holding],
    durability: Durability,
    to: str | None = None,
    *,
    restored: bool = False,
) -> Adoption:
    """The register to go on with; `durability` where there is none. `restored`: it comes from a backup, so that changes
    within its own epoch may be missing as well. Raises Refused.
    """
    highest = max((each.bound for each in holdings), default=0)
    if register is not None and highest <= register.epoch and not restored:
        raise Refused(
            f"The store is at epoch {register.epoch} and nobody who answers has promised more: there is nothing to "
            "adopt. See `twinstar status`."
        )
    known = [each for each in holdings if each.answers and each.position is not None]
    if not known:
        raise Refused("No member says how far its log reaches: start the agents and databases first.")
    system = {each.system_identifier for each in known if each.system_identifier}
    if register is not None and register.system_identifier:
        system.add(register.system_identifier)
    if len(system) != 1:
        raise Refused(
            "The members' databases, or theirs and the store's entry, are not of one cluster: correct that first."
        )
    best = max(known, key=_worth)
    chosen = next((each for each in known if each.member == to), None) if to else best
    if chosen is None:
        raise Refused(f"{to} does not say how far its log reaches: name another one, or start it first.")
    epoch = max(highest, register.epoch if register else 0) + 1
    base = register or _nothing(chosen.member, system.pop(), durability)
    forced = base.but(
        epoch=epoch,
        phase=Phase.ELECTING,
        copies=frozenset({chosen.member}),
        required=0,
        switchover=None,
        reason=Reason.ADOPTED.value,
        evidence=f"adopted by hand with the data of {chosen.member}",
    )
    return Adoption(forced, chosen.member, tuple(_doubts(holdings, chosen, best)))


def _worth(holding: Holding) -> tuple[int, bool, Position, str]:
    position = holding.position or Position(0, 0)
    return position.timeline, holding.leads, position, holding.member


def _nothing(leader: str, system_identifier: str, durability: Durability) -> Register:
    return Register(
        epoch=0,
        phase=Phase.ELECTING,
        leader=leader,
        copies=frozenset({leader}),
        required=0,
        durability=durability,
        nonce="",
        system_identifier=system_identifier,
    )


def _doubts(holdings: Sequence[Holding], chosen: Holding, best: Holding) -> list[str]:
    doubts = [f"{each.member} does not answer" for each in holdings if not each.answers]
    doubts += [
        f"{each.member} does not say how far its log reaches"
        for each in holdings
        if each.answers and each.position is None and each.promise > 0
    ]
    if chosen != best:
        doubts.append(f"{best.member} {'leads' if best.leads else 'has more'} ({best.position})")
    return doubts
