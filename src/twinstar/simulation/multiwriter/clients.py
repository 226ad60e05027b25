"""Clients: transactions of a few statements, on few keys and with few values, so that they meet."""

from __future__ import annotations

from random import Random

from twinstar.rules.active_active.state import Values
from twinstar.simulation.multiwriter.database import Ended, Steps
from twinstar.simulation.multiwriter.node import Node
from twinstar.simulation.multiwriter.plan import Plan
from twinstar.simulation.multiwriter.triggers import Session

_VALUES = 3
"""So many values has a unique key."""
_PRESENT, _ABSENT = (1, 12, 7), (16, 3, 1)
"""The weights of insertion, update and deletion when the row is there and when it is not; perhaps not any more then."""


class Workload:
    """What the clients of all nodes have still to do."""

    def __init__(self, plan: Plan, chance: Random) -> None:
        self._plan, self._chance = plan, chance
        self.left = plan.transactions
        self.open = 0
        self._texts = 0

    def client(self, node: Node) -> Steps[None]:
        """One transaction after the other."""
        while True:
            yield
            if self.left <= 0 or (self._plan.one_writer and node.number != 1):
                continue
            self.left -= 1
            self.open += 1
            try:
                yield from self._transaction(node)
            finally:
                self.open -= 1

    def _transaction(self, node: Node) -> Steps[None]:
        chance = self._chance
        session, transaction = node.session(repeatable=chance.random() < self._plan.repeatable)
        try:
            for _ in range(chance.randint(1, 4)):
                yield from self._statement(session)
                yield
            for _ in range(chance.choice((0, 0, 0, 30))):
                yield
            if chance.random() < 0.95:
                node.commit(transaction, session.sends)
        except Ended as why:
            node.seen(f"client: {why}")
        finally:
            transaction.roll_back()

    def _statement(self, session: Session) -> Steps[None]:
        chance, table = self._chance, self._plan.table
        key = f"k{chance.randint(1, self._plan.keys)}"
        amounts = tuple(chance.randint(-3, 9) for _ in range(table.counters))
        match chance.choices(("insert", "update", "delete"), _PRESENT if session.sees(key) else _ABSENT)[0]:
            case "insert":
                yield from session.insert(key, tuple(self._values(group) for group in range(table.groups)), amounts)
            case "delete":
                yield from session.delete(key)
            case _:
                groups = [group for group in range(table.groups) if chance.random() < 0.6]
                if not any(amounts):
                    amounts = (0,) * table.counters
                if groups or any(amounts):
                    changed = {group: self._values(group) for group in groups}
                    yield from session.update(key, changed, amounts if chance.random() < 0.6 else (0,) * len(amounts))

    def _values(self, group: int) -> Values:
        """A text that nobody else wrote; in the first group also what the unique keys hold."""
        self._texts += 1
        if group:
            return (self._texts,)
        chance = self._chance
        return (self._texts, *(chance.choice((None, *range(_VALUES))) for _ in range(self._plan.table.uniques)))
