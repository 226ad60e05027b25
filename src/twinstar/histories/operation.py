"""What one client asked for, when, and what it was told.

An operation takes effect, if it does, at one instant between its call and its answer. Without an answer nobody knows
whether it did, and it may still do so at any later time: such an operation stays open for ever. It is never guessed
to have failed; only what others read can tell.

*Earlier* means answered before the other was called. Equal times tell nothing about two clients; but a client that
goes on in the very instant in which it is answered, as virtual ones do, goes on after every answer of that instant.
(So it is assumed that nothing takes effect in the instant in which it is called.)
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

Moment = tuple[float, int]
"""A time in milliseconds, and a rank among the events of that time."""


class Kind(StrEnum):
    READ = "read"
    WRITE = "write"
    COMPARE_AND_SET = "compare-and-set"
    UNEQUAL = "unequal"
    """A compare-and-set whose answer was that the register holds something else: all it did was to see that."""
    APPEND = "append"


class Outcome(StrEnum):
    ACKNOWLEDGED = "acknowledged"
    FAILED = "failed"
    """Refused with an error: it took no effect, and never will."""
    UNKNOWN = "unknown"
    """No answer, or one that promises nothing: it may have taken effect, or may still do so."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of one client. Raises ValueError when its times cannot be."""

    client: int | str
    kind: Kind
    key: Hashable
    invoke_ms: float
    complete_ms: float = math.inf
    """When the client had its answer or gave up. What is unknown has no end, whatever stands here."""
    outcome: Outcome = Outcome.ACKNOWLEDGED
    value: Hashable = None
    """What was written, appended or read; of a list, all that was read, as a tuple."""
    expected: Hashable = None
    """What a compare-and-set asked the register to hold."""
    via: str = ""
    """Whom the client asked, for a reader's eyes."""

    def __post_init__(self) -> None:
        if self.complete_ms < self.invoke_ms:
            raise ValueError(f"{self} is answered before it is asked: take both times from one clock.")
        if self.outcome is Outcome.ACKNOWLEDGED and math.isinf(self.complete_ms):
            raise ValueError(f"{self} was acknowledged at no time: say when, or that its outcome is unknown.")

    @property
    def end_ms(self) -> float:
        """The last instant at which it can have taken effect."""
        return math.inf if self.outcome is Outcome.UNKNOWN else self.complete_ms

    def __str__(self) -> str:
        where = f" via {self.via}" if self.via else ""
        end = f"{self.complete_ms:g}" if math.isfinite(self.complete_ms) else "…"
        told = "" if self.outcome is Outcome.ACKNOWLEDGED else f", {self.outcome}"
        return f"client {self.client}'s {self._what()}{where} ({self.invoke_ms:g}–{end} ms{told})"

    def _what(self) -> str:
        match self.kind:
            case Kind.READ:
                return f"read of {_short(self.value)} from {self.key}"
            case Kind.COMPARE_AND_SET:
                return f"change of {self.key} from {self.expected} to {self.value}"
            case Kind.UNEQUAL:
                return f"vain change of {self.key} from {self.expected}"
            case _:
                return f"{self.kind} of {self.value} to {self.key}"


def _short(value: Hashable) -> str:
    """A long list by its length and its end."""
    if isinstance(value, tuple):
        shown = ", ".join(map(str, value[-3:]))
        return f"[… {shown}] ({len(value)} elements)" if len(value) > 3 else f"[{shown}]"
    return str(value)


def by_key(history: Iterable[Operation]) -> dict[Hashable, list[Operation]]:
    """Each key's operations. Linearizability is local: a history has it if each key's operations have it."""
    found: dict[Hashable, list[Operation]] = defaultdict(list)
    for operation in history:
        found[operation.key].append(operation)
    return found


def moments(operations: Sequence[Operation]) -> list[tuple[Moment, Moment]]:
    """(call, end) of each operation: one is earlier than another if its end is less than the other's call."""
    spans: list[tuple[Moment, Moment]] = [((0.0, 0), (0.0, 0))] * len(operations)
    last: dict[int | str, Moment] = {}
    for index in sorted(range(len(operations)), key=lambda i: (operations[i].invoke_ms, operations[i].complete_ms)):
        operation = operations[index]
        before = last.get(operation.client, (-math.inf, 0))
        call = (operation.invoke_ms, before[1] + 1 if before[0] == operation.invoke_ms else 0)
        end = (operation.end_ms, call[1] + 1 if operation.end_ms == operation.invoke_ms else 1)
        spans[index] = (call, end)
        last[operation.client] = end
    return spans
