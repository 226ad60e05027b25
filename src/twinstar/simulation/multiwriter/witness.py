"""Knows everything that was committed, and says in the end whether the nodes hold what they must.

1. All nodes are equal: rows with their stamps, and tombstones, as far as these are not forgotten.
2. They hold the join of everything that was sent: no more, no less, and not the same mistake everywhere.
3. Counters are exact: the sum of what acknowledged transactions added to the rows that count. The sums are taken from
   what the clients did, not from the contributions.
4. Nothing that was acknowledged is lost: each version is in its row, or a later write names it as what it replaced, or
   it is in a conflict log (perhaps in the dead member's alone). What a dead member committed and nobody has received is
   not there; up to where its log was received all agree.
5. A write makes new versions of what it wrote, and of nothing else.
6. A unique key takes away the version that lost, and nothing that was written over it.
7. Where one node alone takes writes nothing is ever in a conflict log.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from twinstar.rules.active_active.stamps import NONE
from twinstar.rules.active_active.state import State, join, nothing
from twinstar.simulation.multiwriter.node import Node
from twinstar.simulation.multiwriter.plan import Plan
from twinstar.simulation.multiwriter.stream import Burial, Contribution, Image, Sent


class Witness:
    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._log: list[Sent] = []
        self.commits = 0

    def sent(self, sent: Sent) -> None:
        self._log.append(sent)
        self.commits += 1

    def check(self, nodes: list[Node], dead: Node | None, *, quiet: bool, without_forgetting: bool) -> None:
        """`nodes`: who lives. Raises AssertionError."""
        assert quiet, "something is still on its way after a long peace"
        if dead is not None:
            ends = {node.number: node.ends[dead.number] for node in nodes}
            assert len(set(ends.values())) == 1, f"the log of dead node {dead.number} ends at {ends}"
        end = nodes[0].ends[dead.number] if dead is not None else 0
        sent = [each for each in self._log if dead is None or each.node != dead.number or each.position <= end]
        self._equal(nodes, without_forgetting)
        states = self._states(sent)
        rows = dict(nodes[0].database.read().items("rows"))
        for key, state in sorted(states.items()):
            row = rows.get(key)
            assert state.alive == (row is not None), f"{key}: expected {state}, here is {row}"
            if row is not None:
                assert (row.head, row.cells) == (state.head, state.cells), f"{key}: expected {state}, here is {row}"
                self._counted(key, row, sent)
        self._one_version_removed(sent)
        self._nothing_lost([*nodes, dead] if dead else nodes, sent, states)

    def _equal(self, nodes: list[Node], without_forgetting: bool) -> None:
        first, *others = nodes
        for node in others:
            for table in ("rows", "deleted") if without_forgetting else ("rows",):
                one, other = _content(first, table), _content(node, table)
                for key in sorted({*one, *other}):
                    here, there = one.get(key), other.get(key)
                    assert here == there, (
                        f"{table} {key}: node {first.number} has {here}, node {node.number} has {there}"
                    )

    def _states(self, sent: list[Sent]) -> dict[str, State]:
        states: dict[str, State] = {}
        for change in (change for each in sent for change in each.changes):
            if isinstance(change, Image | Burial):
                before = states.get(change.key, nothing(self._plan.table.groups))
                states[change.key] = join(before, change.delta)
        return states

    def _counted(self, key: str, row: Any, sent: list[Sent]) -> None:
        if not self._plan.table.counters:
            return
        sums = [0] * self._plan.table.counters
        for change in (change for each in sent for change in each.changes):
            if isinstance(change, Contribution) and change.key == key and change.born > row.head.base:
                sums = [before + added for before, added in zip(sums, change.added, strict=True)]
        assert row.sums == tuple(sums), f"counters of {key}: {tuple(sums)} was added, {row.sums} is there"

    def _one_version_removed(self, sent: list[Sent]) -> None:
        changes = [change for each in sent for change in each.changes]
        removed = {(each.key, each.lost): each.delta.tombstone for each in changes if isinstance(each, Burial)}
        for change in changes:
            if isinstance(change, Image) and change.replaced.last:
                over, now = max(change.replaced.last), change.delta.stamp
                by = removed.get((change.key, over), NONE)
                assert not over < now < by, f"{change.key}: the removal of {over} takes {now}, its successor, too"

    def _nothing_lost(self, nodes: list[Node], sent: list[Sent], states: dict[str, State]) -> None:
        named: set[tuple[str, int, int]] = set()
        logged: set[tuple[str, int, int]] = set()
        for change in (change for each in sent for change in each.changes):
            if isinstance(change, Image | Burial):
                named |= {(change.key, group, stamp) for group, stamp in enumerate(change.replaced.last)}
        for node in nodes:
            logged |= {at for at, _ in node.database.read().items("lost")}
        if self._plan.one_writer:
            assert not logged, f"one node alone takes writes, and these are conflicts: {sorted(logged)}"
        versions: dict[tuple[str, int, Any], int] = {}
        for change in (change for each in sent for change in each.changes):
            if isinstance(change, Image):
                state = states[change.key]
                for group, cell in enumerate(change.delta.cells):
                    # Clients write each text once.
                    first = versions.setdefault((change.key, group, cell.values), cell.stamp)
                    assert first == cell.stamp, f"{change.key}: what was written at {first} was sent as new"
                    there = state.alive and state.cells[group].stamp == cell.stamp
                    version = change.key, group, cell.stamp
                    assert there or version in named or version in logged, f"{version} is lost, and nobody knows"

    def figures(self, nodes: list[Node]) -> Counter[str]:
        """How often each interesting thing happened."""
        return sum((Counter(node.sometimes) for node in nodes), Counter())


def _content(node: Node, table: str) -> dict[str, Any]:
    """What a grave keeps counts in tables with groups, and as long as there is no row: that has all of it."""
    rows, found = (dict(node.database.read().items(name)) for name in ("rows", table))
    if table == "deleted":
        kept = {key: grave.kept if key not in rows and len(grave.kept) > 1 else () for key, grave in found.items()}
        return {key: (grave.stamp, kept[key]) for key, grave in found.items()}
    return {key: (row.head, row.cells, row.sums) for key, row in found.items()}
