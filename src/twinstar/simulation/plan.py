"""What a seed decides before anything happens: what kind of cluster it is, and how bad its day."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Literal

from twinstar.model.register import Durability

MEMBERS = range(2, 8)
"""How many members a plan may have."""
_TURNS = 0.15
_WITNESS = {2: 0.6}
"""How often clusters of a size have one; others rarely, since two copies are what it is there for."""
_WITNESS_ELSEWHERE = 0.06


class StoreKind(StrEnum):
    """Which coordination store is modelled."""

    EMBEDDED = "embedded"
    ETCD = "etcd"
    ZOOKEEPER = "zookeeper"
    KUBERNETES = "kubernetes"


_APART = {StoreKind.ZOOKEEPER: 0.1, StoreKind.KUBERNETES: 0.2}
"""Kinds that are drawn apart, instead of the one that is drawn with the rest: each below that number from 0 to 1."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What kind of cluster. Durations in milliseconds."""

    size: int = 3
    durability: Durability = Durability.QUORUM
    policy: Literal["block", "degrade"] = "block"
    store: StoreKind = StoreKind.EMBEDDED
    lease_ms: int = 2_000
    maximum_lag_bytes: int = 1 << 20
    voter_removal_ms: float = 10_000
    nofailover: frozenset[str] = frozenset()
    witness: bool = False
    """Whether there is a machine without a database."""
    faults: int = 10
    """How many faults a disaster has."""
    turns: bool = False
    """People change the durability on the way, to the other one and back."""
    aimed: frozenset[str] = frozenset()
    """Names of faults of which most of the day consists; none: of whatever the menu has."""

    @property
    def leased(self) -> bool:
        """Whether leadership is, or may come to be, by lease: then what leases do not bear must not happen."""
        return self.turns or self.durability is Durability.ASYNC

    @property
    def kind(self) -> str:
        """In short, as in `docs/found.md`: `q3` is three members with `quorum`, `a2d` two with `async` that degrade,
        `qa3` three that begin with `quorum` and are changed, `q2w` two with a witness.
        """
        other = {Durability.QUORUM: "a", Durability.ASYNC: "q"}[self.durability] if self.turns else ""
        rest = ("d" if self.policy == "degrade" else "") + ("w" if self.witness else "")
        return f"{self.durability[0]}{other}{self.size}{rest}"


@dataclass(frozen=True, slots=True)
class Wishes:
    """What of a plan is not left to the seed. None: the seed decides."""

    members: int | None = None
    durability: Durability | None = None
    store: StoreKind | None = None
    turns: bool | None = None


def draw(seed: int, wishes: Wishes = Wishes()) -> Plan:
    """The plan of a seed. A wish changes nothing but what it names; a durability that is wished stays."""
    chance = random.Random(f"plan {seed}")
    size = chance.choices((3, 5, 2, 4, 7), weights=(24, 6, 6, 3, 1))[0]
    plan = Plan(
        size=size,
        durability=Durability.ASYNC if chance.random() < 0.25 else Durability.QUORUM,
        policy="degrade" if chance.random() < 0.35 else "block",
        store=chance.choice((StoreKind.EMBEDDED, StoreKind.ETCD)),
        lease_ms=chance.choice((1_000, 2_000, 5_000)),
        maximum_lag_bytes=chance.choice((640, 6_400, 1 << 20)),
        voter_removal_ms=chance.choice((1_500, 10_000)),
        faults=chance.randint(3, 8),
        turns=chance.random() < _TURNS,
    )
    turns = False if wishes.turns is None and wishes.durability is not None else wishes.turns
    wished: dict[str, Any] = {
        "size": wishes.members, "durability": wishes.durability, "store": wishes.store, "turns": turns,
    }  # fmt: skip
    witness = _has_witness(seed, wishes.members or size)
    plan = replace(plan, witness=witness, store=_store_apart(seed) or plan.store)
    return replace(plan, **{name: value for name, value in wished.items() if value is not None})


def _has_witness(seed: int, size: int) -> bool:
    """Drawn apart, so that other days are what they were."""
    return random.Random(f"witness {seed}").random() < _WITNESS.get(size, _WITNESS_ELSEWHERE)


def _store_apart(seed: int) -> StoreKind | None:
    """As above."""
    drawn = random.Random(f"store {seed}").random()
    return next((kind for kind, below in _APART.items() if drawn < below), None)
