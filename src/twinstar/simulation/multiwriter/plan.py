"""What a seed decides before anything happens."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Table:
    """The table that all nodes write. Its first group has a text and the values of the unique keys."""

    groups: int = 1
    counters: int = 0
    uniques: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """Nodes, table and day. Times in the microseconds of the virtual clock, of which a step takes a few."""

    nodes: int = 3
    table: Table = Table()
    keys: int = 3
    transactions: int = 40
    """How many the clients of all nodes begin."""
    skew_us: int = 0
    repeatable: float = 0.0
    """The share of transactions with `repeatable read`."""
    cuts: float = 0.0
    crashes: float = 0.0
    jumps: float = 0.0
    obstacles: float = 0.0
    repeats: float = 0.0
    """The chance, at each step, that a link is cut, that a node crashes, that its clock jumps, that it cannot take in a
    key for a while; and, at each batch, that it comes again.
    """
    dies: bool = False
    """One of the nodes never comes back."""
    one_writer: bool = False
    """All clients are on one node: then there are no conflicts."""
    forgets: bool = False
    """Tombstones are collected."""

    @property
    def kind(self) -> str:
        """In short: nodes, groups, counters, unique keys, and what else."""
        table = f"{self.nodes}n{self.table.groups}g{self.table.counters}c{self.table.uniques}u"
        return table + "".join(
            letter for letter, there in (("d", self.dies), ("w", self.one_writer), ("f", self.forgets)) if there
        )


def draw(seed: int, nodes: int | None = None) -> Plan:
    """The plan of a seed. How many nodes may be wished for; that changes nothing else."""
    chance = random.Random(f"multiwriter {seed}")
    size = chance.choices((3, 2, 4, 5), weights=(16, 3, 3, 1))[0]
    plan = Plan(
        nodes=size,
        table=Table(chance.choice((1, 1, 2)), chance.choice((0, 1)), chance.choice((0, 0, 1, 2))),
        keys=chance.choice((1, 2, 3, 5, 8)),
        transactions=chance.randint(10, 60),
        skew_us=chance.choice((0, 30, 300, 3_000, 5_000_000)),
        repeatable=chance.choice((0.0, 0.0, 0.3)),
        cuts=chance.choice((0.0, 0.001, 0.005)),
        crashes=chance.choice((0.0, 0.0005, 0.002)),
        jumps=chance.choice((0.0, 0.0, 0.002)),
        obstacles=chance.choice((0.0, 0.0, 0.002)),
        repeats=chance.choice((0.0, 0.2)),
        dies=chance.random() < 0.2,
        one_writer=chance.random() < 0.15,
        forgets=chance.random() < 0.5,
    )
    if plan.forgets:  # what comes again after its tombstone was forgotten is back
        plan = replace(plan, repeats=0.0)
    if plan.one_writer:
        plan = replace(plan, obstacles=0.0, repeats=0.0)
    return plan if nodes is None else replace(plan, nodes=nodes)
