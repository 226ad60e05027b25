"""Lists that only grow: appends of values that differ, and reads of the whole list.

*Why lists* (Kingsbury & Alvaro, Elle, VLDB 2020): a read of a list shows every append before it, in order. So the order
of effects need not be searched, it is read off: every read must be the beginning of the longest one. What remains is
one sort:

    first element, reads of that one, second element, reads of two, …, last element seen, reads of all,
    acknowledged appends that nobody saw (any earlier place would have shown them to the reads behind it)

An append without an answer that nobody saw has no place: perhaps it never happens. The list is linearizable exactly if
nobody stands in front of one who was answered before it was called. (Elle goes on to transactions over several lists;
here each operation is a transaction of its own, and linearizability of each list is all there is to check.)

*Two orders.* `REAL_TIME` compares all clients: what reads of a leader promise. `SESSION` compares each client with
itself alone: it sees its own acknowledged appends and never less than before, which is what reads of standbys may
promise. That all reads begin alike is demanded in both.

*Lost* is an acknowledged append that the last read does not have. Without a read at the end nothing is known to be
lost.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from enum import StrEnum
from itertools import groupby

from twinstar.histories.operation import Kind, Moment, Operation, Outcome, by_key, moments
from twinstar.histories.verdict import Accepted, Anomaly, Fault, Refused


class Order(StrEnum):
    """Whose operations are compared in time."""

    REAL_TIME = "real-time"
    SESSION = "session"


def check_lists(history: Iterable[Operation], order: Order = Order.REAL_TIME) -> Accepted | Refused:
    """Whether each key's appends and reads are those of one list that only grows.

    Raises ValueError when one value is appended twice to a list, or for operations of other kinds.
    """
    keys = by_key(history)
    anomalies = tuple(anomaly for operations in keys.values() for anomaly in _List(operations, order).anomalies())
    return Refused(anomalies) if anomalies else Accepted(sum(map(len, keys.values())))


class _List:
    """The operations of one key."""

    def __init__(self, operations: Sequence[Operation], order: Order) -> None:
        self._key = operations[0].key
        self._spans = dict(zip(map(id, operations), moments(operations), strict=True))
        self._order = order
        self._reads = [o for o in operations if o.kind is Kind.READ and o.outcome is Outcome.ACKNOWLEDGED]
        self._writers = _writers(operations)
        self._longest = max(self._reads, key=lambda read: len(_elements(read)), default=None)

    def anomalies(self) -> Iterator[Anomaly]:
        if self._longest is None:
            return
        yield from self._strange(self._longest)
        contradiction = self._contradiction(self._longest)
        if contradiction:
            yield contradiction
        lost = list(self._lost()) if self._order is Order.REAL_TIME else []
        yield from lost
        if not contradiction:
            known = {anomaly.operations[0] for anomaly in lost}
            yield from self._out_of_order(_elements(self._longest), known)

    def _strange(self, longest: Operation) -> Iterator[Anomaly]:
        """Elements that no read may show. The longest stands for those that begin like it."""
        seen = dict.fromkeys(_elements(longest), longest)
        for read in self._reads:
            elements = _elements(read)
            if len(set(elements)) < len(elements):
                again = next(e for e in elements if elements.count(e) > 1)
                yield self._anomaly(Fault.TWICE, f"{read} has {again} more than once", read, *self._of(again))
                return
            if elements != _elements(longest)[: len(elements)]:
                seen |= dict.fromkeys(elements, read)
        for element, read in seen.items():
            writer = self._writers.get(element)
            if writer is None:
                yield self._anomaly(Fault.UNWRITTEN, f"{read} has {element}, which nobody appended", read)
            elif writer.outcome is Outcome.FAILED:
                yield self._anomaly(Fault.ABORTED, f"{read} has {element}, whose append was refused", read, writer)

    def _contradiction(self, longest: Operation) -> Anomaly | None:
        elements = _elements(longest)
        for read in self._reads:
            mine = _elements(read)
            if mine != elements[: len(mine)]:
                place = next(i for i, pair in enumerate(zip(mine, elements, strict=False)) if pair[0] != pair[1])
                one, other = mine[place], elements[place]
                said = f"{read} has {one} as number {place + 1}, but {longest} has {other} there"
                return self._anomaly(Fault.CONTRADICTION, said, read, longest, *self._of(one), *self._of(other))
        return None

    def _lost(self) -> Iterator[Anomaly]:
        last = max(self._reads, key=lambda read: read.invoke_ms)
        present = set(_elements(last))
        for value, writer in self._writers.items():
            acknowledged = writer.outcome is Outcome.ACKNOWLEDGED
            if acknowledged and writer.complete_ms < last.invoke_ms and value not in present:
                said = f"{writer} was acknowledged, but {last}, the last one, does not have it"
                yield self._anomaly(Fault.LOST, said, writer, last)

    def _out_of_order(self, elements: tuple[Hashable, ...], known: set[Operation]) -> Iterator[Anomaly]:
        """Who stands in front of one that was earlier; of each of those the first, `known` ones left out."""
        places = {element: number for number, element in enumerate(elements, 1)}
        placed = list(self._placed(places))
        groups = [placed]
        if self._order is Order.SESSION:
            placed.sort(key=lambda item: str(item[1].client))
            groups = [list(group) for _, group in groupby(placed, key=lambda item: item[1].client)]
        for group in groups:
            for operation, earlier in self._inversions(group):
                if earlier not in known:
                    known.add(earlier)
                    yield self._inversion(operation, earlier, earlier.value in places)

    def _placed(self, places: dict[Hashable, int]) -> Iterator[tuple[int, Operation]]:
        """Each operation that has a place, with it."""
        for read in self._reads:
            yield 2 * len(_elements(read)) + 1, read
        for value, writer in self._writers.items():
            if value in places:
                yield 2 * places[value], writer
            elif writer.outcome is Outcome.ACKNOWLEDGED:
                yield 2 * len(places) + 2, writer

    def _inversions(self, placed: Iterable[tuple[int, Operation]]) -> Iterator[tuple[Operation, Operation]]:
        """(operation, the first that ended before it was called and yet stands behind it)."""
        behind: tuple[Moment, Operation] | None = None
        ordered = sorted(placed, key=lambda item: -item[0])
        for _, group in groupby(ordered, key=lambda item: item[0]):
            members = [(self._spans[id(operation)], operation) for _, operation in group]
            for (call, _), operation in members:
                if behind and behind[0] < call:
                    yield operation, behind[1]
            (_, end), first = min(members, key=lambda member: member[0][1])
            if behind is None or end < behind[0]:
                behind = (end, first)

    def _inversion(self, operation: Operation, earlier: Operation, seen: bool) -> Anomaly:
        match operation.kind, earlier.kind:
            case Kind.READ, Kind.READ:
                fault, said = Fault.WENT_BACK, f"{operation} knows less than the earlier {earlier}"
            case Kind.READ, _:
                fault = Fault.STALE if seen else Fault.LOST
                said = f"{operation} lacks what was acknowledged before it began: {earlier}"
            case _, Kind.READ:
                fault, said = Fault.FUTURE, f"{earlier} has what was appended only after it: {operation}"
            case _:
                fault, said = Fault.DISORDER, f"{operation} stands in front of the earlier {earlier}"
        return self._anomaly(fault, said, operation, earlier)

    def _of(self, element: Hashable) -> tuple[Operation, ...]:
        writer = self._writers.get(element)
        return (writer,) if writer else ()

    def _anomaly(self, fault: Fault, said: str, *operations: Operation) -> Anomaly:
        return Anomaly(fault, self._key, f"{self._key}: {said}.", operations)


def _writers(operations: Iterable[Operation]) -> dict[Hashable, Operation]:
    """Who appended each value."""
    found: dict[Hashable, Operation] = {}
    for operation in operations:
        if operation.kind is Kind.READ:
            continue
        if operation.kind is not Kind.APPEND:
            raise ValueError(f"{operation} belongs to a register: check_registers judges it.")
        if operation.value in found:
            raise ValueError(f"{operation.value} is appended twice to {operation.key}: append values that differ.")
        found[operation.value] = operation
    return found


def _elements(read: Operation) -> tuple[Hashable, ...]:
    if not isinstance(read.value, tuple):
        raise ValueError(f"{read} is a read of a list: its value is the tuple of all elements.")
    return read.value
