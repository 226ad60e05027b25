"""Taking one safeguard out, for a while, in this process.

A target is named by where it is defined (`package.module:name` or `package.module:Class.name`). It is replaced there,
and in every other module of ours that has imported it by name, so that no caller goes on with the original. A target
that does not exist is an error at once: whoever renames a safeguard has to rename it in the catalogue too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any, Literal

from twinstar.model.errors import TwinstarError
from twinstar.model.register import Durability
from twinstar.simulation.plan import Plan, StoreKind, Wishes, draw

Differs = Callable[[], None]
"""Called by a replacement each time that it does otherwise than the original would have."""
Without = Callable[[Any, Differs], Any]
"""Makes the replacement from the original."""


class UnknownTarget(TwinstarError):
    """An ablation names something that production code does not have (any more)."""


@dataclass(frozen=True, slots=True)
class Swap:
    target: str
    without: Without


@dataclass(frozen=True, slots=True)
class Ablation:
    name: str
    section: str
    """Of `docs/protocol.md`."""
    removed: str
    """What the cluster does without, in a few words."""
    swaps: tuple[Swap, ...]
    aimed: tuple[str, ...] = ()
    """Names of the traps that go for it; the days on which it is looked for consist of them for the most part."""
    durability: Durability = Durability.QUORUM
    members: int = 3
    policy: Literal["block", "degrade"] | None = None
    voter_removal_ms: float | None = None
    store: StoreKind | None = None
    turns: bool = False
    witness: bool = False
    """The clusters in which the safeguard has something to do; None: as the seed draws it. `turns`: people change the
    durability.
    """
    partners: tuple[str, ...] = ()
    """Names of ablations whose safeguards cover for this one: it is looked for with them taken out as well."""
    covered: str = ""
    """Then: how they do."""

    def plan(self, seed: int) -> Plan:
        """A cluster of the seed's, and a day that is aimed at this safeguard."""
        wishes = Wishes(self.members, self.durability, self.store, self.turns)
        plan = draw(seed, wishes)
        return replace(
            plan,
            policy=self.policy or plan.policy,
            voter_removal_ms=self.voter_removal_ms or plan.voter_removal_ms,
            witness=self.witness,
            aimed=frozenset(self.aimed),
        )


@dataclass(slots=True)
class Differences:
    """How often the code without the safeguard did otherwise."""

    count: int = 0

    def one(self) -> None:
        self.count += 1


@contextmanager
def applied(*swaps: Swap) -> Iterator[Differences]:
    """Everything within runs with these replacements. Raises UnknownTarget."""
    differences = Differences()
    undo: list[tuple[Any, str, Any]] = []
    try:
        for swap in dict.fromkeys(swaps):
            owner, name = _find(swap.target)
            original = vars(owner)[name]
            replacement = swap.without(original, differences.one)
            for holder in _holders(owner, name, original):
                undo.append((holder, name, original))
                setattr(holder, name, replacement)
        yield differences
    finally:
        for holder, name, original in reversed(undo):
            setattr(holder, name, original)


def _find(target: str) -> tuple[Any, str]:
    """The module or class that has it, and its name there."""
    module, _, path = target.partition(":")
    *classes, name = path.split(".")
    try:
        owner: Any = import_module(module)
        for each in classes:
            owner = getattr(owner, each)
        vars(owner)[name]
    except (ImportError, AttributeError, KeyError) as error:
        raise UnknownTarget(
            f"There is no {target} any more: say in the catalogue of ablations what it is now."
        ) from error
    return owner, name


def _holders(owner: Any, name: str, original: Any) -> list[Any]:
    """Where it is found under this name: where it is defined, and in modules of ours that have imported it."""
    if isinstance(owner, type):
        return [owner]
    ours = [m for n, m in sys.modules.items() if n.startswith("twinstar.") and vars(m).get(name) is original]
    return [owner, *(m for m in ours if m is not owner)]


# -- replacements of a common shape ------------------------------------------------------------------------------------


def always(answer: Any) -> Without:
    """A function that gives one answer, whatever it is asked."""
    return altered(lambda _own, *_args: answer)


def altered(alter: Callable[..., Any]) -> Without:
    """A function whose answer becomes `alter(answer, *arguments)`."""

    def without(original: Any, differs: Differs) -> Any:
        def replacement(*args: Any, **named: Any) -> Any:
            own = original(*args, **named)
            other = alter(own, *args, **named)
            if other != own:
                differs()
            return other

        return replacement

    return without


def instead(replace: Callable[..., Any]) -> Without:
    """`replace(original, differs, *arguments)` is called in its place, and says itself when it does otherwise."""

    def without(original: Any, differs: Differs) -> Any:
        def replacement(*args: Any, **named: Any) -> Any:
            return replace(original, differs, *args, **named)

        return replacement

    return without


def skipped() -> Without:
    """A function that does nothing."""

    def nothing(_original: Any, differs: Differs, *_args: Any, **_named: Any) -> None:
        differs()

    return instead(nothing)


def skipped_async() -> Without:
    """A coroutine that does nothing."""

    async def nothing(_original: Any, differs: Differs, *_args: Any, **_named: Any) -> None:
        differs()

    return instead(nothing)


def constant(value: Any) -> Without:
    """Another value of a constant: in use as soon as it stands there."""

    def without(original: Any, differs: Differs) -> Any:
        if value != original:
            differs()
        return value

    return without
