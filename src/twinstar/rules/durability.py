"""Who must confirm a commit, and in which order that may be changed.

Theory. E = (V_E, k_E) is what the engine enforces, R = (voters, required) what the register says, and what an election
counts on. A set that confirms under E has at least k_E − |V_E \\ V_R| members in V_R. One invariant keeps every
acknowledged write within reach of every election, at every instant of a change:

    compatible(E, R)  :=  max(0, k_E − |V_E \\ V_R|) ≥ k_R

The engine may be set to E' only if compatible(E', R); the register may be set to R' only if E is in effect,
compatible(E, R'), and k' members of V' have flushed the log's end that was read after E came into effect (what was
acknowledged before under a weaker E is then within reach as well). `next_step` takes the shortest legal way, and never
by way of `required` 0 if there is another: nobody but the leader could then lead. (`docs/protocol.md`, "Changing who
must confirm"; all ways between settings of up to four voters were enumerated in the model.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations

from twinstar.model.register import Register


@dataclass(frozen=True, slots=True)
class Quorum:
    """`required` of `voters` must have flushed a commit."""

    voters: frozenset[str]
    required: int

    def __post_init__(self) -> None:
        if not 0 <= self.required <= len(self.voters):
            raise ValueError(f"{self.required} of {len(self.voters)} voters can never confirm")


class Where(StrEnum):
    ENGINE = "engine"
    REGISTER = "register"


@dataclass(frozen=True, slots=True)
class Step:
    where: Where
    to: Quorum


def of_register(register: Register) -> Quorum:
    return Quorum(register.voters, register.required)


def compatible(engine: Quorum, register: Quorum) -> bool:
    """Every set that can confirm under `engine` holds at least `register.required` members of its voters."""
    return max(0, engine.required - len(engine.voters - register.voters)) >= register.required


def may_enforce(new: Quorum, register: Quorum) -> bool:
    """Whether the engine may be set to `new` while the register says `register`."""
    return compatible(new, register)


def may_register(engine: Quorum, new: Quorum, flushed: frozenset[str]) -> bool:
    """Whether the register may be set to `new` while `engine` is in effect and `flushed` hold the log's end p."""
    return compatible(engine, new) and len(new.voters & flushed) >= new.required


def next_step(engine: Quorum, register: Quorum, goal: Quorum, flushed: frozenset[str]) -> Step | None:
    """The first step of the shortest legal way to `goal` in both places; None when there, or when none is legal now."""
    if engine == goal and register == goal:
        return None
    if goal.required:
        step = _search(engine, register, goal, flushed, lambda r: r.required > 0)
        if step is not None:
            return step
    return _search(engine, register, goal, flushed, lambda _: True)


def desired(
    voters: frozenset[str],
    required: int,
    gone: frozenset[str],
    arrived: frozenset[str],
    configured: int,
    degrade: bool,
) -> Quorum:
    """Where to go: without the voters that are `gone` for too long, with those that have `arrived` (attached, near).

    While enough voters are left for the configured number of confirmations, the dead are dropped under either policy,
    so that the living can form a quorum without them. Below that, policy `block` keeps everything as it is, and
    policy `degrade` goes down with the number of the living.
    """
    stay = (voters - gone) | arrived
    wanted = min(configured, len(stay))
    if wanted < min(configured, required) and not degrade:
        stay, wanted = voters | arrived, max(required, min(configured, len(voters | arrived)))
    return Quorum(stay, wanted)


def _search(
    engine: Quorum, register: Quorum, goal: Quorum, flushed: frozenset[str], allowed: Callable[[Quorum], bool]
) -> Step | None:
    start = (engine, register)
    candidates = tuple(_candidates(engine, register, goal, flushed))
    first: dict[tuple[Quorum, Quorum], Step | None] = {start: None}
    queue = deque([start])
    while queue:
        state = queue.popleft()
        if state == (goal, goal):
            return first[state]
        for step, reached in _steps(*state, candidates, flushed):
            if reached not in first and allowed(reached[1]):
                first[reached] = first[state] or step
                queue.append(reached)
    return None


def _steps(
    engine: Quorum, register: Quorum, candidates: tuple[Quorum, ...], flushed: frozenset[str]
) -> Iterator[tuple[Step, tuple[Quorum, Quorum]]]:
    for quorum in candidates:
        if quorum != engine and may_enforce(quorum, register):
            yield Step(Where.ENGINE, quorum), (quorum, register)
        if quorum != register and may_register(engine, quorum, flushed):
            yield Step(Where.REGISTER, quorum), (engine, quorum)


def _candidates(engine: Quorum, register: Quorum, goal: Quorum, flushed: frozenset[str]) -> Iterator[Quorum]:
    """The settings that a way may lead through. Voters that are alike to all four stay together: no shortest way is
    longer for it, and seven members are searched in a moment instead of seconds.
    """
    alike: dict[tuple[bool, ...], set[str]] = {}
    known = (engine.voters, register.voters, goal.voters, flushed)
    for voter in sorted(engine.voters | register.voters | goal.voters):
        alike.setdefault(tuple(voter in each for each in known), set()).add(voter)
    for count in range(len(alike) + 1):
        for groups in combinations(alike.values(), count):
            voters = frozenset[str]().union(*groups)
            for required in range(min(1, len(voters)), len(voters) + 1):
                yield Quorum(voters, required)
