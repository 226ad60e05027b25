"""Moves the register: claim, copy, mark, arrive. Stopped anywhere, it is begun again or, from the mark on, finished by
whoever sees it.

Two who move at once do the same: a claim is made anew only when the new store's decisive key has left the revision that
it was for, and then the old store has its mark.
"""

from __future__ import annotations

from collections.abc import Callable

from twinstar.model.errors import StoreUnavailable, UsageError
from twinstar.ports.randomness import Randomness
from twinstar.store.base import ABSENT, Applied, Unknown, Versioned
from twinstar.store.moving.papers import CLAIM, Claim, Mark, claim_in, mark_in
from twinstar.store.moving.places import Places, arrive, copy_rest

_TRIES = 10

Say = Callable[[str], None]
Objection = Callable[[bytes], str]
"""Why a register must not move as it is now; empty: it may."""


async def look(places: Places, objection: Objection) -> list[str]:
    """What a move would do, and nothing done. Raises UsageError when it could not, StoreUnavailable."""
    found = _movable(await places.old.read(places.decisive), objection)
    there = await places.new.read(places.decisive)
    _refuse_occupied(places, there)
    rest = [each.key for each in await places.old.read_all("") if each.key not in (places.decisive, CLAIM)]
    return [
        f"copy {len(rest)} keys to {places.name}",
        f"mark the register as moved, at revision {found.revision}",
        f"create it in {places.name}",
    ]


async def move(places: Places, objection: Objection, randomness: Randomness, say: Say) -> None:
    """Raises UsageError when it must not move (nothing has changed), StoreUnavailable when a store did not answer: then
    it has moved, or will, or not, and to call it again is safe.
    """
    found = await places.old.read(places.decisive)
    mark = mark_in(found)
    if mark is None:
        _movable(found, objection)
        claim = await _claim(places, randomness)
        say(f"copying to {places.name}")
        await copy_rest(places)
        mark = await _mark(places, claim, objection)
        say("the old store's register is marked as moved")
    await arrive(places, mark)
    say(f"the register is in {places.name}")


def _movable(found: Versioned | None, objection: Objection) -> Versioned:
    if found is None:
        raise UsageError("The store has no register of this cluster yet: there is nothing to move.")
    mark = mark_in(found)
    why = f"The register has moved to {mark.to} already." if mark else objection(found.value)
    if why:
        raise UsageError(why)
    return found


async def _claim(places: Places, randomness: Randomness) -> Claim:
    there = await places.new.read(places.decisive)
    _refuse_occupied(places, there)
    onto = there.revision if there else ABSENT
    found = await places.new.read(CLAIM)
    claim = claim_in(found)
    if claim is not None and claim.onto == onto:
        return claim
    claim = Claim(randomness.token(), onto)
    outcome = await places.new.compare_and_set(CLAIM, claim.encode(), found.revision if found else ABSENT)
    if isinstance(outcome, Applied):
        return claim
    raise StoreUnavailable(
        outcome.why if isinstance(outcome, Unknown) else "Somebody else is moving the register: look again."
    )


def _refuse_occupied(places: Places, there: Versioned | None) -> None:
    if there is not None and mark_in(there) is None:
        raise UsageError(
            f"{places.name} has a register of a cluster of this name: name another place in `next_store`, or remove it "
            "there if nobody needs it."
        )


async def _mark(places: Places, claim: Claim, objection: Objection) -> Mark:
    """On whatever the register is by then; a doubt ends when its revision has moved. Raises UsageError,
    StoreUnavailable.
    """
    for _ in range(_TRIES):
        found = await places.old.read(places.decisive)
        if mark := mark_in(found):
            return mark
        found = _movable(found, objection)
        mark = Mark(places.name, claim.token, found.value)
        outcome = await places.old.compare_and_set(places.decisive, mark.encode(), found.revision)
        if isinstance(outcome, Applied):
            return mark
    raise StoreUnavailable("The register could not be marked as moved: it changes all the time, or its store is slow.")
