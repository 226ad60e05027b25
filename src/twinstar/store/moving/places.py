"""The two stores between which a register moves, and the last step of a move, which everybody may take."""

from __future__ import annotations

from dataclasses import dataclass

from twinstar.model.errors import StoreUnavailable
from twinstar.store.base import ABSENT, Store, Unknown
from twinstar.store.moving.papers import CLAIM, Mark, claim_in, mark_in


@dataclass(frozen=True, slots=True)
class Places:
    old: Store
    new: Store
    decisive: str
    """The key whose compare-and-set decides everything in this cluster."""
    name: str
    """Of the new store, for people."""


async def arrive(places: Places, mark: Mark) -> None:
    """Sees to it that what the mark holds is in the new store, or has been. May be done by any number at once, again,
    and late: what is written is always the same, and onto the same revision. Raises StoreUnavailable.
    """
    claim = claim_in(await places.new.read(CLAIM))
    if claim is None or claim.token != mark.token:
        raise StoreUnavailable(
            f"The register has moved to {mark.to}, and {places.name} is not where it went, or has lost its data since: "
            "correct `next_store`, or give that store its data back."
        )
    found = await places.new.read(places.decisive)
    if (found.revision if found else ABSENT) != claim.onto:
        return
    await copy_rest(places)
    outcome = await places.new.compare_and_set(places.decisive, mark.was, claim.onto)
    if isinstance(outcome, Unknown):
        raise StoreUnavailable(f"{places.name} has not said whether it has the register now: {outcome.why}")


async def has_arrived(places: Places) -> bool:
    """Whether the register that was claimed for is there: nobody puts one onto the claimed revision but `arrive`, after
    the mark was written. Raises StoreUnavailable.
    """
    claim = claim_in(await places.new.read(CLAIM))
    found = await places.new.read(places.decisive)
    return claim is not None and found is not None and found.revision != claim.onto and mark_in(found) is None


async def copy_rest(places: Places) -> int:
    """What nothing rests on any more (the history, seals up to this epoch; there are none of a later one while somebody
    leads and nobody hands over): what the new store lacks. Returns how many keys. Raises StoreUnavailable.
    """
    there = {each.key for each in await places.new.read_all("")}
    missing = [each for each in await places.old.read_all("") if each.key not in there | {places.decisive, CLAIM}]
    for each in missing:
        outcome = await places.new.compare_and_set(each.key, each.value, ABSENT)
        if isinstance(outcome, Unknown):
            raise StoreUnavailable(f"{places.name} has not said whether it has {each.key}: {outcome.why}")
    return len(missing)
