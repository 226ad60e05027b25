"""A database as far as the rules depend on it: snapshots, locks, and transactions whose steps interleave.

`read committed` as PostgreSQL has it: each statement sees what was committed when it began (`Transaction.view`), and a
row that it had to wait for as it is after the wait (`Transaction.current`), as long as that is a later version of the
same row (`Row.chain`: what was deleted and made anew is another one). `repeatable read` sees one snapshot, and fails
where that is not enough. A sequence (`Database.floor`) has no versions.

A transaction is a generator: between two `yield`s it is alone, at each of them others may go on. Who waits for a lock
in a circle is ended, as a deadlock.
"""

from __future__ import annotations

from collections.abc import Generator, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from twinstar.rules.active_active.stamps import NONE
from twinstar.rules.active_active.state import Cell, Count, Head, State, Tombstone

Answer = TypeVar("Answer")
Steps = Generator[None, None, Answer]
Resource = tuple[Hashable, ...]

_GONE = object()


class Ended(Exception):
    """The transaction cannot go on, and what it did is undone."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the users' table. `sums`: its counters, as users read them."""

    chain: int
    head: Head
    cells: tuple[Cell, ...]
    sums: tuple[int, ...] | None

    @property
    def stamp(self) -> int:
        return self.head.stamp

    @property
    def claims(self) -> list[Resource]:
        """The values of its unique keys: what stands behind the first column of the first group."""
        values: Any = self.cells[0].values
        return [("unique", at, value) for at, value in enumerate(values[1:]) if value is not None]


@dataclass(frozen=True, slots=True)
class Grave:
    """A row of the table of tombstones."""

    tombstone: Tombstone
    kept: tuple[Cell, ...]

    @property
    def stamp(self) -> int:
        return self.tombstone.stamp


@dataclass(slots=True)
class View:
    """What one statement sees: a snapshot, and what its own transaction has done."""

    snapshot: Mapping[str, Mapping[Any, Any]]
    own: Mapping[tuple[str, Any], Any]

    def get(self, table: str, key: Any) -> Any:
        """None: there is none."""
        if (table, key) in self.own:
            found = self.own[table, key]
            return None if found is _GONE else found
        return self.snapshot.get(table, {}).get(key)

    def items(self, table: str) -> Iterator[tuple[Any, Any]]:
        for key, value in self.snapshot.get(table, {}).items():
            if (table, key) not in self.own:
                yield key, value
        for (name, key), value in self.own.items():
            if name == table and value is not _GONE:
                yield key, value

    def counts(self, key: str) -> dict[tuple[int, int], Count]:
        """The contributions to a key."""
        return {(born, node): count for (of, born, node), count in self.items("counted") if of == key}

    def state(self, key: str, groups: int) -> State:
        """All that is known of a key."""
        row, grave = self.get("rows", key), self.get("deleted", key)
        cells = row.cells if row else grave.kept if grave else (Cell(NONE),) * groups
        return State(cells, row and row.head, grave and grave.tombstone, self.counts(key))


@dataclass(slots=True)
class Database:
    """One node's. `committed` is replaced, never changed, so that a snapshot is a reference to it."""

    committed: dict[str, dict[Any, Any]] = field(default_factory=dict)
    floor: int = NONE
    locks: dict[Resource, dict[Transaction, bool]] = field(default_factory=dict)
    """Resource -> who holds it, and whether shared."""
    waiting: dict[Transaction, tuple[Resource, bool]] = field(default_factory=dict)
    open: list[Transaction] = field(default_factory=list)
    chains: int = 0

    def begin(self, *, repeatable: bool = False) -> Transaction:
        transaction = Transaction(self, self.committed if repeatable else None)
        self.open.append(transaction)
        return transaction

    def read(self) -> View:
        return View(self.committed, {})

    def next_chain(self) -> int:
        self.chains += 1
        return self.chains

    def blockers(self, asking: Transaction, resource: Resource, shared: bool) -> list[Transaction]:
        holders = self.locks.get(resource, {})
        return [each for each, theirs in holders.items() if each is not asking and not (shared and theirs)]

    def in_a_circle(self, start: Transaction) -> bool:
        seen: set[int] = set()
        ahead = [start]
        while ahead:
            each = ahead.pop()
            if each not in self.waiting:
                continue
            for blocker in self.blockers(each, *self.waiting[each]):
                if blocker is start:
                    return True
                if id(blocker) not in seen:
                    seen.add(id(blocker))
                    ahead.append(blocker)
        return False

    def crash(self) -> None:
        """Everything that was not committed is gone."""
        for transaction in list(self.open):
            transaction.roll_back()


class Transaction:
    """One transaction of one session."""

    def __init__(self, database: Database, snapshot: dict[str, dict[Any, Any]] | None) -> None:
        self.database = database
        self.repeatable = snapshot is not None
        self._snapshot = snapshot
        self.own: dict[tuple[str, Any], Any] = {}
        self._held: dict[Resource, bool] = {}
        self._over = False

    def view(self) -> View:
        """Begins a statement."""
        return View(self._snapshot if self._snapshot is not None else self.database.committed, self.own)

    def current(self, table: str, key: Any) -> Any:
        """The newest version of a row that is locked. Raises Ended when the snapshot does not have it."""
        newest = View(self.database.committed, self.own).get(table, key)
        if self.repeatable and newest != self.view().get(table, key):
            raise Ended("could not serialize access")
        return newest

    def newest(self) -> View:
        """What the indexes know, whatever the snapshot."""
        return View(self.database.committed, self.own)

    def put(self, table: str, key: Any, value: Any) -> None:
        self.own[table, key] = value

    def remove(self, table: str, key: Any) -> None:
        self.own[table, key] = _GONE

    def lock(self, resource: Resource, *, shared: bool = False) -> Steps[None]:
        """Waits for it; held until the end. Raises Ended."""
        if self._held.get(resource) is False or (resource in self._held and shared):
            return
        while self.database.blockers(self, resource, shared):
            self.database.waiting[self] = resource, shared
            if self.database.in_a_circle(self):
                raise Ended("deadlock")
            yield
            if self._over:
                raise Ended("the server went down")
        self.database.waiting.pop(self, None)
        self.database.locks.setdefault(resource, {})[self] = shared
        self._held[resource] = shared

    def try_lock(self, resource: Resource) -> bool:
        """Takes it when that is possible at once."""
        if self.database.blockers(self, resource, shared=False):
            return False
        self.database.locks.setdefault(resource, {})[self] = False
        self._held[resource] = False
        return True

    def release(self, resource: Resource) -> None:
        """An insertion that found something in its way holds nothing."""
        if self._held.pop(resource, None) is not None:
            self.database.locks[resource].pop(self)

    def holds(self, resource: Resource) -> bool:
        return resource in self._held

    def commit(self) -> None:
        """Raises Ended when the server went down meanwhile."""
        if self._over:
            raise Ended("the server went down")
        committed = dict(self.database.committed)
        copied: set[str] = set()
        for (table, key), value in self.own.items():
            if table not in copied:
                copied.add(table)
                committed[table] = dict(committed.get(table, {}))
            if value is _GONE:
                committed[table].pop(key, None)
            else:
                committed[table][key] = value
        self.database.committed = committed
        self._end()

    def roll_back(self) -> None:
        self._end()

    def _end(self) -> None:
        if self._over:
            return
        self._over = True
        for resource in self._held:
            self.database.locks[resource].pop(self)
        self._held.clear()
        self.database.waiting.pop(self, None)
        self.database.open.remove(self)
