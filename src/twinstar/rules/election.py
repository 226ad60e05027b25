"""Who may lead: the choice among sealed copies.

Theory. An acknowledged write is on at least k+1 members of M (the leader and k voters). If a set S of copies has
promised epoch e and stopped receiving, and |S| ≥ |M| − k, then S meets every set of k+1 members of M: at least one
member of S holds each write that was ever acknowledged, and no write can be acknowledged any more, because fewer than
k voters are left to confirm. Logs of one cluster are prefixes of one another along recorded timelines, so the one that
reaches furthest in S holds them all. A set that contains the last leader, stopped and sealed, is enough by itself: the
leader holds everything that it acknowledged. (`docs/protocol.md`, "Choice".)
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from itertools import combinations
from math import inf

from twinstar.model.position import Position
from twinstar.model.register import Register, Seal


def admissible(register: Register, sealed: Collection[str]) -> bool:
    """Whether the most advanced of these sealed copies holds every acknowledged write, and none can be added."""
    copies = register.copies.intersection(sealed)
    return len(copies) >= len(register.copies) - register.required or register.leader in copies


def choose(
    register: Register,
    seals: Mapping[str, Seal],
    alive: Collection[str],
    priorities: Mapping[str, float],
    wanted: str = "",
) -> Seal | None:
    """The copy to name for `register.epoch`, or None while no admissible set has a living winner.

    Any admissible subset of what was published will do; of their winners a living one is taken, the most advanced
    first. Priorities count only among equals, then names. `wanted` (by hand) is taken whenever it is such a winner.
    """
    priorities = {**priorities, wanted: inf}
    published = {m: s for m, s in seals.items() if m in register.copies and s.epoch == register.epoch and s.member == m}
    winners = {w.member: w for s in _subsets(published.values()) if (w := _winner(register, s, priorities))}
    living = [w for w in winners.values() if w.member in alive]
    return max(living, key=lambda s: (s.member == wanted, _rank(s, priorities)), default=None)


def _winner(register: Register, seals: tuple[Seal, ...], priorities: Mapping[str, float]) -> Seal | None:
    if not seals or not admissible(register, {s.member for s in seals}):
        return None
    return max(seals, key=lambda s: _rank(s, priorities))


def _rank(seal: Seal, priorities: Mapping[str, float]) -> tuple[Position, float, str]:
    return seal.position, priorities.get(seal.member, 0), seal.member


def _subsets(seals: Iterable[Seal]) -> Iterable[tuple[Seal, ...]]:
    everyone = tuple(seals)
    for size in range(1, len(everyone) + 1):
        yield from combinations(everyone, size)


def majority(members: int) -> int:
    """The smallest number that is more than half."""
    return members // 2 + 1
