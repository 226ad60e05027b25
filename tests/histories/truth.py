"""The slow truth: every order of a handful of operations is tried. And histories of a thing that is right."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace

from twinstar.histories.operation import Kind, Operation, Outcome

Apply = Callable[[Hashable, Operation], tuple[bool, Hashable]]
"""(whether the answer is right for this state, the state afterwards)."""


def register(state: Hashable, operation: Operation) -> tuple[bool, Hashable]:
    match operation.kind:
        case Kind.READ:
            return state == operation.value, state
        case Kind.WRITE:
            return True, operation.value
        case Kind.COMPARE_AND_SET:
            return state == operation.expected, operation.value
        case _:
            return state != operation.expected, state


def growing_list(state: Hashable, operation: Operation) -> tuple[bool, Hashable]:
    assert isinstance(state, tuple)
    if operation.kind is Kind.READ:
        return state == operation.value, state
    return True, (*state, operation.value)


def linearizable(history: Sequence[Operation], apply: Apply, initial: Hashable) -> bool:
    """By trying every order, with and without each operation of unknown outcome."""
    counted = [o for o in history if o.outcome is Outcome.ACKNOWLEDGED or _perhaps(o)]

    def fits(state: Hashable, left: frozenset[int]) -> bool:
        if all(counted[i].outcome is Outcome.UNKNOWN for i in left):
            return True
        for i in left:
            if any(counted[j].end_ms < counted[i].invoke_ms for j in left):
                continue
            right, after = apply(state, counted[i])
            if right and fits(after, left - {i}):
                return True
        return False

    return fits(initial, frozenset(range(len(counted))))


def _perhaps(operation: Operation) -> bool:
    return operation.outcome is Outcome.UNKNOWN and operation.kind not in (Kind.READ, Kind.UNEQUAL)


def atomic(
    chance: random.Random, apply: Apply, initial: Hashable, count: int, kinds: Sequence[Kind]
) -> list[Operation]:
    """What clients of an atomic thing were told: each operation takes effect at one instant, unknown ones perhaps,
    and perhaps long after their client has given up. Written values differ."""
    calls: list[tuple[float, Operation]] = []
    for client in range(chance.randint(1, 6)):
        now = chance.random()
        while len(calls) < count * (client + 1) / 3:
            effect, end = sorted((chance.uniform(0, 9), chance.uniform(0, 9)))
            outcome = chance.choices(list(Outcome), (16, 1, 3))[0]
            if outcome is Outcome.UNKNOWN:
                effect = chance.choice((effect, chance.uniform(0, 200), math.inf))
            calls.append(
                (now + effect, Operation(client, chance.choice(kinds), "x", now, now + end, outcome, len(calls)))
            )
            now += end + chance.uniform(0.001, 3)
    history, states = [], [initial]
    for at, operation in sorted(calls, key=lambda call: call[0]):
        happens = operation.outcome is not Outcome.FAILED and math.isfinite(at)
        # A compare-and-set expects one of the last values, and meets it once in a while.
        told = (
            replace(operation, expected=chance.choice(states[-3:]))
            if operation.kind is Kind.COMPARE_AND_SET
            else operation
        )
        if happens and operation.kind is Kind.READ:
            told = replace(told, value=states[-1])
        elif happens and told.kind is Kind.COMPARE_AND_SET and told.expected != states[-1]:
            told = replace(told, kind=Kind.UNEQUAL)
        elif happens:
            states.append(apply(states[-1], told)[1])
        history.append(told)
    return sorted(history, key=lambda operation: operation.invoke_ms)
