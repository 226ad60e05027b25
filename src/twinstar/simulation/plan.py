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


class StoreKind(StrEnum):
    """Which coordination store is modelled."""

    EMBEDDED = "embedded"
    ETCD = "etcd"


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
        `qa3` three that begin with `quorum` and are changed.
        """
        other = {Durability.QUORUM: "a", Durability.ASYNC: "q"}[self.durability] if self.turns else ""
        return f"{self.durability[0]}{other}{self.size}{'d' if self.policy == 'degrade' else ''}"


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
        store=chance.choice(list(StoreKind)),
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
    return replace(plan, **{name: value for name, value in wished.items() if value is not None})
