"""Linearizability of registers: is there one order of all operations that explains every answer?

*The condition* (Herlihy & Wing 1990): each operation takes effect at one instant between its call and its answer, and
each answer is right for the order of those instants. It is local: every key is judged by itself (the simplest case of
P-compositionality, Horn & Kroening 2015), which is what makes the check quick.

*The search* is that of Wing & Gong (1993) with Lowe's (2017) memory of what was already tried and his just-in-time
order: calls and answers are gone through in time, and no operation takes effect before some answer demands it. That is
enough: effects moved right, up to the next answer, remain in their order. What is carried along is the set of all
*worlds* that explain every answer so far: the register's value, and which of the open operations have taken effect.
Where it becomes empty, the answer at hand cannot be explained.

*Worlds that need not be looked at*, since another one allows all that they allow:
* an open read whose value is there takes effect at once;
* a write that nobody open waits to see need not become visible: it has taken effect just before any other write.
  Such a write is *covered*: at its answer it either was never seen, or is the register's value now;
* an operation without an answer takes effect only if somebody open waits to see it; of those whose value nobody ever
  asks for, any one does for a compare-and-set that was refused, so that the first is enough;
* of two worlds that differ only in what without an answer has taken effect, the one where less of it has.

So neither many writes at once nor any number of unknown ones make the search grow, as long as written values differ.
The general problem is NP-complete (Gibbons & Korach 1997): after `worlds` steps for a key it is given up, and said so.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import NamedTuple

from twinstar.histories.operation import Kind, Operation, Outcome, by_key, moments
from twinstar.histories.verdict import Accepted, Anomaly, Fault, Refused, Undecided, Verdict

WORLDS = 200_000
"""Some seconds for one key."""

_OBSERVERS = (Kind.READ, Kind.UNEQUAL)


class _World(NamedTuple):
    value: Hashable
    done: frozenset[int]
    """Open operations that have taken effect."""
    covered: frozenset[int]
    """Open writes that may have taken effect, and been overwritten unseen."""


class _TooManyError(Exception):
    """The bound is reached."""


def check_registers(history: Iterable[Operation], initial: Hashable = None, worlds: int = WORLDS) -> Verdict:
    """Whether the reads, writes and compare-and-sets of each key are linearizable; `initial`: what every key held.

    Each key's first impossible answer is named. Raises ValueError for operations of other kinds.
    """
    keys = by_key(history)
    anomalies, undecided = [], []
    for key, operations in keys.items():
        try:
            found = _Search(operations, initial, worlds).anomaly()
        except _TooManyError:
            undecided.append(key)
            continue
        if found:
            anomalies.append(found)
    if anomalies:
        return Refused(tuple(anomalies))
    return Undecided(tuple(undecided), worlds) if undecided else Accepted(sum(map(len, keys.values())))


class _Search:
    """The worlds of one key, from call to answer to call."""

    def __init__(self, operations: Sequence[Operation], initial: Hashable, bound: int) -> None:
        self._all = operations
        self._operations = [operation for operation in operations if _counts(operation)]
        self._initial = initial
        self._left = bound
        self._asked_for = Counter(_asks_for(operation) for operation in self._operations)
        self._open: set[int] = set()
        self._worlds = {_World(initial, frozenset(), frozenset())}

    def anomaly(self) -> Anomaly | None:
        """The first answer that nothing explains. Raises _TooManyError."""
        for index, ends in self._events():
            if not ends:
                self._open.add(index)
                self._worlds = {self._seen(world, {index}) for world in self._worlds}
            elif index in self._open:
                explained = {after for world in self._worlds for after in self._until(world, index)}
                if not explained:
                    return self._impossible(self._operations[index])
                self._worlds = explained
            self._forget()
        return None

    def _events(self) -> Iterator[tuple[int, bool]]:
        """Calls, and the answers that come at all (True), in time; at equal times calls first."""
        spans = moments(self._operations)
        events = [(call, False, index) for index, (call, _) in enumerate(spans)]
        events += [(end, True, index) for index, (_, end) in enumerate(spans) if math.isfinite(end[0])]
        return ((index, ends) for _, ends, index in sorted(events))

    def _forget(self) -> None:
        """What has taken effect in every world is over; worlds that used up more than others for the same are left."""
        over = frozenset.intersection(*(world.done for world in self._worlds))
        self._open -= over
        self._asked_for.subtract(_asks_for(self._operations[i]) for i in over)
        alike: dict[_World, list[frozenset[int]]] = defaultdict(list)
        for world in self._worlds:
            left = world.done - over
            used = frozenset(i for i in left if not self._ends(i))
            alike[world._replace(done=left - used)].append(used)
        self._worlds = {
            world._replace(done=world.done | used)
            for world, options in alike.items()
            for used in options
            if not any(other < used for other in options)
        }

    def _until(self, world: _World, index: int) -> Iterator[_World]:
        """Every world in which `index` has taken effect, last or unseen."""
        tried, todo = {world}, [world]
        while todo:
            here = todo.pop()
            self._left -= 1
            if self._left < 0:
                raise _TooManyError
            if index in here.done or index in here.covered:
                yield here._replace(done=here.done | {index}, covered=here.covered - {index})
            if index not in here.done:
                following = {self._after(here, other) for other in self._useful(here, index)} - tried
                tried |= following
                todo += following

    def _useful(self, world: _World, index: int) -> Iterator[int]:
        """Open operations that may take effect next, to some use."""
        waiting = self._open - world.done
        sought = [self._operations[i] for i in waiting]
        values = {o.value for o in sought if o.kind is Kind.READ}
        values |= {o.expected for o in sought if o.kind is Kind.COMPARE_AND_SET}
        not_values = [o.expected for o in sought if o.kind is Kind.UNEQUAL]
        anybody = min((i for i in waiting if self._is_anybody(i)), default=None)
        for other in waiting:
            if other != anybody and self._is_anybody(other):
                continue
            operation = self._operations[other]
            wanted = operation.value in values or any(operation.value != value for value in not_values)
            if operation.kind is Kind.WRITE and (wanted or other == index):
                yield other
            must = operation.outcome is Outcome.ACKNOWLEDGED
            if operation.kind is Kind.COMPARE_AND_SET and operation.expected == world.value and (wanted or must):
                yield other

    def _after(self, world: _World, index: int) -> _World:
        """The world once the write or compare-and-set `index` has taken effect."""
        done, covered = world.done | {index}, world.covered
        if self._operations[index].kind is Kind.WRITE:
            covered |= {i for i in self._open if self._operations[i].kind is Kind.WRITE and self._ends(i)}
        return self._seen(_World(self._operations[index].value, done, covered - done), self._open - done)

    def _is_anybody(self, index: int) -> bool:
        """A write without an answer, whose value nobody will ask for: one is as good as another."""
        operation = self._operations[index]
        return operation.kind is Kind.WRITE and not self._ends(index) and not self._asked_for[operation.value]

    def _ends(self, index: int) -> bool:
        return self._operations[index].outcome is Outcome.ACKNOWLEDGED

    def _seen(self, world: _World, waiting: Iterable[int]) -> _World:
        """Who of those waits to see this value sees it."""
        seen = {i for i in waiting if _sees(self._operations[i], world.value)}
        return world._replace(done=world.done | seen) if seen else world

    def _impossible(self, operation: Operation) -> Anomaly:
        held = sorted({world.value for world in self._worlds}, key=repr)
        could = " or ".join(map(str, held))
        blamed = tuple(o for o in self._all if _changes(o) and o.value in held and o is not operation)
        if operation.kind is Kind.READ:
            return self._impossible_read(operation, could, blamed)
        if operation.kind is Kind.UNEQUAL:
            fault, why = Fault.REFUSED, "yet it held nothing else all the while"
        else:
            fault, why = Fault.RIVALS, f"yet it can have held nothing but {could}"
        return self._anomaly(fault, operation, why, blamed)

    def _impossible_read(self, read: Operation, could: str, blamed: tuple[Operation, ...]) -> Anomaly:
        writers = tuple(o for o in self._all if _writes(o) and o.value == read.value)
        possible = tuple(o for o in writers if _changes(o))
        if read.value != self._initial and not possible:
            fault = Fault.ABORTED if writers else Fault.UNWRITTEN
            why = "yet that write was refused" if writers else "yet nobody wrote that"
            return self._anomaly(fault, read, why, writers)
        if read.value != self._initial and all(o.invoke_ms > read.complete_ms for o in possible):
            return self._anomaly(Fault.FUTURE, read, "yet that was written only later", possible)
        why = f"yet it can have held nothing but {could} by then"
        return self._anomaly(Fault.STALE, read, why, possible + blamed)

    def _anomaly(self, fault: Fault, operation: Operation, why: str, others: tuple[Operation, ...]) -> Anomaly:
        named = "".join(f"\n  {other}" for other in others)
        key = operation.key
        return Anomaly(fault, key, f"{key}: {operation}, {why}{':' if named else '.'}{named}", (operation, *others))


def _counts(operation: Operation) -> bool:
    """Whether it can have had an effect, or saw something."""
    if operation.kind is Kind.APPEND:
        raise ValueError(f"{operation} belongs to a list: check_lists judges it.")
    if operation.kind in _OBSERVERS:
        return operation.outcome is Outcome.ACKNOWLEDGED
    return operation.outcome is not Outcome.FAILED


def _writes(operation: Operation) -> bool:
    return operation.kind in (Kind.WRITE, Kind.COMPARE_AND_SET)


def _changes(operation: Operation) -> bool:
    return _writes(operation) and operation.outcome is not Outcome.FAILED


def _asks_for(operation: Operation) -> Hashable:
    """The value that makes a difference to it."""
    return operation.value if operation.kind is Kind.READ else operation.expected


def _sees(operation: Operation, value: Hashable) -> bool:
    if operation.kind is Kind.READ:
        return operation.value == value
    return operation.kind is Kind.UNEQUAL and operation.expected != value
